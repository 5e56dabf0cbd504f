/** Refusals that pass: which they are, and the wait for one where the caller wants it. */

import { LATER } from "./protocol.js";
import { Refusal, type RefusalCode } from "./refusal.js";

/** Beside `LATER`: nothing was refused for good, but what was asked for may have been done. */
const UNKNOWN: ReadonlySet<string> = new Set<RefusalCode>(["connection_lost", "no_answer", "token_unavailable", "keys_unavailable", "restart", "internal"]);
/** The service wants fewer requests, and has done nothing. */
const THROTTLED: ReadonlySet<string> = new Set<RefusalCode>(["rate_limited", "busy"]);

export interface Patience {
  /** A request that is `rate_limited` or `busy` is made again after its `retryAfterMs`, for at most this long in all. Left out: its refusal is thrown at once. */
  waitMs?: number;
}

/** The same request may be answered otherwise later: after `retryAfterMs` where it is there, else after a pause that grows. */
export function isRetryable(error: unknown): error is Refusal {
  return error instanceof Refusal && (LATER.has(error.code) || UNKNOWN.has(error.code));
}

/** Asks again while it is throttled and the caller waits. */
export async function patiently<T>({ waitMs = 0 }: Patience, ask: () => Promise<T>): Promise<T> {
  const end = performance.now() + waitMs;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      const pauseMs = error instanceof Refusal && THROTTLED.has(error.code) ? error.retryAfterMs : undefined;
      if (pauseMs === undefined || performance.now() + pauseMs > end) throw error;
      await new Promise((wake) => setTimeout(wake, pauseMs));
    }
  }
}
