// The npm package `@microsoft/fetch-event-source`, which is made for pages: here it gets what it takes from one.
import { createRequire } from "node:module";
import { settings, tell } from "./lines.mjs";

globalThis.window = globalThis;
globalThis.document = { addEventListener() {}, removeEventListener() {}, hidden: false };
const { fetchEventSource } = createRequire(import.meta.url)("@microsoft/fetch-event-source");

await fetchEventSource(settings.url, {
  openWhenHidden: true,
  async onopen() {
    tell({ event: "open" });
  },
  onmessage(message) {
    if (message.data) tell({ event: message.event, data: message.data, id: message.id });
  },
  onerror() {
    tell({ event: "lost" });
  },
});
tell({ event: "closed" });
