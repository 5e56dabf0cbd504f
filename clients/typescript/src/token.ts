/**
 * The token of a client: a text, or a function that fetches one. Says when the next one is due. It reads `exp` from the token without judging it,
 * and takes the service's clock from `ready`, because the clock of the machine may be wrong.
 */

/** Before its end a token is renewed by this much, or by half of its life where that is less. */
const AHEAD_MS = 60_000;

export type TokenSource = string | (() => Promise<string> | string);

export class Token {
  readonly #source: TokenSource;
  #expMs: number | undefined;
  #aheadOfHereMs = 0;

  constructor(source: TokenSource) {
    this.#source = source;
  }

  get isRenewable(): boolean {
    return typeof this.#source === "function";
  }

  async fetch(): Promise<string> {
    const token = typeof this.#source === "function" ? await this.#source() : this.#source;
    this.#expMs = expMs(token);
    return token;
  }

  /** `serverTime` of `ready`, RFC 3339. */
  hearTime(serverTime: string): void {
    this.#aheadOfHereMs = Date.parse(serverTime) - Date.now();
  }

  /** The time of day by the service's clock, in ms. */
  now(): number {
    return Date.now() + this.#aheadOfHereMs;
  }

  /** In how many ms to renew it; `undefined` where it cannot be renewed, or does not say when it ends. */
  renewInMs(): number | undefined {
    if (!this.isRenewable || this.#expMs === undefined) return undefined;
    const left = this.#expMs - this.now();
    // Timers of JavaScript hold 31 bits.
    return Math.min(Math.max(left - AHEAD_MS, left / 2, 0), 2 ** 31 - 1);
  }
}

function expMs(token: string): number | undefined {
  try {
    const claims = atob(token.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/"));
    const { exp } = JSON.parse(claims) as { exp?: unknown };
    return typeof exp === "number" ? exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}
