/**
 * Storage in memory: for tests, for programs that may forget, and the ground that the storage in a file stands on. Writes are kept apart
 * until the transaction ends, so one that throws leaves nothing behind.
 */

import { Serial } from "../serial.js";
import { uuidv7 } from "../uuid.js";
import type { Storage, Transaction } from "./storage.js";

/** A write of a transaction: without a value it deletes. */
export type Write = [table: string, key: string, value?: unknown];

export class MemoryStorage implements Storage {
  readonly name: string;
  protected readonly tables = new Map<string, Map<string, unknown>>();
  readonly #serial = new Serial();

  constructor(name: string = `memory-${uuidv7()}`) {
    this.name = name;
  }

  async transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    const { result, durable } = await this.#serial.run(async () => {
      const staged = new Staged(this.tables);
      const result = await work(staged);
      const writes = staged.writes();
      for (const write of writes) this.apply(write);
      return { result, durable: this.persist(writes) };
    });
    await durable;
    return result;
  }

  /**
   * Resolves when the writes of one transaction, and of those before it, are durable. The next transaction does not wait for it, so several may
   * share one sync. In memory there is nothing to do.
   */
  protected async persist(_writes: Write[]): Promise<void> {}

  protected apply([table, key, ...value]: Write): void {
    let rows = this.tables.get(table);
    if (!rows) this.tables.set(table, (rows = new Map()));
    if (value.length === 0) rows.delete(key);
    else rows.set(key, value[0]);
  }
}

/** A storage that lives as long as the program. Clients that are given the same one share an outbox. */
export function memoryStorage(name?: string): MemoryStorage {
  return new MemoryStorage(name);
}

class Staged implements Transaction {
  readonly #tables: Map<string, Map<string, unknown>>;
  readonly #staged = new Map<string, Map<string, Write>>();

  constructor(tables: Map<string, Map<string, unknown>>) {
    this.#tables = tables;
  }

  writes(): Write[] {
    return [...this.#staged.values()].flatMap((rows) => [...rows.values()]);
  }

  async get(table: string, key: string): Promise<unknown> {
    const write = this.#staged.get(table)?.get(key);
    return structuredClone(write ? write[2] : this.#tables.get(table)?.get(key));
  }

  async put(table: string, key: string, value: unknown): Promise<void> {
    this.#stage([table, key, structuredClone(value)]);
  }

  async delete(table: string, key: string): Promise<void> {
    this.#stage([table, key]);
  }

  async entries(table: string, after?: string): Promise<[string, unknown][]> {
    const rows = new Map(this.#tables.get(table));
    for (const [key, write] of this.#staged.get(table) ?? []) {
      if (write.length === 2) rows.delete(key);
      else rows.set(key, write[2]);
    }
    const pairs = [...rows].filter(([key]) => after === undefined || key > after);
    return structuredClone(pairs.sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  #stage(write: Write): void {
    let rows = this.#staged.get(write[0]);
    if (!rows) this.#staged.set(write[0], (rows = new Map()));
    rows.set(write[1], write);
  }
}
