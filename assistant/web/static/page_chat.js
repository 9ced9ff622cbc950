// <tech-chat> of the browser chat: examples, what answers now, and the model's licence.

import { TechChat } from "./chat.js";
import { element, emit } from "./dom.js";
import { EnginePanel } from "./engine_panel.js";
import { Consent } from "./licence.js";

const ABOUT = "Ask about code: errors, functions, tools. Answers can be wrong: test them before you rely on them.";
const ABOUT_QUOTES = "Ask about Python: what to use, how to call it, and what it does. Answers are quotations.";

// Examples that documentation answers well, and examples for a model.
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

class PageChat extends TechChat {
  constructor() {
    super();
    this.panel = new EnginePanel(this.engine, (text) => this.alert(text));
    this.consent = new Consent({
      accept: (licence) => this.engine.accept(licence),
      alert: (text) => this.alert(text),
      closed: () => emit(this, "tech-compose"),
    });
    this.about = element("p");
    this.examples = element("div", { class: "examples", role: "group", "aria-label": "Example questions" });
  }

  async open(id) {
    this.consent.close();
    await super.open(id);
  }

  mustConsent(act) {
    const { licence, model } = this.engine;
    if (licence) this.consent.open(licence, model, act);
    return licence !== null;
  }

  footing() {
    const { transcript, panel, engine, consent, alarm } = this;
    return [transcript.toEnd, panel.node, engine.notice, consent.node, alarm];
  }

  introduction() {
    this.#paintExamples();
    return [element("div", { class: "what" }, element("h1", {}, "Tech Assistant"), this.about, this.examples)];
  }

  /** Place the engine's panel in the introduction if that is shown, else above the composer. */
  introduced() {
    const isIntroduced = !this.intro.hidden && this.intro.contains(this.examples);
    if (isIntroduced) this.intro.append(this.panel.node);
    else this.transcript.toEnd.after(this.panel.node);
  }

  changed() {
    this.panel.paint();
    this.#paintExamples();
    super.changed();
  }

  /** Show examples for the model or for the documentation. Until the engine is known they keep their room. */
  #paintExamples() {
    const { isKnown, quotes } = this.engine;
    const key = `${isKnown} ${quotes}`;
    if (this.examples.dataset.key === key || this.examples.contains(document.activeElement)) return;
    this.examples.dataset.key = key;
    this.examples.classList.toggle("unknown", !isKnown);
    this.about.textContent = quotes ? ABOUT_QUOTES : ABOUT;
    this.examples.replaceChildren(
      ...(quotes ? QUOTED_EXAMPLES : EXAMPLES).map(([name, text]) => {
        const click = () => emit(this, "tech-suggestion", { text });
        const parts = [element("strong", {}, name), element("span", {}, text)];
        return element("button", { type: "button", click }, ...parts);
      }),
    );
  }
}

customElements.define("tech-chat", PageChat);
