/**
 * Requests of the user that the service has not confirmed: sends, reads and recalls, in the order in which they were made. They lie in
 * storage from before their first try until their answer. One client of a storage sends at a time, the one that holds the lock. The rules are
 * those of "The order of sends" in docs/protocol.md: a refusal with "later" stops its chat, a final one is told and holds up nothing.
 */

import { LATER, type SendData, type SentData } from "./protocol.js";
import type { Refusal } from "./refusal.js";
import type { SentMessages } from "./sent.js";
import { Serial } from "./serial.js";
import type { Refused } from "./socket.js";
import { STATE_TABLE, type Storage, type Transaction } from "./storage/storage.js";

const TABLE = "restante:outbox";
/** Frames without an answer. It keeps small what is refused at once. */
const ON_THEIR_WAY_MAX = 32;
const WAIT_MAX_MS = 30_000;
/** Time after which it looks again in any case: what waits for long may expire meanwhile. */
const LOOK_MS = 2_000;

export type OutboxEvent = "message:send" | "message:read" | "message:recall";

export interface OutboxData {
  messageId?: string;
  chatId?: string;
  to?: string;
  seq?: number;
  expiresAt?: string;
}

/** A request that was refused for good. */
export interface RefusedEntry {
  event: OutboxEvent;
  data: OutboxData;
  code: string;
  message: string;
}

/** The listeners of an outbox. */
export interface Told {
  refused(entry: RefusedEntry): void;
  /** Something was put, which the clients that share the storage are to read. */
  put(): void;
  report(error: unknown): void;
}

/** The connection as the outbox and the inbox need it. */
export interface Wire {
  ask(event: string, data: object): Promise<unknown>;
  tell(event: string, data: object): void;
  /** The time of day by the service's clock, in ms. */
  now(): number;
}

interface Entry {
  key: string;
  event: OutboxEvent;
  data: OutboxData;
  /** Refusals with "later" that were its own, in this turn as sender. */
  refusals: number;
  isRefused: boolean;
  /** It has its answer, and is being removed. */
  isOver: boolean;
}

