/**
 * One side of the fault test, in a process of its own that may be killed at any time. It sends numbers to each chat, and keeps what it hears as effects
 * in its file. It says how far it has got, one JSON a line, and ends when it is asked to.
 */

import { connect, type WebSocketConstructor } from "../../src/index.js";
import { fileStorage } from "../../src/storage/file.js";
import { WebSocket } from "ws";

/** The orders of the process, in its environment. */
export interface Orders {
  url: string;
  token: string;
  device: string;
  file: string;
  /** Messages go to these chats in turn. */
  chats: string[];
  messages: number;
  /** First part of the ids, different for each side. */
  side: number;
}

/** Entries of the outbox that may wait, so that kills meet a run and not one burst. */
const PENDING_MAX = 100;

const orders = JSON.parse(process.env.ORDERS!) as Orders;
const storage = await fileStorage(orders.file);
let effects = (await storage.transaction((tx) => tx.entries("effects"))).length;
const client = connect({
  url: orders.url,
  token: orders.token,
  device: orders.device,
  storage,
  WebSocket: WebSocket as unknown as WebSocketConstructor,
  onError: (error) => console.error(error),
  onMessage: async (message) => {
    await message.once((tx) => tx.put("effects", String(effects).padStart(8, "0"), [message.chatId, message.content]));
    effects += 1;
    say();
  },
});

let put = ((await storage.transaction((tx) => tx.get("mine", "put"))) as number | undefined) ?? 0;
client.sent.subscribe(say);
process.stdin.on("data", () => void client.close().then(() => storage.close()).then(() => process.exit(0)));
while (put < orders.messages) {
  if (pending() >= PENDING_MAX) await new Promise<void>((resolve) => wake(resolve));
  else await send(put);
}
say();

/** A message that was put before a kill, and not counted, is put again with its id. */
async function send(number: number): Promise<void> {
  const chatId = orders.chats[number % orders.chats.length]!;
  const content = String(Math.floor(number / orders.chats.length));
  await client.send({ messageId: idOf(number), chatId, content });
  await storage.transaction((tx) => tx.put("mine", "put", number + 1));
  put = number + 1;
}

function idOf(number: number): string {
  return `0198f0c0-${orders.side}000-7000-8000-${number.toString(16).padStart(12, "0")}`;
}

function pending(): number {
  return client.sent.list().filter((message) => message.state !== "sent").length;
}

function wake(resolve: () => void): void {
  const end = client.sent.subscribe(() => {
    if (pending() >= PENDING_MAX) return;
    end();
    resolve();
  });
}

function say(): void {
  console.log(JSON.stringify({ effects, isSent: put === orders.messages && pending() === 0 }));
}
