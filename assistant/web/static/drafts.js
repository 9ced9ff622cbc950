// Keeps unsent text per conversation, across reloads and closed tabs.
//
// The draft of a new chat belongs to its tab, the draft of a conversation to all tabs. Without storage, as in
// a frame of another site, no draft is kept.

const KEY = "tech-assistant-draft-";
const MOST = 30; // drafts that are kept; the oldest are removed first

function storageOf(id) {
  return id === null ? sessionStorage : localStorage;
}

/** Keep a draft, or forget it if `text` is "". `id` is the conversation's, null for a new chat. */
export function keepDraft(id, text) {
  try {
    const storage = storageOf(id);
    if (text === "") {
      storage.removeItem(KEY + (id ?? ""));
      return;
    }
    const draft = JSON.stringify({ at: Date.now(), text });
    for (let room = MOST; ; room = Math.floor(room / 2)) {
      makeRoom(storage, id, room);
      try {
        storage.setItem(KEY + (id ?? ""), draft);
        return;
      } catch (error) {
        if (room === 0) throw error; // larger than the whole storage
      }
    }
  } catch {
    // no storage: the draft is not kept
  }
}

export function draftOf(id) {
  try {
    return JSON.parse(storageOf(id).getItem(KEY + (id ?? ""))).text;
  } catch {
    return "";
  }
}

/** Forget the draft if it is still the sent text: another tab may have changed it. */
export function forgetDraft(id, text) {
  if (draftOf(id) === text) keepDraft(id, "");
}

/** Remove the oldest other drafts, so that there are at most `most` with this one. */
function makeRoom(storage, id, most) {
  const others = Object.keys(storage).filter((key) => key.startsWith(KEY) && key !== KEY + (id ?? ""));
  const surplus = others.length - Math.max(0, most - 1);
  if (surplus <= 0) return;
  const age = (key) => {
    try {
      return JSON.parse(storage.getItem(key)).at;
    } catch {
      return 0;
    }
  };
  others.sort((one, other) => age(one) - age(other));
  for (const key of others.slice(0, surplus)) storage.removeItem(key);
}
