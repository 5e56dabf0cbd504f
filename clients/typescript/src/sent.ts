/**
 * The statuses of the user's own messages, as observable state that survives: from `pending` over `sent` to `delivered` and `read`, or `failed`; per
 * recipient, and summed up. What a `message:status` says is stored in one transaction with its marks cursor, so nothing of it is
 * lost and nothing is asked for twice. The newest messages are kept; older ones that wait for nothing here are forgotten.
 */

import { Listeners } from "./observable.js";
import type { RecipientStatus, SendData, SentData, StatusData } from "./protocol.js";
import type { Storage, Transaction } from "./storage/storage.js";

export const SENT_TABLE = "restante:sent";
const KEPT_MAX = 1_000;

export interface SentMessage {
  messageId: string;
  /** `pending`: in the outbox. `sent`: stored by the service. `failed`: refused for good, see `code`. */
  state: "pending" | "sent" | "failed";
  /** The stable code of the refusal; `expired` where its time came before it could be sent. */
  code?: string;
  chatId?: string;
  to?: string;
  /** Its number in the chat, once it is sent. */
  seq?: number;
  createdAt?: string;
  /** Number of recipients of the chat, where it is known. */
  expected?: number;
  recipients: Record<string, { status: RecipientStatus; reason?: string }>;
  /** In chats of more than 50 members. */
  counts?: { delivered: number; read: number };
}

export interface StatusSummary {
  /** `delivered` and `read` of all recipients who did not fail, where their number is known; else of one of them. `failed`: of none. */
  status: "pending" | "sent" | "delivered" | "read" | "failed";
  /** Recipients; who has read it counts as delivered too. */
  delivered: number;
  read: number;
  failed: number;
  expected: number | undefined;
}

/** Sums up what is known of all recipients of a message. */
export function summary(message: SentMessage): StatusSummary {
  const has = (...wanted: RecipientStatus[]): number => Object.values(message.recipients).filter((one) => wanted.includes(one.status)).length;
  const delivered = message.counts?.delivered ?? has("delivered", "read");
  const read = message.counts?.read ?? has("read");
  const failed = has("failed", "expired");
  const needed = Math.max((message.expected ?? 1) - failed, 0);
  let status: StatusSummary["status"] = message.state;
  if (status === "sent" && read > 0 && read >= needed) status = "read";
  else if (status === "sent" && delivered > 0 && delivered >= needed) status = "delivered";
  else if (status === "sent" && failed > 0 && needed === 0) status = "failed";
  return { status, delivered, read, failed, expected: message.expected };
}

export class SentMessages extends Listeners<SentMessage> {
  readonly #storage: Storage;
  readonly #share: (changed: SentMessage[]) => void;
  readonly #messages = new Map<string, SentMessage>();

  /** `share` tells the other clients of the storage, which `take` it. */
  constructor(storage: Storage, share: (changed: SentMessage[]) => void) {
    super();
    this.#storage = storage;
    this.#share = share;
  }

  /** Reads what an earlier run has stored. */
  async load(): Promise<void> {
    const entries = await this.#storage.transaction((tx) => tx.entries(SENT_TABLE));
    this.take(entries.map(([, message]) => message as SentMessage));
  }

  get(messageId: string): SentMessage | undefined {
    return this.#messages.get(messageId.toLowerCase());
  }

  /** All that are known, the oldest first. */
  list(): SentMessage[] {
    return [...this.#messages.values()];
  }

  /** Puts a new message into a transaction of the outbox. `publish` is called with what it returns after the commit. */
  async begin(tx: Transaction, data: SendData, expected: number | undefined): Promise<SentMessage[]> {
    // A message that is sent a second time keeps what is known of it.
    const known = (await tx.get(SENT_TABLE, data.messageId)) as SentMessage | undefined;
    const message: SentMessage = {
      messageId: data.messageId,
      recipients: {},
      ...known,
      state: "pending",
      ...(data.chatId !== undefined && { chatId: data.chatId }),
      ...(data.to !== undefined && { to: data.to }),
      ...(expected !== undefined && { expected }),
    };
    await tx.put(SENT_TABLE, message.messageId, message);
    await this.#forgetOldest(tx);
    return [message];
  }

  /** Changes a message in a transaction. Returns nothing of one that is not known, and where `change` answers `false`. */
  async change(tx: Transaction, messageId: string, change: (message: SentMessage) => unknown): Promise<SentMessage[]> {
    const message = (await tx.get(SENT_TABLE, messageId)) as SentMessage | undefined;
    if (!message || change(message) === false) return [];
    await tx.put(SENT_TABLE, messageId, message);
    return [message];
  }

  /** Tells of what a transaction has changed, here and to the other clients of the storage. */
  publish(changed: SentMessage[]): void {
    if (changed.length === 0) return;
    this.take(changed);
    this.#share(changed);
  }

  /** The service has stored it. */
  async accept(tx: Transaction, data: SentData): Promise<SentMessage[]> {
    return this.change(tx, data.messageId, (message) => {
      message.state = "sent";
      message.chatId = data.chatId;
      message.seq = data.seq;
      message.createdAt = data.createdAt;
      delete message.code;
    });
  }

  /** Takes in what a `message:status` says. Of a kind that is not known nothing is changed. */
  async hear(tx: Transaction, data: StatusData): Promise<SentMessage[]> {
    const changed: SentMessage[] = [];
    const raise = async (ids: string[], status: RecipientStatus, reason?: string): Promise<void> => {
      for (const id of ids) changed.push(...(await this.change(tx, id, (message) => raised(message, data as { userId: string }, status, reason))));
    };
    if (data.kind === "messages") await raise(data.messageIds, data.status, data.reason);
    if (data.kind === "counts") {
      changed.push(...(await this.change(tx, data.messageId, (message) => {
        message.counts = { delivered: data.deliveredCount, read: data.readCount };
        message.expected = data.memberCount;
      })));
    }
    if (data.kind === "mark") {
      const except = data.except ?? [];
      await raise(this.#upTo(data.chatId, data.seq, except.map((one) => one.messageId)), data.status);
      for (const one of except) await raise([one.messageId], one.status, one.reason ?? undefined);
    }
    return changed;
  }

  #upTo(chatId: string, seq: number, except: string[]): string[] {
    const isMeant = (one: SentMessage): boolean =>
      one.chatId === chatId && one.seq !== undefined && one.seq <= seq && !except.includes(one.messageId);
    return this.list().filter(isMeant).map((one) => one.messageId);
  }

  /** Tells of what has changed, here alone. */
  take(messages: SentMessage[]): void {
    for (const message of messages) {
      this.#messages.set(message.messageId, message);
      this.tell(message);
    }
  }

  async #forgetOldest(tx: Transaction): Promise<void> {
    if (this.#messages.size < KEPT_MAX) return;
    for (const message of this.#messages.values()) {
      if (message.state === "pending") continue;
      this.#messages.delete(message.messageId);
      return tx.delete(SENT_TABLE, message.messageId);
    }
  }
}

const RANKS: RecipientStatus[] = ["sent", "delivered", "read", "expired", "failed"];

/** Keeps the greater status, but after an operator has put a message back, which is the only way back. */
function raised(message: SentMessage, { userId }: { userId: string }, status: RecipientStatus, reason?: string): boolean {
  const known = message.recipients[userId];
  if (known && reason !== "requeued" && RANKS.indexOf(known.status) >= RANKS.indexOf(status)) return false;
  message.recipients[userId] = { status, ...(reason !== undefined && { reason }) };
  return true;
}
