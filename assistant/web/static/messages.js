// The view of one question or one answer in the transcript: its text, its state and its actions.
//
// Actions are passed to the `host`: paint(answer), quoted(answer), retry(answer), walk(view, step),
// edit(question, text), mayChange(), announce(text), actionsOf(answer). Its `quotes` is true while the documentation
// answers.

import { call } from "./api.js";
import { ICONS, copyButton, element, icon, iconButton, isComposing, isSending, wordButton } from "./dom.js";
import { MarkdownView } from "./markdown.js";
import { Sources } from "./sources.js";
import { t } from "./translation.js";
import { THOUGHT_ENDS, codeNodes, splitThought } from "./written.js";

const QUOTED = "documentation"; // the `model` of an answer that quotes the documentation

const ENDINGS = {
  stopped: "You stopped this answer.",
  interrupted: "The application stopped while writing this answer. The text so far is kept.",
  failed: "This answer failed.",
};

const LONGEST = 16; // lines of a question that are shown without folding it
const LINE = 64; // characters

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

let lastId = 0; // for the ids of what a button opens

/** Nodes for a text in which `code` stands between backticks. */
export function sentence(text) {
  return text.split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));
}

/** About how many lines a text takes in a bubble. Its layout is not asked for, which would cost too much. */
function linesOf(text) {
  return text.split("\n").reduce((sum, line) => sum + 1 + Math.floor(line.length / LINE), 0);
}

/** A short date and time. Hovering shows the full date. */
function timeOf(moment) {
  const time = new Date(moment);
  const day = DAY.format(time);
  const text = day === DAY.format(new Date()) ? CLOCK.format(time) : `${day}, ${CLOCK.format(time)}`;
  return element("time", { datetime: moment, title: FULL.format(time) }, text);
}

/** The common part of both views: the actions, with the arrows between versions. */
class MessageView {
  #versionText = "";

