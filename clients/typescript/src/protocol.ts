/**
 * The frames of the protocol as types. They are written by hand after docs/protocol.md, and a generated file will take the place of this one.
 * Nothing in here runs but two small tables: the refusals that mean "again later", and the close codes after which a client stays away.
 */

/** An inbox: messages, urgent events, all other events. */
export type EnvelopeClass = "chat" | "alert" | "event";

export const CLASSES = ["chat", "alert", "event"] as const;

/** Any JSON. */
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** One frame in either direction. */
export interface Frame {
  event: string;
  id?: string | number;
  data?: unknown;
}

export interface Sender {
  name: string | null;
  profilePicture: string | null;
}

/** The content of a message, the same in every frame. */
export interface MessageContent {
  messageId: string;
  chatId: string;
  /** Its number in the chat. */
  seq: number;
  senderId: string;
  content: string;
  messageType: string;
  metadata: Json;
  /** RFC 3339. */
  createdAt: string;
  expiresAt?: string;
  sender: Sender;
}

export interface EnvelopeHead {
  class: EnvelopeClass;
  inboxSeq: number;
  attempt: number;
}

/** `message:receive`. */
export interface MessageData extends EnvelopeHead, MessageContent {
  class: "chat";
  status: "sent" | "delivered" | "read";
  muted?: true;
}

/** `message:recalled`: with a `recallId` a notice in the inbox, without one a recall of another connection of the same user. */
export interface RecalledData extends Partial<EnvelopeHead> {
  recallId?: string;
  messageId: string;
  chatId: string;
  seq: number;
  senderId?: string;
  recalledAt: string;
}

/** `event:receive`. */
export interface EventData<Type extends string = string, Data = Json> extends EnvelopeHead {
  class: "alert" | "event";
  feedId?: string;
  feedSeq?: number;
  eventId: string;
  type: Type;
  data: Data;
  merged?: number;
  createdAt: string;
  expiresAt: string;
}

/** `queue:gap`. */
export interface GapData {
  class: EnvelopeClass;
  fromSeq: number;
  toSeq: number;
  count: number;
  reason: string;
  feedId?: string;
  fromFeedSeq?: number;
  toFeedSeq?: number;
}

/** `ready`. */
export interface ReadyData {
  userId: string;
  sessionId: string;
  deviceId?: string;
  window: number;
  pending: number;
  pendingMore: boolean;
  lastSeq: number;
  settledSeq: number;
  alertLastSeq: number;
  alertSettledSeq: number;
  eventLastSeq: number;
  eventSettledSeq: number;
  ackedSeq?: number;
  alertAckedSeq?: number;
  eventAckedSeq?: number;
  epoch: string;
  resumed: boolean;
  marksCursor: string;
  serverTime: string;
}

/** `message:send`. */
export interface SendData {
  messageId: string;
  chatId?: string;
  to?: string;
  content: string;
  messageType?: string;
  metadata?: Json;
  expiresAt?: string;
}

/** The answer to `message:send`. */
export interface SentData {
  messageId: string;
  chatId: string;
  seq: number;
  createdAt: string;
  duplicate: boolean;
}

export type RecipientStatus = "sent" | "delivered" | "read" | "expired" | "failed";

/** `message:status` of the kind `messages`. */
export interface MessagesStatus {
  kind: "messages";
  chatId: string;
  messageIds: string[];
  seq: number;
  status: RecipientStatus;
  userId: string;
  reason?: string;
  timestamp: string;
  marksCursor: string;
}

/** `message:status` of the kind `mark`. */
export interface MarkStatus {
  kind: "mark";
  chatId: string;
  seq: number;
  status: RecipientStatus;
  userId: string;
  except?: { messageId: string; status: RecipientStatus; reason?: string }[];
  marksCursor?: string;
}

/** `message:status` of the kind `counts`. */
export interface CountsStatus {
  kind: "counts";
  chatId: string;
  messageId: string;
  seq: number;
  deliveredCount: number;
  readCount: number;
  memberCount: number;
  marksCursor: string;
}

export type StatusData = MessagesStatus | MarkStatus | CountsStatus;

export interface PresenceData {
  userId: string;
  online: boolean;
  lastSeen: string | null;
}

export interface TypingData {
  chatId: string;
  userId: string;
  typing: boolean;
}

export interface ChatReadData {
  chatId: string;
  readSeq: number;
  marksCursor?: string;
}

/** `error`. */
export interface ErrorData {
  code: string;
  message: string;
  retryAfterMs?: number;
  behind?: string;
}

/** Refusals that mean: again later, with the same id. Every other refusal is final. */
export const LATER: ReadonlySet<string> = new Set(["busy", "unavailable", "rate_limited", "too_many_chats"]);

/** Close codes after which the same client would be closed again for the same reason. */
export const STAY_AWAY: ReadonlySet<number> = new Set([4400, 4413, 4509]);

/** Ids in one frame. */
export const IDS_MAX = 500;
