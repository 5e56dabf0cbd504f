//! The one table of errors: stable code, HTTP status, close code, whether the client may connect again, meaning.
//!
//! Every refusal of the service is a [`Fault`] with one of these codes, over HTTP and over the socket. The
//! table in the protocol's documentation is [`table_markdown`]. Close codes of 4000 and above are 4000 plus
//! the HTTP status wherever there is a fitting one (RFC 6455 section 7.4.2 leaves 4000–4999 to applications).

use std::borrow::Cow;
use std::fmt::Write as _;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::domain::MessageId;

/// Says if a client may connect again after a close with this code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComeBack {
    /// At once, or after `retryAfterMs`.
    Yes,
    /// After a pause that grows with each try.
    Later,
    /// With another token, and after such a pause: it may be refused as the one before was.
    WithNewToken,
    /// Not by itself: the same again would end the same way.
    No,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The code.
    pub code: Code,
    /// As it is written on the wire. Never changes.
    pub name: &'static str,
    /// The status of an HTTP answer with this code.
    pub http: u16,
    /// The close code when a connection ends because of it; `None`: it never ends one.
    pub close: Option<u16>,
    /// Says if the client may connect again after that close.
    pub come_back: ComeBack,
    /// One line for people.
    pub meaning: &'static str,
}

macro_rules! codes {
    ($($variant:ident $name:literal $http:literal $close:tt $come_back:ident $meaning:literal;)*) => {
        /// The reason for which a request was refused or a connection was closed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $meaning] $variant,)*
        }

        /// Every code once, in the order of [`Code`].
        pub const TABLE: &[Row] = &[
            $(Row {
                code: Code::$variant,
                name: $name,
                http: $http,
                close: codes!(@close $close),
                come_back: ComeBack::$come_back,
                meaning: $meaning,
            },)*
        ];
    };
    (@close -) => { None };
    (@close $close:literal) => { Some($close) };
}

codes! {
    BadFrame "bad_frame" 400 4400 No "Not a text frame with one JSON object that names an event (over HTTP: not a JSON object).";
    UnknownEvent "unknown_event" 400 - Yes "There is no such event.";
    Invalid "invalid" 400 4400 No "A field is missing, of the wrong type, or beyond its limit; the message names it.";
    NotAuthenticated "not_authenticated" 401 4401 WithNewToken "No token, or one that is not valid.";
    TokenExpired "token_expired" 401 4401 WithNewToken "The token's `exp` has passed.";
    TokenRevoked "token_revoked" 401 4401 WithNewToken "The token was revoked: log in again.";
    BadCredentials "bad_credentials" 401 - Yes "The name or the password is wrong; nothing says which.";
    LoginEnded "login_ended" 401 - Yes "The refresh token is of no login that lasts: log in with the password.";
    KeysUnavailable "keys_unavailable" 503 4503 Later "The key of the token is not known, and cannot be fetched now: keep the token, and come back.";
    AuthenticationTimeout "authentication_timeout" 408 4408 Yes "The connection did not authenticate in time.";
    OtherUser "other_user" 403 - Yes "`authenticate` with the token of another user: open another connection for it.";
    Forbidden "forbidden" 403 4403 No "The user may not do this, or the scope of its token does not allow it.";
    NotAMember "not_a_member" 403 - Yes "The user is not in this chat, or there is no such chat.";
    NotAccepted "not_accepted" 403 - Yes "The other user takes no direct messages from this one, or is not added to groups by it. Nothing says why.";
    NotFound "not_found" 404 - Yes "There is no such thing, or the user may not see it.";
    MethodNotAllowed "method_not_allowed" 405 - Yes "The path exists, but not with this HTTP method.";
    Conflict "conflict" 409 - Yes "It contradicts what is there: another sender's message id, a direct chat's members.";
    NameTaken "name_taken" 409 - Yes "The name of the account is taken.";
    AckAhead "ack_ahead" 409 - Yes "`upTo` is above what this connection has emitted; nothing was changed.";
    TooManyMembers "too_many_members" 409 - Yes "The group would have more members than allowed.";
    TooLate "too_late" 409 - Yes "The time in which this could be done is over.";
    TurnedOff "turned_off" 403 - Yes "The operator has turned this off.";
    TooLarge "too_large" 413 4413 No "The frame or body is larger than allowed.";
    UnsupportedEncoding "unsupported_encoding" 415 - Yes "The body has a `Content-Encoding`, and none is decoded: send it as it is.";
    UpgradeRequired "upgrade_required" 426 - Yes "The WebSocket has another version than 13, the only one that is spoken (RFC 6455).";
    RateLimited "rate_limited" 429 - Later "Too much in too short a time; again after `retryAfterMs`.";
    TooManyChats "too_many_chats" 429 - Yes "The user has begun too many direct chats within the hour.";
    TooManySessions "too_many_sessions" 429 4429 Later "The user has as many connections as allowed.";
    Displaced "displaced" 409 4509 No "A newer connection of the same device took over; this socket must not be reopened.";
    NoAcks "no_acks" 503 4503 Later "Nothing at all was acked in time: the client seems to be gone.";
    TooSlow "too_slow" 503 4503 Later "The client does not read as fast as it is sent to, or its acks could not be written for too long.";
    Busy "busy" 503 4503 Later "More work is queued than will be taken; again after `retryAfterMs`. Nothing was stored.";
    Unavailable "unavailable" 503 4503 Later "The database does not answer. Nothing was stored, as far as is known: repeat with the same id.";
    PolicyUnavailable "policy_unavailable" 503 - Yes "The application's rule for direct messages could not be asked. Nothing was stored: repeat with the same id after `retryAfterMs`.";
    Restart "restart" 503 1012 Yes "The node stops as planned; connect again, to any node.";
    Internal "internal" 500 1011 Later "A fault of the service; its log says more.";
}

