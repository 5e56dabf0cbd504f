/** A storage in memory that a test makes fail, or whose results it holds back, as a busy disk does. */

import { MemoryStorage } from "../../src/storage/memory.js";
import type { Transaction } from "../../src/index.js";
import { Log, until } from "./signals.js";

export class ShakyStorage extends MemoryStorage {
  /** Transactions that fail before they have done anything. */
  readonly failed = new Log<Error>();
  /** True for the transactions that fail. */
  fails: () => boolean = () => false;
  readonly #holds: { table: string; isHit: boolean; hit: Log<true>; released: Promise<void> }[] = [];

  /** Holds back the result of the next transaction that reads the rows of this table. `begun` resolves when there is one. */
  hold(table: string): { begun: Promise<void>; release: () => void } {
    let release = (): void => undefined;
    const hold = { table, isHit: false, hit: new Log<true>(), released: new Promise<void>((resolve) => (release = resolve)) };
    this.#holds.push(hold);
    return { begun: until(`a read of ${table}`, hold.hit, () => hold.isHit), release };
  }

  override async transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    if (this.fails()) {
      const error = new Error("the storage fails");
      this.failed.add(error);
      throw error;
    }
    const read = new Set<string>();
    const result = await super.transaction((tx) => work(noting(tx, (table) => read.add(table))));
    const hold = this.#holds.find(({ table, isHit }) => !isHit && read.has(table));
    if (hold) {
      hold.isHit = true;
      hold.hit.add(true);
      await hold.released;
    }
    return result;
  }
}

function noting(tx: Transaction, note: (table: string) => void): Transaction {
  return {
    get: (table, key) => tx.get(table, key),
    put: (table, key, value) => tx.put(table, key, value),
    delete: (table, key) => tx.delete(table, key),
    entries: (table, after) => {
      note(table);
      return tx.entries(table, after);
    },
  };
}
