// The page: what is read from where, and who shows it.
import { Charts, Past } from "./charts.js";
import { Chat } from "./chat.js";
import { byId, h, say } from "./dom.js";
import { bearer, Feed } from "./feed.js";
import { Preparation } from "./preparation.js";
import { Stages } from "./stages.js";
import { showBroadcasts, showLedger, showWorkers } from "./tables.js";

const KEY = "refrain-admin-key";
const READY_MS = 3000;
const SUGGESTIONS = ["What is a refrain?", "Sing all the verses.", "Why is the sky blue?"];

const chat = new Chat({
  form: byId("ask"),
  question: byId("question"),
  turns: byId("turns"),
  model: byId("model"),
  stop: byId("stop"),
  error: byId("ask-error"),
  talk: byId("talk"),
  hello: byId("hello"),
  key: byId("tenant-key"),
  keyRow: byId("key-row"),
});
const stages = new Stages(byId("stages"));
const preparation = new Preparation(byId("preparation"));
const charts = new Charts(byId("charts"));
let past = null;
let procs = []; // who the frames are of: behind a proxy, another gateway may answer for the history
let recalls = 0;
let stale = false;
let whose = null; // a worker's number; null: the instance
let connection = "connecting";
let components = {};
let state = "";

const adminKey = () => sessionStorage.getItem(KEY) ?? "";
const feed = new Feed(adminKey, { frame: showFrame, state: showConnection, locked: askForKey });

// -- the key ------------------------------------------------------------------------------------
function askForKey() {
  byId("main").hidden = true;
  say(byId("unlock-error"), "");
  byId("unlock").hidden = false;
  if (adminKey()) say(byId("unlock-error"), "That is not the admin key.");
  sessionStorage.removeItem(KEY);
  connection = "locked";
  showHealth();
  byId("admin-key").focus();
}

byId("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId("admin-key").value);
  byId("admin-key").value = "";
  open();
});

// -- what is now --------------------------------------------------------------------------------
function showFrame(frame) {
  if (byId("main").hidden) {
    const unlocked = !byId("unlock").hidden;
    byId("unlock").hidden = true;
    byId("main").hidden = false;
    if (unlocked) byId("question").focus();
  }
  state = frame.state;
  stale = frame.workers.some((one) => one.stale);
  const before = procs;
  procs = frame.workers.map((one) => one.proc);
  if (!procs.some((proc) => before.includes(proc))) {
    past = null;
    recall();
  }
  showHealth();
  showNotice(frame.model);
  showChoice(frame.workers);
  const worker = frame.workers.find((one) => one.worker === whose);
  const shown = worker ?? frame;
  stages.show(shown.stages);
  preparation.show(frame.preparation, frame.totals.turns_waiting);
  showLedger(byId("ledger"), frame.totals);
  showBroadcasts(byId("broadcasts"), byId("broadcast-count"), frame.broadcasts, chat.epochs);
  showWorkers(byId("workers"), frame.workers);
  chat.showReaders(frame.broadcasts);
  if (past?.add(past.row(Date.now() / 1000, shown.stages, shown.totals))) charts.show(past);
}

function showNotice(model) {
  byId("notice").hidden = model !== "simulated";
  say(byId("notice"), "The model is simulated: it makes its answers up. Set OPENAI_BASE_URL for a real one.");
}

function showChoice(workers) {
  const wanted = [null, ...workers.map((one) => one.worker)];
  byId("whose").hidden = wanted.length < 3;
  if (byId("whose").children.length !== wanted.length) {
    const buttons = wanted.map((number) => {
      const button = h("button", { type: "button" }, number === null ? "All" : `Worker ${number}`);
      button.addEventListener("click", () => choose(number));
      return button;
    });
    byId("whose").replaceChildren(...buttons);
  }
  [...byId("whose").children].forEach((button, at) => {
    button.setAttribute("aria-pressed", String(wanted[at] === whose));
  });
}

function choose(number) {
  whose = number;
  stages.forget();
  recall();
}

// -- what was -----------------------------------------------------------------------------------
async function recall() {
  const asked = ++recalls;
  const query = whose === null ? "" : `?worker=${whose}`;
  try {
    for (let tries = 5; tries > 0 && procs.length; tries--) {
      const reply = await fetch(`/pipeline/history${query}`, { headers: bearer(adminKey()) });
      if (!reply.ok) return;
      const history = await reply.json();
      if (asked !== recalls) return; // another worker was chosen meanwhile
      const ours = history.procs.some((proc) => procs.includes(proc));
      past = new Past(ours ? history : { ...history, rows: [] });
      if (ours) tries = 0;
    }
    if (past) charts.show(past);
  } catch {
    // The feed says that the gateway is away.
  }
}

// -- is it well ---------------------------------------------------------------------------------
function showConnection(now) {
  if (now === "live" && connection !== "live") {
    recall();
    askForWorkflows();
  }
  connection = now;
  showHealth();
}

async function askReadiness() {
  if (document.hidden) return;
  try {
    const reply = await fetch("/readyz");
    components = (await reply.json()).components ?? {};
  } catch {
    components = {};
  }
  showHealth();
}

function showHealth() {
  const ill = Object.entries(components).filter(([, how]) => how !== "ok");
  let [word, kind] = [state || "connecting", state === "ready" ? "good" : "warn"];
  if (connection === "live" && ill.length) [word, kind] = ["degraded", "warn"];
  if (connection === "live" && stale) [word, kind] = ["a worker does not answer", "bad"];
  if (connection === "lost") [word, kind] = ["connection lost, trying again", "bad"];
  if (connection === "locked") [word, kind] = ["locked", "warn"];
  say(byId("health"), word);
  byId("health").dataset.state = kind;
  const pills = connection === "live" ? Object.entries(components) : [];
  const said = pills.map(([name, how]) => `${name} ${how.replace("_", " ")}`);
  if (byId("components").textContent !== said.join("")) {
    byId("components").replaceChildren(
      ...pills.map(([, how], at) => h("span", { className: "pill", "data-state": how === "ok" ? "good" : "bad" }, said[at])),
    );
  }
}

// -- workflows ----------------------------------------------------------------------------------
/** They are models that can be asked for; without any there is nothing to choose. */
async function askForWorkflows() {
  try {
    const reply = await fetch("/v1/models", { headers: bearer(chat.key()) });
    const names = (await reply.json()).data.map((one) => one.id).filter((id) => id.startsWith("workflow:"));
    byId("model-row").hidden = !names.length;
    if (byId("model").children.length === names.length + 1) return; // what has been chosen stays
    byId("model").replaceChildren(
      ...["", ...names].map((name) => h("option", { value: name }, name ? name.slice(9) : "the model")),
    );
  } catch {
    // Then there is no choice, and the model answers.
  }
}

// -- start --------------------------------------------------------------------------------------
function open() {
  connection = "connecting";
  procs = [];
  feed.restart();
}

byId("suggestions").replaceChildren(
  ...SUGGESTIONS.map((text) => {
    const button = h("button", { type: "button" }, text);
    button.addEventListener("click", () => chat.ask([{ role: "user", content: text }]));
    return button;
  }),
);
document.addEventListener("visibilitychange", () => document.hidden || recall());
setInterval(askReadiness, READY_MS);
askReadiness();
byId("key-row").addEventListener("submit", askForWorkflows);
open();
