/**
 * Keeps a client connected: fetches tokens, opens sockets one after another, waits between them as `comeback` says, renews the token while
 * one lives, and heeds what the machine says of its network. What the frames say is for others. Its state is observable.
 */

import { comeback, type End } from "./comeback.js";
import { Observable } from "./observable.js";
import type { Wire } from "./outbox.js";
import type { Frame, ReadyData } from "./protocol.js";
import { Refusal } from "./refusal.js";
import { lost, Socket, type WebSocketConstructor } from "./socket.js";
import { Token, type TokenSource } from "./token.js";

/** Bound of a pause while the machine says that it is offline: what it says may be wrong. */
const OFFLINE_MS = 30_000;
/** Time for a token to be fetched. */
const TOKEN_MS = 30_000;
/** Pause after a renewal that failed. */
const RENEW_AGAIN_MS = 5_000;

export type ConnectionState =
  | { name: "connecting" }
  | { name: "open"; userId: string; sessionId: string }
  /** It comes back in `ms`; `reason` is why the last connection ended. */
  | { name: "waiting"; ms: number; reason: string }
  | { name: "offline" }
  /** It does not come back by itself. */
  | { name: "stopped"; reason: string }
  | { name: "closed" };

export interface ConnectionOptions {
  /** Address of the service: `https://…`, `wss://…`, or without TLS. */
  url: string;
  token: TokenSource;
  /** Names this installation; see "Devices" in docs/protocol.md. */
  device?: string;
  /** Envelopes that may come before the first of them is acked, 1 to 500. */
  window?: number;
  /** The class to open sockets with, where the platform has none. */
  WebSocket?: WebSocketConstructor;
  /** Where `online`, `offline` and `visibilitychange` are told; in a page its window and document. */
  events?: EventTarget[];
}

/** The client above, at the turns of a connection. */
export interface ConnectionHooks {
  /** Query parameters of the next connection: how far the client has got. Where it rejects it is asked again after a pause. */
  position(): Promise<Record<string, string>>;
  /** Returns the reason to stay away, if there is one. */
  ready(data: ReadyData): string | undefined;
  frame(frame: Frame): void;
  ended(): void;
  report(error: unknown): void;
}

