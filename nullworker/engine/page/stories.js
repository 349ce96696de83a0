// One worker, or one reservation: why it is as it is, how it came to be so, and what it may do next.
import { html } from "./vendor/htm-preact.js";
import { post } from "./calls.js";
import { setQuery } from "./address.js";
import { useView } from "./live.js";
import { Act, Age, Decisions, RequestLink, State, Table, TimeAxis, Waiting, WorkerLink } from "./parts.js";
import { clock, duration } from "./words.js";

const asked = (query) => (/^\d{1,16}$/.test(query.get("id") || "") ? query.get("id") : "");

function Ask({ what }) {
  const submit = (event) => {
    event.preventDefault();
    setQuery({ id: event.target.elements.id.value.trim() });
  };
  return html`<form class="row" onSubmit=${submit}><label>Number of the ${what} <input name="id" inputmode="numeric" pattern="[0-9]+" required /></label><button class="main">Show</button></form>`;
}

export function Worker({ query, role }) {
  const id = asked(query);
  return id ? html`<${WorkerStory} id=${id} query=${query} role=${role} />` : html`<h1>Worker</h1><${Ask} what="worker" />`;
}

function WorkerStory({ id, query, role }) {
  const [view, refusal] = useView(`view=worker&id=${id}`);
  if (!view) return html`<h1>Worker ${id}</h1><${Waiting} refusal=${refusal} />`;
  const there = view.state !== "gone" && view.state !== "destroying";
  const gains = "It gets nothing new, keeps what it holds to its end, and then goes. It takes effect with its next report, within ten seconds.";
  return html`<h1>Worker ${id} <${State} name=${view.draining && there ? "draining" : view.state} /></h1>
    <p class="headline">${view.answer}</p>
    ${view.draining && html`<p>It is drained: ${view.draining}.</p>`}
    ${role !== "read" && there && html`<div class="row">
      ${!view.draining && html`<${Act} label="Replace" question="It goes as with a drain; another is created as soon as a request or the parameters want one." act=${async (why) => (await post("/api/v0/replace/", { worker_id: view.id, reason: why.slice(0, 150) }, why)).text} />`}
      ${view.draining
        ? html`<${Act} label="Cancel the drain" question="It serves again from its next report on." act=${(why) => post("/api/v0/drain/", { worker_id: view.id, cancel: true, reason: why }, why)} />`
        : html`<${Act} label="Drain" question=${gains} act=${(why) => post("/api/v0/drain/", { worker_id: view.id, reason: why }, why)} />`}
    </div>`}
    <dl class="facts">
      <dt>Endpoint</dt><dd><a href="/lanes?endpoint=${encodeURIComponent(view.endpoint)}">${view.endpoint || "gone"}</a></dd>
      <dt>Holds</dt><dd>${view.request_idxs.length ? view.request_idxs.map((r) => html`<${RequestLink} id=${r} /> `) : "nothing"}</dd>
      ${there && html`<dt>Last report</dt><dd><${Age} at=${view.at_s - view.reported_s_ago} /> ago</dd>
        <dt>Fleet</dt><dd>${view.fleet}, workergroup ${view.workergroup_id}${view.owned ? "" : "; it joined by itself"}</dd>
        <dt>Address</dt><dd>${view.url || "not reported yet"}</dd><dt>Perf</dt><dd>${view.perf}</dd>`}
      <${Cost} row=${view.cost} />
      ${view.note && html`<dt>Note</dt><dd class="bad">${view.note}</dd>`}
    </dl>
    <${TimeAxis} about=${`worker ${id}`} name=${`worker ${id}`} since=${view.lane ? view.lane.states[0][0] : 0} at=${Number(query.get("at")) || 0} />
    ${view.lane && html`<h2 class="part">States of the last hour</h2><${States} rows=${view.lane.states} until=${view.at_s} />
      ${view.lane.holds.length > 0 && html`<h2 class="part">What it held</h2><${Table} label="What it held" head=${["Request", "From", "For"]}>
        ${[...view.lane.holds].reverse().map(([request, from, until, job]) => html`<tr data-row key=${request}><td><${RequestLink} id=${request} />${job ? ` ${job}` : ""}</td><td class="when">${clock(from)}</td><td>${duration((until ?? view.at_s) - from)}${until === null ? ", still" : ""}</td></tr>`)}<//>`}`}
    <h2 class="part">Decisions</h2><${Decisions} rows=${view.decisions} />
    <h2 class="part">The end of its log</h2>
    ${view.log.length ? html`<pre tabindex="0" aria-label="The end of its log">${view.log.join("\n")}</pre>` : html`<p class="soft">This engine has no log of it.</p>`}`;
}

