/** The outbox against the real service: order, refusals, several tabs, and what survives a reload and a crash. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { memoryStorage, summary, uuidv7, type RefusedEntry } from "../src/index.js";
import { client, isOpen, spied, user } from "./support/clients.js";
import { Service } from "./support/service.js";
import { Log, until } from "./support/signals.js";

let service: Service;
before(async () => {
  service = await Service.start();
});
after(() => service.remove());

interface Told {
  messageId: string;
  content: string;
  seq: number;
}

/** The messages of a chat as its other member is told them. */
async function history(reader: string, chatId: string): Promise<Told[]> {
  const { messages } = await service.http(reader, "GET", `/v1/chats/${chatId}/messages?limit=200`);
  return (messages as Told[]).sort((a, b) => a.seq - b.seq);
}

async function directChat(anna: string, ben: string): Promise<string> {
  return (await service.http(anna, "POST", "/v1/chats", { kind: "direct", members: [ben] })).chatId;
}

test("uuids of version 7 ascend within a millisecond and when the clock is set back", () => {
  const ids = [...Array.from({ length: 5_000 }, () => uuidv7(1_000_000)), uuidv7(5), uuidv7()];
  assert.deepEqual(ids, [...ids].sort());
  assert.match(ids[0]!, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(new Set(ids).size, ids.length);
});

test("a message is pending before it is sent, and has its id before its first try", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const storage = memoryStorage();
  const states = new Log<string>();
  const one = client(service, anna, { storage });
  one.sent.subscribe((message) => states.add(`${message.messageId} ${message.state}`));
  const id = await one.send({ to: ben, content: "hello" });
  await states.reaches(2, "states");
  assert.deepEqual(states.items, [`${id} pending`, `${id} sent`]);
  assert.equal(one.sent.get(id)?.seq, 1);
  await one.close();
});

test("what was put while the service was away is sent in order when it is back", async () => {
  const own = await Service.start();
  const [anna, ben] = [user("anna"), user("ben")];
  const one = client(own, anna);
  await isOpen(one);
  await own.kill();
  for (let n = 1; n <= 60; n++) await one.send({ to: ben, content: String(n) });
  await own.start();
  await until("all sent", one.sent, () => one.sent.list().every((message) => message.state === "sent"));
  assert.deepEqual(one.sent.list().map((message) => message.seq), Array.from({ length: 60 }, (_, n) => n + 1));
  await one.close();
  await own.remove();
});

test("twenty messages, two tabs, a reload and number 7 refused for good: all but 7 once, in order", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const refused = new Log<RefusedEntry>();
  const storage = memoryStorage();
  const first = client(service, anna, { storage, onRefused: refused.add });
  const chatId = await directChat(anna, ben);
  await first.close();

  // Both tabs are away while the messages are put, in turn.
  const nowhere = { storage, url: "http://127.0.0.1:1", onRefused: refused.add };
  const tabs = [client(service, anna, nowhere), client(service, anna, nowhere)];
  const ids: string[] = [];
  for (let n = 1; n <= 20; n++) {
    // A type that is reserved is refused for good.
    const messageType = n === 7 ? "restante:none" : "text";
    ids.push(await tabs[n % 2]!.send({ chatId, content: String(n), messageType }));
  }
  await Promise.all(tabs.map((tab) => tab.close()));

  // The reload: two new tabs with the same storage, and one of them is cut in the middle.
  const spy = spied();
  const [tab, other] = [client(service, anna, { storage, onRefused: refused.add, WebSocket: spy.Constructor }), client(service, anna, { storage, onRefused: refused.add })];
  const cut = tab.sent.subscribe((message) => {
    if (message.state === "sent") {
      cut();
      spy.sockets[0]!.terminate();
    }
  });
  const isDone = (): boolean => ids.every((id) => tab.sent.get(id)?.state === (id === ids[6] ? "failed" : "sent"));
  await until("all sent but number 7", tab.sent, isDone);
  await until("the same in the other tab", other.sent, () => other.sent.get(ids[6]!)?.state === "failed");
  assert.deepEqual(refused.items.map((entry) => [entry.data.messageId, entry.code]), [[ids[6], "invalid"]]);
  assert.equal(summary(tab.sent.get(ids[6]!)!).status, "failed");

  const stored = await history(ben, chatId);
  assert.deepEqual(stored.map((message) => message.content), ids.map((_, n) => String(n + 1)).filter((content) => content !== "7"));
  await Promise.all([tab.close(), other.close()]);
});

