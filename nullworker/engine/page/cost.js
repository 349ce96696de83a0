// What workers cost, and what for. Amounts are the engine's decimal numbers: they are shown as they are, never added here.
import { html } from "./vendor/htm-preact.js";
import { setQuery } from "./address.js";
import { useView } from "./live.js";
import { EndpointFilter, RequestLink, Table, TextFilter, Waiting, WorkerLink } from "./parts.js";
import { clock, duration } from "./words.js";

const BYS = ["endpoint", "queue", "job", "day", "worker"];
const SPANS = [["", "all time"], ["3600", "1 hour"], ["86400", "1 day"], ["604800", "1 week"], ["2592000", "30 days"]];
const COLUMNS = [["held", "Held"], ["boot", "Coming up"], ["idle", "Free"], ["other", "Other"], ["storage", "Storage"], ["total", "Total"]];

export function Cost({ query, names }) {
  const by = BYS.includes(query.get("by")) ? query.get("by") : "endpoint";
  const span = query.get("last") || "";
  const endpoint = query.get("endpoint") || "";
  const q = query.get("q") || "";
  // Whole hours, so that the address of the stream stays the same for an hour.
  const since = span > 0 ? Math.floor((Date.now() / 1000 - span) / 3600) * 3600 : 0;
  const [view, refusal] = useView(`view=cost&by=${by}&since=${since}${endpoint ? `&endpoint=${encodeURIComponent(endpoint)}` : ""}`);
  const rows = view ? view.rows.filter((r) => !q || r.name.toLowerCase().includes(q.toLowerCase())) : [];
  return html`<h1>Cost</h1>
    <div class="row"><label>By <select value=${by} onChange=${(e) => setQuery({ by: e.target.value })}>${BYS.map((name) => html`<option value=${name} selected=${name === by}>${name}</option>`)}</select></label>
      <label>Of the last <select value=${span} onChange=${(e) => setQuery({ last: e.target.value })}>${SPANS.map(([value, text]) => html`<option value=${value} selected=${value === span}>${text}</option>`)}</select></label>
      <${EndpointFilter} names=${names} value=${endpoint} /><${TextFilter} value=${q} /></div>
    ${!view ? html`<${Waiting} refusal=${refusal} />` : html`
      <p class="headline">${view.whole.total} in all; the workers of this moment cost ${view.per_hour} an hour.</p>
      <p class="soft">${view.since_s ? `Since ${clock(view.since_s, true)}. ` : ""}${view.ground}</p>
      <${Table} label="Costs" numbers=${COLUMNS.length} head=${[by[0].toUpperCase() + by.slice(1), "Worker time", ...COLUMNS.map(([, title]) => title)]}>
        ${rows.map((r) => html`<tr data-row key=${r.name}><td><${Name} by=${by} name=${r.name} /></td><${Cells} row=${r} /></tr>`)}
        <tr class="whole"><td>all</td><${Cells} row=${view.whole} /></tr>
      <//>`}`;
}

const Cells = ({ row }) => html`<td class="when">${duration(row.worker_s)}</td>${COLUMNS.map(([name]) => html`<td class="number">${row[name]}</td>`)}`;

function Name({ by, name }) {
  const number = name.match(/^(worker|request) (\d+)$/);
  if (by === "worker" && number) return html`<${WorkerLink} id=${number[2]} />`;
  if (by === "job" && number) return html`<${RequestLink} id=${number[2]} />`;
  return name;
}
