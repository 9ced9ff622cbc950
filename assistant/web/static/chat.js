// <tech-chat>: the transcript of one conversation, and the answer that is being written.
//
// Knows the API and which branch of a conversation is on show; refuses to know who shows it. No composer is
// in here: whoever embeds it says `sending`, then `asked` or `refused` of what that gave, and listens:
//
//   tech-state         what can be done now: .canAsk, .isAnswering
//   tech-conversation  another conversation is shown: detail {id, title, isNew}
//   tech-changed       a question was stored, a reply has ended, another branch is on show: {conversation}
//   tech-suggestion    one of the example questions was chosen: detail {text}
//   tech-compose       what was done here is done: the focus belongs to the composer

import { ask, call, followReply } from "./api.js";
import { ICONS, element, wordButton } from "./dom.js";
import { Engine } from "./engine.js";
import { Consent } from "./licence.js";
import { sentence } from "./messages.js";
import { Transcript } from "./transcript.js";
import { MessageTree } from "./tree.js";

const LOST = "The connection is lost. Trying again…";
const UNACCEPTED = "licence_not_accepted"; // the problem's type
const LICENCE = "The model’s licence is to be accepted first.";
const ANSWERING = "An answer is being written. Stop it, or wait for its end.";

const READING = "The documentation is still being read. The answer comes as soon as that is done.";
const ABOUT = "Ask about code: errors, functions, tools. Answers can be wrong: try them before you rely on them.";
const ABOUT_QUOTES = "Ask about Python: what to use, how it is called, what it does. Answers are quotations.";

