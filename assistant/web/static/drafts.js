// What was typed and not sent, kept for each conversation: neither a reload nor a closed tab loses it.
//
// The beginning of a new chat is its tab's own; what belongs to a conversation is there in each tab. The
// browser may have no storage for us, as in a frame of another site: then nothing is kept.

const KEY = "tech-assistant-draft-";
const MOST = 30; // conversations of which a draft is kept; the oldest make room

function storageOf(id) {
  return id === null ? sessionStorage : localStorage;
}

/** Keep a draft; "" forgets it. `id` is the conversation's, null for a new chat. */
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
        if (room === 0) throw error; // larger than all that there is
      }
    }
  } catch {
    // not kept then
  }
}

export function draftOf(id) {
  try {
    return JSON.parse(storageOf(id).getItem(KEY + (id ?? ""))).text;
  } catch {
    return "";
  }
}

/** Forget the draft if it is what was sent: another tab may have gone on writing. */
export function forgetDraft(id, text) {
  if (draftOf(id) === text) keepDraft(id, "");
}

/** Forget the oldest of the others, so that with this one there are `most` at the most. */
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
