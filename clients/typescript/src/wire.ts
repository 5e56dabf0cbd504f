/**
 * The types of the wire, made from docs/openapi.json and docs/asyncapi.json by `cargo xtask descriptions`. Changes are made there.
 */

/** Any JSON. */
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

export interface About {
  http: string;
  ready: string;
  service: string;
  version: string;
  websocket: string;
}

/** An account that was made. */
export interface Account {
  /** The name, by which its user is known. */
  userId: string;
}

/** The data of `message:delivered`: exactly one of `messageId`, `messageIds` and `upTo`. */
export interface AckData {
  /** The inbox of `upTo`; `chat` where it is missing. */
  class?: Class | null;
  /** One message, event or notice. */
  messageId?: string | null;
  /** Several of them. */
  messageIds?: string[] | null;
  /** Everything up to this number of the inbox. */
  upTo?: number | null;
}

/** An act of an operator. */
export interface AuditEntryData {
  /** The act. */
  action: string;
  /** The operator: the `sub` of its token, or the role that was logged in to the database. */
  actor: string;
  /** The address from which that role was connected. */
  address?: string;
  at: string;
  /** Its number. */
  id: number;
  /** The node that was asked. Missing: it was done by a command, or by hand in SQL. */
  nodeId?: string;
  /** The outcome that the operator was told. */
  outcome: string;
  /** The role of the database that wrote it. */
  role: string;
  /** Ids of what was acted upon, by name. */
  target: Record<string, string | number>;
}

export interface AuditList {
  entries: AuditEntryData[];
  /** To be passed as `after`; null at the end. */
  next: string | null;
}

/** The data of `authenticate`. */
export interface AuthenticateData {
  /** A JWT. */
  token: string;
}

/** The token was taken. */
export interface Authenticated {
  /** The connection is closed then, unless another token comes. */
  expiresAt: string;
  /** The token's `sub`. */
  userId: string;
}

/** The data of `message:batch`. */
export interface BatchData {
  /** At least one. */
  messages: ReceiveData[];
}

/** A user that the caller has blocked. */
export interface Block {
  /** Since when. */
  blockedAt: string;
  /** Its name. */
  name: string | null;
  /** The address of its picture. */
  profilePicture: string | null;
  /** The user. */
  userId: string;
}

/** `block:list:ok`: a part of the users that the caller has blocked. */
export interface BlockListOk {
  /** The users. */
  blocks: Block[];
  /** To be passed as `after` for those that follow; null: these were the last. */
  next: string | null;
}

/** `block:ok`: a user is blocked, or is not. */
export interface BlockOk {
  /** The caller has blocked it. */
  isBlocked: boolean;
  /** The user. */
  userId: string;
}

/** A chat as its member sees it. */
export interface Chat {
  chatId: string;
  createdAt: string;
  deliveredSeq: number;
  joinedSeq: number;
  kind: ChatKind;
  /** The highest message number. */
  lastSeq: number;
  /** The other one, in a direct chat of two. */
  other?: Person;
  readSeq: number;
  role: Role;
  title: string | null;
  /** Exact while at most 1,000 messages lie above `readSeq`; else of the first 1,000. */
  unread: number;
  unreadMore: boolean;
}

/** The user is in this chat from now on. */
export interface ChatAdded {
  /** The member that added it. */
  by: string;
  /** The chat. */
  chatId: string;
  /** The user gets messages above this number. */
  joinedSeq: number;
  /** `direct`, `group` or `feed`. */
  kind: ChatKind;
  /** Its title. */
  title: string | null;
}

/** The kind of a chat. It never changes. */
export type ChatKind = "direct" | "group" | "feed";

export interface ChatList {
  chats: Chat[];
  /** To be passed as `after` for those that follow; null: these were the last. */
  next: string | null;
}

/** The user itself has read a chat up to here, on another connection. */
export interface ChatRead {
  /** The chat. */
  chatId: string;
  /** To be passed as `?marks=` at the next connect. */
  marksCursor: string;
  /** Everything up to here is read. */
  readSeq: number;
}

/** A chat. */
export interface ChatRefData {
  /** The chat. */
  chatId: string;
}

/** The user is no longer in this chat. */
export interface ChatRemoved {
  /** The member that removed it; the user itself when it left. */
  by: string;
  /** The chat. */
  chatId: string;
  /** Messages above this number are not for the user. */
  leftSeq: number;
}

/** `chat:uninvited`: an invitation waits no more. It was accepted, declined or withdrawn, or has ended otherwise. */
export interface ChatUninvited {
  /** The group. */
  chatId: string;
}

/** A chat as its member sees it. */
export interface ChatWithMembers {
  chatId: string;
  createdAt: string;
  deliveredSeq: number;
  joinedSeq: number;
  kind: ChatKind;
  /** The highest message number. */
  lastSeq: number;
  memberCount: number;
  members: Member[];
  /** To be passed as `membersAfter` for those that follow; null: these were the last. */
  membersNext: string | null;
  /** The other one, in a direct chat of two. */
  other?: Person;
  readSeq: number;
  role: Role;
  title: string | null;
  /** Exact while at most 1,000 messages lie above `readSeq`; else of the first 1,000. */
  unread: number;
  unreadMore: boolean;
}

/** The class of an inbox: a user has one inbox of each class, with its own numbers and its own window. */
export type Class = "chat" | "alert" | "event";

