/**
 * The client of one user on one installation: puts connection, outbox, inbox and states together. It knows which frame is for whom and nothing of
 * how they do it. Whatever a frame changes that must survive is in storage before it is acked or before its cursor is kept.
 */

import { Connection, type ConnectionOptions, type ConnectionState } from "./connection.js";
import { Inbox, type Handler, type InboxOptions } from "./inbox.js";
import { platformChannel, platformLocks, type Channel, type Locks } from "./locks.js";
import { PresenceState, TypingState } from "./notices.js";
import { Listeners, type Observable } from "./observable.js";
import { Outbox, type RefusedEntry } from "./outbox.js";
import type { ChatReadData, EventData, Frame, GapData, Json, MessageContent, MessageData, ReadyData, RecalledData, SentData, StatusData } from "./protocol.js";
import type { Received } from "./received.js";
import { SentMessages, type SentMessage } from "./sent.js";
import { Serial } from "./serial.js";
import { memoryStorage } from "./storage/memory.js";
import { STATE_TABLE, type Storage, type Transaction } from "./storage/storage.js";
import { uuidv7 } from "./uuid.js";

/** Time that a closing client gives its last acks. */
const CLOSE_MS = 2_000;

/** The types of an application's events and their data. */
export type EventMap = Record<string, unknown>;

/** An event of one of the types of a map. */
export type TypedEvent<Events> = { [Type in keyof Events & string]: EventData<Type, Events[Type]> }[keyof Events & string];

export interface ClientOptions<Events = EventMap> extends ConnectionOptions, Omit<InboxOptions, "onEvent"> {
  /** Where outbox, ids and statuses lie. In memory where it is left out: then nothing survives the program. */
  storage?: Storage;
  onEvent?: Handler<TypedEvent<Events>>;
  /** A send, read or recall that was refused for good. A send is `failed` in `sent` too. */
  onRefused?: (entry: RefusedEntry) => void;
  /** A message that another connection of this user has sent. */
  onSentElsewhere?: (message: MessageContent) => void;
  /** Any frame that nothing else here is for: `chat:added`, `contact:requested`, `queue:drained`, and what later services will say. */
  onFrame?: (frame: Frame) => void;
  /** Takes errors that end nothing: errors of handlers, of storage, of fetching tokens. `console.error` where it is left out. */
  onError?: (error: unknown) => void;
  /** Stand-ins for Web Locks and BroadcastChannel. */
  locks?: Locks;
  channel?: (name: string) => Channel;
}

export interface NewMessage {
  /** A UUIDv7. Chosen where it is left out. */
  messageId?: string;
  /** The chat, or with `to` the user; exactly one of them. */
  chatId?: string;
  to?: string;
  content: string;
  messageType?: string;
  metadata?: Json;
  /** RFC 3339. */
  expiresAt?: string;
  /** Number of recipients of the chat. It makes `summary` exact in groups; with `to` it is 1. */
  recipients?: number;
}

/** A message between the clients of a storage: statuses that have changed, or that something was put into the outbox. */
type Shared = { sent: SentMessage[] } | { sent?: never; outbox: true };

export class Client<Events = EventMap> {
  readonly state: Observable<ConnectionState>;
  /** The user's own messages and what became of them. */
  readonly sent: SentMessages;
  readonly presence: PresenceState;
  readonly typing: TypingState;
  /** `chat:read`: the user has read a chat up to there on another device. */
  readonly readElsewhere = new Listeners<ChatReadData>();
  /** Those of `onFrame`, for what is built upon a client, such as `people`. */
  readonly frames = new Listeners<Frame>();
  readonly #options: ClientOptions<Events>;
  readonly #storage: Storage;
  /** Nothing is posted after the close. */
  #channel: Channel | undefined;
  readonly #locks: Locks;
  readonly #connection: Connection;
  readonly #outbox: Outbox;
  readonly #inbox: Inbox;
  /** Frames whose effect is stored with a marks cursor. */
  readonly #marks = new Serial();
  readonly #marksKey: string;
  #loaded: Promise<void> | undefined;
  /** Every status of this connection is stored, so that a later cursor may be kept. */
  #isGapless = true;
  #userId: string | undefined;
  #sending: AbortController | undefined;

