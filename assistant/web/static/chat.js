// <tech-chat>: the transcript of one conversation, and the answer that is being written.
//
// Knows the API and which branch of a conversation is on show; refuses to know who shows it. No composer is
// in here: whoever embeds it says `sending`, then `asked` or `refused`, and listens:
//
//   tech-state         what can be done now: .canAsk, .isAnswering
//   tech-conversation  another conversation is shown: detail {id, title, isNew}
//   tech-changed       a question was stored, a reply has ended, another branch is on show: {conversation}
//   tech-suggestion    one of the example questions was chosen: detail {text}
//   tech-compose       what was done here is done: the focus belongs to the composer

import { call, followReply } from "./api.js";
import { ICONS, element, wordButton } from "./dom.js";
import { sentence } from "./messages.js";
import { Transcript } from "./transcript.js";
import { MessageTree } from "./tree.js";

const LOOK_AGAIN = { loading: 1000, none: 5000, failed: 3000, away: 2000 }; // ms, by the engine's state
const LOST = "The connection is lost. Trying again…";
const ANSWERING = "An answer is being written. Stop it, or wait for its end.";

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

/** A message that is on its way: it has no id yet. */
function onItsWay(role, content, parent) {
  const status = role === "user" ? "done" : "pending";
  const created_at = new Date().toISOString();
  return { id: null, parent_id: parent, role, content, status, error: null, created_at };
}

class TechChat extends HTMLElement {
  #conversation = null; // its id
  #tree = new MessageTree();
  #engine = { state: "loading", model: null, detail: null };
  #sent = null; // what is on its way: {before, question, answer}, `before` being the branch without it
  #ours = null; // the id of the last reply that was asked for here
  #composed = null; // the last of those that came from the composer
  #again = null; // an edited question that may have arrived although it failed: {text, parent, id}
  #wantsStop = false;
  #stream = null; // {answer, abort} of the reply that is followed
  #loading = null;
  #unread = ""; // why nothing can be asked in a conversation that could not be read
  #leavesToSave = new Map(); // by the conversation's id
  #saving = null; // the conversation of which one is being saved
  #isStale = false;
  #announced = 0;
  #timer = 0;
  #removal = () => {};

  // ---- for who embeds it

  get conversation() {
    return this.#conversation;
  }

  /** The id of the message that the next question follows, null for none. */
  get leaf() {
    return this.transcript.branch.at(-1)?.id ?? null;
  }

  get isAnswering() {
    return this.#sent !== null || Boolean(this.transcript.answer?.isOpen);
  }

  get canAsk() {
    return this.reason === "";
  }

