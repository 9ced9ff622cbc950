// The state of the engine, the documentation and the download, from `GET /api/engine`, and its view.
//
// The view has two nodes, which the `host` places: `node` says what answers, with progress bars and a button;
// `notice` says why no question can be asked, or why documentation answers instead of the model. The host has
// changed(), announce(text) and alert(text).

import { call } from "./api.js";
import { element, whenPressed } from "./dom.js";
import { sentence } from "./messages.js";

// ms between two requests, by state
const INTERVALS = { ready: 10_000, fetching: 1000, loading: 1000, none: 5000, failed: 3000, away: 2000 };
const SHORT_INTERVAL = 1000; // ms, during a download or while the documentation is read
const QUOTES = ["Answers from the documentation on this machine", "; no language model is loaded."];
const MEANWHILE = "Until it is back, answers come from the documentation on this machine.";
const RATE_WINDOW = 30_000; // ms over which the speed of a download is measured
const RATE_LEAST = 3000; // ms after which the speed is shown

export class Engine {
  #status = { state: "loading", model: null, detail: null }; // the last answer of the API
  #timer = 0;
  #isWatched = false;
  #hasWaited = false; // whether the reader saw that there was no model yet
  #received = []; // pairs of time and bytes received, of the download

  constructor(host) {
    this.host = host;
    this.isKnown = false; // whether the API has answered once
    this.line = element("p", { class: "line" });
    this.advice = element("p", { class: "advice", id: "tech-advice", hidden: true });
    const expands = { "aria-controls": this.advice.id, "aria-expanded": "false", hidden: true };
    const click = () => {
      this.advice.hidden = !this.advice.hidden;
      this.how.ariaExpanded = String(!this.advice.hidden);
    };
    this.how = element("button", { type: "button", class: "how", ...expands, click }, "How to load one");
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
    whenPressed(this.button, () => this.#act());
  }

  // ---- state

  /** Why no question can be asked now, or "". */
  get reason() {
    const { state, detail, answers } = this.#status;
    if (answers === "documentation") return "";
    if (state === "none") return detail ?? "No model is loaded.";
    if (state === "fetching") return detail ?? "The model is still being fetched. Ask when it is ready.";
    return state === "failed" ? (detail ?? "The engine failed.") : "";
  }

  /** Whether the documentation answers, because there is no model. */
  get quotes() {
    return this.#status.answers === "documentation";
  }

  /** Whether the documentation answers instead of a model that has failed or is restarting. */
  get isLost() {
    return this.quotes && ["failed", "loading"].includes(this.#status.state);
  }

  /** Whether a question must wait until the documentation has been read. */
  get isReading() {
    return this.quotes && this.#status.documentation?.state === "building";
  }

  /** Whether a model answers that can be given documentation. */
  get canGround() {
    const { answers, documentation } = this.#status;
    return answers === "model" && ["ready", "building"].includes(documentation?.state);
  }

  get model() {
    return this.#status.model;
  }

  /** The licence {id, name, url} that the reader must accept before asking the model, or null. */
  get licence() {
    const { answers, licence } = this.#status;
    return answers === "model" && licence && !licence.accepted ? licence : null;
  }

  /** Record that the reader accepts a licence. Throws `Problem`. */
  async accept({ id }) {
    await call("PUT", `/licences/${encodeURIComponent(id)}`);
    if (this.#status.licence?.id === id) this.#status.licence.accepted = true;
  }

  // ---- watching

  watch() {
    this.#isWatched = true;
    this.update();
  }

  leave() {
    this.#isWatched = false;
    clearTimeout(this.#timer);
  }

  /** Ask the API for the state, and schedule the next request. */
  async update() {
    clearTimeout(this.#timer);
    const before = this.#status;
    let status;
    try {
      status = await call("GET", "/engine");
    } catch (problem) {
      status = { state: "away", model: null, detail: problem.message, answers: before.answers };
    }
    if (!this.#isWatched) return;
    this.#status = status;
    this.#measure();
    this.paint();
    if (this.isKnown) this.#announceChange(before);
    this.isKnown = true;
    this.host.changed();
    clearTimeout(this.#timer);
    const isBusy = status.download?.state === "running" || status.documentation?.state === "building";
    const interval = isBusy ? SHORT_INTERVAL : INTERVALS[status.state];
    if (interval && !document.hidden) this.#timer = setTimeout(() => this.update(), interval);
  }

  /** Announce to screen readers what has changed without the reader's doing. */
  #announceChange(before) {
    const { state, model, download, documentation } = this.#status;
    const wasWaiting = ["none", "fetching", "loading", "failed"].includes(before.state);
    if (state === "ready" && wasWaiting) this.host.announce(`Answered by ${model ?? "an unnamed model"}.`);
    if (download?.state === "failed" && before.download?.state === "running")
      this.host.announce(this.#failure);
    if (documentation?.state === "ready" && before.documentation?.state === "building" && this.quotes)
      this.host.announce("The documentation has been read.");
  }

  // ---- view

  paint() {
    const { state, model, detail, download } = this.#status;
    this.#hasWaited ||= state === "fetching" || state === "loading" || this.quotes;
    const isReady = state === "ready";
    this.node.dataset.state = isReady && !this.#hasWaited ? "ready" : this.quotes ? "quotes" : state;
    const name = element("b", {}, model ?? "an unnamed model");
    if (isReady) write(this.line, "Answered by ", name);
    else if (this.isLost) write(this.line, ""); // `notice` says it
    else if (this.quotes) write(this.line, QUOTES[0], element("span", { class: "rest" }, QUOTES[1]));
    else write(this.line, state === "loading" ? (detail ?? "The model is loading.") : "");
    const advice = this.quotes && !this.isLost && !download && detail ? detail : "";
    this.how.hidden = advice === "";
    write(this.advice, ...sentence(advice));
    if (advice === "") this.advice.hidden = true;
    this.#paintReading();
    this.#paintDownload(download);
    this.#paintNotice();
  }

  #paintNotice() {
    const { state, detail, download } = this.#status;
    const showsDownload = download?.state === "running" || download?.state === "failed";
    let text = state === "away" ? detail : state === "fetching" && showsDownload ? "" : this.reason;
    if (state === "none" && download?.state === "failed") text = "";
    if (this.isLost) text = `${detail ?? "The model cannot be reached."} ${MEANWHILE}`;
    this.notice.classList.toggle("lost", this.isLost);
    if (this.notice.dataset.text === text) return;
    this.notice.dataset.text = text;
    this.notice.replaceChildren(...sentence(text));
    this.notice.hidden = text === "";
  }

  #paintReading() {
    const { node } = this.reading;
    const { state, done = 0, total = 0, detail } = this.#status.documentation ?? {};
    node.hidden = state !== "building" && !detail;
    this.node.dataset.reading = state ?? "off";
    if (node.hidden) return;
    if (state !== "building") this.reading.show(detail, null);
    else this.reading.show("Reading the documentation", total > 0 ? done / total : null);
  }

  #paintDownload(download) {
    const { node } = this.download;
    this.node.dataset.download = download?.state ?? "none";
    const action = { running: "Don’t fetch", failed: "Try again" }[download?.state];
    // A reader who may not decide sees only a download that is running or has failed.
    const isIdle = ["offered", "declined"].includes(download?.state) && !download.may_change;
    node.hidden = !download || isIdle;
    if (node.hidden) return;
    const size = sizeOf(download.bytes);
    const what = `${download.model} (${[size, download.licence].filter(Boolean).join(", ")})`;
    const part = download.bytes > 0 ? download.received / download.bytes : null;
    const text = {
      offered: `${what} can be fetched from Hugging Face to answer questions.`,
      running: `Fetching ${what} from Hugging Face`,
      declined: `${what} is not fetched.`,
      failed: this.#failure,
    }[download.state];
    const isRunning = download.state === "running";
    this.download.show(text, isRunning ? part : null, isRunning ? this.#left : "");
    this.button.hidden = !download.may_change;
    write(this.button, action ?? (size ? `Fetch it (${size})` : "Fetch it"));
  }

  get #failure() {
    return this.#status.detail ?? "The model could not be fetched.";
  }

  // ---- the download

  #measure() {
    const { download } = this.#status;
    if (download?.state !== "running") {
      this.#received = [];
      return;
    }
    const now = performance.now();
    this.#received.push([now, download.received]);
    while (now - this.#received[0][0] > RATE_WINDOW) this.#received.shift();
  }

  /** The remaining time of the download as text, or "" while it is unknown. */
  get #left() {
    const [[since, before] = [0, 0]] = this.#received;
    const [now, received] = this.#received.at(-1) ?? [0, 0];
    const { bytes } = this.#status.download; // null until the hub has answered
    if (!(bytes > 0) || now - since < RATE_LEAST || received <= before) return "";
    const seconds = ((bytes - received) * (now - since)) / 1000 / (received - before);
    if (seconds < 60) return "less than a minute left";
    const [count, unit] = seconds < 5400 ? [seconds / 60, "minute"] : [seconds / 3600, "hour"];
    return `about ${Math.round(count)} ${unit}${Math.round(count) === 1 ? "" : "s"} left`;
  }

  /** Start or stop the download. */
  async #act() {
    const { state } = this.#status.download;
    this.host.alert("");
    try {
      await call(state === "running" ? "DELETE" : "POST", "/engine/download");
    } catch (problem) {
      this.host.alert(problem.message);
    }
    await this.update();
  }
}

/** A sentence with a progress bar under it. The bar is hidden while the progress is unknown. */
function progress(name, label) {
  const text = element("span", { class: "words" });
  const left = element("span", { class: "left" });
  const bar = element(
    "div",
    { class: "bar", role: "progressbar", "aria-label": label, hidden: true },
    element("span"),
  );
  const node = element("div", { class: `progress ${name}`, hidden: true }, text, left, bar);
  const show = (what, part, more = "") => {
    const percent = part === null ? null : Math.min(100, Math.floor(part * 100));
    write(text, ...sentence(percent === null ? what : `${what}: ${percent} %`));
    write(left, more);
    left.hidden = more === "";
    bar.hidden = percent === null;
    if (percent === null) return;
    bar.setAttribute("aria-valuenow", percent);
    bar.firstChild.style.width = `${percent}%`;
  };
  return { node, show };
}

/** Set an element's content. The same content is not set again, so that a selection in it is kept. */
function write(node, ...content) {
  const span = element("span", {}, ...content);
  if (span.innerHTML !== node.innerHTML) node.replaceChildren(...span.childNodes);
}

function sizeOf(bytes) {
  if (!(bytes > 0)) return "";
  return bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}
