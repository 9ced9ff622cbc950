// Diagrams. This is no module, because a page in a sandbox may not load modules from a server that does not
// name it.

import mermaid from "mermaid";

globalThis.mermaid = mermaid;