/** The reason for which something was refused. */
export type Code = "bad_frame" | "unknown_event" | "invalid" | "not_authenticated" | "token_expired" | "token_revoked" | "bad_credentials" | "login_ended" | "keys_unavailable" | "authentication_timeout" | "other_user" | "forbidden" | "not_a_member" | "not_accepted" | "not_found" | "method_not_allowed" | "conflict" | "name_taken" | "ack_ahead" | "too_many_members" | "too_late" | "turned_off" | "too_large" | "unsupported_encoding" | "upgrade_required" | "rate_limited" | "too_many_chats" | "too_many_sessions" | "displaced" | "no_acks" | "too_slow" | "busy" | "unavailable" | "policy_unavailable" | "restart" | "internal";

/** A user in a list of contacts. */
export interface Contact {
  /** Its name. */
  name: string | null;
  /** The address of its picture. */
  profilePicture: string | null;
  /** Since when they are contacts, or one has requested the other. */
  since: string;
  /** The user. */
  userId: string;
}

/** `contact:accepted`: two users are contacts. */
export interface ContactAccepted {
  /** The one of the two that has done it. */
  by: string;
  /** The other user. */
  userId: string;
}

/** The data of `contact:list`. */
export interface ContactListData {
  /** Behind this user. */
  after?: string | null;
  /** The largest number of users. */
  limit?: number | null;
  /** The list: contacts, requests of the caller, or requests to it. */
  state?: "contact" | "requested" | "incoming" | null;
}

/** `contact:list:ok`: a part of a list of contacts. */
export interface ContactListOk {
  /** The users. */
  contacts: Contact[];
  /** To be passed as `after` for those that follow; null: these were the last. */
  next: string | null;
}

/** `contact:ok`: what the caller has with a user. */
export interface ContactOk {
  /** Its state for the caller. */
  state: ContactState;
  /** The user. */
  userId: string;
}

/** `contact:removed`: two users are no contacts, and a request of one of them is gone. */
export interface ContactRemoved {
  /** The one of the two that has done it. */
  by: string;
  /** The other user. */
  userId: string;
}

/** `contact:requested`: one of two users has requested the other as a contact. */
export interface ContactRequested {
  /** The one of the two that has done it. */
  by: string;
  /** The other user. */
  userId: string;
}

/** The state of two users after a change, for one of them. */
export type ContactState = "none" | "requested" | "contact";

/** A data key. */
export interface DataKeyData {
  /** A rotation replaces it in every row. */
  isReplaced: boolean;
  /** The id that rows name. */
  keyId: string;
  /** The time at which it was made. */
  madeAt: string;
  /** The id of the master key that it is wrapped with. */
  masterKeyId: string;
}

/** The data keys of the database, and how far their sweeps are. */
export interface DataKeysData {
  /** Nodes encrypt what they store. */
  isOn: boolean;
  /** The keys, newest first. */
  keys: DataKeyData[];
  /** The number of the last one that is done. */
  sweepsDone: number;
  /** Sweeps of all messages that were asked for so far. */
  sweepsWanted: number;
}

/** A message that failed for a recipient. */
export interface DeadLetterData {
  attempts: number;
  chatId: string;
  createdAt: string;
  failedAt: string;
  /** The last error of an attempt: the client's words, or `ack timeout`. */
  lastError: string | null;
  messageId: string;
  messageType: string;
  /** The reason, as the sender was told. */
  reason: string;
  senderId: string;
  seq: number;
  /** The recipient that did not get it. */
  userId: string;
}

export interface DeadLetterDetails {
  /** Null when it is encrypted. */
  content: string | null;
  deadLetters: DeadLetterData[];
  messageId: string;
  metadata: Json;
  /** Its sender has recalled it. */
  recalledAt?: string;
}

/** A message and one of its recipients. */
export interface DeadLetterItemData {
  /** The message. */
  messageId: string;
  /** The recipient. */
  userId: string;
}

export interface DeadLetterList {
  deadLetters: DeadLetterData[];
  /** To be passed as `after`; null at the end. */
  next: string | null;
}

export interface DeadLetterOutcome {
  inboxSeq?: number;
  messageId: string;
  outcome: string;
  userId: string;
}

/** The outcome of each item of a request, in its order. */
export interface DeadLetterResults {
  results: DeadLetterOutcome[];
}

/** Every ack before this one on the connection is committed. */
export type DeliveredOk = Record<string, never>;

/** Dead letters that are to be given up. */
export interface DiscardData {
  /** The dead letters. */
  items: DeadLetterItemData[];
  /** The reason that the sender will read. */
  reason?: string | null;
}

/** The answer to a change. */
export type Done = Record<string, never>;

/** Every message that waited at connect has been acked or has ended otherwise. */
export interface Drained {
  /** The inbox. */
  class: Class;
  /** Its `last_seq` at connect. */
  inboxSeq: number;
}

/** The node will stop: connect to any node after this pause. */
export interface Draining {
  /** Drawn anew for each client. */
  reconnectAfterMs: number;
}

/** The data of `message:sent` for the sender's other sessions. */
export interface EchoData {
  /** Its chat. */
  chatId: string;
  /** The text. Empty where the message is unreadable. */
  content: string;
  /** When it was accepted. */
  createdAt: string;
  /** Always false. */
  duplicate: false;
  /** From then on it is not delivered any more. */
  expiresAt?: string;
  /** Its id. */
  messageId: string;
  /** The type that the sender gave it. */
  messageType: string;
  /** The client's own JSON, or null. */
  metadata: Json;
  /** The display data of the sender. */
  sender: SenderData;
  /** The sender. */
  senderId: string;
  /** Its number there. */
  seq: number;
  /** The service cannot decrypt it: content and metadata are missing. An operator knows of it. Else it is missing. */
  unreadable?: true;
}

/** Logins that have ended. */
export interface EndedLogins {
  /** The number of them. */
  ended: number;
}

/** A user that is to be erased. */
export interface EraseData {
  /** The treatment of what it has said: it stays, or its messages are recalled and its events emptied. */
  content: "keep" | "empty";
  /** The user. */
  userId: string;
}

