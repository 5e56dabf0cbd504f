/**
 * The pause between two tries of a refresh. It is told by the service, or doubles from 1 s up to 30 s, and is counted by the monotonic clock. Within it
 * nothing is asked: the caller is told the refusal of the last try again, with what is left of the pause.
 */

import { Refusal } from "../refusal.js";
import type { Clock } from "./held.js";

const PAUSE_MIN_MS = 1_000;
const PAUSE_MAX_MS = 30_000;

export class Pause {
  readonly #clock: Clock;
  #until = -Infinity;
  #because: Refusal | undefined;
  #failures = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Throws within the pause. */
  check(): void {
    const leftMs = this.#until - this.#clock.monotonic();
    if (this.#because && leftMs > 0) throw this.#told(this.#because, leftMs);
  }

  /** Begins one, and returns the refusal to be thrown. */
  after(refusal: Refusal): Refusal {
    const pauseMs = refusal.retryAfterMs ?? Math.min(PAUSE_MIN_MS * 2 ** this.#failures++, PAUSE_MAX_MS);
    this.#until = this.#clock.monotonic() + pauseMs;
    this.#because = refusal;
    return this.#told(refusal, pauseMs);
  }

  /** A try was answered, or there are other tokens. */
  end(): void {
    this.#because = undefined;
    this.#failures = 0;
  }

  #told({ code, message }: Refusal, retryAfterMs: number): Refusal {
    return new Refusal(code, message, Math.ceil(retryAfterMs));
  }
}
