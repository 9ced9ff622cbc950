// The token that the frame shows to the API. It is kept in memory alone, and renewed before it ends.

import { Problem, problemOf } from "../api.js";

const EARLY = 60_000; // ms before a token ends at which another one is asked for
const PATIENCE = 20_000; // ms
const AWAY = "The assistant cannot be reached. The connection may be down.";

export class Session {
  #key;
  #origin;
  #token = null;
  #ends = 0;
  #renewal = null; // a promise
  #changed;

  /**
   * `origin` is a promise of that of the page around. `changed(answer)` is called when the visitor is another one than
   * before; `answer` names their latest conversation.
   */
  constructor(key, origin, changed) {
    this.#key = key;
    this.#origin = origin;
    this.#changed = changed;
  }

  /** The token, or a new one if the last was refused. Throws `Problem`. */
  async token(isRefused = false) {
    if (isRefused || Date.now() > this.#ends - EARLY) await this.#renew();
    return this.#token;
  }

  /** Go on as the user whom the page's server names in a JWT, or with null as a visitor. Throws `Problem`. */
  async identify(identity) {
    while (this.#renewal) await this.#renewal.catch(() => {});
    if (identity === null) this.#token = null;
    await this.#renew(identity);
  }

  #renew(identity) {
    return (this.#renewal ??= this.#ask(identity).finally(() => (this.#renewal = null)));
  }

  async #ask(identity) {
    const before = this.#token;
    const body = JSON.stringify({ origin: await this.#origin, token: before, identity: identity ?? null });
    let response;
    try {
      response = await fetch(`/widget/${encodeURIComponent(this.#key)}/token`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        signal: AbortSignal.timeout(PATIENCE),
        body,
      });
    } catch {
      throw new Problem("away", AWAY);
    }
    if (!response.ok) throw await problemOf(response);
    const answer = await response.json();
    this.#token = answer.token;
    this.#ends = Date.now() + 1000 * answer.expires_in;
    if (before === null || identity !== undefined || answer.visitor === "new") this.#changed(answer);
  }
}
