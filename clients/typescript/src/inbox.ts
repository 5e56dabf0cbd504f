/**
 * Takes messages, notices of recalls, alerts and events, one after another within a class. Each is given to the application unless its id is
 * stored, stored when it is processed, and acked after that. The connection may end at any time: what was not processed comes again,
 * and what was is known by its id.
 */

import { Cursor, keptUntil, type Stored } from "./cursor.js";
import { IDS_MAX, type EnvelopeClass, type EnvelopeHead, type EventData, type GapData, type MessageData, type ReadyData, type RecalledData } from "./protocol.js";
import { Handover } from "./handover.js";
import { Lane } from "./lane.js";
import { received, Settlement, type Received } from "./received.js";
import type { Refusal } from "./refusal.js";
import { Serial } from "./serial.js";
import type { Storage, Transaction } from "./storage/storage.js";
import type { Wire } from "./outbox.js";

/** Acks that go out at once; fewer wait for others. */
const ACKS_AT_ONCE = 16;
const ACK_WAIT_MS = 10;
const ACK_AGAIN_MS = 2_000;

export type Handler<Data> = (data: Received<Data>) => unknown;

export interface InboxOptions {
  /** Takes the messages, where `messages()` does not. */
  onMessage?: Handler<MessageData>;
  /** Takes away what a message said. A recall of another connection of this user has no `recallId`. */
  onRecall?: Handler<RecalledData>;
  /** Takes alerts and events. Without it they are acked, and nothing is done. */
  onEvent?: Handler<EventData>;
  /** Inbox numbers that do not come, with the reason; see `queue:gap` in docs/protocol.md. */
  onGap?: (gap: GapData) => void;
  /** `hand`: only `ack` and `once` ack. Else what a handler has finished is acked. */
  acks?: "auto" | "hand";
  /** A handler that throws rejects its envelope. Else it is not acked, and comes again after the service's time for acks. */
  rejects?: boolean;
}

/** A `for await` loop over the messages. */
type Loop = Handover<Received<MessageData>>;

/** An envelope that arrived, with the way in which the application gets it. */
type Envelope = EnvelopeHead & { id: string; epoch: string; give(settlement: Settlement): Promise<boolean> };

export class Inbox {
  readonly #storage: Storage;
  readonly #wire: Wire;
  readonly #options: InboxOptions;
  readonly #report: (error: unknown) => void;
  readonly #cursor: Cursor;
  readonly #writes = new Serial();
  readonly #lanes: Record<EnvelopeClass, Lane>;
  /** Attempts of what the application has and has not settled. */
  readonly #open = new Map<string, number>();
  readonly #acks = new Set<string>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #handover: Loop | undefined;
  #consumer: ((handover: Loop | undefined) => void) | undefined;
  #isClosed = false;

  constructor(storage: Storage, device: string | undefined, wire: Wire, options: InboxOptions, report: (error: unknown) => void) {
    this.#storage = storage;
    this.#wire = wire;
    this.#options = options;
    this.#report = report;
    this.#cursor = new Cursor(device ?? "");
    this.#lanes = { chat: new Lane(report), alert: new Lane(report), event: new Lane(report) };
  }

  load(): Promise<void> {
    return this.#cursor.load(this.#storage);
  }

  position(): Record<string, string> {
    return this.#cursor.position();
  }

  /** Ids that are remembered, for those who watch their number. */
  get storedCount(): number {
    return this.#cursor.stored.size;
  }

