/**
 * The login of one user with a password, shared by the tabs of a store: registers, logs in and out, and has an access token whenever one is wanted. A
 * refresh token is good once, and ends its login when it comes twice. So whatever uses or changes the tokens happens under one lock of all tabs, reads
 * the newest ones from the store under it, and stores new ones before they are used. Only a refusal of the refresh token ends a login.
 */

import { Http, type Fetch } from "../http.js";
import type { Channel, Locks } from "../locks.js";
import { Listeners, Observable } from "../observable.js";
import { SIGNED_OUT } from "../protocol.js";
import { Refusal } from "../refusal.js";
import { isRetryable, patiently, type Patience } from "../retry.js";
import type { Account, EndedLogins, LoginData, LoginTokens, PasswordData } from "../wire.js";
import { Held, momentOf, platformClock, type Clock } from "./held.js";
import { Pause } from "./pause.js";
import { isLogin, memoryLogins, type LoginStore, type StoredLogin } from "./store.js";
import { Tabs, type Told } from "./tabs.js";

/** A store may show an old state for a moment: bound of the wait for the new one, and the pause between two looks. */
const LOOK_MS = 5_000;
const LOOK_AGAIN_MS = 50;
/** The pause before a store that failed at the start is read again doubles from this to that. */
const LOAD_AGAIN_MS = 500;
const LOAD_AGAIN_MAX_MS = 30_000;

export interface LoginOptions {
  /** Address of the service, that of `connect`. */
  url: string;
  /** Where the tokens are kept. In memory where it is left out: then a reload logs out. */
  store?: LoginStore;
  /** Takes errors that end nothing: of the store, and of a refresh while the old token is still good. `console.error` where it is left out. */
  onError?: (error: unknown) => void;
  /** Stand-ins for what the platform has. */
  fetch?: Fetch;
  locks?: Locks;
  channel?: (name: string) => Channel;
  clock?: Clock;
}

/** An account that is to be made. */
export interface NewAccount {
  /** The name: a to z, 0 to 9, `.`, `_` and `-`. */
  userId: string;
  password: string;
  /** Shown to others. */
  name?: string;
}

/** `logged_out`: by this object. `elsewhere`: by another tab of the store. `login_ended`: the service has refused the refresh token. */
export type SignOutReason = "logged_out" | "elsewhere" | "login_ended";

export type LoginState =
  /** The store was not read yet. */
  | { name: "loading" }
  | { name: "signedIn"; userId: string }
  /** Without a reason nobody was logged in. */
  | { name: "signedOut"; reason?: SignOutReason };

/** The end of a login. */
export interface SignedOut {
  userId: string;
  reason: SignOutReason;
}

export class Login {
  readonly state = new Observable<LoginState>({ name: "loading" });
  /** Told once when a login has ended, whatever ends it; not when another one has begun in its place. */
  readonly signedOut = new Listeners<SignedOut>();
  readonly #options: LoginOptions;
  readonly #http: Http;
  readonly #store: LoginStore;
  readonly #clock: Clock;
  readonly #pause: Pause;
  readonly #tabs: Tabs;
  /** The first try to read the store is over. */
  readonly #loaded: Promise<void>;
  #loading: ReturnType<typeof setTimeout> | undefined;
  /** Refresh tokens of logins that have ended here, and of which the service may not know yet. */
  readonly #ended = new Set<string>();
  #held: Held | undefined;
  /** Tokens that have ended, by their id: a store that still shows them is old. */
  #gone: string | undefined;
  /** The store could not take what is held, and has tokens that are used. It is tried again with each question for a token. */
  #isUnsaved = false;
  #refreshing: Promise<Held> | undefined;
  /** The access token that the service has refused, and the tokens that the application wants replaced, by their id. */
  #refused: string | undefined;
  #stale: string | undefined;

