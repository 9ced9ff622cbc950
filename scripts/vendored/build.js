// Bundles each file of entries/ into one module of assistant/web/static/vendor/, and each file of scripts/ into a
// script that is no module. The modules of a folder may share code with each other. Writes beside them the
// licences of all packages in the bundles and the hashes of all files. Run it with `sh scripts/vendor`.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

const HERE = import.meta.dirname;
const TARGET = join(HERE, "../../assistant/web/static/vendor");

// A third of Mermaid's size is the layout engine ELK and another copy of KaTeX. The layout engine Dagre, which
// Mermaid also has, takes ELK's place, and formulas in diagrams stay text.
const lighterMermaid = {
  name: "lighter Mermaid",
  setup({ onResolve }) {
    onResolve({ filter: /^\.\/elk-\w+\.mjs$/ }, ({ resolveDir }) => {
      const dagre = readdirSync(resolveDir).find((name) => /^dagre-\w+\.mjs$/.test(name));
      return { path: join(resolveDir, dagre) };
    });
    onResolve({ filter: /^katex$/ }, ({ resolveDir }) => {
      if (resolveDir.includes("/mermaid/")) return { path: join(HERE, "no-katex.js") };
    });
  },
};

const CODEMIRROR = { path: join(HERE, "highlight/codemirror.js") };
const withoutEditor = {
  name: "modes of CodeMirror without its editor",
  setup({ onResolve }) {
    onResolve({ filter: /^\.\.\/\.\.\/lib\/codemirror$|^\.\.\/meta$/ }, () => CODEMIRROR);
  },
};

rmSync(TARGET, { recursive: true, force: true });
mkdirSync(TARGET, { recursive: true });
const options = {
  absWorkingDir: HERE,
  outdir: TARGET,
  alias: { entities: "./browser.js", mdurl: "./browser.js", "punycode.js": "./browser.js" },
  plugins: [lighterMermaid, withoutEditor],
  loader: { ".woff2": "file", ".woff": "empty", ".ttf": "empty" }, // every browser knows the first
  assetNames: "fonts/[name]",
  bundle: true,
  minify: true,
  metafile: true,
  target: "es2022",
  charset: "utf8",
  legalComments: "none", // LICENCES.txt has them whole
};
const modules = { ...options, outbase: "entries", format: "esm", splitting: true, chunkNames: "chunks/[hash]" };
const entries = readdirSync(join(HERE, "entries"), { withFileTypes: true });
const builds = [
  build({ ...options, entryPoints: ["scripts/*.js"], outbase: "scripts", format: "iife" }),
  ...entries.map((entry) => {
    return build({ ...modules, entryPoints: [join("entries", entry.name, entry.isDirectory() ? "*.js" : "")] });
  }),
];

const locked = JSON.parse(readFileSync(join(HERE, "package-lock.json"), "utf8")).packages;
const outputs = (await Promise.all(builds)).flatMap(({ metafile }) => Object.values(metafile.outputs));
const bundled = outputs.flatMap(({ inputs }) => Object.keys(inputs));
const folders = bundled.flatMap((path) => {
  const folder = /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0];
  if (!folder) return [];
  // Mermaid has bundled some packages itself; its comments name them.
  const inner = readFileSync(join(HERE, path), "utf8").matchAll(/\/\.pnpm\/([^/]+?)@[\d.]+[_/]/g);
  return [folder, ...Array.from(inner, ([, name]) => `node_modules/${name.replace("+", "/")}`)];
});
const licences = [...new Set(folders)].sort().map((folder) => {
  const file = readdirSync(join(HERE, folder)).find((name) => /^licen[cs]e/i.test(name)) ?? "README.md";
  const text = readFileSync(join(HERE, folder, file), "utf8").replace(/^[^]*## License/, "").trim();
  if (!text.includes("Copyright")) throw new Error(`${folder} has no licence file.`);
  const { version, license = text.includes("The MIT License") && "MIT" } = locked[folder];
  return `${folder.replace(/^.*node_modules\//, "")} ${version} (${license})\n\n${text}\n`;
});
writeFileSync(join(TARGET, "LICENCES.txt"), licences.join(`\n${"-".repeat(80)}\n\n`));

const files = readdirSync(TARGET, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
const hashes = files.map((entry) => {
  const path = join(entry.parentPath, entry.name);
  const hash = createHash("sha256").update(readFileSync(path)).digest("hex");
  return `${hash}  ${path.slice(TARGET.length + 1)}\n`;
});
writeFileSync(join(TARGET, "SHA256SUMS"), hashes.sort().join(""));
