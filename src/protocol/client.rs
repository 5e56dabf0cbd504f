//! Frames from clients: hostile text in, checked values out. A value that comes out of here can be stored:
//! sizes, depth, characters and numbers have been held against what PostgreSQL and other clients take.

use secrecy::SecretString;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::fields::{Fields, check_depth, data_fields};
pub use super::frame_id::FrameId;
use super::invitations;
use super::people::{self, ContactCommand, PeopleCommand, PeoplePage};
use super::publish::PublishRequest;
use super::{Code, Fault, Timestamp};
use crate::domain::{ChatId, ChatSeq, Class, ExternalId, InboxSeq, MessageId, RESERVED_TYPES, limits};

/// A frame that can be acted on.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Set when the client wants an answer.
    pub id: Option<FrameId>,
    /// The event with its data.
    pub event: ClientEvent,
}

/// A frame that cannot, and the id to answer to when it could be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{fault}")]
pub struct FrameError {
    /// The frame's id.
    pub id: Option<FrameId>,
    /// The fault.
    #[source]
    pub fault: Fault,
}

/// The events of clients.
#[derive(Debug, Clone)]
pub enum ClientEvent {
    /// `authenticate`: the first token, or a new one of the same user.
    Authenticate {
        /// The JWT.
        token: SecretString,
    },
    /// `message:send`.
    Send(SendRequest),
    /// `event:publish`.
    Publish(Box<PublishRequest>),
    /// `message:skip`: a message that was refused for now will not be sent again.
    Skip(MessageId),
    /// `message:delivered`: the ack.
    Delivered(AckRequest),
    /// `message:reject`.
    Reject(RejectRequest),
    /// `message:recall`: the sender takes this message back.
    Recall(MessageId),
    /// `message:read`.
    Read(ReadRequest),
    /// `typing`: told to the members who are there, stored nowhere.
    Typing {
        /// The chat.
        chat: ChatId,
        /// Began or stopped.
        typing: bool,
    },
    /// `presence:get`.
    PresenceGet(Vec<ExternalId>),
    /// `presence:subscribe`.
    PresenceSubscribe(Vec<ExternalId>),
    /// A command about another user.
    People(PeopleCommand),
    /// `ping`.
    Ping,
}

/// The target of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendTarget {
    /// This chat.
    Chat(ChatId),
    /// The direct chat with this user, made when it is missing.
    User(ExternalId),
}

/// The data of `message:send`, and the body of `POST /v1/messages`.
#[derive(Debug, Clone)]
pub struct SendRequest {
    /// The id, when the client has chosen one.
    pub message_id: Option<MessageId>,
    /// The chat or user to which the message goes.
    pub target: SendTarget,
    /// The text, at most [`limits::CONTENT_BYTES_MAX`] bytes; may be empty, for example when all data is in the metadata.
    pub content: String,
    /// 1 to [`limits::MESSAGE_TYPE_CHARS_MAX`] characters; `text` when the client names none.
    pub message_type: String,
    /// The client's own JSON.
    pub metadata: Option<Box<RawValue>>,
    /// From then on it is not delivered any more. The database's clock decides whether it has passed.
    pub expires_at: Option<OffsetDateTime>,
}

/// The data of `message:delivered`, and the body of `POST /v1/inbox/ack`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AckRequest {
    /// These messages, at most [`limits::IDS_MAX`]; possibly none.
    Messages(Vec<MessageId>),
    /// Everything in this inbox up to here.
    UpTo {
        /// `chat` unless the client says otherwise.
        class: Class,
        /// The last number.
        seq: InboxSeq,
    },
}

/// An answer to envelopes that a client has brought over HTTP. It is committed: its event stream is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommittedAnswer {
    /// It has these.
    Acks(AckRequest),
    /// It has rejected this message, which still waits.
    Reject {
        /// The message.
        message: MessageId,
        /// The attempts that are counted against it.
        attempts: u16,
    },
}

/// The data of `message:reject`, and the body of `POST /v1/inbox/reject`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectRequest {
    /// The message.
    pub message: MessageId,
    /// The client's words, cut to [`limits::REASON_CHARS_MAX`] characters; never empty.
    pub reason: String,
    /// Do not try again.
    pub is_final: bool,
}

/// The data of `message:read`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRequest {
    /// The chat.
    pub chat: ChatId,
    /// Up to where.
    pub target: ReadUpTo,
}

/// The messages that a read names. Also the body of `POST /v1/chats/{chatId}/read`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadUpTo {
    /// This number of the chat.
    Seq(ChatSeq),
    /// This message.
    Message(MessageId),
}

