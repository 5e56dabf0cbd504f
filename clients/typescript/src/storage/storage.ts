/**
 * A place that survives, as the client needs it: tables of JSON values under text keys, and transactions over them. The outbox, the ids of what
 * was processed, cursors and statuses lie in tables whose names begin with `restante:`; an application may keep its own effects in tables of any
 * other name, in the same transaction. An application with a database of its own implements these two interfaces over it.
 */

/** The table of what each client of a storage has once: its user, its cursors, the last key of its outbox. */
export const STATE_TABLE = "restante:state";

/** Reads and writes within one transaction. Reads see the writes before them. */
export interface Transaction {
  get(table: string, key: string): Promise<unknown>;
  /** `value` is anything that structured cloning, for files JSON, can copy. */
  put(table: string, key: string, value: unknown): Promise<void>;
  delete(table: string, key: string): Promise<void>;
  /** The pairs of a table in ascending order of their keys, those above `after` only. */
  entries(table: string, after?: string): Promise<[key: string, value: unknown][]>;
  /** The transaction of the database under it, for an application that writes to object stores of its own. */
  readonly native?: unknown;
}

export interface Storage {
  /** Names what clients share: those of one name share one outbox, one lock and one channel. */
  readonly name: string;
  /**
   * Runs `work` in a transaction that no other one is in at the same time, and resolves when its writes are durable.
   * When `work` throws nothing of it is written, and the promise rejects with the same error.
   */
  transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T>;
}
