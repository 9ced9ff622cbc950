// One question or one answer of the transcript: its text, its actions, its state.
//
// Knows how a message is shown and what can be done with it; refuses to know what stands around it. What a
// person wants goes to the `owner`: paint(answer), quoted(answer), retry(answer), walk(part, step),
// edit(question, text), mayChange(), say(words); `quotes` says whether the documentation answers just now.

import { call } from "./api.js";
import { ICONS, copyButton, element, icon, iconButton, wordButton } from "./dom.js";
import { MarkdownView } from "./markdown.js";
import { Sources } from "./sources.js";

const QUOTED = "documentation"; // the model of an answer that quotes, and was written by none

const ENDINGS = {
  stopped: "You stopped this answer.",
  interrupted: "The application ended while this answer was being written. What had come is kept.",
  failed: "This answer failed.",
};

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

let lastName = 0; // for ids, by which a button names what it opens

/** Text with `code` between backticks. */
export function sentence(text) {
  return text.split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));
}

/** A moment as people write it; the whole date is shown when the pointer rests on it. */
function timeOf(moment) {
  const time = new Date(moment);
  const day = DAY.format(time);
  const words = day === DAY.format(new Date()) ? CLOCK.format(time) : `${day}, ${CLOCK.format(time)}`;
  return element("time", { datetime: moment, title: FULL.format(time) }, words);
}

/** What both have in common: a place in the tree, and a row of actions. */
class Part {
  #place = "";

  constructor(message, name, owner) {
    this.message = message; // as the API has it; its id is null while it is on its way
    this.owner = owner;
    this.actions = element("div", { class: "actions" });
    this.before = iconButton("Version before this one", ICONS.before, () => this.#step(-1), {
      class: "icon changes",
    });
    this.after = iconButton("Version after this one", ICONS.after, () => this.#step(1), {
      class: "icon changes",
    });
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
      element("h2", { class: "unseen" }, name),
    );
  }

  /** That it is version `index` of `count`, counted from 0. */
  set place({ index, count }) {
    const words = `${index + 1} / ${count}`;
    if (this.#place === words) return;
    this.#place = words;
    this.versions.hidden = count < 2;
    this.versions.setAttribute("aria-label", `Version ${index + 1} of ${count}`);
    this.count.textContent = words;
    this.before.toggleAttribute("data-end", index === 0);
    this.after.toggleAttribute("data-end", index === count - 1);
    this.allow(this.reason);
  }

  /** Whether what changes the conversation can be done now; `reason` says why not. */
  allow(reason) {
    this.reason = reason;
    for (const button of this.actions.querySelectorAll(".changes")) {
      const isOff = Boolean(reason) || button.hasAttribute("data-end");
      // Not `disabled`: the focus would be lost, and the reason could not be told.
      button.setAttribute("aria-disabled", String(isOff));
      button.title = reason || button.getAttribute("aria-label");
    }
  }

  #step(step) {
    if (!(step < 0 ? this.before : this.after).hasAttribute("data-end")) this.owner.walk(this, step);
  }

  /** Give the focus to the arrow that leads on, or at the end to the one that leads back. */
  focusArrow(step) {
    const [arrow, other] = step < 0 ? [this.before, this.after] : [this.after, this.before];
    (arrow.hasAttribute("data-end") ? other : arrow).focus({ preventScroll: true });
  }
}

export class Question extends Part {
  constructor(message, owner) {
    super(message, "Question", owner);
    this.bubble = element("div", { class: "bubble" }, message.content);
    this.change = iconButton("Edit question", ICONS.edit, () => owner.mayChange() && this.edit(), {
      class: "icon changes",
    });
    this.actions.append(
      timeOf(message.created_at),
      copyButton(() => message.content, { label: "Copy question" }),
      this.change,
      this.versions,
    );
    this.node.append(this.bubble, this.actions);
  }

  /** Whether it shows this message, too; if so, it is its message from now on. */
  shows(message) {
    if (message !== this.message && (message.id === null || message.id !== this.message.id)) return false;
    this.message = message;
    return true;
  }