impl Code {
    /// This code's line of the table.
    pub const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// As it is written on the wire.
    pub const fn as_str(self) -> &'static str {
        self.row().name
    }

    /// The HTTP status.
    pub const fn http(self) -> u16 {
        self.row().http
    }

    /// The close code when a connection ends because of it: where the table has none, the fault was the service's (1011).
    pub fn close(self) -> u16 {
        self.row().close.unwrap_or(1011)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl JsonSchema for Code {
    fn schema_name() -> Cow<'static, str> {
        "Code".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = |row: &Row| serde_json::json!({"type": "string", "const": row.name, "description": row.meaning});
        json_schema!({"description": "The reason for which something was refused.", "oneOf": TABLE.iter().map(one).collect::<Vec<_>>()})
    }
}

/// A refusal as the client sees it: the data of `error`, and the body's `error` over HTTP. It never holds database text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{}: {message}", code.as_str())]
pub struct Fault {
    /// The stable code, for programs.
    pub code: Code,
    /// The text for people. Its words may change.
    pub message: Cow<'static, str>,
    /// The time after which to try again, in milliseconds. None: the fault gives no time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The earlier message that was refused for now, and that this one would overtake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<MessageId>,
}

impl Fault {
    /// A refusal in these words.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None, behind: None }
    }

    /// A refusal in the table's words.
    pub fn plain(code: Code) -> Self {
        Self::new(code, code.row().meaning)
    }

    /// `invalid`, in these words.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Invalid, message)
    }

    /// The same, with a time to try again.
    #[must_use]
    pub fn retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// The same, behind this message.
    #[must_use]
    pub fn behind(mut self, message: MessageId) -> Self {
        self.behind = Some(message);
        self
    }
}

impl From<Code> for Fault {
    fn from(code: Code) -> Self {
        Self::plain(code)
    }
}

/// The table as it stands in the protocol's documentation.
pub fn table_markdown() -> String {
    let mut out = String::from("| code | HTTP | close | come back | meaning |\n|---|---|---|---|---|\n");
    for row in TABLE {
        let close = row.close.map_or_else(|| "–".to_owned(), |code| code.to_string());
        let come_back = match (row.close, row.come_back) {
            (None, _) => "–",
            (Some(_), ComeBack::Yes) => "yes",
            (Some(_), ComeBack::Later) => "later",
            (Some(_), ComeBack::WithNewToken) => "with a new token",
            (Some(_), ComeBack::No) => "no",
        };
        let _ = writeln!(out, "| `{}` | {} | {close} | {come_back} | {} |", row.name, row.http, row.meaning);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_code_finds_its_own_line() {
        for row in TABLE {
            assert_eq!(row.code.row().name, row.name);
        }
        assert_eq!(TABLE.iter().map(|row| row.name).collect::<HashSet<_>>().len(), TABLE.len());
    }

    #[test]
    fn statuses_and_close_codes_are_in_their_ranges() {
        for row in TABLE {
            assert!((400..=599).contains(&row.http), "{}", row.name);
            assert!(row.close.is_none_or(|code| matches!(code, 1011 | 1012 | 4400..=4599)), "{}", row.name);
        }
    }

    #[test]
    fn one_close_code_gives_one_answer_to_may_i_come_back() {
        for a in TABLE.iter().filter(|row| row.close.is_some()) {
            for b in TABLE.iter().filter(|row| row.close == a.close) {
                assert_eq!(a.come_back, b.come_back, "{} and {}", a.name, b.name);
            }
        }
    }

    #[test]
    fn the_markdown_has_a_line_for_each_code() {
        assert_eq!(table_markdown().lines().count(), TABLE.len() + 2);
        assert!(table_markdown().contains("| `displaced` | 409 | 4509 | no |"));
    }
}
