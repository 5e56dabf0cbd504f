/** Waiting for facts: a promise that resolves when something observable has become true. Each wait has a bound, and says what it waited for. */

const BOUND_MS = 60_000;

interface Subscribable {
  subscribe(listener: () => void): () => void;
}

/** Resolves when `isTrue` is, looked at now and whenever the source tells. */
export function until(what: string, source: Subscribable, isTrue: () => boolean, boundMs = BOUND_MS): Promise<void> {
  return new Promise((resolve, reject) => {
    let end: (() => void) | undefined;
    const timer = setTimeout(() => {
      end?.();
      reject(new Error(`waited in vain for: ${what}`));
    }, boundMs);
    const look = (): void => {
      if (!isTrue()) return;
      clearTimeout(timer);
      end?.();
      resolve();
    };
    end = source.subscribe(look);
    look();
  });
}

/** A list that tells when something is added. */
export class Log<T> implements Subscribable {
  readonly items: T[] = [];
  readonly #listeners = new Set<() => void>();

  add = (item: T): void => {
    this.items.push(item);
    for (const listener of [...this.#listeners]) listener();
  };

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when there are this many. */
  reaches(count: number, what: string, boundMs?: number): Promise<void> {
    return until(`${count} ${what}`, this, () => this.items.length >= count, boundMs);
  }
}
