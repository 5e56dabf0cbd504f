/**
 * The tokens that a program holds, and their age. The age is counted by the monotonic clock from the moment at which they were asked for, which is
 * before the service made them, so a token is never taken for younger than it is. The time of day is a hint: it can only make a token older.
 */

import { claimsOf } from "../token.js";
import { uuidv7 } from "../uuid.js";
import type { LoginTokens } from "../wire.js";
import type { StoredLogin } from "./store.js";

/** Before its end a token is renewed by this much, or by half of its life where that is less; the client renews its connections then. */
const AHEAD_MS = 60_000;
/** A timer of the client may be early by this much, or by a tenth of the life. */
const SLACK_MS = 1_000;
/** Life of a token that does not say how long it lasts. */
const LIFETIME_MS = 300_000;

/** The clocks of a machine, in ms. */
export interface Clock {
  /** Never goes back, and nobody sets it. It may stand still while the machine sleeps. */
  monotonic(): number;
  /** The time of day, which people and servers set. */
  wall(): number;
}

export const platformClock: Clock = { monotonic: () => performance.now(), wall: () => Date.now() };

/** A moment on both clocks. */
export interface Moment {
  monotonic: number;
  wall: number;
}

export function momentOf(clock: Clock): Moment {
  return { monotonic: clock.monotonic(), wall: clock.wall() };
}

export class Held {
  readonly login: StoredLogin;
  readonly #asked: Moment;
  readonly #clock: Clock;

  private constructor(login: StoredLogin, asked: Moment, clock: Clock) {
    this.login = login;
    this.#asked = asked;
    this.#clock = clock;
  }

  /** Of an answer to a question that was asked at this moment. */
  static answered({ userId, accessToken, refreshToken }: LoginTokens, asked: Moment, clock: Clock): Held {
    const { iat, exp } = claimsOf(accessToken);
    const lifetimeMs = typeof iat === "number" && typeof exp === "number" ? (exp - iat) * 1000 : LIFETIME_MS;
    return new Held({ id: uuidv7(), userId, accessToken, refreshToken, lifetimeMs, askedAt: asked.wall }, asked, clock);
  }

  /** Of a store. The monotonic clock of another program says nothing here; where the time of day makes no sense the token is taken for old. */
  static loaded(login: StoredLogin, clock: Clock): Held {
    const now = momentOf(clock);
    const age = now.wall - login.askedAt;
    return new Held(login, { monotonic: now.monotonic - (age >= 0 ? age : Infinity), wall: login.askedAt }, clock);
  }

  /** The access token is to be renewed. */
  get isDue(): boolean {
    const { lifetimeMs } = this.login;
    // A store may hold anything: so written, times that are no numbers make it due.
    return !(this.#leftMs > Math.min(AHEAD_MS, lifetimeMs / 2) + Math.min(SLACK_MS, lifetimeMs / 10));
  }

  /** The access token is worth something, as far as is known here. */
  get isAlive(): boolean {
    return this.#leftMs > 0;
  }

  get #leftMs(): number {
    const age = Math.max(this.#clock.monotonic() - this.#asked.monotonic, this.#clock.wall() - this.#asked.wall);
    return this.login.lifetimeMs - age;
  }
}
