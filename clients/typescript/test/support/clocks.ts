/** The clocks and timers of the program, which stand still until a test moves them: both clocks with time, and the time of day alone. */

import type { TestContext } from "node:test";
import { settled } from "./sockets.js";

/** Time is moved by so much at once, or by less. */
const STEP_MS = 500;

export class Clocks {
  #monotonic = 5_000;
  #wall = 1_800_000_000_000;
  readonly #test: TestContext;

  /** Until the end of the test. */
  constructor(test: TestContext) {
    this.#test = test;
    test.mock.method(performance, "now", () => this.#monotonic);
    test.mock.method(Date, "now", () => this.#wall);
    test.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  }

  /** Time passes, and what is due is done. */
  async pass(ms: number): Promise<void> {
    await settled();
    for (let left = ms; left > 0; left -= STEP_MS) {
      const step = Math.min(left, STEP_MS);
      this.#monotonic += step;
      this.#wall += step;
      this.#test.mock.timers.tick(step);
      await settled();
    }
  }

  /** Somebody sets the time of day, or the machine has slept, where the monotonic clock stood still. */
  set(byMs: number): void {
    this.#wall += byMs;
  }
}
