/** Logins against the real service: with a client on them, over tabs, with answers that are lost, and ended from elsewhere. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Login, memoryLogins, type Fetch, type LoginOptions, type SignedOut } from "../src/accounts/index.js";
import { Refusal, type ConnectionState } from "../src/index.js";
import { FakeAccounts } from "./support/accounts.js";
import { client, isOpen, spied, user } from "./support/clients.js";
import { Service } from "./support/service.js";
import { Log, until } from "./support/signals.js";

const PASSWORD = "four pears eat no horses";
const ACCOUNTS = { ACCOUNTS: "on", ACCOUNT_REQUESTS_PER_MINUTE: "0", REGISTRATIONS_PER_HOUR: "0" };

let service: Service;
let graceful: Service;
before(async () => {
  [service, graceful] = await Promise.all([Service.start(ACCOUNTS), Service.start({ ...ACCOUNTS, REFRESH_GRACE_SECS: "60" })]);
});
const logins: Login[] = [];
after(async () => {
  logins.forEach((login) => login.close());
  await Promise.all([service.remove(), graceful.remove()]);
});

function loginAt({ url }: Service, options: Partial<LoginOptions> = {}): Login {
  const login = new Login({ url, onError: () => undefined, ...options });
  logins.push(login);
  return login;
}

async function registered(at: Service, options: Partial<LoginOptions> = {}): Promise<{ login: Login; userId: string }> {
  const login = loginAt(at, options);
  const userId = await login.register({ userId: user("anna"), password: PASSWORD, name: "Anna" });
  await login.logIn({ userId, password: PASSWORD });
  return { login, userId };
}

/** The code that a promise rejects with. */
async function code(promise: Promise<unknown>): Promise<string> {
  const error: unknown = await promise.then(
    () => assert.fail("it was not refused"),
    (error: unknown) => error,
  );
  if (error instanceof Refusal) return error.code;
  throw error;
}

const stops = (one: { state: { value: ConnectionState; subscribe(listener: () => void): () => void } }): Promise<void> =>
  until("the stop", one.state, () => one.state.value.name === "stopped");

test("a client lives on a login, and its messages come under the name of the account", async () => {
  const [anna, ben] = [await registered(service), await registered(service)];
  const heard = new Log<string>();
  const sender = client(service, "", { token: anna.login.token });
  const reader = client(service, "", { token: ben.login.token, onMessage: ({ senderId, sender: who, content }) => heard.add(`${senderId} ${who?.name}: ${content}`) });
  await Promise.all([isOpen(sender), isOpen(reader)]);
  await sender.send({ to: ben.userId, content: "hello" });
  await heard.reaches(1, "message");
  assert.deepEqual(heard.items, [`${anna.userId} Anna: hello`]);
  await Promise.all([sender.close(), reader.close()]);
});

test("refusals have the codes of the service", async () => {
  const { login, userId } = await registered(service);
  const other = loginAt(service);
  assert.equal(await code(other.register({ userId, password: PASSWORD })), "name_taken");
  assert.equal(await code(other.register({ userId: user("cleo"), password: "short" })), "invalid");
  assert.equal(await code(other.logIn({ userId, password: `${PASSWORD}!` })), "bad_credentials");
  assert.equal(await code(login.changePassword({ password: `${PASSWORD}!`, newPassword: PASSWORD })), "bad_credentials");
  const off = await Service.start();
  assert.equal(await code(loginAt(off).logIn({ userId, password: PASSWORD })), "turned_off");
  await off.remove();
});

test("many tabs whose token was refused at once refresh once, and their clients stay", async () => {
  const store = memoryLogins();
  const { login } = await registered(service, { store });
  const tabs = [login, ...Array.from({ length: 9 }, () => loginAt(service, { store }))];
  for (let turn = 0; turn < 5; turn++) {
    const old = await login.token();
    const tokens = await Promise.all(tabs.map((tab) => tab.token(old)));
    assert.deepEqual([new Set(tokens).size, tokens[0] === old], [1, false]);
  }
  const one = client(service, "", { token: tabs[9]!.token });
  await isOpen(one);
  await one.close();
});

/** A `fetch` that does the request and loses the answer of the next refresh. */
function losing(): { fetch: Fetch; lose(): void } {
  let isLost = false;
  const fetch: Fetch = async (url, init) => {
    const answer = await globalThis.fetch(url, init);
    if (!isLost || !url.endsWith("/refresh")) return answer;
    isLost = false;
    assert.equal(answer.status, 200);
    throw new TypeError("fetch failed");
  };
  return { fetch, lose: () => void (isLost = true) };
}

