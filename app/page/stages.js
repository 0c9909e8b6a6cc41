// The stages, as rows: who waits before each, its slots, and who was let in since the last frame.
import { count, duration, h, say } from "./dom.js";

const STAGES = {
  cache: ["Cache", "look-ups in Redis"],
  leaders: ["Leaders", "new questions being prepared"],
  followers: ["Followers", "joining an answer under way"],
  llm_calls: ["LLM calls", "made during preparation"],
  tools: ["Tools", "called for the model"],
  llm_streams: ["LLM streams", "answers from the model, while somebody listens"],
};
const ORDER = Object.keys(STAGES);
// More slots than this are a bar, more waiting than this a number.
const MOST_SLOTS = 64;
const MOST_WAITING = 24;
const MOST_PASSING = 8;

class Row {
  constructor(name) {
    const [title, what] = STAGES[name] ?? [name, ""];
    this.admitted = null;
    this.slots = h("div", { className: "slots" });
    this.waiting = h("div", { className: "waiting" });
    this.passing = h("div", { className: "passing", "aria-hidden": "true" });
    this.numbers = h("p", { className: "numbers" });
    this.element = h(
      "section",
      { className: "stage", "data-stage": name },
      h("h3", {}, title, h("small", {}, what)),
      this.waiting,
      this.passing,
      this.slots,
      this.numbers,
    );
  }

  show(stage) {
    this.showSlots(stage);
    this.showWaiting(stage.waiting);
    this.showPassing(stage.admitted);
    const room = stage.scope === "shared" ? " for all" : "";
    const wait = stage.waiting ? `${count(stage.waiting)} waiting, longest ${duration(stage.oldest_wait_ms)}` : "nobody waits";
    say(this.numbers, `${count(stage.in_use)} of ${count(stage.capacity)}${room} · ${wait}`);
    this.element.classList.toggle("full", stage.in_use >= stage.capacity);
    this.element.classList.toggle("queued", stage.waiting > 0);
  }

  showSlots({ capacity, in_use: held }) {
    const many = capacity > MOST_SLOTS;
    const cells = many ? 20 : capacity;
    if (this.slots.children.length !== cells) {
      this.slots.replaceChildren(...Array.from({ length: cells }, () => h("span", { className: "slot" })));
      this.slots.classList.toggle("many", many);
    }
    const on = many ? Math.ceil((cells * held) / capacity) : held;
    [...this.slots.children].forEach((cell, at) => cell.classList.toggle("on", at < on));
  }

  showWaiting(waiting) {
    const dots = Math.min(waiting, MOST_WAITING);
    while (this.waiting.children.length > dots) this.waiting.lastChild.remove();
    while (this.waiting.children.length < dots) this.waiting.append(h("span", { className: "wait" }));
    this.waiting.dataset.more = waiting > dots ? `+${count(waiting - dots)}` : "";
  }

  showPassing(admitted) {
    const came = this.admitted === null ? 0 : Math.max(0, admitted - this.admitted);
    this.admitted = admitted;
    for (let n = 0; n < Math.min(came, MOST_PASSING); n++) {
      const dot = h("span", { className: `pass p${n}` });
      dot.addEventListener("animationend", () => dot.remove());
      this.passing.append(dot);
    }
    while (this.passing.children.length > 3 * MOST_PASSING) this.passing.firstChild.remove();
  }
}

export class Stages {
  constructor(element) {
    this.element = element;
    this.rows = new Map();
  }

  show(stages) {
    const place = (stage) => (ORDER.includes(stage.name) ? ORDER.indexOf(stage.name) : ORDER.length);
    for (const stage of [...stages].sort((a, b) => place(a) - place(b))) {
      if (!this.rows.has(stage.name)) {
        const row = new Row(stage.name);
        this.rows.set(stage.name, row);
        this.element.append(row.element);
      }
      this.rows.get(stage.name).show(stage);
    }
  }

  /** Another worker's numbers follow: nothing has passed between its last and ours. */
  forget() {
    for (const row of this.rows.values()) row.admitted = null;
  }
}
