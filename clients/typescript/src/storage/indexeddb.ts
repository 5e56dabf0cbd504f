/**
 * Storage in IndexedDB, for browsers. All tables lie in one object store, under keys of table and key. An application that writes to object stores
 * of its own hands in its database and their names, and finds the transaction as `native`. IndexedDB ends a transaction that waits for
 * anything else: await nothing in it but its own reads and writes. A database that was opened here is opened again by the next transaction where it
 * could not be, where the browser has closed it, and where another tab wanted it deleted.
 */

import type { Storage, Transaction } from "./storage.js";

const STORE = "restante";

export interface IndexedDbOptions {
  /** Name of the database, `restante` where it is left out. */
  name?: string;
  /** A database of the application that has an object store `restante` without a key path. Without it one is opened. */
  database?: IDBDatabase;
  /** Object stores of the application that take part in each transaction. */
  stores?: string[];
  /** The `indexedDB` to open it with, for tests. */
  factory?: IDBFactory;
}

export function indexedDbStorage(options: IndexedDbOptions = {}): Storage {
  const name = options.database?.name ?? options.name ?? "restante";
  const stores = [STORE, ...(options.stores ?? [])];
  const given = options.database && Promise.resolve(options.database);
  let database: Promise<IDBDatabase> | undefined = given;
  const forget = (): void => {
    database = given;
  };
  const begin = async (): Promise<IDBTransaction> => {
    try {
      database ??= open(name, options.factory ?? indexedDB, forget);
      return (await database).transaction(stores, "readwrite", { durability: "strict" });
    } catch (error) {
      forget();
      throw error;
    }
  };
  return {
    name,
    async transaction(work) {
      const native = await begin();
      const committed = ended(native);
      committed.catch(() => undefined);
      try {
        const result = await work(new IndexedDbTransaction(native));
        await committed;
        return result;
      } catch (error) {
        try {
          native.abort();
        } catch {
          // It has ended already: by an error of its own, or because the work waited for something else.
        }
        throw error;
      }
    },
  };
}

class IndexedDbTransaction implements Transaction {
  readonly native: IDBTransaction;

  constructor(native: IDBTransaction) {
    this.native = native;
  }

  get(table: string, key: string): Promise<unknown> {
    return done(this.#store().get([table, key]));
  }

  async put(table: string, key: string, value: unknown): Promise<void> {
    await done(this.#store().put(value, [table, key]));
  }

  async delete(table: string, key: string): Promise<void> {
    await done(this.#store().delete([table, key]));
  }

  async entries(table: string, after?: string): Promise<[string, unknown][]> {
    // An array stands above every text, so [table, []] is the end of the table.
    const range = IDBKeyRange.bound([table, after ?? ""], [table, []], after !== undefined);
    const [keys, values] = await Promise.all([done(this.#store().getAllKeys(range)), done(this.#store().getAll(range))]);
    return keys.map((key, n) => [(key as [string, string])[1], values[n]]);
  }

  #store(): IDBObjectStore {
    return this.native.objectStore(STORE);
  }
}

/** `forget` is called when it is closed again: by the browser, or for another tab that wants it deleted. */
async function open(name: string, factory: IDBFactory, forget: () => void): Promise<IDBDatabase> {
  const request = factory.open(name, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE);
  const opened = await done(request);
  opened.onclose = forget;
  opened.onversionchange = () => {
    opened.close();
    forget();
  };
  return opened;
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function ended(native: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    native.oncomplete = () => resolve();
    native.onabort = () => reject(native.error ?? new Error("the transaction was aborted"));
  });
}