/** The treatment of what the user has said. */
export type ErasedContentWord = "keep" | "empty";

/** An erasure, and how far it is. */
export interface ErasureData {
  /** The time at which it was asked for, the last time. */
  askedAt: string;
  /** The treatment of what it has said. */
  content: ErasedContentWord;
  /** The time at which all was done. Null: it is under way. */
  doneAt: string | null;
  /** Messages and events that were emptied so far. */
  emptied: number;
  /** The user. */
  userId: string;
}

/** The body of a refusal. */
export interface ErrorBody {
  error: Fault;
}

/** The data of `event:batch`. */
export interface EventBatchData {
  /** At least one. */
  events: EventData[];
}

/** The data of `event:receive`. Also an item of an inbox of events over HTTP. */
export interface EventData {
  /** 1 for the first emission. */
  attempt: number;
  /** The inbox. */
  class: "alert" | "event";
  /** When it was accepted. */
  createdAt: string;
  /** The publisher's own JSON, or null. */
  data: Json;
  /** Its id. */
  eventId: string;
  /** From then on it is not delivered any more. */
  expiresAt?: string;
  /** The feed; absent for an event to listed users. */
  feedId?: string;
  /** The number in the feed, per class; absent without a feed. */
  feedSeq?: number;
  /** The number in it. */
  inboxSeq: number;
  /** The number of events whose data it has, with itself; absent where it does not merge. */
  merged?: number;
  /** The type that the publisher gave it. */
  type: string;
  /** The service cannot decrypt it: its data is missing. An operator knows of it. Else it is missing. */
  unreadable?: true;
}

/** The figures of one event. */
export interface EventFiguresData {
  asOf: string;
  delivered: number;
  /** By reason. */
  ended: Record<string, number>;
  eventId?: string;
  firstDeliveredAt: string | null;
  lastDeliveredAt: string | null;
  read: number;
  recipients: number;
  /** Null: nothing was delivered. */
  timeToDeliveryMs: PercentilesData | null;
}

/** The progress of an event. */
export interface EventProgress {
  class: Class;
  createdAt: string;
  delivered: number;
  /** By reason. */
  ended: Record<string, number>;
  eventId: string;
  expiresAt: string | null;
  /** The figures of all its rows, as far as they were counted beside the queue. Null: none were yet, or it has expired a day ago. */
  figures: EventFiguresData | null;
  /** There are more rows than were counted. */
  more: boolean;
  read: number;
  /** The number of listed users; null: it went to a feed or to everyone. */
  recipients: number | null;
  to: EventTarget;
  type: string;
  /** Rows of recipients, and what became of them. Of more than 10,000 the first 10,000 are counted. */
  written: number;
}

/** The target of an event, as `to` names it; the names of listed users are not repeated. */
export type EventTarget = {
  users: number;
} | {
  feed: string;
} | {
  everyone: boolean;
};

/** A refusal as the client sees it: the data of `error`, and the body's `error` over HTTP. It never holds database text. */
export interface Fault {
  /** The earlier message that was refused for now, and that this one would overtake. */
  behind?: string;
  /** The stable code, for programs. */
  code: Code;
  /** The text for people. Its words may change. */
  message: string;
  /** The time after which to try again, in milliseconds. None: the fault gives no time. */
  retryAfterMs?: number;
}

/** A feed as the caller sees it. */
export interface Feed {
  createdAt: string;
  feedId: string;
  /** The caller follows it. */
  isFollower: boolean;
  /** The caller made it. */
  isMaker: boolean;
  /** The caller may publish to it. */
  isPublisher: boolean;
  title: string | null;
}

export interface FeedList {
  feeds: Feed[];
  /** To be passed as `after` for those that follow; null: these were the last. */
  next: string | null;
}

/** A feed that is there. */
export interface FeedMade {
  feedId: string;
}

export interface FollowerList {
  followers: Person[];
  /** To be passed as `after` for those that follow; null: these were the last. */
  next: string | null;
}

/** Numbers that will never come. */
export interface Gap {
  /** The inbox. */
  class: Class;
  /** The number of them; with a feed the number of its events, which share one number of the inbox. */
  count: number;
  /** The feed, where the gap stands for events of one that ended before they had a number of the inbox. */
  feedId?: string;
  /** The first number of those events in the feed. */
  fromFeedSeq?: number;
  /** The first. */
  fromSeq: number;
  /** The reason for the gap. */
  reason: GapReason;
  /** The last number of those events in the feed. */
  toFeedSeq?: number;
  /** The last. */
  toSeq: number;
}

/** The reason why an inbox number will never come. */
export type GapReason = "failed" | "expired" | "capped" | "superseded" | "muted" | "left" | "blocked" | "recalled" | "requeued" | "purged" | "unreadable";

/** A group: its key under the name of what it is grouped by, and its figures. */
export interface GroupData {
  accepted: number;
  class?: string;
  delivered: number;
  /** By reason. */
  ended: Record<string, number>;
  hour?: string;
  read: number;
  recipients: number;
  /** Null: nothing was delivered. */
  timeToDeliveryMs: PercentilesData | null;
  type?: string;
}

export interface History {
  /** Ascending by `seq`, whichever way was asked. */
  messages: HistoryItem[];
  /** There are more in the direction that was asked for. */
  more: boolean;
}

/** An item of a chat's history. */
export type HistoryItem = MessageData | RecalledMessage;

/** The part of an inbox that an answer shows. */
export type Inbox = {
  class: Class;
  /** The highest number given. */
  lastSeq: number;
  /** More waits behind the last of these. */
  more: boolean;
} & ({
  messages: InboxItem[];
} | {
  events: EventData[];
});