export class Outbox {
  readonly #storage: Storage;
  readonly #wire: Wire;
  readonly #sent: SentMessages;
  readonly #told: Told;
  readonly #refreshes = new Serial();
  readonly #entries = new Map<string, Entry>();
  readonly #onTheirWay = new Set<Entry>();
  /** Places that wait, and until when. */
  readonly #waits = new Map<string, number>();
  /** Chats of users that were written to by name. */
  readonly #chats = new Map<string, string>();
  /** The present turn of this client as sender, if it is one. What was read in an earlier turn is old. */
  #turn: object | undefined;
  #lastKey = "";
  /** The last read has failed. */
  #isBehind = false;
  #pausedUntil = 0;
  #isCareful = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(storage: Storage, wire: Wire, sent: SentMessages, told: Told) {
    this.#storage = storage;
    this.#wire = wire;
    this.#sent = sent;
    this.#told = told;
  }

  /** Stores an entry. It survives from the moment in which the promise resolves. */
  async put(event: OutboxEvent, data: OutboxData, expected?: number): Promise<void> {
    const changed = await this.#storage.transaction(async (tx) => {
      const seq = event === "message:read" ? await takeReads(tx, data) : undefined;
      await tx.put(TABLE, await nextKey(tx), { event, data: seq === undefined ? data : { ...data, seq } });
      return event === "message:send" ? this.#sent.begin(tx, data as SendData, expected) : [];
    });
    this.#sent.publish(changed);
    this.#told.put();
    await this.refresh();
  }

  /** This client is the sender from now on, on a new connection. */
  async start(): Promise<void> {
    this.stop();
    this.#turn = {};
    await this.refresh();
  }

  /** The connection has ended. What was on its way goes again with the next one. */
  stop(): void {
    this.#turn = undefined;
    clearTimeout(this.#timer);
    this.#entries.clear();
    this.#onTheirWay.clear();
    this.#waits.clear();
    [this.#lastKey, this.#pausedUntil, this.#isCareful] = ["", 0, false];
  }

  /** Reads what came into storage since the last look, from whatever client. */
  async refresh(): Promise<void> {
    await this.#refreshes.run(async () => {
      const turn = this.#turn;
      if (!turn) return;
      const rows = await this.#storage.transaction((tx) => tx.entries(TABLE, this.#lastKey));
      // The connection may have ended meanwhile, and another one begun: that reads all of it again.
      if (turn !== this.#turn) return;
      this.#isBehind = false;
      for (const [key, row] of rows) {
        const entry = { ...(row as Pick<Entry, "event" | "data">), key, refusals: 0, isRefused: false, isOver: false };
        this.#lastKey = key;
        if (this.#isStored(entry)) void this.#remove(entry, async () => []);
        else this.#entries.set(key, entry);
      }
    }).catch((error: unknown) => {
      this.#isBehind = true;
      this.#told.report(error);
    });
    this.#sendWhatMayGo();
  }

  #sendWhatMayGo(): void {
    if (!this.#turn) return;
    const now = performance.now();
    const busy = new Set([...this.#onTheirWay].map((entry) => this.#place(entry)));
    for (const [place, until] of this.#waits) if (until <= now && !busy.has(place)) this.#waits.delete(place);
    for (const entry of this.#entries.values()) {
      if (this.#pausedUntil > now || this.#onTheirWay.size >= (this.#isCareful ? 1 : ON_THEIR_WAY_MAX)) break;
      if (entry.isOver || this.#onTheirWay.has(entry)) continue;
      if (this.#hasExpired(entry)) void this.#expire(entry);
      else if (!this.#waits.has(this.#place(entry)) && !this.#isAhead(entry)) void this.#send(entry);
    }
    this.#lookAgain(now);
  }

  #lookAgain(now: number): void {
    clearTimeout(this.#timer);
    if (this.#entries.size === 0 && !this.#isBehind) return;
    const times = [...this.#waits.values(), this.#pausedUntil].filter((time) => time > now);
    this.#timer = setTimeout(() => (this.#isBehind ? void this.refresh() : this.#sendWhatMayGo()), Math.min(LOOK_MS, ...times.map((time) => time - now)));
  }

  /** The name of those that wait together: sends to a chat, however it is named; the reads of a chat; a recall for itself. */
  #place({ event, data }: Entry): string {
    if (event === "message:recall") return `recall ${data.messageId}`;
    const chat = data.chatId ?? this.#chats.get(data.to!);
    return chat === undefined ? `to ${data.to}` : `${event} ${chat}`;
  }

  /** The service has told this client of it, and the client that sent it went before it had its answer. */
  #isStored({ event, data }: Entry): boolean {
    return event === "message:send" && this.#sent.get(data.messageId!)?.state === "sent";
  }

  /** A recall waits until its message is stored. */
  #isAhead(entry: Entry): boolean {
    const isItsSend = (other: Entry): boolean => other.event === "message:send" && other.data.messageId === entry.data.messageId;
    return entry.event === "message:recall" && [...this.#entries.values()].some(isItsSend);
  }

  #hasExpired({ data }: Entry): boolean {
    return data.expiresAt !== undefined && Date.parse(data.expiresAt) <= this.#wire.now();
  }

  async #expire(entry: Entry): Promise<void> {
    if (entry.isRefused) this.#wire.tell("message:skip", { messageId: entry.data.messageId });
    await this.#fail(entry, "expired", "its time came before it could be sent");
  }

  async #send(entry: Entry): Promise<void> {
    this.#onTheirWay.add(entry);
    try {
      const data = await this.#wire.ask(entry.event, entry.data);
      this.#isCareful = false;
      await this.#confirm(entry, data);
    } catch (error) {
      const { code, message } = error as Refusal;
      if (this.#entries.get(entry.key) !== entry || code === "connection_lost") return;
      this.#onTheirWay.delete(entry);
      if (LATER.has(code)) this.#later(entry, error as Refused);
      else await this.#fail(entry, code, message);
    }
    this.#sendWhatMayGo();
  }

  async #confirm(entry: Entry, data: unknown): Promise<void> {
    if (entry.event === "message:send" && entry.data.to !== undefined) this.#chats.set(entry.data.to, (data as SentData).chatId);
    await this.#remove(entry, (tx) => (entry.event === "message:send" ? this.#sent.accept(tx, data as SentData) : Promise.resolve([])));
  }

  async #fail(entry: Entry, code: string, message: string): Promise<void> {
    await this.#remove(entry, async (tx) => {
      if (entry.event !== "message:send") return [];
      return this.#sent.change(tx, entry.data.messageId!, (one) => Object.assign(one, { state: "failed", code }));
    });
    this.#told.refused({ event: entry.event, data: entry.data, code, message });
  }

  async #remove(entry: Entry, change: (tx: Transaction) => ReturnType<SentMessages["change"]>): Promise<void> {
    entry.isOver = true;
    this.#onTheirWay.delete(entry);
    try {
      const changed = await this.#storage.transaction(async (tx) => {
        await tx.delete(TABLE, entry.key);
        return change(tx);
      });
      this.#sent.publish(changed);
    } catch (error) {
      // It stays in storage, and goes again on the next connection: the service answers a repetition with the first result.
      this.#told.report(error);
    }
    if (this.#entries.get(entry.key) === entry) this.#entries.delete(entry.key);
  }

  #later(entry: Entry, { code, retryAfterMs = 1_000, behind }: Refused): void {
    const grown = behind === undefined ? Math.min(retryAfterMs * 2 ** entry.refusals++, WAIT_MAX_MS) : retryAfterMs;
    const until = performance.now() + Math.max(retryAfterMs, grown);
    entry.isRefused = true;
    const place = this.#place(entry);
    this.#waits.set(place, Math.max(until, this.#waits.get(place) ?? 0));
    if (behind !== undefined || (code !== "unavailable" && code !== "rate_limited")) return;
    this.#pausedUntil = until;
    this.#isCareful = true;
  }
}

/** Takes out what is to be read of the chat already, and returns up to where all of it is. */
async function takeReads(tx: Transaction, { chatId, seq = 0 }: OutboxData): Promise<number> {
  let last = seq;
  for (const [key, row] of await tx.entries(TABLE)) {
    const { event, data } = row as Pick<Entry, "event" | "data">;
    if (event !== "message:read" || data.chatId !== chatId) continue;
    last = Math.max(last, data.seq!);
    await tx.delete(TABLE, key);
  }
  return last;
}

/** Keys ascend over all clients of the storage, whatever their clocks say. */
async function nextKey(tx: Transaction): Promise<string> {
  const number = (((await tx.get(STATE_TABLE, "lastOutboxKey")) as number | undefined) ?? 0) + 1;
  await tx.put(STATE_TABLE, "lastOutboxKey", number);
  return String(number).padStart(16, "0");
}
