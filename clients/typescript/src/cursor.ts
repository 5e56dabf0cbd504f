/**
 * Remembers what an inbox has stored: the ids of processed envelopes, and for each class up to which number everything is stored without a hole. Everything
 * here is memory of rows that a transaction writes; the rules are those of "Once in effect" and "Coming back" in docs/protocol.md.
 */

import { CLASSES, type EnvelopeClass, type ReadyData } from "./protocol.js";
import { STATE_TABLE, type Storage, type Transaction } from "./storage/storage.js";

/** An id that an operator may bring back is kept for as long as services keep messages. */
const KEPT_MS = 90 * 24 * 3_600_000;
/** Numbers above a hole that are remembered. */
const AHEAD_MAX = 10_000;

/** An envelope as far as it is remembered. */
export interface Stored {
  class: EnvelopeClass;
  inboxSeq: number;
  epoch: string;
  /** Set where it may come back after its end: it had more than one attempt. In ms since 1970. */
  keptUntil?: number;
}

/** Progress of a class within an epoch. */
interface Row {
  epoch: string;
  /** Everything up to here is stored. Not known without a device. */
  contiguous: number | undefined;
  /** The acks of everything that is stored up to here are confirmed. */
  confirmed: number;
}

const READY_FIELDS = {
  chat: ["ackedSeq", "settledSeq"],
  alert: ["alertAckedSeq", "alertSettledSeq"],
  event: ["eventAckedSeq", "eventSettledSeq"],
} as const;

export class Cursor {
  epoch = "";
  /** Ids of processed envelopes. */
  readonly stored = new Map<string, Stored>();
  /** Ids whose acks are not confirmed. */
  readonly unconfirmed = new Map<string, Stored>();
  readonly #table: string;
  readonly #device: string;
  readonly #rows = new Map<EnvelopeClass, Row>();
  readonly #ahead: Record<EnvelopeClass, Set<number>> = { chat: new Set(), alert: new Set(), event: new Set() };

  /** The highest numbers of what is stored in this epoch. */
  #highest: Record<EnvelopeClass, number> = { chat: 0, alert: 0, event: 0 };

  constructor(device: string) {
    this.#device = device;
    this.#table = `restante:inbox:${device}`;
  }