test("one tab sends at a time, and the other takes over when it goes", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const storage = memoryStorage();
  const [spyA, spyB] = [spied(), spied()];
  const a = client(service, anna, { storage, WebSocket: spyA.Constructor });
  await isOpen(a);
  const b = client(service, anna, { storage, WebSocket: spyB.Constructor });
  await isOpen(b);
  const sends = (said: string[]): number => said.filter((frame) => frame.includes('"message:send"')).length;
  const id = await b.send({ to: ben, content: "through a" });
  await until("sent", b.sent, () => b.sent.get(id)?.state === "sent");
  assert.deepEqual([sends(spyA.said), sends(spyB.said)], [1, 0]);
  await a.close();
  const next = await b.send({ to: ben, content: "through b" });
  await until("sent", b.sent, () => b.sent.get(next)?.state === "sent");
  assert.deepEqual([sends(spyA.said), sends(spyB.said)], [1, 1]);
  await b.close();
});

test("a tab does not send again what it was told to be stored, where the sender went without an answer", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const storage = memoryStorage();
  // Frames of a tab that carry an answer to a send are lost on their way.
  const deaf = spied(undefined, (text) => (text.includes('"message:sent"') ? '{"event":"lost","data":{}}' : text));
  const spy = spied();
  const a = client(service, anna, { storage, WebSocket: deaf.Constructor });
  await isOpen(a);
  const b = client(service, anna, { storage, WebSocket: spy.Constructor });
  await isOpen(b);
  const id = await a.send({ to: ben, content: "stored" });
  await until("sent", b.sent, () => b.sent.get(id)?.state === "sent");
  await a.close();
  const next = await b.send({ to: ben, content: "the next" });
  await until("sent", b.sent, () => b.sent.get(next)?.state === "sent");
  assert.deepEqual(spy.said.filter((frame) => frame.includes('"message:send"')).map((frame) => JSON.parse(frame).data.messageId), [next]);
  await b.close();
});

test("locks that are handed in are used", async () => {
  const asked: string[] = [];
  const locks = { request: async (name: string, _: object, work: () => Promise<void>) => (asked.push(name), work()) };
  const one = client(service, user("anna"), { storage: memoryStorage("mine"), locks });
  await isOpen(one);
  assert.deepEqual(asked, ["restante:mine"]);
  await one.close();
});

test("over the rate everything is sent once and in order", async () => {
  const slow = await Service.start({ SEND_RATE: "200" });
  const [anna, ben] = [user("anna"), user("ben")];
  const one = client(slow, anna);
  const puts = Array.from({ length: 700 }, (_, n) => one.send({ to: ben, content: String(n + 1) }));
  const ids = await Promise.all(puts);
  await until("all sent", one.sent, () => ids.every((id) => one.sent.get(id)?.state === "sent"));
  assert.deepEqual(ids.map((id) => one.sent.get(id)!.seq), ids.map((_, n) => n + 1));
  await one.close();
  await slow.remove();
});

test("order is kept where sends are refused with later", async () => {
  const slow = await Service.start({ SEND_RATE: "300" });
  const [anna, ben, cleo] = [user("anna"), user("ben"), user("cleo")];
  const spy = spied();
  const one = client(slow, anna, { WebSocket: spy.Constructor });
  await isOpen(one);
  // These fill the rate, and the queue of the connection. They have no ids, so they stop nothing.
  const flood = Array.from({ length: 900 }, () => one.request("message:send", { to: cleo, content: "flood" }).catch(() => undefined));
  const ids = await Promise.all(Array.from({ length: 40 }, (_, n) => one.send({ to: ben, content: String(n) })));
  await until("all sent", one.sent, () => ids.every((id) => one.sent.get(id)?.state === "sent"));
  assert.ok(spy.heard.some((frame) => frame.includes('"behind"')), "nothing was refused");
  assert.deepEqual(ids.map((id) => one.sent.get(id)!.seq), ids.map((_, n) => n + 1));
  await Promise.all(flood);
  await one.close();
  await slow.remove();
});

