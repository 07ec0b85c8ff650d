// Builds the pages into dist/, which is committed and embedded: `npm ci && npm run build`.
import { build } from "esbuild";
import { cp, rm } from "node:fs/promises";

await rm("dist", { recursive: true, force: true });
await build({
  entryPoints: ["src/annotate.ts", "src/operator.ts", "src/style.css"],
  outdir: "dist",
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome110", "firefox115", "safari16.4"],
  legalComments: "linked",
  logLevel: "warning",
});
for (const page of ["annotate.html", "operator.html"]) {
  await cp(`src/${page}`, `dist/${page}`);
}
