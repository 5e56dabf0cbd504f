/**
 * Decides after how long a client comes back when a connection has ended, or that it stays away: the table of close codes in docs/protocol.md as a
 * pure function. The pause that grows has full jitter: chance between nothing and a bound that doubles from 0.5 s up to 30 s.
 */

import { SIGNED_OUT, STAY_AWAY } from "./protocol.js";

const PAUSE_MIN_MS = 500;
const PAUSE_MAX_MS = 30_000;
/** A told pause above this is not taken from a service: nothing waits without a bound. */
const TOLD_MAX_MS = 300_000;

/** The end of a connection, as far as it was told. */
export interface End {
  /** The close code; 1006 where there was none. */
  code: number;
  /** The code of the `error` before the close, or the reason of the close. */
  reason: string;
  /** Of the `error` before the close. */
  retryAfterMs?: number | undefined;
  /** Of `server:draining`. */
  reconnectAfterMs?: number | undefined;
}

export type Comeback =
  | { after: "told" | "chance"; ms: number }
  | { after: "never" };

/**
 * `attempt` counts connections in a row that did not become ready, from 0. `random` is between 0 and 1.
 * A client whose token cannot be renewed stays away after 4401.
 */
export function comeback(end: End, attempt: number, isTokenRenewable: boolean, random: number = Math.random()): Comeback {
  if (STAY_AWAY.has(end.code) || SIGNED_OUT.has(end.reason) || (end.code === 4401 && !isTokenRenewable)) return { after: "never" };
  if (end.code === 1012) return told(end.reconnectAfterMs ?? end.retryAfterMs ?? 0);
  if (end.code !== 4401 && end.retryAfterMs !== undefined) return told(end.retryAfterMs);
  return { after: "chance", ms: random * Math.min(PAUSE_MAX_MS, PAUSE_MIN_MS * 2 ** attempt) };
}

function told(ms: number): Comeback {
  return { after: "told", ms: Math.min(ms, TOLD_MAX_MS) };
}
