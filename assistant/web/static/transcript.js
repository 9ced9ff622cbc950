// The scrolling list of one branch's messages. Of a long branch, only the newest messages are on the page.
//
// Keeps the reader's scroll position whatever is added. The `host` is that of messages.js, and also has
// `refusal`, which says why the conversation cannot be changed now, and `versionsOf(message)`.

import { ICONS, element, iconButton } from "./dom.js";
import { Answer, Question } from "./messages.js";
import { copyAsMarkdown } from "./selection.js";

const WINDOW = 50; // messages on the page; earlier ones on demand
const AT_FIRST = 8; // messages painted at once: more than a screen holds
const AT_ONCE = 14; // messages painted each time the browser is idle
const ABOVE = 12; // px above a message that is scrolled to its beginning
const NEAR_END = 48; // px from the end at which no button is needed to go there
const UPWARD = new Set(["ArrowUp", "PageUp", "Home"]);

const whenIdle = window.requestIdleCallback ?? ((work) => setTimeout(work, 1));

export class Transcript {
  isAtEnd = true; // whether the page follows the text: the reader is at the end and has not moved up
  #branch = []; // all messages
  #from = 0; // the index of the first one on the page
  #views = []; // the Question or Answer of each message on the page
  #wanted = 0; // the index of the first one to be on the page as soon as the browser was idle
  #isFilling = false;
  #top = 0; // the last scroll position
  #end = 0; // the scroll position of the end when the page was last painted
  #finger = 0; // the highest place of the finger on the screen
  #isPressed = false; // whether the reader holds a button or a finger on the text, which then stands still

  /** `before` are the nodes above the messages. */
  constructor(host, ...before) {
    this.host = host;
    const copy = (event) => copyAsMarkdown(event, this.list);
    const click = ({ target }) => target.closest(".fold") && this.#stop(true); // the reader goes on from its place
    this.list = element("div", { class: "list", copy, click });
    const showEarlier = () => this.#showEarlier();
    this.earlier = element("button", { type: "button", class: "earlier", hidden: true, click: showEarlier });
    this.column = element("div", { class: "column" }, ...before, this.earlier, this.list);
    this.scroller = element(
      "div",
      { class: "scroller", tabindex: "0", role: "region", "aria-label": "Conversation" },
      this.column,
    );
    const toEnd = () => {
      this.goToEnd();
      this.scroller.focus({ preventScroll: true }); // the button disappears
    };
    this.toEnd = iconButton("Go to the end", ICONS.down, toEnd, { class: "to-end", hidden: true });
    this.#listen();
    const growth = new ResizeObserver(() => this.keepEnd());
    growth.observe(this.column);
    growth.observe(this.scroller);
  }

  get branch() {
    return this.#branch;
  }

  /** The view of the last message if that is an answer, else null. */
  get answer() {
    const view = this.#views.at(-1);
    return view instanceof Answer ? view : null;
  }

  /** The view of a message, or null if it is not on the page. */
  viewOf(message) {
    return this.#views.find((view) => view.message === message) ?? null;
  }

