//! The shapes of what clients say, as they stand on the wire. [`super::client`] and [`super::publish`] read them by hand, since what they
//! read is hostile; here the same is described, with the same bounds, and tests hold that both agree.
//!
//! Unknown fields are ignored, and `null` is the same as absent. Bounds in bytes are said in words: a schema counts characters.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::Value;

use super::Timestamp;
use super::schema::{ExactlyOne, closed};
use crate::domain::{ChatId, ChatSeq, Class, DeviceId, ExternalId, FeedId, InboxSeq, MessageId, limits};

macro_rules! said {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })*) => { $(
        #[derive(Debug, JsonSchema)]
        $(#[$doc])*
        #[schemars(rename_all = "camelCase")]
        #[expect(dead_code, reason = "only its schema is used")]
        pub struct $name {
            $($(#[$field_meta])* $field: $type,)*
        }
    )* };
}

said! {
    /// The data of `authenticate`.
    AuthenticateData {
        /// A JWT.
        #[schemars(length(max = limits::TOKEN_BYTES_MAX))]
        token: String,
    }

    /// The data of `message:send`: exactly one of `chatId` and `to`.
    #[schemars(transform = ExactlyOne(&["chatId", "to"]))]
    SendData {
        /// Chosen before the first try, UUIDv7 recommended: it makes a repeated send harmless. Without one the service chooses.
        message_id: Option<MessageId>,
        /// The chat.
        chat_id: Option<ChatId>,
        /// The user of a direct chat, which is made where it is missing.
        to: Option<ExternalId>,
        /// The text, at most 32,768 bytes of UTF-8; may be empty.
        #[schemars(length(max = limits::CONTENT_BYTES_MAX))]
        content: String,
        /// `text` where it is missing. One that begins with `restante:` is refused.
        #[schemars(length(min = 1, max = limits::MESSAGE_TYPE_CHARS_MAX), extend("default" = "text"))]
        message_type: Option<String>,
        /// Any JSON of at most 8,192 bytes.
        metadata: Option<Value>,
        /// From then on it is not delivered any more.
        expires_at: Option<Timestamp>,
    }

    /// The data of `message:skip` and of `message:recall`.
    MessageRefData {
        /// The message.
        message_id: MessageId,
    }

    /// The data of `message:delivered`: exactly one of `messageId`, `messageIds` and `upTo`.
    #[schemars(transform = ExactlyOne(&["messageId", "messageIds", "upTo"]))]
    AckData {
        /// One message, event or notice.
        message_id: Option<MessageId>,
        /// Several of them.
        #[schemars(length(max = limits::IDS_MAX))]
        message_ids: Option<Vec<MessageId>>,
        /// Everything up to this number of the inbox.
        up_to: Option<InboxSeq>,
        /// The inbox of `upTo`; `chat` where it is missing.
        class: Option<Class>,
    }

    /// The data of `message:reject`.
    RejectData {
        /// The message, event or notice.
        message_id: MessageId,
        /// The client's words; cut to 500 characters.
        reason: Option<String>,
        /// Do not try again.
        r#final: Option<bool>,
    }

    /// The data of `message:read`: exactly one of `messageId` and `seq`.
    #[schemars(transform = ExactlyOne(&["messageId", "seq"]))]
    ReadData {
        /// The chat.
        chat_id: ChatId,
        /// Up to this number.
        seq: Option<ChatSeq>,
        /// Up to this message.
        message_id: Option<MessageId>,
    }

    /// The data of `message:read` without the chat.
    #[schemars(transform = ExactlyOne(&["messageId", "seq"]))]
    ReadUpToData {
        /// Up to this number.
        seq: Option<ChatSeq>,
        /// Up to this message.
        message_id: Option<MessageId>,
    }

    /// A chat.
    ChatRefData {
        /// The chat.
        chat_id: ChatId,
    }

    /// The data of `typing`.
    TypingData {
        /// The chat.
        chat_id: ChatId,
        /// Began or stopped.
        typing: bool,
    }

    /// The data of `presence:get` and of `presence:subscribe`.
    PresenceData {
        /// The users.
        #[schemars(length(max = limits::PRESENCE_USERS_MAX))]
        user_ids: Vec<ExternalId>,
    }

    /// The data of the commands about one other user.
    UserRefData {
        /// The other user.
        user_id: ExternalId,
    }

    /// The data of `contact:list`.
    ContactListData {
        /// The list: contacts, requests of the caller, or requests to it.
        #[schemars(extend("enum" = ["contact", "requested", "incoming", null], "default" = "contact"))]
        state: Option<String>,
        /// Behind this user.
        after: Option<ExternalId>,
        /// The largest number of users.
        #[schemars(range(min = 1, max = limits::PEOPLE_PAGE_MAX), extend("default" = limits::PEOPLE_PAGE_DEFAULT))]
        limit: Option<u16>,
    }

    /// The data of `block:list`.
    PeoplePageData {
        /// Behind this user.
        after: Option<ExternalId>,
        /// The largest number of users.
        #[schemars(range(min = 1, max = limits::PEOPLE_PAGE_MAX), extend("default" = limits::PEOPLE_PAGE_DEFAULT))]
        limit: Option<u16>,
    }

    /// The data of `invitation:list`.
    InvitationPageData {
        /// Behind the invitation to this chat.
        after: Option<ChatId>,
        /// The largest number of invitations.
        #[schemars(range(min = 1, max = limits::PEOPLE_PAGE_MAX), extend("default" = limits::PEOPLE_PAGE_DEFAULT))]
        limit: Option<u16>,
    }

    /// The data of `event:publish`.
    PublishData {
        /// Chosen before the first try, UUIDv7 recommended. Without one the service chooses.
        event_id: Option<MessageId>,
        /// The application's own name of it. One that begins with `restante:` is refused.
        #[schemars(length(min = 1, max = limits::MESSAGE_TYPE_CHARS_MAX))]
        r#type: String,
        /// Any JSON of at most 8,192 bytes.
        data: Option<Value>,
        /// The users that get it.
        to: PublishTargetData,
        /// Users that do not get it.
        #[schemars(length(max = limits::EVENT_EXCEPT_MAX))]
        except: Option<Vec<ExternalId>>,
        /// Milliseconds for which it waits.
        #[schemars(range(min = limits::EVENT_TTL_MS_MIN, max = limits::EVENT_TTL_MS_MAX), extend("default" = limits::EVENT_TTL_MS))]
        ttl_ms: Option<u64>,
        /// Of waiting events with the same key the newest stays.
        #[schemars(length(min = 1, max = limits::COLLAPSE_KEY_CHARS_MAX))]
        collapse_key: Option<String>,
        /// The members of `data` that are merged with those of the events whose place it takes. Needs a `collapseKey`, and an object as `data`.
        #[schemars(extend(
            "minProperties" = 1,
            "maxProperties" = limits::MERGE_MEMBERS_MAX,
            "propertyNames" = {"minLength": 1, "maxLength": limits::MERGE_NAME_CHARS_MAX, "pattern": "^[^\\u0000]*$"}
        ))]
        merge: Option<BTreeMap<String, MergeWord>>,
        /// It waits in the inbox of class `alert`.
        urgent: Option<bool>,
    }

    /// The target of an event: exactly one of `users`, `feed` and `everyone`, and nothing else.
    #[schemars(transform = ExactlyOne(&["users", "feed", "everyone"]), transform = closed)]
    PublishTargetData {
        /// These users.
        #[schemars(length(min = 1, max = limits::EVENT_USERS_MAX))]
        users: Option<Vec<ExternalId>>,
        /// The followers of this feed.
        feed: Option<FeedId>,
        /// Every user.
        #[schemars(extend("enum" = [true, null]))]
        everyone: Option<bool>,
    }

    /// The query of `/ws`.
    ConnectData {
        /// The JWT, for clients that can set nothing else.
        #[schemars(length(max = limits::TOKEN_BYTES_MAX))]
        token: Option<String>,
        /// The name of this installation, which has a place of its own in each inbox.
        device: Option<DeviceId>,
        /// Envelopes emitted and not yet acked, at most, per class.
        #[schemars(range(min = 1, max = limits::WINDOW_MAX), extend("default" = limits::WINDOW_DEFAULT))]
        window: Option<u16>,
        /// `1` or `true`: envelopes come in `message:batch` and `event:batch`.
        #[schemars(extend("enum" = ["1", "true", "0", "false"]))]
        batch: Option<String>,
        /// The epoch that `since` is of.
        epoch: Option<String>,
        /// "I have everything up to here": numbers of inboxes.
        #[schemars(example = "12,event:40")]
        since: Option<String>,
        /// "I know the receipts up to here": a `marksCursor`.
        marks: Option<String>,
    }

    /// The query of Engine.IO. A request that begins a session may also have what the query of `/ws` has.
    EngineData {
        /// The version of the protocol.
        #[schemars(rename = "EIO", extend("enum" = ["4"]))]
        version: String,
        /// The transport.
        #[schemars(extend("enum" = ["websocket", "polling"]))]
        transport: String,
        /// The session. Without one the request begins a session.
        sid: Option<String>,
    }

    /// The `auth` of a client of Socket.IO.
    SocketIoAuthData {
        /// A JWT.
        #[schemars(length(max = limits::TOKEN_BYTES_MAX))]
        token: Option<String>,
        /// As in the query of `/ws`, and so are those that follow.
        device: Option<DeviceId>,
        /// A number, or its digits.
        #[schemars(with = "Option<NumberOrDigits>")]
        window: Option<u16>,
        /// The epoch that `since` is of.
        epoch: Option<String>,
        /// Numbers of inboxes.
        since: Option<NumberOrDigits>,
        /// A `marksCursor`.
        marks: Option<String>,
    }

    /// The argument with which a client of Socket.IO calls the callback of an envelope. Anything without `error` is the ack.
    SocketIoCallbackData {
        /// The client rejects the envelope: a text, or an object with a `message`. `null` and `false` are none.
        error: Option<Value>,
        /// Do not try again.
        r#final: Option<bool>,
    }

    /// `message:read` over Socket.IO: with the chat alone everything in it is read, else at most one of `messageId` and `seq`.
    SocketIoReadData {
        /// The chat.
        chat_id: ChatId,
        /// Up to this number.
        seq: Option<ChatSeq>,
        /// Up to this message.
        message_id: Option<MessageId>,
    }
}

/// Nothing.
#[derive(Debug, JsonSchema)]
pub struct NoData {}

/// The operation for a member that is merged.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum MergeWord {
    /// The sum of its numbers.
    Sum,
    /// The values of its lists, each once.
    Union,
    /// The number of events.
    Count,
}

/// A number, or a text.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum NumberOrDigits {
    /// A number.
    Number(u64),
    /// Its digits, or a list of numbers and classes.
    Text(String),
}

/// `authenticate` over Socket.IO.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum SocketIoAuthenticateData {
    /// The token alone.
    Token(String),
    /// As over `/ws`.
    Data(AuthenticateData),
}

/// The `id` of a frame: it is echoed in the answer exactly as it came.
#[derive(Debug, JsonSchema)]
#[schemars(untagged, inline)]
pub enum FrameIdData {
    /// A text.
    Text(#[schemars(length(max = limits::FRAME_ID_CHARS_MAX))] String),
    /// A number.
    Number(f64),
}
