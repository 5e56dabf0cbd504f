//! A message as statements bring it: the columns that pages of an inbox and of a chat have in common, and the senders
//! that are shared among the messages of one page.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

use super::sealing::SealedRow;
use super::{Error, Result};
use crate::domain::{ChatId, ChatSeq, Extension, ExternalId, Message, MessageId, Profile, Recall, UserId, depth_fits, limits};
use crate::encryption::Plain;

/// The senders of a page, by number.
pub(super) type Senders = HashMap<i64, Arc<Profile>>;

/// A message, or nothing: the row of a left join.
#[derive(Default)]
pub(super) struct MessageRow {
    pub(super) message_id: Option<Uuid>,
    pub(super) chat_id: Option<Uuid>,
    pub(super) chat_seq: Option<i64>,
    pub(super) message_type: Option<String>,
    pub(super) content: Option<String>,
    pub(super) metadata: Option<String>,
    pub(super) created_at: Option<OffsetDateTime>,
    pub(super) expires_at: Option<OffsetDateTime>,
    pub(super) sender_id: Option<i64>,
    pub(super) sender: Option<String>,
    pub(super) sender_name: Option<String>,
    pub(super) sender_picture: Option<String>,
    pub(super) recalled_at: Option<OffsetDateTime>,
    pub(super) sealed: Option<Vec<u8>>,
    /// The key of `sealed`. Once rows were opened: it cannot be read.
    pub(super) key_id: Option<String>,
}

impl MessageRow {
    /// None where there is no message.
    pub(super) fn into_message(self, senders: &mut Senders) -> Result<Option<Message>> {
        let Some(id) = self.message_id else { return Ok(None) };
        let (recall, is_sealed) = (self.recall()?, self.key_id.is_some());
        let (Some(chat), Some(seq), Some(sender_id), Some(sender), Some(created_at)) =
            (self.chat_id, self.chat_seq, self.sender_id, self.sender, self.created_at)
        else {
            return Err(unreadable("it has no chat, number or sender, or no time that can be told"));
        };
        // Clients' parsers end somewhere; what the service accepts itself is far from that.
        if self.metadata.as_ref().is_some_and(|metadata| !depth_fits(metadata, limits::JSON_DEPTH_MAX)) {
            return Err(unreadable("its metadata is nested too deeply for clients to read"));
        }
        let sender = match senders.get(&sender_id) {
            Some(known) => Arc::clone(known),
            None => {
                let sender = Arc::new(profile(sender_id, sender, self.sender_name, self.sender_picture)?);
                senders.insert(sender_id, Arc::clone(&sender));
                sender
            }
        };
        Ok(Some(Message {
            id: MessageId(id),
            chat: ChatId(chat),
            seq: ChatSeq(seq),
            sender,
            message_type: self.message_type.unwrap_or_default(),
            is_unreadable: is_sealed,
            content: match recall {
                Some(_) => String::new(),
                None if is_sealed => String::new(),
                None => self.content.ok_or_else(|| unreadable("it has no content"))?,
            },
            metadata: self.metadata.map(RawValue::from_string).transpose().map_err(decode)?,
            created_at,
            expires_at: self.expires_at,
            recall,
            extension: Extension::default(),
        }))
    }

    /// Its part in a recall. The content of a notice is the id of the message that was recalled.
    fn recall(&self) -> Result<Option<Recall>> {
        if !self.chat_seq.is_some_and(|seq| ChatSeq(seq).is_of_notice()) {
            return Ok(self.recalled_at.map(Recall::Recalled));
        }
        let of = self.content.as_deref().and_then(|id| Uuid::try_parse(id).ok());
        of.map(|id| Some(Recall::NoticeOf(MessageId(id)))).ok_or_else(|| unreadable("it is the notice of a recall, and names no message"))
    }
}

impl SealedRow for MessageRow {
    fn sealed(&self) -> Option<(Uuid, &str, &[u8])> {
        Some((self.message_id?, self.key_id.as_deref()?, self.sealed.as_deref()?))
    }

    fn open_as(&mut self, plain: Plain) {
        (self.content, self.metadata) = (Some(plain.content.unwrap_or_default()), plain.metadata);
        (self.sealed, self.key_id) = (None, None);
    }
}

pub(super) fn profile(user: i64, external: String, name: Option<String>, picture: Option<String>) -> Result<Profile> {
    Ok(Profile { user: UserId(user), external: ExternalId::try_from(external).map_err(decode)?, name, picture })
}

fn unreadable(what: &'static str) -> Error {
    Error::Failed(sqlx::Error::Decode(what.into()))
}

fn decode(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Failed(sqlx::Error::Decode(Box::new(error)))
}
