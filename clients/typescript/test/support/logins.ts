/** Logins against a stand-in for the accounts of a service, with the clocks, the store and the other tabs that a test wants. They are closed at the end. */

import assert from "node:assert/strict";
import { after } from "node:test";
import { inspect } from "node:util";
import { Login, memoryLogins, type LoginOptions, type LoginStore, type SignedOut } from "../../src/accounts/index.js";
import { Refusal } from "../../src/index.js";
import { FakeAccounts, FakeClock } from "./accounts.js";
import { Log, until } from "./signals.js";

const opened: Login[] = [];
after(() => opened.forEach((login) => login.close()));

export interface World {
  accounts: FakeAccounts;
  clock: FakeClock;
  store: LoginStore;
  errors: Log<unknown>;
  ends: Log<SignedOut>;
  login: Login;
  /** Another tab: it has the store, the service and the machine in common. */
  tab(options?: Partial<LoginOptions>): Login;
}

/** A login, and the tabs beside it. */
export function world(options: Partial<LoginOptions> & { accounts?: FakeAccounts } = {}): World {
  const { accounts = new FakeAccounts(), store = memoryLogins() } = options;
  const [clock, errors, ends] = [new FakeClock(), new Log<unknown>(), new Log<SignedOut>()];
  const tab = (more: Partial<LoginOptions> = {}): Login => {
    const login = new Login({ url: "https://chat.example.com", fetch: accounts.fetch, clock, onError: errors.add, ...options, store, ...more });
    login.signedOut.subscribe(ends.add);
    opened.push(login);
    return login;
  };
  return { accounts, clock, store, errors, ends, tab, login: tab() };
}

/** A world in which anna has logged in. */
export async function loggedIn(options: Parameters<typeof world>[0] = {}): Promise<World> {
  const all = world(options);
  await all.login.logIn({ userId: "anna", password: "right" });
  return all;
}

/** The refusal that a promise rejects with. */
export async function refused(promise: Promise<unknown>): Promise<Refusal> {
  const error: unknown = await promise.then(
    () => assert.fail("it was not refused"),
    (error: unknown) => error,
  );
  assert.ok(error instanceof Refusal, inspect(error));
  return error;
}

export const is = (login: Login, name: string): Promise<void> => until(name, login.state, () => login.state.value.name === name);
