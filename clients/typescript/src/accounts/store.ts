/**
 * The place where the tokens of a login are kept: in memory, in `localStorage`, or where the application wants. Whoever can read it is the user
 * until the login ends, so the choice is the application's. It knows nothing of requests and of time.
 */

import { uuidv7 } from "../uuid.js";

/** The tokens of a login, as they are kept. Plain JSON. */
export interface StoredLogin {
  /** Names these tokens and says nothing of them. The next ones have another one. */
  id: string;
  userId: string;
  accessToken: string;
  /** Good once: the one that came last. */
  refreshToken: string;
  /** The life of the access token, in ms. */
  lifetimeMs: number;
  /** The time of day at which the tokens were asked for, in ms, by the clock of this machine. A hint: that clock may be set. */
  askedAt: number;
}

export interface LoginStore {
  /** Names what tabs share: those of one name agree on one that refreshes, and are told of one another. */
  readonly name: string;
  /** The login, or nothing. What other tabs have saved is seen. */
  load(): Promise<StoredLogin | undefined> | StoredLogin | undefined;
  /** Resolves when it would survive the program. */
  save(login: StoredLogin): Promise<void> | void;
  clear(): Promise<void> | void;
}

/** In the memory of this page or program: a reload logs out, and nothing of it is left for others to read. */
export function memoryLogins(): LoginStore {
  let kept: StoredLogin | undefined;
  return {
    name: `memory-${uuidv7()}`,
    load: () => kept,
    save: (login) => void (kept = login),
    clear: () => void (kept = undefined),
  };
}

/**
 * In `localStorage`, so that a login survives a reload and tabs share it. **Every script of the page's origin can read it**, so one that was brought
 * in (XSS, a package, an extension) can take the refresh token along and be the user until the login ends. `name` is the key.
 */
export function localStorageLogins(name = "restante:login", storage: Pick<Storage, "getItem" | "setItem" | "removeItem"> = globalThis.localStorage): LoginStore {
  return {
    name,
    load: () => parsed(storage.getItem(name)),
    save: (login) => storage.setItem(name, JSON.stringify(login)),
    clear: () => storage.removeItem(name),
  };
}

/** Something else under the key is no login. */
function parsed(text: string | null): StoredLogin | undefined {
  try {
    const login = JSON.parse(text ?? "{}") as StoredLogin;
    return isLogin(login) && typeof login.id === "string" ? login : undefined;
  } catch {
    return undefined;
  }
}

/** It has what every login has. Times may be missing: then it is taken for old. */
export function isLogin(login: Partial<Record<"userId" | "accessToken" | "refreshToken", unknown>>): boolean {
  return [login?.userId, login?.accessToken, login?.refreshToken].every((field) => typeof field === "string");
}
