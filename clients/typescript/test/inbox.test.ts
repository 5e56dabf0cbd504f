/** The inbox against the real service: acks after processing, effects once, rejects, gaps, resuming, and what may be forgotten. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { memoryStorage, type EventData, type GapData, type MessageData, type RecalledData, type Storage } from "../src/index.js";
import { client, comesBack, isOpen, spied, user } from "./support/clients.js";
import { Service } from "./support/service.js";
import { Log, until } from "./support/signals.js";

let service: Service;
before(async () => {
  service = await Service.start({ SEND_RATE: "0" });
});
after(() => service.remove());

/** Sends these contents over HTTP, and resolves with their ids. */
async function send(from: string, to: string, ...contents: string[]): Promise<string[]> {
  const ids = [];
  for (const content of contents) ids.push((await service.http(from, "POST", "/v1/messages", { to, content })).messageId as string);
  return ids;
}

async function waiting(of: string, inbox = "chat"): Promise<number> {
  const body = await service.http(of, "GET", `/v1/inbox?class=${inbox}`);
  return (body.messages ?? body.events).length;
}

test("a loop gets every message in order, and each is acked when the loop asks for the next one", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  await send(anna, ben, "1", "2", "3");
  const one = client(service, ben, { device: "phone" });
  const heard: string[] = [];
  for await (const message of one.messages()) {
    heard.push(message.content);
    if (heard.length === 3) break;
  }
  await one.close();
  assert.deepEqual(heard, ["1", "2", "3"]);
  // The loop has left the last one unprocessed.
  assert.equal(await waiting(ben), 1);
  const next = client(service, ben, { device: "phone" });
  for await (const message of next.messages()) {
    assert.equal(message.content, "3");
    await message.ack();
    break;
  }
  await next.close();
  assert.equal(await waiting(ben), 0);
});

test("a handler's message is acked after the handler has finished, and not before", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const spy = spied();
  const storage = memoryStorage();
  let finish!: () => void;
  const begun = new Log<string>();
  const finished = new Promise<void>((resolve) => (finish = resolve));
  const onMessage = async (message: MessageData): Promise<void> => (begun.add(message.content), finished);
  const one = client(service, ben, { storage, onMessage, WebSocket: spy.Constructor });
  await send(anna, ben, "hello");
  await begun.reaches(1, "message");
  const acks = (): number => spy.said.filter((frame) => frame.includes("message:delivered")).length;
  assert.deepEqual(await idsOf(storage, ""), []);
  await one.request("ping");
  assert.equal(acks(), 0);
  finish();
  await one.close();
  assert.equal(acks(), 1);
  assert.equal(await waiting(ben), 0);
});

test("with acks by hand a handler that has finished acks nothing", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const heard = new Log<{ content: string; ack(): Promise<void> }>();
  const one = client(service, ben, { acks: "hand", onMessage: heard.add });
  await send(anna, ben, "1", "2");
  await heard.reaches(2, "messages");
  await heard.items[1]!.ack();
  await one.close();
  assert.equal(await waiting(ben), 1);
});

test("an effect in the transaction of its id happens once, whatever comes again", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const storage = memoryStorage();
  const spy = spied();
  const heard = new Log<string>();
  // The connection is cut after the effect and before its ack could go out.
  let cuts = 0;
  const one = client(service, ben, {
    storage,
    WebSocket: spy.Constructor,
    onMessage: async (message) => {
      await message.once(async (tx) => tx.put("effects", message.messageId, [...(((await tx.get("effects", message.messageId)) as string[]) ?? []), message.content]));
      heard.add(message.content);
      if (cuts++ < 3) spy.sockets.at(-1)!.terminate();
    },
  });
  await send(anna, ben, "1", "2", "3", "4", "5");
  await heard.reaches(5, "effects");
  await one.close();
  const effects = await storage.transaction((tx) => tx.entries("effects"));
  assert.deepEqual(effects.map(([, contents]) => contents).sort(), [["1"], ["2"], ["3"], ["4"], ["5"]]);
  assert.deepEqual(heard.items, ["1", "2", "3", "4", "5"]);
});

test("an effect that throws leaves neither itself nor its id behind", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const storage = memoryStorage();
  const errors = new Log<unknown>();
  const fails = client(service, ben, {
    storage,
    onError: errors.add,
    onMessage: (message) => message.once(async (tx) => {
      await tx.put("effects", message.messageId, message.content);
      throw new Error("no");
    }),
  });
  await send(anna, ben, "hello");
  await errors.reaches(1, "error");
  await fails.close();
  assert.deepEqual(await storage.transaction((tx) => tx.entries("effects")), []);
  const done = new Log<string>();
  const works = client(service, ben, { storage, onMessage: (message) => done.add(message.content) });
  await done.reaches(1, "message");
  await works.close();
});

