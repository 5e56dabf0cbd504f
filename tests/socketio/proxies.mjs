// Tries the examples for proxies: two nodes of the service on one database behind nginx or Caddy, and unchanged clients of Socket.IO that poll, that
// upgrade, and that use WebSocket alone. Each writes to each of the others, so messages cross the nodes.
//
//   node proxies.mjs nginx caddy
//
// The nodes are started by the tests' support of clients/typescript, which is to be built (`npm run build`) and says which program it takes.
// It says for each proxy and transport how many messages came, and to which nodes its clients went; it ends with 1 where something is missing.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { io } from "socket.io-client";
import { Service, temporaryFolder } from "../../clients/typescript/dist/test/support/service.js";

const EXAMPLES = fileURLToPath(new URL("../../examples/proxies/", import.meta.url));
const CLIENTS = 12;
const BOUND_MS = 120_000;

const proxies = process.argv.slice(2);
const folder = temporaryFolder();
const settings = { JWT_SECRET: randomBytes(32).toString("hex"), REQUEST_RATE: "0" };
const children = [];
// A signal that ends this program also ends the programs that it has started.
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => process.exit(1));
process.once("exit", () => children.forEach((child) => child.kill("SIGTERM")));

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  return String(port);
}

/** Starts a proxy with its example, on other ports, and resolves with its address when it lets requests through. */
async function proxy(name, nodes) {
  const [port, [first, second]] = [await freePort(), nodes.map((node) => new URL(node.url).port)];
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
async function connections(nodes) {
  return Promise.all(nodes.map(async (node) => {
    const text = await (await fetch(`${node.url}/metrics`)).text();
    return Number(/^restante_sessions (\d+)/m.exec(text)?.[1] ?? "0");
  }));
}

async function exchange(url, transports, nodes) {
  const received = new Map();
  let look;
  const names = Array.from({ length: CLIENTS }, (_, n) => `${randomUUID().slice(0, 8)}-${n}`);
  const sockets = await Promise.all(names.map(async (name) => {
    // A page keeps the cookies of its own origin; in Node they have to be asked for.
    const socket = io(url, { transports, auth: { token: nodes[0].token(name) }, forceNew: true, withCredentials: true });
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
  const spread = await connections(nodes);
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
  const first = await Service.start(settings);
  const socketFolder = encodeURIComponent(join(first.folder, "data/postgres"));
  const second = await Service.start({ ...settings, DATABASE_URL: `postgres:///restante?host=${socketFolder}&user=postgres` });
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
  for (const child of children) child.kill("SIGTERM");
  // The first one has the database.
  for (const service of Service.all.reverse()) await service.remove();
}
process.exit(failed ? 1 : 0);
