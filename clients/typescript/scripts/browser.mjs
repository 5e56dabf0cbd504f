/**
 * The client in a real browser against the real service: IndexedDB, localStorage, Web Locks, BroadcastChannel and the browser's own WebSocket, with
 * tabs that are reloaded and closed, and a service that is killed. `npm run browser`; it needs Chromium (CHROMIUM names it) and a built service.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { buildSync } from "esbuild";
import { WebSocket } from "ws";
import { Service } from "../dist/test/support/service.js";

const BOUND_MS = 120_000;

/** Runs in each tab. The driver below calls the functions of `window`. */
const PAGE = `
  import { connect, indexedDbStorage } from "/client.js";
  import { Login, localStorageLogins } from "/accounts.js";
  window.begin = (options) => {
    window.storage = indexedDbStorage({ name: options.user });
    window.refused = [];
    window.client = connect({
      url: options.url, token: options.token, device: options.device, storage: window.storage,
      onRefused: (entry) => window.refused.push([entry.data.messageId, entry.code]),
      onMessage: options.keeps && ((message) => message.once(async (tx) => {
        const kept = (await tx.get("effects", "count")) ?? 0;
        await tx.put("effects", "count", kept + 1);
        await tx.put("effects", "n" + String(kept).padStart(6, "0"), message.content);
      })),
    });
  };
  window.beginLogin = (url) => {
    // The page counts refreshes that have left it.
    window.refreshes = 0;
    const counted = (address, init) => {
      if (address.endsWith("/refresh")) window.refreshes += 1;
      return fetch(address, init);
    };
    window.login = new Login({ url, store: localStorageLogins(), fetch: counted });
    window.ends = [];
    login.signedOut.subscribe(({ reason }) => ends.push(reason));
  };
  window.until = (isTrue) => new Promise((resolve) => {
    const look = async () => ((await isTrue()) ? resolve() : setTimeout(look, 50));
    look();
  });
  window.effects = async () => (await window.storage.transaction((tx) => tx.entries("effects"))).filter(([key]) => key !== "count").map(([, content]) => content);
  window.connect = connect;
  window.isLoaded = true;
`;

/** A browser without a window, and its tabs. */
class Browser {
  #folder = mkdtempSync(join(tmpdir(), "restante-browser-"));
  #process;
  #address;

