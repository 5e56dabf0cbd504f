/** A login against a stand-in for the service: the age of tokens, one refresh at a time, lost answers, refusals, tabs, and the store. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import { isRetryable, localStorageLogins, memoryLogins, type LoginStore, type StoredLogin } from "../src/accounts/index.js";
import type { Channel } from "../src/index.js";
import { FakeAccounts, mintedFor, refusalOf } from "./support/accounts.js";
import { is, loggedIn, refused, world } from "./support/logins.js";
import { Log, until } from "./support/signals.js";

test("an account is registered and logged in, and has a token", async () => {
  const { login, accounts } = world();
  await is(login, "signedOut");
  assert.deepEqual(login.state.value, { name: "signedOut" });
  assert.equal((await refused(login.token())).code, "signed_out");
  assert.equal(await login.register({ userId: "anna", password: "right" }), "anna");
  assert.equal(login.state.value.name, "signedOut");
  assert.equal(await login.logIn({ userId: "anna", password: "right" }), "anna");
  assert.deepEqual(login.state.value, { name: "signedIn", userId: "anna" });
  assert.equal(await login.token(), accounts.secrets[0]);
  assert.equal((await refused(login.logIn({ userId: "anna", password: "wrong" }))).code, "bad_credentials");
  assert.deepEqual(login.state.value, { name: "signedIn", userId: "anna" }, "a wrong password ends nothing");
});

test("an access token is renewed a minute before its end, and not sooner", async () => {
  const { login, clock, accounts } = await loggedIn();
  clock.pass(838_000);
  assert.equal(await login.token(), accounts.secrets[0]);
  assert.equal(accounts.count("refresh"), 0);
  clock.pass(2_000);
  assert.equal(await login.token(), accounts.secrets[2]);
  assert.equal(accounts.count("refresh"), 1);
});

test("a clock that is set back delays no renewal, in this program and the next", async () => {
  const { login, clock, accounts, tab } = await loggedIn();
  clock.now += 840_000;
  clock.day -= 3_600_000;
  assert.equal(await login.token(), accounts.secrets[2]);
  // A program that begins knows no monotonic clock of another one. Tokens from what is to come are taken for old.
  clock.day -= 3_600_000;
  assert.equal(await tab().token(), accounts.secrets[4]);
  clock.pass(60_000);
  assert.equal(await tab().token(), accounts.secrets[4], "a plausible age is believed");
});

test("the sleep of a machine, which the monotonic clock may not count, makes a token old", async () => {
  const { login, clock, accounts } = await loggedIn();
  clock.day += 840_000;
  assert.equal(await login.token(), accounts.secrets[2]);
});

test("a short token is renewed at half of its life", async () => {
  const { login, clock, accounts } = await loggedIn({ accounts: new FakeAccounts(mintedFor(10)) });
  clock.pass(3_900);
  assert.equal(await login.token(), accounts.secrets[0]);
  clock.pass(1_100);
  assert.equal(await login.token(), accounts.secrets[2]);
});

test("many that want a token at once cause one refresh", async () => {
  const { login, clock, accounts } = await loggedIn();
  clock.pass(900_000);
  const tokens = await Promise.all(Array.from({ length: 20 }, () => login.token()));
  assert.deepEqual([...new Set(tokens)], [accounts.secrets[2]]);
  assert.equal(accounts.count("refresh"), 1);
});

test("two tabs that want a token at once cause one refresh, and both have it", async () => {
  const { login, clock, accounts, tab, ends } = await loggedIn();
  const other = tab();
  assert.equal(await other.token(), accounts.secrets[0]);
  clock.pass(900_000);
  const tokens = await Promise.all([login.token(), other.token(), tab().token()]);
  assert.deepEqual([...new Set(tokens)], [accounts.secrets[2]]);
  assert.equal(accounts.count("refresh"), 1);
  // The turn of the other one: it has the refresh token that came last.
  clock.pass(900_000);
  assert.equal(await other.token(), accounts.secrets[4]);
  assert.equal(await login.token(), accounts.secrets[4]);
  assert.deepEqual([accounts.count("refresh"), accounts.logins, ends.items], [2, 1, []]);
});

test("tabs without a lock in common go on with what one of them has stored", async () => {
  const store = memoryLogins();
  const { login, clock, accounts, ends } = await loggedIn({ store });
  clock.pass(900_000);
  let open = (): void => undefined;
  accounts.gate = new Promise((resolve) => (open = resolve));
  accounts.fates = [refusalOf(401, "login_ended")];
  const token = login.token();
  await until("the refresh", accounts.asked, () => accounts.count("refresh") === 1);
  const newer: StoredLogin = { id: "newer", userId: "anna", accessToken: "a.b.c", refreshToken: "newer", lifetimeMs: 900_000, askedAt: clock.day };
  await store.save(newer);
  open();
  assert.equal(await token, "a.b.c");
  assert.deepEqual([login.state.value, ends.items], [{ name: "signedIn", userId: "anna" }, []]);
});

test("a tab that reads an old store, as browsers show it for a moment, does not use what another tab has used", async () => {
  const store = memoryLogins();
  const { login, clock, accounts, ends, tab } = await loggedIn({ store });
  const old = (await store.load())!;
  let looks = 0;
  const late: LoginStore = { ...store, load: () => (++looks < 4 ? old : store.load()) };
  const other = tab({ store: late });
  await is(other, "signedIn");
  clock.pass(900_000);
  const tokens = await Promise.all([login.token(), other.token()]);
  assert.deepEqual(tokens, [accounts.secrets[2], accounts.secrets[2]]);
  assert.deepEqual([accounts.count("refresh"), accounts.logins, ends.items], [1, 1, []]);
  assert.ok(looks >= 4);
});

test("a tab whose store shows an old login for a moment hears of its end all the same", async () => {
  const store = memoryLogins();
  const { login, tab } = await loggedIn({ store });
  const old = (await store.load())!;
  let isLate = true;
  const looks = new Log<boolean>();
  const load: LoginStore["load"] = () => {
    looks.add(isLate);
    return isLate ? old : store.load();
  };
  // It has not heard that there are newer tokens, either.
  const channel = (name: string): Channel => {
    const real = new BroadcastChannel(name);
    const listen: Channel["addEventListener"] = (_, listener) => real.addEventListener("message", ({ data }) => (data as { ended?: string }).ended && listener({ data }));
    return { postMessage: (message) => real.postMessage(message), addEventListener: listen, close: () => real.close() };
  };
  const other = tab({ store: { ...store, load }, channel });
  await is(other, "signedIn");
  await login.refresh();
  await login.logOut();
  await looks.reaches(looks.items.length + 2, "looks at the old store");
  assert.equal(other.state.value.name, "signedIn");
  isLate = false;
  await is(other, "signedOut");
  assert.deepEqual(other.state.value, { name: "signedOut", reason: "elsewhere" });
});

test("tokens that have ended are not held again where a store still shows them", async () => {
  const store = memoryLogins();
  const { login, tab } = await loggedIn({ store });
  const old = (await store.load())!;
  const other = tab({ store: { ...store, load: () => old } });
  await is(other, "signedIn");
  await login.logOut();
  await is(other, "signedOut");
  assert.equal((await refused(other.token())).code, "signed_out");
  assert.equal(other.state.value.name, "signedOut");
});

test("a refresh whose answer was lost is tried again with the same token, and after a pause", async () => {
  const { login, clock, accounts, ends } = await loggedIn();
  accounts.hasGrace = true;
  accounts.fates = ["lose"];
  clock.pass(900_000);
  const lost = await refused(login.token());
  assert.deepEqual([lost.code, lost.retryAfterMs, isRetryable(lost)], ["connection_lost", 1_000, true]);
  clock.pass(400);
  assert.equal((await refused(login.token())).retryAfterMs, 600);
  assert.equal(accounts.count("refresh"), 1, "not within the pause");
  clock.pass(600);
  assert.equal(await login.token(), accounts.secrets[4]);
  const [first, second] = accounts.asked.items.filter(({ path }) => path === "refresh");
  assert.deepEqual(first, second);
  assert.deepEqual([login.state.value.name, ends.items], ["signedIn", []]);
});

test("a refresh token that comes twice where there is no grace ends the login, and this is told once", async () => {
  const { login, clock, accounts, ends, store } = await loggedIn();
  accounts.fates = ["lose"];
  clock.pass(900_000);
  await refused(login.token());
  clock.pass(1_000);
  const codes = (await Promise.all([refused(login.token()), refused(login.token())])).map(({ code }) => code);
  assert.deepEqual(codes, ["login_ended", "login_ended"]);
  assert.deepEqual(ends.items, [{ userId: "anna", reason: "login_ended" }]);
  assert.deepEqual(login.state.value, { name: "signedOut", reason: "login_ended" });
  assert.equal(await store.load(), undefined);
  assert.equal((await refused(login.token())).code, "signed_out");
  assert.equal(accounts.count("refresh"), 2);
});

test("a token that is still good is given out while the service is away, and the login goes on", async () => {
  const { login, clock, accounts, errors, ends } = await loggedIn();
  accounts.fates = ["fail", "fail", "fail", "fail"];
  clock.pass(845_000);
  assert.equal(await login.token(), accounts.secrets[0]);
  assert.ok(isRetryable(errors.items[0]));
  for (const pause of [1_000, 2_000, 4_000]) {
    clock.pass(pause);
    await login.token();
  }
  assert.equal(accounts.count("refresh"), 4, "each pause is twice the one before");
  clock.pass(900_000);
  accounts.fates = ["fail"];
  assert.ok(isRetryable(await refused(login.token())));
  assert.deepEqual([login.state.value.name, ends.items], ["signedIn", []]);
  clock.pass(30_000);
  assert.equal(await login.token(), accounts.secrets[2]);
});

test("no other refusal ends a login, and its time is kept", async () => {
  const page = (): Response => new Response("<h1>Log in to the hotel</h1>", { status: 401, headers: { "retry-after": "7" } });
  const fates: [Response, string, number][] = [
    [refusalOf(429, "rate_limited", 3_000), "rate_limited", 3_000],
    [refusalOf(503, "busy", 200), "busy", 200],
    [refusalOf(503, "unavailable"), "unavailable", 1_000],
    [page(), "no_answer", 7_000],
    [new Response("{}"), "no_answer", 2_000],
  ];
  const { login, clock, accounts, ends } = await loggedIn();
  clock.pass(900_000);
  for (const [fate, code, retryAfterMs] of fates) {
    accounts.fates = [fate];
    const refusal = await refused(login.token());
    assert.deepEqual([refusal.code, refusal.retryAfterMs, isRetryable(refusal)], [code, retryAfterMs, true]);
    clock.pass(retryAfterMs);
  }
  accounts.fates = [refusalOf(403, "turned_off")];
  assert.equal((await refused(login.token())).code, "turned_off");
  assert.deepEqual([login.state.value.name, ends.items], ["signedIn", []]);
  assert.equal(await login.token(), accounts.secrets[2]);
});

test("a token that the service has refused is not given out again", async () => {
  const { login, accounts } = await loggedIn();
  const first = await login.token();
  accounts.fates = ["fail"];
  assert.equal((await refused(login.token(first))).code, "connection_lost");
  assert.equal((await refused(login.token())).code, "connection_lost", "though it is young");
});

test("a refusal that is heard during a refresh makes no second one, and one that comes behind it does", async () => {
  const { login, clock, accounts } = await loggedIn();
  const first = await login.token();
  clock.pass(900_000);
  const [renewed, other] = await Promise.all([login.token(), login.token(first)]);
  assert.deepEqual([renewed, other, accounts.count("refresh")], [accounts.secrets[2], accounts.secrets[2], 1]);
  assert.equal(await login.token(renewed), accounts.secrets[4]);
});

test("a refresh on demand brings new tokens, once for all that ask for it", async () => {
  const { login, accounts } = await loggedIn();
  await Promise.all([login.refresh(), login.refresh()]);
  assert.deepEqual([accounts.count("refresh"), await login.token()], [1, accounts.secrets[2]]);
});

test("throttled requests are repeated where the caller waits, and only there", async () => {
  const { login, accounts } = world();
  const throttled = (): Response => refusalOf(429, "rate_limited", 20);
  accounts.fates = [throttled()];
  const at_once = await refused(login.logIn({ userId: "anna", password: "right" }));
  assert.deepEqual([at_once.code, at_once.retryAfterMs, accounts.count("login")], ["rate_limited", 20, 1]);
  accounts.fates = [throttled(), refusalOf(503, "busy", 10)];
  await login.logIn({ userId: "anna", password: "right" }, { waitMs: 60_000 });
  assert.equal(accounts.count("login"), 4);
  accounts.fates = [refusalOf(429, "rate_limited", 61_000)];
  assert.equal((await refused(login.logIn({ userId: "anna", password: "right" }, { waitMs: 60_000 }))).code, "rate_limited");
  accounts.fates = [refusalOf(503, "unavailable", 1)];
  assert.equal((await refused(login.logIn({ userId: "anna", password: "right" }, { waitMs: 60_000 }))).code, "unavailable", "it may have been done");
  assert.equal(accounts.count("login"), 6);
});

test("a logout counts here at once, is told to the other tabs, and to the service until it has heard it", async () => {
  const { login, accounts, tab, store } = await loggedIn();
  const other = tab();
  await is(other, "signedIn");
  accounts.fates = ["fail"];
  assert.equal((await refused(login.logOut())).code, "connection_lost");
  assert.deepEqual(login.state.value, { name: "signedOut", reason: "logged_out" });
  assert.deepEqual([await store.load(), accounts.logins], [undefined, 1]);
  await is(other, "signedOut");
  assert.deepEqual(other.state.value, { name: "signedOut", reason: "elsewhere" });
  await login.logOut();
  assert.deepEqual([accounts.logins, accounts.asked.items.at(-1)!.body.refreshToken], [0, accounts.secrets[1]]);
  await login.logOut();
  assert.equal(accounts.count("logout"), 2, "nothing is left to be told");
});

test("a logout waits for a refresh, and ends what came of it", async () => {
  const { login, accounts, store } = await loggedIn();
  let open = (): void => undefined;
  accounts.gate = new Promise((resolve) => (open = resolve));
  const refresh = login.refresh();
  await until("the refresh", accounts.asked, () => accounts.count("refresh") === 1);
  const out = login.logOut();
  open();
  await Promise.all([refresh, out]);
  assert.deepEqual([accounts.logins, await store.load()], [0, undefined]);
});

test("tabs hear of a login and of its end, with the reason", async () => {
  const { login, accounts, clock, tab } = world();
  const other = tab();
  await is(other, "signedOut");
  await login.logIn({ userId: "anna", password: "right" });
  await is(other, "signedIn");
  assert.equal(await other.token(), accounts.secrets[0]);
  clock.pass(900_000);
  accounts.fates = [refusalOf(401, "login_ended")];
  await refused(login.token());
  await is(other, "signedOut");
  assert.deepEqual(other.state.value, { name: "signedOut", reason: "login_ended" });
});

test("a login in the place of another one ends the other one at the service", async () => {
  const { login, accounts, ends } = await loggedIn();
  await login.logIn({ userId: "ben", password: "right" });
  await until("the logout", accounts.asked, () => accounts.count("logout") === 1);
  assert.equal(accounts.asked.items.at(-1)!.body.refreshToken, accounts.secrets[1]);
  assert.deepEqual([login.state.value, ends.items], [{ name: "signedIn", userId: "ben" }, []]);
  assert.equal(await login.token(), accounts.secrets[2]);
});

test("the password is changed and all logins are ended with a token, which is renewed where it was refused", async () => {
  const { login, accounts } = await loggedIn();
  accounts.fates = [refusalOf(401, "token_expired")];
  assert.equal(await login.changePassword({ password: "right", newPassword: "new" }), 0);
  assert.equal(accounts.asked.items.at(-1)!.authorization, `Bearer ${accounts.secrets[2]}`);
  const wrong = await refused(login.changePassword({ password: "wrong", newPassword: "new" }));
  assert.deepEqual([wrong.code, accounts.count("refresh"), login.state.value.name], ["bad_credentials", 1, "signedIn"]);
  accounts.fates = ["fail"];
  assert.equal((await refused(login.logOutEverywhere())).code, "connection_lost");
  assert.equal(login.state.value.name, "signedIn");
  assert.equal(await login.logOutEverywhere(), 1);
  assert.deepEqual(login.state.value, { name: "signedOut", reason: "logged_out" });
});

test("no token and no password stands in an error, in what is told, or in the login when it is printed", async () => {
  const { login, accounts, clock, errors, store } = await loggedIn();
  accounts.secrets.push("wrong-horse-battery");
  const told: unknown[] = [login, login.state.value];
  accounts.fates = ["fail"];
  told.push(await refused(login.logIn({ userId: "anna", password: "wrong-horse-battery" })));
  clock.pass(845_000);
  accounts.fates = ["fail"];
  await login.token();
  clock.pass(900_000);
  accounts.fates = ["lose"];
  told.push(await refused(login.token()));
  Object.assign(store, { save: () => Promise.reject(new Error("the disk is full")) });
  clock.pass(2_000);
  accounts.hasGrace = true;
  told.push(await login.refresh());
  told.push(...errors.items);
  assert.ok(errors.items.length >= 2);
  for (const one of told) {
    const printed = inspect(one, { depth: 9, showHidden: true }) + JSON.stringify(one) + String(one) + ((one as Error | undefined)?.stack ?? "");
    for (const secret of accounts.secrets) assert.ok(!printed.includes(secret), printed);
  }
});

test("new tokens are stored before one of them is given out", async () => {
  const store = memoryLogins();
  const { login, accounts, clock } = await loggedIn({ store });
  clock.pass(900_000);
  const { save } = store;
  let finish = (): void => undefined;
  const saving = new Promise<void>((began) => {
    store.save = async (tokens) => {
      began();
      await new Promise<void>((resolve) => (finish = resolve));
      await save(tokens);
    };
  });
  let isGiven = false;
  const token = login.token().finally(() => (isGiven = true));
  await saving;
  await new Promise((turn) => setImmediate(turn));
  assert.equal(isGiven, false);
  finish();
  assert.equal(await token, accounts.secrets[2]);
  assert.equal((await store.load())?.refreshToken, accounts.secrets[3]);
});

test("a store that fails for a time costs no login: what is held is stored later, and not given up for what is old", async () => {
  const store = memoryLogins();
  const { login, accounts, clock, errors } = await loggedIn({ store });
  const { save } = store;
  store.save = () => Promise.reject(new Error("the disk is full"));
  clock.pass(900_000);
  assert.equal(await login.token(), accounts.secrets[2]);
  clock.pass(900_000);
  assert.equal(await login.token(), accounts.secrets[4]);
  assert.ok(errors.items.length > 0);
  store.save = save;
  assert.equal(await login.token(), accounts.secrets[4]);
  assert.equal((await store.load())?.refreshToken, accounts.secrets[5]);
});

test("a login outlives its page in localStorage, and something else under its key is none", async () => {
  const rows = new Map<string, string>();
  const storage = {
    getItem: (key: string) => rows.get(key) ?? null,
    setItem: (key: string, value: string) => void rows.set(key, value),
    removeItem: (key: string) => void rows.delete(key),
  };
  const { accounts, tab } = await loggedIn({ store: localStorageLogins("key", storage) });
  const next = tab({ store: localStorageLogins("key", storage) });
  assert.equal(await next.token(), accounts.secrets[0]);
  // A program that stored no times, or other ones, is no reason to take a token for young.
  rows.set("key", JSON.stringify({ ...JSON.parse(rows.get("key")!), lifetimeMs: "soon", askedAt: null }));
  assert.equal(await tab({ store: localStorageLogins("key", storage) }).token(), accounts.secrets[2]);
  for (const junk of ["no JSON", "null", "7", "[]", '{"userId":"anna"}']) {
    rows.set("key", junk);
    assert.equal(localStorageLogins("key", storage).load(), undefined, junk);
  }
  await next.logIn({ userId: "anna", password: "right" });
  await next.logOut();
  assert.equal(rows.size, 0);
});

test("a lock that is held for too long is told as something that passes", { timeout: 30_000 }, async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const locks = { request: (_: string, { signal }: { signal: AbortSignal }) => new Promise<void>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error))) };
  const { login } = world({ locks });
  const refusal = refused(login.token());
  await new Promise((turn) => setImmediate(turn));
  await new Promise((turn) => setImmediate(turn));
  t.mock.timers.tick(60_000);
  const { code } = await refusal;
  assert.equal(code, "no_answer");
});

test("the request goes to the service's address and follows no redirect", async () => {
  const seen: [string, RequestInit][] = [];
  const fetch = async (url: string, init: RequestInit): Promise<Response> => {
    seen.push([url, init]);
    return Response.json({ userId: "anna" }, { status: 201 });
  };
  for (const url of ["wss://chat.example.com/restante", "https://chat.example.com/restante/"]) {
    await world({ url, fetch }).login.register({ userId: "anna", password: "right" });
  }
  for (const [url, { redirect, credentials, cache }] of seen) {
    assert.equal(url, "https://chat.example.com/restante/v1/accounts");
    assert.deepEqual([redirect, credentials, cache], ["error", "omit", "no-store"]);
  }
  assert.equal(seen.length, 2);
});
