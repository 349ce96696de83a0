// All endpoints: one sentence each, the hour as a chart, parameters, and what an operator can do.
import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { post, put } from "./calls.js";
import { useView } from "./live.js";
import { Act, State, TextFilter, TimeAxis, Waiting } from "./parts.js";
import { duration } from "./words.js";

export function Overview({ query, role }) {
  const [view, refusal] = useView("view=overview");
  const q = query.get("q") || "";
  if (!view) return html`<h1>Overview</h1><${Waiting} refusal=${refusal} />`;
  const shown = view.endpoints.filter((e) => !q || `${e.name} ${e.state} ${e.headline}`.toLowerCase().includes(q.toLowerCase()));
  return html`<h1>Overview</h1>
    ${view.complaints.map((text) => html`<p class="banner" role="alert">${text}</p>`)}
    <div class="row"><${TextFilter} value=${q} /></div>
    ${shown.length === 0 && html`<p>${view.endpoints.length ? "No endpoint matches the filter." : "The engine has no endpoint; vastai create endpoint makes one."}</p>`}
    ${shown.map((endpoint) => html`<${Endpoint} key=${endpoint.id} endpoint=${endpoint} now=${view.at_s} query=${query} role=${role} />`)}`;
}

function Endpoint({ endpoint, now, query, role }) {
  const name = encodeURIComponent(endpoint.name);
  const param = `at-${endpoint.id}`;
  return html`<section class="card" aria-label=${`Endpoint ${endpoint.name}`}>
    <h2>${endpoint.name}${endpoint.state === "active" ? "" : html` <span class="bad">(${endpoint.state})</span>`}</h2>
    <p class="headline">${endpoint.headline}</p>
    ${endpoint.why && html`<p>The first that waits has no worker because ${endpoint.why}.</p>`}
    ${endpoint.waiting > 0 && html`<p class="soft">The first has waited for ${duration(endpoint.oldest_s)}. ${endpoint.next.in_s === null ? "No time can be told" : "The estimate"}: ${endpoint.next.ground}.</p>`}
    <p class="legend" aria-label="Workers by state">${Object.entries(endpoint.workers).map(([state, n]) => html`<span><${State} name=${state} /> ${n}</span>`)}
      <a href="/lanes?endpoint=${name}">lanes</a> <a href="/waiting?endpoint=${name}">waiting line</a> <a href="/decisions?endpoint=${name}">decisions</a></p>
    <${Chart} points=${endpoint.chart} now=${now} at=${Number(query.get(param)) || 0} />
    <${TimeAxis} about=${`endpoint ${endpoint.id}`} name=${endpoint.name} since=${endpoint.chart.length > 1 ? endpoint.chart[0][0] : 0} at=${Number(query.get(param)) || 0} param=${param} />
    ${endpoint.workergroups.map((group) => html`<p>Workergroup ${group.id} on ${group.fleet}: ${group.workers} workers, ${group.booting} coming up${group.failures ? html`, <span class="bad">${group.failures} failures in a row, the last: ${group.last_error}</span>` : ""}
      ${role !== "read" && html` <${Act} label=${`Replace the workers of workergroup ${group.id}`} question="Free workers are replaced now, held ones when they are released." act=${(why) => replaceWorkers(group.id, why)} />`}</p>`)}
    <details><summary>Parameters</summary>
      <${Parameters} endpoint=${endpoint} role=${role} />
    </details>
    ${role !== "read" && html`<div class="row">
      ${endpoint.state === "active"
        ? html`<${Act} label="Suspend" question="No worker is created or ended until it is resumed." act=${(why) => change(endpoint, { endpoint_state: "suspended" }, why)} />`
        : html`<${Act} label="Resume" question="The endpoint is routed and scaled again." act=${(why) => change(endpoint, { endpoint_state: "active" }, why)} />`}
    </div>`}
  </section>`;
}

const change = (endpoint, body, why) => put(`/api/v0/endptjobs/${endpoint.id}/`, body, why);

async function replaceWorkers(group, why) {
  const answer = await post("/update_workers/", { workergroup_id: group }, why);
  if (!answer.success) throw new Error(answer.error_msg);
}

