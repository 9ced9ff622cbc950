// <tech-chat>: the transcript of one conversation, and the answer that is being written.
//
// Knows the API and what a conversation looks like; refuses to know who shows it. No composer is in here:
// whoever embeds it says `sending`, then `asked` or `refused`, and listens:
//
//   tech-state         what can be done now: .canAsk, .isAnswering
//   tech-conversation  another conversation is shown: detail {id, title, isNew}
//   tech-changed       a question was stored or a reply has ended: detail {conversation}
//   tech-suggestion    one of the example questions was chosen: detail {text}

import { call, followReply } from "./api.js";
import { ICONS, copyButton, element, icon } from "./dom.js";
import { MarkdownView } from "./markdown.js";

const WINDOW = 50; // messages shown at once; older ones on demand
const NEAR_END = 48; // px from the end that still count as being there
const LOOK_AGAIN = { loading: 1000, none: 5000, failed: 3000, away: 2000 }; // ms, by the engine's state

const EXAMPLES = [
  [
    "Explain this error",
    "What does “TypeError: 'NoneType' object is not subscriptable” mean, and how do I find its cause?",
  ],
  [
    "Write a function",
    "Write a Python function that reads a CSV file and returns the average of each numeric column.",
  ],
  [
    "Translate code",
    "Show me this JavaScript in Go: const long = words.filter((word) => word.length > 7).sort();",
  ],
  ["Compare two ways", "When should I use a thread and when a process in Python? Make a short table."],
];

const ENDINGS = {
  stopped: "You stopped this answer.",
  interrupted: "The application ended while this answer was being written. What had come is kept.",
  failed: "This answer failed.",
};

/** Text with `code` between backticks. */
function sentence(text) {
  return text.split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));
}

function action(name, path, act) {
  const button = element("button", { type: "button" }, icon(path), element("span", {}, name));
  button.addEventListener("click", act);
  return button;
}

class Question {
  constructor(text) {
    const bubble = element("div", { class: "bubble" }, text);
    const actions = element(
      "div",
      { class: "actions" },
      copyButton(() => text, { label: "Copy question" }),
    );
    this.node = element(
      "article",
      { class: "message question", "aria-label": "Question" },
      bubble,
      actions,
    );
  }
}

class Answer {
  #waiting = ""; // text that came and is painted with the next frame
  #frame = 0;
  #isWhole; // whether the next piece continues what is shown, or begins it anew

  /** `message` is one of the API's, or null for a reply that is only just being asked for. */
  constructor(message, { onPaint, onRetry }) {
    this.id = message?.id ?? null;
    this.lastEvent = null;
    this.onPaint = onPaint;
    this.onRetry = onRetry;
    this.body = element("div", { class: "text" });
    this.note = element("div", { class: "note" });
    this.actions = element("div", { class: "actions" });
    this.node = element(
      "article",
      { class: "message answer", "aria-label": "Answer" },
      this.body,
      this.note,
      this.actions,
    );
    this.view = new MarkdownView(this.body);
    this.#isWhole = message === null;
    if (message?.content) this.view.set(message.content);
    this.#show(message?.status ?? "pending");
    if (message && !this.isOpen) this.settle(message.status, message.finish_reason, message.error);
  }

  get isOpen() {
    return this.status === "pending" || this.status === "streaming";
  }

  /** One event of the reply's stream. */
  take({ name, data, id }) {
    this.lastEvent = id;
    if (name === "delta" && this.#isWhole) {
      this.#waiting += data.text;
      this.#frame ||= requestAnimationFrame(() => this.#paint());
    } else if (name === "delta" || name === "reset") {
      // What the page was opened with is replaced by the stream's own account of it.
      this.#isWhole = true;
      this.#waiting = "";
      if (data.text !== this.view.source) this.view.set(data.text);
      this.onPaint(this);
    } else if (name === "error") this.settle("failed", null, data);
    else this.settle(data.status, data.finish_reason, null);
    if (this.isOpen) this.#show("streaming");
  }

  #paint() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (this.#waiting === "") return;
    this.view.append(this.#waiting);
    this.#waiting = "";
    this.onPaint(this);
  }