test("a message whose ack was lost in a crash is not processed again", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const storage = memoryStorage();
  const heard = new Log<string>();
  // Nothing that this client says arrives: as if it had died after the commit.
  const mute = spied(() => false);
  const dies = client(service, ben, { storage, WebSocket: mute.Constructor, onMessage: (message) => heard.add(message.content) });
  await send(anna, ben, "hello");
  await heard.reaches(1, "message");
  await dies.close();
  assert.equal(await waiting(ben), 1);
  const spy = spied();
  const back = client(service, ben, { storage, WebSocket: spy.Constructor, onMessage: (message) => heard.add(message.content) });
  await isOpen(back);
  await acked(spy);
  await back.close();
  assert.deepEqual(heard.items, ["hello"]);
  assert.equal(await waiting(ben), 0);
});

/** Resolves when the service has confirmed an ack. */
async function acked(spy: ReturnType<typeof spied>): Promise<void> {
  const confirmed = new Log<string>();
  spy.sockets.at(-1)!.addEventListener("message", ({ data }) => confirmed.add(String(data)));
  await until("a confirmed ack", confirmed, () => [...spy.heard, ...confirmed.items].some((frame) => frame.includes("message:delivered:ok")));
}

test("a handler that throws rejects its message, where that is asked for", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const sender = client(service, anna);
  const tries = new Log<number>();
  const one = client(service, ben, {
    rejects: true,
    onError: () => undefined,
    onMessage: (message) => {
      tries.add(message.attempt);
      if (message.attempt < 2) throw new Error("not yet");
    },
  });
  const id = await sender.send({ to: ben, content: "twice" });
  await until("delivered", sender.sent, () => sender.sent.get(id)?.recipients[ben]?.status === "delivered");
  assert.deepEqual(tries.items, [1, 2]);
  await Promise.all([one.close(), sender.close()]);
});

test("a final reject tells the sender its reason, and resuming goes on behind it", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const sender = client(service, anna);
  const spy = spied();
  const heard = new Log<string>();
  const one = client(service, ben, {
    device: "phone",
    WebSocket: spy.Constructor,
    onMessage: async (message) => {
      if (message.content === "1") await message.reject("cannot decode", { final: true });
      heard.add(message.content);
    },
  });
  const id = await sender.send({ to: ben, content: "1" });
  await sender.send({ to: ben, content: "2" });
  await until("failed", sender.sent, () => sender.sent.get(id)?.recipients[ben]?.status === "failed");
  assert.equal(sender.sent.get(id)?.recipients[ben]?.reason, "cannot decode");
  await heard.reaches(2, "messages");
  await acked(spy);
  const back = comesBack(one);
  spy.sockets[0]!.terminate();
  await back;
  assert.match(decodeURIComponent(spy.urls.at(-1)!), /since=chat:2,/);
  await Promise.all([one.close(), sender.close()]);
});

test("a device resumes behind what it has stored, and ids below the watermark are forgotten", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const storage = memoryStorage();
  const heard = new Log<string>();
  const onMessage = (message: MessageData): void => heard.add(message.content);
  const first = client(service, ben, { storage, device: "phone", onMessage });
  await isOpen(first);
  await send(anna, ben, "1", "2", "3");
  await heard.reaches(3, "messages");
  await first.close();
  assert.equal((await idsOf(storage, "phone")).length, 3);
  const spy = spied();
  const second = client(service, ben, { storage, device: "phone", onMessage, WebSocket: spy.Constructor });
  await isOpen(second);
  assert.match(decodeURIComponent(spy.urls[0]!), /epoch=[^&]+&since=chat:3,alert:0,event:0/);
  await second.close();
  assert.deepEqual(await idsOf(storage, "phone"), []);
  assert.equal(heard.items.length, 3);
});

async function idsOf(storage: Storage, device: string): Promise<unknown[]> {
  return storage.transaction((tx) => tx.entries(`restante:inbox:${device}`));
}