/// Reads one text frame.
///
/// # Errors
/// The frame is too large, is no JSON object, or holds a field that is not valid. The error carries the frame's id once it is read.
pub fn parse(text: &str) -> Result<Frame, FrameError> {
    if text.len() > limits::FRAME_BYTES_MAX {
        let words = format!("a frame must be at most {} bytes", limits::FRAME_BYTES_MAX);
        return Err(FrameError { id: None, fault: Fault::new(Code::TooLarge, words) });
    }
    // Fields::of does not recurse, so it may look for the id in text of any depth; what parses values comes after the check.
    let fields = Fields::of(text, ["event", "id", "data"])
        .map_err(|fault| FrameError { id: None, fault: Fault::new(Code::BadFrame, format!("the frame: {}", fault.message)) })?;
    let id = fields.optional::<FrameId>("id").map_err(|fault| FrameError { id: None, fault })?;
    match check_depth(text).and_then(|()| event(&fields)) {
        Ok(event) => Ok(Frame { id, event }),
        Err(fault) => Err(FrameError { id, fault }),
    }
}

/// The answer to every binary frame.
pub fn refuse_binary() -> FrameError {
    FrameError { id: None, fault: Fault::new(Code::BadFrame, "frames are text; this one was binary") }
}

fn event(fields: &Fields<'_, 3>) -> Result<ClientEvent, Fault> {
    let name = fields.required::<String>("event").map_err(|fault| Fault::new(Code::BadFrame, fault.message))?;
    ClientEvent::parse(&name, fields.raw("data").map_or("{}", RawValue::get))
}

impl ClientEvent {
    /// Reads an event by its name. The depth of the data has been checked.
    ///
    /// # Errors
    /// There is no such event, or its data is not valid.
    pub(super) fn parse(name: &str, data: &str) -> Result<Self, Fault> {
        match name {
            "authenticate" => authenticate(data),
            "message:send" => SendRequest::parse(data).map(Self::Send),
            "event:publish" => PublishRequest::parse(data).map(Box::new).map(Self::Publish),
            "message:skip" => data_fields(data, ["messageId"])?.required("messageId").map(Self::Skip),
            "message:recall" => data_fields(data, ["messageId"])?.required("messageId").map(Self::Recall),
            "message:delivered" => AckRequest::parse(data).map(Self::Delivered),
            "message:reject" => RejectRequest::parse(data).map(Self::Reject),
            "message:read" => ReadRequest::parse(data).map(Self::Read),
            "typing" => typing(data),
            "presence:get" => user_ids(data).map(Self::PresenceGet),
            "presence:subscribe" => user_ids(data).map(Self::PresenceSubscribe),
            "contact:request" => people::user(data).map(|user| Self::People(PeopleCommand::Contact(ContactCommand::Request, user))),
            "contact:accept" => people::user(data).map(|user| Self::People(PeopleCommand::Contact(ContactCommand::Accept, user))),
            "contact:decline" => people::user(data).map(|user| Self::People(PeopleCommand::Contact(ContactCommand::Decline, user))),
            "contact:remove" => people::user(data).map(|user| Self::People(PeopleCommand::Contact(ContactCommand::Remove, user))),
            "contact:list" => people::contact_list(data).map(Self::People),
            "block:add" => people::user(data).map(PeopleCommand::Block).map(Self::People),
            "block:remove" => people::user(data).map(PeopleCommand::Unblock).map(Self::People),
            "block:list" => PeoplePage::parse(data).map(PeopleCommand::Blocks).map(Self::People),
            "invitation:accept" => invitations::accept(data).map(PeopleCommand::Invitation).map(Self::People),
            "invitation:decline" => invitations::decline(data).map(PeopleCommand::Invitation).map(Self::People),
            "invitation:list" => invitations::list(data).map(PeopleCommand::Invitation).map(Self::People),
            "ping" => Ok(Self::Ping),
            _ => Err(Fault::plain(Code::UnknownEvent)),
        }
    }
}

fn authenticate(data: &str) -> Result<ClientEvent, Fault> {
    let token = data_fields(data, ["token"])?.required::<String>("token")?;
    Ok(ClientEvent::Authenticate { token: token.into() })
}

fn typing(data: &str) -> Result<ClientEvent, Fault> {
    let fields = data_fields(data, ["chatId", "typing"])?;
    Ok(ClientEvent::Typing { chat: fields.required("chatId")?, typing: fields.required("typing")? })
}

fn user_ids(data: &str) -> Result<Vec<ExternalId>, Fault> {
    data_fields(data, ["userIds"])?.list("userIds", limits::PRESENCE_USERS_MAX)
}

/// Reads an HTTP body with one of the parsers of this module, which take text whose depth has been checked.
///
/// # Errors
/// [`Code::BadFrame`]: the body is not UTF-8 or no JSON object. Otherwise it is nested too deeply, or `parse` fails.
pub fn parse_body<T>(body: &[u8], parse: impl FnOnce(&str) -> Result<T, Fault>) -> Result<T, Fault> {
    let text = std::str::from_utf8(body).map_err(|_| Fault::new(Code::BadFrame, "the body must be UTF-8"))?;
    // The same text read for no field: it tells what is no JSON object at all from what lacks something.
    Fields::of(text, []).map_err(|fault| Fault::new(Code::BadFrame, format!("the body: {}", fault.message)))?;
    check_depth(text)?;
    parse(text)
}