  /** Why nothing can be asked just now, in words; "" when it can. */
  get reason() {
    if (this.isAnswering) return ANSWERING;
    if (this.#loading) return "The conversation is loading.";
    if (this.#unread) return this.#unread;
    const { state, detail } = this.#engine;
    if (state === "none") return detail ?? "No model is loaded.";
    return state === "failed" ? (detail ?? "The engine failed.") : "";
  }

  /** What the conversation is called, for those who go through the page by its headings. */
  set heading(words) {
    this.name.textContent = words || "New chat";
  }

  /** Show a conversation, or with null the beginning of a new one. */
  async open(id) {
    if (id === this.#conversation && this.transcript.branch.length > 0) return;
    this.#leave();
    this.#conversation = id;
    this.#tree = new MessageTree();
    this.transcript.isAtEnd = true;
    this.#show([]);
    this.#unread = "";
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
    this.#composed = this.#begin(this.transcript.branch, onItsWay("user", text, this.leaf));
    this.#announce("The question is sent.");
  }

  /** The question is stored, and its reply is being written. */
  asked({ conversation, message, reply }) {
    if (this.#sent && this.#sent === this.#composed) this.#stored(conversation, message, reply);
    else this.#tell("tech-changed", { conversation }); // the reader has gone on
  }

  /** The question was not taken: say why. */
  refused(words) {
    this.#takeBack();
    this.alert(words);
    this.#look();
    this.#changed();
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
    const answer = this.transcript.answer;
    if (!answer?.isOpen) return;
    try {
      await call("POST", `/replies/${answer.message.id}/stop`); // the stream tells its end
    } catch (problem) {
      this.alert(problem.message);
    }
  }

  // ---- for its transcript, questions and answers

  /** Why the conversation may not be changed now; "" when it may. */
  get refusal() {
    return this.isAnswering ? ANSWERING : "";
  }

  /** Whether the conversation may be changed now; if not, it is said why. */
  mayChange() {
    this.alert(this.refusal);
    return this.refusal === "";
  }

  /** All versions of a message, itself among them. */
  versionsOf(message) {
    return message.id === null ? [message] : this.#tree.versionsOf(message);
  }

  say(words) {
    if (words) this.#announce(words);
  }

  paint(answer) {
    if (answer !== this.transcript.answer) return;
    this.transcript.keepEnd();
    // For screen readers: whole paragraphs, not pieces of words.
    const { finished } = answer.view;
    if (answer.view.source !== "" && this.#announced < 0) {
      this.#announce("The answer begins.");
      this.#announced = 0;
    }
    for (; this.#announced >= 0 && this.#announced < finished; this.#announced++) {
      this.#announce(wordsOf(answer.body.children[this.#announced]));
    }
  }

  /** Answer the same question once more, beside an earlier answer. */
  async retry(old) {
    const { id, parent_id: parent } = old.message;
    const conversation = this.#conversation;
    const sent = this.#begin(this.#upTo(old.message), null, parent);
    this.#tell("tech-compose", {});
    try {
      const asked = await call("POST", `/replies/${id}/retry`);
      if (this.#sent === sent) this.#stored(conversation, null, asked.reply_id);
      else this.#tell("tech-changed", { conversation }); // the reader has gone on
    } catch (problem) {
      if (this.#sent !== sent) return;
      this.refused(problem.message);
      if (problem.type === "still_answering") this.reload();
    }
  }

  /** Ask an edited question beside the earlier one. Gives why that cannot be, or "". */
  edit(question, text) {
    if (this.reason) return this.reason;
    this.#askAgain(question.message, text);
    return "";
  }

  /** Show the version before or after the one that a part shows, with what followed it last. */
  walk(part, step) {
    if (!this.mayChange()) return;
    const versions = this.#tree.versionsOf(part.message);
    const version = versions[versions.indexOf(part.message) + step];
    if (!version) return;
    const leaf = this.#tree.lastBelow(version.id);
    const shown = this.transcript.showInstead(part, version, this.#tree.branchTo(leaf));
    shown.focusArrow(step);
    this.#announce(`${shown.versions.getAttribute("aria-label")} is shown.`);
    this.#followLast();
    this.#changed();
    this.#saveLeaf(leaf);
  }

  // ---- its own life

  constructor() {
    super();
    this.intro = element("div", { class: "intro" });
    this.name = element("h1", { class: "unseen" });
    this.transcript = new Transcript(this, this.name, this.intro);
    this.alarm = element("div", { class: "alarm", role: "alert", hidden: true });
    this.notice = element("div", { class: "notice", role: "status", hidden: true });
    this.spoken = element("div", {
      class: "unseen",
      role: "log",
      "aria-live": "polite",
      "aria-label": "Progress of the answer",
    });
    this.foot = element("div", { class: "foot" }, this.transcript.toEnd, this.notice, this.alarm);
  }

  connectedCallback() {
    this.replaceChildren(this.transcript.scroller, this.foot, this.spoken);
    const seen = () => this.#seen();
    document.addEventListener("visibilitychange", seen);
    this.#removal = () => document.removeEventListener("visibilitychange", seen);
    this.heading = "";
    this.#paintEmpty();
    this.#look();
    this.dispatchEvent(new CustomEvent("tech-ready", { bubbles: true }));
  }

  disconnectedCallback() {
    this.#removal();
    clearTimeout(this.#timer);
    this.#leave();
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { bubbles: true, detail }));
  }

  #changed() {
    this.dataset.state = this.isAnswering ? "answering" : "idle";
    this.transcript.refresh();
    this.#tell("tech-state", {});
  }

  /** A hidden page gives its connection back, since a browser has only six for all its tabs. */
  #seen() {
    if (document.hidden) {
      this.#stream?.abort.abort();
      this.#stream = null;
      return;
    }
    this.#look();
    if (this.#isStale) this.reload();
    else this.#followLast();
    this.#isStale = false;
  }

  #leave() {
    this.#stream?.abort.abort();
    this.#stream = null;
    this.#sent = null;
    this.#wantsStop = false;
  }

  // ---- conversation

  async #load(id) {
    const loading = (this.#loading = {});
    const { leaf } = this;
    const isSaving = this.#saving === id || this.#leavesToSave.has(id);
    this.#changed();
    let conversation;
    try {
      conversation = await call("GET", `/conversations/${encodeURIComponent(id)}`);
    } catch (problem) {
      if (this.#loading !== loading) return;
      this.#loading = null;
      if (problem.status !== 404 && this.transcript.branch.length > 0) {
        this.alert(problem.message);
        this.#followLast(); // what is shown goes on
      } else this.#paintUnreadable(id, problem);
      this.#changed();
      return;
    }
    if (this.#loading !== loading) return; // another one was opened meanwhile
    this.#loading = null;
    if (this.#sent) return;
    this.#unread = "";
    const tree = new MessageTree(conversation.messages);
    // Where the reader went meanwhile is newer than what was read.
    const isAhead = this.leaf !== null && (isSaving || this.leaf !== leaf);
    let branch = isAhead ? tree.branchTo(this.leaf) : [];
    if (isAhead && branch.length === 0) return this.#load(id); // it was asked for meanwhile
    if (!isAhead) branch = tree.branchTo(conversation.active_leaf_id);
    this.alert("");
    this.#tree = tree;
    if (branch.length === 0) this.#paintEmpty();
    else this.#hideIntro();
    this.#show(branch);
    if (this.transcript.isAtEnd) this.transcript.goToEnd();
    this.heading = conversation.title;
    this.#tell("tech-conversation", { id, title: conversation.title });
    this.#followLast();
    this.#changed();
  }

  /** The branch on show up to a message, without that. */
  #upTo(message) {
    return this.transcript.branch.slice(0, this.transcript.branch.indexOf(message));
  }

  /** Keep which branch is on show, for other tabs and the next visit. */
  async #saveLeaf(leaf) {
    this.#leavesToSave.set(this.#conversation, leaf);
    if (this.#saving !== null) return;
    // What is added while one is saved comes up later in the same loop.
    for (const [conversation, leaf] of this.#leavesToSave) {
      this.#leavesToSave.delete(conversation);
      this.#saving = conversation;
      const isShown = () => conversation === this.#conversation;
      if (isShown() && leaf !== this.leaf) continue; // the reader has gone on from there
      try {
        await call("PATCH", `/conversations/${conversation}`, { active_leaf_id: leaf });
        if (!this.#leavesToSave.has(conversation)) this.#tell("tech-changed", { conversation });
      } catch (problem) {
        if (isShown()) this.alert(`Which version is shown could not be saved. ${problem.message}`);
      }
    }
    this.#saving = null;
  }

  #show(branch) {
    this.transcript.show(branch);
    this.#leaveGone();
  }

  /** Let go of the stream of an answer that is no longer shown. */
  #leaveGone() {
    if (!this.#stream || this.#stream.answer === this.transcript.answer) return;
    this.#stream.abort.abort();
    this.#stream = null;
  }

  #paintUnreadable(id, problem) {
    this.#leave();
    this.#tree = new MessageTree();
    this.#show([]);
    const isGone = problem.status === 404;
    this.#unread = isGone
      ? "This conversation is not here. Begin a new chat to ask."
      : "This conversation could not be read. Try that again before you ask.";
    const goOn = () => {
      // The button that was pressed is gone, and the focus with it.
      if (this.#unread) this.intro.querySelector("button").focus();
      else this.#tell("tech-compose", {});
    };
    const words = isGone
      ? "This conversation is not here. It may have been deleted, or belong to somebody else."
      : problem.message;
    const button = isGone
      ? wordButton("New chat", ICONS.plus, () => this.open(null).then(goOn))
      : wordButton("Try again", ICONS.retry, () => this.#load(id).then(goOn));
    this.intro.replaceChildren(element("p", { class: "lost", role: "alert" }, words), button);
    this.intro.hidden = this.name.hidden = false;
    this.#tell("tech-conversation", { id, title: null });
  }

  #hideIntro() {
    this.intro.hidden = true;
    this.name.hidden = false;
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
    this.name.hidden = true; // the introduction has its own
    this.#paintEngine();
  }

  // ---- a question and its answer

  /** Show a question, or none when it stands there already, and the answer that is only being asked for. */
  #begin(branch, question, parent = null) {
    const answer = onItsWay("assistant", "", parent);
    const sent = (this.#sent = { before: this.transcript.branch, question, answer });
    this.#announced = -1;
    this.alert("");
    this.#hideIntro();
    this.transcript.showEnd([...branch, ...(question ? [question] : []), answer]);
    this.#changed();
    return sent;
  }

  /** What was on its way has its ids now, and a place in the tree. */
  #stored(conversation, message, reply) {
    const { question, answer } = this.#sent;
    this.#sent = null;
    if (question) {
      question.id = answer.parent_id = message;
      this.#tree.add(question);
    }
    answer.id = reply;
    this.#ours = reply;
    this.#tree.add(answer);
    const isNew = this.#conversation === null;
    this.#conversation = conversation;
    if (isNew) this.#tell("tech-conversation", { id: conversation, title: null, isNew });
    this.#tell("tech-changed", { conversation });
    this.#followLast();
    if (this.#wantsStop) this.stop();
    this.#changed();
  }

  #takeBack() {
    const before = this.#sent?.before;
    this.#sent = null;
    this.#wantsStop = false;
    if (!before) return;
    this.#show(before);
    if (before.length === 0) this.#paintEmpty();
  }

  async #askAgain(original, text) {
    const { parent_id: parent } = original;
    const conversation = this.#conversation;
    // The same id again for the same text: a question that had arrived after all is not asked twice.
    const isAgain = this.#again?.text === text && this.#again.parent === parent;
    const id = isAgain ? this.#again.id : (crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`);
    this.#again = { text, parent, id };
    const sent = this.#begin(this.#upTo(original), onItsWay("user", text, parent));
    this.#announce("The question is sent.");
    this.#tell("tech-compose", {});
    try {
      const body = { text, parent_id: parent, client_id: id };
      const asked = await call("POST", `/conversations/${conversation}/messages`, body);
      this.#again = null;
      if (this.#sent === sent) this.#stored(conversation, asked.message_id, asked.reply_id);
      else this.#tell("tech-changed", { conversation }); // the reader has gone on
    } catch (problem) {
      if (this.#sent !== sent) return;
      this.#takeBack();
      this.#look();
      this.#changed();
      this.transcript.partOf(original)?.edit(text, problem.message);
      if (problem.type === "still_answering") this.reload();
    }
  }

  /** Follow the answer at the end, if it is still being written and nobody does yet. */
  async #followLast() {
    const answer = this.transcript.answer;
    if (!answer?.isOpen || answer.message.id === null || document.hidden) return;
    if (this.#stream?.answer === answer) return;
    this.#stream?.abort.abort();
    const abort = new AbortController();
    const stream = (this.#stream = { answer, abort });
    const isOurs = () => this.#stream === stream;
    if (answer.view.source !== "") this.#announced = answer.view.finished;
    else this.#announced = -1;
    try {
      await followReply(answer.message.id, {
        after: answer.lastEvent,
        signal: abort.signal,
        onEvent: (event) => isOurs() && answer.take(event),
        onLost: (isLost) => {
          if (!isOurs()) return;
          if (isLost && !answer.note.hasChildNodes()) this.#announce(LOST);
          answer.mention(isLost ? LOST : "");
        },
      });
    } catch (problem) {
      if (isOurs()) answer.settle("failed", null, problem);
    }
    if (!isOurs() || answer.isOpen) return;
    this.#stream = null;
    this.#announce(answer.status === "done" ? "The answer is complete." : "The answer has ended early.");
    if (answer.status === "failed") this.#look();
    // Of all the tabs that follow it, the one that asked tells the others.
    if (answer.message.id === this.#ours) this.#tell("tech-changed", { conversation: this.#conversation });
    this.#changed();
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
}

/** A finished block of an answer as it is read out. */
function wordsOf(block) {
  const code = block.querySelector("pre");
  if (code) {
    const lines = code.textContent.trimEnd().split("\n").length;
    return `${code.getAttribute("aria-label")}, ${lines} ${lines === 1 ? "line" : "lines"}.`;
  }
  const parts = [...block.querySelectorAll("tr, li")];
  if (parts.length === 0) return block.textContent;
  const words = parts.map((part) => (part.cells ? [...part.cells] : [part]).map((one) => one.textContent));
  return words.map((cells) => `${cells.join(", ")}.`).join(" ");
}

customElements.define("tech-chat", TechChat);
