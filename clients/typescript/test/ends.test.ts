/** The start of a client on a storage that fails, and its end while something is under way, against a stand-in for the service. */

import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import type { Channel, ConnectionState } from "../src/index.js";
import { Clocks } from "./support/clocks.js";
import { Log, until } from "./support/signals.js";
import { FakeSockets, settled } from "./support/sockets.js";
import { ShakyStorage } from "./support/storages.js";

/** Timers of this program that have not ended. */
function timers(): number {
  return process.getActiveResourcesInfo().filter((name) => name === "Timeout" || name === "Immediate").length;
}

test("a storage that fails at the start is read again after pauses that grow, and then the client connects", async (t) => {
  const clocks = new Clocks(t);
  t.mock.method(Math, "random", () => 1);
  const [storage, sockets, errors] = [new ShakyStorage(), new FakeSockets(), new Log<unknown>()];
  storage.fails = () => true;
  const client = sockets.client({ storage, onError: errors.add });
  await settled();
  for (const ms of [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]) {
    assert.deepEqual(client.state.value, { name: "waiting", ms, reason: "cannot_open" });
    await clocks.pass(ms);
  }
  assert.equal(storage.failed.items.length, 9);
  assert.deepEqual(errors.items, storage.failed.items);
  storage.fails = () => false;
  const id = await client.send({ chatId: "c", content: "while it waits" });
  await clocks.pass(30_000);
  const socket = await sockets.nth(1);
  socket.ready();
  await until("the message", socket.said, () => socket.sends().includes(id));
  await client.close();
});

test("a send is refused while the storage fails, with the error of that try, and leaves nothing behind", async () => {
  const [storage, sockets] = [new ShakyStorage(), new FakeSockets()];
  storage.fails = () => true;
  const client = sockets.client({ storage, onError: () => undefined });
  await settled();
  const before = storage.failed.items.length;
  for (const tried of [client.send({ chatId: "c", content: "1" }), client.read("c", 1), client.recall("m")]) {
    await assert.rejects(tried, (error: Error) => storage.failed.items.indexOf(error) >= before);
  }
  storage.fails = () => false;
  const id = await client.send({ chatId: "c", content: "2" });
  assert.deepEqual(client.sent.list().map(({ messageId }) => messageId), [id]);
  await client.close();
});

test("an outbox that cannot be read when the connection begins is read again while it lasts", async (t) => {
  const clocks = new Clocks(t);
  const [storage, sockets, errors] = [new ShakyStorage(), new FakeSockets(), new Log<unknown>()];
  const client = sockets.client({ storage, onError: errors.add });
  const id = await client.send({ chatId: "c", content: "1" });
  const socket = await sockets.nth(1);
  storage.fails = () => true;
  socket.ready();
  await settled();
  assert.ok(errors.items.length > 0);
  storage.fails = () => false;
  await clocks.pass(2_000);
  assert.deepEqual(socket.sends(), [id]);
  await client.close();
});

test("a message that is stored while the client closes is not refused, and waits for the next client", async () => {
  const [storage, sockets, errors] = [new ShakyStorage(), new FakeSockets(), new Log<unknown>()];
  const client = sockets.client({ storage, onError: errors.add });
  (await sockets.nth(1)).ready();
  await settled();
  const commit = storage.hold("restante:state lastOutboxKey");
  const sending = client.send({ chatId: "c", content: "1" });
  await commit.begun;
  await client.close();
  commit.release();
  const id = await sending;
  const later = await client.send({ chatId: "c", content: "after the close" });
  assert.deepEqual(errors.items, []);
  const next = sockets.client({ storage });
  const socket = await sockets.nth(2);
  socket.ready();
  await until("both messages", socket.said, () => socket.sends().length === 2);
  assert.deepEqual(socket.sends(), [id, later]);
  await next.close();
});

test("a channel that throws refuses no message that is stored", async () => {
  const [sockets, errors] = [new FakeSockets(), new Log<unknown>()];
  const post = (): never => {
    throw new Error("no channel");
  };
  const channel = (): Channel => ({ postMessage: post, addEventListener: () => undefined, close: () => undefined });
  const client = sockets.client({ channel, onError: errors.add });
  const id = await client.send({ chatId: "c", content: "1" });
  assert.equal(client.sent.get(id)?.state, "pending");
  assert.equal((errors.items[0] as Error).message, "no channel");
  await client.close();
});

interface Moment {
  name: string;
  /** Leads a client to the moment. */
  reach(sockets: FakeSockets, states: Log<ConnectionState>): Promise<unknown>;
  token?: () => Promise<string>;
}

const MOMENTS: Moment[] = [
  { name: "it waits for a token", reach: () => settled(), token: () => new Promise(() => undefined) },
  { name: "its socket opens", reach: (sockets) => sockets.nth(1) },
  {
    name: "it is open",
    reach: async (sockets) => {
      (await sockets.nth(1)).ready();
      await settled();
    },
  },
  {
    name: "it waits between two connections",
    reach: async (sockets, states) => {
      (await sockets.nth(1)).cut(4503);
      await until("the pause", states, () => states.items.at(-1)?.name === "waiting");
    },
  },
  {
    name: "it is stopped",
    reach: async (sockets, states) => {
      (await sockets.nth(1)).cut(4403);
      await until("the stop", states, () => states.items.at(-1)?.name === "stopped");
    },
  },
];

for (const { name, reach, token } of MOMENTS) {
  test(`a client that is closed while ${name} is closed at once, and nothing of it lives on`, async () => {
    const [sockets, events, states, errors] = [new FakeSockets(), new EventTarget(), new Log<ConnectionState>(), new Log<unknown>()];
    const before = timers();
    const client = sockets.client({ events: [events], onError: errors.add, ...(token && { token }) });
    client.state.subscribe(states.add);
    await reach(sockets, states);
    events.dispatchEvent(new Event("visibilitychange"));
    await client.close();
    assert.deepEqual(client.state.value, { name: "closed" });
    assert.equal(states.items.filter((state) => state.name === "closed").length, 1);
    assert.equal(timers(), before);
    for (const type of ["online", "offline", "visibilitychange"]) assert.deepEqual(getEventListeners(events, type), []);
    await settled();
    assert.deepEqual([timers(), states.items.at(-1), errors.items], [before, { name: "closed" }, []]);
  });
}

test("a token that comes or fails after the close opens nothing, and is told to nobody", async () => {
  for (const end of ["comes", "fails"]) {
    const [sockets, errors] = [new FakeSockets(), new Log<unknown>()];
    let settle = (): void => undefined;
    const token = (): Promise<string> => new Promise((resolve, reject) => (settle = () => (end === "comes" ? resolve("a.b.c") : reject(new Error("late")))));
    const client = sockets.client({ token, onError: errors.add });
    await settled();
    await client.close();
    settle();
    await settled();
    assert.deepEqual([sockets.opened.items, errors.items, client.state.value], [[], [], { name: "closed" }]);
  }
});

test("a storage that comes back after the close asks for no token", async () => {
  const [storage, sockets] = [new ShakyStorage(), new FakeSockets()];
  let asked = 0;
  const read = storage.hold("restante:sent");
  const client = sockets.client({ storage, token: () => (asked++, "a.b.c") });
  await read.begun;
  await client.close();
  assert.deepEqual(client.state.value, { name: "closed" });
  read.release();
  await settled();
  assert.deepEqual([asked, sockets.opened.items], [0, []]);
});