test("a refusal with later stops its chat alone", async () => {
  const own = await Service.start({ DIRECT_CHATS_PER_HOUR: "1" });
  const [anna, ben] = [user("anna"), user("ben")];
  const spy = spied();
  const one = client(own, anna, { WebSocket: spy.Constructor });
  const first = await one.send({ to: ben, content: "the chat of this hour" });
  await until("sent", one.sent, () => one.sent.get(first)?.state === "sent");
  const refused = new Log<string>();
  spy.sockets[0]!.addEventListener("message", ({ data }) => String(data).includes("too_many_chats") && refused.add(String(data)));
  const cleo = user("cleo");
  const waiting = [await one.send({ to: cleo, content: "too many chats" })];
  await refused.reaches(1, "refusal");
  waiting.push(await one.send({ to: cleo, content: "behind it" }));
  const free = await one.send({ to: ben, content: "not held up" });
  await until("sent", one.sent, () => one.sent.get(free)?.state === "sent");
  await one.request("ping");
  assert.deepEqual(waiting.map((id) => one.sent.get(id)?.state), ["pending", "pending"]);
  // Neither is sent again before its time.
  assert.deepEqual(waiting.map((id) => spy.said.filter((frame) => frame.includes(id)).length), [1, 0]);
  await one.close();
  await own.remove();
});

test("what expires before it can be sent fails, and what was refused is skipped", async () => {
  const own = await Service.start({ DIRECT_CHATS_PER_HOUR: "1" });
  const [anna, ben, cleo] = [user("anna"), user("ben"), user("cleo")];
  const spy = spied();
  const refusals = new Log<string>();
  const one = client(own, anna, { WebSocket: spy.Constructor, onRefused: (entry) => refusals.add(entry.code) });
  await one.send({ to: ben, content: "the chat of this hour" });
  const expiresAt = new Date(Date.now() + 3_000).toISOString();
  const id = await one.send({ to: cleo, content: "soon over", expiresAt });
  assert.equal(one.sent.get(id)?.state, "pending");
  await refusals.reaches(1, "refusal", 20_000);
  assert.deepEqual(refusals.items, ["expired"]);
  assert.equal(one.sent.get(id)?.code, "expired");
  assert.equal(spy.said.some((frame) => frame.includes('"message:skip"')), true);
  await one.close();
  await own.remove();
});

test("reads and recalls survive like sends", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const storage = memoryStorage();
  const receipts = client(service, anna, {});
  const id = await receipts.send({ to: ben, content: "read me" });
  await until("sent", receipts.sent, () => receipts.sent.get(id)?.state === "sent");
  const { chatId, seq } = receipts.sent.get(id)!;
  const away = client(service, ben, { storage, url: "http://127.0.0.1:1" });
  await away.read(chatId!, seq!);
  await away.close();
  const back = client(service, ben, { storage });
  await until("read", receipts.sent, () => summary(receipts.sent.get(id)!).status === "read");
  const recalled = new Log<string>();
  const later = client(service, ben, { storage: memoryStorage(), device: "late", onMessage: () => undefined, onRecall: (recall) => recalled.add(recall.messageId) });
  await receipts.recall(id);
  await recalled.reaches(1, "recall");
  assert.deepEqual(recalled.items, [id]);
  await Promise.all([receipts.close(), back.close(), later.close()]);
});

test("reads of a chat that wait are one, up to the greatest number", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const { chatId } = await service.http(anna, "POST", "/v1/messages", { to: ben, content: "1" });
  await service.http(anna, "POST", "/v1/messages", { to: ben, content: "2" });
  const storage = memoryStorage();
  const away = client(service, ben, { storage, url: "http://127.0.0.1:1" });
  for (const seq of [1, 2, 1]) await away.read(chatId, seq);
  await away.close();
  const rows = await storage.transaction((tx) => tx.entries("restante:outbox"));
  assert.deepEqual(rows.map(([, row]) => row), [{ event: "message:read", data: { chatId, seq: 2 } }]);
});

test("a message that is sent again with its id counts once, and keeps its statuses", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const one = client(service, anna);
  const id = await one.send({ to: ben, content: "hello" });
  await until("sent", one.sent, () => one.sent.get(id)?.state === "sent");
  await service.http(ben, "POST", "/v1/inbox/ack", { messageIds: [id] });
  await until("delivered", one.sent, () => summary(one.sent.get(id)!).status === "delivered");
  await one.send({ messageId: id, to: ben, content: "hello" });
  await until("delivered again", one.sent, () => summary(one.sent.get(id)!).status === "delivered");
  assert.equal((await history(ben, one.sent.get(id)!.chatId!)).length, 1);
  await one.close();
});

test("a recall that is refused for good is told", async () => {
  const refused = new Log<RefusedEntry>();
  const one = client(service, user("anna"), { onRefused: refused.add });
  await one.recall(uuidv7());
  await refused.reaches(1, "refusal");
  assert.equal(refused.items[0]!.code, "not_found");
  await one.close();
});