/** An item of an inbox of the class chat. */
export type InboxItem = ReceiveData | Recalled;

/** `chat:invited`: the user is invited to a group. The same is an entry of the list. */
export interface Invitation {
  /** The admin that has invited the user. */
  by: string;
  /** The group. */
  chatId: string;
  /** The end of the invitation. */
  expiresAt: string;
  /** Since when. */
  invitedAt: string;
  /** Its name. */
  name: string | null;
  /** The address of its picture. */
  profilePicture: string | null;
  /** Its title. */
  title: string | null;
}

/** `invitation:list:ok`: a part of the invitations that wait for the caller. */
export interface InvitationListOk {
  /** The invitations, in the order of their chats. */
  invitations: Invitation[];
  /** To be passed as `after` for those that follow; null: these were the last. */
  next: string | null;
}

/** `invitation:ok`: an invitation is answered. */
export interface InvitationOk {
  /** The group. */
  chatId: string;
  /** As a member the caller gets messages above this number. */
  joinedSeq?: number;
  /** The caller's state in it. */
  state: InvitationState;
}

/** The data of `invitation:list`. */
export interface InvitationPageData {
  /** Behind the invitation to this chat. */
  after?: string | null;
  /** The largest number of invitations. */
  limit?: number | null;
}

/** The state of somebody who was invited. */
export type InvitationState = "member" | "declined";

/** A part of the users who are invited to a group. */
export interface InvitedList {
  /** The users. */
  invited: InvitedUser[];
  /** To be passed as `after` for those that follow; null: these were the last. */
  next: string | null;
}

/** A user who is invited to a group. */
export interface InvitedUser {
  /** The admin that has invited it. */
  by: string;
  /** The end of the invitation. */
  expiresAt: string;
  /** Since when. */
  invitedAt: string;
  /** Its name. */
  name: string | null;
  /** The address of its picture. */
  profilePicture: string | null;
  /** The user. */
  userId: string;
}

/** A user whose limits are to be raised. */
export interface LimitData {
  /** All rates of the user are multiplied by it; 1: they are those of others. */
  factor: number;
  /** The user. */
  userId: string;
}

/** The limits of a user as they were set. */
export interface LimitSetData {
  /** All rates of the user are multiplied by it. */
  factor: number;
  userId: string;
}

/** An answer without anything to say. */
export type LoggedOut = Record<string, never>;

/** The name and the password of an account. */
export interface LoginData {
  /** The password. */
  password: string;
  /** The name. */
  userId: string;
}

/** The tokens of a login. */
export interface LoginTokens {
  /** The token to come with. */
  accessToken: string;
  /** From then on it is worth nothing. */
  expiresAt: string;
  /** From then on it is worth nothing. */
  refreshExpiresAt: string;
  /** The token with which the login goes on. It is good once. */
  refreshToken: string;
  /** The user. */
  userId: string;
}

/** A member as others see it. */
export interface Member {
  deliveredSeq: number;
  joinedSeq: number;
  name: string | null;
  profilePicture: string | null;
  readSeq: number;
  role: Role;
  userId: string;
}

/** The members that joined. */
export interface MembersAdded {
  /** Those who were members already are not among them. */
  added: string[];
  chatId: string;
  /** Those who are no contacts of the caller, where only contacts write to one another: they are invited now, and no members before they accept. Nobody: it is missing. */
  invited?: string[];
  /** They get messages above this number. */
  joinedSeq: number;
}

/** The members that left. */
export interface MembersRemoved {
  chatId: string;
  /** Messages above this number are not for them. */
  leftSeq: number;
  /** Those who were no members are not among them. */
  removed: string[];
  /** Those who were invited, and are no more. Nobody: it is missing. */
  withdrawn?: string[];
}

/** The operation for a member that is merged. */
export type MergeWord = "sum" | "union" | "count";

/** A message as everybody who may see it gets it. Also an item of a chat's history over HTTP. */
export interface MessageData {
  /** Its chat. */
  chatId: string;
  /** The text. Empty where the message is unreadable. */
  content: string;
  /** When it was accepted. */
  createdAt: string;
  /** From then on it is not delivered any more. */
  expiresAt?: string;
  /** Its id. */
  messageId: string;
  /** The type that the sender gave it. */
  messageType: string;
  /** The client's own JSON, or null. */
  metadata: Json;
  /** The display data of the sender. */
  sender: SenderData;
  /** The sender. */
  senderId: string;
  /** Its number there. */
  seq: number;
  /** The service cannot decrypt it: content and metadata are missing. An operator knows of it. Else it is missing. */
  unreadable?: true;
}

/** The data of `message:skip` and of `message:recall`. */
export interface MessageRefData {
  /** The message. */
  messageId: string;
}

/** The status of a message for its recipients: the body of `GET /v1/messages/{messageId}/status`. */
export interface MessageStatuses {
  /** The message. */
  messageId: string;
  /** For each recipient. */
  statuses: RecipientStatus[];
}

/** A chat that is to be made. A direct one names the other member, or the caller alone. */
export interface NewChatData {
  /** Its kind. */
  kind: "direct" | "group";
  /** The members. The caller is one of them in any case. */
  members?: string[] | null;
  /** The title of a group. */
  title?: string | null;
}

/** A feed that is to be made. */
export interface NewFeedData {
  /** Chosen before the first try, it makes a repeated request harmless. Without one the service chooses. */
  feedId?: string | null;
  /** Its publishers. The caller is one of them in any case. */
  publishers?: string[] | null;
  /** Its title. */
  title?: string | null;
}

/** Nothing. */
export type NoData = Record<string, never>;

export interface NodeState {
  status: string;
}

