/** Bundles and minifies each entry of the package as a page would, and fails where one is as large as its bound or larger, with gzip. */

import { gzipSync } from "node:zlib";
import { buildSync } from "esbuild";

const BOUNDS = { index: 10_000, "accounts/index": 4_500, "people/index": 2_500 };

for (const [entry, bound] of Object.entries(BOUNDS)) {
  const { outputFiles } = buildSync({ entryPoints: [`src/${entry}.ts`], bundle: true, minify: true, format: "esm", target: "es2022", write: false });
  const bytes = gzipSync(outputFiles[0].contents, { level: 9 }).length;
  console.log(`${entry}: ${bytes} bytes with gzip, of ${bound} (${outputFiles[0].contents.length} without)`);
  if (bytes >= bound) process.exitCode = 1;
}
