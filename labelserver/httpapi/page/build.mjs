// Builds the pages into dist/, which is committed and embedded: `npm ci && npm run build`.
import { build } from "esbuild";
import { cp, readFile, readdir, rm, writeFile } from "node:fs/promises";

await rm("dist", { recursive: true, force: true });
const { metafile } = await build({
  entryPoints: ["annotate.ts", "operator.ts", "login.ts", "logs.ts", "style.css"].map((name) => `src/${name}`),
  outdir: "dist",
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome110", "firefox115", "safari16.4"],
  legalComments: "none", // whole licences go into licences.txt
  metafile: true,
  logLevel: "warning",
});
for (const page of ["annotate.html", "operator.html", "login.html", "logs.html", "docs.html"]) {
  await cp(`src/${page}`, `dist/${page}`);
}

/** The text of a package's licence: its own file, or the one kept here of a package that has none. */
async function licence(name) {
  const folder = `node_modules/${name}`;
  const own = (await readdir(folder)).find((file) => /^(licen[cs]e|copying)(\.(md|txt))?$/i.test(file));
  try {
    return await readFile(own ? `${folder}/${own}` : `licences/${name.replace("/", "_")}.txt`, "utf8");
  } catch (e) {
    throw new Error(`the licence of ${name} is missing; put its text into licences/`, { cause: e });
  }
}

const bundled = new Set();
for (const { inputs } of Object.values(metafile.outputs)) {
  for (const [file, { bytesInOutput }] of Object.entries(inputs)) {
    const [, name] = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file) ?? [];
    if (name && bytesInOutput > 0) {
      bundled.add(name);
    }
  }
}
const texts = await Promise.all(
  [...bundled].sort().map(async (name) => {
    const { version, license } = JSON.parse(await readFile(`node_modules/${name}/package.json`, "utf8"));
    return `${name} ${version} (${license})\n\n${(await licence(name)).trim()}\n`;
  }),
);
await writeFile("dist/licences.txt", `The pages' scripts hold these libraries.\n\n${texts.join(`\n${"-".repeat(80)}\n\n`)}`);
