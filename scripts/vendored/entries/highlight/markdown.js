import { modeFor } from "../../highlight/codemirror.js";
import "codemirror/mode/markdown/markdown.js";

export const markdown = modeFor("text/x-markdown");
