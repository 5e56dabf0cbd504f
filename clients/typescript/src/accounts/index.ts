/** Accounts with a password, for services that have them turned on: `@restante/client/accounts`. Pages with an issuer of their own load none of it. */

export type { Clock } from "./held.js";
export { Login, type LoginOptions, type LoginState, type NewAccount, type SignedOut, type SignOutReason } from "./login.js";
export { localStorageLogins, memoryLogins, type LoginStore, type StoredLogin } from "./store.js";
export { isRetryable, type Patience } from "../retry.js";
export type { Fetch } from "../http.js";
