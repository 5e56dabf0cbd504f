/**
 * An envelope in the hands of the application: its data, and the three ways in which its processing may end. `once` does an effect in the same transaction
 * as the id, `ack` says that it is processed, `reject` that it cannot be. The first of them counts.
 */

import type { Transaction } from "./storage/storage.js";

/** The work of an inbox for an envelope. */
export interface Settling {
  /** Stores the id, after the work if there is one. False: it was stored before, and the work was not called. */
  store(work?: (tx: Transaction) => Promise<void>): Promise<boolean>;
  reject(reason: string, isFinal: boolean): Promise<void>;
}

export interface Receipt {
  /**
   * Calls `work` in a transaction with the id of the envelope, unless the id is stored already, and acks after the commit. Resolves with
   * whether `work` was called. When `work` throws nothing is stored, and the promise rejects.
   */
  once(work: (tx: Transaction) => Promise<void>): Promise<boolean>;
  /** It is processed. Resolves when that is stored here; the ack goes out soon, and again until it is confirmed. */
  ack(): Promise<void>;
  /** It cannot be processed. Its sender reads the reason when its attempts are over, at once with `final`. */
  reject(reason: string, options?: { final?: boolean }): Promise<void>;
}

/** An envelope with its receipt. */
export type Received<Data> = Data & Receipt;

export class Settlement implements Receipt {
  isSettled = false;
  readonly #settling: Settling;

  constructor(settling: Settling) {
    this.#settling = settling;
    // The application may take the methods apart from the object.
    for (const name of ["once", "ack", "reject"] as const) Object.defineProperty(this, name, { value: this[name].bind(this) });
  }

  async once(work: (tx: Transaction) => Promise<void>): Promise<boolean> {
    const isFirst = await this.#settling.store(work);
    this.isSettled = true;
    return isFirst;
  }

  async ack(): Promise<void> {
    if (this.isSettled) return;
    await this.#settling.store();
    this.isSettled = true;
  }

  async reject(reason: string, options: { final?: boolean } = {}): Promise<void> {
    if (this.isSettled) return;
    this.isSettled = true;
    await this.#settling.reject(reason, options.final ?? false);
  }
}

/** The data and the receipt as one object. */
export function received<Data extends object>(data: Data, settlement: Settlement): Received<Data> {
  const { once, ack, reject } = settlement;
  return { ...data, once, ack, reject };
}
