// Bundles the widget's frame into assistant/web/static/widget/built/: one script and one style sheet. What an answer
// may need later stays in the files that the browser chat loads, too. SHA256SUMS there has the hashes of the bundles
// and of all their sources. Run it with `sh scripts/vendor`.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

const STATIC = join(import.meta.dirname, "../../assistant/web/static");
const TARGET = join(STATIC, "widget/built");

const laterParts = {
  name: "parts that are loaded later",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^\.\// }, ({ kind, path }) => {
      if (kind !== "dynamic-import") return;
      // A diagram needs a frame within the frame, which only pages of ours may have. Its code stays what it is.
      if (path === "./diagrams.js") return { path, namespace: "absent" };
      return { path: join("../..", path), external: true };
    });
    onLoad({ filter: /./, namespace: "absent" }, () => ({ contents: "throw new Error('absent');" }));
  },
};

// The rules of chat.css for what only the browser chat has.
const THEIRS = [
  /(?<!,\n)^ *tech-(?:conversations|grounding|hint)\b(?:(?!tech-chat|tech-send)[^{}])*\{[^{}]*\}\n/gm,
  /^@media print \{\n[^]*?^\}\n/gm, // nobody prints a frame
  /(?<!,\n)^ *tech-chat (?:\.(?:foot|intro)(?: >)? )?\.(?:engine|consent|examples|download|reading|progress)\b[^{},]*\{[^{}]*\}\n/gm,
];
const lighterStyles = {
  name: "styles without those of the browser chat",
  setup({ onLoad }) {
    onLoad({ filter: /\/chat\.css$/ }, ({ path }) => {
      const contents = THEIRS.reduce((text, rule) => text.replace(rule, ""), readFileSync(path, "utf8"));
      return { contents, loader: "css" };
    });
  },
};

rmSync(TARGET, { recursive: true, force: true });
mkdirSync(TARGET, { recursive: true });
const { metafile } = await build({
  absWorkingDir: STATIC,
  entryPoints: ["widget/frame.js", "widget/frame.css"],
  outdir: TARGET,
  plugins: [laterParts, lighterStyles],
  bundle: true,
  minify: true,
  metafile: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "none", // vendor/LICENCES.txt has them whole
});

const inputs = Object.keys(metafile.inputs).filter((path) => !path.startsWith("absent:"));
const paths = [...inputs, ...Object.keys(metafile.outputs)];
const hashes = paths.sort().map((path) => {
  return `${createHash("sha256").update(readFileSync(join(STATIC, path))).digest("hex")}  ${path}\n`;
});
writeFileSync(join(TARGET, "SHA256SUMS"), hashes.join(""));