test("a lost answer costs nothing within the service's grace", async () => {
  const { fetch, lose } = losing();
  const { login } = await registered(graceful, { fetch });
  const old = await login.token();
  lose();
  const one = client(graceful, "", { token: () => login.token(old) });
  // The client comes again after the pause that the refusal tells.
  await isOpen(one);
  assert.equal(login.state.value.name, "signedIn");
  await one.close();
});

test("a lost answer ends the login where the service has no grace, and stops its clients for good", async () => {
  const { fetch, lose } = losing();
  let ahead = 0;
  const clock = { monotonic: () => performance.now() + ahead, wall: () => Date.now() };
  const { login, userId } = await registered(service, { fetch, clock });
  const ends = new Log<SignedOut>();
  login.signedOut.subscribe(ends.add);
  const one = client(service, "", { token: login.token, onError: () => undefined });
  await isOpen(one);
  lose();
  assert.equal(await code(login.refresh()), "connection_lost");
  assert.equal(login.state.value.name, "signedIn");
  assert.equal(await code(login.refresh()), "connection_lost", "within the pause nothing is asked");
  ahead = 1_000;
  assert.equal(await code(login.refresh()), "login_ended");
  assert.deepEqual(ends.items, [{ userId, reason: "login_ended" }]);
  await stops(one);
  assert.deepEqual(one.state.value, { name: "stopped", reason: "signed_out" });
  await one.close();
});

test("a change of the password ends other logins, whose clients stop, and not the one that asks", async () => {
  const { login, userId } = await registered(service);
  const other = loginAt(service);
  await other.logIn({ userId, password: PASSWORD });
  const [mine, theirs] = [client(service, "", { token: login.token }), client(service, "", { token: other.token, onError: () => undefined })];
  await Promise.all([isOpen(mine), isOpen(theirs)]);
  assert.equal(await login.changePassword({ password: PASSWORD, newPassword: "horses eat no four pears" }), 1);
  await stops(theirs);
  assert.deepEqual(theirs.state.value, { name: "stopped", reason: "login_ended" });
  assert.deepEqual(other.state.value, { name: "signedOut", reason: "login_ended" });
  await mine.request("ping");
  await login.refresh();
  assert.equal(await code(other.logIn({ userId, password: PASSWORD })), "bad_credentials");
  await mine.close();
});

test("a logout stops the clients of all tabs, and its tokens are worth nothing", async () => {
  const store = memoryLogins();
  const { login } = await registered(service, { store });
  const tab = loginAt(service, { store });
  const clients = [login, tab].map(({ token }) => client(service, "", { token, onError: () => undefined }));
  await Promise.all(clients.map(isOpen));
  const { refreshToken } = (await store.load())!;
  await login.logOut();
  await Promise.all(clients.map(stops));
  for (const { state } of clients) assert.deepEqual(state.value, { name: "stopped", reason: "signed_out" });
  const answer = await fetch(`${service.url}/v1/accounts/refresh`, { method: "POST", body: JSON.stringify({ refreshToken }) });
  assert.equal(answer.status, 401);
  await Promise.all(clients.map((one) => one.close()));
});

test("a logout everywhere ends all logins of the user", async () => {
  const { login, userId } = await registered(service);
  const other = loginAt(service);
  await other.logIn({ userId, password: PASSWORD });
  const one = client(service, "", { token: other.token, onError: () => undefined });
  await isOpen(one);
  assert.equal(await login.logOutEverywhere(), 2);
  await stops(one);
  assert.deepEqual([login.state.value.name, other.state.value.name], ["signedOut", "signedOut"]);
  await one.close();
});

test("an open connection is renewed with each new token of a login, and is never without one", async () => {
  // The service takes any token that is signed with its secret, and those of its own accounts last for a minute at least.
  const iat = (): number => Math.floor(Date.now() / 1000);
  const accounts = new FakeAccounts((userId) => service.token(userId, 10, { iat: iat(), jti: crypto.randomUUID() }));
  const login = loginAt(service, { fetch: accounts.fetch });
  await login.logIn({ userId: user("anna"), password: "right" });
  const spy = spied();
  const one = client(service, "", { token: login.token, WebSocket: spy.Constructor });
  await isOpen(one);
  const renewed = new Log<string>();
  spy.sockets[0]!.addEventListener("message", ({ data }) => String(data).includes('"authenticated"') && renewed.add(String(data)));
  await renewed.reaches(2, "renewals");
  assert.deepEqual([spy.sockets.length, accounts.count("refresh")], [1, 2]);
  await one.close();
});

test("a client says which token was refused, so that a login brings another one", async () => {
  const { login } = await registered(service);
  const asked: (string | undefined)[] = [];
  const first = service.token(user("x"), -60);
  const one = client(service, "", {
    token: (refused) => {
      asked.push(refused);
      return asked.length === 1 ? first : login.token(refused);
    },
  });
  await isOpen(one);
  assert.deepEqual(asked, [undefined, first]);
  await one.close();
});