  /** Put an editor in the bubble's place; with a `reason` why the text was not taken. */
  edit(text = this.message.content, reason = "") {
    if (this.editor) return;
    const box = element("textarea", { rows: "1", "aria-label": "Edit the question" });
    box.value = text;
    const fit = () => {
      box.style.height = "auto";
      box.style.height = `${box.scrollHeight}px`;
    };
    const words = element("p", { class: "reason", role: "alert", hidden: true });
    const cancel = element("button", { type: "button" }, "Cancel");
    const send = element("button", { type: "submit", class: "send" }, "Send");
    this.editor = element(
      "form",
      { class: "editor", "aria-label": "Edit the question" },
      box,
      words,
      element("div", { class: "buttons" }, cancel, send),
    );
    const say = (reason) => {
      words.replaceChildren(...sentence(reason));
      words.hidden = reason === "";
    };
    const close = () => {
      this.editor.remove();
      this.editor = null;
      this.bubble.hidden = this.actions.hidden = false;
    };
    cancel.addEventListener("click", () => {
      close();
      this.change.focus();
    });
    box.addEventListener("input", fit);
    box.addEventListener("keydown", (event) => {
      if (event.isComposing || event.keyCode === 229) return; // the key belongs to an input method
      if (event.key === "Escape") cancel.click();
      else if (event.key === "Enter" && !event.shiftKey) this.editor.requestSubmit();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    this.editor.addEventListener("submit", (event) => {
      event.preventDefault();
      if (box.value.trim() === "") return say("The question is empty. Write something, or cancel.");
      const refusal = this.owner.edit(this, box.value);
      say(refusal);
      if (refusal === "") close();
    });
    this.bubble.hidden = this.actions.hidden = true;
    this.bubble.before(this.editor);
    fit();
    say(reason);
    box.focus();
    box.setSelectionRange(text.length, text.length);
  }
}

export class Answer extends Part {
  #waiting = ""; // text that came and is painted with the next frame
  #frame = 0;
  #isWhole; // whether the next piece continues what is shown, or begins it anew

  constructor(message, owner) {
    super(message, "Answer", owner);
    this.lastEvent = null;
    this.origin = element("p", { class: "origin" }, icon(ICONS.book), "From the documentation");
    this.body = element("div", { class: "text" });
    this.sources = new Sources();
    this.note = element("div", { class: "note" });
    this.node.append(this.origin, this.body, this.sources.node, this.note, this.actions);
    this.view = new MarkdownView(this.body, { cite: (number) => this.sources.cite(number) });
    this.#isWhole = message.id === null;
    this.#cite(message.sources);
    if (message.content) this.view.set(message.content);
    this.#show(message.status);
    this.#paintOrigin();
    if (!this.isOpen) this.#end(message.finish_reason, message.error);
  }

  get isOpen() {
    return this.status === "pending" || this.status === "streaming";
  }

  /** Whether it shows this message as it stands, too; if so, it is its message from now on. */
  shows(message) {
    if (message !== this.message) {
      if (message.id === null || message.id !== this.message.id) return false;
      const isOpen = message.status === "pending" || message.status === "streaming";
      if (isOpen !== this.isOpen) return false;
      this.message = message;
      if (!isOpen) {
        this.#cite(message.sources);
        this.#paintOrigin();
      }
    }
    return true;
  }

  /** One event of the reply's stream; those with other names are for later readers than this one. */
  take({ name, data, id }) {
    this.lastEvent = id ?? this.lastEvent;
    switch (name) {
      case "waiting":
        this.mention(wordsOfWaiting(data.before));
        this.owner.say(this.note.textContent);
        return;
      case "sources":
        this.#cite(data.sources);
        return;
      case "delta":
        if (this.#isWhole) {
          this.#waiting += data.text;
          this.#frame ||= requestAnimationFrame(() => this.#paint());
          break;
        }
      // What the page was opened with is replaced by the stream's own account of it.
      case "reset":
        this.#isWhole = true;
        this.#waiting = "";
        if (data.text !== this.view.source) this.view.set(data.text);
        this.owner.paint(this);
        break;
      case "done":
        this.settle(data.status, data.finish_reason, null);
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

  #cite(sources = []) {
    if (this.sources.set(sources) && this.view.source !== "") this.view.set(this.view.source);
  }

  /** Say so when the answer is the documentation's; while it is not known, by who answers now. */
  #paintOrigin() {
    const { model } = this.message.provenance ?? {};
    this.origin.hidden = model ? model !== QUOTED : !(this.isOpen && this.owner.quotes);
  }

  /** Where the answer came from: what a stream does not tell is asked for. */
  async #provenance() {
    this.message.provenance ??= (await call("GET", `/replies/${this.message.id}`)).provenance;
    return this.message.provenance;
  }

  #paint() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (this.#waiting === "") return;
    this.view.append(this.#waiting);
    this.#waiting = "";
    this.owner.paint(this);
  }

  #show(status) {
    if (this.status === status) return;
    this.status = status;
    this.node.dataset.status = status;
    this.node.setAttribute("aria-busy", String(this.isOpen));
  }