impl SendRequest {
    /// Reads it from a JSON object.
    ///
    /// # Errors
    /// A field is missing or not valid, or not exactly one of `chatId` and `to` is named.
    pub fn parse(data: &str) -> Result<Self, Fault> {
        let fields = data_fields(data, ["messageId", "chatId", "to", "content", "messageType", "metadata", "expiresAt"])?;
        let target = match (fields.optional("chatId")?, fields.optional("to")?) {
            (Some(chat), None) => SendTarget::Chat(chat),
            (None, Some(user)) => SendTarget::User(user),
            (None, None) | (Some(_), Some(_)) => return Err(Fault::invalid("name exactly one of `chatId` and `to`")),
        };
        Ok(Self {
            message_id: fields.optional("messageId")?,
            target,
            content: content(fields.required("content")?)?,
            message_type: message_type(fields.optional("messageType")?)?,
            metadata: fields.optional("metadata")?,
            expires_at: fields.optional("expiresAt")?.map(|Timestamp(at)| at),
        })
    }
}

fn content(text: String) -> Result<String, Fault> {
    if text.len() <= limits::CONTENT_BYTES_MAX {
        return Ok(text);
    }
    Err(Fault::invalid(format!("`content` must be at most {} bytes of UTF-8, and is {}", limits::CONTENT_BYTES_MAX, text.len())))
}

fn message_type(text: Option<String>) -> Result<String, Fault> {
    let Some(text) = text else { return Ok("text".to_owned()) };
    if text.starts_with(RESERVED_TYPES) {
        return Err(Fault::invalid(format!("`messageType` must not begin with `{}`: such types are reserved", RESERVED_TYPES)));
    }
    if !text.is_empty() && text.chars().count() <= limits::MESSAGE_TYPE_CHARS_MAX {
        return Ok(text);
    }
    Err(Fault::invalid(format!("`messageType` must be 1 to {} characters", limits::MESSAGE_TYPE_CHARS_MAX)))
}

impl AckRequest {
    /// Reads it from a JSON object.
    ///
    /// # Errors
    /// A field is not valid, or not exactly one of `messageId`, `messageIds` and `upTo` is named.
    pub fn parse(data: &str) -> Result<Self, Fault> {
        let fields = data_fields(data, ["messageId", "messageIds", "upTo", "class"])?;
        let one = fields.optional("messageId")?;
        let many = fields.optional_list("messageIds", limits::IDS_MAX)?;
        let class = fields.optional("class")?.unwrap_or_default();
        match (one, many, fields.optional("upTo")?) {
            (Some(id), None, None) => Ok(Self::Messages(vec![id])),
            (None, Some(ids), None) => Ok(Self::Messages(ids)),
            (None, None, Some(seq)) => Ok(Self::UpTo { class, seq }),
            _ => Err(Fault::invalid("name exactly one of `messageId`, `messageIds` and `upTo`")),
        }
    }
}

impl RejectRequest {
    /// Reads it from a JSON object.
    ///
    /// # Errors
    /// The message is missing, or a field is not valid.
    pub fn parse(data: &str) -> Result<Self, Fault> {
        let fields = data_fields(data, ["messageId", "reason", "final"])?;
        let reason: String = fields.optional("reason")?.unwrap_or_default();
        let reason: String = reason.chars().take(limits::REASON_CHARS_MAX).collect();
        Ok(Self {
            message: fields.required("messageId")?,
            reason: if reason.trim().is_empty() { "rejected by the client".to_owned() } else { reason },
            is_final: fields.optional("final")?.unwrap_or(false),
        })
    }
}

impl ReadRequest {
    /// Reads it from a JSON object.
    ///
    /// # Errors
    /// The chat is missing, or the target is not valid.
    pub fn parse(data: &str) -> Result<Self, Fault> {
        Ok(Self { chat: data_fields(data, ["chatId"])?.required("chatId")?, target: ReadUpTo::parse(data)? })
    }
}

impl ReadUpTo {
    /// Reads it from a JSON object.
    ///
    /// # Errors
    /// A field is not valid, or not exactly one of `messageId` and `seq` is named.
    pub fn parse(data: &str) -> Result<Self, Fault> {
        let fields = data_fields(data, ["messageId", "seq"])?;
        match (fields.optional("messageId")?, fields.optional("seq")?) {
            (Some(message), None) => Ok(Self::Message(message)),
            (None, Some(seq)) => Ok(Self::Seq(seq)),
            (None, None) | (Some(_), Some(_)) => Err(Fault::invalid("name exactly one of `messageId` and `seq`")),
        }
    }
}
