// What answers now, with the progress of the documentation and of the download, and the button of the download.

import { call } from "./api.js";
import { element, whenPressed } from "./dom.js";
import { sentence } from "./messages.js";

const QUOTES = ["Answers from the documentation on this machine", "; no language model is loaded."];
const RATE_WINDOW = 30_000; // ms over which the speed of a download is measured
const RATE_LEAST = 3000; // ms after which the speed is shown

export class EnginePanel {
  #engine;
  #alert;
  #hasWaited = false; // whether the reader saw that there was no model yet
  #received = []; // pairs of time and bytes received, of the download

  /** `alert(text)` shows why the download could not be changed; "" removes it. */
  constructor(engine, alert) {
    this.#engine = engine;
    this.#alert = alert;
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
    whenPressed(this.button, () => this.#act());
  }

  paint() {
    this.#measure();
    const { state, model, detail, download } = this.#engine.status;
    this.#hasWaited ||= state === "fetching" || state === "loading" || this.#engine.quotes;
    const isReady = state === "ready";
    this.node.dataset.state = isReady && !this.#hasWaited ? "ready" : this.#engine.quotes ? "quotes" : state;
    const name = element("b", {}, model ?? "an unnamed model");
    if (isReady) write(this.line, "Answered by ", name);
    else if (this.#engine.isLost) write(this.line, ""); // `notice` says it
    else if (this.#engine.quotes) write(this.line, QUOTES[0], element("span", { class: "rest" }, QUOTES[1]));
    else write(this.line, state === "loading" ? (detail ?? "The model is loading.") : "");
    const advice = this.#engine.quotes && !this.#engine.isLost && !download && detail ? detail : "";
    this.how.hidden = advice === "";
    write(this.advice, ...sentence(advice));
    if (advice === "") this.advice.hidden = true;
    this.#paintReading();
    this.#paintDownload(download);
  }

  #paintReading() {
    const { node } = this.reading;
    const { state, done = 0, total = 0, detail } = this.#engine.status.documentation ?? {};
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
      failed: this.#engine.failure,
    }[download.state];
    const isRunning = download.state === "running";
    this.download.show(text, isRunning ? part : null, isRunning ? this.#left : "");
    this.button.hidden = !download.may_change;
    write(this.button, action ?? (size ? `Fetch it (${size})` : "Fetch it"));
  }

  // ---- the download

  #measure() {
    const { download } = this.#engine.status;
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
    const { bytes } = this.#engine.status.download; // null until the hub has answered
    if (!(bytes > 0) || now - since < RATE_LEAST || received <= before) return "";
    const seconds = ((bytes - received) * (now - since)) / 1000 / (received - before);
    if (seconds < 60) return "less than a minute left";
    const [count, unit] = seconds < 5400 ? [seconds / 60, "minute"] : [seconds / 3600, "hour"];
    return `about ${Math.round(count)} ${unit}${Math.round(count) === 1 ? "" : "s"} left`;
  }

  /** Start or stop the download. */
  async #act() {
    const { state } = this.#engine.status.download;
    this.#alert("");
    try {
      await call(state === "running" ? "DELETE" : "POST", "/engine/download");
    } catch (problem) {
      this.#alert(problem.message);
    }
    await this.#engine.update();
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