  #show(status) {
    if (this.status === status) return;
    this.status = status;
    this.node.dataset.status = status;
    this.node.toggleAttribute("aria-busy", this.isOpen);
  }

  /** It has ended: say how, and offer what can be done. */
  settle(status, finishReason, error) {
    this.#paint();
    this.view.finish();
    this.#show(status);
    const isEmpty = this.view.source.trim() === "";
    let words = ENDINGS[status] ?? "";
    if (status === "failed" && error?.message) words = error.message;
    else if (status === "done" && finishReason === "length")
      words = "The answer ends here because it reached its greatest length.";
    else if (status === "done" && isEmpty) words = "The model gave an empty answer.";
    this.note.replaceChildren();
    this.actions.replaceChildren();
    if (!isEmpty) this.actions.append(copyButton(() => this.view.source, { label: "Copy answer" }));
    if (words) {
      this.note.append(element("p", {}, ...sentence(words)));
      if (status !== "done" || isEmpty)
        this.note.append(action("Retry", ICONS.retry, () => this.onRetry(this)));
    }
    this.onPaint(this);
  }

  /** Something to say beneath an answer that goes on, such as a lost connection; "" takes it back. */
  mention(words) {
    this.note.replaceChildren(...(words ? [element("p", {}, words)] : []));
  }
}

class TechChat extends HTMLElement {
  #conversation = null; // its id
  #messages = []; // the branch on show, as the API gave it
  #from = 0; // the first of them that is shown
  #engine = { state: "loading", model: null, detail: null };
  #answer = null; // the last answer, while it is open or after it ended
  #sent = null; // what is on its way: {text, question, answer}
  #wantsStop = false;
  #stream = null; // the AbortController of the reply that is followed
  #loading = null;
  #isAtEnd = true;
  #isStale = false;
  #announced = 0;
  #timer = 0;
  #removals = [];

  // ---- for who embeds it

  get conversation() {
    return this.#conversation;
  }

  get isAnswering() {
    return this.#sent !== null || Boolean(this.#answer?.isOpen);
  }

  get canAsk() {
    return (
      !this.isAnswering &&
      this.#loading === null &&
      this.#engine.state !== "none" &&
      this.#engine.state !== "failed"
    );
  }

  /** Why nothing can be asked just now, in words; "" when it can. */
  get reason() {
    if (this.isAnswering) return "An answer is being written. Stop it, or wait for its end.";
    return this.canAsk ? "" : this.#engine.detail || "The conversation is loading.";
  }

