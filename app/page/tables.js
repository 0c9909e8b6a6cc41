// What is counted: the ledger of what sharing saves, the broadcasts, the workers.
import { count, duration, h, percent, say, stepName } from "./dom.js";

const MOST_BROADCASTS = 8;
// A frame lists so many at most (app/snapshot.py).
const LISTED = 200;
const PHASES = {
  waiting: "waits for a leader's place",
  preparing: "being prepared",
  idle: "ready, nobody listens",
  queued: "waits for the model",
  live: "streaming",
};

export function table(caption, heads, rows) {
  return h(
    "table",
    {},
    h("caption", { className: "hidden" }, caption),
    h("thead", {}, h("tr", {}, ...heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, ...rows),
  );
}

export const row = (cells, properties = {}) =>
  h("tr", properties, ...cells.map((cell) => h("td", {}, ...(Array.isArray(cell) ? cell : [cell]))));

/** `mine`: the epochs of the answers that this page reads or has read. An id begins with its epoch. */
export function showBroadcasts(element, number, broadcasts, mine) {
  const total = broadcasts.length;
  const atLeast = total < LISTED ? "" : "at least ";
  say(number, atLeast + count(total));
  if (!broadcasts.length) {
    if (element.dataset.empty !== "1") element.replaceChildren(h("p", { className: "quiet" }, "Nothing is under way."));
    element.dataset.empty = "1";
    return;
  }
  element.dataset.empty = "0";
  const ours = (one) => mine.has(one.id.split("-")[0]);
  const first = [...broadcasts].sort(
    (a, b) => ours(b) - ours(a) || b.subscribers - a.subscribers || a.age_ms - b.age_ms,
  );
  const rows = first.slice(0, MOST_BROADCASTS).map((one) => {
    const step = one.step ? `: ${stepName(one.step)}` : "";
    const phase = [h("span", { className: `phase ${one.phase}` }), (PHASES[one.phase] ?? one.phase) + step];
    if (ours(one)) phase.push(h("span", { className: "yours" }, "yours"));
    const readers = one.processes > 1 ? `${count(one.subscribers)} on ${one.processes} workers` : count(one.subscribers);
    return row([phase, readers, count(one.events), duration(one.age_ms)], {
      className: ours(one) ? "mine" : "",
      "data-broadcast": one.id,
    });
  });
  const parts = [table("Answers under way", ["Phase", "Readers", "Pieces", "Age"], rows)];
  if (total > rows.length) parts.push(h("p", { className: "quiet" }, `and ${atLeast}${count(total - rows.length)} more`));
  element.replaceChildren(...parts);
}

const LEDGER = [
  ["requests", "requests ended", (t) => count(t.requests)],
  ["hits", "from the cache", (t) => `${count(t.hits)} (${percent(t.hits, t.requests)})`],
  ["joins", "joined a running answer", (t) => `${count(t.joins)} (${percent(t.joins, t.requests)})`],
  ["upstream_calls", "calls of the model", (t) => count(t.upstream_calls)],
  ["tokens_saved", "tokens not generated again", (t) => `${count(t.tokens_saved)} of ${count(t.tokens)}`],
  ["seconds_saved", "of work not repeated", (t) => duration(1000 * t.seconds_saved)],
];

export function showLedger(element, totals) {
  if (!element.children.length) {
    for (const [name, what] of LEDGER) {
      element.append(h("div", { "data-total": name }, h("dt", {}, what), h("dd", {})));
    }
  }
  LEDGER.forEach(([, , shown], at) => say(element.children[at].querySelector("dd"), shown(totals)));
}

export function showWorkers(element, workers) {
  const rows = workers.map((one) => {
    const stage = (name) => one.stages.find((found) => found.name === name) ?? { in_use: 0, waiting: 0 };
    const streams = stage("llm_streams");
    return row(
      [
        String(one.worker),
        String(one.pid),
        one.stale ? [h("span", { className: "warn" }, "does not answer")] : one.state,
        count(one.totals.requests),
        count(one.totals.subscribers),
        `${count(streams.in_use)} held, ${count(streams.waiting)} waiting`,
      ],
      { "data-worker": String(one.worker) },
    );
  });
  element.replaceChildren(
    table("The processes of this gateway", ["Worker", "Process", "State", "Requests", "Readers", "LLM streams"], rows),
  );
}
