// The npm package `eventsource`: it is never closed from here, so only the server's 204 ends it.
import { EventSource } from "eventsource";
import { settings, tell } from "./lines.mjs";

const source = new EventSource(settings.url);
for (const name of ["status", "delta", "reset", "done", "failed", "cancelled"]) {
  source.addEventListener(name, (event) => tell({ event: name, data: event.data, id: event.lastEventId }));
}
source.onopen = () => tell({ event: "open" });
source.onerror = () => tell({ event: source.readyState === EventSource.CLOSED ? "closed" : "lost" });
