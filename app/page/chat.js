// Questions and answers. POST /chat gives an id and a stream; the browser's EventSource reads and resumes it.
// What the model says is put in as text, never as markup.
import { count, duration, h, say, stepName } from "./dom.js";
import { bearer } from "./feed.js";
import { costs } from "./preparation.js";

const STATUS = {
  queued: "waiting to be prepared",
  preparing: "being prepared",
  ready: "ready",
  waiting_slot: "waiting for the model",
  streaming: "streaming",
};
const ROLE = {
  leader: "a new answer",
  follower: "joined an answer under way",
  cached: "from the cache",
};

// A browser has six connections to a host: one for the frames, one for what is asked meanwhile.
const MOST_RUNNING = 4;

export async function problem(reply) {
  const body = await reply.json().catch(() => null);
  const wait = reply.headers.get("retry-after");
  const text = body?.error?.message ?? `The gateway answered ${reply.status}.`;
  return wait && reply.status !== 401 ? `${text} Try again in ${wait} s.` : text;
}

/** One question with its answer; `chat` is the Chat it belongs to. */
class Turn {
  constructor(chat, messages, cache, model) {
    Object.assign(this, { chat, messages, cache, model, id: null, text: "", epochs: new Set(), running: true, complete: false });
    this.status = h("p", { className: "status" }, "asking");
    this.shared = h("span", { className: "shared" });
    this.chip = h("span", { className: "chip", hidden: true });
    this.body = h("div", { className: "answer" });
    this.thought = h("details", { className: "thought", hidden: true }, h("summary", {}, "Reasoning"), h("p", {}));
    this.stopButton = h("button", { type: "button" }, "Stop");
    this.againButton = h("button", { type: "button", hidden: true }, "Regenerate");
    this.stopButton.addEventListener("click", () => this.stop());
    this.againButton.addEventListener("click", () => chat.ask(messages, this.complete ? "refresh" : cache, model));
    this.element = h(
      "article",
      { "aria-busy": "true" },
      h("p", { className: "asked" }, messages.at(-1).content),
      this.thought,
      this.body,
      h("div", { className: "foot" }, this.chip, this.shared, this.status, this.stopButton, this.againButton),
    );
  }

  async start() {
    const last = this.messages.length === 1 ? { message: this.messages[0].content } : { messages: this.messages };
    const reply = await fetch("/chat", {
      method: "POST",
      headers: { "content-type": "application/json", ...bearer(this.chat.key()) },
      body: JSON.stringify({ ...last, cache: this.cache, model: this.model || undefined }),
    });
    if (!reply.ok) {
      if (reply.status === 401) this.chat.needsKey(this);
      throw new Error(await problem(reply));
    }
    const { id, role, stream_url } = await reply.json();
    this.id = id;
    this.showRole(role);
    if (this.running) this.listen(stream_url);
    else this.cancel(); // stopped before it had an id
  }

  listen(url) {
    const source = (this.source = new EventSource(url));
    const on = (name, act) =>
      source.addEventListener(name, (event) => {
        this.epochs.add(event.lastEventId.split("-")[0]);
        act(JSON.parse(event.data));
        this.chat.scroll();
      });
    on("status", (data) => this.showStatus(data));
    on("delta", (data) => this.append(data));
    on("reset", () => {
      this.text = this.body.textContent = "";
      say(this.status, "the process that made this answer is gone: it starts again");
    });
    on("done", (data) => this.done(data));
    on("failed", (data) => this.end(`failed: ${data.message}`, "bad"));
    on("cancelled", () => this.end("stopped", "quiet"));
    source.onerror = () => {
      if (!this.running) return;
      if (source.readyState === EventSource.CLOSED) this.lookUp();
      else say(this.status, "connection lost, going on where it broke off");
    };
  }

  /** How many read the same answer now. */
  showReaders(readers) {
    say(this.shared, this.running && readers > 1 ? `${count(readers)} read it now` : "");
  }

  showRole(role) {
    this.chip.hidden = false;
    this.chip.dataset.role = role;
    say(this.chip, ROLE[role] ?? role);
  }

  showStatus({ status, stage, queue_position: place, eta_ms: eta }) {
    let text = STATUS[status] ?? status;
    if (stage?.startsWith("preparing:")) text += `: ${stepName(stage.slice(10))}`;
    if (place) text += `, place ${count(place)}`;
    if (eta) text += `, about ${duration(eta)}`;
    say(this.status, text);
  }

  append({ text, reasoning, tool_calls: calls }) {
    if (text) {
      this.text += text;
      this.body.append(text);
    }
    if (reasoning) {
      this.thought.hidden = false;
      this.thought.lastChild.append(reasoning);
    }
    if (calls) this.body.append(h("code", {}, JSON.stringify(calls)));
    if (!this.status.textContent.startsWith("streaming")) say(this.status, "streaming");
  }

