import { python } from "@codemirror/legacy-modes/mode/python";
import { session } from "../../highlight/state.js";

export { python };
export const pycon = session(python, /^(?:(>>> ?)|\.\.\. ?)/);
