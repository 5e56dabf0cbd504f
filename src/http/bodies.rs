//! The shapes of bodies that only HTTP has, as they stand on the wire. The handlers read them by hand, since what they read is hostile; here
//! the same is described, with the same bounds. Bodies that the socket has too are in [`crate::protocol::requests`].

use schemars::JsonSchema;

use crate::domain::{ChatId, DeviceId, ExternalId, FeedId, MessageId, limits};
use crate::protocol::Timestamp;
use crate::protocol::requests::PublishData;

macro_rules! bodies {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })*) => { $(
        #[derive(Debug, JsonSchema)]
        $(#[$doc])*
        #[schemars(rename_all = "camelCase")]
        #[expect(dead_code, reason = "only its schema is used")]
        pub(super) struct $name {
            $($(#[$field_meta])* $field: $type,)*
        }
    )* };
}

bodies! {
    /// A chat that is to be made. A direct one names the other member, or the caller alone.
    #[schemars(extend(
        "if" = {"properties": {"kind": {"const": "direct"}}},
        "then" = {"required": ["members"], "properties": {"members": {"type": "array", "minItems": 1}}}
    ))]
    NewChatData {
        /// Its kind.
        #[schemars(extend("enum" = ["direct", "group"]))]
        kind: String,
        /// The title of a group.
        #[schemars(length(max = limits::TITLE_CHARS_MAX))]
        title: Option<String>,
        /// The members. The caller is one of them in any case.
        #[schemars(length(max = limits::MEMBERS_MAX))]
        members: Option<Vec<ExternalId>>,
    }

    /// Users.
    UsersData {
        /// The users.
        #[schemars(length(max = limits::IDS_MAX))]
        user_ids: Vec<ExternalId>,
    }

    /// A user.
    UserData {
        /// The user.
        user_id: ExternalId,
    }

    /// Users, or nobody: then the caller is meant.
    UsersOrNobodyData {
        /// The users.
        #[schemars(length(max = limits::IDS_MAX))]
        user_ids: Option<Vec<ExternalId>>,
    }

    /// A feed that is to be made.
    NewFeedData {
        /// Chosen before the first try, it makes a repeated request harmless. Without one the service chooses.
        feed_id: Option<FeedId>,
        /// Its title.
        #[schemars(length(max = limits::TITLE_CHARS_MAX))]
        title: Option<String>,
        /// Its publishers. The caller is one of them in any case.
        #[schemars(length(max = limits::IDS_MAX))]
        publishers: Option<Vec<ExternalId>>,
    }

    /// Events that are published and answered one by one. One that cannot be read concerns no other.
    PublishListData {
        /// The events.
        #[schemars(length(max = limits::EVENTS_MAX))]
        events: Vec<PublishData>,
    }

    /// The types and chats to be muted. A list that is missing stays as it is.
    PreferencesData {
        /// Types of events that make no rows for the caller.
        #[schemars(length(max = limits::MUTED_TYPES_MAX), inner(length(min = 1, max = limits::MESSAGE_TYPE_CHARS_MAX)))]
        muted_types: Option<Vec<String>>,
        /// Chats whose messages come marked as muted.
        #[schemars(length(max = limits::MUTED_CHATS_MAX))]
        muted_chats: Option<Vec<ChatId>>,
    }

    /// A message and one of its recipients.
    DeadLetterItemData {
        /// The message.
        message_id: MessageId,
        /// The recipient.
        user_id: ExternalId,
    }

    /// Dead letters that are to be put back.
    RequeueData {
        /// The dead letters.
        #[schemars(length(max = limits::DEAD_LETTERS_MAX))]
        items: Vec<DeadLetterItemData>,
    }

    /// Dead letters that are to be given up.
    DiscardData {
        /// The dead letters.
        #[schemars(length(max = limits::DEAD_LETTERS_MAX))]
        items: Vec<DeadLetterItemData>,
        /// The reason that the sender will read.
        #[schemars(length(min = 1, max = limits::REASON_CHARS_MAX))]
        reason: Option<String>,
    }

    /// Tokens that are to be revoked: those of a user, of one device of a user, or the one of an id.
    #[schemars(extend("oneOf" = [
        {"required": ["userId"], "properties": {"tokenId": {"type": "null"}}},
        {"required": ["tokenId"], "properties": {"userId": {"type": "null"}, "deviceId": {"type": "null"}}},
    ]))]
    RevokeData {
        /// The user, as its tokens name it.
        user_id: Option<ExternalId>,
        /// One device of the user.
        device_id: Option<DeviceId>,
        /// The `jti` of one token, or the `sid` of those of a login.
        #[schemars(length(min = 1, max = limits::TOKEN_ID_CHARS_MAX))]
        token_id: Option<String>,
        /// The reason, for operators.
        #[schemars(length(min = 1, max = limits::REASON_CHARS_MAX))]
        reason: Option<String>,
        /// The time at which the tokens have expired.
        expires_at: Option<Timestamp>,
    }

    /// A user that is to be erased.
    EraseData {
        /// The user.
        user_id: ExternalId,
        /// The treatment of what it has said: it stays, or its messages are recalled and its events emptied.
        #[schemars(extend("enum" = ["keep", "empty"]))]
        content: String,
    }

    /// A user whose limits are to be raised.
    LimitData {
        /// The user.
        user_id: ExternalId,
        /// All rates of the user are multiplied by it; 1: they are those of others.
        #[schemars(range(min = 1, max = limits::LIMIT_FACTOR_MAX))]
        factor: u16,
    }

    /// An account that is to be made.
    RegisterData {
        /// The name, by which its user is known. Capital letters are taken as small ones.
        #[schemars(length(min = 1, max = limits::ACCOUNT_NAME_CHARS_MAX), regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
        user_id: String,
        /// The password. How long it must be is set by the operator.
        #[schemars(length(max = limits::PASSWORD_CHARS_MAX), extend("format" = "password"))]
        password: String,
        /// The name that is shown.
        #[schemars(length(min = 1, max = limits::ACCOUNT_SHOWN_CHARS_MAX))]
        name: Option<String>,
    }

    /// The name and the password of an account.
    LoginData {
        /// The name.
        #[schemars(length(min = 1, max = limits::ACCOUNT_NAME_CHARS_MAX), regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
        user_id: String,
        /// The password.
        #[schemars(length(max = limits::PASSWORD_CHARS_MAX), extend("format" = "password"))]
        password: String,
    }

    /// A refresh token.
    RefreshData {
        /// The refresh token that came last.
        refresh_token: String,
    }

    /// A change of a password.
    PasswordData {
        /// The password until now.
        #[schemars(length(max = limits::PASSWORD_CHARS_MAX), extend("format" = "password"))]
        password: String,
        /// The one from now on.
        #[schemars(length(max = limits::PASSWORD_CHARS_MAX), extend("format" = "password"))]
        new_password: String,
    }

    /// The query of `GET /v1/presence`.
    PresenceQuery {
        /// The users, separated by commas; a comma in a name is `%2C`. The parameter may be there several times.
        #[schemars(length(min = 1, max = limits::PRESENCE_USERS_MAX))]
        user_ids: Vec<ExternalId>,
    }
}

bodies! {
    /// One server-sent event of a stream, of which there are any number.
    StreamedEvent {
        /// The place in the stream behind it. The next request begins there with it as `Last-Event-ID`. Some events have none.
        #[schemars(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// The name of the event, as on `/ws`. A comment has none.
        #[schemars(skip_serializing_if = "Option::is_none")]
        event: Option<String>,
        /// Its data, a JSON value.
        #[schemars(skip_serializing_if = "Option::is_none")]
        data: Option<String>,
        /// Milliseconds until the client comes back after the end of the stream.
        #[schemars(skip_serializing_if = "Option::is_none")]
        retry: Option<u32>,
    }
}

/// The body of `POST /v1/events`.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum PublishBodyData {
    /// One event.
    One(Box<PublishData>),
    /// Several.
    Many(PublishListData),
}

/// The answer to a publish request.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum PublishAnswer {
    /// To one event.
    One(crate::protocol::server::Published),
    /// To several.
    Many(super::events::Results),
}