  /** It has ended while it was followed. */
  settle(status, finishReason, error) {
    this.#paint();
    this.#show(status);
    const content = this.view.source;
    // Its provenance is known only now, and to the application.
    Object.assign(this.message, { status, content, finish_reason: finishReason, error, provenance: null });
    this.#end(finishReason, error, status === "failed" ? "alert" : null);
    this.owner.paint(this);
    const wasLabelled = !this.origin.hidden;
    if (wasLabelled) this.owner.quoted(this);
    // Who answers may have changed since it was asked.
    this.#provenance().then(
      () => {
        this.#paintOrigin();
        if (!wasLabelled && !this.origin.hidden) this.owner.quoted(this);
      },
      () => {}, // nobody tells: it stays as it was assumed
    );
  }

  /** Say how it has ended, and offer what can be done. */
  #end(finishReason, error, role = null) {
    const { status } = this;
    this.view.finish();
    const isEmpty = this.view.source.trim() === "";
    let words = ENDINGS[status] ?? "";
    if (status === "failed" && error?.message) words = error.message;
    else if (status === "done" && finishReason === "length")
      words = "The answer ends here because it reached its greatest length.";
    else if (status === "done" && isEmpty) words = "The model gave an empty answer.";
    const isWhole = status === "done" && !isEmpty;
    const again = () => this.owner.mayChange() && this.owner.retry(this);
    this.note.replaceChildren();
    if (words) this.note.append(element("p", { role }, ...sentence(words)));
    if (!isWhole) this.note.append(wordButton("Retry", ICONS.retry, again));
    this.actions.replaceChildren();
    const whole = () => [this.view.source.trimEnd(), this.sources.markdown].filter(Boolean).join("\n\n");
    if (!isEmpty) this.actions.append(copyButton(whole, { label: "Copy answer" }));
    if (isWhole)
      this.actions.append(iconButton("Regenerate", ICONS.retry, again, { class: "icon changes" }));
    this.actions.append(this.versions, ...this.#details());
    this.allow(this.reason);
  }

  /** The button and the line that it opens: when, by which model, how much in which time. */
  #details() {
    const line = element("div", { class: "details", id: `tech-details-${(lastName += 1)}`, hidden: true });
    const button = iconButton("Details", ICONS.details, () => toggle(), {
      "aria-expanded": "false",
      "aria-controls": line.id,
    });
    const toggle = async () => {
      line.hidden = !line.hidden;
      button.setAttribute("aria-expanded", String(!line.hidden));
      if (line.hidden || line.hasChildNodes()) return;
      const time = timeOf(this.message.created_at);
      line.replaceChildren(time, ...wordsOf(this.message.provenance));
      if (this.message.provenance) return;
      try {
        line.replaceChildren(time, ...wordsOf(await this.#provenance()));
      } catch (problem) {
        line.replaceChildren(time, ` · ${problem.message}`);
      }
    };
    return [button, line];
  }

  /** Something to say beneath an answer that goes on, such as a lost connection; "" takes it back. */
  mention(words) {
    if (this.isOpen) this.note.replaceChildren(...(words ? [element("p", {}, words)] : []));
  }
}

function wordsOfWaiting(before) {
  if (!(before > 0)) return "";
  return `Waiting for its turn: ${before === 1 ? "1 answer comes" : `${before} answers come`} first.`;
}

/** A reply's provenance as the end of a line. */
function wordsOf(provenance) {
  const { revision, tokens, seconds } = provenance ?? {};
  const model = provenance?.model === QUOTED ? `Documentation of ${revision}` : provenance?.model;
  const took = Number.isFinite(seconds) ? `${seconds.toFixed(1)} s` : null;
  const count = Number.isFinite(tokens?.answer)
    ? `${tokens.answer} ${tokens.answer === 1 ? "token" : "tokens"}`
    : null;
  const work = count && took ? `${count} in ${took}` : (count ?? took);
  return [model, work].filter(Boolean).map((words) => ` · ${words}`);
}