/** A number, or a text. */
export type NumberOrDigits = number | string;

/** A change of a password. */
export interface PasswordData {
  /** The one from now on. */
  newPassword: string;
  /** The password until now. */
  password: string;
}

/** The answer to `user:reconnected`. */
export interface Pending {
  /** Envelopes that waited when the session began. */
  pending: number;
}

/** The data of `block:list`. */
export interface PeoplePageData {
  /** Behind this user. */
  after?: string | null;
  /** The largest number of users. */
  limit?: number | null;
}

/** Times in milliseconds, each within 5 % of the true one. */
export interface PercentilesData {
  p50: number;
  p95: number;
  p99: number;
}

export interface Person {
  name: string | null;
  profilePicture: string | null;
  userId: string;
}

/** The answer to `ping`. */
export type Pong = Record<string, never>;

/** The types and chats to be muted. A list that is missing stays as it is. */
export interface PreferencesData {
  /** Chats whose messages come marked as muted. */
  mutedChats?: string[] | null;
  /** Types of events that make no rows for the caller. */
  mutedTypes?: string[] | null;
}

/** The things that the caller has muted, each list in ascending order. */
export interface PreferencesView {
  /** Chats whose messages come marked as muted. */
  mutedChats: string[];
  /** Types of events that make no rows for it. */
  mutedTypes: string[];
}

/** Says if a user is connected, and the time at which the last connection ended. */
export interface Presence {
  /** When the last connection ended; null when that is not known. */
  lastSeen: string | null;
  /** Connected now. */
  online: boolean;
  /** The user. */
  userId: string;
}

/** The data of `presence:get` and of `presence:subscribe`. */
export interface PresenceData {
  /** The users. */
  userIds: string[];
}

/** The presence of the users that were asked for. */
export interface PresenceState {
  /** In the order asked for; users the client may not see are offline and were never seen. */
  users: Presence[];
}

/** A problem. `code`, `retryAfterMs` and `behind` are extension members. */
export interface Problem {
  behind?: string;
  code: Code;
  /** The words of this refusal. */
  detail: string;
  retryAfterMs?: number;
  /** The status of the answer. */
  status: number;
  /** The meaning of the code. */
  title: string;
  /** `urn:restante:error:` and the code. */
  type: string;
}

/** The answer to a publish request. */
export type PublishAnswer = Published | PublishResults;

/** The body of `POST /v1/events`. */
export type PublishBodyData = PublishData | PublishListData;

/** The data of `event:publish`. */
export interface PublishData {
  /** Of waiting events with the same key the newest stays. */
  collapseKey?: string | null;
  /** Any JSON of at most 8,192 bytes. */
  data?: Json;
  /** Chosen before the first try, UUIDv7 recommended. Without one the service chooses. */
  eventId?: string | null;
  /** Users that do not get it. */
  except?: string[] | null;
  /** The members of `data` that are merged with those of the events whose place it takes. Needs a `collapseKey`, and an object as `data`. */
  merge?: Record<string, MergeWord> | null;
  /** The users that get it. */
  to: PublishTargetData;
  /** Milliseconds for which it waits. */
  ttlMs?: number | null;
  /** The application's own name of it. One that begins with `restante:` is refused. */
  type: string;
  /** It waits in the inbox of class `alert`. */
  urgent?: boolean | null;
}

/** Events that are published and answered one by one. One that cannot be read concerns no other. */
export interface PublishListData {
  /** The events. */
  events: PublishData[];
}

/** The outcome of one event of a list. */
export type PublishOutcome = Published | {
  error: Fault;
  /** Its id; missing where none could be read. */
  eventId?: string;
};

/** The outcome of each event of a list, in its order. */
export interface PublishResults {
  results: PublishOutcome[];
}

/** The target of an event: exactly one of `users`, `feed` and `everyone`, and nothing else. */
export interface PublishTargetData {
  /** Every user. */
  everyone?: true | null;
  /** The followers of this feed. */
  feed?: string | null;
  /** These users. */
  users?: string[] | null;
}

/** The event is stored. */
export interface Published {
  /** When it was accepted. */
  createdAt: string;
  /** It had been accepted before: this is the first result again. */
  duplicate: boolean;
  /** Its id. */
  eventId: string;
}

/** A user whose limits are raised. */
export interface RaisedLimitData {
  /** All rates of the user are multiplied by it. */
  factor: number;
  /** The time at which it was set. */
  setAt: string;
  userId: string;
}

export interface RaisedLimitList {
  limits: RaisedLimitData[];
  /** To be passed as `after`; null at the end. */
  next: string | null;
}

/** `message:read`: a recipient has read a message. */
export interface ReadBy {
  /** Its chat. */
  chatId: string;
  /** The message. */
  messageId: string;
  /** The recipient. */
  readBy: string;
}

/** The data of `message:read`: exactly one of `messageId` and `seq`. */
export interface ReadData {
  /** The chat. */
  chatId: string;
  /** Up to this message. */
  messageId?: string | null;
  /** Up to this number. */
  seq?: number | null;
}

/** The read is committed. */
export interface ReadOk {
  /** The chat. */
  chatId: string;
  /** Everything up to here is read. */
  seq: number;
}

/** The data of `message:read` without the chat. */
export interface ReadUpToData {
  /** Up to this message. */
  messageId?: string | null;
  /** Up to this number. */
  seq?: number | null;
}

