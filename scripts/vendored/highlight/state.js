// The states of modes, and the mode of a session at a prompt.

/** A copy of a mode's state, which further lines may change. */
export function copied(mode, state) {
  if (mode.copyState) return mode.copyState(state);
  const entries = Object.entries(state).map(([key, value]) => [
    key,
    Array.isArray(value) ? [...value] : value,
  ]);
  return Object.fromEntries(entries);
}

/** A session at a prompt: what follows one is code, all other lines are what a program wrote. */
export function session(mode, prompt) {
  const start = () => mode.startState?.(2) ?? {};
  return {
    startState: () => ({ mode: start(), asks: false }),
    copyState: (state) => ({ ...state, mode: copied(mode, state.mode) }),
    token(stream, state) {
      if (stream.sol()) {
        const [found, first] = stream.match(prompt) || [];
        if (first !== undefined || !found) state.mode = start();
        state.asks = Boolean(found);
        if (found) return "meta";
      }
      if (state.asks) return mode.token(stream, state.mode);
      stream.skipToEnd();
      return null;
    },
  };
}
