// The messages of a conversation as the tree that they are.
//
// Knows parents, branches and what stands beside a message; refuses to know how any of it is shown.

export class MessageTree {
  #byId = new Map(); // in the order in which they were stored, hence a parent before its children
  #children = new Map(); // by the parent's id, null for the roots

  constructor(messages = []) {
    for (const message of messages) this.add(message);
  }

  add(message) {
    this.#byId.set(message.id, message);
    const siblings = this.#children.get(message.parent_id);
    if (siblings) siblings.push(message);
    else this.#children.set(message.parent_id, [message]);
  }

  /** The messages from the root to the one with this id; none when it is not here. */
  branchTo(id) {
    const branch = [];
    for (let message = this.#byId.get(id); message; message = this.#byId.get(message.parent_id)) {
      branch.push(message);
    }
    return branch.reverse();
  }

  /** All versions of a message, itself among them, oldest first. */
  versionsOf({ parent_id: parent }) {
    return this.#children.get(parent) ?? [];
  }

  /** The id of what was stored last below a message: the end of a branch. */
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
