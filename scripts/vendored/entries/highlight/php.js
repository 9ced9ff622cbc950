import { copyState, modeFor, startState } from "../../highlight/codemirror.js";
import "codemirror/mode/php/php.js";

const page = modeFor("application/x-httpd-php");
const script = modeFor("application/x-httpd-php-open");

/** Code that begins with no tag is PHP from its beginning. */
export const php = {
  startState: () => ({ mode: null, state: null }),
  copyState: ({ mode, state }) => ({ mode, state: mode && copyState(mode, state) }),
  token(stream, held) {
    if (!held.mode) {
      held.mode = /^\s*</.test(stream.string) ? page : script;
      held.state = startState(held.mode);
    }
    const { php, curState } = held.state;
    if (curState === php && !php.tokenize && stream.match("#[")) return "meta"; // an attribute, no comment
    return held.mode.token(stream, held.state);
  },
};