/** The first frame of all. */
export interface Ready {
  /** With a device: every envelope of the chat inbox above this number comes, or is named in a gap. */
  ackedSeq?: number;
  /** The same of the alert inbox. */
  alertAckedSeq?: number;
  /** The highest number of the alert inbox. */
  alertLastSeq: number;
  /** Nothing at or below this number of the alert inbox waits any more. */
  alertSettledSeq: number;
  /** The device, if the client named one. */
  deviceId?: string;
  /** Numbers are comparable within one epoch only. */
  epoch: string;
  /** The same of the event inbox. */
  eventAckedSeq?: number;
  /** The highest number of the event inbox. */
  eventLastSeq: number;
  /** Nothing at or below this number of the event inbox waits any more. */
  eventSettledSeq: number;
  /** The highest number of the chat inbox. */
  lastSeq: number;
  /** Receipts up to here are known once those that follow have been processed. */
  marksCursor: string;
  /** Messages that wait in all inboxes; exact up to 1,000. */
  pending: number;
  /** More waits than `pending` says. */
  pendingMore: boolean;
  /** True if `?since=` was accepted for at least one class. */
  resumed: boolean;
  /** The service's clock. */
  serverTime: string;
  /** This connection's name in logs. */
  sessionId: string;
  /** Nothing at or below this number of the chat inbox waits any more. */
  settledSeq: number;
  /** The token's `sub`. */
  userId: string;
  /** Envelopes emitted and not yet acked, at most, per class. */
  window: number;
}

/** `message:recall:ok`: the message is recalled. Also the body of the answer over HTTP. */
export interface RecallOk {
  /** Its chat. */
  chatId: string;
  /** The message. */
  messageId: string;
  /** When it was recalled, the first time. */
  recalledAt: string;
  /** Its number there. */
  seq: number;
}

/** `message:recalled`: a message was recalled. Also an item of the inbox over HTTP. */
export interface Recalled {
  /** 1 for the first emission. */
  attempt?: number;
  /** Its chat. */
  chatId: string;
  /** The inbox. */
  class?: "chat";
  /** The number in it. */
  inboxSeq?: number;
  /** The message that was recalled. */
  messageId: string;
  /** The id of the notice, by which it is acked. */
  recallId?: string;
  /** When it was recalled. */
  recalledAt: string;
  /** Its sender; absent for the sender. */
  senderId?: string;
  /** Its number there. */
  seq: number;
  /** `sent`; `delivered` where another connection of the user has it. */
  status?: Status;
}

/** A message that was recalled, as an item of a chat's history: nothing of what it said is left. */
export interface RecalledMessage {
  /** Its chat. */
  chatId: string;
  /** When it was accepted. */
  createdAt: string;
  /** Its id. */
  messageId: string;
  /** The type that the sender gave it. */
  messageType: string;
  /** When it was recalled. */
  recalledAt: string;
  /** The display data of the sender. */
  sender: SenderData;
  /** The sender. */
  senderId: string;
  /** Its number there. */
  seq: number;
}

/** The data of `message:receive`. Also an item of the inbox over HTTP. */
export interface ReceiveData {
  /** 1 for the first emission. */
  attempt: number;
  /** Its chat. */
  chatId: string;
  /** The inbox. */
  class: "chat";
  /** The text. Empty where the message is unreadable. */
  content: string;
  /** When it was accepted. */
  createdAt: string;
  /** From then on it is not delivered any more. */
  expiresAt?: string;
  /** The number in it. */
  inboxSeq: number;
  /** Its id. */
  messageId: string;
  /** The type that the sender gave it. */
  messageType: string;
  /** The client's own JSON, or null. */
  metadata: Json;
  /** The recipient has muted the chat, so its client does not ring. Else it is missing. */
  muted?: true;
  /** The display data of the sender. */
  sender: SenderData;
  /** The sender. */
  senderId: string;
  /** Its number there. */
  seq: number;
  /** `sent`; `delivered` or `read` where another connection of the user has it or has read it. */
  status: Status;
  /** The service cannot decrypt it: content and metadata are missing. An operator knows of it. Else it is missing. */
  unreadable?: true;
}

/** The status of a message for one recipient. */
export interface RecipientStatus {
  /** When it was acked; null before that. */
  deliveredAt: string | null;
  /** When it was read; null before that. */
  readAt: string | null;
  /** The reason for which it failed or expired. */
  reason: string | null;
  /** Its status. */
  status: Status;
  /** The recipient. */
  userId: string;
}

/** A refresh token. */
export interface RefreshData {
  /** The refresh token that came last. */
  refreshToken: string;
}

/** An account that is to be made. */
export interface RegisterData {
  /** The name that is shown. */
  name?: string | null;
  /** The password. How long it must be is set by the operator. */
  password: string;
  /** The name, by which its user is known. Capital letters are taken as small ones. */
  userId: string;
}

/** The data of `message:reject`. */
export interface RejectData {
  /** Do not try again. */
  final?: boolean | null;
  /** The message, event or notice. */
  messageId: string;
  /** The client's words; cut to 500 characters. */
  reason?: string | null;
}

/** The rejection was counted, or the message does not wait any more. */
export interface RejectOk {
  /** Attempts counted so far. */
  attempts: number;
  /** The message. */
  messageId: string;
  /** The status of the message for the client: `sent` while it will be tried again. */
  status: Status;
}

/** Dead letters that are to be put back. */
export interface RequeueData {
  /** The dead letters. */
  items: DeadLetterItemData[];
}

/** Tokens that are worth nothing although they have not expired: those of a user, of one device of a user, or the one of an id. */
export interface RevocationData {
  deviceId?: string;
  /** Until then it is kept. */
  expiresAt: string;
  reason?: string;
  /** Of a user and of a device, tokens that were issued before this time are concerned. */
  revokedAt: string;
  /** The operator. */
  revokedBy: string;
  /** The `jti` of the token, or the `sid` of those of a login. */
  tokenId?: string;
  userId?: string;
}

export interface RevocationList {
  /** To be passed as `after`; null at the end. */
  next: string | null;
  revocations: RevocationData[];
}

