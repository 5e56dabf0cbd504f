/**
 * The token of a client: a text, or a function that fetches one. Says when the next one is due. It reads `exp` from the token without judging it,
 * and takes the service's clock from `ready`, because the clock of the machine may be wrong. From there it counts by the monotonic clock, because
 * the other one may be set.
 */

/** Before its end a token is renewed by this much, or by half of its life where that is less. */
const AHEAD_MS = 60_000;

/** A function is asked before each connection, and before the token ends. `refused` is the last token where the service has refused it: another one is wanted. */
export type TokenSource = string | ((refused?: string) => Promise<string> | string);

export class Token {
  readonly #source: TokenSource;
  #last: string | undefined;
  #expMs: number | undefined;
  #aheadOfHereMs = Date.now() - performance.now();

  constructor(source: TokenSource) {
    this.#source = source;
  }

  get isRenewable(): boolean {
    return typeof this.#source === "function";
  }

  async fetch(isLastRefused: boolean): Promise<string> {
    const token = typeof this.#source === "function" ? await this.#source(isLastRefused ? this.#last : undefined) : this.#source;
    this.#last = token;
    const { exp } = claimsOf(token);
    this.#expMs = typeof exp === "number" ? exp * 1000 : undefined;
    return token;
  }

  /** `serverTime` of `ready`, RFC 3339. */
  hearTime(serverTime: string): void {
    this.#aheadOfHereMs = Date.parse(serverTime) - performance.now();
  }

  /** The time of day by the service's clock, in ms. */
  now(): number {
    return performance.now() + this.#aheadOfHereMs;
  }

  /** In how many ms to renew it; `undefined` where it cannot be renewed, or does not say when it ends. */
  renewInMs(): number | undefined {
    if (!this.isRenewable || this.#expMs === undefined) return undefined;
    const left = this.#expMs - this.now();
    // Timers of JavaScript hold 31 bits.
    return Math.min(Math.max(left - AHEAD_MS, left / 2, 0), 2 ** 31 - 1);
  }
}

/** The claims of a token, not judged; none of one that cannot be read. */
export function claimsOf(token: string): { exp?: unknown; iat?: unknown } {
  try {
    return { ...(JSON.parse(atob(token.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/"))) as object) };
  } catch {
    return {};
  }
}
