// The frames of GET /pipeline/stream. Tabs of one browser share one connection: HTTP/1.1 allows six for
// all of them together, and the answers need them too. Whoever has the lock reads, the others are told.

const LOCK = "refrain-pipeline";
const RETRY_MS = [500, 1000, 2000, 4000];
// Frames come four times a second; a connection that says nothing for so long is dead.
const SILENCE_MS = 5000;

export class Locked extends Error {}

/** `on.frame(frame)`, `on.state("live" | "lost")`, `on.locked()`; `key()` gives the admin key or "". */
export class Feed {
  constructor(key, on) {
    this.key = key;
    this.on = on;
    this.stopped = null;
    this.heard = 0;
    this.channel = null;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.stop() : this.start()));
    setInterval(() => this.judge(), 1000);
  }

  /** Nothing is read for a tab that nobody looks at. */
  start() {
    if (this.stopped || document.hidden) return;
    const stopped = (this.stopped = new AbortController());
    this.heard = performance.now();
    const run = () => this.run(stopped.signal);
    if (!("BroadcastChannel" in globalThis && navigator.locks)) return run();
    // Only tabs that know the same key share: another one has to be asked for its own.
    const name = `${LOCK} ${this.key()}`;
    this.channel = new BroadcastChannel(name);
    this.channel.onmessage = ({ data }) => this.told(data);
    navigator.locks.request(name, { signal: stopped.signal }, run).catch(() => {});
  }

  stop() {
    this.stopped?.abort();
    this.stopped = null;
    this.channel?.close();
    this.channel = null;
  }

  restart() {
    this.stop();
    this.start();
  }

  told(frame) {
    this.heard = performance.now();
    this.on.state("live");
    this.on.frame(frame);
  }

  judge() {
    if (this.stopped && performance.now() - this.heard > SILENCE_MS) this.on.state("lost");
  }

  async run(signal) {
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        await this.read(signal, () => (failures = 0));
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Locked) {
          this.stop(); // a connection that nobody makes is not lost
          return this.on.locked();
        }
      }
      this.on.state("lost");
      await new Promise((wake) => setTimeout(wake, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]));
    }
  }

  async read(signal, good) {
    const connection = new AbortController();
    signal.addEventListener("abort", () => connection.abort());
    let silence = setTimeout(() => connection.abort(), SILENCE_MS);
    try {
      const reply = await fetch("/pipeline/stream", { headers: bearer(this.key()), signal: connection.signal });
      if (reply.status === 401) throw new Locked();
      if (!reply.ok) throw new Error(`status ${reply.status}`);
      for await (const data of events(reply.body)) {
        clearTimeout(silence);
        silence = setTimeout(() => connection.abort(), SILENCE_MS);
        const frame = JSON.parse(data);
        good();
        this.told(frame);
        this.channel?.postMessage(frame);
      }
    } finally {
      clearTimeout(silence);
      connection.abort();
    }
  }
}

export const bearer = (key) => (key ? { authorization: `Bearer ${key}` } : {});

/** The data of each event of a stream of server-sent events. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const lines = text.slice(0, end).split("\n").filter((line) => line.startsWith("data:"));
      if (lines.length) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
    }
  }
}
