// A lane for each worker over the last hour, drawn on one canvas: only the rows that are seen are drawn.
import { html, useEffect, useMemo, useRef, useState } from "./vendor/htm-preact.js";
import { go, setQuery } from "./address.js";
import { engineNow, useLive } from "./live.js";
import { EndpointFilter, HOUR_S, State, Table, TextFilter, useSecond, Waiting, Why, WorkerLink } from "./parts.js";
import { clock, counted, duration } from "./words.js";

const ROW = 18, AXIS = 22;
const STATES = ["asked", "creating", "loading", "starting", "ready", "held", "draining", "stopping", "inactive", "destroying", "error"];
const TABLE_ROWS = 100;

// The lanes by worker: whole at first, then what is new in those that changed.
function merge(lanes, view) {
  if (view.whole) return new Map(view.lanes.map((lane) => [lane.worker_id, lane]));
  for (const lane of view.lanes) {
    const before = lanes.get(lane.worker_id);
    lanes.set(lane.worker_id, before ? joined(before, lane) : lane);
  }
  for (const id of view.gone) lanes.delete(id);
  return lanes;
}

const KEPT = 100;
function joined(before, lane) {
  const from = lane.states.length ? lane.states[0][0] : Infinity;
  const holds = new Map(before.holds.map((hold) => [hold[0], hold]));
  for (const hold of lane.holds) holds.set(hold[0], hold);
  return {
    ...lane,
    states: [...before.states.filter(([at]) => at < from), ...lane.states].slice(-KEPT),
    holds: [...holds.values()].slice(-KEPT),
  };
}

export const stateAt = (lane, at) => {
  let found = null;
  for (const entry of lane.states) {
    if (entry[0] > at) break;
    found = entry;
  }
  return found;
};
const named = ([request, , , job]) => (job ? `${request} (${job})` : `${request}`);
const heldAt = (lane, at) => lane.holds.filter(([, from, until]) => from <= at && (until === null || until > at));

export function Lanes({ query, names }) {
  const endpoint = query.get("endpoint") || "";
  const kept = useRef(new Map());
  const [version, setVersion] = useState(0);
  const address = `view=lanes${endpoint ? `&endpoint=${encodeURIComponent(endpoint)}` : ""}`;
  useEffect(() => {
    kept.current = new Map();
    setVersion(0);
  }, [address]);
  const refusal = useLive(address, (view) => {
    kept.current = merge(kept.current, view);
    setVersion((n) => n + 1);
  });
  const q = query.get("q") || "";
  const there = query.get("there") !== "0";
  const span = Math.min(HOUR_S, Math.max(60, Number(query.get("span")) || HOUR_S));
  const at = Number(query.get("at")) || 0;
  const selected = Number(query.get("worker")) || 0;
  const rows = useMemo(() => {
    const since = engineNow() - span;
    const wanted = q.toLowerCase();
    return [...kept.current.values()].filter((lane) => {
      const [changed, state] = lane.states[lane.states.length - 1];
      if (state === "gone" && (!there || changed < since)) return false;
      return !wanted || `worker ${lane.worker_id} ${state} ${lane.holds.map((h) => `${h[0]} ${h[3]}`).join(" ")}`.toLowerCase().includes(wanted);
    }).sort((a, b) => b.worker_id - a.worker_id);
  }, [version, q, there, span]);
  const lane = kept.current.get(selected);
  return html`<h1>Lanes</h1>
    <div class="row"><${EndpointFilter} names=${names} value=${endpoint} /><${TextFilter} value=${q} label="Filter by worker, state or request" />
      <label>Span <select value=${span} onChange=${(e) => setQuery({ span: e.target.value })}>
        ${[[HOUR_S, "1 hour"], [900, "15 minutes"], [300, "5 minutes"], [60, "1 minute"]].map(([s, text]) => html`<option value=${s} selected=${s === span}>${text}</option>`)}</select></label>
      <label class="inline"><input type="checkbox" checked=${there} onChange=${(e) => setQuery({ there: e.target.checked ? "" : "0" })} /> with those that are gone</label></div>
    <ul class="legend" aria-label="Colours">${STATES.map((name) => html`<li><${State} name=${name} /></li>`)}</ul>
    ${version === 0 ? html`<${Waiting} refusal=${refusal} />` : html`
      <p>${counted(rows.length, "worker")}. <span class="soft">Click, or use the arrow keys, to move the cursor; Enter opens the worker.</span></p>
      <${Canvas} rows=${rows} span=${span} at=${at} selected=${selected} version=${version} />
      <${Readout} lane=${lane} at=${at} />
      ${at > 0 && selected > 0 && html`<${Why} about=${`worker ${selected}`} at=${at} /><button type="button" onClick=${() => setQuery({ at: "", worker: "" })}>Back to now</button>`}
      <details><summary>As a table</summary>
        <${Table} label="Workers" head=${["Worker", "State", "Since", "Holds"]}>
          ${rows.slice(0, TABLE_ROWS).map((each) => html`<tr data-row key=${each.worker_id}><td><${WorkerLink} id=${each.worker_id} /></td><td><${State} name=${each.states[each.states.length - 1][1]} /></td>
            <td class="when">${clock(each.states[each.states.length - 1][0])}</td><td>${heldAt(each, engineNow()).map(named).join(", ")}</td></tr>`)}
        <//>
        ${rows.length > TABLE_ROWS && html`<p class="soft">The first ${TABLE_ROWS} are shown; filter for others.</p>`}
      </details>`}`;
}

