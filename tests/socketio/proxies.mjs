// Tries the examples for proxies: two nodes of the service on one database behind nginx or Caddy, and unchanged clients of Socket.IO that poll, that
// upgrade, and that use WebSocket alone. Each writes to each of the others, so messages cross the nodes.
//
//   node proxies.mjs --program target/release/restante nginx caddy
//
// It says for each proxy and transport how many messages came, and to which nodes its clients went; it ends with 1 where something is missing.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHmac, randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { io } from "socket.io-client";

const EXAMPLES = fileURLToPath(new URL("../../examples/proxies/", import.meta.url));
const CLIENTS = 12;
const BOUND_MS = 120_000;

const { values: options, positionals: proxies } = parseArgs({ allowPositionals: true, options: { program: { type: "string" } } });
const folder = mkdtempSync(join(tmpdir(), "restante-proxies-"));
chmodSync(folder, 0o755);
const secret = randomBytes(32).toString("hex");
const children = [];
// A signal that ends this program also ends the programs that it has started.
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => process.exit(1));
process.once("exit", () => children.forEach((child) => child.kill("SIGTERM")));

function token(userId) {
  const encoded = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${encoded({ alg: "HS256", typ: "JWT" })}.${encoded({ sub: userId, exp: Math.floor(Date.now() / 1000) + 3600 })}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

async function node(settings) {
  const env = { ...process.env, JWT_SECRET: secret, LISTEN_ADDR: "127.0.0.1:0", REQUEST_RATE: "0", ...settings };
  const child = spawn(options.program, ["serve"], { env, stdio: ["ignore", "pipe", "ignore"] });
  children.push(child);
  let said = "";
  return new Promise((resolve, reject) => {
    child.stdout.on("data", (text) => {
      said += text;
      const port = /listening on http:\S+:(\d+)\s/.exec(said)?.[1];
      if (port) resolve(port);
    });
    child.once("close", () => reject(new Error(`a node did not start: ${said}`)));
  });
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  return String(port);
}

/** Starts a proxy with its example, on other ports, and resolves with its address when it lets requests through. */
async function proxy(name, [first, second]) {
  const port = await freePort();
  const example = { nginx: "nginx.conf", caddy: "Caddyfile" }[name];
  const text = readFileSync(join(EXAMPLES, example), "utf8").replaceAll("8081", first).replaceAll("8082", second).replaceAll("8080", port);
  const file = join(folder, example);
  writeFileSync(file, text);
  const commands = {
    nginx: ["nginx", ["-p", folder, "-c", file, "-g", `daemon off; pid ${join(folder, "pid")}; error_log ${join(folder, "log")};`]],
    caddy: ["caddy", ["run", "--adapter", "caddyfile", "--config", file]],
  };
  const [program, args] = commands[name];
  const child = spawn(program, args, { stdio: "ignore", env: { ...process.env, XDG_CONFIG_HOME: folder, XDG_DATA_HOME: folder } });
  children.push(child);
  const url = `http://127.0.0.1:${port}`;
  const end = Date.now() + BOUND_MS;
  while (!(await fetch(`${url}/readyz`).then((answer) => answer.ok, () => false))) {
    assert(Date.now() < end && child.exitCode === null, `${name} does not let requests through`);
    await new Promise((wake) => setTimeout(wake, 100));
  }
  return { url, child };
}

/** The connections that each node has, by its own metrics. */
async function connections(ports) {
  return Promise.all(ports.map(async (port) => {
    const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    return Number(/^restante_sessions (\d+)/m.exec(text)?.[1] ?? "0");
  }));
}

async function exchange(url, transports, ports) {
  const received = new Map();
  let look;
  const names = Array.from({ length: CLIENTS }, (_, n) => `${randomUUID().slice(0, 8)}-${n}`);
  const sockets = await Promise.all(names.map(async (name) => {
    // A page keeps the cookies of its own origin; in Node they have to be asked for.
    const socket = io(url, { transports, auth: { token: token(name) }, forceNew: true, withCredentials: true });
    received.set(name, new Set());
    socket.on("message:receive", (message, confirm) => {
      received.get(name).add(message.content);
      confirm({ received: true });
      look?.();
    });
    await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no client gets in over ${transports}`)), BOUND_MS);
      socket.once("ready", () => {
        clearTimeout(timer);
        resolve();
      });
    });
    return socket;
  }));
  const spread = await connections(ports);
  const whole = new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("messages are missing")), BOUND_MS);
    look = () => {
      if (![...received.values()].every((contents) => contents.size === CLIENTS - 1)) return;
      clearTimeout(timer);
      resolve();
    };
  });
  for (const [n, socket] of sockets.entries()) {
    for (const to of names) {
      if (to === names[n]) continue;
      const answer = await socket.timeout(30_000).emitWithAck("message:send", { to, content: names[n], messageId: randomUUID() });
      assert(!answer.error, JSON.stringify(answer));
    }
  }
  await whole;
  for (const socket of sockets) socket.disconnect();
  return { messages: CLIENTS * (CLIENTS - 1), spread };
}

let failed = false;
try {
  const first = await node({ DATA_DIR: join(folder, "data") });
  const socketFolder = join(folder, "data/postgres");
  const second = await node({ DATABASE_URL: `postgres:///restante?host=${encodeURIComponent(socketFolder)}&user=postgres` });
  for (const name of proxies) {
    const { url, child } = await proxy(name, [first, second]);
    for (const transports of [["polling"], ["polling", "websocket"], ["websocket"]]) {
      const { messages, spread } = await exchange(url, transports, [first, second]);
      console.log(JSON.stringify({ proxy: name, transports, messages, nodes: spread }));
      assert(spread.every((count) => count > 0), "all clients are at one node, so nothing is shown");
    }
    child.kill("SIGTERM");
    await once(child, "exit");
  }
} catch (error) {
  console.error(error);
  failed = true;
} finally {
  for (const child of children.reverse()) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill("SIGTERM");
    await once(child, "exit");
  }
  rmSync(folder, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
