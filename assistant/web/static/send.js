// <tech-send>: the button that sends a question, or stops the answer that is being written. It dispatches `tech-press`.

import { ICONS, element, emit, enterKeys, icon } from "./dom.js";
import { t } from "./translation.js";

class TechSend extends HTMLElement {
  constructor() {
    super();
    this.button = element("button", { type: "button", click: () => emit(this, "tech-press") });
  }

  connectedCallback() {
    this.state = "off";
    this.replaceChildren(this.button);
    emit(this, "tech-ready");
  }

  set state(state) {
    if (this.dataset.state === state) return;
    this.dataset.state = state;
    const [name, key] = state === "answering" ? ["Stop", "Escape"] : ["Send", enterKeys()[0]];
    this.button.ariaLabel = t(name);
    this.button.title = `${t(name)} (${key})`;
    this.button.setAttribute("aria-disabled", String(state === "off"));
    this.button.replaceChildren(icon(state === "answering" ? ICONS.stop : ICONS.send));
  }
}

customElements.define("tech-send", TechSend);