/** Tokens that are to be revoked: those of a user, of one device of a user, or the one of an id. */
export interface RevokeData {
  /** One device of the user. */
  deviceId?: string | null;
  /** The time at which the tokens have expired. */
  expiresAt?: string | null;
  /** The reason, for operators. */
  reason?: string | null;
  /** The `jti` of one token, or the `sid` of those of a login. */
  tokenId?: string | null;
  /** The user, as its tokens name it. */
  userId?: string | null;
}

/** The role of a member of a group. */
export type Role = "member" | "admin";

/** The answer to a rotation. */
export interface RotationData {
  /** The number of the sweep that brings every message under the new key. Null: encryption is off, and nothing was asked for. */
  sweep: number | null;
}

/** The data of `message:send`: exactly one of `chatId` and `to`. */
export interface SendData {
  /** The chat. */
  chatId?: string | null;
  /** The text, at most 32,768 bytes of UTF-8; may be empty. */
  content: string;
  /** From then on it is not delivered any more. */
  expiresAt?: string | null;
  /** Chosen before the first try, UUIDv7 recommended: it makes a repeated send harmless. Without one the service chooses. */
  messageId?: string | null;
  /** `text` where it is missing. One that begins with `restante:` is refused. */
  messageType?: string | null;
  /** Any JSON of at most 8,192 bytes. */
  metadata?: Json;
  /** The user of a direct chat, which is made where it is missing. */
  to?: string | null;
}

/** The display data of a sender. */
export interface SenderData {
  /** A display name, or null. */
  name: string | null;
  /** The address of a picture, or null. */
  profilePicture: string | null;
}

export interface SenderOfStored {
  name: string | null;
  profilePicture: string | null;
}

/** The message and its rows are stored. */
export interface SentAnswer {
  /** The chat it went to. */
  chatId: string;
  /** When it was accepted. */
  createdAt: string;
  /** It had been accepted before: this is the first result again. */
  duplicate: boolean;
  /** Its id. */
  messageId: string;
  /** Its number there. */
  seq: number;
}

/** A message that is stored, with what this request said. For a duplicate the first request's content is what is stored. */
export interface SentAtOtherPath {
  message: SentMessage;
}

/** The message and its rows are stored. */
export interface SentMessage {
  /** The chat it went to. */
  chatId: string;
  content: string;
  /** When it was accepted. */
  createdAt: string;
  /** It had been accepted before: this is the first result again. */
  duplicate: boolean;
  expiresAt?: string;
  /** Its id. */
  messageId: string;
  messageType: string;
  metadata?: Json;
  sender: SenderOfStored;
  senderId: string;
  /** Its number there. */
  seq: number;
}

/** No message is refused any more for this one. */
export interface SkipOk {
  /** The message. */
  messageId: string;
}

/** The `auth` of a client of Socket.IO. */
export interface SocketIoAuthData {
  /** As in the query of `/ws`, and so are those that follow. */
  device?: string | null;
  /** The epoch that `since` is of. */
  epoch?: string | null;
  /** A `marksCursor`. */
  marks?: string | null;
  /** Numbers of inboxes. */
  since?: NumberOrDigits | null;
  /** A JWT. */
  token?: string | null;
  /** A number, or its digits. */
  window?: NumberOrDigits | null;
}

/** `authenticate` over Socket.IO. */
export type SocketIoAuthenticateData = string | AuthenticateData;

/** The argument with which a client of Socket.IO calls the callback of an envelope. Anything without `error` is the ack. */
export interface SocketIoCallbackData {
  /** The client rejects the envelope: a text, or an object with a `message`. `null` and `false` are none. */
  error?: Json;
  /** Do not try again. */
  final?: boolean | null;
}

/** `message:read` over Socket.IO: with the chat alone everything in it is read, else at most one of `messageId` and `seq`. */
export interface SocketIoReadData {
  /** The chat. */
  chatId: string;
  /** Up to this message. */
  messageId?: string | null;
  /** Up to this number. */
  seq?: number | null;
}

/** The figures of a span of hours, in groups. */
export interface StatisticsData {
  /** All that was committed before is in the figures. */
  asOf: string;
  by: string;
  from: string;
  groups: GroupData[];
  /** To be passed as `after`; null at the end. */
  next: string | null;
  to: string;
}

/** The state of one row of the queue. `Sent < Delivered < Read`; `Failed` and `Expired` end it otherwise. */
export type Status = "sent" | "delivered" | "read" | "failed" | "expired";

/** The number of members that have a message, in a chat that is too large to name them. */
export interface StatusCounts {
  /** The chat. */
  chatId: string;
  /** Members that have it. */
  deliveredCount: number;
  /** `counts`. */
  kind: "counts";
  /** To be passed as `?marks=` at the next connect. */
  marksCursor?: string;
  /** Members it went to. */
  memberCount: number;
  /** The message. */
  messageId: string;
  /** Members that have read it; counted in `delivered_count` too. */
  readCount: number;
  /** Its number. */
  seq: number;
}

/** A message below a mark that the mark does not speak of. */
export interface StatusException {
  /** The message. */
  messageId: string;
  /** The reason for this status. */
  reason: string | null;
  /** `failed` or `expired`. */
  status: Status;
}

/** The kinds of `message:status`. */
export type StatusKind = "messages" | "mark" | "counts";

/** The new status of some messages for one recipient: all acks of a batch. */
export interface StatusList {
  /** The chat. */
  chatId: string;
  /** `messages`. */
  kind: "messages";
  /** To be passed as `?marks=` at the next connect. */
  marksCursor?: string;
  /** The messages. */
  messageIds: string[];
  /** The reason for which they failed or expired. */
  reason?: string;
  /** The highest of the messages' numbers. It says nothing of others. */
  seq: number;
  /** Their new status. */
  status: Status;
  /** When. */
  timestamp: string;
  /** For whom. */
  userId: string;
}

