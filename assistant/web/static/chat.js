// The transcript of one conversation, and the answer that is being written: what <tech-chat> is on every page.
//
// page_chat.js makes it the element of the browser chat, and widget/widget_chat.js that of the widget: each has an
// introduction of its own. It has no composer. The page calls `sending` when it sends a question, then `asked` or
// `refused`, and listens to:
//
//   tech-state         .canAsk or .isAnswering may have changed
//   tech-conversation  another conversation is shown: detail {id, title, isNew}
//   tech-changed       a question was stored, a reply ended, or the branch changed: detail {conversation}
//   tech-suggestion    the reader chose an example question: detail {text}
//   tech-compose       the focus should return to the composer

import { ask, call, followReply } from "./api.js";
import { ICONS, element, emit, wordButton } from "./dom.js";
import { Engine } from "./engine.js";
import { sentence } from "./messages.js";
import { Transcript } from "./transcript.js";
import { t } from "./translation.js";
import { MessageTree } from "./tree.js";

const LOST = "The connection is lost. Trying again…";
const UNACCEPTED = "licence_not_accepted"; // the problem's type
const LICENCE = "Accept the model’s licence first.";
const ANSWERING = "An answer is being written. Stop it, or wait until it is complete.";

const READING = "The documentation is still being read. The answer will follow.";

/** A message that is being sent and has no id yet. */
function unsavedMessage(role, content, parent) {
  const status = role === "user" ? "done" : "pending";
  const created_at = new Date().toISOString();
  return { id: null, parent_id: parent, role, content, status, error: null, created_at };
}

export class TechChat extends HTMLElement {
  #conversation = null; // the id
  #tree = new MessageTree();
  #sent = null; // {before, question, answer} while a question is sent; `before` is the branch without it
  #ours = null; // the id of the last reply that this tab asked for
  #wantsStop = false;
  #stream = null; // {answer, abort} of the followed reply
  #loading = null;
  #unread = ""; // why no question can be asked in a conversation that failed to load
  #leavesToSave = new Map(); // by the conversation's id
  #saving = null; // the id of the conversation whose leaf is being saved
  #isStale = false;
  #announced = 0; // finished blocks of the answer that were announced; -1 before it begins
  #grounding = true; // whether documentation is searched for answers in this conversation
  #storedGrounding = true; // the same, as stored by the application
  #groundingSave = { of: null, done: Promise.resolve() }; // the last save; `of` is null once it is done

  // ---- for the page

  get conversation() {
    return this.#conversation;
  }

  /** The id of the message that the next question follows, or null. */
  get leaf() {
    return this.transcript.branch.at(-1)?.id ?? null;
  }

  get isAnswering() {
    return this.#sent !== null || Boolean(this.transcript.answer?.isOpen);
  }

  get canAsk() {
    return this.reason === "";
  }

  /** Why no question can be asked now, or "". */
  get reason() {
    if (this.isAnswering) return t(ANSWERING);
    if (this.#loading) return t("The conversation is loading.");
    return this.#unread || this.engine.reason;
  }

  /** Whether documentation is searched for the answers of this conversation. */
  get grounding() {
    return this.#grounding;
  }

  set grounding(grounding) {
    this.#grounding = grounding;
    if (this.#conversation !== null) this.#saveGrounding();
    this.#changed();
  }

  /** The conversation's title, as a heading for screen readers. */
  set heading(text) {
    this.name.textContent = text || "New chat";
  }

  /** Show a conversation, or a new chat if `id` is null. */
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
      this.#grounding = this.#storedGrounding = true;
      this.#paintEmpty();
      emit(this, "tech-conversation", { id, title: null });
      this.#changed();
      return;
    }
    this.intro.hidden = true;
    await this.#load(id);
  }