// What the documentation answers well, and what a model does.
const QUOTED_EXAMPLES = [
  ["Remove a folder", "How do I remove a folder and everything in it?"],
  ["Parse a date", "How do I parse a date such as “1 May 2026” from text?"],
  ["Compare two ways", "What is the difference between sorted and list.sort?"],
  ["Explain a function", "What does functools.lru_cache do?"],
];
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
  #sent = null; // what is on its way: {before, question, answer}, `before` being the branch without it
  #ours = null; // the id of the last reply that was asked for here
  #wantsStop = false;
  #stream = null; // {answer, abort} of the reply that is followed
  #loading = null;
  #unread = ""; // why nothing can be asked in a conversation that could not be read
  #leavesToSave = new Map(); // by the conversation's id
  #saving = null; // the conversation of which one is being saved
  #isStale = false;
  #announced = 0;
  #grounding = true; // whether documentation is looked up for answers in this conversation
  #storedGrounding = true; // the same, as the application has it
  #groundingSave = { of: null, done: Promise.resolve() }; // the last one; of which conversation, until done
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
    return this.#unread || this.engine.reason;
  }

  /** Whether a model answers that can be given documentation to read. */
  get canGround() {
    return this.engine.canGround;
  }

  /** Whether documentation is looked up for the answers of this conversation. */
  get grounding() {
    return this.#grounding;
  }

  set grounding(grounding) {
    this.#grounding = grounding;
    if (this.#conversation !== null) this.#saveGrounding();
    this.#changed();
  }

  /** Whether a licence has to be accepted first; if so, it is asked for, and then `act` is done. */
  mustConsent(act) {
    const { licence, model } = this.engine;
    if (licence) this.consent.open(licence, model, act);
    return licence !== null;
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
    this.consent.close();
    if (id === null) {
      this.#loading = null;
      this.#grounding = this.#storedGrounding = true;
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

  /** A question is on its way, as what this gives. */
  sending(text) {
    const sent = this.#begin(this.transcript.branch, onItsWay("user", text, this.leaf));
    this.#announce("The question is sent.");
    return sent;
  }

  /** What was sent is stored, and its reply is being written. */
  asked(sent, asked) {
    if (this.#sent === sent) this.#stored(asked);
    else this.#tell("tech-changed", { conversation: asked.conversation_id }); // the reader has gone on
  }

  /** It was not taken: say why, or ask for what is missing, after which `again` asks it again. */
  refused(sent, problem, again) {
    if (this.#sent !== sent) return; // the reader has gone on
    this.#takeBack();
    this.alert(problem.type === UNACCEPTED ? "" : problem.message);
    this.#changed();
    this.#lookAfter(problem, again);
  }

  /** Something went wrong that concerns the next question; "" takes it back. */
  alert(words) {
    if (words === this.engine.notice.dataset.words) words = ""; // it stands there already
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

  // ---- for its transcript, questions and answers, and for the engine

  /** Whether the documentation answers just now. */
  get quotes() {
    return this.engine.quotes;
  }

  /** Something about the engine is different. */
  changed() {
    this.#paintExamples();
    this.#mentionReading();
    this.#changed();
  }

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

  /** An answer of the documentation is there, all at once: it is read from its beginning. */
  quoted(answer) {
    if (!this.quotes) this.engine.look(); // it was not known that there is no model
    if (answer === this.transcript.answer) this.transcript.goToBeginning(answer);
  }

  /** Answer the same question once more, beside an earlier answer. */
  async retry(old) {
    if (this.mustConsent(() => this.transcript.partOf(old.message) && this.retry(old))) return;
    const { id, parent_id: parent } = old.message;
    const sent = this.#begin(this.#upTo(old.message), null, parent);
    this.#tell("tech-compose", {});
    try {
      this.asked(sent, await call("POST", `/replies/${id}/retry`));
    } catch (problem) {
      if (this.#sent !== sent) return;
      this.refused(sent, problem, () => this.retry(old));
      if (problem.type === "still_answering") this.reload();
    }
  }

  /** Ask an edited question beside the earlier one. Gives why that cannot be, or "". */
  edit(question, text) {
    if (this.reason) return this.reason;
    // Once accepted, what then stands in the editor is asked, if it is still open.
    if (this.mustConsent(() => question.editor?.requestSubmit())) return LICENCE;
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
    this.engine = new Engine(this);
    this.consent = new Consent({
      accept: (licence) => this.engine.accept(licence),
      alert: (words) => this.alert(words),
      closed: () => this.#tell("tech-compose", {}),
    });
    this.spoken = element("div", {
      class: "unseen",
      role: "log",
      "aria-live": "polite",
      "aria-label": "Progress of the answer",
    });
    this.foot = element(
      "div",
      { class: "foot" },
      this.transcript.toEnd,
      this.engine.node,
      this.engine.notice,
      this.consent.node,
      this.alarm,
    );
  }

  connectedCallback() {
    this.replaceChildren(this.transcript.scroller, this.foot, this.spoken);
    const seen = () => this.#seen();
    document.addEventListener("visibilitychange", seen);
    this.#removal = () => document.removeEventListener("visibilitychange", seen);
    this.heading = "";
    this.#paintEmpty();
    this.engine.watch();
    this.dispatchEvent(new CustomEvent("tech-ready", { bubbles: true }));
  }

  disconnectedCallback() {
    this.#removal();
    this.engine.leave();
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
    this.engine.look();
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
      conversation = await this.#read(id, loading);
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
    if (this.#groundingSave.of !== id) {
      this.#grounding = this.#storedGrounding = conversation.grounding ?? true;
    }
    if (branch.length === 0) this.#paintEmpty();
    else this.#hideIntro();
    this.#show(branch);
    if (this.transcript.isAtEnd) this.transcript.goToEnd();
    this.heading = conversation.title;
    this.#tell("tech-conversation", { id, title: conversation.title });
    this.#followLast();
    this.#changed();
  }

  /** Read a conversation, which comes in pages, newest first. Of a long one that page is shown meanwhile. */
  async #read(id, loading) {
    const path = `/conversations/${encodeURIComponent(id)}`;
    const conversation = await call("GET", path);
    let older = conversation.older ?? null;
    if (older !== null && this.transcript.branch.length === 0 && this.#loading === loading) {
      this.#tree = new MessageTree(conversation.messages);
      this.#show(this.#tree.branchTo(conversation.active_leaf_id));
      this.transcript.goToEnd();
    }
    while (older !== null && this.#loading === loading) {
      const page = await call("GET", `${path}?before=${older}`);
      conversation.messages = [...page.messages, ...conversation.messages];
      older = page.older;
    }
    return conversation;
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
    this.#placeEngine();
  }

  /** The engine's account stands in the introduction, else above the composer. */
  #placeEngine() {
    const isIntroduced = !this.intro.hidden && this.intro.contains(this.examples);
    if (isIntroduced) this.intro.append(this.engine.node);
    else this.transcript.toEnd.after(this.engine.node);
  }

  #paintEmpty() {
    this.about = element("p");
    this.examples = element("div", { class: "examples", role: "group", "aria-label": "Example questions" });
    this.#paintExamples();
    const what = element("div", { class: "what" }, element("h1", {}, "Tech Assistant"), this.about, this.examples);
    this.intro.replaceChildren(what);
    this.intro.hidden = false;
    this.name.hidden = true; // the introduction has its own
    this.#placeEngine();
  }

  /** Examples that fit who answers; unseen until that is known, so that nothing moves. */
  #paintExamples() {
    const { isKnown, quotes } = this.engine;
    const whose = `${isKnown} ${quotes}`;
    if (this.examples.dataset.whose === whose || this.examples.contains(document.activeElement)) return;
    this.examples.dataset.whose = whose;
    this.examples.classList.toggle("unknown", !isKnown);
    this.about.textContent = quotes ? ABOUT_QUOTES : ABOUT;
    this.examples.replaceChildren(
      ...(quotes ? QUOTED_EXAMPLES : EXAMPLES).map(([name, text]) => {
        const parts = [element("strong", {}, name), element("span", {}, text)];
        const button = element("button", { type: "button" }, ...parts);
        button.addEventListener("click", () => this.#tell("tech-suggestion", { text }));
        return button;
      }),
    );
  }

  // ---- a question and its answer

  /** Show a question, or none when it stands there already, and the answer that is only being asked for. */
  #begin(branch, question, parent = null) {
    const answer = onItsWay("assistant", "", parent);
    const grounding = this.#grounding;
    const sent = (this.#sent = { before: this.transcript.branch, question, answer, grounding });
    this.#announced = -1;
    this.alert("");
    this.#hideIntro();
    this.transcript.showEnd([...branch, ...(question ? [question] : []), answer]);
    this.#mentionReading();
    this.#changed();
    return sent;
  }

  /** What was on its way has its ids now, and a place in the tree. */
  #stored({ conversation_id: conversation, message_id: message, reply_id: reply }) {
    const { question, answer, grounding } = this.#sent;
    this.#sent = null;
    if (question) {
      question.id = answer.parent_id = message;
      this.#tree.add(question);
    }
    answer.id = reply;
    this.#ours = reply;
    this.#tree.add(answer);
    const isNew = this.#conversation === null;
    if (isNew) this.#storedGrounding = grounding;
    this.#conversation = conversation;
    if (isNew && this.#grounding !== grounding) this.#saveGrounding(); // switched since it was sent
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
    const sent = this.#begin(this.#upTo(original), onItsWay("user", text, parent));
    this.#announce("The question is sent.");
    this.#tell("tech-compose", {});
    try {
      this.asked(sent, await ask(conversation, { text, parent }));
    } catch (problem) {
      if (this.#sent !== sent) return;
      this.#takeBack();
      this.#changed();
      const part = this.transcript.partOf(original);
      part?.edit(text, problem.message);
      this.#lookAfter(problem, () => part?.editor?.requestSubmit());
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
    if (answer.status === "failed") this.engine.look();
    // Of all the tabs that follow it, the one that asked tells the others.
    if (answer.message.id === this.#ours) this.#tell("tech-changed", { conversation: this.#conversation });
    this.#changed();
  }

  /** What the engine says may have been out of date; the licence it wants is asked for. */
  async #lookAfter({ type, message }, again) {
    const conversation = this.#conversation;
    await this.engine.look();
    if (type !== UNACCEPTED || conversation !== this.#conversation) return;
    if (!this.mustConsent(again)) this.alert(message);
  }

  #announce(words) {
    if (this.spoken.childElementCount > 20) this.spoken.firstElementChild.remove();
    this.spoken.append(element("p", {}, words));
  }

  // ---- documentation

  /** Keep whether documentation is looked up, one change after the other. */
  #saveGrounding() {
    const of = this.#conversation;
    const grounding = this.#grounding;
    const save = async () => {
      try {
        await call("PATCH", `/conversations/${of}`, { grounding });
        if (of === this.#conversation) this.#storedGrounding = grounding;
        this.#tell("tech-changed", { conversation: of });
      } catch (problem) {
        // The last one counts; others were meant to be changed again.
        if (of !== this.#conversation || saving !== this.#groundingSave) return;
        this.#grounding = this.#storedGrounding;
        this.alert(`The documentation could not be switched ${grounding ? "on" : "off"}. ${problem.message}`);
        this.#changed();
      }
    };
    const saving = { of, done: this.#groundingSave.done.then(save) };
    this.#groundingSave = saving;
    saving.done.then(() => (saving.of = null));
  }

  /** Say beneath an answer that waits for the documentation what it waits for. */
  #mentionReading() {
    const answer = this.transcript.answer;
    if (answer?.status !== "pending") return;
    const { textContent: said } = answer.note;
    if (this.engine.isReading && said === "") answer.mention(READING);
    else if (!this.engine.isReading && said === READING) answer.mention("");
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