  constructor(message, name, host) {
    this.message = message; // as in the API; its id is null until it is stored
    this.host = host;
    this.actions = element("div", { class: "actions" });
    const changes = { class: "icon changes" };
    this.before = iconButton("Previous version", ICONS.before, () => this.#step(-1), changes);
    this.after = iconButton("Next version", ICONS.after, () => this.#step(1), changes);
    this.count = element("span");
    this.versions = element(
      "div",
      { class: "versions", role: "group", hidden: true },
      this.before,
      this.count,
      this.after,
    );
    this.node = element(
      "article",
      { class: `message ${name.toLowerCase()}`, "aria-label": name },
      element("h2", { class: "unseen" }, t(name)),
    );
  }

  /** Show that this is version `index` of `count`, counted from 0. */
  set version({ index, count }) {
    const text = `${index + 1} / ${count}`;
    if (this.#versionText === text) return;
    this.#versionText = text;
    this.versions.hidden = count < 2;
    this.versions.setAttribute("aria-label", `Version ${index + 1} of ${count}`);
    this.count.textContent = text;
    this.before.toggleAttribute("data-end", index === 0);
    this.after.toggleAttribute("data-end", index === count - 1);
    this.allow(this.reason);
  }

  /** Enable the actions that change the conversation, or disable them and say the `reason`. */
  allow(reason) {
    this.reason = reason;
    for (const button of this.actions.querySelectorAll(".changes")) {
      const isOff = Boolean(reason) || button.hasAttribute("data-end");
      // Not `disabled`, which would lose the focus and hide the reason.
      button.setAttribute("aria-disabled", String(isOff));
      button.title = reason || button.getAttribute("aria-label");
    }
  }

  #step(step) {
    if (!(step < 0 ? this.before : this.after).hasAttribute("data-end")) this.host.walk(this, step);
  }

  /** Focus the arrow that leads on, or at the end the one that leads back. */
  focusArrow(step) {
    const [arrow, other] = step < 0 ? [this.before, this.after] : [this.after, this.before];
    (arrow.hasAttribute("data-end") ? other : arrow).focus({ preventScroll: true });
  }
}

export class Question extends MessageView {
  constructor(message, host) {
    super(message, "Question", host);
    this.bubble = element("div", { class: "bubble", id: `tech-question-${(lastId += 1)}` });
    this.bubble.append(...codeNodes(message.content));
    this.fold = element("button", { type: "button", class: "fold", "aria-controls": this.bubble.id });
    this.fold.addEventListener("click", () => this.#fold(this.fold.ariaExpanded === "true"));
    this.fold.hidden = linesOf(message.content) <= LONGEST;
    if (!this.fold.hidden) this.#fold(true);
    this.change = iconButton("Edit question", ICONS.edit, () => host.mayChange() && this.edit(), {
      class: "icon changes",
    });
    this.actions.append(
      timeOf(message.created_at),
      copyButton(() => message.content, { label: "Copy question" }),
      this.change,
      this.versions,
    );
    this.node.append(this.bubble, this.fold, this.actions);
  }

  #fold(isFolded) {
    this.bubble.classList.toggle("folded", isFolded);
    this.bubble.scrollTop = 0; // the browser scrolls it when it finds text in it
    this.fold.ariaExpanded = String(!isFolded);
    this.fold.textContent = t(isFolded ? "Show all" : "Show less");
    if (isFolded && this.node.isConnected) this.node.scrollIntoView({ block: "nearest" });
  }

  /** Whether this view fits a message. If so, it takes the message as its own. */
  shows(message) {
    if (message !== this.message && (message.id === null || message.id !== this.message.id)) return false;
    this.message = message;
    return true;
  }

  /** Show an editor instead of the bubble. `reason` says why the text was refused before. */
  edit(text = this.message.content, reason = "") {
    if (this.editor) return;
    const fit = () => {
      box.style.height = "auto";
      box.style.height = `${box.scrollHeight}px`;
    };
    const box = element("textarea", { rows: "1", "aria-label": "Edit the question", input: fit }, text);
    const alert = element("p", { class: "reason", role: "alert", hidden: true });
    const cancel = element("button", { type: "button" }, t("Cancel"));
    const send = element("button", { type: "submit", class: "send" }, t("Send"));
    this.editor = element(
      "form",
      { class: "editor", "aria-label": "Edit the question" },
      box,
      alert,
      element("div", { class: "buttons" }, cancel, send),
    );
    const say = (reason) => {
      alert.replaceChildren(...sentence(reason));
      alert.hidden = reason === "";
    };
    const close = () => {
      this.editor.remove();
      this.editor = null;
      this.node.classList.remove("edited");
    };
    cancel.addEventListener("click", () => {
      close();
      this.change.focus();
    });
    box.addEventListener("keydown", (event) => {
      if (isComposing(event)) return;
      if (event.key === "Escape") cancel.click();
      else if (isSending(event)) this.editor.requestSubmit();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    this.editor.addEventListener("submit", (event) => {
      event.preventDefault();
      if (box.value.trim() === "") return say(t("The question is empty. Write something, or cancel."));
      const refusal = this.host.edit(this, box.value);
      say(refusal);
      if (refusal === "") close();
    });
    this.node.classList.add("edited");
    this.bubble.before(this.editor);
    fit();
    say(reason);
    box.focus();
    box.setSelectionRange(text.length, text.length);
  }
}

export class Answer extends MessageView {
  #content = ""; // all that the model has written, its thought too
  #tail = ""; // the end of that, which may be the beginning of a tag
  #unpainted = ""; // text that is painted with the next frame
  #frame = 0;
  #isWhole; // whether the next piece of text continues what is shown, or replaces it

  constructor(message, host) {
    super(message, "Answer", host);
    this.lastEvent = null;
    this.origin = element("p", { class: "origin" }, icon(ICONS.book), t("From the documentation"));
    this.thinking = element("summary");
    this.thought = element("pre");
    this.aside = element("details", { class: "thought", hidden: true }, this.thinking, this.thought);
    this.body = element("div", { class: "text" });
    this.sources = new Sources();
    this.note = element("div", { class: "note" });
    this.node.append(this.origin, this.aside, this.body, this.sources.node, this.note, this.actions);
    this.view = new MarkdownView(this.body, { cite: (number) => this.sources.cite(number) });
    this.#isWhole = message.id === null;
    this.#setSources(message.sources);
    this.#show(message.status);
    if (message.content) this.#set(message.content);
    this.#paintOrigin();
    if (!this.isOpen) this.#end(message.finish_reason, message.error);
  }

  get isOpen() {
    return this.status === "pending" || this.status === "streaming";
  }

  /** Whether this view fits a message and its state. If so, it takes the message as its own. */
  shows(message) {
    if (message !== this.message) {
      if (message.id === null || message.id !== this.message.id) return false;
      const isOpen = message.status === "pending" || message.status === "streaming";
      if (isOpen !== this.isOpen) return false;
      this.message = message;
      if (!isOpen) {
        this.#setSources(message.sources);
        this.#paintOrigin();
      }
    }
    return true;
  }

  /** Take one event of the reply's stream. Unknown events are ignored. */
  take({ name, data, id }) {
    this.lastEvent = id ?? this.lastEvent;
    switch (name) {
      case "waiting":
        this.mention(queueText(data.before));
        this.host.announce(this.note.textContent);
        return;
      case "sources":
        this.#setSources(data.sources);
        return;
      case "delta":
        if (this.#isWhole) {
          this.#unpainted += data.text;
          this.#frame ||= requestAnimationFrame(() => this.#paint());
          break;
        }
      // The stream replaces the text that the page was opened with.
      case "reset":
        this.#isWhole = true;
        this.#unpainted = "";
        if (data.text !== this.#content) this.#set(data.text);
        this.host.paint(this);
        break;
      case "done":
        this.settle(data.status, data.finish_reason, data);
        return;
      case "error":
        this.settle("failed", null, data);
        return;
      default:
        return;
    }
    if (this.status === "streaming") return;
    this.mention("");
    this.#show("streaming");
  }

  #setSources(sources = []) {
    if (this.sources.set(sources) && this.view.source !== "") this.view.set(this.view.source);
  }

  /** Label an answer from the documentation. Without provenance, assume that whoever answers now wrote it. */
  #paintOrigin() {
    const { model } = this.message.provenance ?? {};
    this.origin.hidden = model ? model !== QUOTED : !(this.isOpen && this.host.quotes);
    this.#paintSources();
  }

  /** Show the sources that a complete answer links to, cites or quotes. */
  #paintSources() {
    if (this.isOpen) return; // the sources of a growing answer would move with each line
    const linked = new Set(Array.from(this.body.querySelectorAll("a.cite"), ({ dataset }) => Number(dataset.number)));
    const hasText = this.status !== "failed" && this.view.source.trim() !== "";
    this.sources.show((number, isCited) => hasText && (isCited || linked.has(number)));
  }

  /** Show another text than before. */
  #set(content) {
    this.#content = content;
    this.#tail = content.slice(-10);
    this.#split();
  }

  /** Show the thought apart from the answer. */
  #split() {
    const { thought, answer, isThinking } = splitThought(this.#content, !this.isOpen);
    this.aside.hidden = thought === "";
    this.thinking.textContent = t(isThinking && this.isOpen ? "Thinking…" : "Thought");
    const shown = this.thought.textContent;
    // Adding to the text keeps a selection in it.
    if (thought.startsWith(shown)) this.thought.append(thought.slice(shown.length));
    else this.thought.textContent = thought;
    const { source } = this.view;
    if (!answer.startsWith(source)) this.view.set(answer);
    else if (answer !== source) this.view.append(answer.slice(source.length));
  }

  /** The provenance, which the stream does not carry. */
  async #provenance() {
    this.message.provenance ??= (await call("GET", `/replies/${this.message.id}`)).provenance;
    return this.message.provenance;
  }