  constructor(options: LoginOptions) {
    this.#options = options;
    this.#http = new Http(options.url, options.fetch);
    this.#store = options.store ?? memoryLogins();
    this.#clock = options.clock ?? platformClock;
    this.#pause = new Pause(this.#clock);
    this.#tabs = new Tabs(this.#store.name, options.locks, options.channel, (told) => {
      this.#heed(told).catch((error: unknown) => this.#report(error));
    });
    // Without the lock: who opens a tab does not wait for the refresh of another one.
    this.#loaded = this.#load(() => this.#newest());
  }

  /**
   * An access token that is good for a while, for `connect` and for requests of the application. `refused` is one that the service has refused: then
   * it is another one. Rejects with `signed_out` or `login_ended` where somebody has to log in, and else with what passes (`isRetryable`).
   */
  readonly token = async (refused?: string): Promise<string> => (await this.#current(refused)).accessToken;

  /** Makes an account. It logs nobody in. Resolves with its name as the service has it. */
  async register(account: NewAccount, patience: Patience = {}): Promise<string> {
    const made = (await patiently(patience, () => this.#post("", account))) as Account;
    return made.userId;
  }

  /** Logs in, in the place of who was. Resolves with the user once its tokens are stored. */
  async logIn(who: LoginData, patience: Patience = {}): Promise<string> {
    const held = await patiently(patience, () => this.#ask("/login", who));
    await this.#loaded;
    await this.#tabs.alone(async () => {
      // The service has made the login already. Where the store cannot be read nothing stands in it, as far as is known.
      const before = await this.#newest().catch((error: unknown) => (this.#report(error), this.#held));
      await this.#keep(held);
      if (before) this.#ended.add(before.login.refreshToken);
    });
    this.#tellEnded({}).catch((error: unknown) => this.#report(error));
    return held.login.userId;
  }

  /** Has new tokens now, though the old ones would last. `token` does it by itself when it is time. */
  async refresh(patience: Patience = {}): Promise<void> {
    await this.#loaded;
    this.#stale = this.#held?.login.id;
    await patiently(patience, () => this.#refresh());
  }

  /** All other logins of the user end. Resolves with how many there were. */
  async changePassword(change: PasswordData, patience: Patience = {}): Promise<number> {
    return (await this.#asUser("/password", change, patience)).ended;
  }

  /**
   * Ends the login here at once, and at the service. Where the service could not be told it rejects, and nobody is logged in here all the same;
   * called again it tells the service once more. Another user who has logged in meanwhile, in another tab, stays.
   */
  async logOut(patience: Patience = {}): Promise<void> {
    await this.#loaded;
    const held = await this.#forgetUser(this.#held?.login.userId);
    if (held) this.#ended.add(held.login.refreshToken);
    await this.#tellEnded(patience);
  }

  /** Ends all logins of the user, this one too. Resolves with how many there were. Where it rejects this one goes on. */
  async logOutEverywhere(patience: Patience = {}): Promise<number> {
    const { ended, userId } = await this.#asUser("/logout-everywhere", undefined, patience);
    await this.#forgetUser(userId);
    return ended;
  }

  /** Hears no other tabs any more, and reads no store again. It logs nobody out. */
  close(): void {
    this.#tabs.close();
    clearTimeout(this.#loading);
  }

  #post(path: string, body: object): Promise<unknown> {
    return this.#http.ask({ method: "POST", path: `/v1/accounts${path}`, body });
  }

  async #ask(path: string, body: object): Promise<Held> {
    const asked = momentOf(this.#clock);
    const tokens = (await this.#post(path, body)) as LoginTokens;
    // A page of something between may be JSON, too.
    if (!isLogin(tokens)) throw new Refusal("no_answer", "the answer is none of the service");
    return Held.answered(tokens, asked, this.#clock);
  }

  /** Asks with tokens of one user alone, whoever logs in meanwhile. */
  async #asUser(path: string, body: object | undefined, patience: Patience): Promise<EndedLogins & { userId: string }> {
    const request = { method: "POST", path: `/v1/accounts${path}`, ...(body && { body }) };
    await this.#loaded;
    let userId = this.#held?.login.userId;
    const source = async (refused?: string): Promise<string> => {
      const login = await this.#current(refused);
      userId ??= login.userId;
      if (login.userId !== userId) throw new Refusal("signed_out", "another user has logged in");
      return login.accessToken;
    };
    const { ended } = (await patiently(patience, () => this.#http.askAs(source, request))) as EndedLogins;
    return { ended, userId: userId! };
  }

  /** Reads the store for the first time, and again after a pause where that fails. */
  async #load(read: () => Promise<unknown>, pauseMs: number = LOAD_AGAIN_MS): Promise<void> {
    try {
      await read();
    } catch (error) {
      this.#report(error);
      if (this.#tabs.isClosed) return;
      this.#loading = setTimeout(() => {
        if (this.state.value.name !== "loading") return;
        void this.#load(() => this.#tabs.alone(() => this.#newest()), Math.min(2 * pauseMs, LOAD_AGAIN_MAX_MS));
      }, pauseMs);
      // In Node it would keep the program from ending.
      (this.#loading as unknown as { unref?: () => void }).unref?.();
    }
  }

  /** The login with an access token that is good for a while, as `token` says it. */
  async #current(refused: string | undefined): Promise<StoredLogin> {
    await this.#loaded;
    this.#refused = refused ?? this.#refused;
    if (this.#held && !this.#isUnsaved && this.#isFit(this.#held)) return this.#held.login;
    try {
      return (await this.#refresh()).login;
    } catch (error) {
      const held = this.#held;
      if (!held?.isAlive || held.login.accessToken === this.#refused || isSignedOut(error)) throw error;
      this.#report(error);
      return held.login;
    }
  }

  #isFit(held: Held): boolean {
    const { id, accessToken } = held.login;
    return !held.isDue && accessToken !== this.#refused && id !== this.#stale;
  }

  /** One refresh at a time, for all who want it. */
  async #refresh(): Promise<Held> {
    // One that runs may have looked before it was known that its tokens are refused.
    const running = await this.#refreshing;
    if (running && this.#isFit(running)) return running;
    this.#refreshing ??= this.#tabs.alone(() => this.#refreshAlone()).finally(() => (this.#refreshing = undefined));
    return this.#refreshing;
  }

  async #refreshAlone(): Promise<Held> {
    const { held, settle } = await this.#claim();
    // Another tab has done it, while this one waited for the lock.
    if (!settle) return held;
    let isUsed = false;
    try {
      const renewed = await this.#exchange(held);
      isUsed = true;
      return renewed;
    } catch (error) {
      if (!(error instanceof Refusal) || error.code !== "login_ended") throw error;
      // Where tabs have no lock in common one of them may have used the token first, or have logged in since.
      const newest = await this.#newest();
      if (newest && newest.login.id !== held.login.id) return newest;
      // Or somebody has emptied the store.
      if (newest) await this.#forget(newest, "login_ended");
      throw error;
    } finally {
      settle(isUsed);
    }
  }

  /** The newest tokens: those that need no refresh, or those that no tab has used, marked. What another tab has used the store shows for a moment more. */
  async #claim(): Promise<{ held: Held; settle?: (isUsed: boolean) => void }> {
    for (const end = performance.now() + LOOK_MS; performance.now() < end; ) {
      const held = await this.#newest();
      if (!held) throw new Refusal("signed_out", "nobody is logged in");
      if (this.#isFit(held)) return { held };
      const settle = await this.#tabs.mark(held.login.id);
      if (settle) return { held, settle };
    }
    throw new Refusal("no_answer", "another tab has used the tokens, and its new ones are not in the store");
  }

  /** Nobody knows if a refresh without an answer was done: the same token is tried again, and after a pause. */
  async #exchange({ login: { refreshToken } }: Held): Promise<Held> {
    this.#pause.check();
    try {
      const held = await this.#ask("/refresh", { refreshToken });
      await this.#keep(held);
      return held;
    } catch (error) {
      throw isRetryable(error) ? this.#pause.after(error) : error;
    }
  }

  /** The newest tokens of all tabs, under the lock. */
  async #newest(): Promise<Held | undefined> {
    if (this.#isUnsaved && this.#held) await this.#save(this.#held);
    if (this.#isUnsaved) return this.#held;
    const stored = await this.#store.load();
    if (!stored || stored.id === (this.#gone ?? "")) this.#end("elsewhere");
    else if (stored.id !== this.#held?.login.id) this.#hold(Held.loaded(stored, this.#clock));
    return this.#held;
  }

  /** Stored first: a refresh token that is lost with the program cannot be had again. */
  async #keep(held: Held): Promise<void> {
    await this.#save(held);
    this.#pause.end();
    this.#hold(held);
    this.#tabs.tell({ id: held.login.id });
  }

  async #save({ login }: Held): Promise<void> {
    try {
      await this.#store.save(login);
      this.#isUnsaved = false;
    } catch (error) {
      // This program goes on with what it holds, and tries again.
      this.#isUnsaved = true;
      this.#report(error);
    }
  }

  /** Ends the login of this user, or of any where it is not known which one. Resolves with the login that it ended. */
  async #forgetUser(userId: string | undefined): Promise<Held | undefined> {
    return this.#tabs.alone(async () => {
      const held = await this.#newest().catch((error: unknown) => {
        // The store cannot be read. The end of what is held here is the end of it.
        if (!this.#held) throw error;
        this.#report(error);
        return this.#held;
      });
      if (!held || held.login.userId !== (userId ?? held.login.userId)) return undefined;
      await this.#forget(held, "logged_out");
      return held;
    });
  }

  async #forget({ login: { id } }: Held, reason: SignOutReason): Promise<void> {
    this.#isUnsaved = false;
    this.#gone = id;
    this.#end(reason);
    try {
      await this.#store.clear();
    } catch (error) {
      this.#report(error);
    }
    this.#tabs.tell({ id, ended: reason });
  }

  #hold(held: Held): void {
    this.#held = held;
    const { userId } = held.login;
    const state = this.state.value;
    if (state.name !== "signedIn" || state.userId !== userId) this.state.set({ name: "signedIn", userId });
  }

  #end(reason: SignOutReason): void {
    const ended = this.#held;
    this.#held = undefined;
    if (ended) this.state.set({ name: "signedOut", reason });
    else if (this.state.value.name === "loading") this.state.set({ name: "signedOut" });
    if (ended) this.signedOut.tell({ userId: ended.login.userId, reason });
  }

  /** Another tab has stored tokens, or has none any more. */
  async #heed({ id, ended }: Told): Promise<void> {
    if (ended) this.#gone = id;
    if (ended && this.#held?.login.id === id) return this.#end(ended === "login_ended" ? ended : "elsewhere");
    const before = this.#held?.login.id;
    for (const end = performance.now() + LOOK_MS; performance.now() < end; ) {
      await this.#tabs.alone(() => this.#newest());
      const now = this.#held?.login.id;
      // Ids ascend with time, so a greater one is of tokens behind those. A store that shows older ones than what was told is old.
      const isThere = ended ? now === undefined || now > id : now !== before || (now ?? "") >= id;
      if (isThere || this.#tabs.isClosed) return;
      await new Promise((wake) => setTimeout(wake, LOOK_AGAIN_MS));
    }
  }

  /** The service does not say if there was such a login, so it may be told twice. */
  async #tellEnded(patience: Patience): Promise<void> {
    for (const refreshToken of this.#ended) {
      const request = { method: "POST", path: "/v1/accounts/logout", body: { refreshToken }, keepalive: true };
      await patiently(patience, () => this.#http.ask(request));
      this.#ended.delete(refreshToken);
    }
  }

  #report(error: unknown): void {
    if (this.#options.onError) this.#options.onError(error);
    else console.error(error);
  }
}

function isSignedOut(error: unknown): boolean {
  return error instanceof Refusal && SIGNED_OUT.has(error.code);
}
