// The browser chat: connects Gradio's text box, which is the composer, to the elements, and the open
// conversation to the address. Only this script depends on Gradio.

import { ask } from "./api.js";
import "./conversations.js";
import { ICONS, IS_MAC, NEW_CHAT, TOUCH, element, emit, enterKeys, icon, isComposing, isSending } from "./dom.js";
import { draftOf, forgetDraft, keepDraft } from "./drafts.js";
import { pastedFiles, textOf } from "./files.js";
import "./page_chat.js";
import "./send.js";

const NAME = "Tech Assistant";
const HINT = "tech-hint"; // the id of the composer's description
const LARGEST = 240_000; // bytes of a question; the server accepts 256 KiB for the whole request
const TOO_LONG = `The question is longer than ${LARGEST / 1000} kB. Shorten it, or ask about a part of it.`;
const FAILED = "The question did not reach the application. It is back in the text box. Send it again.";

/** <tech-grounding>: the switch that gives the model documentation in this conversation. */
class TechGrounding extends HTMLElement {
  constructor() {
    super();
    this.state = element("span", { class: "state", "aria-hidden": "true" });
    const name = element("span", { class: "name" }, "Documentation");
    const click = () => page.switchGrounding();
    this.button = element("button", { type: "button", click }, name, this.state);
  }

  connectedCallback() {
    this.hidden = true;
    this.replaceChildren(this.button);
    emit(this, "tech-ready");
  }

  /** Show whether the switch is on. null hides it. */
  set on(on) {
    this.hidden = on === null;
    if (on === null || this.button.ariaPressed === String(on)) return;
    this.button.ariaPressed = String(on);
    this.state.textContent = on ? ": on" : ": off";
    this.button.title = on
      ? "Answers use the documentation on this machine"
      : "Answers come from the model alone";
    this.button.querySelector("svg")?.remove();
    this.button.prepend(icon(on ? ICONS.book : ICONS.bookOff));
  }
}

/** <tech-hint>: the keyboard shortcuts, under the composer. */
class TechHint extends HTMLElement {
  connectedCallback() {
    this.id = HINT;
    TOUCH.onchange = () => this.connectedCallback(); // a keyboard was attached or detached
    const [sends, adds] = enterKeys();
    const keys = [
      [sends, "sends"],
      [adds, "adds a line"],
      ["Esc", "stops"],
      ["/", "jumps to this box"],
      [NEW_CHAT, "starts a new chat"],
    ];
    this.replaceChildren(
      ...keys.map(([key, does]) => element("span", {}, element("kbd", {}, key), ` ${does} `)),
    );
  }
}

class Page {
  #chat = null;
  #list = null;
  #send = null;
  #grounding = null;
  #box = null;
  #adoptedBox = null;
  #observer = null;
  #shown = null; // the id of the conversation whose draft is in the composer
  #deleted = null; // {conversation, draft} of the last deletion, to restore the draft too
  #channel = "BroadcastChannel" in window ? new BroadcastChannel("tech-assistant") : null;