// What it cost so far, by what that was for.
const Cost = ({ row }) => row && row.total > 0 ? html`<dt>Cost</dt><dd>${row.total}: held ${row.held}, coming up ${row.boot}, free ${row.idle}, other ${row.other}, storage ${row.storage}</dd>` : "";

const States = ({ rows, until }) => html`<${Table} label="States" head=${["State", "From", "For"]}>
  ${rows.map(([at, state], n) => html`<tr data-row key=${at + state}><td><${State} name=${state} /></td><td class="when">${clock(at)}</td><td>${duration((n + 1 < rows.length ? rows[n + 1][0] : until) - at)}</td></tr>`).reverse()}<//>`;

export function Reservation({ query, role }) {
  const id = asked(query);
  return id ? html`<${ReservationStory} id=${id} query=${query} role=${role} />` : html`<h1>Reservation</h1><${Ask} what="request" />`;
}

function ReservationStory({ id, query, role }) {
  const [view, refusal] = useView(`view=reservation&id=${id}`);
  if (!view) return html`<h1>Request ${id}</h1><${Waiting} refusal=${refusal} />`;
  return html`<h1>Request ${id} <${State} name=${view.stage} /></h1>
    <p class="headline">${view.answer}</p>
    ${view.eta && html`<p>${view.eta.in_s === null ? "No time can be told" : `Its worker comes in about ${duration(view.eta.in_s)}`}: ${view.eta.ground}.</p>`}
    ${role !== "read" && view.stage !== "ended" && html`<div class="row"><${Act} label="End this request" question=${view.stage === "waiting" ? "Its client is told nothing; it loses its place." : "Its worker ends its consumer and is free, with its next report; its client sees that it is over."} act=${(why) => post("/api/v0/withdraw/", { request_idx: view.request_idx }, why).then(() => "")} />
      ${view.stage === "session" && [["1 hour", 3600], ["1 day", 86400]].map(([text, seconds]) => html`<${Act} label=${`Hold it for ${text} more`} question="It is held for so long from now on at least, whether its client is there or not." act=${(why) => post("/api/v0/extend/", { request_idx: view.request_idx, seconds }, why).then(() => "")} />`)}</div>`}
    <dl class="facts"><dt>Endpoint</dt><dd>${view.endpoint || "gone"}</dd>${view.queue && html`<dt>Queue</dt><dd>${view.queue}</dd>`}${view.job && html`<dt>Job</dt><dd>${view.job}</dd>`}<${Cost} row=${view.cost} />${view.worker_id ? html`<dt>Worker</dt><dd><${WorkerLink} id=${view.worker_id} /></dd>` : ""}</dl>
    <${TimeAxis} about=${`request ${id}`} name=${`request ${id}`} since=${view.stages.length ? view.stages[0][0] : 0} at=${Number(query.get("at")) || 0} />
    <h2 class="part">Stages</h2>
    ${view.stages.length ? html`<${Table} label="Stages" head=${["Stage", "Worker", "From", "For"]}>
      ${view.stages.map(([at, stage, worker], n) => html`<tr data-row key=${at}><td><${State} name=${stage} /></td><td>${worker ? html`<${WorkerLink} id=${worker} />` : ""}</td><td class="when">${clock(at)}</td>
        <td>${stage === "ended" ? "" : duration((n + 1 < view.stages.length ? view.stages[n + 1][0] : view.at_s) - at)}</td></tr>`)}<//>` : html`<p class="soft">It ended more than an hour ago.</p>`}
    <h2 class="part">Decisions</h2><${Decisions} rows=${view.decisions} />`;
}
