/** Bundles and minifies the package as a page would, and fails where it has 10 KB or more with gzip. */

import { gzipSync } from "node:zlib";
import { buildSync } from "esbuild";

const BYTES_MAX = 10_000;

const { outputFiles } = buildSync({ entryPoints: ["src/index.ts"], bundle: true, minify: true, format: "esm", target: "es2022", write: false });
const bytes = gzipSync(outputFiles[0].contents, { level: 9 }).length;
console.log(`${bytes} bytes with gzip, of ${BYTES_MAX} (${outputFiles[0].contents.length} without)`);
if (bytes >= BYTES_MAX) process.exitCode = 1;
