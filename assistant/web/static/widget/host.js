// The page around the frame: which origin it has, and the messages to and from the loader in it.
//
// Only a page of a listed origin is heard or told anything. Chromium and Safari name the origin of the page around a
// frame; elsewhere the loader's first message tells it, or the referrer if the frame has no loader.

const MARK = "tech-assistant"; // of every message
const PATIENCE = 1500; // ms for a loader to say hello, after which the frame is thought to have none

export class Host {
  #listed;
  #origin = null;
  #handlers;
  #found = Promise.withResolvers();

  /** `origins` are those that the site lists. `handlers` are functions by the names of the loader's messages. */
  constructor(origins, handlers) {
    this.#listed = origins;
    this.#handlers = handlers;
    window.addEventListener("message", (event) => this.#take(event));
    const named = location.ancestorOrigins?.[0];
    if (named && named !== "null") this.#found.resolve(named);
    else setTimeout(() => this.#found.resolve(originOf(document.referrer)), PATIENCE);
  }

  /** Whether there is no page around the frame. */
  get isMissing() {
    return window.parent === window;
  }

  /** The origin of the page around the frame, once it is known; "" if it stays unknown. */
  get origin() {
    return this.#found.promise;
  }

  /** Whether the loader has made this frame. */
  get hasLoader() {
    return this.#origin !== null;
  }

  tell(name, detail = {}) {
    if (this.hasLoader) window.parent.postMessage({ [MARK]: 1, name, ...detail }, this.#origin);
  }

  /** Whether a link leads into the site of the page around, so that the loader opens it there. */
  opens(address) {
    return this.hasLoader && originOf(address) === this.#origin;
  }

  #take({ source, origin, data }) {
    if (source !== window.parent || this.isMissing || data?.[MARK] !== 1 || !isListed(origin, this.#listed)) return;
    if (this.#origin !== null && origin !== this.#origin) return;
    if (data.name === "hello") {
      this.#origin = origin;
      this.#found.resolve(origin);
    }
    if (this.hasLoader && Object.hasOwn(this.#handlers, data.name)) this.#handlers[data.name](data);
  }
}

function originOf(address) {
  return URL.canParse(address) ? new URL(address).origin : "";
}

/** Whether an origin is in a list, in which `https://*.example.org` stands for every host below example.org. */
export function isListed(origin, listed) {
  return listed.some((one) => {
    const [scheme, rest] = one.split("*");
    return rest === undefined ? one === origin : origin.startsWith(scheme) && origin.endsWith(rest);
  });
}
