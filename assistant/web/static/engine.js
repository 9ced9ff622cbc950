// The state of the engine, the documentation and the download, from `GET /api/engine`.
//
// The `host` has changed() and announce(text). It places `notice`, which says why no question can be asked, or why
// documentation answers instead of the model; engine_panel.js shows the rest. For a host that `isPatient`, the state
// is not asked for again while questions can be asked.

import { call } from "./api.js";
import { element } from "./dom.js";
import { sentence } from "./messages.js";

// ms between two requests, by state
const INTERVALS = { ready: 10_000, fetching: 1000, loading: 1000, none: 5000, failed: 3000, away: 2000 };
const SHORT_INTERVAL = 1000; // ms, during a download or while the documentation is read
const MEANWHILE = "Until it is back, answers come from the documentation on this machine.";

export class Engine {
  #status = { state: "loading", model: null, detail: null }; // the last answer of the API
  #timer = 0;
  #isWatched = false;

  constructor(host) {
    this.host = host;
    this.isKnown = false; // whether the API has answered once
    this.notice = element("div", { class: "notice", role: "status", hidden: true });
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

  /** The last answer of the API. */
  get status() {
    return this.#status;
  }

  /** Why there is no model, in words. */
  get failure() {
    return this.#status.detail ?? "The model could not be fetched.";
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
    this.#paintNotice();
    if (this.isKnown) this.#announceChange(before);
    this.isKnown = true;
    this.host.changed();
    clearTimeout(this.#timer);
    const isBusy = status.download?.state === "running" || status.documentation?.state === "building";
    const isSettled = this.host.isPatient && this.reason === "" && status.state !== "away";
    const interval = isBusy ? SHORT_INTERVAL : isSettled ? 0 : INTERVALS[status.state];
    if (interval && !document.hidden) this.#timer = setTimeout(() => this.update(), interval);
  }

  /** Announce to screen readers what has changed without the reader's doing. */
  #announceChange(before) {
    const { state, model, download, documentation } = this.#status;
    const wasWaiting = ["none", "fetching", "loading", "failed"].includes(before.state);
    if (state === "ready" && wasWaiting) this.host.announce(`Answered by ${model ?? "an unnamed model"}.`);
    if (download?.state === "failed" && before.download?.state === "running")
      this.host.announce(this.failure);
    if (documentation?.state === "ready" && before.documentation?.state === "building" && this.quotes)
      this.host.announce("The documentation has been read.");
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
}
