// Five minutes as small charts, a sample a second: stacked areas and lines in SVG.
import { count, h, rate, say } from "./dom.js";

const SPAN_S = 300;
const SMOOTH = 4; // samples over which a rate is taken
const [WIDTH, HEIGHT] = [320, 84];
const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** `at(rows, i)` is a series' value at sample i; `fill`: stacked on those before it. */
const level = (field) => (past, i) => past.value(i, field);
const speed = (...fields) => (past, i) => past.speed(i, fields);

const CHARTS = [
  {
    title: "Requests per second",
    unit: rate,
    series: [
      { name: "from the cache", hue: "hit", fill: true, at: speed("hits") },
      { name: "joined", hue: "join", fill: true, at: speed("joins") },
      { name: "calls of the model", hue: "call", fill: true, at: speed("upstream_calls") },
      { name: "refused", hue: "bad", fill: true, at: speed("refused") },
    ],
  },
  {
    title: "Tokens per second",
    unit: rate,
    series: [
      { name: "delivered", hue: "join", fill: true, at: speed("tokens") },
      { name: "generated", hue: "call", at: (past, i) => past.speed(i, ["tokens"]) - past.speed(i, ["tokens_saved"]) },
    ],
  },
  {
    title: "LLM streams",
    unit: count,
    series: [
      { name: "held", hue: "call", fill: true, at: level("llm_streams_in_use") },
      { name: "waiting", hue: "wait", at: level("llm_streams_waiting") },
    ],
  },
  {
    title: "Clients",
    unit: count,
    series: [
      { name: "reading", hue: "join", fill: true, at: level("subscribers") },
      { name: "waiting to be prepared", hue: "wait", at: (past, i) => past.value(i, "leaders_waiting") + past.value(i, "followers_waiting") },
    ],
  },
];

/** The rows of GET /pipeline/history, and those that are added since. */
export class Past {
  constructor(history) {
    this.fields = new Map(history.fields.map((name, at) => [name, at]));
    this.rows = history.rows;
  }

  add(row) {
    const last = this.rows.at(-1);
    if (last && row[0] - last[0] < 0.9) return false;
    this.rows.push(row);
    while (this.rows.length && this.rows[0][0] < row[0] - SPAN_S) this.rows.shift();
    return true;
  }

  value(i, field) {
    return this.rows[i][this.fields.get(field)];
  }

  /** Per second; a counter that has begun anew has counted nothing. */
  speed(i, fields) {
    const from = this.rows[Math.max(0, i - SMOOTH)];
    const seconds = this.rows[i][0] - from[0];
    if (seconds <= 0) return 0;
    return fields.reduce((sum, name) => {
      const at = this.fields.get(name);
      return sum + Math.max(0, this.rows[i][at] - from[at]) / seconds;
    }, 0);
  }

  /** A frame of the stream as a row. */
  row(at, stages, totals) {
    const of = new Map(stages.map((stage) => [stage.name, stage]));
    return [...this.fields.keys()].map((name) => {
      if (name === "at") return at;
      const [, stage, what] = /^(.*)_(in_use|waiting)$/.exec(name) ?? [];
      return stage ? (of.get(stage)?.[what] ?? 0) : (totals[name] ?? 0);
    });
  }
}

class Chart {
  constructor({ title, unit, series }) {
    Object.assign(this, { title, unit, series });
    this.canvas = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.paths = series.map(({ hue, fill }) => svg("path", { class: `${fill ? "area" : "line"} ${hue}` }));
    this.canvas.append(svg("path", { class: "axis", d: `M0 ${HEIGHT - 0.5}H${WIDTH}` }), ...this.paths);
    this.top = h("span", { className: "top" });
    this.values = series.map(() => h("b", {}));
    const legend = series.map(({ name, hue, fill }, at) =>
      h("li", {}, h("span", { className: `swatch ${fill ? "" : "thin"} ${hue}` }), `${name} `, this.values[at]),
    );
    this.element = h(
      "figure",
      {},
      h("figcaption", {}, title),
      h("div", { className: "plot" }, this.canvas, this.top),
      h("p", { className: "ends", "aria-hidden": "true" }, h("span", {}, "5 min ago"), h("span", {}, "now")),
      h("ul", {}, ...legend),
    );
  }

  show(past) {
    const rows = past.rows;
    if (!rows.length) return;
    const now = rows.at(-1)[0];
    const base = rows.map(() => 0);
    const drawn = this.series.map((one) => {
      const values = rows.map((_, i) => one.at(past, i));
      const tops = values.map((value, i) => value + (one.fill ? base[i] : 0));
      const floor = one.fill ? [...base] : null;
      if (one.fill) tops.forEach((value, i) => (base[i] = value));
      return { values, tops, floor };
    });
    const most = nice(Math.max(1, ...drawn.flatMap(({ tops }) => tops)));
    const x = (i) => (WIDTH * (1 - (now - rows[i][0]) / SPAN_S)).toFixed(1);
    const y = (value) => (HEIGHT - 1 - (HEIGHT - 4) * (value / most)).toFixed(1);
    drawn.forEach(({ values, tops, floor }, at) => {
      const there = tops.map((value, i) => `${x(i)} ${y(value)}`).join("L");
      const back = floor ? floor.map((value, i) => `${x(i)} ${y(value)}`).reverse().join("L") : "";
      this.paths[at].setAttribute("d", floor ? `M${there}L${back}Z` : `M${there}`);
      say(this.values[at], this.unit(values.at(-1)));
    });
    say(this.top, this.unit(most));
    const said = this.series.map(({ name }, at) => `${name} ${this.values[at].textContent}`).join(", ");
    this.canvas.setAttribute("aria-label", `${this.title}, now: ${said}; the axis ends at ${this.unit(most)}`);
  }
}

/** The next of 1, 2, 5, 10, 20, 50 … */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value) * power;
}

export class Charts {
  constructor(element) {
    this.charts = CHARTS.map((chart) => new Chart(chart));
    element.replaceChildren(...this.charts.map((chart) => chart.element));
  }

  show(past) {
    for (const chart of this.charts) chart.show(past);
  }
}