export class Connection implements Wire {
  readonly state = new Observable<ConnectionState>({ name: "connecting" });
  readonly #token: Token;
  readonly #options: ConnectionOptions;
  readonly #hooks: ConnectionHooks;
  /** Aborted it ends the listening to what the machine says. */
  readonly #listening = new AbortController();
  #socket: Socket | undefined;
  #isReady = false;
  #attempt = 0;
  #isClosed = false;
  #isOffline = false;
  /** The present pause was told by the service, and the sight of the page does not shorten it. */
  #isTold = false;
  #refusedBecause: string | undefined;
  #isTokenRefused = false;
  /** Ends the present pause. */
  #wake: (() => void) | undefined;
  /** Bound of the present wait: for a token, for its renewal, or between two connections. */
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: ConnectionOptions, hooks: ConnectionHooks) {
    this.#options = options;
    this.#hooks = hooks;
    this.#token = new Token(options.token);
    // An address that is none is told to the caller of `connect`.
    address(options, {});
    for (const target of options.events ?? platformTargets()) {
      for (const type of ["online", "offline", "visibilitychange"]) target.addEventListener(type, () => this.#heed(type), { signal: this.#listening.signal });
    }
  }

  /** Connects again and again until it is closed, or must stay away. */
  async run(): Promise<void> {
    while (!this.#isClosed) {
      this.state.set({ name: "connecting" });
      const end = await this.#live().catch((error: unknown) => this.#unopened(error));
      if (this.#isClosed) return;
      const next = comeback(end, this.#attempt, this.#token.isRenewable);
      if (this.#refusedBecause || next.after === "never") {
        this.state.set({ name: "stopped", reason: this.#refusedBecause ?? end.reason });
        return this.#listening.abort();
      }
      this.#attempt += 1;
      await this.#pause(next.ms, next.after, end.reason);
    }
  }

  /** Ends it for good and at once: no timer and no listener of it lives on, whatever it waits for. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#socket?.drop(1000, "closed");
    this.#wake?.();
    this.#listening.abort();
    this.state.set({ name: "closed" });
  }

  /** Sends a frame while connected; else it does nothing. */
  tell(event: string, data: object): void {
    if (this.#isReady) this.#socket?.tell(event, data);
  }

  /** Rejects with `Refusal`, at once where there is no connection. */
  ask(event: string, data: object): Promise<unknown> {
    if (this.#isReady && this.#socket) return this.#socket.ask(event, data);
    return Promise.reject(lost());
  }

  /** The time of day by the service's clock, in ms. */
  now(): number {
    return this.#token.now();
  }

  async #live(): Promise<End> {
    const url = address(this.#options, await this.#hooks.position());
    if (this.#isClosed) throw lost();
    const token = await this.#fetchToken();
    if (this.#isClosed) throw lost();
    // Nothing else can be a subprotocol, and no token of the service is anything else (RFC 7515).
    if (!/^[\w.-]+$/.test(token)) return { code: 4401, reason: "not_authenticated" };
    const Constructor = this.#options.WebSocket ?? (globalThis.WebSocket as unknown as WebSocketConstructor);
    const socket = new Socket(new Constructor(url, ["restante.v1", `bearer.${token}`]), (frame) => this.#hear(frame));
    this.#socket = socket;
    const end = await socket.ended;
    clearTimeout(this.#timer);
    this.#socket = undefined;
    if (this.#isReady) this.#hooks.ended();
    this.#isReady = false;
    this.#isTokenRefused = end.code === 4401;
    return end;
  }

  async #fetchToken(): Promise<string> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      this.#timer = timer = setTimeout(() => reject(new Error("the token did not come in time")), TOKEN_MS);
    });
    try {
      return await Promise.race([this.#token.fetch(this.#isTokenRefused), late]);
    } catch (error) {
      this.#report(error);
      throw error instanceof Refusal ? error : new Refusal("token_unavailable", "no token could be fetched");
    } finally {
      clearTimeout(timer);
    }
  }

  #unopened(error: unknown): End {
    if (error instanceof Refusal) return { code: 1006, reason: error.code, retryAfterMs: error.retryAfterMs };
    this.#report(error);
    return { code: 1006, reason: "cannot_open" };
  }

  /** Not of an attempt that the application has ended. */
  #report(error: unknown): void {
    if (!this.#isClosed) this.#hooks.report(error);
  }

  #hear(frame: Frame): void {
    if (frame.event === "ready") return this.#open(frame.data as ReadyData);
    try {
      this.#hooks.frame(frame);
    } catch (error) {
      // A handler of the application threw. The frames behind it must not suffer.
      this.#hooks.report(error);
    }
  }

  #open(data: ReadyData): void {
    this.#token.hearTime(data.serverTime);
    this.#isReady = true;
    this.#refusedBecause = this.#hooks.ready(data);
    if (this.#refusedBecause) return this.#socket?.drop(1000, this.#refusedBecause);
    this.#attempt = 0;
    this.state.set({ name: "open", userId: data.userId, sessionId: data.sessionId });
    this.#renewIn(this.#token.renewInMs());
  }

  #renewIn(ms: number | undefined): void {
    if (ms !== undefined) this.#timer = setTimeout(() => void this.#renew(), ms);
  }

  /** A renewal that fails changes nothing: the old token holds until its end, and then the connection closes with 4401. */
  async #renew(): Promise<void> {
    const socket = this.#socket;
    try {
      await socket?.ask("authenticate", { token: await this.#fetchToken() });
      if (socket === this.#socket) this.#renewIn(this.#token.renewInMs());
    } catch (error) {
      if (socket !== this.#socket) return;
      this.#report(error);
      this.#renewIn(RENEW_AGAIN_MS);
    }
  }

  async #pause(ms: number, after: "told" | "chance", reason: string): Promise<void> {
    this.state.set(this.#isOffline ? { name: "offline" } : { name: "waiting", ms, reason });
    this.#isTold = after === "told";
    await new Promise<void>((wake) => {
      this.#wake = wake;
      this.#timer = setTimeout(wake, this.#isOffline ? OFFLINE_MS : ms);
    });
    clearTimeout(this.#timer);
  }

  #heed(type: string): void {
    if (type === "offline") {
      this.#isOffline = true;
      this.#socket?.drop(1006, "offline");
    } else if (type === "online") {
      this.#isOffline = false;
      this.#wake?.();
    } else if (globalThis.document?.visibilityState !== "hidden") {
      if (!this.#isTold) this.#wake?.();
      this.#socket?.probe();
    }
  }
}

function platformTargets(): EventTarget[] {
  return globalThis.document ? [window, document] : [];
}

function address(options: ConnectionOptions, position: Record<string, string>): string {
  const url = new URL("ws", options.url.replace(/^http/, "ws").replace(/\/?$/, "/"));
  const { device, window } = options;
  const own = { ...(device !== undefined && { device }), ...(window !== undefined && { window: String(window) }) };
  url.search = new URLSearchParams({ batch: "1", ...own, ...position }).toString();
  return url.href;
}
