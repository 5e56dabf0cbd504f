// Others read the descriptions too: the parser of AsyncAPI and a validator of OpenAPI must accept them, without an error or a warning.

import { readFile } from "node:fs/promises";
import { Parser } from "@asyncapi/parser";
import { Validator } from "@seriousme/openapi-schema-validator";

const read = (name) => readFile(new URL(`../../docs/${name}`, import.meta.url), "utf8");
const found = [];

const { document, diagnostics } = await new Parser().parse(await read("asyncapi.json"));
for (const { severity, message, path } of diagnostics) {
  // 0 is an error, 1 a warning; 2 and 3 are advice.
  if (severity < 2) found.push(`docs/asyncapi.json: ${path.join(".")}: ${message}`);
}
if (document === undefined || document.operations().length < 20) found.push("docs/asyncapi.json: no document with its operations came of it");

const validator = new Validator();
const { valid, errors } = await validator.validate(JSON.parse(await read("openapi.json")));
if (!valid) found.push(...[errors].flat().map((error) => `docs/openapi.json: ${typeof error === "string" ? error : JSON.stringify(error)}`));
if (validator.version !== "3.1") found.push(`docs/openapi.json: read as OpenAPI ${validator.version}`);

found.forEach((line) => console.error(line));
if (found.length > 0) process.exit(1);
console.log(`accepted: docs/asyncapi.json (${document.operations().length} operations) and docs/openapi.json (OpenAPI ${validator.version})`);
