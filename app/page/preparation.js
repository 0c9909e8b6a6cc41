// Preparation: the steps under way and the tools, and what the preparation of an answer has cost.
import { count, duration, h, stepName } from "./dom.js";
import { row, table } from "./tables.js";

const MOST_TOOLS = 12;
const STATUS = { timed_out: "timed out" };

/** The card of a frame's `preparation`, and of turns that wait before it. Once there is anything for it, it stays. */
export class Preparation {
  constructor(card) {
    this.card = card;
    this.height = 0;
    this.steps = h("ul", { className: "steps" });
    this.tools = h("div", { className: "wide", tabIndex: 0, role: "group", "aria-label": "Tools" });
    card.append(this.steps, this.tools);
  }

  show({ steps, tools }, turns) {
    const under = Object.entries(steps).sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, many]) => [stepName(name), many]);
    if (turns) under.unshift(["behind the turn before", turns]);
    if (this.card.hidden && !under.length && !tools.length) return;
    this.card.hidden = false;
    this.showSteps(under);
    this.tools.hidden = !tools.length;
    if (tools.length) this.showTools(tools);
  }

  showSteps(names) {
    const said = names.length
      ? names.map(([name, many]) => h("li", {}, name, " ", h("b", {}, count(many))))
      : [h("li", { className: "quiet" }, "No step is under way.")];
    this.steps.replaceChildren(...said);
    // What stands below is not to jump with every step.
    const height = this.steps.offsetHeight;
    if (height > this.height) this.steps.style.minHeight = `${(this.height = height)}px`;
  }

  showTools(tools) {
    const busy = (tool) => tool.in_use + waiting(tool);
    const first = tools.length > MOST_TOOLS ? [...tools].sort((a, b) => busy(b) - busy(a) || b.calls - a.calls) : tools;
    const rows = first.slice(0, MOST_TOOLS).map(toolRow);
    const parts = [table("The tools of this gateway", ["Tool", "Running", "Waiting", "Calls", "Shared"], rows)];
    if (tools.length > rows.length) parts.push(h("p", { className: "quiet" }, `and ${count(tools.length - rows.length)} more`));
    this.tools.replaceChildren(...parts);
  }
}

const waiting = (tool) => tool.waiting + tool.waiting_for_rate;

function toolRow(tool) {
  const running = [`${count(tool.in_use)} of ${count(tool.limit)}`];
  if (tool.left_threads) running.push(h("span", { className: "warn" }, ` · ${count(tool.left_threads)} overdue`));
  const wait = [h("span", { className: waiting(tool) ? "queue" : "" }, count(waiting(tool)))];
  if (tool.waiting_for_rate) wait.push(h("span", { className: "quiet" }, ` · ${count(tool.waiting_for_rate)} for its rate`));
  return row([[h("code", {}, tool.name)], running, wait, count(tool.calls), count(tool.shared)], {
    "data-tool": tool.name,
    className: tool.in_use >= tool.limit ? "busy" : "",
  });
}

/** What an answer says of its preparation, folded; nothing if there was none. */
export function costs(preparation) {
  const tools = preparation?.tools ?? [];
  const steps = preparation?.workflow?.steps ?? [];
  if (!tools.length && !steps.length) return [];
  const lists = [];
  if (steps.length) lists.push(stepList(steps));
  if (tools.length) lists.push(h("ul", {}, ...tools.map((one) => item(one.tool, one, toolCost(one)))));
  const what = [steps.length && many(steps.length, "step"), tools.length && many(tools.length, "tool call")].filter(Boolean);
  return [h("details", { className: "costs" }, h("summary", {}, `Prepared by ${what.join(" and ")}`), ...lists)];
}

function stepList(steps) {
  return h("ul", {}, ...steps.map((one) => {
    const entry = item(one.step, one, stepCost(one));
    if (one.inner) entry.append(stepList(one.inner.steps));
    return entry;
  }));
}

function item(name, { status, why }, cost) {
  const well = ["ok", "done", "streams"].includes(status);
  const entry = h("li", {}, h("b", {}, name), well ? "" : h("span", { className: "warn" }, ` ${STATUS[status] ?? status}`));
  const rest = [...cost, why].filter(Boolean).join(", ");
  if (rest) entry.append(" ", h("span", {}, rest));
  return entry;
}

const many = (number, what) => `${count(number)} ${what}${number === 1 ? "" : "s"}`;
const waited = (seconds) => seconds >= 0.001 && `waited ${duration(1000 * seconds)}`;

const toolCost = ({ tries, seconds, waited_s: wait }) =>
  tries ? [duration(1000 * seconds), tries > 1 && many(tries, "try").replace("trys", "tries"), waited(wait)] : [];

function stepCost({ status, inner, model, fallback, calls, prompt_tokens: read, completion_tokens: said, seconds, queued_s: wait }) {
  if (status === "streams") return ["this answer"];
  if (inner || !calls) return [];
  const by = fallback && `by ${model}`;
  const tokens = read + said > 0 && `${many(read, "token")} read, ${count(said)} said`;
  return [duration(1000 * seconds), by, calls > 1 && many(calls, "call"), tokens, waited(wait)];
}
