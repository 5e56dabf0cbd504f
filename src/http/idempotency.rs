//! The header `Idempotency-Key`: a request that makes something is repeated with the same key, and makes it once.
//!
//! The key stands for the id of what is made, where the body names none. So nothing is kept beside what the request made: a key holds for
//! as long as that exists, and a repeated request gets the first result in the way in which a repeated id does. It knows nothing of what is made.

use aws_lc_rs::digest;
use axum::extract::FromRequestParts;
use axum::http::HeaderName;
use axum::http::request::Parts;
use uuid::{Builder, Uuid};

use super::error::ApiError;
use crate::domain::{ChatId, ExternalId, MessageId};
use crate::protocol::Fault;

const NAME: HeaderName = HeaderName::from_static("idempotency-key");
/// The largest number of characters of a key, without quotes.
pub(super) const CHARS_MAX: usize = 255;
/// The same as `key`, for the description.
pub(super) const PATTERN: &str = r#"^("[ !#-~]{1,255}"|[!#-~]([ !#-~]{0,253}[!#-~])?)$"#;

/// The key of a request. None: it has no such header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IdempotencyKey(Option<String>);

/// The kind of what a key stands for: the same key may make one of each.
#[derive(Debug, Clone, Copy)]
enum Made {
    Message,
    Chat,
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let mut values = parts.headers.get_all(NAME).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(Self(None)),
            (Some(value), None) => Ok(Self(Some(key(value.as_bytes()).ok_or_else(unreadable)?))),
            (Some(_), Some(_)) => Err(Fault::invalid("there must be one header `Idempotency-Key`").into()),
        }
    }
}

impl IdempotencyKey {
    /// The id of the message or event that this user's request makes. None: without a key the service chooses one.
    pub(super) fn message(&self, user: &ExternalId) -> Option<MessageId> {
        self.id(Made::Message, user).map(MessageId)
    }

    /// The id of the group that this user's request makes. None: without a key the service chooses one.
    pub(super) fn chat(&self, user: &ExternalId) -> Option<ChatId> {
        self.id(Made::Chat, user).map(ChatId)
    }

    /// A key that is a UUID is the id of a message itself: a client that repeats the request over the socket names the same one. Another
    /// key makes an id of the user's own (RFC 9562, version 8), so two users may have the same key.
    fn id(&self, made: Made, user: &ExternalId) -> Option<Uuid> {
        let key = self.0.as_deref()?;
        match (made, Uuid::try_parse(key)) {
            (Made::Message, Ok(id)) => Some(id),
            (Made::Message | Made::Chat, _) => Some(derived(made, user, key)),
        }
    }
}

fn derived(made: Made, user: &ExternalId, key: &str) -> Uuid {
    let kind = match made {
        Made::Message => "message",
        Made::Chat => "chat",
    };
    // No part can hold the separator: the first is one of two, and a name has no control character.
    let text = format!("{kind}\0{}\0{key}", user.as_str());
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_ref()[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// The key in a value of the header, with or without the quotes of a structured field (RFC 9651).
fn key(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let fits = (1..=CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"');
    fits.then(|| text.to_owned())
}

fn unreadable() -> Fault {
    Fault::invalid(format!("`Idempotency-Key` must be 1 to {CHARS_MAX} visible ASCII characters, none of them a quotation mark"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> ExternalId {
        ExternalId::try_from(name.to_owned()).unwrap()
    }

    fn of(text: &str) -> IdempotencyKey {
        IdempotencyKey(Some(key(text.as_bytes()).unwrap()))
    }

    #[test]
    fn a_key_makes_one_id_for_each_user_and_kind_and_always_the_same() {
        let (anna, ben) = (user("anna"), user("ben"));
        assert_eq!(of("order-7").message(&anna), of("\"order-7\"").message(&anna));
        assert_ne!(of("order-7").message(&anna), of("order-7").message(&ben));
        assert_ne!(of("order-7").message(&anna), of("order-8").message(&anna));
        assert_ne!(of("order-7").message(&anna).map(|id| id.0), of("order-7").chat(&anna).map(|id| id.0));
        assert_eq!(of("order-7").message(&anna).map(|id| id.0.get_version_num()), Some(8));
        assert_eq!(IdempotencyKey(None).message(&anna), None);
    }

    #[test]
    fn a_key_that_is_a_uuid_is_the_id_of_the_message_and_never_that_of_a_chat() {
        let (anna, id) = (user("anna"), "0192f0c0-7d4e-7cc3-98c4-dc0c0c07398f");
        assert_eq!(of(id).message(&anna).map(|id| id.0.to_string()).as_deref(), Some(id));
        assert_ne!(of(id).chat(&anna).map(|chat| chat.0.to_string()).as_deref(), Some(id));
    }

    #[test]
    fn a_key_is_visible_text_of_bounded_length() {
        for bad in ["", "\"\"", "\"", "\"a", "a\"b", "a\tb", "\u{e4}", &"x".repeat(256)] {
            assert_eq!(key(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(key(b"\xff"), None);
        assert_eq!(key("x".repeat(255).as_bytes()).map(|key| key.len()), Some(255));
    }
}
