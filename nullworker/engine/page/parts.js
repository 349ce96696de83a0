// What several views are made of.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { get } from "./calls.js";
import { setQuery } from "./address.js";
import { engineNow } from "./live.js";
import { clock, duration } from "./words.js";

export const HOUR_S = 3600;

export const State = ({ name }) => html`<span class="state ${name}">${name}</span>`;
export const WorkerLink = ({ id }) => html`<a href="/worker?id=${id}">worker ${id}</a>`;
export const RequestLink = ({ id }) => html`<a href="/reservation?id=${id}">request ${id}</a>`;

// Renders again each second, for ages that grow while nothing else changes.
export function useSecond() {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => {
      if (!document.hidden) tick((n) => n + 1);
    }, 1000);
    return () => clearInterval(timer);
  }, []);
}

export function Age({ since, at }) {
  useSecond();
  return html`<span>${duration(at !== undefined ? engineNow() - at : since)}</span>`;
}

// A table that scrolls sideways on a phone, by keyboard as well; its last columns may be numbers.
export const Table = ({ label, head, numbers = 0, children }) => html`
  <div class="scroll" tabindex="0" role="region" aria-label=${label}>
    <table>
      <thead><tr>${head.map((name, n) => html`<th scope="col" class=${n >= head.length - numbers ? "number" : ""}>${name}</th>`)}</tr></thead>
      <tbody>${children}</tbody>
    </table>
  </div>`;

export function Decisions({ rows, empty = "Nothing was decided yet." }) {
  if (!rows.length) return html`<p class="soft">${empty}</p>`;
  return html`<${Table} label="Decisions" head=${["Time", "Decision", "About", "Why"]}>
    ${[...rows].reverse().map((d) => html`<tr data-row key=${`${d.at_s} ${d.kind} ${d.worker_id} ${d.request_idx}`}>
      <td class="when">${clock(d.at_s)}</td>
      <td>${d.kind}${d.cause ? html` <span class="soft">(${d.cause})</span>` : ""}</td>
      <td>${d.worker_id ? html`<${WorkerLink} id=${d.worker_id} /> ` : ""}${d.request_idx ? html`<${RequestLink} id=${d.request_idx} />` : ""}</td>
      <td class="reason">${d.reason}</td>
    </tr>`)}
  <//>`;
}

// Why something was as it was at a time; `about` is "endpoint ID", "worker ID" or "request ID".
export function Why({ about, at }) {
  const [found, setFound] = useState(null);
  const [refusal, setRefusal] = useState("");
  useEffect(() => {
    let over = false;
    const timer = setTimeout(async () => {
      try {
        const moment = await get(`/api/v0/moment/?about=${encodeURIComponent(about)}&at=${at}`);
        if (!over) setFound(moment), setRefusal("");
      } catch (error) {
        if (!over) setFound(null), setRefusal(error.message);
      }
    }, 150);
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [about, at]);
  return html`<div class="moment" role="status">
    <p><strong>At ${clock(at, true)}</strong>${refusal ? html`: <span class="soft">${refusal}</span>` : ""}</p>
    ${found && html`<p class="answer">${found.answer}</p>
      ${found.endpoint_answer && found.endpoint_answer !== found.answer ? html`<p class="soft">${found.endpoint_answer}</p>` : ""}
      ${found.decisions.length ? html`<details><summary>Decisions until then</summary><${Decisions} rows=${found.decisions} /></details>` : ""}`}
  </div>`;
}

// The time since `since`, at most an hour, as an axis with a cursor, by mouse, touch or arrow keys; the cursor is part of
// the address.
export function TimeAxis({ about, name, at, since = 0, param = "at" }) {
  const now = Math.floor(engineNow());
  const span = Math.max(60, Math.min(HOUR_S, since ? now - Math.floor(since) : HOUR_S));
  const ago = at ? Math.max(0, Math.min(span, now - at)) : 0;
  const move = (event) => {
    const back = span - Number(event.target.value);
    setQuery({ [param]: back ? Math.floor(engineNow()) - back : "" });
  };
  return html`<div>
    <label class="axis">Why at that moment? ${at ? clock(at) : `Move the cursor to a moment of the last ${duration(span)}.`}
      <input type="range" min="0" max=${span} step="1" value=${span - ago} onInput=${move}
        aria-valuetext=${at ? `${duration(ago)} ago, ${clock(at)}` : "now"} aria-label=${`Moment to explain for ${name}`} /></label>
    ${at ? html`<${Why} about=${about} at=${at} /><button type="button" onClick=${() => setQuery({ [param]: "" })}>Back to now</button>` : ""}
  </div>`;
}

export function Modal({ title, onClose, children }) {
  const dialog = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    dialog.current.showModal();
    return () => before && before.focus && before.focus();
  }, []);
  return html`<dialog ref=${dialog} aria-label=${title} onCancel=${onClose} onClose=${onClose}><h2>${title}</h2>${children}</dialog>`;
}

// An act: it asks for a reason, which goes into the audit log, and says what came of it.
export function Act({ label, question, act, disabled }) {
  const [open, setOpen] = useState(false);
  const [reason, setReason] = useState("");
  const [said, setSaid] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const answer = await act(reason);
      setSaid(typeof answer === "string" && answer ? answer : "Done.");
      setOpen(false);
    } catch (error) {
      setSaid(error.message);
    }
    setBusy(false);
  };
  return html`<span>
    <button type="button" disabled=${disabled} onClick=${() => (setOpen(true), setSaid(""))}>${label}</button>
    <span role="status" class="soft"> ${open ? "" : said}</span>
    ${open && html`<${Modal} title=${label} onClose=${() => setOpen(false)}>
      <form onSubmit=${submit}>
        <p>${question}</p>
        <label>Reason, for the audit log <input value=${reason} maxlength="200" onInput=${(e) => setReason(e.target.value)} /></label>
        ${said && html`<p class="bad" role="alert">${said}</p>`}
        <div class="row"><button class="main" disabled=${busy}>${label}</button><button type="button" onClick=${() => setOpen(false)}>Cancel</button></div>
      </form>
    <//>`}
  </span>`;
}

export function EndpointFilter({ names, value }) {
  return html`<label>Endpoint
    <select value=${value} onChange=${(e) => setQuery({ endpoint: e.target.value })}>
      <option value="">all</option>
      ${[...new Set([...names, ...(value ? [value] : [])])].map((n) => html`<option value=${n} selected=${n === value}>${n}</option>`)}
    </select></label>`;
}

export function TextFilter({ value, label = "Filter" }) {
  return html`<label>${label} <input id="filter" type="search" value=${value} onInput=${(e) => setQuery({ q: e.target.value })} /></label>`;
}

export const Waiting = ({ refusal }) => (refusal ? html`<p class="bad" role="alert">${refusal}</p>` : html`<p class="soft">Asking the engine…</p>`);
