/**
 * The fault test: two clients in processes of their own write to each other over two chats, while the service and the clients are killed at random. At the
 * end each client must have every effect once, in order within each chat. As a program: `--messages`, `--kills`, `--seed`.
 */

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { fileStorage } from "../../src/storage/file.js";
import type { Orders } from "./faults_client.js";
import { Service, temporaryFolder } from "./service.js";
import { Log, until } from "./signals.js";

const PROGRAM = fileURLToPath(new URL("./faults_client.js", import.meta.url));
const BOUND_MS = 900_000;

export interface Faults {
  /** Of both sides together. */
  messages: number;
  kills: number;
  seed: number;
}

export interface Outcome {
  effects: number;
  serviceKills: number;
  clientKills: number;
}

/** One side: its process, and how far it has said to be. */
class Side {
  effects = 0;
  isSent = false;
  readonly orders: Orders;
  readonly #progress: Log<number>;
  #process: ChildProcess | undefined;

  constructor(orders: Orders, progress: Log<number>) {
    this.orders = orders;
    this.#progress = progress;
  }

  start(): void {
    const child = spawn(process.execPath, [PROGRAM], { env: { ...process.env, ORDERS: JSON.stringify(this.orders) }, stdio: ["pipe", "pipe", "inherit"] });
    process.once("exit", () => child.kill("SIGKILL"));
    this.#process = child;
    createInterface({ input: child.stdout! }).on("line", (line) => {
      if (this.#process !== child) return;
      Object.assign(this, JSON.parse(line));
      this.#progress.add(this.effects);
    });
  }

  async kill(): Promise<void> {
    const child = this.#process!;
    this.#process = undefined;
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  }

  async finish(): Promise<void> {
    this.#process!.stdin!.write("end\n");
    await once(this.#process!, "exit");
  }
}

/** Runs it, and throws where an effect is missing, doubled or out of order. */
export async function runFaults({ messages, kills, seed }: Faults): Promise<Outcome> {
  const service = await Service.start({ SEND_RATE: "0", LOG_FORMAT: "text" });
  const folder = temporaryFolder();
  const progress = new Log<number>();
  const each = messages / 2;
  const direct = (await service.http("anna", "POST", "/v1/chats", { kind: "direct", members: ["ben"] })).chatId as string;
  const group = (await service.http("anna", "POST", "/v1/chats", { kind: "group", members: ["ben"] })).chatId as string;
  const sides = ["anna", "ben"].map((name, side) => {
    const file = join(folder, `${name}.log`);
    const orders = { url: service.url, token: service.token(name), device: "d", file, chats: [direct, group], messages: each, side };
    return new Side(orders, progress);
  });
  for (const side of sides) side.start();

  const random = randomOf(seed);
  const outcome = { effects: 0, serviceKills: 0, clientKills: 0 };
  for (let kill = 1; kill <= kills; kill++) {
    // Kills lie over the whole run, each at a chance moment of its part.
    const at = Math.floor((messages * (kill - 1 + random())) / (kills + 1));
    await until(`${at} effects`, progress, () => sides[0]!.effects + sides[1]!.effects >= at, BOUND_MS);
    const victim = Math.floor(random() * 3);
    if (victim === 2) {
      await service.kill();
      await service.start();
      outcome.serviceKills += 1;
    } else {
      await sides[victim]!.kill();
      sides[victim]!.start();
      outcome.clientKills += 1;
    }
  }
  await until("the end", progress, () => sides.every((side) => side.isSent && side.effects >= each), BOUND_MS);
  for (const side of sides) await side.finish();
  for (const side of sides) outcome.effects += await judge(side.orders, each);
  await service.remove();
  return outcome;
}

async function judge({ file, chats }: Orders, each: number): Promise<number> {
  const storage = await fileStorage(file);
  const effects = (await storage.transaction((tx) => tx.entries("effects"))).map(([, effect]) => effect as [string, string]);
  await storage.close();
  for (const [n, chat] of chats.entries()) {
    const heard = effects.filter(([chatId]) => chatId === chat).map(([, content]) => Number(content));
    assert.deepEqual(heard, Array.from({ length: Math.ceil((each - n) / chats.length) }, (_, number) => number));
  }
  return effects.length;
}

/** Chance that a seed repeats (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const { values } = parseArgs({ options: { messages: { type: "string" }, kills: { type: "string" }, seed: { type: "string" } } });
  const faults = { messages: Number(values.messages ?? 10_000), kills: Number(values.kills ?? 40), seed: Number(values.seed ?? Date.now() % 100_000) };
  console.log(JSON.stringify(faults));
  const began = Date.now();
  console.log(JSON.stringify({ ...(await runFaults(faults)), seconds: Math.round((Date.now() - began) / 1000) }));
}
