// <tech-conversations>: the list of conversations, beside the chat or, on a phone, as a sheet over it.
//
// Its events:
//
//   tech-open    the reader chose a conversation: detail {id}, null for a new one
//   tech-sheet   whether the list covers the page as a sheet: detail {isSheet}
//   tech-listed  a conversation was renamed, deleted or restored: detail {conversation, did, wasOpen}

import { call } from "./api.js";
import { ICONS, NEW_CHAT, element, emit, icon, iconButton, isComposing, whenPressed } from "./dom.js";
import { Menu } from "./menu.js";
import { codeNodes } from "./written.js";

const PAGE = 50;
const FOLDED = "tech-assistant-folded"; // the storage key for a hidden list
const PHONE = "(max-width: 48rem)";
const UNDO_MS = 10_000; // how long a toast offers to undo a deletion
const LONGEST_UNDO_MS = 50_000; // while the reader points at it: the application can restore for a minute
const LONGEST_TITLE = 200;

/** The heading in the list for a time, relative to now. */
function groupOf(time, now = new Date()) {
  const midnight = new Date(now);
  midnight.setHours(0, 0, 0, 0);
  const days = (midnight - new Date(time)) / 86_400_000;
  if (days <= 0) return "Today";
  if (days <= 1) return "Yesterday";
  if (days <= 7) return "Last seven days";
  if (days <= 30) return "Last thirty days";
  return new Date(time).toLocaleDateString(undefined, { month: "long", year: "numeric" });
}

class TechConversations extends HTMLElement {
  #current = null;
  #conversations = [];
  #next = null;
  #request = null; // the promise of the running request
  #nextRequest = null; // the promise of the request after it
  #phone = window.matchMedia(PHONE);
  #isRenaming = false;
  #isDirty = false; // whether the list must be painted again
  #toastTimer = 0;
  #toastUntil = 0;
  #toastReturn = null; // the id of the conversation that gets the focus after the toast

