/** The parts that an application uses: `connect`, the storages that run everywhere, and the types. The storage in a file is `@restante/client/file`. */

export { connect, Client, type ClientOptions, type EventMap, type NewMessage, type TypedEvent } from "./client.js";
export type { ConnectionState } from "./connection.js";
export type { Channel, Locks } from "./locks.js";
export type { Presence, PresenceState, TypingState } from "./notices.js";
export type { RefusedEntry } from "./outbox.js";
export type * from "./protocol.js";
export type { Receipt, Received } from "./received.js";
export { Refusal, type RefusalCode } from "./refusal.js";
export { summary, type SentMessage, type SentMessages, type StatusSummary } from "./sent.js";
export type { WebSocketConstructor, WebSocketLike } from "./socket.js";
export { indexedDbStorage, type IndexedDbOptions } from "./storage/indexeddb.js";
export { memoryStorage } from "./storage/memory.js";
export type { Storage, Transaction } from "./storage/storage.js";
export type { TokenSource } from "./token.js";
export { uuidv7 } from "./uuid.js";