  #paint() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (this.#unpainted === "") return;
    const end = this.#tail + this.#unpainted;
    this.#tail = end.slice(-10);
    this.#content += this.#unpainted;
    if (this.view.source === "" || THOUGHT_ENDS.test(end)) this.#split();
    else this.view.append(this.#unpainted);
    this.#unpainted = "";
    this.host.paint(this);
  }

  #show(status) {
    if (this.status === status) return;
    this.status = status;
    this.node.dataset.status = status;
    this.node.setAttribute("aria-busy", String(this.isOpen));
  }

  /** Show the end of an answer that was followed. */
  settle(status, finishReason, error) {
    this.#paint();
    this.#show(status);
    const content = this.#content;
    // Only the application knows the provenance, and only now.
    Object.assign(this.message, { status, content, finish_reason: finishReason, error, provenance: null });
    this.#end(finishReason, error, status === "failed" ? "alert" : null);
    this.host.paint(this);
    const wasLabelled = !this.origin.hidden;
    if (wasLabelled) this.host.quoted(this);
    // The label was an assumption until now.
    this.#provenance().then(
      () => {
        this.#paintOrigin();
        if (!wasLabelled && !this.origin.hidden) this.host.quoted(this);
      },
      () => {}, // unknown: keep the assumption
    );
  }

  /** Say how the answer ended, and offer the actions that fit. */
  #end(finishReason, error, role = null) {
    const { status } = this;
    if (this.view.source === "") this.#split(); // no end of the thought comes any more
    this.view.finish();
    this.#paintSources();
    const isEmpty = this.view.source.trim() === "";
    let text = error?.message ?? t(ENDINGS[status] ?? "");
    if (status === "done" && finishReason === "length")
      text = t("The answer ends here because it reached the length limit.");
    else if (status === "done" && isEmpty) text = t("The model gave an empty answer.");
    const isWhole = status === "done" && !isEmpty;
    const again = () => this.host.mayChange() && this.host.retry(this);
    this.note.replaceChildren();
    if (text) this.note.append(element("p", { role }, ...sentence(text)));
    if (!isWhole) this.note.append(wordButton("Retry", ICONS.retry, again));
    this.actions.replaceChildren();
    const whole = () => [this.view.source.trimEnd(), this.sources.markdown].filter(Boolean).join("\n\n");
    if (!isEmpty) this.actions.append(copyButton(whole, { label: "Copy answer" }));
    if (isWhole)
      this.actions.append(iconButton("Regenerate", ICONS.retry, again, { class: "icon changes" }));
    this.actions.append(this.versions, ...this.host.actionsOf(this));
    this.allow(this.reason);
  }

  /** A button, and the line that it opens: time, model, tokens and seconds. */
  details() {
    const line = element("div", { class: "details", id: `tech-details-${(lastId += 1)}`, hidden: true });
    const toggle = async () => {
      line.hidden = !line.hidden;
      button.ariaExpanded = String(!line.hidden);
      if (line.hidden || line.hasChildNodes()) return;
      line.append(timeOf(this.message.created_at));
      const end = this.#provenance().then(provenanceText, (problem) => [` · ${problem.message}`]);
      line.append(...(await end));
    };
    const expands = { "aria-expanded": "false", "aria-controls": line.id };
    const button = iconButton("Details", ICONS.details, toggle, expands);
    return [button, line];
  }

  /** Show a note beneath an unfinished answer, such as a lost connection. "" removes it. */
  mention(text) {
    if (this.isOpen) this.note.replaceChildren(...(text ? [element("p", {}, text)] : []));
  }
}

function queueText(before) {
  if (!(before > 0)) return "";
  return `Waiting in the queue: ${before === 1 ? "1 answer is" : `${before} answers are`} ahead.`;
}

/** The end of a line with a reply's provenance. */
function provenanceText(provenance) {
  const { revision, tokens, seconds } = provenance ?? {};
  const model = provenance?.model === QUOTED ? `Documentation of ${revision}` : provenance?.model;
  const took = Number.isFinite(seconds) ? `${seconds.toFixed(1)} s` : null;
  const count = Number.isFinite(tokens?.answer)
    ? `${tokens.answer} ${tokens.answer === 1 ? "token" : "tokens"}`
    : null;
  const work = count && took ? `${count} in ${took}` : (count ?? took);
  return [model, work].filter(Boolean).map((text) => ` · ${text}`);
}