  constructor(options: ClientOptions<Events>) {
    this.#options = options;
    this.#storage = options.storage ?? memoryStorage();
    const report = (error: unknown): void => this.#report(error);
    const channel = (options.channel ?? platformChannel)(`restante:${this.#storage.name}`);
    this.#channel = channel;
    this.#locks = options.locks ?? platformLocks();
    this.#marksKey = `marks:${options.device ?? ""}`;
    this.#connection = new Connection(options, {
      position: () => this.#position(),
      ready: (data) => this.#ready(data),
      frame: (frame) => this.#hear(frame),
      ended: () => this.#ended(),
      report,
    });
    this.state = this.#connection.state;
    const wire = this.#connection;
    this.sent = new SentMessages(this.#storage, (sent) => this.#post({ sent }));
    this.presence = new PresenceState(wire);
    this.typing = new TypingState(wire);
    this.#outbox = new Outbox(this.#storage, wire, this.sent, { refused: (entry) => this.#refused(entry), put: () => this.#post({ outbox: true }), report });
    this.#inbox = new Inbox(this.#storage, options.device, wire, options as unknown as InboxOptions, report);
    channel.addEventListener("message", ({ data }) => {
      const { sent } = data as Shared;
      if (sent) this.sent.take(sent);
      else void this.#outbox.refresh();
    });
    this.#connection.run().catch(report);
  }

  /** Stores a message to be sent, and resolves with its id once it survives. What becomes of it is in `sent`. */
  async send(message: NewMessage): Promise<string> {
    const { recipients, ...data } = { ...message, messageId: (message.messageId ?? uuidv7()).toLowerCase() };
    await this.#load();
    await this.#outbox.put("message:send", data, recipients ?? (message.to === undefined ? undefined : 1));
    return data.messageId;
  }

  /** Everything of the chat up to this number is read. It survives like a send. */
  read(chatId: string, seq: number): Promise<void> {
    return this.#load().then(() => this.#outbox.put("message:read", { chatId, seq }));
  }

  /** Takes a message of the user back. It survives like a send. */
  recall(messageId: string): Promise<void> {
    return this.#load().then(() => this.#outbox.put("message:recall", { messageId }));
  }

  /** The messages, for one `for await` loop. Each is acked when the loop asks for the next one. */
  messages(): AsyncIterableIterator<Received<MessageData>> {
    return this.#inbox.messages();
  }

  /** Asks the service for anything else that docs/protocol.md names. Rejects with `Refusal`; repeats nothing. */
  request(event: string, data: object = {}): Promise<unknown> {
    return this.#connection.ask(event, data);
  }

  /** Ends it for good, after its last acks. What waits in the outbox stays in storage. */
  async close(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const inTime = new Promise((resolve) => (timer = setTimeout(resolve, CLOSE_MS)));
    await Promise.race([this.#inbox.close().catch((error: unknown) => this.#report(error)), inTime]);
    clearTimeout(timer);
    this.#connection.close();
    this.#ended();
    await this.#marks.idle();
    this.#channel?.close();
    this.#channel = undefined;
  }

  /** Reads what an earlier run has stored. Where it fails the next connection or the next send tries it again. */
  #load(): Promise<void> {
    return (this.#loaded ??= this.#read().catch((error: unknown) => {
      this.#loaded = undefined;
      throw error;
    }));
  }

  async #read(): Promise<void> {
    this.#userId = (await this.#storage.transaction((tx) => tx.get(STATE_TABLE, "user"))) as string | undefined;
    await this.#inbox.load();
    await this.sent.load();
  }

  async #position(): Promise<Record<string, string>> {
    await this.#load();
    await this.#marks.idle();
    this.#isGapless = true;
    const marks = (await this.#storage.transaction((tx) => tx.get(STATE_TABLE, this.#marksKey))) as string | undefined;
    return { ...this.#inbox.position(), ...(marks !== undefined && { marks }) };
  }

  #ready(data: ReadyData): string | undefined {
    // The outbox and the ids of one user must not be taken for those of another.
    if (this.#userId !== undefined && this.#userId !== data.userId) return "other_user";
    this.#userId = data.userId;
    this.#keep(data, (tx) => tx.put(STATE_TABLE, "user", data.userId).then(() => []));
    this.#inbox.ready(data);
    this.presence.ready().catch((error: unknown) => this.#report(error));
    this.#sendWhileConnected();
    return undefined;
  }

  /** One client of a storage sends at a time: the others wait for the lock. */
  #sendWhileConnected(): void {
    this.#sending = new AbortController();
    const { signal } = this.#sending;
    const ended = new Promise((resolve) => signal.addEventListener("abort", resolve));
    const work = async (): Promise<void> => {
      if (signal.aborted) return;
      await this.#outbox.start();
      await ended;
    };
    this.#locks.request(`restante:${this.#storage.name}`, { signal }, work).catch((error: unknown) => {
      if (!signal.aborted) this.#report(error);
    });
  }

  #ended(): void {
    this.#outbox.stop();
    this.#sending?.abort();
    this.#inbox.ended();
    this.typing.ended();
  }

  #hear(frame: Frame): void {
    const data = frame.data;
    switch (frame.event) {
      case "message:receive":
        return this.#inbox.message(data as MessageData);
      case "message:batch":
        return (data as { messages: MessageData[] }).messages.forEach((message) => this.#inbox.message(message));
      case "event:receive":
        return this.#inbox.event(data as EventData);
      case "event:batch":
        return (data as { events: EventData[] }).events.forEach((event) => this.#inbox.event(event));
      case "message:recalled":
        return this.#inbox.recall(data as RecalledData);
      case "queue:gap":
        return this.#inbox.gap(data as GapData);
      case "message:status":
        return this.#keep(data as StatusData, (tx) => this.sent.hear(tx, data as StatusData));
      case "chat:read":
        this.readElsewhere.tell(data as ChatReadData);
        return this.#keep(data as ChatReadData, async () => []);
      case "message:sent":
        return this.#sentElsewhere(data as SentData & MessageContent);
      case "typing":
        return this.typing.hear(data as Parameters<TypingState["hear"]>[0]);
      case "user:online":
        return this.presence.online(data as { userId: string });
      case "user:offline":
        return this.presence.offline(data as { userId: string; lastSeen: string });
      default:
        this.frames.tell(frame);
        this.#options.onFrame?.(frame);
    }
  }

  /** Another tab may share this storage: then the message is one of `sent`. */
  #sentElsewhere(data: SentData & MessageContent): void {
    this.#keep({}, (tx) => this.sent.accept(tx, data));
    this.#options.onSentElsewhere?.(data);
  }

  /** Stores what a frame changes together with its marks cursor. */
  #keep({ marksCursor }: { marksCursor?: string }, change: (tx: Transaction) => Promise<SentMessage[]>): void {
    const kept = this.#marks.run(async () => {
      const isGapless = this.#isGapless;
      const changed = await this.#storage.transaction(async (tx) => {
        const messages = await change(tx);
        if (marksCursor !== undefined && isGapless) await tx.put(STATE_TABLE, this.#marksKey, marksCursor);
        return messages;
      });
      this.sent.publish(changed);
    });
    kept.catch((error: unknown) => {
      this.#isGapless = false;
      this.#report(error);
    });
  }

  /** It tells of what is stored already, so it fails nothing. */
  #post(message: Shared): void {
    try {
      this.#channel?.postMessage(message);
    } catch (error) {
      this.#report(error);
    }
  }

  #refused(entry: RefusedEntry): void {
    try {
      this.#options.onRefused?.(entry);
    } catch (error) {
      this.#report(error);
    }
  }

  #report(error: unknown): void {
    if (this.#options.onError) this.#options.onError(error);
    else console.error(error);
  }
}

/** Connects, and stays connected until `close`. */
export function connect<Events = EventMap>(options: ClientOptions<Events>): Client<Events> {
  return new Client(options);
}