  done({ role, timings, usage, finish_reason: reason, preparation }) {
    this.complete = true;
    this.body.after(...costs(preparation));
    this.showRole(role);
    const parts = [];
    if (usage?.completion_tokens != null) parts.push(`${count(usage.completion_tokens)} tokens`);
    if (timings?.ttft_ms != null) parts.push(`first text after ${duration(timings.ttft_ms)}`);
    if (timings?.total_ms != null) parts.push(`${duration(timings.total_ms)} in all`);
    if (reason && reason !== "stop") parts.push(`ended by ${reason}`);
    this.end(parts.join(" · "), "quiet");
  }

  end(text, kind) {
    this.running = false;
    this.source?.close();
    say(this.status, text);
    this.status.dataset.kind = kind;
    this.stopButton.hidden = true;
    this.againButton.hidden = false;
    // What was not answered goes by the cache like any question.
    say(this.againButton, this.complete ? "Regenerate" : "Try again");
    this.element.setAttribute("aria-busy", "false");
    this.chat.changed();
  }

  /** The stream is refused for good: the record says how it ended, if anybody knows it. */
  async lookUp() {
    try {
      const reply = await fetch(`/chat/${this.id}`, { headers: bearer(this.chat.key()) });
      if (!reply.ok) return this.end(await problem(reply), "bad");
      const record = await reply.json();
      this.text = this.body.textContent = record.text;
      this.complete = record.status === "completed";
      this.body.after(...costs(record.preparation));
      this.end(this.complete ? "complete" : record.status, this.complete ? "quiet" : "bad");
    } catch {
      this.end("The gateway does not answer.", "bad");
    }
  }

  stop() {
    if (!this.running) return;
    say(this.status, "stopping");
    if (this.id === null) this.end("stopped", "quiet");
    else this.cancel();
  }

  async cancel() {
    // Its connection may be the last one that the browser has.
    this.source?.close();
    try {
      const reply = await fetch(`/chat/${this.id}/cancel`, { method: "POST", headers: bearer(this.chat.key()) });
      if (reply.ok) this.end("stopped", "quiet");
      else if (reply.status === 409) await this.lookUp(); // it has ended by now
      else this.end(await problem(reply), "bad");
    } catch {
      this.end("The gateway does not answer.", "bad");
    }
  }
}

/** `parts`: the elements by name. */
export class Chat {
  constructor(parts) {
    this.parts = parts;
    this.turns = [];
    parts.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    parts.question.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.submit();
      }
    });
    parts.stop.addEventListener("click", () => this.stop());
    parts.keyRow.addEventListener("submit", (event) => {
      event.preventDefault();
      this.askAgain();
    });
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.stop());
  }

  key() {
    return this.parts.key.value.trim();
  }

  needsKey(turn) {
    this.refused = turn;
    this.parts.keyRow.hidden = false;
    this.parts.key.focus();
  }

  /** With the key that has been typed in now. */
  askAgain() {
    const turn = this.refused;
    if (!turn) return;
    this.refused = null;
    this.turns.splice(this.turns.indexOf(turn), 1);
    turn.element.remove();
    this.ask(turn.messages, turn.cache, turn.model);
  }

  /** The epochs of all answers that this page has read. */
  get epochs() {
    return new Set(this.turns.flatMap((turn) => [...turn.epochs]));
  }

  /** The broadcasts of a frame. */
  showReaders(broadcasts) {
    const readers = new Map(broadcasts.map((one) => [one.id.split("-")[0], one.subscribers]));
    for (const turn of this.turns) {
      const epoch = [...turn.epochs].at(-1);
      turn.showReaders(readers.get(epoch) ?? 0);
    }
  }

  submit() {
    const question = this.parts.question.value.trim();
    if (!question || this.full()) return;
    this.parts.question.value = "";
    this.ask([...this.earlier(), { role: "user", content: question }]);
  }

  full() {
    const full = this.turns.filter((turn) => turn.running).length >= MOST_RUNNING;
    if (full) say(this.parts.error, `${MOST_RUNNING} answers are running: wait for one, or stop one.`);
    return full;
  }

  earlier() {
    if (!this.parts.turns.checked) return [];
    // Of a question that was asked again the last answer counts.
    const answered = new Map(this.turns.filter((turn) => turn.complete).map((turn) => [turn.messages, turn]));
    return [...answered.values()]
      .flatMap((turn) => [turn.messages.at(-1), { role: "assistant", content: turn.text }]);
  }

  async ask(messages, cache, model = this.parts.model.value) {
    if (this.full()) return;
    say(this.parts.error, "");
    const turn = new Turn(this, messages, cache, model);
    this.turns.push(turn);
    this.parts.hello.hidden = true;
    this.parts.talk.append(turn.element);
    this.scroll(true);
    this.changed();
    try {
      await turn.start();
    } catch (error) {
      const text = error instanceof TypeError ? "The gateway does not answer." : error.message;
      turn.end(text, "bad");
      say(this.parts.error, text);
    }
  }

  stop() {
    this.turns.findLast((turn) => turn.running)?.stop();
  }

  changed() {
    this.parts.stop.disabled = !this.turns.some((turn) => turn.running);
  }

  /** Follow the text, unless somebody has scrolled up to read. */
  scroll(always = false) {
    const talk = this.parts.talk;
    const near = talk.scrollHeight - talk.scrollTop - talk.clientHeight < 120;
    if (always || near) talk.scrollTop = talk.scrollHeight;
  }
}
