/**
 * Hands messages one after another to a `for await` loop. A message is processed when the loop asks for the next one; a loop that ends leaves its
 * last message unprocessed, unless it was acked, and the next loop begins with it.
 */

export class Handover<T> implements AsyncIterableIterator<T> {
  #offered: { item: T; done: (isProcessed: boolean) => void } | undefined;
  #isTaken = false;
  #asking: ((result: IteratorResult<T>) => void) | undefined;
  #isOver = false;

  /** Resolves when the loop has come back for the next one (true), or has ended (false). */
  offer(item: T): Promise<boolean> {
    if (this.#isOver) return Promise.resolve(false);
    return new Promise((done) => {
      this.#offered = { item, done };
      this.#isTaken = false;
      this.#give();
    });
  }

  next(): Promise<IteratorResult<T>> {
    if (this.#offered && this.#isTaken) this.#finish(true);
    if (this.#isOver) return Promise.resolve({ done: true, value: undefined });
    return new Promise((asking) => {
      this.#asking = asking;
      this.#give();
    });
  }

  async return(): Promise<IteratorResult<T>> {
    this.#isOver = true;
    if (this.#offered) this.#finish(false);
    this.#asking?.({ done: true, value: undefined });
    this.#asking = undefined;
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #give(): void {
    if (!this.#offered || this.#isTaken || !this.#asking) return;
    this.#isTaken = true;
    this.#asking({ done: false, value: this.#offered.item });
    this.#asking = undefined;
  }

  #finish(isProcessed: boolean): void {
    const { done } = this.#offered!;
    this.#offered = undefined;
    done(isProcessed);
  }
}
