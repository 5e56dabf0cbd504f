//! The jobs of a settle lane: each is something to write for one user, and the reply that the asker waits for.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::delivery::Refusal;
use crate::delivery::item::{Acks, Attempt, ReadDone, ReadUpTo};
use crate::domain::{AttemptOutcome, ChatId, Profile, SessionId, UserId};

pub(super) type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// Says if an earlier try may have written the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Try {
    /// Nothing of it is written yet.
    First,
    /// It may be written already: the database went away during a try.
    Again,
}

/// Something to write for one user.
#[derive(Debug)]
pub(super) enum Job {
    Ack(AckJob),
    Attempt(AttemptJob),
    Read(ReadJob),
}

/// Acks that are not settled yet. Rows and ids leave it with each part that is committed.
#[derive(Debug)]
pub(super) struct AckJob {
    pub(super) acks: Acks,
    pub(super) reply: Reply<()>,
}

/// An attempt to count.
#[derive(Debug)]
pub(super) struct AttemptJob {
    pub(super) attempt: Attempt,
    pub(super) reply: Reply<AttemptOutcome>,
}

/// A chat to mark as read.
#[derive(Debug)]
pub(super) struct ReadJob {
    pub(super) user: Arc<Profile>,
    pub(super) chat: ChatId,
    pub(super) up_to: ReadUpTo,
    /// The session that reads; none: nobody's connection.
    pub(super) origin: Option<SessionId>,
    /// A part of it is committed, and this is the rest.
    pub(super) is_begun: bool,
    pub(super) reply: Reply<ReadDone>,
}

impl Job {
    pub(super) fn user(&self) -> UserId {
        match self {
            Self::Ack(job) => job.acks.user.user,
            Self::Attempt(job) => job.attempt.user.user,
            Self::Read(job) => job.user.user,
        }
    }

    /// Rows that it settles. How many a read settles is not known: it counts as one.
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Ack(job) => job.rows(),
            Self::Attempt(_) | Self::Read(_) => 1,
        }
    }

    /// True for the rest of a read. Nobody knows how much of it is left.
    pub(super) const fn is_rest_of_read(&self) -> bool {
        matches!(self, Self::Read(ReadJob { is_begun: true, .. }))
    }

    pub(super) fn fail(self, refusal: Refusal) {
        // The asker may be gone.
        match self {
            Self::Ack(job) => drop(job.reply.send(Err(refusal))),
            Self::Attempt(job) => drop(job.reply.send(Err(refusal))),
            Self::Read(job) => drop(job.reply.send(Err(refusal))),
        }
    }
}

impl AckJob {
    pub(super) fn rows(&self) -> usize {
        self.acks.rows.len() + self.acks.by_id.len()
    }
}

/// Jobs for tests.
#[cfg(test)]
pub(super) mod samples {
    use uuid::Uuid;

    use super::*;
    use crate::delivery::AttemptTarget;
    use crate::domain::{ChatSeq, Class, ExternalId, InboxSeq, MessageId};
    use crate::store::StatusRow;

    /// The reply to a job.
    pub(in crate::delivery::settle) type Answer<T> = oneshot::Receiver<Result<T, Refusal>>;

    pub(in crate::delivery::settle) const CHAT: ChatId = ChatId(Uuid::from_u128(1));

    pub(in crate::delivery::settle) fn profile(user: i64) -> Arc<Profile> {
        let external = ExternalId::try_from(format!("user-{user}")).expect("a name is an id");
        Arc::new(Profile { user: UserId(user), external, name: None, picture: None })
    }

    /// A user's row of this number, in its inbox and in the chat.
    pub(in crate::delivery::settle) fn row(user: i64, seq: i64) -> StatusRow {
        StatusRow {
            user: UserId(user),
            class: Class::Chat,
            seq: InboxSeq(seq),
            message: message(seq),
            chat: CHAT,
            chat_seq: ChatSeq(seq),
            sender: UserId(7),
        }
    }

    /// The message of this number.
    pub(in crate::delivery::settle) fn message(seq: i64) -> MessageId {
        MessageId(Uuid::from_u128(seq.unsigned_abs().into()))
    }

    /// Acks of these rows, without marks and device.
    pub(in crate::delivery::settle) fn acks(user: i64, seqs: impl IntoIterator<Item = i64>) -> Acks {
        let rows = seqs.into_iter().map(|seq| row(user, seq)).collect();
        Acks { user: profile(user), rows, by_id: Vec::new(), marks: Vec::new(), device: None }
    }

    pub(in crate::delivery::settle) fn ack_job(acks: Acks) -> (AckJob, Answer<()>) {
        let (reply, answer) = oneshot::channel();
        (AckJob { acks, reply }, answer)
    }

    pub(in crate::delivery::settle) fn attempt_job(user: i64, target: AttemptTarget, reason: &str) -> (AttemptJob, Answer<AttemptOutcome>) {
        let (reply, answer) = oneshot::channel();
        let attempt = Attempt { user: profile(user), target, reason: reason.to_owned(), is_final: false };
        (AttemptJob { attempt, reply }, answer)
    }

    pub(in crate::delivery::settle) fn read_job(user: i64, up_to: ReadUpTo) -> (ReadJob, Answer<ReadDone>) {
        let (reply, answer) = oneshot::channel();
        (ReadJob { user: profile(user), chat: CHAT, up_to, origin: None, is_begun: false, reply }, answer)
    }
}
