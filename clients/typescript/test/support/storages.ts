/** A storage in memory that a test makes fail, or whose results it holds back, as a busy disk does. */

import { MemoryStorage } from "../../src/storage/memory.js";
import type { Transaction } from "../../src/index.js";
import { Log, until } from "./signals.js";

export class ShakyStorage extends MemoryStorage {
  /** Transactions that fail before they have done anything. */
  readonly failed = new Log<Error>();
  /** True for the transactions that fail. */
  fails: () => boolean = () => false;
  readonly #holds: { at: string; isHit: boolean; hit: Log<true>; released: Promise<void> }[] = [];

  /** Holds back the result of the next transaction that reads all rows of a table (its name), or writes a row (name and key). `begun` resolves when there is one. */
  hold(at: string): { begun: Promise<void>; release: () => void } {
    let release = (): void => undefined;
    const hold = { at, isHit: false, hit: new Log<true>(), released: new Promise<void>((resolve) => (release = resolve)) };
    this.#holds.push(hold);
    return { begun: until(`a transaction at ${at}`, hold.hit, () => hold.isHit), release };
  }

  override async transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    if (this.fails()) {
      const error = new Error("the storage fails");
      this.failed.add(error);
      throw error;
    }
    const done = new Set<string>();
    const result = await super.transaction((tx) => work(noting(tx, (one) => done.add(one))));
    const hold = this.#holds.find(({ at, isHit }) => !isHit && done.has(at));
    if (hold) {
      hold.isHit = true;
      hold.hit.add(true);
      await hold.released;
    }
    return result;
  }
}

function noting(tx: Transaction, note: (at: string) => void): Transaction {
  return {
    get: (table, key) => tx.get(table, key),
    put: (table, key, value) => {
      note(`${table} ${key}`);
      return tx.put(table, key, value);
    },
    delete: (table, key) => tx.delete(table, key),
    entries: (table, after) => {
      note(table);
      return tx.entries(table, after);
    },
  };
}
