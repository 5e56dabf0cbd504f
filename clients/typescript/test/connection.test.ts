/** A connection against the real service: how it begins, renews its token, ends and comes back, by the table of close codes. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { comeback } from "../src/comeback.js";
import { client, comesBack, isOpen, Socket, spied, user } from "./support/clients.js";
import { Service } from "./support/service.js";
import { Log, until } from "./support/signals.js";
import { connect, memoryStorage, Refusal } from "../src/index.js";

let service: Service;
before(async () => {
  service = await Service.start();
});
after(() => service.remove());

const lost = { code: 1006, reason: "lost" };

test("the close codes of the table decide whether a client comes back", () => {
  for (const code of [4400, 4403, 4413, 4509]) assert.deepEqual(comeback({ code, reason: "" }, 0, true), { after: "never" });
  for (const code of [1000, 1001, 1006, 1011, 4401, 4408, 4429, 4503]) assert.equal(comeback({ code, reason: "" }, 0, true).after, "chance");
  assert.deepEqual(comeback({ code: 4401, reason: "" }, 0, false), { after: "never" });
});

test("a told time is kept, and that of a planned restart counts first", () => {
  assert.deepEqual(comeback({ code: 4503, reason: "busy", retryAfterMs: 777 }, 5, true), { after: "told", ms: 777 });
  assert.deepEqual(comeback({ code: 1012, reason: "restart", retryAfterMs: 5, reconnectAfterMs: 9 }, 0, true), { after: "told", ms: 9 });
  assert.deepEqual(comeback({ code: 1012, reason: "restart", retryAfterMs: 5 }, 0, true), { after: "told", ms: 5 });
  assert.deepEqual(comeback({ code: 1012, reason: "restart" }, 0, true), { after: "told", ms: 0 });
});

test("the pause has full jitter below a bound that doubles up to 30 s", () => {
  const bounds = [0, 1, 2, 3, 4, 5, 6, 7, 100].map((attempt) => comeback(lost, attempt, true, 1));
  assert.deepEqual(bounds.map((one) => one.after === "chance" && one.ms), [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
  assert.deepEqual(comeback(lost, 3, true, 0), { after: "chance", ms: 0 });
});

test("a connection opens, and says who it is", async () => {
  const anna = user("anna");
  const one = client(service, anna, { device: "phone" });
  await isOpen(one);
  assert.equal(one.state.value.name === "open" && one.state.value.userId, anna);
  await one.close();
  assert.equal(one.state.value.name, "closed");
});

test("a bad token that cannot be renewed stops the client", async () => {
  for (const token of ["no token", "no.to.ken"]) {
    const one = connect({ url: service.url, token, WebSocket: Socket });
    await until("the stop", one.state, () => one.state.value.name === "stopped");
    assert.deepEqual(one.state.value, { name: "stopped", reason: "not_authenticated" });
    await one.close();
  }
});

test("an address that is none is told at once", () => {
  assert.throws(() => connect({ url: "nowhere", token: "", WebSocket: Socket }), TypeError);
});

test("a token function is asked again when the token was refused", async () => {
  const anna = user("anna");
  const tokens = ["no token", "no.to.ken", service.token(anna)];
  const one = client(service, anna, { token: async () => tokens.shift()! });
  await isOpen(one);
  assert.equal(tokens.length, 0);
  await one.close();
});

test("a token function that fails is asked again", async () => {
  const anna = user("anna");
  const errors = new Log<unknown>();
  let isThere = false;
  const token = async (): Promise<string> => {
    if (isThere) return service.token(anna);
    isThere = true;
    throw new Error("the login is away");
  };
  const one = client(service, anna, { token, onError: errors.add });
  await isOpen(one);
  assert.equal((errors.items[0] as Error).message, "the login is away");
  await one.close();
});

test("a client stops where its token function says that nobody is logged in, also with the refusal of another copy of the package", async () => {
  for (const code of ["signed_out", "login_ended"]) {
    const foreign = Object.assign(new Error("of a copy"), { name: "Refusal", code });
    for (const error of [new Refusal(code, "of this one"), foreign]) {
      const one = client(service, user("anna"), { token: () => Promise.reject(error), onError: () => undefined });
      await until("the stop", one.state, () => one.state.value.name === "stopped");
      assert.deepEqual(one.state.value, { name: "stopped", reason: code });
      await one.close();
    }
  }
  for (const none of [undefined, null, "Refusal", new Error("no")]) assert.ok(!(none instanceof Refusal));
});

test("a client comes back for a token after the time that its refusal tells", async () => {
  const anna = user("anna");
  let asked = 0;
  const token = (): string => {
    if (++asked === 1) throw new Refusal("rate_limited", "too much", 321);
    return service.token(anna);
  };
  const one = client(service, anna, { token, onError: () => undefined });
  await until("the pause", one.state, () => one.state.value.name === "waiting");
  assert.deepEqual(one.state.value, { name: "waiting", ms: 321, reason: "rate_limited" });
  await isOpen(one);
  await one.close();
});

test("a token is renewed before its end, on the same connection", async () => {
  const anna = user("anna");
  const spy = spied();
  let made = 0;
  const one = client(service, anna, { token: async () => service.token(anna, ++made === 1 ? 5 : 3600), WebSocket: spy.Constructor });
  const renewed = new Log<string>();
  await isOpen(one);
  spy.sockets[0]!.addEventListener("message", ({ data }) => String(data).includes('"authenticated"') && renewed.add(String(data)));
  await renewed.reaches(1, "renewal");
  const { expiresAt } = (JSON.parse(renewed.items[0]!) as { data: { expiresAt: string } }).data;
  assert.ok(Date.parse(expiresAt) > Date.now() + 3_000_000);
  assert.deepEqual([made, spy.sockets.length], [2, 1]);
  await one.close();
});

test("a handler that throws does not end the connection, nor the program", async () => {
  const errors = new Log<unknown>();
  const onFrame = (): void => {
    throw new Error("of the application");
  };
  const one = client(service, user("anna"), { onFrame, onError: errors.add });
  await errors.reaches(3, "queues that are drained");
  await one.request("ping");
  await one.close();
});

test("a displaced client stays away", async () => {
  const anna = user("anna");
  const first = client(service, anna, { device: "phone" });
  await isOpen(first);
  const second = client(service, anna, { device: "phone" });
  await until("the stop", first.state, () => first.state.value.name === "stopped");
  assert.deepEqual(first.state.value, { name: "stopped", reason: "displaced" });
  await isOpen(second);
  await Promise.all([first.close(), second.close()]);
});

test("a lost connection comes back", async () => {
  const spy = spied();
  const one = client(service, user("anna"), { WebSocket: spy.Constructor });
  await isOpen(one);
  const back = comesBack(one);
  spy.sockets[0]!.terminate();
  await back;
  await one.close();
});

test("offline ends the connection, and online brings it back at once", async () => {
  const events = new EventTarget();
  const spy = spied();
  const one = client(service, user("anna"), { WebSocket: spy.Constructor, events: [events] });
  await isOpen(one);
  events.dispatchEvent(new Event("offline"));
  await until("offline", one.state, () => one.state.value.name === "offline");
  events.dispatchEvent(new Event("online"));
  // Without the event it would look again after 30 s.
  await until("an open connection", one.state, () => one.state.value.name === "open", 10_000);
  await one.close();
});

test("a page that is seen again asks whether its connection lives", async () => {
  const events = new EventTarget();
  const spy = spied();
  const one = client(service, user("anna"), { WebSocket: spy.Constructor, events: [events] });
  await isOpen(one);
  const pongs = new Log<string>();
  spy.sockets[0]!.addEventListener("message", ({ data }) => String(data).includes('"pong"') && pongs.add("pong"));
  events.dispatchEvent(new Event("visibilitychange"));
  await pongs.reaches(1, "pong");
  await one.close();
});

test("the storage of one user is not used for another", async () => {
  const storage = memoryStorage();
  const [anna, ben] = [user("anna"), user("ben")];
  const first = client(service, anna, { storage });
  await isOpen(first);
  await first.close();
  const second = client(service, ben, { storage });
  await until("the stop", second.state, () => second.state.value.name === "stopped");
  assert.deepEqual(second.state.value, { name: "stopped", reason: "other_user" });
  await second.close();
});

test("a client comes back when the service restarts as planned and when it is killed", async () => {
  const own = await Service.start();
  const one = client(own, user("anna"));
  await isOpen(one);
  for (const end of [() => own.stop(), () => own.kill()]) {
    const back = comesBack(one);
    await end();
    await own.start();
    await back;
  }
  await one.close();
  await own.remove();
});
