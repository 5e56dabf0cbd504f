/**
 * Notices that are told as they happen and stored nowhere: who is there, and who types. A subscription to presence is asked for again on each connection. A
 * `typing` is over after 10 s without a repetition, because a node that dies says nothing.
 */

import { Listeners } from "./observable.js";
import { IDS_MAX, type PresenceData, type TypingData } from "./protocol.js";
import type { Refusal } from "./refusal.js";
import type { Wire } from "./outbox.js";

const TYPING_HEARD_MS = 10_000;
const TYPING_REPEAT_MS = 3_000;

export interface Presence {
  userId: string;
  online: boolean;
  /** RFC 3339; `null` while it is not known. */
  lastSeen: string | null;
}

/** Users who are there. Listeners are told of each change. */
export class PresenceState extends Listeners<Presence> {
  readonly #wire: Wire;
  readonly #wanted = new Set<string>();
  readonly #users = new Map<string, Presence>();

  constructor(wire: Wire) {
    super();
    this.#wire = wire;
  }

  get(userId: string): Presence | undefined {
    return this.#users.get(userId);
  }

  /** Wants to be told of these users, on this connection and later ones. Rejects where the service refuses it. */
  async watch(userIds: string[]): Promise<void> {
    for (const id of userIds) this.#wanted.add(id);
    for (let at = 0; at < userIds.length; at += IDS_MAX) {
      const part = userIds.slice(at, at + IDS_MAX);
      const data = await this.#wire.ask("presence:subscribe", { userIds: part }).catch((error: Refusal) => {
        // Too many are watched. The next connection would be told the same.
        if (error.code === "invalid") for (const id of part) this.#wanted.delete(id);
        throw error;
      });
      for (const user of (data as { users: PresenceData[] }).users) this.#hear(user);
    }
  }

  ready(): Promise<void> {
    return this.watch([...this.#wanted]);
  }

  online({ userId }: { userId: string }): void {
    this.#hear({ userId, online: true, lastSeen: null });
  }

  offline({ userId, lastSeen }: { userId: string; lastSeen: string }): void {
    this.#hear({ userId, online: false, lastSeen });
  }

  #hear(user: Presence): void {
    this.#users.set(user.userId, user);
    this.tell(user);
  }
}

/** Users who type, by chat. Listeners are told the chat in which it has changed. */
export class TypingState extends Listeners<string> {
  readonly #wire: Wire;
  readonly #chats = new Map<string, Map<string, ReturnType<typeof setTimeout>>>();
  readonly #saidAt = new Map<string, number>();

  constructor(wire: Wire) {
    super();
    this.#wire = wire;
  }

  /** The users who type in a chat. */
  in(chatId: string): string[] {
    return [...(this.#chats.get(chatId)?.keys() ?? [])];
  }

  /** Call it at each key: it is told as often as it must be. */
  say(chatId: string, isTyping: boolean): void {
    const saidAt = this.#saidAt.get(chatId);
    if (isTyping ? saidAt !== undefined && performance.now() - saidAt < TYPING_REPEAT_MS : saidAt === undefined) return;
    if (isTyping) this.#saidAt.set(chatId, performance.now());
    else this.#saidAt.delete(chatId);
    this.#wire.tell("typing", { chatId, typing: isTyping });
  }

  hear({ chatId, userId, typing }: TypingData): void {
    const users = this.#chats.get(chatId) ?? new Map<string, ReturnType<typeof setTimeout>>();
    const had = users.get(userId);
    clearTimeout(had);
    if (typing) users.set(userId, setTimeout(() => this.hear({ chatId, userId, typing: false }), TYPING_HEARD_MS));
    else users.delete(userId);
    if (users.size > 0) this.#chats.set(chatId, users);
    else this.#chats.delete(chatId);
    if (typing !== (had !== undefined)) this.tell(chatId);
  }

  /** The connection has ended: nothing more is known. */
  ended(): void {
    this.#saidAt.clear();
    for (const [chatId, users] of this.#chats) for (const userId of users.keys()) this.hear({ chatId, userId, typing: false });
  }
}
