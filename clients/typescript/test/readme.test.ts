/** The examples of README.md run as they stand there, each as a program of its own against the real service. */

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { Service, temporaryFolder } from "./support/service.js";
import { Log } from "./support/signals.js";

const PACKAGE = fileURLToPath(new URL("../../", import.meta.url));
/** In the package's folder, where its own name can be imported. */
const EXAMPLES = join(PACKAGE, "dist/readme");
const readme = readFileSync(join(PACKAGE, "README.md"), "utf8");

/** The part of a page that Node 20 has not. */
const PLATFORM = `
import { WebSocket } from "ws";
import "fake-indexeddb/auto";
globalThis.WebSocket = WebSocket;
globalThis.sessionStorage = { getItem: () => null, setItem: () => undefined };
const { fetch } = globalThis;
globalThis.fetch = async (url, init) => (url === "/token" ? { text: async () => process.env.RESTANTE_TOKEN } : fetch(url, init));
const rows = new Map();
globalThis.localStorage = { getItem: (key) => rows.get(key) ?? null, setItem: (key, value) => rows.set(key, value), removeItem: (key) => rows.delete(key) };
`;

let service: Service;
let contactsOnly: Service;
before(async () => {
  [service, contactsOnly] = await Promise.all([Service.start({ ACCOUNTS: "on" }), Service.start({ DIRECT_MESSAGES: "contacts" })]);
  mkdirSync(EXAMPLES, { recursive: true });
  writeFileSync(join(EXAMPLES, "platform.mjs"), PLATFORM);
});
after(() => Promise.all([service.remove(), contactsOnly.remove()]));

function blocks(language: string): string[] {
  return readme.split(`\`\`\`${language}\n`).slice(1).map((rest) => rest.split("```")[0]!);
}

/** Starts an example as a user, and hears its lines. */
function run(name: string, user: string, at: Service = service): { lines: Log<string>; child: ChildProcess } {
  const source = blocks("js").find((block) => block.startsWith(`// ${name}\n`));
  assert.ok(source, `README.md has no ${name}`);
  writeFileSync(join(EXAMPLES, name), source);
  const env = { ...process.env, RESTANTE_URL: at.url, RESTANTE_TOKEN: at.token(user) };
  const child = spawn(process.execPath, ["--import", join(EXAMPLES, "platform.mjs"), join(EXAMPLES, name)], { env, cwd: temporaryFolder(), stdio: ["ignore", "pipe", "inherit"] });
  const lines = new Log<string>();
  let text = "";
  child.stdout!.on("data", (more) => {
    const parts = (text + String(more)).split("\n");
    text = parts.pop()!;
    parts.forEach(lines.add);
  });
  return { lines, child };
}

test("every example of the README is run here", () => {
  const names = blocks("js").map((block) => /^\/\/ (\S+)\n/.exec(block)?.[1]);
  assert.deepEqual(names, ["receive.mjs", "send.mjs", "once.mjs", "page.mjs", "login.mjs", "people.mjs"]);
});

test("receive.mjs and send.mjs talk to each other, and end", async () => {
  const [bob, alice] = [run("receive.mjs", "bob"), run("send.mjs", "alice")];
  const codes = await Promise.all([once(bob.child, "close"), once(alice.child, "close")]);
  assert.deepEqual(codes.map(([code]) => code), [0, 0]);
  assert.deepEqual(bob.lines.items, ["alice: hello", "alice: bye"]);
  assert.deepEqual([...new Set(alice.lines.items)], ["pending", "sent", "delivered"]);
});

test("once.mjs adds each number once", async () => {
  for (const content of ["3", "4", "0"]) await service.http("alice", "POST", "/v1/messages", { to: "carol", content });
  const carol = run("once.mjs", "carol");
  assert.equal((await once(carol.child, "close"))[0], 0);
  assert.deepEqual(carol.lines.items, ["3", "7", "7"]);
});

test("page.mjs opens and hears", async () => {
  await service.http("alice", "POST", "/v1/messages", { to: "dora", content: "hello" });
  const dora = run("page.mjs", "dora");
  const hears = new Promise<void>((resolve) => dora.lines.subscribe(() => dora.lines.items.includes("alice: hello") && resolve()));
  await hears;
  assert.ok(dora.lines.items.includes("open"));
  dora.child.kill();
  await once(dora.child, "close");
});

test("login.mjs registers, logs in, connects, and stops where it has logged out", async () => {
  const eve = run("login.mjs", "nobody");
  assert.equal((await once(eve.child, "close"))[0], 0);
  assert.deepEqual(eve.lines.items.filter((line) => line !== "connecting" && line !== "waiting"), ["open", "eve: logged_out", "stopped", "closed"]);
});

test("people.mjs accepts an invitation, requests who made it, and blocks somebody", async () => {
  await contactsOnly.http("anna", "POST", "/v1/chats", { kind: "group", title: "crew", members: ["fay"] });
  const fay = run("people.mjs", "fay", contactsOnly);
  assert.equal((await once(fay.child, "close"))[0], 0);
  assert.deepEqual(fay.lines.items, ["anna invites to crew", "member", "requested", "anna", "true"]);
});

test("the example of events compiles, and one with a wrong name does not", () => {
  const [source] = blocks("ts");
  const errorsOf = (name: string, text: string): number => {
    const file = join(EXAMPLES, name);
    writeFileSync(file, text);
    const options = { strict: true, noEmit: true, skipLibCheck: true, module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2022, types: [] };
    return ts.getPreEmitDiagnostics(ts.createProgram([file], options)).length;
  };
  assert.equal(errorsOf("events.ts", source!), 0);
  assert.notEqual(errorsOf("wrong.ts", source!.replace("data.postId", "data.post")), 0);
});
