/** Statuses of own messages, and what is told as it happens: presence, typing, reads of other devices. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { memoryStorage, summary, type ChatReadData, type Presence, type SentMessage } from "../src/index.js";
import { client, isOpen, spied, user } from "./support/clients.js";
import { Service } from "./support/service.js";
import { Log, until } from "./support/signals.js";

let service: Service;
before(async () => {
  service = await Service.start({ SEND_RATE: "0" });
});
after(() => service.remove());

const base: SentMessage = { messageId: "m", state: "sent", recipients: {} };

test("a summary says delivered and read of a group when they hold for all", () => {
  const of = (...statuses: string[]): SentMessage =>
    ({ ...base, expected: 3, recipients: Object.fromEntries(statuses.map((status, n) => [`user-${n}`, { status }])) }) as SentMessage;
  assert.equal(summary(of("delivered", "read")).status, "sent");
  assert.deepEqual(summary(of("delivered", "read", "read")), { status: "delivered", delivered: 3, read: 2, failed: 0, expected: 3 });
  assert.equal(summary(of("read", "read", "read")).status, "read");
  assert.equal(summary(of("read", "read", "failed")).status, "read");
  assert.equal(summary(of("failed", "failed", "expired")).status, "failed");
  assert.equal(summary({ ...base, expected: 90, counts: { delivered: 90, read: 2 } }).status, "delivered");
  assert.equal(summary({ ...base, state: "pending" }).status, "pending");
});

test("a message goes from pending over sent and delivered to read", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const sender = client(service, anna);
  const seen = new Log<string>();
  sender.sent.subscribe((message) => seen.add(summary(message).status));
  const heard = new Log<string>();
  const reader = client(service, ben, { onMessage: (message) => heard.add(message.content) });
  await isOpen(reader);
  const id = await sender.send({ to: ben, content: "hello" });
  await until("delivered", sender.sent, () => summary(sender.sent.get(id)!).status === "delivered");
  const { chatId, seq } = sender.sent.get(id)!;
  await reader.read(chatId!, seq!);
  await until("read", sender.sent, () => summary(sender.sent.get(id)!).status === "read");
  assert.deepEqual([...new Set(seen.items)], ["pending", "sent", "delivered", "read"]);
  await Promise.all([sender.close(), reader.close()]);
});

test("receipts of the time away are told by marks, and are stored before their cursor", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const storage = memoryStorage();
  const first = client(service, anna, { storage, device: "phone" });
  const ids = [await first.send({ to: ben, content: "1" }), await first.send({ to: ben, content: "2" })];
  await until("sent", first.sent, () => ids.every((id) => first.sent.get(id)?.state === "sent"));
  await first.close();
  const chatId = first.sent.get(ids[0]!)!.chatId!;
  await service.http(ben, "POST", `/v1/chats/${chatId}/read`, { seq: 2 });
  const spy = spied();
  const second = client(service, anna, { storage, device: "phone", WebSocket: spy.Constructor });
  await until("read", second.sent, () => ids.every((id) => second.sent.get(id)?.recipients[ben]?.status === "read"));
  assert.match(spy.urls[0]!, /&marks=/);
  await second.close();
  // A third run knows it without being told.
  const third = client(service, anna, { storage, device: "phone" });
  await isOpen(third);
  assert.deepEqual(ids.map((id) => summary(third.sent.get(id)!).status), ["read", "read"]);
  await third.close();
});

test("in a group every recipient has a status, and the sum waits for all", async () => {
  const [anna, ben, cleo] = [user("anna"), user("ben"), user("cleo")];
  const { chatId } = await service.http(anna, "POST", "/v1/chats", { kind: "group", members: [ben, cleo] });
  const sender = client(service, anna);
  const id = await sender.send({ chatId, content: "all", recipients: 2 });
  await until("sent", sender.sent, () => sender.sent.get(id)?.state === "sent");
  const one = client(service, ben, { onMessage: () => undefined });
  await until("one delivered", sender.sent, () => sender.sent.get(id)?.recipients[ben]?.status === "delivered");
  assert.equal(summary(sender.sent.get(id)!).status, "sent");
  const other = client(service, cleo, { onMessage: () => undefined });
  await until("all delivered", sender.sent, () => summary(sender.sent.get(id)!).status === "delivered");
  await Promise.all([sender.close(), one.close(), other.close()]);
});

test("in a group of more than fifty the counts are the sum", async () => {
  const anna = user("anna");
  const members = Array.from({ length: 55 }, () => user("member"));
  const { chatId } = await service.http(anna, "POST", "/v1/chats", { kind: "group", members });
  const sender = client(service, anna);
  const id = await sender.send({ chatId, content: "all" });
  await until("sent", sender.sent, () => sender.sent.get(id)?.state === "sent");
  for (const member of members.slice(0, 2)) await service.http(member, "POST", `/v1/chats/${chatId}/read`, { seq: 1 });
  await until("two have read it", sender.sent, () => summary(sender.sent.get(id)!).read === 2);
  assert.deepEqual(summary(sender.sent.get(id)!), { status: "sent", delivered: 2, read: 2, failed: 0, expected: 55 });
  await sender.close();
});

test("a status that could not be stored is asked for again", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const inner = memoryStorage();
  const errors = new Log<unknown>();
  let isBroken = false;
  const storage = { name: inner.name, transaction: <T>(work: Parameters<typeof inner.transaction<T>>[0]) => (isBroken ? Promise.reject(new Error("full")) : inner.transaction(work)) };
  // Each status has a cursor of its own here, so that a stored one is told from the one before.
  const spy = spied(undefined, (text) => (text.includes('"message:status"') ? text.replace(/"marksCursor":"/, '$&later-') : text));
  const sender = client(service, anna, { storage, device: "phone", WebSocket: spy.Constructor, onError: errors.add });
  const ids = [await sender.send({ to: ben, content: "1" }), await sender.send({ to: ben, content: "2" })];
  await until("sent", sender.sent, () => ids.every((id) => sender.sent.get(id)?.state === "sent"));
  const cursor = (): Promise<unknown> => inner.transaction((tx) => tx.get("restante:state", "marks:phone"));
  const before = await cursor();
  isBroken = true;
  await service.http(ben, "POST", "/v1/inbox/ack", { messageIds: [ids[0]] });
  await errors.reaches(1, "error");
  isBroken = false;
  // The next status is stored, but its cursor would be past the lost one.
  await service.http(ben, "POST", "/v1/inbox/ack", { messageIds: [ids[1]] });
  await until("the second", sender.sent, () => sender.sent.get(ids[1]!)?.recipients[ben]?.status === "delivered");
  assert.equal(await cursor(), before);
  spy.sockets[0]!.terminate();
  await until("the first", sender.sent, () => sender.sent.get(ids[0]!)?.recipients[ben]?.status === "delivered");
  await sender.close();
});

test("presence is told of those who are watched, and asked for again after a reconnect", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  await service.http(anna, "POST", "/v1/messages", { to: ben, content: "we share a chat" });
  const spy = spied();
  const watcher = client(service, anna, { WebSocket: spy.Constructor });
  await isOpen(watcher);
  const seen = new Log<Presence>();
  watcher.presence.subscribe(seen.add);
  await watcher.presence.watch([ben]);
  assert.equal(watcher.presence.get(ben)?.online, false);
  const other = client(service, ben, { onMessage: () => undefined });
  await until("online", watcher.presence, () => watcher.presence.get(ben)?.online === true);
  await other.close();
  await until("offline", watcher.presence, () => watcher.presence.get(ben)?.online === false);
  assert.notEqual(watcher.presence.get(ben)?.lastSeen, null);
  const count = seen.items.length;
  spy.sockets[0]!.terminate();
  await seen.reaches(count + 1, "told again");
  await watcher.close();
});

test("typing is told, and ends when the other goes", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const { chatId } = await service.http(anna, "POST", "/v1/chats", { kind: "direct", members: [ben] });
  const [one, other] = [client(service, anna), client(service, ben)];
  await Promise.all([isOpen(one), isOpen(other)]);
  other.typing.say(chatId, true);
  await until("typing", one.typing, () => one.typing.in(chatId).includes(ben));
  await other.close();
  await until("no typing", one.typing, () => one.typing.in(chatId).length === 0);
  await one.close();
});

test("each key says typing, and the frames are few", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const { chatId } = await service.http(anna, "POST", "/v1/chats", { kind: "direct", members: [ben] });
  const spy = spied();
  const one = client(service, anna, { WebSocket: spy.Constructor });
  await isOpen(one);
  for (let key = 0; key < 50; key++) one.typing.say(chatId, true);
  one.typing.say(chatId, false);
  one.typing.say(chatId, false);
  assert.deepEqual(spy.said.filter((frame) => frame.includes('"typing"')).length, 2);
  await one.close();
});

test("what another device has read is told", async () => {
  const [anna, ben] = [user("anna"), user("ben")];
  const { chatId } = await service.http(anna, "POST", "/v1/messages", { to: ben, content: "hello" });
  const phone = client(service, ben, { device: "phone", onMessage: () => undefined });
  const read = new Log<ChatReadData>();
  phone.readElsewhere.subscribe(read.add);
  await isOpen(phone);
  const laptop = client(service, ben, { device: "laptop", onMessage: () => undefined });
  await laptop.read(chatId, 1);
  await read.reaches(1, "read");
  assert.deepEqual([read.items[0]!.chatId, read.items[0]!.readSeq], [chatId, 1]);
  await Promise.all([phone.close(), laptop.close()]);
});