/** The status of every message up to a number for one recipient, as it changed while the sender was away. */
export interface StatusMark {
  /** The chat. */
  chatId: string;
  /** Messages at or below `seq` that ended otherwise. */
  except: StatusException[];
  /** `mark`. */
  kind: "mark";
  /** To be passed as `?marks=` at the next connect. */
  marksCursor: string;
  /** The member's mark: everything at or below it has this status. */
  seq: number;
  /** `delivered` or `read`. */
  status: Status;
  /** For whom. */
  userId: string;
}

/** `message:status` of one message for one recipient. */
export interface StatusOfOne {
  /** Its chat. */
  chatId: string;
  /** The recipient, where the status is `delivered`. */
  deliveredTo?: string;
  /** To be passed as `marks` at the next connect, on the last of those that come together. */
  marksCursor?: string;
  /** The message. */
  messageId: string;
  /** The recipient, where the status is `read`. */
  readBy?: string;
  /** The reason for which it failed or expired. */
  reason?: string;
  /** Its new status. */
  status: Status;
  /** When. */
  timestamp: string;
  /** The recipient. */
  userId: string;
}

/** One server-sent event of a stream, of which there are any number. */
export interface StreamedEvent {
  /** Its data, a JSON value. */
  data?: string;
  /** The name of the event, as on `/ws`. A comment has none. */
  event?: string;
  /** The place in the stream behind it. The next request begins there with it as `Last-Event-ID`. Some events have none. */
  id?: string;
  /** Milliseconds until the client comes back after the end of the stream. */
  retry?: number;
}

/** A member of the chat began or stopped typing. */
export interface Typing {
  /** The chat. */
  chatId: string;
  /** Began or stopped. */
  typing: boolean;
  /** The user. */
  userId: string;
}

/** The data of `typing`. */
export interface TypingData {
  /** The chat. */
  chatId: string;
  /** Began or stopped. */
  typing: boolean;
}

/** A user. */
export interface UserData {
  /** The user. */
  userId: string;
}

/** A user went. */
export interface UserOffline {
  /** When its last connection ended. */
  lastSeen: string;
  /** The user. */
  userId: string;
}

/** A user came. */
export interface UserOnline {
  /** When. */
  timestamp: string;
  /** The user. */
  userId: string;
}

/** `user:presence`: a user came or went. */
export interface UserPresence {
  /** Connected now. */
  isOnline: boolean;
  /** When its last connection ended; null while it is connected. */
  lastSeen: string | null;
  /** The user. */
  userId: string;
}

/** The data of the commands about one other user. */
export interface UserRefData {
  /** The other user. */
  userId: string;
}

/** Users. */
export interface UsersData {
  /** The users. */
  userIds: string[];
}

/** Users, or nobody: then the caller is meant. */
export interface UsersOrNobodyData {
  /** The users. */
  userIds?: string[] | null;
}

/** The data of `message:new`. The dialect writes it round the data of `message:receive`, which it has as text. */
export interface WrappedMessage {
  /** The data of `message:receive`. */
  message: ReceiveData;
}

/** The events that a client of `/ws` is told: data by event. */
export interface ServiceEvents {
  "authenticated": Authenticated;
  "block:list:ok": BlockListOk;
  "block:ok": BlockOk;
  "chat:added": ChatAdded;
  "chat:invited": Invitation;
  "chat:read": ChatRead;
  "chat:removed": ChatRemoved;
  "chat:uninvited": ChatUninvited;
  "contact:accepted": ContactAccepted;
  "contact:list:ok": ContactListOk;
  "contact:ok": ContactOk;
  "contact:removed": ContactRemoved;
  "contact:requested": ContactRequested;
  "error": Fault;
  "event:batch": EventBatchData;
  "event:published": Published;
  "event:receive": EventData;
  "invitation:list:ok": InvitationListOk;
  "invitation:ok": InvitationOk;
  "message:batch": BatchData;
  "message:delivered:ok": DeliveredOk;
  "message:read:ok": ReadOk;
  "message:recall:ok": RecallOk;
  "message:recalled": Recalled;
  "message:receive": ReceiveData;
  "message:reject:ok": RejectOk;
  "message:sent": SentAnswer | EchoData;
  "message:skip:ok": SkipOk;
  "message:status": StatusList | StatusCounts | StatusMark;
  "pong": Pong;
  "presence:state": PresenceState;
  "queue:drained": Drained;
  "queue:gap": Gap;
  "ready": Ready;
  "server:draining": Draining;
  "typing": Typing;
  "user:offline": UserOffline;
  "user:online": UserOnline;
}

/** The events that a client says: data by event. */
export interface ClientEvents {
  "authenticate": AuthenticateData;
  "block:add": UserRefData;
  "block:list": PeoplePageData;
  "block:remove": UserRefData;
  "contact:accept": UserRefData;
  "contact:decline": UserRefData;
  "contact:list": ContactListData;
  "contact:remove": UserRefData;
  "contact:request": UserRefData;
  "event:publish": PublishData;
  "invitation:accept": ChatRefData;
  "invitation:decline": ChatRefData;
  "invitation:list": InvitationPageData;
  "message:delivered": AckData;
  "message:read": ReadData;
  "message:recall": MessageRefData;
  "message:reject": RejectData;
  "message:send": SendData;
  "message:skip": MessageRefData;
  "ping": NoData;
  "presence:get": PresenceData;
  "presence:subscribe": PresenceData;
  "typing": TypingData;
}
