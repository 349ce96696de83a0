// The page: which view is shown, the bar above it, the keys, and signing in.
import { html, render, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { follow, go, setQuery, useAddress } from "./address.js";
import { post, signedIn } from "./calls.js";
import { Cost } from "./cost.js";
import { Lanes } from "./lanes.js";
import { onSignIn, useHealth } from "./live.js";
import { Overview } from "./overview.js";
import { Modal } from "./parts.js";
import { Reservation, Worker } from "./stories.js";
import { Audit, DecisionsView, Queues, WaitingLine } from "./tables.js";
import { duration } from "./words.js";

const VIEWS = [
  ["/", "Overview", Overview, "o"],
  ["/lanes", "Lanes", Lanes, "l"],
  ["/waiting", "Waiting line", WaitingLine, "w"],
  ["/queues", "Queues", Queues, "q"],
  ["/cost", "Cost", Cost, "c"],
  ["/decisions", "Decisions", DecisionsView, "d"],
  ["/audit", "Audit log", Audit, "a"],
];
const STORIES = { "/worker": ["Worker", Worker], "/reservation": ["Reservation", Reservation] };

function App() {
  const [who, setWho] = useState(undefined); // undefined: not known yet; null: not signed in
  const role = who && who.role;
  const [names, setNames] = useState([]);
  const { path, query } = useAddress();
  useEffect(() => {
    onSignIn(() => setWho(null));
    signedIn().then((found) => setWho(found.role ? found : null), () => setWho(null));
  }, []);
  useEffect(() => {
    if (!role) return;
    fetch("/api/v0/view/?view=overview").then((a) => a.json()).then((v) => setNames((v.endpoints || []).map((e) => e.name)), () => {});
  }, [role, path]);
  const listed = VIEWS.find(([address]) => address === path);
  const [title, View] = listed ? [listed[1], listed[2]] : STORIES[path] || ["Overview", Overview];
  useEffect(() => {
    document.title = `${query.get("id") ? `${title} ${query.get("id")}` : title} · nullworker`;
  }, [title, query.get("id")]);
  if (who === undefined) return html`<main><p>Asking the engine…</p></main>`;
  if (who === null) return html`<${SignIn} done=${setWho} />`;
  return html`<div onClick=${follow}>
    <a class="skip" href="#main" onClick=${(e) => (e.preventDefault(), e.stopPropagation(), document.getElementById("main").focus())}>To the content</a>
    <${Bar} path=${path} who=${who} signOut=${() => post("/api/v0/sign-out/", {}).finally(() => setWho(null))} />
    <main id="main" tabindex="-1"><${View} query=${query} role=${role} names=${names} /></main>
    <${Keys} />
  </div>`;
}

function Bar({ path, who, signOut }) {
  return html`<header>
    <a class="name" href="/">nullworker</a>
    <nav aria-label="Views"><ul>${VIEWS.map(([address, title]) => html`<li><a href=${address} aria-current=${address === path ? "page" : undefined}>${title}</a></li>`)}</ul></nav>
    <${DataAge} />
    <span class="soft">${who.key}${who.role === "read" ? ", which changes nothing" : ""}</span>
    <button type="button" onClick=${signOut}>Sign out</button>
  </header>`;
}

// The age of what is shown; a lost connection is told once to those who listen.
function DataAge() {
  const health = useHealth();
  const ageS = health.heardAt ? (Date.now() - health.heardAt) / 1000 : 0;
  const age = health.heardAt ? `data ${duration(Math.round(ageS))} old` : "no data yet";
  return html`<span class=${`age${health.lost ? " lost" : ""}`}><span role="status">${health.lost ? "Connection lost, trying again; " : ""}</span>${age}</span>`;
}

function SignIn({ done }) {
  const [refusal, setRefusal] = useState("");
  const field = useRef(null);
  useEffect(() => field.current.focus(), []);
  const submit = async (event) => {
    event.preventDefault();
    try {
      const answer = await post("/api/v0/sign-in/", { api_key: field.current.value.trim() });
      field.current.value = "";
      done(answer);
    } catch (error) {
      setRefusal(error.message);
      field.current.focus();
    }
  };
  return html`<main class="sign-in"><h1>nullworker</h1>
    <form onSubmit=${submit}>
      <input hidden autocomplete="username" value="nullworker" readonly />
      <label>Account key, or one of role read, operate or admin <input ref=${field} type="password" autocomplete="current-password" required aria-invalid=${refusal ? "true" : undefined} aria-describedby="sign-in-why" /></label>
      <p id="sign-in-why" class="bad" role="alert">${refusal}</p>
      <button class="main">Sign in</button>
    </form>
    <p class="soft">The account key is in the file <code>api_key</code> of the engine's state directory; <code>nullworker keys create NAME --role read</code> makes one that changes nothing.</p></main>`;
}

function Keys() {
  const [open, setOpen] = useState("");
  const first = useRef("");
  useEffect(() => {
    const press = (event) => {
      if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        setOpen("jump");
        return;
      }
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) {
        if (event.key === "Escape" && event.target.id === "filter") event.target.blur();
        return;
      }
      const before = first.current;
      first.current = "";
      const view = before === "g" && VIEWS.find(([, , , key]) => key === event.key);
      if (view) go(view[0]);
      else if (event.key === "g") first.current = "g";
      else if (event.key === "?") setOpen("help");
      else if (event.key === "j" || event.key === "k") step(event.key === "j" ? 1 : -1);
      else if (event.key === "/") {
        const filter = document.getElementById("filter");
        if (!filter) return;
        event.preventDefault();
        filter.focus();
      }
    };
    document.addEventListener("keydown", press);
    return () => document.removeEventListener("keydown", press);
  }, []);
  if (open === "jump") return html`<${Jump} close=${() => setOpen("")} />`;
  if (open !== "help") return null;
  return html`<${Modal} title="Keys" onClose=${() => setOpen("")}><dl class="facts">
    ${[["/", "filter"], ["j k", "next and previous row"], ["Ctrl K", "go to a worker, a request or an endpoint"], ["?", "this help"], ["Esc", "close"], ...VIEWS.map(([, title, , key]) => [`g ${key}`, title])].map(([keys, what]) => html`<dt><kbd>${keys}</kbd></dt><dd>${what}</dd>`)}
  </dl><button type="button" class="main" onClick=${() => setOpen("")}>Close</button><//>`;
}

function step(by) {
  const links = [...document.querySelectorAll("[data-row]")].map((row) => row.querySelector("a")).filter(Boolean);
  if (!links.length) return;
  const now = links.indexOf(document.activeElement);
  links[Math.max(0, Math.min(links.length - 1, now < 0 ? 0 : now + by))].focus();
}

function Jump({ close }) {
  const field = useRef(null);
  const submit = (event) => {
    event.preventDefault();
    const text = field.current.value.trim();
    const number = text.match(/\d+$/);
    close();
    if (/^w(orker)?\s*\d+$/i.test(text)) go(`/worker?id=${number[0]}`);
    else if (/^r(equest|eservation)?\s*\d+$/i.test(text)) go(`/reservation?id=${number[0]}`);
    else if (text) {
      go("/");
      setQuery({ q: text });
    }
  };
  return html`<${Modal} title="Go to" onClose=${close}><form onSubmit=${submit}>
    <label>worker 3, request 17, or an endpoint's name <input ref=${field} autofocus /></label>
    <div class="row"><button class="main">Go</button><button type="button" onClick=${close}>Cancel</button></div></form><//>`;
}

render(html`<${App} />`, document.getElementById("root"));