  async start() {
    const args = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0", `--user-data-dir=${this.#folder}`, "about:blank"];
    this.#process = spawn(process.env.CHROMIUM ?? "chromium", args, { stdio: ["ignore", "ignore", "pipe"] });
    process.once("exit", () => this.#process.kill("SIGKILL"));
    for await (const line of createInterface({ input: this.#process.stderr })) {
      this.#address = /DevTools listening on ws:\/\/([^/]+)/.exec(line)?.[1];
      if (this.#address) break;
    }
    assert(this.#address, "the browser did not start");
    this.#process.stderr.resume();
  }

  async tab(url) {
    const target = await (await fetch(`http://${this.#address}/json/new?${encodeURIComponent(url)}`, { method: "PUT" })).json();
    const tab = new Tab(target, this.#address);
    await tab.open();
    return tab;
  }

  async remove() {
    this.#process.kill("SIGTERM");
    await once(this.#process, "exit");
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }
}

class Tab {
  #target;
  #address;
  #socket;
  #last = 0;
  #answers = new Map();

  constructor(target, address) {
    [this.#target, this.#address] = [target, address];
  }

  async open() {
    this.#socket = new WebSocket(this.#target.webSocketDebuggerUrl);
    this.#socket.on("message", (text) => {
      const { id, result, error } = JSON.parse(text);
      const answer = this.#answers.get(id);
      this.#answers.delete(id);
      if (error) answer?.reject(new Error(error.message));
      else answer?.resolve(result);
    });
    await once(this.#socket, "open");
    await this.#loaded();
  }

  /** Evaluates an expression in the page, waits for its promise, and resolves with its value. */
  async run(expression) {
    const { result, exceptionDetails } = await this.#ask("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  async begin(options) {
    await this.run(`begin(${JSON.stringify(options)})`);
  }

  async until(expression) {
    await this.run(`until(async () => (${expression}))`);
  }

  async reload() {
    await this.run("window.isLoaded = false");
    await this.#ask("Page.reload", {});
    await this.#loaded();
  }

  /** Ends the tab at once, as a user does. */
  async close() {
    this.#socket.close();
    await fetch(`http://${this.#address}/json/close/${this.#target.id}`);
  }

  async #loaded() {
    const end = Date.now() + BOUND_MS;
    // While a page is replaced there may be nobody to ask.
    while (!(await this.run("window.isLoaded === true").catch(() => false))) {
      assert(Date.now() < end, "the page did not load");
      await new Promise((wake) => setTimeout(wake, 50));
    }
  }

  #ask(method, params) {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer to ${method} ${params.expression ?? ""}`)), BOUND_MS);
      const settled = (settle) => (value) => {
        clearTimeout(timer);
        settle(value);
      };
      this.#answers.set(id, { resolve: settled(resolve), reject: settled(reject) });
      this.#socket.send(JSON.stringify({ id, method, params }));
    });
  }
}

/** Twenty messages from two tabs that have no connection, a reload, number 7 refused for good: all but 7 once, in order. */
async function outboxOfTwoTabs(browser, page, service) {
  const { chatId } = await service.http("anna", "POST", "/v1/chats", { kind: "direct", members: ["ben"] });
  const away = { user: "anna", url: "http://127.0.0.1:1", token: service.token("anna") };
  const here = { ...away, url: service.url };
  const [one, two] = [await browser.tab(page), await browser.tab(page)];
  await one.begin({ ...away, device: "one" });
  await two.begin({ ...away, device: "two" });
  const ids = [];
  for (let n = 1; n <= 20; n++) {
    const message = { chatId, content: String(n), messageType: n === 7 ? "restante:none" : "text" };
    ids.push(await [one, two][n % 2].run(`client.send(${JSON.stringify(message)})`));
  }
  await Promise.all([one.reload(), two.reload()]);
  await one.begin({ ...here, device: "one" });
  await two.begin({ ...here, device: "two" });
  const isOver = (id, n) => `client.sent.get("${id}")?.state === "${n === 6 ? "failed" : "sent"}"`;
  for (const tab of [one, two]) await tab.until(ids.map(isOver).join(" && "));
  const refused = [...(await one.run("refused")), ...(await two.run("refused"))];
  assert.deepEqual(refused, [[ids[6], "invalid"]], "one tab is told of the refusal, once");
  const { messages } = await service.http("ben", "GET", `/v1/chats/${chatId}/messages?limit=200`);
  const stored = messages.sort((a, b) => a.seq - b.seq).map((message) => message.content);
  assert.deepEqual(stored, ids.map((_, n) => String(n + 1)).filter((content) => content !== "7"));

  // The tab that holds the lock is closed; the other one sends what both have put.
  await Promise.all(Array.from({ length: 40 }, (_, n) => [one, two][n % 2].run(`client.send({ chatId: "${chatId}", content: "later ${n}" })`)));
  await one.close();
  await two.until(`client.sent.list().every((message) => message.state !== "pending")`);
  const { messages: all } = await service.http("ben", "GET", `/v1/chats/${chatId}/messages?limit=200`);
  assert.equal(all.length, 19 + 40, "each once");
  await two.close();
}

/** Effects in IndexedDB happen once and in order, while the tab is reloaded and the service is killed. */
async function effectsOnce(browser, page, service) {
  const COUNT = 600;
  const { chatId } = await service.http("cleo", "POST", "/v1/chats", { kind: "direct", members: ["dora"] });
  const [writer, reader] = [await browser.tab(page), await browser.tab(page)];
  const reading = { user: "dora", url: service.url, token: service.token("dora"), device: "tab", keeps: true };
  await writer.begin({ user: "cleo", url: service.url, token: service.token("cleo"), device: "tab" });
  await reader.begin(reading);
  for (let n = 0; n < COUNT; n += 50) await writer.run(`Promise.all(Array.from({ length: 50 }, (_, n) => client.send({ chatId: "${chatId}", content: String(${n} + n) })))`);
  for (const place of [100, 300]) {
    await reader.until(`(await effects()).length >= ${place}`);
    await service.kill();
    await reader.reload();
    await service.start();
    await reader.begin(reading);
  }
  await reader.until(`(await effects()).length >= ${COUNT}`);
  assert.deepEqual(await reader.run("effects()"), Array.from({ length: COUNT }, (_, n) => String(n)));
  await Promise.all([writer.close(), reader.close()]);
}

/** Tabs that share a login in localStorage: all want another token at once, again and again, while one is reloaded; one logs out, and all hear of it. */
async function loginOfTabs(browser, page, service) {
  const TABS = 4;
  const password = "four pears eat no horses";
  const tabs = await Promise.all(Array.from({ length: TABS }, () => browser.tab(page)));
  for (const tab of tabs) await tab.run(`beginLogin("${service.url}")`);
  await tabs[0].run(`login.register({ userId: "eve", password: "${password}" })`);
  await tabs[0].run(`login.logIn({ userId: "eve", password: "${password}" })`);
  for (const tab of tabs) await tab.until(`login.state.value.name === "signedIn"`);
  const tokenOf = (tab) => tab.run("login.token()");
  for (let turn = 1; turn <= 5; turn++) {
    const old = await tokenOf(tabs[0]);
    const tokens = await Promise.all(tabs.map((tab) => tab.run(`login.token("${old}")`)));
    assert(new Set(tokens).size === 1 && tokens[0] !== old, "all have the same new token");
    const refreshes = await Promise.all(tabs.map((tab) => tab.run("refreshes")));
    assert.equal(refreshes.reduce((sum, each) => sum + each), turn, "one of them has refreshed");
  }
  const last = await tokenOf(tabs[0]);
  await tabs[1].reload();
  await tabs[1].run(`beginLogin("${service.url}")`);
  assert.equal(await tokenOf(tabs[1]), last, "a reload keeps the login, and refreshes nothing");
  await tabs[2].run(`window.client = connect({ url: "${service.url}", token: login.token, onMessage: () => undefined }); undefined`);
  await tabs[2].until(`client.state.value.name === "open"`);
  await tabs[0].run("login.logOut()");
  for (const tab of tabs) await tab.until(`login.state.value.name === "signedOut"`);
  await tabs[2].until(`client.state.value.name === "stopped"`);
  assert.deepEqual(await Promise.all(tabs.map((tab) => tab.run("ends"))), [["logged_out"], ["elsewhere"], ["elsewhere"], ["elsewhere"]]);
  assert.equal(await tabs[0].run("localStorage.length"), 0);
  await Promise.all(tabs.map((tab) => tab.close()));
}

const service = await Service.start({ SEND_RATE: "0", ACCOUNTS: "on" });
const bundle = (entry) => ["text/javascript", buildSync({ entryPoints: [`src/${entry}.ts`], bundle: true, format: "esm", target: "es2022", write: false }).outputFiles[0].text];
const files = { "/client.js": bundle("index"), "/accounts.js": bundle("accounts/index"), "/page.js": ["text/javascript", PAGE], "/": ["text/html", `<script type="module" src="/page.js"></script>`] };
const server = createServer((request, answer) => {
  const [type, text] = files[request.url] ?? ["text/plain", ""];
  answer.writeHead(200, { "content-type": type }).end(text);
}).listen(0, "127.0.0.1");
await once(server, "listening");
const page = `http://127.0.0.1:${server.address().port}/`;
const browser = new Browser();
await browser.start();
try {
  for (const scenario of [outboxOfTwoTabs, loginOfTabs, effectsOnce]) {
    const began = Date.now();
    await scenario(browser, page, service);
    console.log(`ok ${scenario.name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  }
} finally {
  await browser.remove();
  server.close();
  await service.remove();
}