  constructor() {
    document.addEventListener("tech-ready", (event) => this.#adopt(event.target));
    document.addEventListener("tech-state", () => this.#paintState());
    document.addEventListener("tech-suggestion", ({ detail }) => this.#suggest(detail.text));
    document.addEventListener("tech-open", ({ detail }) => this.#go(detail.id));
    document.addEventListener("tech-conversation", ({ detail }) => this.#opened(detail));
    document.addEventListener("tech-compose", () => this.#compose());
    document.addEventListener("tech-press", () => this.#press());
    document.addEventListener("tech-changed", ({ detail }) => {
      this.#refreshList();
      this.#channel?.postMessage(detail);
    });
    document.addEventListener("tech-sheet", ({ detail }) => {
      const main = document.querySelector("#tech-main");
      if (main) main.inert = detail.isSheet;
    });
    document.addEventListener("tech-listed", ({ detail }) => this.#listed(detail));
    this.#channel?.addEventListener("message", ({ data }) => {
      if (data.did === "deleted") this.#list?.forget(data.conversation);
      this.#refreshList();
      if (data.conversation === this.#chat?.conversation && data.did !== "renamed") this.#chat.reload();
    });
    window.addEventListener("popstate", () => this.#chat?.open(this.#addressed()));
    const capture = { capture: true };
    document.addEventListener("keydown", (event) => this.#key(event), capture);
    // Gradio would send its own event for Enter, and no line break.
    const keepFromGradio = (event) => event.target === this.#textarea() && event.stopPropagation();
    document.addEventListener("keypress", keepFromGradio, capture);
    document.addEventListener("paste", (event) => this.#take(event, pastedFiles(event.clipboardData)), capture);
    for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => this.#drop(event), capture);
    document.addEventListener("input", (event) => {
      if (event.target !== this.#textarea()) return;
      keepDraft(this.#shown, event.target.value);
      this.#paintState();
    });
  }

  start() {
    for (const node of document.querySelectorAll("tech-chat, tech-conversations, tech-send, tech-grounding"))
      this.#adopt(node);
  }

  // ---- a question

  /** Ask the text in the composer, or an example. */
  async #ask(text) {
    const { conversation, leaf: parent, grounding } = this.#chat; // the branch that the reader sees
    const shown = this.#shown;
    const sent = this.#chat.sending(text);
    this.#write("");
    keepDraft(shown, text); // until it has arrived
    try {
      const ids = await ask(conversation, { text, parent, grounding });
      const typed = this.#textarea()?.value ?? ""; // meanwhile
      if (shown === this.#shown && typed !== "") keepDraft(shown, typed);
      else forgetDraft(shown, text);
      this.#chat.asked(sent, ids);
    } catch (problem) {
      this.#notAsked(sent, text, conversation, problem);
    }
    this.#paintState();
  }

  #notAsked(sent, text, conversation, { type, status, message }) {
    this.#refreshList();
    if (this.#chat.conversation !== conversation) return; // the reader has opened another one
    const isLost = type === "away" || (type === "http" && status >= 500); // the application has not answered
    this.#chat.refused(sent, { type, message: isLost ? FAILED : message }, () => this.#submitTyped());
    if (this.#textarea()?.value === "") this.#write(text);
    if (type === "still_answering") this.#chat.reload();
  }

  // ---- the composer

  /** The send button was pressed. */
  #press() {
    this.#compose();
    if (this.#chat.isAnswering) this.#chat.stop();
    else this.#submitTyped();
  }

  switchGrounding() {
    this.#chat.grounding = !this.#chat.grounding;
  }

  /** Focus the composer, except where that would open an on-screen keyboard. */
  #compose() {
    if (!TOUCH.matches) this.#textarea()?.focus();
  }

  #submitTyped() {
    const text = this.#textarea()?.value ?? "";
    if (this.#mayAsk(text, () => this.#submitTyped())) this.#ask(text);
  }

  #suggest(text) {
    this.#compose();
    if (this.#mayAsk(text, () => this.#suggest(text))) this.#ask(text);
  }

  /** Whether a text can be asked. If not, say why, or ask for the licence and then call `again`. */
  #mayAsk(text, again) {
    if (!this.#chat || text.trim() === "") return false;
    const size = new TextEncoder().encode(JSON.stringify(text)).length;
    const refusal = size > LARGEST ? TOO_LONG : this.#chat.reason;
    this.#chat.alert(refusal);
    return refusal === "" && !this.#chat.mustConsent(again);
  }

  #key(event) {
    if (isComposing(event)) return;
    const isTyping = event.target.matches?.("input, textarea, [contenteditable]");
    const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey;
    const isComposer = event.target === this.#textarea();
    if (event.key.toLowerCase() === "o" && event.shiftKey && (IS_MAC ? event.metaKey : event.ctrlKey)) {
      this.#go(null);
    } else if (event.key === "/" && isPlain && !isTyping) this.#textarea()?.focus();
    else if (event.key === "Escape" && isComposer && this.#chat?.isAnswering) this.#chat.stop();
    else if (isSending(event) && isComposer) this.#submitTyped();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** A file or a link that is dropped beside a text box would replace the page. Dropped text is the browser's. */
  #drop(event) {
    const { dataTransfer: data, target } = event;
    const hasFiles = data.types.includes("Files");
    if (!hasFiles && target.closest?.("textarea, input")) return;
    event.preventDefault();
    data.dropEffect = hasFiles ? "copy" : "none";
    if (event.type === "drop" && hasFiles) this.#take(event, [...data.files]);
  }

  /** Put the text of pasted or dropped files into the text box, and say which files have none. */
  async #take(event, files) {
    if (files.length === 0) return;
    event.preventDefault();
    const box = event.target.closest?.("textarea") ?? this.#textarea();
    const taken = await Promise.all(files.map(textOf));
    this.#chat?.alert([...new Set(taken.map(({ refusal }) => refusal).filter(Boolean))].join(" "));
    let text = taken.map(({ text }) => text).filter(Boolean).join("\n");
    if (!box || text === "") return;
    if (!/(^|\n)$/.test(box.value.slice(0, box.selectionStart))) text = `\n${text}`;
    box.focus();
    // This can be undone, but takes seconds for some hundred lines.
    if (text.length < 4000 && document.execCommand("insertText", false, text)) return;
    box.setRangeText(text, box.selectionStart, box.selectionEnd, "end");
    box.dispatchEvent(new Event("input", { bubbles: true }));
  }

  #textarea() {
    if (!this.#box?.isConnected) this.#box = document.querySelector("#tech-box textarea");
    return this.#box;
  }

  #write(text) {
    const box = this.#textarea();
    if (!box) return;
    box.value = text;
    box.dispatchEvent(new Event("input", { bubbles: true }));
  }

  #paintState() {
    if (this.#grounding && this.#chat)
      this.#grounding.on = this.#chat.engine.canGround ? this.#chat.grounding : null;
    if (!this.#send || !this.#chat) return;
    const isReady = this.#chat.canAsk && (this.#textarea()?.value ?? "").trim() !== "";
    this.#send.state = this.#chat.isAnswering ? "answering" : isReady ? "idle" : "off";
  }

  // ---- the elements and the address

  #adopt(node) {
    if (node.matches("tech-chat") && node !== this.#chat) {
      this.#chat = node;
      node.open(this.#addressed());
    } else if (node.matches("tech-conversations")) {
      this.#list = node;
      node.current = this.#chat?.conversation ?? this.#addressed();
    } else if (node.matches("tech-send")) this.#send = node;
    else if (node.matches("tech-grounding")) this.#grounding = node;
    this.#paintState();
    if (!this.#textarea()) this.#awaitBox();
    else if (this.#adoptedBox !== this.#box) this.#adoptBox();
  }

  /** Gradio loads each of its components separately, and the composer may come last. */
  #awaitBox() {
    this.#observer ??= new MutationObserver(() => {
      if (!this.#textarea()) return;
      this.#observer.disconnect();
      this.#observer = null;
      this.#adoptBox();
    });
    this.#observer.observe(document.body, { childList: true, subtree: true });
  }

  #adoptBox() {
    this.#adoptedBox = this.#box;
    this.#box.setAttribute("aria-describedby", HINT);
    if (this.#box.value === "") this.#write(draftOf(this.#shown));
    else keepDraft(this.#shown, this.#box.value); // the reader was faster
    if (window.top === window) this.#compose();
    this.#paintState();
  }

  #addressed() {
    return new URLSearchParams(location.search).get("c");
  }

  #address(id) {
    const address = new URL(location.href);
    if (id === null) address.searchParams.delete("c");
    else address.searchParams.set("c", id);
    return address;
  }

  #go(id) {
    if (id !== this.#addressed()) history.pushState(null, "", this.#address(id));
    this.#chat?.open(id);
    this.#compose();
  }

  #opened({ id, title, isNew }) {
    if (id !== this.#addressed()) history.replaceState(null, "", this.#address(id));
    if (this.#list) this.#list.current = id;
    this.#entitle(title);
    if (this.#shown === id) return;
    const typed = this.#textarea()?.value ?? "";
    if (isNew) {
      keepDraft(null, ""); // text typed since the first question belongs to the new conversation
      keepDraft(id, typed);
    }
    this.#shown = id;
    this.#write(isNew ? typed : draftOf(id));
  }

  #entitle(title) {
    document.title = title ? `${title} · ${NAME}` : NAME;
    if (this.#chat) this.#chat.heading = title;
  }

  /** The reader has renamed, deleted or restored a conversation in the list. */
  #listed({ conversation, did, wasOpen }) {
    this.#channel?.postMessage({ conversation, did });
    if (did === "deleted") {
      this.#deleted = { conversation, draft: draftOf(conversation) };
      keepDraft(conversation, ""); // a deleted conversation leaves no draft
    } else if (did === "restored" && this.#deleted?.conversation === conversation)
      keepDraft(conversation, this.#deleted.draft);
    if (did === "renamed" && conversation === this.#chat?.conversation)
      this.#entitle(this.#list.titleOf(conversation));
    else if (did === "deleted" && conversation === this.#chat?.conversation) this.#go(null);
    else if (did === "restored" && wasOpen) this.#go(conversation);
  }

  async #refreshList() {
    await this.#list?.refresh();
    const id = this.#chat?.conversation;
    const title = id && this.#list?.titleOf(id);
    if (title) this.#entitle(title);
  }
}

// An embedding page such as a Space may choose the theme. Otherwise the system decides.
const theme = new URLSearchParams(location.search).get("__theme");
if (theme === "light" || theme === "dark") document.documentElement.style.colorScheme = theme;

const page = new Page();
customElements.define("tech-grounding", TechGrounding);
customElements.define("tech-hint", TechHint);
page.start();

// Keep the composer above an on-screen keyboard.
visualViewport?.addEventListener("resize", () => {
  if (visualViewport.scale !== 1) return; // zoomed in
  document.documentElement.style.setProperty("--tech-height", `${visualViewport.height}px`);
  window.scrollTo(0, 0);
});
