// The frame's own texts: in English, in the site's language if there is a file for it, and in the owner's words.

import { translate } from "../translation.js";
import { settings } from "./settings.js";

const LANGUAGES = ["de", "es", "fr", "ja", "pt", "zh"]; // those with a file in languages/
const PATIENCE = 3000; // ms for a file, after which the texts are English

/** By id. The owner may replace each of them with `python -m assistant site set KEY --text ID=TEXT`. */
export const texts = {
  title: settings.name,
  greeting: "What would you like to know?",
  about: "Ask a question. The answer comes from the documentation and names its sources.",
  placeholder: "Ask a question",
  question: "Your question",
  note: "Answers can be wrong. Check the sources.",
  suggestions: "Example questions",
  newChat: "New chat",
  close: "Close",
  good: "Good answer",
  bad: "Bad answer",
  why: "What was wrong, or missing?",
  whyHint: "Please write nothing personal.",
  sendWhy: "Send",
  skipWhy: "Skip",
  thanks: "Thank you.",
  tooLong: "The question is too long. Shorten it, or ask about a part of it.",
  lost: "The question did not arrive. It is back in the text box. Send it again.",
  tryAgain: "Try again",
  alone: "This assistant belongs in a page of its site. Open it there.",
};

/** Take the texts of the site's language, and then the owner's. */
export async function bringTexts() {
  const language = settings.language.toLowerCase().split("-")[0];
  if (LANGUAGES.includes(language)) {
    try {
      const response = await fetch(`/ui/widget/languages/${language}.json`, { signal: AbortSignal.timeout(PATIENCE) });
      const { own, shared } = await response.json();
      Object.assign(texts, own);
      translate(shared);
      document.documentElement.lang = settings.language;
    } catch {
      // English
    }
  }
  if (settings.greeting) texts.greeting = settings.greeting;
  for (const [id, text] of Object.entries(settings.texts)) if (Object.hasOwn(texts, id)) texts[id] = text;
}
