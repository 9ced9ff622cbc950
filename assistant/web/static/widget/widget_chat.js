// <tech-chat> of the widget: the site's greeting and suggestions, and buttons to rate an answer.

import { TechChat } from "../chat.js";
import { element, emit } from "../dom.js";
import { ratingOf } from "./feedback.js";
import { settings } from "./settings.js";
import { texts } from "./texts.js";

class WidgetChat extends TechChat {
  isPatient = true; // a thousand readers do not ask all the time how the engine is

  introduction() {
    const suggestions = settings.suggestions.map((text) => {
      return element("button", { type: "button", click: () => emit(this, "tech-suggestion", { text }) }, text);
    });
    const examples = element(
      "div",
      { class: "suggestions", role: "group", "aria-label": texts.suggestions },
      ...suggestions,
    );
    return [
      element(
        "div",
        { class: "what" },
        element("h1", {}, texts.greeting),
        element("p", {}, texts.about),
        ...(suggestions.length > 0 ? [examples] : []),
      ),
    ];
  }

  actionsOf(answer) {
    return answer.status === "done" && answer.message.id !== null ? ratingOf(answer, this) : [];
  }
}

customElements.define("tech-chat", WidgetChat);
