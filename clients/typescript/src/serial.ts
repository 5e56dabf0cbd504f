/** Runs pieces of asynchronous work one after another, in the order in which they were given. One that fails does not hold up the next. */

export class Serial {
  #tail: Promise<unknown> = Promise.resolve();

  /** Settles as `work` does. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(work);
    this.#tail = result.catch(() => undefined);
    return result;
  }

  /** Resolves when everything that was given so far is done. */
  async idle(): Promise<void> {
    await this.#tail;
  }
}
