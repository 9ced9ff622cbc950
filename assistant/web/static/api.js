// The HTTP API from the browser: calls that fail with a sentence, and the event stream of a reply.
//
// Knows paths, problem documents and how a lost connection is taken up again; refuses to know what is shown.

const PATIENCE = 40_000; // ms without a byte, pings included, after which a connection counts as dead
const WAITS = [300, 700, 1500, 3000]; // ms before the next attempt to connect
const STREAMS = 4; // how many of a browser's tabs keep a stream open
const GLANCE = 250; // ms that a tab without one reads what is there
const BETWEEN_GLANCES = 1000; // ms

/** What went wrong, in words for people; `type` is a word for programs, `status` 0 when nothing answered. */
export class Problem extends Error {
  constructor(type, message, status = 0) {
    super(message);
    this.type = type;
    this.status = status;
  }
}

const AWAY = "The application cannot be reached. It may have been stopped, or the connection is gone.";

/** Call the API; gives the body, or null when there is none. Throws `Problem`. */
export async function call(method, path, body) {
  try {
    const response = await fetch(`/api${path}`, {
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

const failed = new Map(); // the ids of questions that may have arrived although they failed, by the question

/**
 * Ask a question after the message `parent`; with no conversation, as the first of a new one, for whose answers
 * documentation is looked up if `grounding`. Asked again after it failed, it is not stored twice.
 *
 * Gives {conversation_id, message_id, reply_id}. Throws `Problem`.
 */
export async function ask(conversation, { text, parent, grounding }) {
  const question = JSON.stringify([conversation, parent, text]);
  // There is no `randomUUID` on plain http.
  const id = failed.get(question) ?? crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
  failed.set(question, id);
  const isFirst = conversation === null;
  const path = isFirst ? "/messages" : `/conversations/${encodeURIComponent(conversation)}/messages`;
  const more = isFirst ? { grounding } : { parent_id: parent };
  const asked = await call("POST", path, { text, client_id: id, ...more });
  failed.delete(question);
  return asked;
}

async function problemOf(response) {
  const problem = await response.json().catch(() => ({}));
  const sentence = problem.detail ?? `The application answered ${response.status}.`;
  return new Problem(problem.type ?? "http", sentence, response.status);
}

/**
 * Follow a reply until it has ended or `signal` aborts, over as many connections as it takes.
 *
 * `onEvent({name, data, id})` gets each event; `after` is the id of the last one that is known. `onLost(is)`
 * tells when the connection is gone and when it is back. Throws `Problem` when the reply cannot be followed.
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
    return isGlance ? "seen" : "lost";
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
    if (outcome === "seen") {
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
 * A browser has six to one host for all its tabs together, and some must be left for questions and pages.
 * So only a few tabs keep a stream open. The others glance at theirs, one after the other, until there is
 * room. Locks are how tabs know of each other; without them (plain http) each tab takes what it needs.
 */
async function inTurn(read, signal) {
  if (!navigator.locks) return read(false);
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

async function* eventsOf(reply, after, signal, isGlance) {
  const abort = new AbortController();
  const leave = () => abort.abort();
  signal.addEventListener("abort", leave);
  let patience = setTimeout(leave, PATIENCE);
  const wait = (ms) => {
    clearTimeout(patience);
    patience = setTimeout(leave, ms);
  };
  let isOver = false; // the glance, once the application has answered
  try {
    const headers = after === null ? {} : { "Last-Event-ID": after };
    const response = await fetch(`/api/replies/${reply}/events`, { headers, signal: abort.signal });
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
  const fields = {};
  for (const line of part.split("\n")) {
    const colon = line.indexOf(": ");
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
  }
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
