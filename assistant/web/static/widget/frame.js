// The page in the widget's frame: the chat of one visitor of one site, with a composer of its own.

import { authorize, ask } from "../api.js";
import { ICONS, TOUCH, element, icon, iconButton, isComposing, isSending } from "../dom.js";
import { draftOf, forgetDraft, keepDraft } from "../drafts.js";
import "../send.js";
import { paintAccent } from "./colours.js";
import { Host } from "./host.js";
import { Session } from "./session.js";
import { settings } from "./settings.js";
import { bringTexts, texts } from "./texts.js";
import "./widget_chat.js";

const LEFT = `tech-assistant-left-${settings.key}`; // in the session storage: the conversation that was left

class Frame {
  #shown = null; // the id of the conversation
  #isAnswering = false;
  #isStarted = false;
  #begun; // a promise: the visitor is known, so their latest conversation does not take the place of a question
  #last; // a promise: the loader's messages are obeyed one after the other
  #channel = channelOf(`tech-assistant-${settings.key}`);

  constructor() {
    const inTurn = (act) => (data) => (this.#last = this.#last.then(() => act(data)).catch(() => {}));
    this.host = new Host(settings.origins, {
      hello: ({ theme }) => {
        if (theme === "light" || theme === "dark") document.documentElement.style.colorScheme = theme;
        if (this.#isStarted) this.#greet();
      },
      focus: () => this.#focus(),
      ask: inTurn(({ text }) => this.#suggest(String(text))),
      identify: inTurn(({ identity }) => this.#identify(identity)),
    });
    this.session = new Session(settings.key, this.host.origin, (answer) => this.#resume(answer));
    authorize((isRefused) => this.session.token(isRefused));
  }

  start() {
    paintAccent(settings.colour);
    document.title = texts.title;
    this.chat = document.createElement("tech-chat");
    this.send = document.createElement("tech-send");
    this.new = iconButton(texts.newChat, ICONS.plus, () => this.#leave());
    this.close = iconButton(texts.close, ICONS.close, () => this.host.tell("close"), { hidden: true });
    this.box = element("textarea", {
      rows: "1",
      placeholder: texts.placeholder,
      "aria-label": texts.question,
      "aria-describedby": "note",
      input: () => this.#typed(),
    });
    const submit = (event) => {
      event.preventDefault();
      this.#submit();
    };
    this.#listen();
    document.body.replaceChildren(
      element("header", {}, icon(ICONS.book), element("b", {}, texts.title), this.new, this.close),
      element("main", {}, this.chat, element("form", { class: "composer", submit }, this.box, this.send)),
      element("footer", { id: "note" }, texts.note),
    );
    this.box.value = draftOf(null);
    this.#typed();
    this.#isStarted = true;
    if (this.host.hasLoader) this.#greet();
    this.#last = this.#begun = this.#begin();
  }

  #listen() {
    const on = (name, act) => document.addEventListener(name, act);
    on("tech-state", () => this.#paint());
    on("tech-suggestion", ({ detail }) => this.#suggest(detail.text));
    on("tech-compose", () => this.#focus());
    on("tech-press", () => (this.chat.isAnswering ? this.chat.stop() : this.#submit()));
    on("tech-conversation", ({ detail }) => this.#opened(detail));
    on("tech-changed", ({ detail }) => this.#channel?.postMessage(detail));
    on("keydown", (event) => this.#key(event));
    on("click", (event) => this.#follow(event));
    this.#channel?.addEventListener("message", ({ data }) => {
      if (data.conversation === this.chat.conversation) this.chat.reload();
    });
  }

  // ---- the visitor

  /** Get the first token. Without one, the next question tries again. */
  async #begin() {
    document.body.className = "beginning"; // the introduction waits, since there may be a conversation
    try {
      if (this.host.isMissing) this.chat.alert(texts.alone);
      else await this.session.token();
    } catch (problem) {
      this.chat.alert(problem.message);
    }
    document.body.className = "";
  }

  /** Go on with a visitor's latest conversation, if they have not left it in this tab. */
  #resume({ conversation_id: id, running_reply_id: reply }) {
    if (this.chat.conversation !== id) this.chat.open(id !== null && (reply || leftChat() !== id) ? id : null);
  }

  async #identify(identity) {
    try {
      await this.session.identify(identity);
    } catch (problem) {
      this.chat.alert(problem.message);
    }
  }

  #leave() {
    leaveChat(this.chat.conversation);
    this.chat.open(null);
    this.#focus();
  }

  #opened({ id, title }) {
    this.#shown = id;
    this.chat.heading = title ?? texts.title;
    this.#paint();
  }

  // ---- the page around

  #greet() {
    this.close.hidden = false;
    this.host.tell("ready");
  }

  /** The loader opens a source in the site's own page; a browser opens others in a new tab. */
  #follow(event) {
    const link = event.target.closest("a[href]");
    const isPlain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
    if (!link || event.defaultPrevented || !isPlain || !this.host.opens(link.href)) return;
    event.preventDefault();
    this.host.tell("link", { url: link.href });
  }

  // ---- a question

  async #suggest(text) {
    await this.#begun;
    if (this.#mayAsk(text)) this.#ask(text);
    else if (this.box.value === "") this.#write(text);
  }

  async #submit() {
    await this.#begun;
    if (this.#mayAsk(this.box.value)) this.#ask(this.box.value);
  }

  #mayAsk(text) {
    if (text.trim() === "") return false;
    const { reason } = this.chat;
    this.chat.alert(reason);
    return reason === "";
  }

  async #ask(text) {
    const { conversation, leaf: parent, grounding } = this.chat; // the branch that the reader sees
    const sent = this.chat.sending(text);
    if (this.box.value === text) this.#write("");
    this.#focus();
    try {
      const ids = await ask(conversation, { text, parent, grounding });
      forgetDraft(null, text);
      this.chat.asked(sent, ids);
      this.host.tell("question");
    } catch ({ type, status, message }) {
      if (this.chat.conversation !== conversation) return; // the reader has begun another one
      const isLost = type === "away" || (type === "http" && status >= 500);
      this.chat.refused(sent, { type, message: isLost ? texts.lost : message }, () => this.#submit());
      if (this.box.value === "") this.#write(text);
      if (type === "still_answering") this.chat.reload();
    }
    this.#paint();
  }

  // ---- the composer

  /** Focus the composer, except where that would open an on-screen keyboard. */
  #focus() {
    if (TOUCH.matches) this.chat.transcript.scroller.focus({ preventScroll: true });
    else this.box.focus();
  }

  #write(text) {
    this.box.value = text;
    this.#typed();
  }

  #typed() {
    keepDraft(null, this.box.value);
    this.box.style.height = "auto";
    this.box.style.height = `${this.box.scrollHeight}px`;
    this.#paint();
  }

  #key(event) {
    if (isComposing(event) || event.defaultPrevented) return;
    const isBox = event.target === this.box;
    if (event.key === "Escape" && isBox && this.chat.isAnswering) this.chat.stop();
    else if (event.key === "Escape") this.host.tell("close");
    else if (isSending(event) && isBox) this.#submit();
    else return;
    event.preventDefault();
  }

  #paint() {
    const { isAnswering, canAsk, leaf } = this.chat;
    this.send.state = isAnswering ? "answering" : canAsk && this.box.value.trim() !== "" ? "idle" : "off";
    this.new.hidden = leaf === null && this.#shown === null;
    if (this.#isAnswering && !isAnswering) this.host.tell("answer");
    this.#isAnswering = isAnswering;
  }
}

/** Keeps the frames of a browser's tabs in step, where that is allowed. */
function channelOf(name) {
  try {
    return new BroadcastChannel(name);
  } catch {
    return null;
  }
}

function leaveChat(id) {
  try {
    sessionStorage.setItem(LEFT, id);
  } catch {
    // no storage: the next page shows the chat again
  }
}

function leftChat() {
  try {
    return sessionStorage.getItem(LEFT);
  } catch {
    return null;
  }
}

const frame = new Frame(); // listens before the texts are there
await bringTexts();
frame.start();
