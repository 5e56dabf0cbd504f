/** A login whose store fails, is emptied, or has another user by the time that an answer comes. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { memoryLogins, type LoginOptions, type LoginStore } from "../src/accounts/index.js";
import type { Channel } from "../src/index.js";
import { refusalOf } from "./support/accounts.js";
import { Clocks } from "./support/clocks.js";
import { loggedIn, refused, world } from "./support/logins.js";
import { settled } from "./support/sockets.js";

const ANNA = { userId: "anna", password: "right" };
const BEN = { userId: "ben", password: "right" };
/** Another tab that tells nothing, so that the first one finds what it did in the store alone. */
const SILENT: Partial<LoginOptions> = { channel: (): Channel => ({ postMessage: () => undefined, addEventListener: () => undefined, close: () => undefined }) };

/** A store that fails to load while a test wants it to. */
function shaky(): { store: LoginStore; loads: { count: number; fail: boolean } } {
  const [kept, loads] = [memoryLogins(), { count: 0, fail: false }];
  const load: LoginStore["load"] = () => {
    loads.count += 1;
    if (loads.fail) throw new Error("the store is locked");
    return kept.load();
  };
  return { store: { ...kept, load }, loads };
}

test("the end of all logins of a user leaves another one alone who has logged in meanwhile", async () => {
  for (const options of [{}, SILENT]) {
    const { login, accounts, store, ends, tab } = await loggedIn();
    const asked = accounts.hold("logout-everywhere");
    const everywhere = login.logOutEverywhere();
    await asked.begun;
    await tab(options).logIn(BEN);
    asked.release();
    assert.equal(await everywhere, 0, "the other tab has ended it already");
    assert.deepEqual([(await store.load())?.userId, accounts.logins], ["ben", 1]);
    assert.deepEqual([login.state.value, ends.items], [{ name: "signedIn", userId: "ben" }, []]);
  }
});

test("a logout is that of the user who was shown, and not of another one who has logged in since", async () => {
  const { login, accounts, store, ends, tab } = await loggedIn();
  await tab(SILENT).logIn(BEN);
  assert.deepEqual(login.state.value, { name: "signedIn", userId: "anna" });
  await login.logOut();
  await settled();
  assert.deepEqual([(await store.load())?.userId, accounts.logins], ["ben", 1]);
  assert.deepEqual([login.state.value, ends.items], [{ name: "signedIn", userId: "ben" }, []]);
  await login.logOut();
  assert.deepEqual([login.state.value.name, accounts.logins], ["signedOut", 0]);
});

test("a request for one user is never made with the token of another one", async () => {
  const { login, accounts, tab, clock } = await loggedIn();
  accounts.fates = [refusalOf(401, "token_revoked")];
  const asked = accounts.hold("password");
  const change = refused(login.changePassword({ password: "right", newPassword: "new" }));
  await asked.begun;
  await tab(SILENT).logIn(BEN);
  asked.release();
  assert.equal((await change).code, "signed_out");
  assert.equal(accounts.count("password"), 1);

  // Nor where the first token is taken after the other one has logged in.
  clock.pass(900_000);
  await tab(SILENT).logIn(ANNA);
  assert.deepEqual(login.state.value, { name: "signedIn", userId: "ben" });
  assert.equal((await refused(login.logOutEverywhere())).code, "signed_out");
  assert.equal(accounts.count("logout-everywhere"), 0);
});

test("a login that ends while the store was emptied is told as ended", async () => {
  const { login, accounts, store, ends, clock } = await loggedIn();
  clock.pass(900_000);
  accounts.fates = [refusalOf(401, "login_ended")];
  const asked = accounts.hold("refresh");
  const token = refused(login.token());
  await asked.begun;
  await store.clear();
  asked.release();
  assert.equal((await token).code, "login_ended");
  assert.deepEqual(login.state.value, { name: "signedOut", reason: "elsewhere" });
  assert.deepEqual(ends.items, [{ userId: "anna", reason: "elsewhere" }]);
  assert.equal((await refused(login.token())).code, "signed_out");
});

test("a store that fails at the start is read again after pauses that grow, and not after the close", async (t) => {
  const clocks = new Clocks(t);
  const { store, loads } = shaky();
  await loggedIn({ store });
  loads.fail = true;
  const { login, tab, errors } = world({ store });
  const closed = tab();
  await settled();
  closed.close();
  const before = loads.count;
  for (const pauseMs of [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]) {
    const count = loads.count;
    await clocks.pass(pauseMs - 500);
    assert.deepEqual([loads.count, login.state.value], [count, { name: "loading" }]);
    await clocks.pass(500);
    assert.equal(loads.count, count + 1);
  }
  assert.deepEqual([loads.count - before, errors.items.length], [8, 10]);
  loads.fail = false;
  await clocks.pass(30_000);
  assert.deepEqual(login.state.value, { name: "signedIn", userId: "anna" });
  const count = loads.count;
  await clocks.pass(60_000);
  assert.equal(loads.count, count);
});

test("a login is kept though the store could not be read", async (t) => {
  const clocks = new Clocks(t);
  const { store, loads } = shaky();
  loads.fail = true;
  const { login, accounts, errors } = world({ store });
  assert.equal(await login.logIn(ANNA), "anna");
  assert.deepEqual(login.state.value, { name: "signedIn", userId: "anna" });
  assert.equal(await login.token(), accounts.secrets[0]);
  const count = loads.count;
  await clocks.pass(60_000);
  assert.equal(loads.count, count, "nothing is to be loaded any more");
  assert.deepEqual([...new Set(errors.items.map(String))], ["Error: the store is locked"]);
  loads.fail = false;
  assert.equal((await store.load())?.refreshToken, accounts.secrets[1]);
  await login.refresh();
  assert.deepEqual([login.state.value.name, accounts.logins], ["signedIn", 1]);
});

test("a login in the place of another one ends that one, though the store could not be read", async () => {
  const { store, loads } = shaky();
  const { login, accounts } = await loggedIn({ store });
  loads.fail = true;
  await login.logIn(BEN);
  await settled();
  assert.deepEqual([accounts.count("logout"), accounts.logins], [1, 1]);
});

test("a logout counts here and at the service, though the store could not be read", async () => {
  for (const way of ["logOut", "logOutEverywhere"] as const) {
    const { store, loads } = shaky();
    const { login, accounts } = await loggedIn({ store });
    loads.fail = true;
    await login[way]();
    assert.deepEqual([login.state.value, accounts.logins], [{ name: "signedOut", reason: "logged_out" }, 0]);
    loads.fail = false;
    assert.equal(await store.load(), undefined);
  }
});

test("a logout rejects where nobody knows if there is a login", async () => {
  const { store, loads } = shaky();
  const { accounts } = await loggedIn({ store });
  loads.fail = true;
  const { login } = world({ store, accounts });
  await assert.rejects(login.logOut(), /the store is locked/);
  loads.fail = false;
  await login.logOut();
  assert.deepEqual([login.state.value, accounts.logins], [{ name: "signedOut", reason: "logged_out" }, 0]);
});
