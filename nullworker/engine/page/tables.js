// The views that are tables: the waiting line, queues, decisions, and the audit log.
import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { get } from "./calls.js";
import { setQuery } from "./address.js";
import { engineNow, useView } from "./live.js";
import { Decisions, EndpointFilter, RequestLink, Table, TextFilter, useSecond, Waiting } from "./parts.js";
import { clock, counted, duration } from "./words.js";

const matches = (q, ...texts) => !q || texts.join(" ").toLowerCase().includes(q.toLowerCase());
const filtered = (query) => (query.get("endpoint") ? `&endpoint=${encodeURIComponent(query.get("endpoint"))}` : "");

export function WaitingLine({ query, names }) {
  const [view, refusal] = useView(`view=waiting${filtered(query)}`);
  useSecond();
  const q = query.get("q") || "";
  const since = view ? engineNow() - view.at_s : 0;
  const rows = view ? view.rows.filter((r) => matches(q, r.endpoint, r.request_idx, r.reason, r.reason_code)) : [];
  return html`<h1>Waiting line</h1>
    <div class="row"><${EndpointFilter} names=${names} value=${query.get("endpoint") || ""} /><${TextFilter} value=${q} /></div>
    ${!view ? html`<${Waiting} refusal=${refusal} />` : html`
      <p>${counted(view.total, "request")} ${view.total === 1 ? "waits" : "wait"}${view.total > view.rows.length ? `; the first ${view.rows.length} are shown` : ""}.</p>
      ${rows.length > 0 && html`<${Table} label="Waiting line" head=${["Position", "Request", "Endpoint", "Age", "Why", "Estimate", "Made from"]}>
        ${rows.map((r) => html`<tr data-row key=${r.request_idx}><td class="number">${r.position}</td><td><${RequestLink} id=${r.request_idx} /></td><td>${r.endpoint}</td>
          <td class="when">${duration(r.age_s + since)}</td><td class="reason">${r.reason} <span class="soft">(${r.reason_code})</span></td>
          <td class="when">${r.eta.in_s === null ? "no time can be told" : `in about ${duration(Math.max(0, r.eta.in_s - since))}`}</td><td class="reason">${r.eta.ground}</td></tr>`)}
      <//>`}`}`;
}

export function Queues({ query, names }) {
  const [view, refusal] = useView(`view=queues${filtered(query)}`);
  useSecond();
  const since = view ? engineNow() - view.at_s : 0;
  const number = (n) => (n === null ? "unknown" : n);
  return html`<h1>Queues</h1>
    <div class="row"><${EndpointFilter} names=${names} value=${query.get("endpoint") || ""} /></div>
    ${!view ? html`<${Waiting} refusal=${refusal} />` : view.rows.length === 0 ? html`<p>No dispatcher has told this engine of a queue in the last ten minutes.</p>` : html`
      <${Table} label="Queues" head=${["Queue", "Endpoint", "Waiting", "In flight", "Delayed", "Abandoned", "Wanted", "Asked", "Held", "Reading", "Notes", "Dispatcher"]}>
        ${view.rows.map((r) => html`<tr data-row key=${`${r.dispatcher} ${r.queue}`}><td>${r.queue}${r.paused ? html` <strong>paused</strong>` : ""}</td><td>${r.endpoint}</td>
          <td class="number">${number(r.waiting)}</td><td class="number">${number(r.in_flight)}</td><td class="number">${number(r.delayed)}</td><td class="number">${number(r.abandoned)}</td>
          <td class="number">${number(r.want)}</td><td class="number">${r.asked}</td><td class="number">${r.held}${Object.entries(r.doing).map(([what, n]) => html`<div class="soft">${n} ${what}</div>`)}</td>
          <td class="when">${r.read_s_ago === null ? "not read yet" : `${duration(r.read_s_ago + since)} ago`}</td>
          <td class="reason">${r.trouble && html`<p class="bad">${r.trouble}</p>`}${r.reason}${r.warnings.map((w) => html`<p class="bad">${w}</p>`)}</td>
          <td>${r.dispatcher} <span class=${r.heard_s_ago + since > 70 ? "bad" : "soft"}>(told ${duration(r.heard_s_ago + since)} ago)</span></td></tr>`)}
      <//>`}`;
}

export function DecisionsView({ query, names }) {
  const level = query.get("level") || "2";
  const [view, refusal] = useView(`view=decisions&level=${encodeURIComponent(level)}${filtered(query)}`);
  const q = query.get("q") || "";
  return html`<h1>Decisions</h1>
    <div class="row"><${EndpointFilter} names=${names} value=${query.get("endpoint") || ""} />
      <label>Level <select value=${level} onChange=${(e) => setQuery({ level: e.target.value })}>
        ${["sizes of the fleet", "and workers' lives", "and grants", "everything"].map((text, n) => html`<option value=${n} selected=${String(n) === level}>${text}</option>`)}</select></label>
      <${TextFilter} value=${q} /></div>
    ${!view ? html`<${Waiting} refusal=${refusal} />` : html`<${Decisions} rows=${view.rows.filter((d) => matches(q, d.kind, d.cause, d.reason, `worker ${d.worker_id}`, `request ${d.request_idx}`))} />`}`;
}

export function Audit({ query }) {
  const [rows, setRows] = useState(null);
  const [refusal, setRefusal] = useState("");
  const [view] = useView("view=overview"); // its stream tells whether the engine is there
  const q = query.get("q") || "";
  useEffect(() => {
    get("/api/v0/audit/?tail=500").then((a) => setRows(a.rows), (error) => setRefusal(error.message));
  }, [view && view.at_s]);
  return html`<h1>Audit log</h1>
    <div class="row"><${TextFilter} value=${q} /></div>
    ${!rows ? html`<${Waiting} refusal=${refusal} />` : rows.length === 0 ? html`<p>Nothing was done yet.</p>` : html`
      <${Table} label="Audit log" head=${["Time", "By", "Through", "What", "Values", "Reason", "Outcome"]}>
        ${[...rows].reverse().filter((r) => matches(q, r.who, r.via, r.what, r.why, r.outcome, JSON.stringify(r.detail))).map((r) => html`<tr data-row>
          <td class="when">${clock(r.at_s)}</td><td>${r.who}</td><td>${r.via} <span class="soft">${r.remote}</span></td><td>${r.what} <span class="soft">${r.subject}</span></td>
          <td>${Object.entries(r.detail).map(([name, value]) => html`<div>${name} ${JSON.stringify(value)}</div>`)}</td><td class="reason">${r.why}</td><td class=${r.outcome === "done" ? "" : "bad"}>${r.outcome}</td></tr>`)}
      <//>`}`;
}
