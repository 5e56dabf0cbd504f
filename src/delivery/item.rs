//! The requests to lanes, and their answers.

use std::sync::Arc;

use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::chain::Chain;
use crate::domain::{ChatId, ChatSeq, Clock, DeviceId, InboxSeq, MessageId, PerClass, Profile, SessionId};
use crate::protocol::Timestamp;
use crate::protocol::client::SendRequest;
use crate::protocol::server::SentAnswer;
use crate::store::StatusRow;

/// A message to accept.
#[derive(Debug)]
pub struct SendItem {
    /// Its id: made before the first try, so that a try whose outcome is unknown can be repeated.
    pub id: MessageId,
    /// Its sender.
    pub sender: Arc<Profile>,
    /// The connection it came by; the sender's others are told.
    pub origin: Option<SessionId>,
    /// The chat.
    pub chat: ChatId,
    /// The type, such as `text` or `image`: 1 to [`crate::domain::limits::MESSAGE_TYPE_CHARS_MAX`] characters.
    pub message_type: String,
    /// The text, at most [`crate::domain::limits::CONTENT_BYTES_MAX`] bytes; may be empty.
    pub content: String,
    /// The client's own JSON.
    pub metadata: Option<Box<RawValue>>,
    /// From then on it is not delivered any more.
    pub expires_at: Option<OffsetDateTime>,
    /// The messages of its connection and chat that it must not overtake.
    pub chain: Chain,
}

impl SendItem {
    /// A client's request, with an id of this node's, by its clock, if the client chose none. It is in no chain.
    pub fn new(sender: Arc<Profile>, origin: Option<SessionId>, chat: ChatId, request: SendRequest, clock: &Clock) -> Self {
        Self {
            id: request.message_id.unwrap_or_else(|| MessageId::generate_by(clock)),
            sender,
            origin,
            chat,
            message_type: request.message_type,
            content: request.content,
            metadata: request.metadata,
            expires_at: request.expires_at,
            chain: Chain::default(),
        }
    }
}

/// A message that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub message: MessageId,
    /// Its chat.
    pub chat: ChatId,
    /// Its number there.
    pub seq: ChatSeq,
    /// When.
    pub created_at: OffsetDateTime,
    /// It had been accepted before.
    pub duplicate: bool,
}

impl From<Accepted> for SentAnswer {
    fn from(accepted: Accepted) -> Self {
        Self {
            message_id: accepted.message,
            chat_id: accepted.chat,
            seq: accepted.seq,
            created_at: Timestamp(accepted.created_at),
            duplicate: accepted.duplicate,
        }
    }
}

/// Acks of one user, to be made true together.
#[derive(Debug)]
pub struct Acks {
    /// The recipient that acked.
    pub user: Arc<Profile>,
    /// Rows, by number.
    pub rows: Vec<StatusRow>,
    /// Messages whose rows are to be found first; unknown ones are ignored.
    pub by_id: Vec<MessageId>,
    /// Marks that the session proposes for the chats of `rows`.
    pub marks: Vec<(ChatId, ChatSeq)>,
    /// A device, and how far it has acked per class.
    pub device: Option<(DeviceId, PerClass<InboxSeq>)>,
}

impl Acks {
    /// Returns whether there is nothing to write.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.by_id.is_empty() && self.marks.is_empty() && self.device.is_none()
    }

    /// Adds what the same connection acked right after: one job for the lane instead of two.
    pub fn join(&mut self, later: Self) {
        self.rows.extend(later.rows);
        self.by_id.extend(later.by_id);
        for (chat, seq) in later.marks {
            match self.marks.last_mut() {
                Some((last, mark)) if *last == chat => *mark = seq.max(*mark),
                Some(_) | None => self.marks.push((chat, seq)),
            }
        }
        // A cursor only grows, and the later one knows of everything before it.
        self.device = later.device.or(self.device.take());
    }
}

/// Up to where a chat is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadUpTo {
    /// This number.
    Seq(ChatSeq),
    /// This message.
    Message(MessageId),
}

/// A read that is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadDone {
    /// Everything up to here is read.
    pub up_to: ChatSeq,
}

/// The row that an attempt is counted against.
#[derive(Debug, Clone, Copy)]
pub enum AttemptTarget {
    /// This row.
    Row(StatusRow),
    /// The row of this message.
    Message(MessageId),
}

/// An attempt to count.
#[derive(Debug)]
pub struct Attempt {
    /// The recipient.
    pub user: Arc<Profile>,
    /// The row.
    pub target: AttemptTarget,
    /// The reason for which the attempt failed.
    pub reason: String,
    /// True if this attempt is the last one, whatever the count.
    pub is_final: bool,
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{ExternalId, UserId};

    #[test]
    fn acks_that_follow_one_another_become_one_job_with_the_furthest_mark_of_each_run_and_the_latest_cursor() {
        let external = ExternalId::try_from("bob".to_owned()).expect("a name is an id");
        let user = Arc::new(Profile { user: UserId(1), external, name: None, picture: None });
        let device = DeviceId::try_from("phone".to_owned()).expect("a name is an id");
        let [one, two] = [1, 2].map(|n| ChatId(Uuid::from_u128(n)));
        let cursor_of = |seq| PerClass { chat: InboxSeq(seq), ..PerClass::default() };
        let acks = |message, marks: &[(ChatId, i64)], cursor: Option<i64>| Acks {
            user: Arc::clone(&user),
            rows: Vec::new(),
            by_id: vec![MessageId(Uuid::from_u128(message))],
            marks: marks.iter().map(|(chat, seq)| (*chat, ChatSeq(*seq))).collect(),
            device: cursor.map(|seq| (device.clone(), cursor_of(seq))),
        };
        let mut joined = acks(1, &[(one, 4)], Some(4));
        joined.join(acks(2, &[(one, 5)], Some(5)));
        joined.join(acks(3, &[(two, 1)], None));
        joined.join(acks(4, &[], Some(7)));
        assert_eq!(joined.by_id, [1, 2, 3, 4].map(|n| MessageId(Uuid::from_u128(n))));
        assert_eq!(joined.marks, [(one, ChatSeq(5)), (two, ChatSeq(1))]);
        assert_eq!(joined.device, Some((device, cursor_of(7))));
    }
}
