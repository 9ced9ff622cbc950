// The messages of a conversation as a tree: each message has a parent, and its siblings are its versions.

export class MessageTree {
  #byId = new Map(); // in the order in which they were stored, so a parent comes before its children
  #children = new Map(); // by the parent's id; null is the parent of the roots

  constructor(messages = []) {
    for (const message of messages) this.add(message);
  }

  add(message) {
    this.#byId.set(message.id, message);
    this.#children.set(message.parent_id, [...this.versionsOf(message), message]);
  }

  /** The messages from the root to the one with this id. Empty if there is no such message. */
  branchTo(id) {
    const branch = [];
    for (let message = this.#byId.get(id); message; message = this.#byId.get(message.parent_id)) {
      branch.push(message);
    }
    return branch.reverse();
  }

  /** All versions of a message, including itself, oldest first. */
  versionsOf({ parent_id: parent }) {
    return this.#children.get(parent) ?? [];
  }

  /** The id of the last stored descendant of a message, or its own: the end of a branch. */
  lastBelow(id) {
    const below = new Set([id]);
    let last = id;
    for (const message of this.#byId.values()) {
      if (!below.has(message.parent_id)) continue;
      below.add(message.id);
      last = message.id;
    }
    return last;
  }
}