  /** Show a conversation, or with null the beginning of a new one. */
  async open(id) {
    if (id === this.#conversation && this.#messages.length > 0) return;
    this.#leave();
    this.#conversation = id;
    this.#messages = [];
    this.#isAtEnd = true;
    this.list.replaceChildren();
    this.alert("");
    if (id === null) {
      this.#loading = null;
      this.#paintEmpty();
      this.#tell("tech-conversation", { id, title: null });
      this.#changed();
      return;
    }
    this.intro.hidden = true;
    await this.#load(id);
  }

  /** Read the conversation again: another tab has changed it. */
  async reload() {
    if (document.hidden) this.#isStale = true;
    else if (this.#conversation !== null && !this.#sent) await this.#load(this.#conversation);
  }

  /** A question is on its way. */
  sending(text) {
    this.alert("");
    this.intro.hidden = true;
    const question = new Question(text);
    const answer = this.#newAnswer(null);
    this.#sent = { text, question, answer };
    this.list.append(question.node, answer.node);
    this.#answer = answer;
    this.#toEnd();
    this.#announce("The question is sent.");
    this.#changed();
  }

  /** The question is stored; its reply is being written. */
  asked({ conversation, reply }) {
    if (!this.#sent) {
      this.#tell("tech-changed", { conversation }); // the reader has gone on
      return;
    }
    const { answer } = this.#sent;
    this.#sent = null;
    const isNew = this.#conversation === null;
    this.#conversation = conversation;
    answer.id = reply;
    if (isNew) this.#tell("tech-conversation", { id: conversation, title: null, isNew });
    this.#tell("tech-changed", { conversation });
    this.#follow(answer);
    if (this.#wantsStop) this.stop();
    this.#changed();
  }

  /** The question was not taken: say why. Gives the question back. */
  refused(words) {
    const sent = this.#sent;
    this.#sent = null;
    this.#wantsStop = false;
    sent?.question.node.remove();
    sent?.answer.node.remove();
    this.#answer = null;
    if (this.list.childElementCount === 0) this.#paintEmpty();
    this.alert(words);
    this.#look();
    this.#changed();
    return sent?.text ?? "";
  }

  /** Something went wrong that concerns the next question; "" takes it back. */
  alert(words) {
    if (words === this.notice.dataset.words) words = ""; // it stands there already
    this.alarm.replaceChildren(...(words ? sentence(words) : []));
    this.alarm.hidden = words === "";
  }

  /** End the answer that is being written; its text is kept. */
  async stop() {
    if (this.#sent) {
      this.#wantsStop = true; // it has no id yet
      return;
    }
    this.#wantsStop = false;
    if (!this.#answer?.isOpen) return;
    try {
      await call("POST", `/replies/${this.#answer.id}/stop`); // the stream tells its end
    } catch (problem) {
      this.alert(problem.message);
    }
  }

  // ---- its own life

  constructor() {
    super();
    this.list = element("div", { class: "list" });
    this.intro = element("div", { class: "intro" });
    this.column = element("div", { class: "column" }, this.intro, this.list);
    this.scroller = element(
      "div",
      { class: "scroller", tabindex: "0", role: "region", "aria-label": "Conversation" },
      this.column,
    );
    this.toEnd = element(
      "button",
      { type: "button", class: "to-end", "aria-label": "Go to the end", hidden: true },
      icon(ICONS.down),
    );
    this.alarm = element("div", { class: "alarm", role: "alert", hidden: true });
    this.notice = element("div", { class: "notice", role: "status", hidden: true });
    this.spoken = element("div", {
      class: "spoken",
      role: "log",
      "aria-live": "polite",
      "aria-label": "Progress of the answer",
    });
    this.foot = element("div", { class: "foot" }, this.toEnd, this.notice, this.alarm);
  }

  connectedCallback() {
    this.replaceChildren(this.scroller, this.foot, this.spoken);
    const on = (target, name, listener, options) => {
      target.addEventListener(name, listener, options);
      this.#removals.push(() => target.removeEventListener(name, listener, options));
    };
    let top = 0;
    on(
      this.scroller,
      "scroll",
      () => {
        const { scrollTop, scrollHeight, clientHeight } = this.scroller;
        const isNear = scrollHeight - scrollTop - clientHeight < NEAR_END;
        // Only the reader scrolls up; that the text grew is no reason to stop following it.
        if (isNear) this.#isAtEnd = true;
        else if (scrollTop < top) this.#isAtEnd = false;
        top = scrollTop;
        this.toEnd.hidden = this.#isAtEnd || isNear;
      },
      { passive: true },
    );
    on(this.toEnd, "click", () => this.#toEnd());
    on(document, "visibilitychange", () => this.#seen());
    const growth = new ResizeObserver(() => this.#keepEnd());
    growth.observe(this.column);
    growth.observe(this.scroller);
    this.#removals.push(() => growth.disconnect());
    this.#paintEmpty();
    this.#look();
    this.dispatchEvent(new CustomEvent("tech-ready", { bubbles: true }));
  }

  disconnectedCallback() {
    for (const remove of this.#removals.splice(0)) remove();
    clearTimeout(this.#timer);
    this.#leave();
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { bubbles: true, detail }));
  }

  #changed() {
    this.dataset.state = this.isAnswering ? "answering" : "idle";
    this.#tell("tech-state", {});
  }

  /** A hidden page gives its connection back, since a browser has only six for all its tabs. */
  #seen() {
    if (document.hidden) {
      this.#stream?.abort();
      return;
    }
    this.#look();
    if (this.#isStale) this.reload();
    else if (this.#answer?.isOpen && this.#answer.id) this.#follow(this.#answer);
    this.#isStale = false;
  }

  #leave() {
    this.#stream?.abort();
    this.#stream = null;
    this.#answer = null;
    this.#sent = null;
    this.#wantsStop = false;
  }

  // ---- conversation

  async #load(id) {
    const loading = (this.#loading = {});
    this.#changed();
    let conversation;
    try {
      conversation = await call("GET", `/conversations/${encodeURIComponent(id)}`);
    } catch (problem) {
      if (this.#loading !== loading) return;
      this.#loading = null;
      this.#paintUnreadable(id, problem);
      this.#changed();
      return;
    }
    if (this.#loading !== loading) return; // another one was opened meanwhile
    this.#loading = null;
    if (this.#sent) return;
    this.#leave();
    this.alert("");
    this.#messages = branchOf(conversation);
    this.#from = Math.max(0, this.#messages.length - WINDOW);
    this.intro.hidden = this.#messages.length > 0;
    if (this.#messages.length === 0) this.#paintEmpty();
    const place = this.scroller.scrollTop;
    this.list.replaceChildren(...this.#nodes(this.#from, this.#messages.length));
    this.#paintEarlier();
    if (this.#isAtEnd) this.#toEnd();
    else this.scroller.scrollTop = place;
    this.#tell("tech-conversation", { id, title: conversation.title });
    if (this.#answer?.isOpen && !document.hidden) this.#follow(this.#answer);
    this.#changed();
  }

  #nodes(from, to) {
    return this.#messages.slice(from, to).map((message, index) => {
      if (message.role === "user") return new Question(message.content).node;
      const answer = this.#newAnswer(message);
      if (from + index === this.#messages.length - 1) this.#answer = answer;
      return answer.node;
    });
  }

  #paintEarlier() {
    this.column.querySelector(".earlier")?.remove();
    if (this.#from === 0) return;
    const button = element(
      "button",
      { type: "button", class: "earlier" },
      `Show ${Math.min(WINDOW, this.#from)} earlier messages`,
    );
    button.addEventListener("click", () => {
      const from = Math.max(0, this.#from - WINDOW);
      const height = this.scroller.scrollHeight;
      const answer = this.#answer;
      this.list.prepend(...this.#nodes(from, this.#from));
      this.#answer = answer;
      this.#from = from;
      this.#paintEarlier();
      this.scroller.scrollTop += this.scroller.scrollHeight - height;
    });
    this.list.before(button);
  }

  #paintUnreadable(id, problem) {
    this.list.replaceChildren();
    const isGone = problem.status === 404;
    const words = isGone
      ? "This conversation is not here. It may have been deleted, or belong to somebody else."
      : problem.message;
    const button = isGone
      ? action("New chat", ICONS.plus, () => this.open(null))
      : action("Try again", ICONS.retry, () => this.#load(id));
    this.intro.replaceChildren(element("p", { class: "lost", role: "alert" }, words), button);
    this.intro.hidden = false;
  }

  #paintEmpty() {
    const examples = EXAMPLES.map(([name, text]) => {
      const button = element(
        "button",
        { type: "button" },
        element("strong", {}, name),
        element("span", {}, text),
      );
      button.addEventListener("click", () => this.#tell("tech-suggestion", { text }));
      return button;
    });
    this.column.querySelector(".earlier")?.remove();
    this.intro.replaceChildren(
      element("h1", {}, "Tech Assistant"),
      element(
        "p",
        {},
        "Ask about code: errors, functions, tools. Answers can be wrong: try them before you rely on them.",
      ),
      element("div", { class: "examples", role: "group", "aria-label": "Example questions" }, ...examples),
      element("p", { class: "engine" }),
    );
    this.intro.hidden = false;
    this.#paintEngine();
  }

  // ---- answer

  #newAnswer(message) {
    return new Answer(message, {
      onPaint: (answer) => this.#painted(answer),
      onRetry: (answer) => this.#retry(answer),
    });
  }

  async #retry(old) {
    if (this.isAnswering) return;
    this.alert("");
    const answer = this.#newAnswer(null);
    old.node.replaceWith(answer.node);
    while (answer.node.nextSibling) answer.node.nextSibling.remove(); // they followed the old answer
    this.#answer = answer;
    this.#isAtEnd = true;
    this.#changed();
    try {
      const { reply_id: reply } = await call("POST", `/replies/${old.id}/retry`);
      answer.id = reply;
      this.#tell("tech-changed", { conversation: this.#conversation });
      this.#follow(answer);
      if (this.#wantsStop) this.stop();
    } catch (problem) {
      answer.node.replaceWith(old.node);
      this.#answer = old;
      this.alert(problem.message);
      this.#look();
    }
    this.#changed();
  }

  async #follow(answer) {
    this.#stream?.abort();
    const stream = (this.#stream = new AbortController());
    this.#announced = answer.view.finished;
    const isOurs = () => this.#stream === stream;
    try {
      await followReply(answer.id, {
        after: answer.lastEvent,
        signal: stream.signal,
        onEvent: (event) => isOurs() && answer.take(event),
        onLost: (isLost) =>
          isOurs() && answer.mention(isLost ? "The connection is lost. Trying again…" : ""),
      });
    } catch (problem) {
      if (isOurs()) answer.settle("failed", null, problem);
    }
    if (!isOurs() || answer.isOpen) return;
    this.#stream = null;
    this.#announce(answer.status === "done" ? "The answer is complete." : "The answer has ended early.");
    if (answer.status === "failed") this.#look();
    this.#tell("tech-changed", { conversation: this.#conversation });
    this.#changed();
  }

  #painted(answer) {
    if (answer !== this.#answer) return;
    this.#keepEnd();
    // For screen readers: whole paragraphs, not pieces of words.
    const { finished } = answer.view;
    for (; this.#announced < finished; this.#announced++) {
      this.#announce(answer.body.children[this.#announced]?.textContent ?? "");
    }
  }

  #announce(words) {
    if (this.spoken.childElementCount > 20) this.spoken.firstElementChild.remove();
    this.spoken.append(element("p", {}, words));
  }

  // ---- engine

  async #look() {
    clearTimeout(this.#timer);
    try {
      this.#engine = await call("GET", "/engine");
    } catch (problem) {
      this.#engine = { state: "away", model: null, detail: problem.message };
    }
    if (!this.isConnected) return;
    this.#paintEngine();
    this.#changed();
    const again = LOOK_AGAIN[this.#engine.state];
    clearTimeout(this.#timer);
    if (again && !document.hidden) this.#timer = setTimeout(() => this.#look(), again);
  }

  #paintEngine() {
    const { state, model, detail } = this.#engine;
    const words =
      { none: detail ?? "No model is loaded.", failed: detail ?? "The engine failed.", away: detail }[
        state
      ] ?? "";
    if (this.notice.dataset.words !== words) {
      this.notice.dataset.words = words;
      this.notice.replaceChildren(...sentence(words));
      this.notice.hidden = words === "";
    }
    const line = this.intro.querySelector(".engine");
    if (!line) return;
    if (state === "ready")
      line.replaceChildren("Answered by ", element("b", {}, model ?? "an unnamed model"));
    else line.replaceChildren(state === "loading" ? (detail ?? "The model is loading.") : "");
  }

  // ---- scrolling

  #toEnd() {
    this.#isAtEnd = true;
    this.toEnd.hidden = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  #keepEnd() {
    if (!this.intro.hidden) this.toEnd.hidden = true;
    else if (this.#isAtEnd) this.scroller.scrollTop = this.scroller.scrollHeight;
    else {
      const { scrollTop, scrollHeight, clientHeight } = this.scroller;
      this.toEnd.hidden = scrollHeight - scrollTop - clientHeight < NEAR_END;
    }
  }
}

/** The messages from the root to the leaf on show. */
function branchOf({ messages, active_leaf_id: leaf }) {
  const byId = new Map(messages.map((message) => [message.id, message]));
  const branch = [];
  for (let message = byId.get(leaf); message; message = byId.get(message.parent_id)) branch.push(message);
  return branch.reverse();
}

customElements.define("tech-chat", TechChat);
