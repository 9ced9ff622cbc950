// The client of the HTTP API: single calls, and the event stream of a reply, which reconnects.

const PATIENCE = 40_000; // ms without a byte after which a connection counts as dead; pings come more often
const WAITS = [300, 700, 1500, 3000]; // ms before each attempt to reconnect
const STREAMS = 4; // the number of a browser's tabs that keep a stream open
const GLANCE = 250; // ms for which the other tabs read their stream
const BETWEEN_GLANCES = 1000; // ms

/** An error. The message is for people, `type` for programs; `status` is 0 if the server did not answer. */
export class Problem extends Error {
  constructor(type, message, status = 0) {
    super(message);
    this.type = type;
    this.status = status;
  }
}

const AWAY = "The application cannot be reached. It may have stopped, or the connection is down.";

let tokenOf = null; // in the widget: gives the token that its requests show instead of a cookie

/** Show a token with each request. `token(isRefused)` gives it, and another one if the last was refused. */
export function authorize(token) {
  tokenOf = token;
}

/** Send a request to the API. With a token, no cookie is sent. */
async function send(path, options) {
  const attempt = async (isRefused) => {
    if (!tokenOf) return fetch(`/api${path}`, options);
    const headers = { ...options.headers, Authorization: `Bearer ${await tokenOf(isRefused)}` };
    return fetch(`/api${path}`, { ...options, headers, credentials: "omit" });
  };
  const response = await attempt(false);
  return response.status === 401 && tokenOf ? attempt(true) : response;
}

/** Call the API. Returns the body, or null if there is none. Throws `Problem`. */
export async function call(method, path, body) {
  try {
    const response = await send(path, {
      method,
      signal: AbortSignal.timeout(PATIENCE),
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (!response.ok) throw await problemOf(response);
    return response.status === 204 ? null : await response.json();
  } catch (error) {
    throw error instanceof Problem ? error : new Problem("away", AWAY);
  }
}

const failed = new Map(); // question -> client id, of failed questions that may have arrived

/**
 * Ask a question after the message `parent`. If `conversation` is null, it begins a new conversation, with
 * documentation if `grounding` is true. A question that failed and is asked again is not stored twice.
 *
 * Returns {conversation_id, message_id, reply_id}. Throws `Problem`.
 */
export async function ask(conversation, { text, parent, grounding }) {
  const question = JSON.stringify([conversation, parent, text]);
  // `randomUUID` does not exist on plain http.
  const id = failed.get(question) ?? crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
  failed.set(question, id);
  const isFirst = conversation === null;
  const path = isFirst ? "/messages" : `/conversations/${encodeURIComponent(conversation)}/messages`;
  const more = isFirst ? { grounding } : { parent_id: parent };
  const asked = await call("POST", path, { text, client_id: id, ...more });
  failed.delete(question);
  return asked;
}

/** The problem that an answer tells of. */
export async function problemOf(response) {
  const problem = await response.json().catch(() => ({}));
  const sentence = problem.detail ?? `The application answered with status ${response.status}.`;
  return new Problem(problem.type ?? "http", sentence, response.status);
}

/**
 * Follow a reply until it ends or `signal` aborts, and reconnect as often as needed.
 *
 * `onEvent({name, data, id})` gets each event after the one with the id `after`. `onLost(isLost)` is called
 * when the connection is lost and when it is back. Throws `Problem` if the reply cannot be followed.
 */
export async function followReply(reply, { after = null, signal, onEvent, onLost }) {
  let attempt = 0;
  const read = async (isGlance) => {
    for await (const event of eventsOf(reply, after, signal, isGlance)) {
      if (attempt > 0) onLost(false);
      attempt = 0;
      after = event.id ?? after;
      onEvent(event);
      if (event.name === "done" || event.name === "error") return "ended";
    }
    return isGlance ? "read" : "lost";
  };
  while (!signal.aborted) {
    let outcome = "lost";
    try {
      outcome = await inTurn(read, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && error.status >= 400 && error.status < 500) throw error;
    }
    if (outcome === "ended") return;
    if (outcome === "read") {
      if (attempt > 0) onLost(false);
      attempt = 0;
      await pause(BETWEEN_GLANCES, signal);
    } else {
      if (attempt > 0) onLost(true);
      await pause(WAITS[Math.min(attempt, WAITS.length - 1)], signal);
      attempt += 1;
    }
  }
}

/**
 * Call `read(isGlance)` when this tab may have a connection.
 *
 * A browser opens at most six connections to a host for all its tabs, and questions and pages need some. So
 * only a few tabs keep a stream open. The others take turns to glance at theirs. Tabs coordinate by locks;
 * without locks (plain http, or a frame that may store nothing) each tab keeps its stream open.
 */
async function inTurn(read, signal) {
  if (!(await hasLocks())) return read(false);
  for (let slot = 0; slot < STREAMS; slot++) {
    const outcome = await navigator.locks.request(
      `tech-assistant-stream-${slot}`,
      { ifAvailable: true },
      (lock) => (lock ? read(false) : null),
    );
    if (outcome !== null) return outcome;
  }
  return navigator.locks.request("tech-assistant-glance", { signal }, () => read(true));
}

let mayLock = null; // a promise

function hasLocks() {
  return (mayLock ??= (async () => {
    try {
      await navigator.locks.query();
      return true;
    } catch {
      return false;
    }
  })());
}

async function* eventsOf(reply, after, signal, isGlance) {
  const abort = new AbortController();
  const leave = () => abort.abort();
  signal.addEventListener("abort", leave);
  let patience = setTimeout(leave, PATIENCE);
  const wait = (ms) => {
    clearTimeout(patience);
    patience = setTimeout(leave, ms);
  };
  let isOver = false; // whether an abort only ends the glance
  try {
    const headers = after === null ? {} : { "Last-Event-ID": after };
    const response = await send(`/replies/${reply}/events`, { headers, signal: abort.signal });
    if (!response.ok) throw await problemOf(response);
    if (isGlance) {
      isOver = true;
      wait(GLANCE);
    }
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let buffer = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      if (!isGlance) wait(PATIENCE);
      buffer += decoder.decode(value, { stream: true });
      const parts = buffer.split("\n\n");
      buffer = parts.pop();
      for (const part of parts) {
        const event = eventOf(part);
        if (event) yield event;
      }
    }
  } catch (error) {
    if (!isOver || signal.aborted) throw error;
  } finally {
    clearTimeout(patience);
    signal.removeEventListener("abort", leave);
    abort.abort();
  }
}

function eventOf(part) {
  const fields = Object.fromEntries(part.split("\n").map((line) => line.split(/: (.*)/s, 2)));
  if (!fields.event || !fields.data) return null;
  return { name: fields.event, id: fields.id, data: JSON.parse(fields.data) };
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done);
  });
}