function Chart({ points: given, now, at }) {
  const points = given.length ? [...given, [now, ...given[given.length - 1].slice(1)]] : given;
  if (points.length < 3) return html`<p class="soft">The chart begins with the next change.</p>`;
  const from = points[0][0], until = points[points.length - 1][0];
  const top = Math.max(1, ...points.map((p) => Math.max(p[1], p[2], p[3])));
  const x = (t) => ((t - from) / Math.max(1, until - from)) * 600;
  const y = (n) => 96 - (n / top) * 90;
  const line = (index) => points.map((p, i) => `${i ? `${x(p[0]).toFixed(1)},${y(points[i - 1][index]).toFixed(1)} ` : ""}${x(p[0]).toFixed(1)},${y(p[index]).toFixed(1)}`).join(" ");
  const last = points[points.length - 1];
  return html`<svg class="chart" viewBox="0 0 600 100" preserveAspectRatio="none" role="img" aria-label=${`The last hour; now ${last[1]} wait, ${last[2]} held, ${last[3]} up; at most ${top}`}>
      <polyline class="up" points=${line(3)} /><polyline class="held" points=${line(2)} /><polyline class="waiting" points=${line(1)} />
      ${at >= from && at <= until ? html`<line class="cursor" x1=${x(at)} x2=${x(at)} y1="0" y2="100" />` : ""}
    </svg>
    <p class="legend"><span><span class="key waiting"></span>waiting ${last[1]}</span><span><span class="key held"></span>held ${last[2]}</span><span><span class="key up"></span>free and held ${last[3]}</span><span>top of the chart: ${top}</span></p>`;
}

function Parameters({ endpoint, role }) {
  const [values, setValues] = useState({});
  const [refusal, setRefusal] = useState(null);
  const [said, setSaid] = useState("");
  const [why, setWhy] = useState("");
  const given = () => {
    const body = {};
    for (const [name, text] of Object.entries(values)) {
      if (text === String(endpoint.parameters[name] ?? "")) continue;
      body[name] = name === "endpoint_state" ? text : text.trim() === "" || Number.isNaN(Number(text)) ? text : Number(text);
    }
    return body;
  };
  const attempt = async (what) => {
    setRefusal(null);
    setSaid("");
    try {
      await what();
    } catch (error) {
      setRefusal(error);
    }
  };
  const preview = () => attempt(async () => setSaid((await post("/api/v0/preview/", { id: endpoint.id, change: given() })).text));
  const apply = (event) => {
    event.preventDefault();
    attempt(async () => {
      await change(endpoint, given(), why);
      setValues({});
      setSaid("Changed.");
    });
  };
  useEffect(() => setRefusal(null), [values]);
  const dirty = Object.keys(given()).length > 0;
  return html`<form onSubmit=${apply} noValidate>
    <div class="params">${Object.entries(endpoint.parameters).map(([name, value]) => {
      const bad = refusal && (refusal.field === name || refusal.field === `change.${name}`);
      const id = `p-${endpoint.id}-${name}`;
      const text = values[name] ?? String(value ?? "");
      const set = (e) => setValues({ ...values, [name]: e.target.value });
      return html`<label for=${id}>${name}
        ${name === "endpoint_state"
          ? html`<select id=${id} value=${text} disabled=${role === "read"} onChange=${set}>${["active", "suspended", "stopped"].map((s) => html`<option value=${s} selected=${s === text}>${s}</option>`)}</select>`
          : html`<input id=${id} inputmode="decimal" value=${text} readonly=${role === "read"} onInput=${set} aria-invalid=${bad ? "true" : undefined} aria-describedby=${bad ? `${id}-why` : undefined} />`}
        ${bad && html`<span class="bad" id=${`${id}-why`}>${refusal.message}</span>`}</label>`;
    })}</div>
    ${role !== "read" && html`<div class="row">
      <label>Reason, for the audit log <input value=${why} maxlength="200" onInput=${(e) => setWhy(e.target.value)} /></label>
      <button type="button" disabled=${!dirty} onClick=${preview}>Preview</button>
      <button class="main" disabled=${!dirty}>Apply</button>
    </div>`}
    <p role="status">${refusal ? html`<span class="bad">${refusal.message}</span>` : said}</p>
  </form>`;
}
