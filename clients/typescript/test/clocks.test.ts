/** The time of day is set, by people and by servers, while a client is connected. It delays nothing, ends nothing, and makes nothing expire. */

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import type { Client, ClientOptions, RefusedEntry } from "../src/index.js";
import { Clocks } from "./support/clocks.js";
import { FakeSockets, settled, type FakeSocket } from "./support/sockets.js";

const HOUR_MS = 3_600_000;

interface World {
  clocks: Clocks;
  client: Client;
  socket: FakeSocket;
}

/** A client whose socket is opening. */
async function opening(t: TestContext, options: Partial<ClientOptions> = {}): Promise<World> {
  const [clocks, sockets] = [new Clocks(t), new FakeSockets()];
  const client = sockets.client({ onMessage: () => undefined, events: [], ...options });
  return { clocks, client, socket: await sockets.nth(1) };
}

async function open(t: TestContext, options?: Partial<ClientOptions>): Promise<World> {
  const world = await opening(t, options);
  world.socket.ready();
  await settled();
  return world;
}

for (const [set, byMs] of [["back", -HOUR_MS], ["ahead", HOUR_MS]] as const) {
  test(`the pause of a refused send is as long as it was told, though the clock is set ${set}`, async (t) => {
    const { clocks, client, socket } = await open(t);
    const first = await client.send({ chatId: "c", content: "1" });
    socket.refuse(socket.said.items.at(-1)!, { code: "rate_limited", retryAfterMs: 1_500 });
    await settled();
    clocks.set(byMs);
    const second = await client.send({ chatId: "d", content: "2" });
    await clocks.pass(1_000);
    assert.deepEqual(socket.sends(), [first], "not within the pause");
    await clocks.pass(1_000);
    assert.deepEqual(socket.sends(), [first, first]);
    socket.storeAll();
    await settled();
    assert.deepEqual(socket.sends(), [first, first, second]);
    await client.close();
  });

  test(`a silent connection is asked, and ends 15 s later without an answer, though the clock is set ${set}`, async (t) => {
    const { clocks, client, socket } = await open(t);
    clocks.set(byMs);
    // Set ahead it looks like a sleep, so it is asked at once.
    await clocks.pass(byMs > 0 ? 5_000 : 35_000);
    assert.equal(socket.count("ping"), 1);
    await clocks.pass(15_000);
    assert.equal(client.state.value.name, "open");
    await clocks.pass(5_000);
    assert.equal(socket.readyState, 3);
    await client.close();
  });

  test(`an opening has 15 s, though the clock is set ${set}`, async (t) => {
    const { clocks, client, socket } = await opening(t);
    clocks.set(byMs);
    await clocks.pass(15_000);
    assert.equal(socket.readyState, 0);
    await clocks.pass(5_000);
    assert.equal(socket.readyState, 3);
    await client.close();
  });

  test(`an answer has 90 s, though the clock is set ${set}`, async (t) => {
    const { clocks, client, socket } = await open(t);
    const lost = assert.rejects(client.request("chat:list"), { code: "connection_lost" });
    clocks.set(byMs);
    for (let second = 10; second <= 90; second += 10) {
      await clocks.pass(10_000);
      socket.tell("pong", {});
    }
    assert.equal(client.state.value.name, "open");
    await clocks.pass(5_000);
    assert.notEqual(client.state.value.name, "open");
    await lost;
    await client.close();
  });

  test(`typing is told again after 3 s, though the clock is set ${set}`, async (t) => {
    const { clocks, client, socket } = await open(t);
    client.typing.say("c", true);
    clocks.set(byMs);
    await clocks.pass(2_000);
    client.typing.say("c", true);
    assert.equal(socket.count("typing"), 1);
    await clocks.pass(1_000);
    client.typing.say("c", true);
    assert.equal(socket.count("typing"), 2);
    await client.close();
  });

  test(`a message expires by the service's clock, though that of the machine is set ${set}`, async (t) => {
    const refused: RefusedEntry[] = [];
    const { clocks, client, socket } = await open(t, { onRefused: (entry) => refused.push(entry) });
    const expiresAt = new Date(Date.now() + 10_000).toISOString();
    clocks.set(byMs);
    const id = await client.send({ chatId: "c", content: "1", expiresAt });
    socket.refuse(socket.said.items.at(-1)!, { code: "busy", retryAfterMs: 30_000 });
    await clocks.pass(9_000);
    assert.deepEqual([socket.sends(), refused], [[id], []]);
    await clocks.pass(3_000);
    assert.deepEqual(refused.map(({ code }) => code), ["expired"]);
    await client.close();
  });
}

test("a machine that slept asks at once, and stays connected where it is answered", async (t) => {
  const { clocks, client, socket } = await open(t);
  clocks.set(8 * HOUR_MS);
  await clocks.pass(5_000);
  assert.equal(socket.count("ping"), 1);
  socket.tell("pong", {});
  await clocks.pass(25_000);
  assert.deepEqual([socket.count("ping"), client.state.value.name], [1, "open"]);
  await client.close();
});

test("a token is renewed once an hour, though the clock is set ahead by a day", async (t) => {
  let made = 0;
  const token = (): string => {
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
    return `${part({ alg: "none" })}.${part({ exp: 1_800_000_000 + ++made * 3_600 })}.signature`;
  };
  const { clocks, client, socket } = await open(t, { token });
  clocks.set(24 * HOUR_MS);
  const answering = setInterval(() => {
    for (const { event, id } of socket.said.items.splice(0)) socket.tell(event === "authenticate" ? "authenticated" : "pong", {}, id);
  }, 1_000);
  await clocks.pass(HOUR_MS);
  assert.deepEqual([made, client.state.value.name], [2, "open"]);
  clearInterval(answering);
  await client.close();
});
