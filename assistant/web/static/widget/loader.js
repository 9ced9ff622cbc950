// The widget's loader, which a page of another site includes:
//
//   <script src="https://HOST/widget/v1.js" data-site="KEY" async></script>
//
// It shows a button, and makes the frame with the chat when that is pressed. It runs under the strictest policies of
// the page: it needs script-src and frame-src for our host and nothing else. What it shows stands in a closed shadow
// root in the top layer, so that neither the page's styles nor its z-indexes reach it.

(() => {
  const NAME = "TechAssistant";
  const MARK = "tech-assistant"; // of every message
  const MOST = 20; // times that the button comes back; a page that removes it more often means it
  const PATIENCE = 15_000; // ms until a frame that says nothing counts as lost
  const PHONE = matchMedia("(max-width: 30rem), (max-height: 26rem)");
  const SVG = "http://www.w3.org/2000/svg";
  const CHAT = "M5 5h14a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2h-7l-5 4v-4H5a2 2 0 0 1-2-2V7a2 2 0 0 1 2-2z";
  const DOWN = "M6 9l6 6 6-6";

  const calls = Array.isArray(window[NAME]) ? window[NAME] : []; // made before this script was there
  if (window[NAME] && window[NAME] !== calls) return; // the page includes the script twice

  const script = document.currentScript ?? document.querySelector('script[data-site][src*="/widget/v1.js"]');
  if (!script?.dataset.site) return console.warn("Tech Assistant: the script element has no data-site.");
  const { site, position, colour, label = "Ask a question", theme } = script.dataset;
  const { origin } = new URL(script.src);
  const key = `${MARK}-${site}`; // in the page's session storage, while the widget is open
  const listeners = new Map();
  const waiting = []; // messages for a frame that is not ready
  let frame = null;
  let isReady = false;
  let identity; // what the page gave to `identify`
  let timer;
  let attached = 0;

  // ---- what is shown

  const make = (tag, attributes, ...children) => {
    const node = tag === "svg" || tag === "path" ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };

  const accent = /^#[\da-f]{6}$/i.test(colour) ? colour : "#3558a8";
  const [red, green, blue] = [1, 3, 5].map((at) => (parseInt(accent.slice(at, at + 2), 16) / 255) ** 2.2);
  const ink = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.3 ? "#14181f" : "#fff";
  const side = position === "left" ? "left" : "right";
  const scheme = theme === "light" || theme === "dark" ? theme : "light dark";

  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`
    :host {
      all: initial !important;
      position: fixed !important;
      inset: auto !important;
      width: 0 !important;
      height: 0 !important;
      margin: 0 !important;
      overflow: visible !important;
      z-index: 2147483647 !important;
      color-scheme: ${scheme} !important;
    }
    button, dialog {
      box-sizing: border-box;
      position: fixed;
      ${side}: max(20px, env(safe-area-inset-${side}));
      margin: 0;
      padding: 0;
      border: 0;
      font: 16px/1.5 system-ui, sans-serif;
    }
    button {
      bottom: max(20px, env(safe-area-inset-bottom));
      display: grid;
      place-items: center;
      width: 52px;
      height: 52px;
      border-radius: 26px;
      background: ${accent};
      color: ${ink};
      box-shadow: 0 1px 2px rgb(0 0 0 / 20%), 0 4px 16px rgb(0 0 0 / 20%);
      cursor: pointer;
    }
    button:hover { filter: brightness(1.1); }
    button:focus-visible { outline: 3px solid ${accent}; outline-offset: 3px; }
    svg { width: 24px; height: 24px; fill: none; stroke: currentcolor; stroke-width: 2; stroke-linecap: round;
      stroke-linejoin: round; }
    dialog {
      inset-block: auto 84px;
      ${side === "left" ? "right" : "left"}: auto;
      display: none;
      width: 400px;
      max-width: calc(100vw - 40px);
      height: min(660px, calc(100dvh - 104px));
      max-height: none;
      overflow: hidden;
      border: 1px solid light-dark(#dfe1e5, #343a43);
      border-radius: 16px;
      background: light-dark(#fff, #16181c);
      color: light-dark(#586070, #a3abb7);
      box-shadow: 0 8px 40px rgb(0 0 0 / 20%);
    }
    dialog[open] { display: grid; place-items: center; animation: come 120ms ease-out; }
    dialog:modal { inset: 0; width: 100%; max-width: none; height: 100dvh; border: 0; border-radius: 0; }
    dialog::backdrop { background: none; }
    dialog > * { grid-area: 1 / 1; }
    p { margin: 24px; text-align: center; }
    iframe { width: 100%; height: 100%; border: 0; color-scheme: ${scheme}; }
    iframe:not(.ready) { opacity: 0; pointer-events: none; }
    @keyframes come { from { opacity: 0; transform: translateY(8px); } }
    @media (prefers-reduced-motion: reduce) { * { animation: none !important; } }
    @media (forced-colors: active) { button { border: 2px solid; } }
    @media print { button, dialog { display: none !important; } }
  `);

  const path = make("path", { d: CHAT });
  const button = make(
    "button",
    {
      type: "button", "aria-label": label, title: label,
      "aria-expanded": "false", "aria-haspopup": "dialog", "aria-controls": "panel",
    },
    make("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, path),
  );
  const words = make("p", { role: "status" });
  const panel = make("dialog", { id: "panel", "aria-label": label }, words);
  const root = make("div", { id: MARK, popover: "manual" });
  const shadow = root.attachShadow({ mode: "closed" });
  shadow.adoptedStyleSheets = [sheet];
  shadow.append(button, panel);

  // Outside the body, so that a page that replaces its content keeps the frame, and the chat in it, as it is.
  const attach = () => {
    if (root.isConnected || attached > MOST) return;
    attached += 1;
    document.documentElement.append(root);
    root.showPopover?.();
    if (panel.open) showPanel(); // a dialog that was removed is no longer modal
  };
  const observer = new MutationObserver(attach);

  // ---- the frame

  const remember = (isOpen) => {
    try {
      if (isOpen) sessionStorage.setItem(key, "open");
      else sessionStorage.removeItem(key);
    } catch {
      // no storage: the next page shows the button alone
    }
  };

  const wasOpen = () => {
    try {
      return sessionStorage.getItem(key) === "open";
    } catch {
      return false;
    }
  };

  const post = (name, detail) => frame.contentWindow?.postMessage({ [MARK]: 1, name, ...detail }, origin);

  const tell = (name, detail) => {
    if (isReady) post(name, detail);
    else waiting.push([name, detail]);
  };

  const say = (text) => {
    clearTimeout(timer);
    words.textContent = text;
  };

  const makeFrame = () => {
    if (frame) return;
    frame = make("iframe", { title: label, allow: "clipboard-write", referrerpolicy: "strict-origin" });
    frame.src = `${origin}/widget/${encodeURIComponent(site)}`;
    frame.onload = () => {
      isReady = false;
      post("hello", { theme });
    };
    words.textContent = "";
    timer = setTimeout(say, PATIENCE, "The assistant cannot be reached from this page now.");
    panel.append(frame);
  };

  const take = ({ source, origin: from, data }) => {
    if (!frame || source !== frame.contentWindow || from !== origin || data?.[MARK] !== 1) return;
    const { name } = data;
    if (name === "ready") {
      isReady = true;
      frame.className = "ready";
      say("");
      if (identity !== undefined) sendIdentity();
      for (const [name, detail] of waiting.splice(0)) post(name, detail);
      emit("ready");
    } else if (name === "close") api.close();
    else if (name === "link") follow(data.url);
    else if (name === "question" || name === "answer") emit(name);
  };

  const sendIdentity = () => post("identify", { identity });

  // A source in this site opens in this tab. The frame opens others in a new one.
  const follow = (address) => {
    const url = URL.canParse(address) && new URL(address);
    if (url?.origin !== location.origin || !emit("link", { url: url.href })) return;
    if (PHONE.matches) api.close();
    location.assign(url.href);
  };

  // ---- what the page may call

  const emit = (name, detail = {}) => {
    let goesOn = true;
    for (const listener of listeners.get(name) ?? []) {
      try {
        if (listener(detail) === false) goesOn = false;
      } catch (error) {
        console.error(error);
      }
    }
    return goesOn;
  };

  const showPanel = () => {
    panel.close();
    // A dialog of a phone fills the screen, and keeps the focus. Of others, `show` would take the focus.
    if (PHONE.matches && root.isConnected) panel.showModal();
    else panel.setAttribute("open", "");
  };

  const paint = (isOpen) => {
    button.ariaExpanded = String(isOpen);
    path.setAttribute("d", isOpen ? DOWN : CHAT);
  };

  const api = {
    open(takesFocus = true) {
      if (!panel.open) {
        makeFrame();
        showPanel();
        paint(true);
        remember(true);
        emit("open");
      }
      if (takesFocus === false) return;
      frame.focus();
      tell("focus");
    },

    close() {
      if (!panel.open) return;
      const hadFocus = document.activeElement === root;
      panel.close();
      paint(false);
      remember(false);
      if (hadFocus) button.focus();
      emit("close");
    },

    ask(text) {
      api.open();
      tell("ask", { text: String(text) });
    },

    /** Sign the reader in with a token that the page's own server has made, or out with null. */
    identify(token) {
      identity = token == null ? null : String(token);
      if (isReady) sendIdentity();
    },

    /** Call back on ready, open, close, question, answer and link. Returns a function that ends that. */
    on(name, listener) {
      if (!listeners.has(name)) listeners.set(name, new Set());
      listeners.get(name).add(listener);
      return () => listeners.get(name).delete(listener);
    },

    destroy() {
      observer.disconnect();
      removeEventListener("message", take);
      PHONE.onchange = null;
      clearTimeout(timer);
      remember(false);
      root.remove();
      delete window[NAME];
    },

    push([name, ...rest]) {
      if (name !== "push" && Object.hasOwn(api, name)) api[name](...rest);
    },
  };

  button.onclick = () => (panel.open ? api.close() : api.open());
  panel.oncancel = (event) => {
    event.preventDefault(); // Escape, with the focus outside the frame
    api.close();
  };
  shadow.addEventListener("keydown", ({ key }) => key === "Escape" && api.close());
  PHONE.onchange = () => panel.open && showPanel();
  addEventListener("message", take);
  window[NAME] = api;

  const start = () => {
    attach();
    observer.observe(document.documentElement, { childList: true });
    if (wasOpen()) api.open(false);
    for (const call of calls) api.push(call);
  };
  if (document.body) start();
  else addEventListener("DOMContentLoaded", start);
})();
