// Who answers: the engine, its model, the documentation and what is being fetched, watched and put in words.
//
// Knows `GET /api/engine`, when to ask it again, and what people can do about what it says; refuses to know
// the conversation. Its parts stand where the owner puts them: `node`, a quiet account with a progress and a
// button, and `notice`, why nothing can be asked, or why the documentation answers for the model. The `owner` hears changed(), say(words), alert(words).

import { call } from "./api.js";
import { element, whenPressed } from "./dom.js";
import { sentence } from "./messages.js";

// ms, by state
const LOOK_AGAIN = { ready: 10_000, fetching: 1000, loading: 1000, none: 5000, failed: 3000, away: 2000 };
const SOON = 1000; // ms, while something goes on
const QUOTES = ["Answers from the documentation on this machine", "; no language model is loaded."];
const MEANWHILE = "Until it is back, answers come from the documentation on this machine.";
const RATE_WINDOW = 30_000; // ms over which the speed of a download is measured
const RATE_LEAST = 3000; // ms after which it can be told

export class Engine {
  #said = { state: "loading", model: null, detail: null };
  #timer = 0;
  #isWatched = false;
  #hasWaited = false; // whether somebody saw that no model was there yet
  #received = []; // of the download: [when, bytes]

  constructor(owner) {
    this.owner = owner;
    this.isKnown = false; // whether it was asked once
    this.line = element("p", { class: "line" });
    this.how = element("button", { type: "button", class: "how", "aria-expanded": "false", hidden: true });
    this.how.textContent = "How to load one";
    this.advice = element("p", { class: "advice", id: "tech-advice", hidden: true });
    this.how.setAttribute("aria-controls", this.advice.id);
    this.reading = progress("reading", "The documentation is being read");
    this.download = progress("download", "The model is being fetched");
    this.button = element("button", { type: "button", hidden: true });
    this.download.node.append(this.button);
    this.node = element(
      "div",
      { class: "engine" },
      element("div", { class: "who" }, this.line, this.how),
      this.advice,
      this.reading.node,
      this.download.node,
    );
    this.notice = element("div", { class: "notice", role: "status", hidden: true });
    this.how.addEventListener("click", () => {
      this.advice.hidden = !this.advice.hidden;
      this.how.setAttribute("aria-expanded", String(!this.advice.hidden));
    });
    whenPressed(this.button, () => this.#act());
  }

  // ---- what it says

  /** Why nothing can be asked just now, in words; "" when it can. */
  get reason() {
    const { state, detail, answers } = this.#said;
    if (answers === "documentation") return "";
    if (state === "none") return detail ?? "No model is loaded.";
    if (state === "fetching") return detail ?? "The model is still being fetched. Ask when it is here.";
    return state === "failed" ? (detail ?? "The engine failed.") : "";
  }

  /** Whether the documentation answers, since there is no model. */
  get quotes() {
    return this.#said.answers === "documentation";
  }

  /** Whether it answers for a model that has failed, or is started again. */
  get isLost() {
    return this.quotes && ["failed", "loading"].includes(this.#said.state);
  }

  /** Whether a question that is asked now waits until the documentation was read. */
  get isReading() {
    return this.quotes && this.#said.documentation?.state === "building";
  }

  /** Whether a model answers that can be given documentation to read. */
  get canGround() {
    const { answers, documentation } = this.#said;
    return answers === "model" && ["ready", "building"].includes(documentation?.state);
  }

  get model() {
    return this.#said.model;
  }

  /** The licence that has to be accepted before the model is asked: {id, name, url}, null for none. */
  get licence() {
    const { answers, licence } = this.#said;
    return answers === "model" && licence && !licence.accepted ? licence : null;
  }

  /** Record that the reader accepts it. Throws `Problem`. */
  async accept({ id }) {
    await call("PUT", `/licences/${encodeURIComponent(id)}`);
    if (this.#said.licence?.id === id) this.#said.licence.accepted = true;
  }

  // ---- watching

  watch() {
    this.#isWatched = true;
    this.look();
  }

  leave() {
    this.#isWatched = false;
    clearTimeout(this.#timer);
  }

  async look() {
    clearTimeout(this.#timer);
    const before = this.#said;
    let said;
    try {
      said = await call("GET", "/engine");
    } catch (problem) {
      said = { state: "away", model: null, detail: problem.message, answers: before.answers };
    }
    if (!this.#isWatched) return;
    this.#said = said;
    this.#measure();
    this.paint();
    if (this.isKnown) this.#tell(before);
    this.isKnown = true;
    this.owner.changed();
    clearTimeout(this.#timer);
    const goesOn = said.download?.state === "running" || said.documentation?.state === "building";
    const again = goesOn ? SOON : LOOK_AGAIN[said.state];
    if (again && !document.hidden) this.#timer = setTimeout(() => this.look(), again);
  }

  /** Tell a screen reader what has changed by itself. */
  #tell(before) {
    const { state, model, download, documentation } = this.#said;
    const wasWaiting = ["none", "fetching", "loading", "failed"].includes(before.state);
    if (state === "ready" && wasWaiting) this.owner.say(`Answered by ${model ?? "an unnamed model"}.`);
    if (download?.state === "failed" && before.download?.state === "running") this.owner.say(this.#failure);
    if (documentation?.state === "ready" && before.documentation?.state === "building") {
      if (this.quotes) this.owner.say("The documentation is read.");
    }
  }

  // ---- words

  paint() {
    const { state, model, detail, download, documentation } = this.#said;
    this.#hasWaited ||= state === "fetching" || state === "loading" || this.quotes;
    const isReady = state === "ready";
    this.node.dataset.state = isReady && !this.#hasWaited ? "ready" : this.quotes ? "quotes" : state;
    const name = element("b", {}, model ?? "an unnamed model");
    if (isReady) write(this.line, "Answered by ", name);
    else if (this.isLost) write(this.line, ""); // the notice says it
    else if (this.quotes) write(this.line, QUOTES[0], element("span", { class: "rest" }, QUOTES[1]));
    else write(this.line, state === "loading" ? (detail ?? "The model is loading.") : "");
    const advice = this.quotes && !this.isLost && !download && detail ? detail : "";
    this.how.hidden = advice === "";
    write(this.advice, ...sentence(advice));
    if (advice === "") this.advice.hidden = true;
    this.#paintReading(documentation);
    this.#paintDownload(download);
    this.#paintNotice();
  }

  #paintNotice() {
    const { state, detail, download } = this.#said;
    const told = download?.state === "running" || download?.state === "failed";
    let words = state === "away" ? detail : state === "fetching" && told ? "" : this.reason;
    if (state === "none" && download?.state === "failed") words = "";
    if (this.isLost) words = `${detail ?? "The model cannot be reached."} ${MEANWHILE}`;
    this.notice.classList.toggle("lost", this.isLost);
    if (this.notice.dataset.words === words) return;
    this.notice.dataset.words = words;
    this.notice.replaceChildren(...sentence(words));
    this.notice.hidden = words === "";
  }

  #paintReading(documentation) {
    const { node } = this.reading;
    const { state, done = 0, total = 0, detail } = documentation ?? {};
    node.hidden = state !== "building" && !(state === "failed" && detail);
    this.node.dataset.reading = state ?? "off";
    if (node.hidden) return;
    if (state === "failed") this.reading.show(detail, null);
    else this.reading.show("Reading the documentation", total > 0 ? done / total : null);
  }

  #paintDownload(download) {
    const { node } = this.download;
    this.node.dataset.download = download?.state ?? "none";
    const act = { running: "Don’t fetch", failed: "Try again" }[download?.state];
    // What somebody else decides is told once it is decided.
    const isIdle = ["offered", "declined"].includes(download?.state) && !download.may_change;
    node.hidden = !download || isIdle;
    if (node.hidden) return;
    const size = sizeOf(download.bytes);
    const what = `${download.model} (${[size, download.licence].filter(Boolean).join(", ")})`;
    const part = download.bytes > 0 ? download.received / download.bytes : null;
    const words = {
      offered: `${what} can be fetched from Hugging Face, to answer in its own words.`,
      running: `Fetching ${what} from Hugging Face`,
      declined: `${what} is not fetched.`,
      failed: this.#failure,
    }[download.state];
    const isRunning = download.state === "running";
    this.download.show(words, isRunning ? part : null, isRunning ? this.#left : "");
    this.button.hidden = !download.may_change;
    write(this.button, act ?? (size ? `Fetch it (${size})` : "Fetch it"));
  }

  get #failure() {
    return this.#said.detail ?? "The model could not be fetched.";
  }

  // ---- the download

  #measure() {
    const { download } = this.#said;
    if (download?.state !== "running") {
      this.#received = [];
      return;
    }
    const now = performance.now();
    this.#received.push([now, download.received]);
    while (now - this.#received[0][0] > RATE_WINDOW) this.#received.shift();
  }

  /** How long the download will take, in words; "" while that cannot be told. */
  get #left() {
    const [[since, before] = [0, 0]] = this.#received;
    const [now, received] = this.#received.at(-1) ?? [0, 0];
    const { bytes } = this.#said.download; // null until the hub has told it
    if (!(bytes > 0) || now - since < RATE_LEAST || received <= before) return "";
    const seconds = ((bytes - received) * (now - since)) / 1000 / (received - before);
    if (seconds < 60) return "less than a minute left";
    const [count, unit] = seconds < 5400 ? [seconds / 60, "minute"] : [seconds / 3600, "hour"];
    return `about ${Math.round(count)} ${unit}${Math.round(count) === 1 ? "" : "s"} left`;
  }

  /** Fetch the model, or do not. */
  async #act() {
    const { state } = this.#said.download;
    this.owner.alert("");
    try {
      await call(state === "running" ? "DELETE" : "POST", "/engine/download");
    } catch (problem) {
      this.owner.alert(problem.message);
    }
    await this.look();
  }
}

/** A sentence with a thin bar under it; the bar is gone when nothing is known of a part. */
function progress(name, label) {
  const words = element("span", { class: "words" });
  const left = element("span", { class: "left" });
  const bar = element(
    "div",
    { class: "bar", role: "progressbar", "aria-label": label, hidden: true },
    element("span"),
  );
  const node = element("div", { class: `progress ${name}`, hidden: true }, words, left, bar);
  const show = (sentenceOf, part, more = "") => {
    const percent = part === null ? null : Math.min(100, Math.floor(part * 100));
    write(words, ...sentence(percent === null ? sentenceOf : `${sentenceOf}: ${percent} %`));
    write(left, more);
    left.hidden = more === "";
    bar.hidden = percent === null;
    if (percent === null) return;
    bar.setAttribute("aria-valuenow", percent);
    bar.firstChild.style.width = `${percent}%`;
  };
  return { node, show };
}

/** Put words in an element, unless they stand there already: what is selected stays selected. */
function write(node, ...words) {
  const made = element("span", {}, ...words);
  if (made.innerHTML !== node.innerHTML) node.replaceChildren(...made.childNodes);
}

function sizeOf(bytes) {
  if (!(bytes > 0)) return "";
  return bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}