  /** Reads what an earlier run has stored. */
  async load(storage: Storage): Promise<void> {
    await storage.transaction(async (tx) => {
      for (const [id, stored] of await tx.entries(this.#table)) this.stored.set(id, stored as Stored);
      for (const one of CLASSES) {
        const row = (await tx.get(STATE_TABLE, this.#key(one))) as Row | undefined;
        if (row) this.#rows.set(one, row);
      }
      this.epoch = this.#rows.get("chat")?.epoch ?? "";
    });
    for (const [id, stored] of this.stored) {
      this.#see(stored);
      if (!this.#isConfirmed(stored)) this.unconfirmed.set(id, stored);
    }
  }

  /** The query parameters that say how far everything is stored. */
  position(): Record<string, string> {
    const pairs = CLASSES.map((one) => [one, this.#rows.get(one)] as const)
      .filter(([, row]) => row?.epoch === this.epoch && row.contiguous !== undefined)
      .map(([one, row]) => `${one}:${row!.contiguous}`);
    return pairs.length === 0 ? {} : { epoch: this.epoch, since: pairs.join(",") };
  }

  /** Takes over where the connection begins. Returns the ids that may be forgotten. */
  begin(data: ReadyData): string[] {
    const isSameEpoch = data.epoch === this.epoch;
    if (!isSameEpoch) this.#highest = { chat: 0, alert: 0, event: 0 };
    this.epoch = data.epoch;
    for (const one of CLASSES) {
      const acked = data[READY_FIELDS[one][0]];
      const row = this.#rows.get(one);
      const isGoingOn = isSameEpoch && data.resumed && row?.contiguous !== undefined;
      const confirmed = isSameEpoch && row ? row.confirmed : 0;
      this.#rows.set(one, { epoch: data.epoch, contiguous: isGoingOn ? row.contiguous : acked, confirmed });
      if (!isGoingOn) this.#ahead[one].clear();
    }
    return isSameEpoch ? [...this.stored].filter(([id, stored]) => this.#mayForget(data, id, stored)).map(([id]) => id) : [];
  }

  /** Writes the rows of all classes, and forgets these ids. */
  async writeBegin(tx: Transaction, forgotten: string[]): Promise<void> {
    for (const one of CLASSES) await this.writeClass(tx, one);
    for (const id of forgotten) await tx.delete(this.#table, id);
  }

  /** Writes that an envelope is processed. After the commit `took` is called. */
  async write(tx: Transaction, id: string, stored: Stored): Promise<void> {
    await tx.put(this.#table, id, stored);
    const row = this.#rows.get(stored.class);
    if (row && row.epoch === stored.epoch) await tx.put(STATE_TABLE, this.#key(stored.class), this.#after(row, stored));
  }

  /** Another client of the same device may have processed it meanwhile. */
  async isStored(tx: Transaction, id: string): Promise<boolean> {
    return this.stored.has(id) || (await tx.get(this.#table, id)) !== undefined;
  }

  took(id: string, stored: Stored): void {
    this.stored.set(id, stored);
    this.unconfirmed.set(id, stored);
    this.pass(stored);
    this.#see(stored);
    const row = this.#rows.get(stored.class);
    if (row?.epoch === stored.epoch) row.confirmed = Math.min(row.confirmed, stored.inboxSeq - 1);
  }

  /** Its number needs nothing any more, because it is stored or has ended. */
  pass(one: { class: EnvelopeClass; inboxSeq: number; epoch: string }): void {
    const row = this.#rows.get(one.class);
    if (row?.epoch !== one.epoch || row.contiguous === undefined) return;
    const ahead = this.#ahead[one.class];
    if (one.inboxSeq > row.contiguous && ahead.size < AHEAD_MAX) ahead.add(one.inboxSeq);
    row.contiguous = upTo(row.contiguous, ahead);
    for (const number of ahead) if (number <= row.contiguous) ahead.delete(number);
  }

  /** Passes the gap if everything before it is stored. Returns false where it is not. */
  passGap(gap: { class: EnvelopeClass; fromSeq: number; toSeq: number }): boolean {
    const row = this.#rows.get(gap.class);
    if (row?.contiguous === undefined || gap.fromSeq > row.contiguous + 1) return false;
    row.contiguous = Math.max(row.contiguous, gap.toSeq);
    this.pass({ class: gap.class, inboxSeq: gap.toSeq, epoch: row.epoch });
    return true;
  }

  async writeClass(tx: Transaction, one: EnvelopeClass): Promise<void> {
    await tx.put(STATE_TABLE, this.#key(one), this.#rows.get(one));
  }

  /** The acks of these ids are confirmed. Returns the classes whose row has changed. */
  confirm(ids: string[]): Set<EnvelopeClass> {
    const classes = new Set<EnvelopeClass>();
    for (const id of ids) {
      const stored = this.unconfirmed.get(id);
      if (stored?.epoch === this.epoch) classes.add(stored.class);
      this.unconfirmed.delete(id);
    }
    for (const one of classes) this.#rows.get(one)!.confirmed = this.#confirmedUpTo(one);
    return classes;
  }

  #confirmedUpTo(one: EnvelopeClass): number {
    let lowest = this.#highest[one] + 1;
    for (const open of this.unconfirmed.values()) if (open.class === one && open.epoch === this.epoch) lowest = Math.min(lowest, open.inboxSeq);
    return lowest - 1;
  }

  #see(stored: Stored): void {
    if (stored.epoch === this.epoch) this.#highest[stored.class] = Math.max(this.#highest[stored.class], stored.inboxSeq);
  }

  #after(row: Row, stored: Stored): Row {
    const contiguous = row.contiguous === undefined ? undefined : upTo(row.contiguous, this.#ahead[stored.class], stored.inboxSeq);
    return { ...row, contiguous, confirmed: Math.min(row.confirmed, stored.inboxSeq - 1) };
  }

  #isConfirmed(stored: Stored): boolean {
    const row = this.#rows.get(stored.class);
    return row?.epoch === stored.epoch && stored.inboxSeq <= row.confirmed;
  }

  #mayForget(data: ReadyData, id: string, stored: Stored): boolean {
    if (stored.epoch !== data.epoch || this.unconfirmed.has(id) || (stored.keptUntil ?? 0) > Date.now()) return false;
    const [acked, settled] = READY_FIELDS[stored.class];
    return stored.inboxSeq <= Math.min(data[settled], data[acked] ?? Infinity);
  }

  #key(one: EnvelopeClass): string {
    return `cursor:${this.#device}:${one}`;
  }
}

/** Until when to keep the id of an envelope that may have failed although it was processed. */
export function keptUntil(attempt: number): { keptUntil?: number } {
  return attempt > 1 ? { keptUntil: Date.now() + KEPT_MS } : {};
}

/** The last number without a hole behind `from`. */
function upTo(from: number, ahead: Set<number>, also?: number): number {
  let last = from;
  while (ahead.has(last + 1) || last + 1 === also) last += 1;
  return last;
}
