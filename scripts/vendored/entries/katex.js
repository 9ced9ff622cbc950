// Formulas, with the notation of chemistry. The style sheet and the fonts are bundled with it.

import "katex/contrib/mhchem";
import "katex/dist/katex.min.css";

export { default } from "katex";