test("an id whose ack has no answer is kept, whatever the watermark says", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const storage = memoryStorage();
  const heard = new Log<string>();
  const noAcks = spied((text) => !text.includes("message:delivered"));
  const options = { storage, device: "phone", onMessage: (message: MessageData) => heard.add(message.content), WebSocket: noAcks.Constructor };
  const first = client(service, ben, options);
  await isOpen(first);
  await send(anna, ben, "1");
  await heard.reaches(1, "message");
  await first.close();
  // The resumption acks it: the watermark is above it at once. But its own ack is not confirmed.
  for (let n = 0; n < 2; n++) {
    const again = client(service, ben, options);
    await isOpen(again);
    await again.close();
    assert.equal((await idsOf(storage, "phone")).length, 1);
  }
  assert.equal(await waiting(ben), 0);
});

test("a gap is told, and the next connection begins behind it", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const storage = memoryStorage();
  const gaps = new Log<GapData>();
  const heard = new Log<string>();
  const options = { storage, device: "phone", onGap: gaps.add, onMessage: (message: MessageData) => heard.add(message.content) };
  const first = client(service, ben, options);
  await isOpen(first);
  await send(anna, ben, "1");
  await heard.reaches(1, "message");
  await first.close();
  const [gone] = await send(anna, ben, "2", "3");
  await service.http(anna, "POST", `/v1/messages/${gone}/recall`);
  const spy = spied();
  const second = client(service, ben, { ...options, WebSocket: spy.Constructor });
  await heard.reaches(2, "messages");
  await gaps.reaches(1, "gap");
  assert.deepEqual(heard.items, ["1", "3"]);
  assert.deepEqual([gaps.items[0]!.fromSeq, gaps.items[0]!.toSeq, gaps.items[0]!.reason], [2, 2, "recalled"]);
  const back = comesBack(second);
  await acked(spy);
  spy.sockets[0]!.terminate();
  await back;
  assert.match(decodeURIComponent(spy.urls.at(-1)!), /since=chat:3,/);
  await second.close();
});

test("a recall of a message that was delivered comes once, after the message", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const told = new Log<string>();
  const one = client(service, ben, {
    device: "phone",
    onMessage: (message) => told.add(`message ${message.messageId}`),
    onRecall: (recall: RecalledData) => told.add(`recall ${recall.messageId}`),
  });
  const sender = client(service, anna);
  const id = await sender.send({ to: ben, content: "oh" });
  await until("delivered", sender.sent, () => sender.sent.get(id)?.recipients[ben]?.status === "delivered");
  await sender.recall(id);
  await told.reaches(2, "told");
  assert.deepEqual(told.items, [`message ${id}`, `recall ${id}`]);
  await one.close();
  assert.equal(await waiting(ben), 0);
  await sender.close();
});

test("events have the types of the application's map, and one without a handler is acked", async () => {
  const ben = user("ben");
  type Events = { new_comment: { postId: number }; new_post: { title: string } };
  const publish = (type: string, data: object, urgent: boolean): Promise<unknown> =>
    service.http("shop", "POST", "/v1/events", { type, data, to: { users: [ben] }, urgent });
  const posts = new Log<number>();
  const classes = new Log<string>();
  const one = client<Events>(service, ben, {
    onEvent: (event) => {
      classes.add(event.class);
      if (event.type === "new_comment") posts.add(event.data.postId);
    },
  });
  await publish("new_comment", { postId: 7 }, false);
  await publish("new_post", { title: "x" }, true);
  await classes.reaches(2, "events");
  assert.deepEqual(posts.items, [7]);
  assert.deepEqual([...classes.items].sort(), ["alert", "event"]);
  await one.close();
  await publish("new_comment", { postId: 8 }, false);
  const spy = spied();
  const without = client(service, ben, { WebSocket: spy.Constructor });
  await isOpen(without);
  await acked(spy);
  await without.close();
  assert.equal(await waiting(ben, "event"), 0);
});

test("more messages than the window holds are processed once each, in frames that hold many", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const sender = client(service, anna);
  const ids = await Promise.all(Array.from({ length: 300 }, (_, n) => sender.send({ to: ben, content: String(n) })));
  await until("all sent", sender.sent, () => ids.every((id) => sender.sent.get(id)?.state === "sent"));
  const spy = spied();
  const heard = new Log<string>();
  const one = client(service, ben, { device: "phone", window: 100, WebSocket: spy.Constructor, onMessage: (message) => heard.add(message.content) });
  await heard.reaches(300, "messages");
  assert.deepEqual(heard.items, Array.from({ length: 300 }, (_, n) => String(n)));
  assert.equal(spy.heard.some((frame) => frame.includes('"message:batch"')), true);
  await Promise.all([one.close(), sender.close()]);
});

// Types are part of the contract: this does not compile where the map is lost.
export const typed = (event: EventData<"a", { n: number }>): number => event.data.n;
