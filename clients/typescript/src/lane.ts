/** Work of one connection, done one piece after another. What has not begun can be dropped when the connection ends, so nothing piles up behind a piece that waits. */

export class Lane {
  #waiting: (() => Promise<void>)[] = [];
  #isBusy = false;
  #running: Promise<void> = Promise.resolve();
  readonly #report: (error: unknown) => void;

  constructor(report: (error: unknown) => void) {
    this.#report = report;
  }

  push(work: () => Promise<void>): void {
    this.#waiting.push(work);
    if (!this.#isBusy) this.#running = this.#run();
  }

  /** Resolves when the piece that has begun, and what waits behind it, is done. */
  idle(): Promise<void> {
    return this.#running;
  }

  /** Forgets what has not begun. */
  clear(): void {
    this.#waiting = [];
  }

  async #run(): Promise<void> {
    this.#isBusy = true;
    for (let work = this.#waiting.shift(); work; work = this.#waiting.shift()) await work().catch(this.#report);
    this.#isBusy = false;
  }
}
