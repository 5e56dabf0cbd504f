/**
 * The frames of the protocol under the names of this package. Their types are made from the service's own, in `wire.ts`; only what a type cannot say
 * is written here. Nothing runs but two small tables: the refusals that mean "again later", and the close codes after which a client stays away.
 */

import type * as wire from "./wire.js";

export type { ClientEvents, GapReason, Json, ServiceEvents } from "./wire.js";

/** An inbox: messages, urgent events, all other events. */
export type EnvelopeClass = wire.Class;

export const CLASSES = ["chat", "alert", "event"] as const satisfies readonly EnvelopeClass[];

/** One frame in either direction. */
export interface Frame {
  event: string;
  id?: string | number;
  data?: unknown;
}

/** The fields that every envelope has: its inbox, its number there, and how often it was tried. */
export type EnvelopeHead = Pick<wire.ReceiveData, "inboxSeq" | "attempt"> & { class: EnvelopeClass };

export type Sender = wire.SenderData;

/** The content of a message, the same in every frame. */
export type MessageContent = wire.MessageData;

/** `message:receive`. */
export type MessageData = wire.ReceiveData;

/** `message:recalled`: with a `recallId` a notice in the inbox, without one a recall of another connection of the same user. */
export type RecalledData = wire.Recalled;

/** `event:receive`. */
export type EventData<Type extends string = string, Data = wire.Json> = Omit<wire.EventData, "type" | "data"> & { type: Type; data: Data };

/** `queue:gap`. */
export type GapData = wire.Gap;

/** `ready`. */
export type ReadyData = wire.Ready;

/** The fields of a request as this package writes them: left out, and never null. */
type Written<Data> = { [Name in keyof Data]: NonNullable<Data[Name]> };

/** `message:send`. This package always chooses the id. */
export type SendData = Omit<Written<wire.SendData>, "metadata"> & { messageId: string; metadata?: wire.Json };

/** The answer to `message:send`. */
export type SentData = wire.SentAnswer;

export type RecipientStatus = wire.Status;

/** `message:status` of the kind `messages`. */
export type MessagesStatus = wire.StatusList;

/** `message:status` of the kind `mark`. */
export type MarkStatus = wire.StatusMark;

/** `message:status` of the kind `counts`. */
export type CountsStatus = wire.StatusCounts;

export type StatusData = wire.ServiceEvents["message:status"];

export type PresenceData = wire.Presence;

export type TypingData = wire.Typing;

export type ChatReadData = wire.ChatRead;

/** `error`. Later services may have further codes. */
export type ErrorData = Omit<wire.Fault, "code"> & { code: wire.Code | (string & {}) };

/** Refusals that mean: again later, with the same id. Every other refusal is final. */
export const LATER: ReadonlySet<string> = new Set<wire.Code>(["busy", "unavailable", "rate_limited", "too_many_chats", "policy_unavailable"]);

/** Close codes after which the same client would be closed again for the same reason. */
export const STAY_AWAY: ReadonlySet<number> = new Set([4400, 4403, 4413, 4509]);

/** Ids in one frame. */
export const IDS_MAX = 500;

/** Codes of a token function that has no token: asking it again brings none, since somebody has to log in. */
export const SIGNED_OUT: ReadonlySet<string> = new Set<wire.Code | "signed_out">(["login_ended", "signed_out"]);