  ready(data: ReadyData): void {
    const forgotten = this.#cursor.begin(data);
    for (const id of forgotten) this.#cursor.stored.delete(id);
    this.#write((tx) => this.#cursor.writeBegin(tx, forgotten)).catch(this.#report);
    for (const id of this.#cursor.unconfirmed.keys()) this.#acks.add(id);
    this.#flushSoon();
  }

  /** Envelopes that wait for their turn come again on the next connection. */
  ended(): void {
    for (const lane of Object.values(this.#lanes)) lane.clear();
    clearTimeout(this.#timer);
    this.#acks.clear();
  }

  message(data: MessageData): void {
    this.#take(data, data.messageId, (settlement) => this.#give(received(data, settlement), settlement));
  }

  recall(data: RecalledData): void {
    const handler = this.#options.onRecall;
    const give = async (settlement: Settlement): Promise<boolean> => {
      await handler?.(received(data, settlement));
      return true;
    };
    if (data.recallId !== undefined) return this.#take(data as EnvelopeHead & RecalledData, data.recallId, give);
    // Nothing to ack. It is told after the messages before it, one of which it may be about.
    const nothing = { store: async () => true, reject: async () => undefined };
    this.#lanes.chat.push(async () => void (await give(new Settlement(nothing))));
  }

  event(data: EventData): void {
    this.#take(data, data.eventId, async (settlement) => {
      await this.#options.onEvent?.(received(data, settlement));
      return true;
    });
  }

  gap(data: GapData): void {
    this.#lanes[data.class].push(async () => {
      this.#options.onGap?.(data);
      const { epoch } = this.#cursor;
      if (!this.#cursor.passGap(data)) return;
      await this.#write((tx) => this.#cursor.writeClass(tx, data.class));
      // Another connection may have begun meanwhile, where the number is of something else.
      if (epoch === this.#cursor.epoch) this.#wire.tell("message:delivered", { upTo: data.toSeq, class: data.class });
    });
  }

  /** One loop at a time. */
  messages(): AsyncIterableIterator<Received<MessageData>> {
    if (this.#options.onMessage) throw new Error("the messages go to onMessage");
    void this.#handover?.return();
    this.#handover = new Handover();
    this.#consumer?.(this.#handover);
    return this.#handover;
  }

  /** Ends the loop, and resolves when handlers have finished what they have, and the acks of it are answered. */
  async close(): Promise<void> {
    this.#isClosed = true;
    void this.#handover?.return();
    this.#consumer?.(undefined);
    const lanes = Object.values(this.#lanes);
    for (const lane of lanes) lane.clear();
    await Promise.all(lanes.map((lane) => lane.idle()));
    await this.#writes.idle();
    await this.#flush();
  }

  #take(head: EnvelopeHead, id: string, give: (settlement: Settlement) => Promise<boolean>): void {
    const envelope = { class: head.class, inboxSeq: head.inboxSeq, attempt: head.attempt, id, epoch: this.#cursor.epoch, give };
    this.#lanes[head.class].push(() => this.#process(envelope));
  }

  async #process(envelope: Envelope): Promise<void> {
    const { id, attempt } = envelope;
    if (this.#cursor.stored.has(id)) return this.#again(envelope);
    if (this.#open.get(id) === attempt) return;
    this.#open.set(id, attempt);
    const settlement = new Settlement({
      store: (work) => this.#store(envelope, work),
      reject: (reason, isFinal) => this.#reject(envelope, reason, isFinal),
    });
    let isProcessed: boolean;
    try {
      isProcessed = await envelope.give(settlement);
    } catch (error) {
      this.#report(error);
      if (this.#options.rejects) await settlement.reject(error instanceof Error ? error.message : String(error));
      if (!settlement.isSettled) this.#open.delete(id);
      return;
    }
    if (!isProcessed) this.#open.delete(id);
    else if (this.#options.acks !== "hand") await settlement.ack().finally(() => this.#open.delete(id));
  }

  /** It is processed, and its ack was lost. It may have a new number. */
  async #again(envelope: Envelope): Promise<void> {
    await this.#remember(envelope);
    this.#ack(envelope.id);
  }

  /** Resolves with whether the message was processed. Where nobody asks for messages it waits. */
  async #give(message: Received<MessageData>, settlement: Settlement): Promise<boolean> {
    if (this.#options.onMessage) {
      await this.#options.onMessage(message);
      return true;
    }
    while (!this.#isClosed) {
      const handover = this.#handover ?? (await new Promise<Loop | undefined>((resolve) => (this.#consumer = resolve)));
      if (!handover) break;
      if ((await handover.offer(message)) || settlement.isSettled) return true;
      if (this.#handover === handover) this.#handover = undefined;
    }
    return false;
  }

  async #store(envelope: Envelope, work?: (tx: Transaction) => Promise<void>): Promise<boolean> {
    if (this.#cursor.stored.has(envelope.id)) return false;
    const isFirst = await this.#remember(envelope, work);
    this.#open.delete(envelope.id);
    this.#ack(envelope.id);
    return isFirst;
  }

  #remember({ id, class: of, inboxSeq, epoch, attempt }: Envelope, work?: (tx: Transaction) => Promise<void>): Promise<boolean> {
    const stored: Stored = { class: of, inboxSeq, epoch, ...keptUntil(attempt) };
    return this.#writes.run(async () => {
      const isFirst = await this.#storage.transaction(async (tx) => {
        const isNew = !(await this.#cursor.isStored(tx, id));
        if (isNew) await work?.(tx);
        await this.#cursor.write(tx, id, stored);
        return isNew;
      });
      this.#cursor.took(id, stored);
      return isFirst;
    });
  }

  async #reject(envelope: Envelope, reason: string, isFinal: boolean): Promise<void> {
    this.#open.delete(envelope.id);
    try {
      const { status } = (await this.#wire.ask("message:reject", { messageId: envelope.id, reason, final: isFinal })) as { status: string };
      if (status === "sent") return;
      this.#cursor.pass(envelope);
      await this.#write((tx) => this.#cursor.writeClass(tx, envelope.class));
    } catch (error) {
      // Without an answer it comes again, and is processed again.
      if ((error as Refusal).code !== "connection_lost") this.#report(error);
    }
  }

  #ack(id: string): void {
    this.#acks.add(id);
    if (this.#acks.size >= ACKS_AT_ONCE) void this.#flush();
    else this.#flushSoon();
  }

  #flushSoon(ms: number = ACK_WAIT_MS): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#flush(), ms);
  }

  async #flush(): Promise<void> {
    clearTimeout(this.#timer);
    const ids = [...this.#acks].slice(0, IDS_MAX);
    if (ids.length === 0) return;
    for (const id of ids) this.#acks.delete(id);
    if (this.#acks.size > 0) this.#flushSoon();
    try {
      await this.#wire.ask("message:delivered", { messageIds: ids });
      const classes = this.#cursor.confirm(ids);
      await this.#write(async (tx) => {
        for (const one of classes) await this.#cursor.writeClass(tx, one);
      });
    } catch (error) {
      // After the next `ready` every ack without an answer is repeated.
      const { code, retryAfterMs } = error as Refusal;
      if (code === "connection_lost") return;
      this.#report(error);
      for (const id of ids) this.#acks.add(id);
      this.#flushSoon(retryAfterMs ?? ACK_AGAIN_MS);
    }
  }

  #write(work: (tx: Transaction) => Promise<void>): Promise<void> {
    return this.#writes.run(() => this.#storage.transaction(work));
  }
}