function Readout({ lane, at }) {
  useSecond();
  if (!lane) return null;
  const moment = at || engineNow();
  const state = stateAt(lane, moment);
  const holds = heldAt(lane, moment);
  return html`<p role="status">Worker ${lane.worker_id}${at ? ` at ${clock(at)}` : " now"}: ${state ? `${state[1]} for ${duration(moment - state[0])}` : "not there yet"}${holds.map((h) => `, holds request ${named(h)}`).join("")}</p>`;
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const found = {};
  for (const name of [...STATES, "text", "soft", "line", "ground", "raised", "cursor"]) found[name] = style.getPropertyValue(`--${name}`).trim();
  return found;
}

function Canvas({ rows, span, at, selected, version }) {
  const box = useRef(null), canvas = useRef(null), room = useRef(null);
  const latest = useRef(null);
  latest.current = { rows, span, at, selected };
  useEffect(() => {
    let frame = 0;
    let palette = colours();
    const draw = () => {
      frame = 0;
      if (canvas.current) paint(canvas.current, box.current, latest.current, palette);
    };
    const ask = () => {
      if (!frame) frame = requestAnimationFrame(draw);
    };
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const recolour = () => {
      palette = colours();
      ask();
    };
    const sizes = new ResizeObserver(ask);
    sizes.observe(box.current);
    box.current.addEventListener("scroll", ask, { passive: true });
    scheme.addEventListener("change", recolour);
    const timer = setInterval(() => document.hidden || ask(), 1000);
    box.current.ask = ask;
    ask();
    return () => {
      cancelAnimationFrame(frame);
      clearInterval(timer);
      sizes.disconnect();
      scheme.removeEventListener("change", recolour);
    };
  }, []);
  useEffect(() => {
    box.current.style.height = `${Math.max(120, AXIS + rows.length * ROW + 6)}px`; // no higher than its max-height
    const height = box.current.clientHeight;
    room.current.style.height = `${Math.max(0, AXIS + rows.length * ROW - height)}px`;
    box.current.ask();
  }, [rows, span, at, selected, version]);

  const place = (event) => {
    const frame = box.current.getBoundingClientRect();
    const x = event.clientX - frame.left, y = event.clientY - frame.top;
    const left = gutter(frame.width);
    const row = Math.floor((y - AXIS + box.current.scrollTop) / ROW);
    if (y < AXIS || x < left || row < 0 || row >= rows.length) return;
    const back = (1 - (x - left) / (frame.width - left)) * span;
    setQuery({ worker: rows[row].worker_id, at: back < span / 200 ? "" : Math.round(engineNow() - back) });
  };
  const keys = (event) => {
    const row = Math.max(0, rows.findIndex((lane) => lane.worker_id === selected));
    const step = Math.max(1, Math.round(span / 120));
    const moves = {
      ArrowLeft: () => setQuery({ worker: rows[row].worker_id, at: Math.round((at || engineNow()) - step) }),
      ArrowRight: () => setQuery({ worker: rows[row].worker_id, at: at && at + step < engineNow() ? at + step : "" }),
      ArrowUp: () => choose(Math.max(0, row - 1)),
      ArrowDown: () => choose(selected ? Math.min(rows.length - 1, row + 1) : 0),
      PageUp: () => choose(Math.max(0, row - 20)),
      PageDown: () => choose(Math.min(rows.length - 1, row + 20)),
      Home: () => choose(0),
      End: () => choose(rows.length - 1),
      Enter: () => selected && go(`/worker?id=${selected}`),
    };
    if (!moves[event.key] || !rows.length || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    moves[event.key]();
  };
  const choose = (row) => {
    setQuery({ worker: rows[row].worker_id });
    const top = row * ROW, height = box.current.clientHeight - AXIS;
    if (top < box.current.scrollTop) box.current.scrollTop = top;
    if (top + ROW > box.current.scrollTop + height) box.current.scrollTop = top + ROW - height;
  };
  return html`<div class="lanes" ref=${box} tabindex="0" role="group" aria-label="Lanes of workers; arrow keys move the cursor" onClick=${place} onKeyDown=${keys}>
    <canvas ref=${canvas} role="img" aria-label=${`${rows.length} lanes; the same is below as a table`}></canvas><div class="room" ref=${room}></div>
  </div>`;
}

const gutter = (width) => (width < 600 ? 58 : 96);

// Draws the rows that are in sight. Its time does not depend on how many rows there are.
function paint(canvas, box, { rows, span, at, selected }, colour) {
  const width = box.clientWidth, height = box.clientHeight, ratio = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = `${height}px`;
  }
  const c = canvas.getContext("2d", { alpha: false });
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.fillStyle = colour.ground;
  c.fillRect(0, 0, width, height);
  const left = gutter(width), now = engineNow(), from = now - span;
  const x = (t) => left + ((Math.max(from, Math.min(now, t)) - from) / span) * (width - left);
  const first = Math.floor(box.scrollTop / ROW), last = Math.min(rows.length, first + Math.ceil(height / ROW) + 1);
  c.font = "12px system-ui, sans-serif";
  c.textBaseline = "middle";
  const step = [10, 30, 60, 300, 600, 900].find((s) => (s / span) * (width - left) > 76) || 900;
  const ticks = [];
  for (let t = Math.ceil(from / step) * step; t < now; t += step) ticks.push(t);
  c.strokeStyle = colour.line;
  c.beginPath();
  for (const t of ticks) {
    c.moveTo(x(t), AXIS);
    c.lineTo(x(t), height);
  }
  c.stroke();
  for (let n = first; n < last; n += 1) {
    const lane = rows[n], y = AXIS + n * ROW - box.scrollTop;
    if (lane.worker_id === selected) {
      c.fillStyle = colour.raised;
      c.fillRect(0, y, width, ROW);
    }
    for (let i = 0; i < lane.states.length; i += 1) {
      const [since, state] = lane.states[i];
      const until = i + 1 < lane.states.length ? lane.states[i + 1][0] : now;
      if (until < from || state === "gone") continue;
      const a = x(since);
      c.fillStyle = colour[state] || colour.soft;
      c.fillRect(a, y + (state === "held" ? 3 : 6), Math.max(1, x(until) - a), state === "held" ? ROW - 6 : ROW - 12);
    }
    c.fillStyle = colour.ground;
    for (const [request, since, until, job] of lane.holds) {
      if ((until ?? now) < from) continue;
      const a = x(since), b = x(until ?? now);
      c.fillRect(a, y + 3, 1, ROW - 6); // where one hold ends and the next begins
      const text = job ? `${job} (request ${request})` : `request ${request}`;
      if (b - a > 130) c.fillText(text, Math.max(a, left) + 5, y + ROW / 2 + 0.5, b - a - 10);
    }
    c.fillStyle = colour.ground;
    c.fillRect(0, y, left, ROW);
    c.fillStyle = lane.worker_id === selected ? colour.cursor : colour.text;
    c.fillText(width < 600 ? `${lane.worker_id}` : `worker ${lane.worker_id}`, 6, y + ROW / 2, left - 10);
  }
  c.fillStyle = colour.raised;
  c.fillRect(0, 0, width, AXIS);
  c.fillStyle = colour.soft;
  for (const t of ticks) c.fillText(clock(t).slice(-8), x(t) + 3, AXIS / 2);
  if (at >= from) {
    c.fillStyle = colour.cursor;
    c.fillRect(x(at) - 1, 0, 2, height);
  }
}
