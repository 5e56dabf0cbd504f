/** Moments at which a connection ends and the next one begins, against a stand-in for the service. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Locks } from "../src/index.js";
import { Log, until } from "./support/signals.js";
import { FakeSockets, settled } from "./support/sockets.js";
import { ShakyStorage } from "./support/storages.js";

test("messages without an answer go again in their order, though a read of the outbox outlasts the reconnect", async () => {
  const [storage, sockets, turns] = [new ShakyStorage(), new FakeSockets(), new Log<string>()];
  const locks: Locks = {
    request: (name, _, work) => {
      const working = work();
      turns.add(name);
      return working;
    },
  };
  const client = sockets.client({ storage, locks });
  const first = await sockets.nth(1);
  first.ready();
  const ids = [await client.send({ chatId: "c", content: "1" }), await client.send({ chatId: "c", content: "2" })];
  assert.deepEqual(first.sends(), ids);

  const read = storage.hold("restante:outbox");
  const third = client.send({ chatId: "c", content: "3" });
  await read.begun;
  first.cut(1012);
  const second = await sockets.nth(2);
  second.ready();
  await turns.reaches(2, "turns as sender");
  read.release();
  ids.push(await third);
  await until("the third message", second.said, () => second.sends().includes(ids[2]!));
  assert.deepEqual(second.sends(), ids);
  second.storeAll();
  await until("all sent", client.sent, () => ids.every((id) => client.sent.get(id)?.state === "sent"));
  await client.close();
});

test("a gap is acked by its number in its epoch alone: in another one the number is of something else", async () => {
  for (const epoch of ["e", "restored"]) {
    const [storage, sockets] = [new ShakyStorage(), new FakeSockets()];
    const client = sockets.client({ storage, device: "d", onMessage: () => undefined });
    const first = await sockets.nth(1);
    first.ready({ ackedSeq: 0 });
    await settled();
    const write = storage.hold("restante:state cursor:d:chat");
    first.tell("queue:gap", { class: "chat", fromSeq: 1, toSeq: 9, reason: "expired" });
    await write.begun;
    first.cut(1012);
    const second = await sockets.nth(2);
    second.ready({ epoch, ackedSeq: 0 });
    await settled();
    write.release();
    await settled();
    const acks = second.said.items.filter(({ event }) => event === "message:delivered").map(({ data }) => data);
    assert.deepEqual(acks, epoch === "e" ? [{ upTo: 9, class: "chat" }] : []);
    await client.close();
  }
});