  /** Show a branch. Views of messages that are already on the page stay as they are. */
  show(branch) {
    this.#moveDown(branch);
    const above = this.#branch[this.#from - 1]?.id;
    const isSameAbove = this.#views.length > 0 && above === branch[this.#from - 1]?.id;
    let kept = 0;
    if (isSameAbove) {
      const until = Math.min(this.#views.length, branch.length - this.#from);
      while (kept < until && this.#views[kept].shows(branch[this.#from + kept])) kept += 1;
    }
    for (const view of this.#views.splice(kept)) view.node.remove();
    this.#branch = branch;
    if (!isSameAbove) {
      this.#from = Math.max(0, branch.length - AT_FIRST);
      this.#wanted = Math.max(0, branch.length - WINDOW);
    }
    this.#append(isSameAbove ? WINDOW : AT_FIRST);
    this.refresh();
    this.#paintEarlier();
    this.#fillLater();
  }

  /** Take over earlier messages that were loaded since, so that the indexes fit again. */
  #moveDown(branch) {
    const first = this.#branch[0]?.id ?? null;
    const older = first === null ? 0 : branch.findIndex(({ id }) => id === first);
    if (older <= 0) return;
    this.#branch = [...branch.slice(0, older), ...this.#branch];
    this.#from += older;
    this.#wanted += older;
  }

  /** Show the end of a branch that the reader has added to. Messages far above leave the page. */
  showEnd(branch) {
    while (!this.#isWhole) this.#fill(WINDOW);
    this.show(branch);
    const surplus = this.#views.length - WINDOW;
    if (surplus >= WINDOW) {
      for (const view of this.#views.splice(0, surplus)) view.node.remove();
      this.#wanted = this.#from += surplus;
      this.#paintEarlier();
    }
    this.goToEnd();
  }

  /** Show a branch with another version in the place of a view, without moving the arrows on the screen. */
  showInstead(view, version, branch) {
    const { top } = view.actions.getBoundingClientRect();
    this.isAtEnd = false;
    this.show(branch);
    const shown = this.viewOf(version);
    this.#moveTo(this.scroller.scrollTop + shown.actions.getBoundingClientRect().top - top);
    return shown;
  }

  /** Update which version each message is, and its actions. */
  refresh(views = this.#views) {
    for (const view of views) {
      const versions = this.host.versionsOf(view.message);
      view.version = { index: versions.indexOf(view.message), count: versions.length };
      view.allow(this.host.refusal);
    }
  }

  #viewsOf(from, to) {
    const messages = this.#branch.slice(from, to);
    return messages.map((message) => new (message.role === "user" ? Question : Answer)(message, this.host));
  }

  #append(count) {
    const start = this.#from + this.#views.length;
    const views = this.#viewsOf(start, start + count);
    this.list.append(...views.map((view) => view.node));
    this.#views.push(...views);
    return views;
  }

  #prepend(count) {
    const from = Math.max(0, this.#from - count);
    const views = this.#viewsOf(from, this.#from);
    const height = this.scroller.scrollHeight;
    this.list.prepend(...views.map((view) => view.node));
    this.#views.unshift(...views);
    this.#from = from;
    this.#moveTo(this.scroller.scrollTop + this.scroller.scrollHeight - height);
    return views;
  }

  // ---- the rest of the window, painted later

  get #isWhole() {
    return this.#from <= this.#wanted && this.#from + this.#views.length >= this.#branch.length;
  }

  #fillLater() {
    if (this.#isWhole || this.#isFilling) return;
    this.#isFilling = true;
    whenIdle((deadline) => {
      this.#isFilling = false;
      do this.#fill(AT_ONCE);
      while (!this.#isWhole && deadline?.timeRemaining() > 8);
      this.#fillLater();
    });
  }

  #fill(count) {
    if (this.#from > this.#wanted)
      this.refresh(this.#prepend(Math.min(count, this.#from - this.#wanted)));
    this.refresh(this.#append(count));
    this.#paintEarlier();
  }

  #paintEarlier() {
    this.earlier.hidden = this.#from === 0 || this.#from > this.#wanted;
    this.earlier.textContent = `Show ${Math.min(WINDOW, this.#from)} earlier messages`;
  }

  #showEarlier() {
    this.#wanted = Math.max(0, this.#from - WINDOW);
    const views = this.#prepend(WINDOW);
    this.refresh(views);
    this.#paintEarlier();
    if (!this.earlier.hidden) return;
    views[0].node.tabIndex = -1; // the button has disappeared
    views[0].node.focus({ preventScroll: true });
  }

  // ---- scrolling

  get #isNearEnd() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR_END;
  }

  /** Notice what the reader wants from wheel, keys and fingers: the position tells it too late, as text comes. */
  #listen() {
    const on = (name, listener) => this.scroller.addEventListener(name, listener, { passive: true });
    on("scroll", () => this.#scrolled());
    on("wheel", ({ deltaY, ctrlKey }) => !ctrlKey && deltaY !== 0 && (deltaY < 0 ? this.#stop() : this.#resume()));
    on("keydown", ({ key, shiftKey, target }) => {
      if (target.matches("textarea, input")) return;
      if (UPWARD.has(key) || (key === " " && shiftKey)) this.#stop();
      else if (key === "End") this.#resume();
    });
    on("touchstart", ({ touches }) => (this.#finger = touches[0].clientY));
    on("touchmove", ({ touches: [{ clientY }] }) => {
      if (clientY > this.#finger + 2) this.#stop();
      else if (clientY < this.#finger) this.#resume();
      this.#finger = Math.min(this.#finger, clientY);
    });
    const isOnBar = ({ target, offsetX }) => target === this.scroller && offsetX >= target.clientWidth;
    on("pointerdown", (event) => (this.#isPressed = !isOnBar(event)));
    for (const name of ["pointerup", "pointercancel"]) {
      window.addEventListener(name, () => {
        this.#isPressed = false;
        this.keepEnd();
      });
    }
    document.addEventListener("selectionchange", () => {
      const selection = document.getSelection();
      if (!selection.isCollapsed && selection.containsNode(this.list, true)) this.#stop(true);
    });
  }

  /** Stop following the text. Without `always`, only if the reader can move up. */
  #stop(always = false) {
    if (!always && this.scroller.scrollTop <= 0) return;
    this.isAtEnd = false;
    this.toEnd.hidden = this.#isNearEnd;
  }

  /** Follow the text again if the reader moves down and is at the end. */
  #resume() {
    if (this.scroller.scrollTop >= this.#end - 2 && !this.#isPressed) this.isAtEnd = true;
  }

  /** Only a move of the reader changes the position here, or text that became shorter than the window. */
  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    if (scrollTop < this.#top && scrollTop < scrollHeight - clientHeight - 1) this.isAtEnd = false;
    else if (scrollTop > this.#top) this.#resume();
    this.#top = scrollTop;
    this.toEnd.hidden = this.isAtEnd || this.#isNearEnd;
  }

  #moveTo(top) {
    this.scroller.scrollTop = top;
    this.#top = this.scroller.scrollTop;
  }

  goToEnd() {
    this.isAtEnd = true;
    this.#isPressed = false;
    this.keepEnd();
  }

  /** Scroll to the question of an answer if both together are higher than the window. */
  goToBeginning(answer) {
    const first = this.#views[this.#views.indexOf(answer) - 1] ?? answer;
    const { top } = first.node.getBoundingClientRect();
    if (!this.isAtEnd || answer.node.getBoundingClientRect().bottom - top <= this.scroller.clientHeight) return;
    this.isAtEnd = false;
    this.#moveTo(this.scroller.scrollTop + top - this.scroller.getBoundingClientRect().top - ABOVE);
    this.keepEnd();
  }

  /** After the text has grown: stay at the end if the reader is there. */
  keepEnd() {
    const { scrollHeight, clientHeight } = this.scroller;
    if (this.isAtEnd && !this.#isPressed && this.#views.length > 0) this.#moveTo(scrollHeight);
    this.#end = scrollHeight - clientHeight;
    const isHidden = this.#views.length === 0 || this.isAtEnd || this.#isNearEnd;
    if (this.toEnd.hidden !== isHidden) this.toEnd.hidden = isHidden; // an equal value costs a new style, too
  }
}