  /** Load the conversation again, because another tab has changed it. */
  async reload() {
    if (document.hidden) this.#isStale = true;
    else if (this.#conversation !== null && !this.#sent) await this.#load(this.#conversation);
  }

  /** Show a question while it is sent. Returns what `asked` or `refused` then takes as `sent`. */
  sending(text) {
    const sent = this.#begin(this.transcript.branch, unsavedMessage("user", text, this.leaf));
    this.announce(t("The question was sent."));
    return sent;
  }

  /** The question is stored, and its reply is being written. */
  asked(sent, ids) {
    if (this.#sent === sent) this.#stored(ids);
    else emit(this, "tech-changed", { conversation: ids.conversation_id }); // another one is open now
  }

  /** The question was refused. Say why, or ask for the licence, after which `again` repeats the question. */
  refused(sent, problem, again) {
    if (this.#sent !== sent) return; // another conversation is open now
    this.#takeBack();
    this.alert(problem.type === UNACCEPTED ? "" : problem.message);
    this.#changed();
    this.#updateAfter(problem, again);
  }

  /** Show an error above the composer. "" removes it. */
  alert(text) {
    if (text === this.engine.notice.dataset.text) text = ""; // the notice already says it
    this.alarm.replaceChildren(...(text ? sentence(text) : []));
    this.alarm.hidden = text === "";
  }

  /** Stop the answer that is being written. Its text is kept. */
  async stop() {
    this.#wantsStop = this.#sent !== null; // the reply has no id yet
    if (this.#wantsStop) return;
    const answer = this.transcript.answer;
    if (!answer?.isOpen) return;
    try {
      await call("POST", `/replies/${answer.message.id}/stop`); // its stream then ends
    } catch (problem) {
      this.alert(problem.message);
    }
  }

  // ---- as the host of the transcript, its questions and answers, and the engine

  /** Whether the documentation answers now. */
  get quotes() {
    return this.engine.quotes;
  }

  /** The state of the engine may have changed. */
  changed() {
    this.#mentionReading();
    this.#changed();
  }

  /** Why the conversation cannot be changed now, or "". */
  get refusal() {
    return this.isAnswering ? t(ANSWERING) : "";
  }

  /** Whether the conversation can be changed now. If not, say why. */
  mayChange() {
    this.alert(this.refusal);
    return this.refusal === "";
  }

  /** All versions of a message, including itself. */
  versionsOf(message) {
    return message.id === null ? [message] : this.#tree.versionsOf(message);
  }

  /** Have screen readers read a text out. */
  announce(text) {
    if (!text) return;
    if (this.spoken.childElementCount > 20) this.spoken.firstElementChild.remove();
    this.spoken.append(element("p", {}, text));
  }

  /** The text of an answer has grown. */
  paint(answer) {
    if (answer !== this.transcript.answer) return;
    this.transcript.keepEnd();
    // Screen readers get whole blocks.
    const { finished } = answer.view;
    if (answer.view.source !== "" && this.#announced < 0) {
      this.announce(t("The answer begins."));
      this.#announced = 0;
    }
    for (; this.#announced >= 0 && this.#announced < finished; this.#announced++) {
      this.announce(spokenText(answer.body.children[this.#announced]));
    }
  }

  /** An answer from the documentation is complete. It comes all at once, so it is read from its beginning. */
  quoted(answer) {
    if (!this.quotes) this.engine.update(); // the model must have stopped
    if (answer === this.transcript.answer) this.transcript.goToBeginning(answer);
  }

  /** Answer the same question again, as a further version of an answer. */
  async retry(old) {
    if (this.mustConsent(() => this.transcript.viewOf(old.message) && this.retry(old))) return;
    const { id, parent_id: parent } = old.message;
    const sent = this.#begin(this.#upTo(old.message), null, parent);
    emit(this, "tech-compose");
    try {
      this.asked(sent, await call("POST", `/replies/${id}/retry`));
    } catch (problem) {
      if (this.#sent !== sent) return;
      this.refused(sent, problem, () => this.retry(old));
      if (problem.type === "still_answering") this.reload();
    }
  }

  /** Ask an edited question as a further version. Returns why that is impossible, or "". */
  edit(question, text) {
    if (this.reason) return this.reason;
    // Once the licence is accepted, the text in the editor is asked, if it is still open.
    if (this.mustConsent(() => question.editor?.requestSubmit())) return LICENCE;
    this.#askAgain(question.message, text);
    return "";
  }

  /** Show the previous or next version of a message, with the newest branch below it. */
  walk(view, step) {
    if (!this.mayChange()) return;
    const versions = this.#tree.versionsOf(view.message);
    const version = versions[versions.indexOf(view.message) + step];
    if (!version) return;
    const leaf = this.#tree.lastBelow(version.id);
    const shown = this.transcript.showInstead(view, version, this.#tree.branchTo(leaf));
    shown.focusArrow(step);
    this.announce(`${shown.versions.getAttribute("aria-label")} is shown.`);
    this.#followLast();
    this.#changed();
    this.#saveLeaf(leaf);
  }

  // ---- what a page may do in its own way

  /** The nodes that an empty conversation shows. */
  introduction() {
    return [];
  }

  /** The introduction is shown now, or no longer. */
  introduced() {}

  /** The nodes under the transcript. */
  footing() {
    return [this.transcript.toEnd, this.engine.notice, this.alarm];
  }

  /** The last actions of an answer that is complete. */
  actionsOf(answer) {
    return answer.details();
  }

  /** Whether the reader must accept a licence first. If so, ask, and call `act` once it is accepted. */
  mustConsent(act) {
    return false;
  }

  // ---- the element

  constructor() {
    super();
    this.intro = element("div", { class: "intro" });
    this.name = element("h1", { class: "unseen" });
    this.transcript = new Transcript(this, this.name, this.intro);
    this.alarm = element("div", { class: "alarm", role: "alert", hidden: true });
    this.engine = new Engine(this);
    this.spoken = element("div", {
      class: "unseen",
      role: "log",
      "aria-live": "polite",
      "aria-label": "Progress of the answer",
    });
  }

  connectedCallback() {
    this.foot = element("div", { class: "foot" }, ...this.footing());
    this.replaceChildren(this.transcript.scroller, this.foot, this.spoken);
    document.addEventListener("visibilitychange", this.#visibilityChanged);
    this.heading = "";
    this.#paintEmpty();
    this.engine.watch();
    emit(this, "tech-ready");
  }

  disconnectedCallback() {
    document.removeEventListener("visibilitychange", this.#visibilityChanged);
    this.engine.leave();
    this.#leave();
  }

  #changed() {
    this.dataset.state = this.isAnswering ? "answering" : "idle";
    this.transcript.refresh();
    emit(this, "tech-state");
  }

  /** A hidden page closes its stream, because a browser has only six connections for all its tabs. */
  #visibilityChanged = () => {
    if (document.hidden) return this.#unfollow();
    this.engine.update();
    if (this.#isStale) this.reload();
    else this.#followLast();
    this.#isStale = false;
  };

  #unfollow() {
    this.#stream?.abort.abort();
    this.#stream = null;
  }

  #leave() {
    this.#unfollow();
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
        this.#followLast(); // keep what is shown
      } else this.#paintUnreadable(id, problem);
      this.#changed();
      return;
    }
    if (this.#loading !== loading) return; // the reader has opened another one
    this.#loading = null;
    if (this.#sent) return;
    this.#unread = "";
    const tree = new MessageTree(conversation.messages);
    // If the reader has changed the branch meanwhile, their choice is newer than the loaded one.
    const isAhead = this.leaf !== null && (isSaving || this.leaf !== leaf);
    let branch = isAhead ? tree.branchTo(this.leaf) : [];
    if (isAhead && branch.length === 0) return this.#load(id); // the leaf is newer than what was loaded
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
    emit(this, "tech-conversation", { id, title: conversation.title });
    this.#followLast();
    this.#changed();
  }

  /** Load a conversation page by page, newest first. The first page of a long one is shown meanwhile. */
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

  /** The messages of the shown branch before a message. */
  #upTo(message) {
    return this.transcript.branch.slice(0, this.transcript.branch.indexOf(message));
  }

  /** Store which branch is shown, for other tabs and the next visit. */
  async #saveLeaf(leaf) {
    this.#leavesToSave.set(this.#conversation, leaf);
    if (this.#saving !== null) return;
    // This loop also reaches leaves that are added while another one is saved.
    for (const [conversation, leaf] of this.#leavesToSave) {
      this.#leavesToSave.delete(conversation);
      this.#saving = conversation;
      const isShown = () => conversation === this.#conversation;
      if (isShown() && leaf !== this.leaf) continue; // the branch has grown since
      try {
        await call("PATCH", `/conversations/${conversation}`, { active_leaf_id: leaf });
        if (!this.#leavesToSave.has(conversation)) emit(this, "tech-changed", { conversation });
      } catch (problem) {
        if (isShown()) this.alert(`The choice of version could not be saved. ${problem.message}`);
      }
    }
    this.#saving = null;
  }

  #show(branch) {
    this.transcript.show(branch);
    if (this.#stream?.answer !== this.transcript.answer) this.#unfollow(); // it is no longer shown
  }

  #paintUnreadable(id, problem) {
    this.#leave();
    this.#tree = new MessageTree();
    this.#show([]);
    const isGone = problem.status === 404;
    this.#unread = isGone
      ? "This conversation does not exist. Start a new chat to ask."
      : "This conversation could not be loaded. Load it again before you ask.";
    const focusNext = () => {
      // The pressed button has disappeared, and the focus with it.
      if (this.#unread) this.intro.querySelector("button").focus();
      else emit(this, "tech-compose");
    };
    const text = isGone
      ? "This conversation cannot be found. It may have been deleted, or belong to somebody else."
      : problem.message;
    const button = isGone
      ? wordButton("New chat", ICONS.plus, () => this.open(null).then(focusNext))
      : wordButton("Try again", ICONS.retry, () => this.#load(id).then(focusNext));
    this.intro.replaceChildren(element("p", { class: "lost", role: "alert" }, text), button);
    this.intro.hidden = this.name.hidden = false;
    emit(this, "tech-conversation", { id, title: null });
  }

  #hideIntro() {
    this.intro.hidden = true;
    this.name.hidden = false;
    this.introduced();
  }

  #paintEmpty() {
    this.intro.replaceChildren(...this.introduction());
    this.intro.hidden = false;
    this.name.hidden = true; // the introduction has its own heading
    this.introduced();
  }

  // ---- a question and its answer

  /** Show an empty answer, after a question unless that is already shown, while both are sent. */
  #begin(branch, question, parent = null) {
    const answer = unsavedMessage("assistant", "", parent);
    const grounding = this.#grounding;
    const sent = (this.#sent = { before: this.transcript.branch, question, answer, grounding });
    this.#announced = -1;
    this.alert("");
    this.#hideIntro();
    this.transcript.showEnd([...branch, question, answer].filter(Boolean));
    this.#mentionReading();
    this.#changed();
    return sent;
  }

  /** Give the sent messages their ids, and add them to the tree. */
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
    if (isNew && this.#grounding !== grounding) this.#saveGrounding(); // it was switched meanwhile
    if (isNew) emit(this, "tech-conversation", { id: conversation, title: null, isNew });
    emit(this, "tech-changed", { conversation });
    this.#followLast();
    if (this.#wantsStop) this.stop();
    this.#changed();
  }

  /** Show the branch as it was before the question was sent. */
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
    const sent = this.#begin(this.#upTo(original), unsavedMessage("user", text, parent));
    this.announce(t("The question was sent."));
    emit(this, "tech-compose");
    try {
      this.asked(sent, await ask(conversation, { text, parent }));
    } catch (problem) {
      if (this.#sent !== sent) return;
      this.#takeBack();
      this.#changed();
      const view = this.transcript.viewOf(original);
      view?.edit(text, problem.message);
      this.#updateAfter(problem, () => view?.editor?.requestSubmit());
      if (problem.type === "still_answering") this.reload();
    }
  }

  /** Follow the last answer if it is still being written and not yet followed. */
  async #followLast() {
    const answer = this.transcript.answer;
    if (!answer?.isOpen || answer.message.id === null || document.hidden) return;
    if (this.#stream?.answer === answer) return;
    this.#stream?.abort.abort();
    const abort = new AbortController();
    const stream = (this.#stream = { answer, abort });
    const isOurs = () => this.#stream === stream;
    this.#announced = answer.view.source === "" ? -1 : answer.view.finished;
    try {
      await followReply(answer.message.id, {
        after: answer.lastEvent,
        signal: abort.signal,
        onEvent: (event) => isOurs() && answer.take(event),
        onLost: (isLost) => {
          if (!isOurs()) return;
          if (isLost && !answer.note.hasChildNodes()) this.announce(t(LOST));
          answer.mention(isLost ? t(LOST) : "");
        },
      });
    } catch (problem) {
      if (isOurs()) answer.settle("failed", null, problem);
    }
    if (!isOurs() || answer.isOpen) return;
    this.#stream = null;
    this.announce(t(answer.status === "done" ? "The answer is complete." : "The answer ended early."));
    if (answer.status === "failed") this.engine.update();
    // If several tabs follow the reply, only the one that asked notifies the others.
    if (answer.message.id === this.#ours) emit(this, "tech-changed", { conversation: this.#conversation });
    this.#changed();
  }

  /** After a refusal, update the engine's state, and ask for the licence if that was the reason. */
  async #updateAfter({ type, message }, again) {
    const conversation = this.#conversation;
    await this.engine.update();
    if (type !== UNACCEPTED || conversation !== this.#conversation) return;
    if (!this.mustConsent(again)) this.alert(message);
  }

  // ---- documentation

  /** Store whether documentation is searched, one change after the other. */
  #saveGrounding() {
    const of = this.#conversation;
    const grounding = this.#grounding;
    const save = async () => {
      try {
        await call("PATCH", `/conversations/${of}`, { grounding });
        if (of === this.#conversation) this.#storedGrounding = grounding;
        emit(this, "tech-changed", { conversation: of });
      } catch (problem) {
        // Only the last change counts.
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

  /** Say beneath a pending answer that it waits for the documentation. */
  #mentionReading() {
    const answer = this.transcript.answer;
    if (answer?.status !== "pending") return;
    const note = answer.note.textContent;
    if (this.engine.isReading && note === "") answer.mention(READING);
    else if (!this.engine.isReading && note === READING) answer.mention("");
  }
}

/** The text of a finished block for screen readers. */
function spokenText(finished) {
  const code = finished.querySelector("pre");
  if (code) {
    const lines = code.textContent.trimEnd().split("\n").length;
    return `${code.getAttribute("aria-label")}, ${lines} ${lines === 1 ? "line" : "lines"}.`;
  }
  const block = finished.cloneNode(true); // a drawn formula has its text three times
  for (const formula of block.querySelectorAll(".formula")) formula.textContent = formula.dataset.tex;
  const parts = [...block.querySelectorAll("tr, li")];
  if (parts.length === 0) return block.dataset.tex ?? block.textContent;
  const rows = parts.map((part) => (part.cells ? [...part.cells] : [part]).map((one) => one.textContent));
  return rows.map((cells) => `${cells.join(", ")}.`).join(" ");
}