  constructor() {
    super();
    const choose = () => this.#choose(null);
    this.menu = iconButton("Show conversations", ICONS.menu, () => this.#show(true));
    this.heading = element("span", { class: "title" });
    this.newAbove = iconButton("New chat", ICONS.plus, choose);
    this.bar = element("div", { class: "bar" }, this.menu, this.heading, this.newAbove);
    this.fold = iconButton("Hide conversations", ICONS.panel, () => this.#show(false));
    this.new = element("button", { type: "button", class: "new", click: choose }, icon(ICONS.plus), "New chat");
    for (const button of [this.new, this.newAbove]) button.title = `New chat (${NEW_CHAT})`;
    this.list = element("div", { class: "list" });
    const keydown = ({ key }) => key === "Escape" && this.#phone.matches && this.#show(false);
    this.panel = element(
      "nav",
      { class: "panel", "aria-label": "Conversations", keydown },
      element("div", { class: "head" }, element("span", { class: "name" }, "Tech Assistant"), this.fold),
      this.new,
      this.list,
    );
    this.shade = element("div", { class: "shade", click: () => this.#show(false) });
    this.actions = new Menu("Options");
    const endToast = ({ key }) => key === "Escape" && this.#endToast();
    this.toast = element("div", { class: "toast", hidden: true, keydown: endToast });
    this.live = element("div", { class: "toasts", role: "status" }, this.toast);
  }

  connectedCallback() {
    this.replaceChildren(this.bar, this.shade, this.panel, this.actions.node, this.live);
    this.#phone.addEventListener("change", this.#showAtFirst);
    this.#showAtFirst();
    this.refresh();
    emit(this, "tech-ready");
  }

  disconnectedCallback() {
    this.#phone.removeEventListener("change", this.#showAtFirst);
    clearTimeout(this.#toastTimer);
    this.actions.close();
  }

  /** The id of the open conversation. */
  set current(id) {
    this.#current = id;
    this.#mark();
  }

  /** A conversation's title, or null if it is not in the list. */
  titleOf(id) {
    return this.#conversations.find((one) => one.id === id)?.title ?? null;
  }

  /** Load the newest page again. Calls during a request share one further request after it. */
  refresh() {
    this.#nextRequest ??= Promise.resolve(this.#request).then(() => {
      this.#nextRequest = null;
      return (this.#request = this.#read());
    });
    return this.#nextRequest;
  }

  async #read() {
    try {
      const page = await call("GET", `/conversations?limit=${PAGE}`);
      const known = new Set(page.conversations.map((one) => one.id));
      const end = page.conversations.at(-1)?.updated_at;
      // A conversation that is newer than the end of the page but not on it was deleted.
      const older = this.#conversations.filter((one) => !known.has(one.id) && one.updated_at <= end);
      const hadMore = this.#conversations.length > PAGE;
      this.#conversations = hadMore ? [...page.conversations, ...older] : page.conversations;
      if (!hadMore) this.#next = page.next;
      this.#paint();
    } catch (problem) {
      if (this.#conversations.length === 0) this.#paintProblem(problem);
    }
  }

  async #more(button) {
    try {
      const page = await call("GET", `/conversations?limit=${PAGE}&cursor=${encodeURIComponent(this.#next)}`);
      const known = new Set(this.#conversations.map((one) => one.id));
      const more = page.conversations.filter((one) => !known.has(one.id));
      this.#conversations.push(...more);
      this.#next = page.next;
      const hadFocus = this.list.querySelector(".more:focus") !== null;
      this.#paint();
      if (hadFocus) this.#focus(more[0]?.id);
    } catch {
      button.textContent = "Could not load more. Try again";
    }
  }

  #paint() {
    // While a menu or an editor is open, the list is not painted.
    this.#isDirty = this.actions.isOpen || this.#isRenaming;
    if (this.#isDirty) return;
    const { activeElement: focused } = document;
    const hadFocus = this.list.contains(focused) ? focused : null;
    const nodes = [];
    let items = null;
    for (const conversation of this.#conversations) {
      const group = groupOf(conversation.updated_at);
      if (items?.dataset.group !== group) {
        items = element("ul", { "data-group": group, "aria-label": group });
        nodes.push(element("div", { class: "group" }, group), items);
      }
      items.append(this.#rowOf(conversation));
    }
    if (this.#next) {
      const button = element("button", { type: "button", class: "more" }, "Show more");
      whenPressed(button, () => this.#more(button));
      nodes.push(button);
    }
    if (nodes.length === 0)
      nodes.push(element("p", { class: "none" }, "Your conversations will be listed here."));
    this.list.replaceChildren(...nodes);
    this.#mark();
    const more = hadFocus?.matches(".more") && this.list.querySelector(".more");
    if (more) more.focus();
    else if (hadFocus) {
      const { id, options } = hadFocus.dataset;
      this.#focus(id ?? options, options !== undefined);
    }
  }

  #rowOf(conversation) {
    const { id, title } = conversation;
    const address = new URL(location.href);
    address.searchParams.set("c", id);
    const click = (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return; // opens a new tab
      event.preventDefault();
      this.#choose(id);
    };
    const link = element("a", { href: address.pathname + address.search, "data-id": id, title, click }, ...codeNodes(title));
    const toggle = () => {
      if (this.actions.isOpen) this.actions.close();
      else this.#openActions(conversation, options);
    };
    const opens = { "aria-haspopup": "menu", "aria-expanded": "false" };
    const attributes = { class: "icon options", "data-options": id, ...opens };
    const options = iconButton(`Options for “${title}”`, ICONS.more, toggle, attributes);
    return element("li", {}, link, options);
  }

  /** Focus a conversation's link or button, or "New chat" if it is not in the list. */
  #focus(id, isOptions = false) {
    const name = isOptions ? "data-options" : "data-id";
    const node = this.list.querySelector(`[${name}="${CSS.escape(id ?? "")}"]`) ?? this.new;
    (this.hasAttribute("open") ? node : this.menu).focus();
  }

  #paintProblem(problem) {
    const button = element("button", { type: "button", class: "more", click: () => this.refresh() }, "Try again");
    this.list.replaceChildren(element("p", { class: "none", role: "alert" }, problem.message), button);
  }

  #mark() {
    for (const link of this.list.querySelectorAll("a")) {
      link.ariaCurrent = link.dataset.id === this.#current ? "page" : null;
    }
    this.heading.replaceChildren(...codeNodes(this.titleOf(this.#current) ?? ""));
  }

  // ---- actions on a conversation

  #openActions(conversation, button) {
    const actions = [
      { name: "Rename", path: ICONS.edit, act: () => this.#rename(conversation) },
      {
        name: "Delete",
        path: ICONS.remove,
        act: ({ detail }) => this.#delete(conversation, { isByKey: detail === 0 }),
      },
    ];
    this.actions.open(button, actions, () => this.#isDirty && this.#paint());
  }

  /** Edit a title in the list. Enter and leaving the box save it, Escape does not. */
  #rename(conversation) {
    const { id, title } = conversation;
    const row = this.list.querySelector(`[data-id="${CSS.escape(id)}"]`)?.parentElement;
    if (!row) return;
    const box = element("input", {
      class: "rename",
      "aria-label": `New title for “${title}”`,
      maxlength: LONGEST_TITLE,
      autocomplete: "off",
    });
    box.value = title;
    const end = (isSaved, keepsFocus) => {
      if (!this.#isRenaming) return;
      this.#isRenaming = false;
      const typed = box.value.trim();
      if (isSaved && typed !== "" && typed !== title) this.#saveTitle(id, typed, title);
      this.#paint();
      if (keepsFocus) this.#focus(id);
    };
    box.addEventListener("blur", () => end(true, false));
    box.addEventListener("keydown", (event) => {
      if (isComposing(event)) return;
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      end(event.key === "Enter", true);
    });
    this.#isRenaming = true;
    row.replaceChildren(box);
    box.focus();
    box.select();
  }

  #entitle(id, title) {
    const conversation = this.#conversations.find((one) => one.id === id);
    if (conversation) conversation.title = title;
    this.#paint();
    this.#emit(id, "renamed");
  }

  async #saveTitle(id, title, before) {
    this.#entitle(id, title); // show it at once
    try {
      await call("PATCH", `/conversations/${encodeURIComponent(id)}`, { title });
      this.refresh(); // an earlier request may return the old title
      this.#emit(id, "renamed");
    } catch (problem) {
      this.#entitle(id, before);
      this.#toast(`“${before}” could not be renamed. ${problem.message}`);
    }
  }

  async #delete({ id, title }, { isByKey }) {
    const wasOpen = id === this.#current;
    const links = [...this.list.querySelectorAll("a")];
    const at = links.findIndex((link) => link.dataset.id === id);
    const next = (links[at + 1] ?? links[at - 1])?.dataset.id;
    try {
      await call("DELETE", `/conversations/${encodeURIComponent(id)}`);
    } catch (problem) {
      if (problem.status !== 404) {
        this.#toast(`“${title}” could not be deleted. ${problem.message}`);
        return;
      }
    }
    this.forget(id);
    this.refresh(); // an earlier request may still return it
    this.#emit(id, "deleted");
    const undo = this.#undoButton(id, title, wasOpen);
    this.#toast(`Deleted “${title}”.`, undo);
    // A keyboard user could not reach the button in time, so it gets the focus.
    if (isByKey) {
      this.#toastReturn = next;
      undo.focus();
    } else if (!wasOpen) this.#focus(next);
  }

  #undoButton(...deleted) {
    return element("button", { type: "button", click: () => this.#undo(...deleted) }, "Undo");
  }

  async #undo(id, title, wasOpen) {
    this.#toast("");
    try {
      await call("POST", `/conversations/${encodeURIComponent(id)}/restore`);
    } catch (problem) {
      const isGone = problem.status === 404;
      const reason = isGone ? "It has been deleted for good." : `Try again. ${problem.message}`;
      const again = isGone ? [] : [this.#undoButton(id, title, wasOpen)];
      this.#toast(`“${title}” could not be restored. ${reason}`, ...again);
      return;
    }
    await this.refresh();
    this.#emit(id, "restored", wasOpen);
    this.#focus(id);
    this.#toast(`“${title}” is restored.`);
  }

  /** Remove a deleted conversation from the list. */
  forget(id) {
    this.#conversations = this.#conversations.filter((one) => one.id !== id);
    this.#paint();
  }

  #emit(conversation, did, wasOpen = false) {
    emit(this, "tech-listed", { conversation, did, wasOpen });
  }

  // ---- the toast

  /** Show a message for some seconds, and as long as the reader points at it. "" hides it. */
  #toast(text, ...buttons) {
    clearTimeout(this.#toastTimer);
    this.toast.replaceChildren();
    this.toast.hidden = text === "";
    if (text === "") return;
    const close = iconButton("Dismiss", ICONS.close, () => this.#endToast());
    this.toast.append(element("p", {}, text), ...buttons, close);
    this.#toastUntil = Date.now() + LONGEST_UNDO_MS;
    this.#toastTimer = setTimeout(() => this.#expireToast(), UNDO_MS);
  }

  #expireToast() {
    const isRead = this.toast.matches(":hover, :focus-within");
    if (isRead && Date.now() < this.#toastUntil)
      this.#toastTimer = setTimeout(() => this.#expireToast(), 1000);
    else this.#endToast();
  }

  #endToast() {
    const hadFocus = this.toast.contains(document.activeElement);
    this.#toast("");
    if (hadFocus) this.#focus(this.#toastReturn);
  }

  #choose(id) {
    if (this.#phone.matches) this.#show(false);
    emit(this, "tech-open", { id });
  }

  #showAtFirst = () => {
    let isFolded = this.#phone.matches;
    try {
      isFolded ||= localStorage.getItem(FOLDED) === "1";
    } catch {
      // a frame of another site has no storage
    }
    this.#show(!isFolded, { isQuiet: true });
  };

  #show(isOpen, { isQuiet = false } = {}) {
    this.toggleAttribute("open", isOpen);
    this.menu.setAttribute("aria-expanded", String(isOpen));
    this.panel.inert = !isOpen;
    // The sheet covers everything else, which cannot be reached then.
    const isSheet = isOpen && this.#phone.matches;
    this.bar.inert = isSheet;
    emit(this, "tech-sheet", { isSheet });
    if (isQuiet) return;
    if (!this.#phone.matches) {
      try {
        localStorage.setItem(FOLDED, isOpen ? "0" : "1");
      } catch {
        // no storage: not remembered
      }
    }
    (isOpen ? this.fold : this.menu).focus();
  }
}

customElements.define("tech-conversations", TechConversations);
