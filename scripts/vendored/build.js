// Bundles each file of entries/ into one module of assistant/web/static/vendor/. The files of a folder may share
// code with each other. Writes beside them the licences of all packages in the bundles and the hashes of all
// files. Run it with `sh scripts/vendor`.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

const HERE = import.meta.dirname;
const TARGET = join(HERE, "../../assistant/web/static/vendor");

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
  outbase: "entries",
  outdir: TARGET,
  alias: { entities: "./entities.js" },
  plugins: [withoutEditor],
  bundle: true,
  splitting: true,
  chunkNames: "shared/[hash]",
  minify: true,
  metafile: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "none", // LICENCES.txt has them whole
};
const builds = readdirSync(join(HERE, "entries"), { withFileTypes: true }).map((entry) =>
  build({ ...options, entryPoints: [join("entries", entry.name, entry.isDirectory() ? "*.js" : "")] }),
);

const locked = JSON.parse(readFileSync(join(HERE, "package-lock.json"), "utf8")).packages;
const outputs = (await Promise.all(builds)).flatMap(({ metafile }) => Object.values(metafile.outputs));
const bundled = outputs.flatMap(({ inputs }) => Object.keys(inputs));
const folders = bundled.map((path) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0]);
const licences = [...new Set(folders.filter(Boolean))].sort().map((folder) => {
  const { version, license } = locked[folder];
  const file = readdirSync(join(HERE, folder)).find((name) => /^licen[cs]e/i.test(name));
  if (!file) throw new Error(`${folder} has no licence file.`);
  const name = folder.replace(/^.*node_modules\//, "");
  return `${name} ${version} (${license})\n\n${readFileSync(join(HERE, folder, file), "utf8").trim()}\n`;
});
writeFileSync(join(TARGET, "LICENCES.txt"), licences.join(`\n${"-".repeat(80)}\n\n`));

const files = readdirSync(TARGET, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
const hashes = files.map((entry) => {
  const path = join(entry.parentPath, entry.name);
  const hash = createHash("sha256").update(readFileSync(path)).digest("hex");
  return `${hash}  ${path.slice(TARGET.length + 1)}\n`;
});
writeFileSync(join(TARGET, "SHA256SUMS"), hashes.sort().join(""));
