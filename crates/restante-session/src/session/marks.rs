//! The marks that an ack may propose: per chat, the rows that the session holds (buffered or in flight) and the highest number
//! that was acked. Only chats of which something is held are remembered. Alerts and events have no marks: nothing of them is
//! remembered here, so nothing of them can keep a mark of a chat back. Nor is anything of the notices of recalls.
//!
//! The claim of a proposal: *once the settlement that carries it has been committed, no row of this user in this chat
//! at or below the mark is in `sent`, requeued rows excepted.* It holds because a user's rows of one chat have inbox numbers
//! in the order of their chat numbers, and the session takes every row that waits in the order of the inbox. So every
//! row below the lowest one it holds was acked, or had ended otherwise when the page was read. It leans on two
//! things: settlements of one session are committed in their order, and the drain misses nothing: were the fallback
//! poll ever to find a waiting row below the cursor (a promoted replica that lost a commit, say), a mark proposed
//! earlier covers it until it is acked again.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use crate::domain::{ChatId, ChatSeq, Class, Envelope, InboxSeq};

/// The chats of which something is held.
#[derive(Debug, Default)]
pub(super) struct Marks {
    chats: HashMap<ChatId, Held>,
    /// Chats of which a row is past its time, and when that was seen last. It may wait in the database for a moment yet: then
    /// no mark may pass it, and none is proposed.
    doubted: HashMap<ChatId, Instant>,
    /// The place in the chat inbox where the session began, if rows of whatever chat may wait below it. Then no mark is proposed either.
    began_above: Option<InboxSeq>,
}

#[derive(Debug, Default)]
struct Held {
    /// Chat numbers, and how many rows have it: a message that was requeued may be held under both its inbox numbers.
    waiting: BTreeMap<ChatSeq, u32>,
    /// The highest one acked since something has been held.
    acked: ChatSeq,
}

impl Marks {
    /// The marks of a session, with the place where it begins in the chat inbox, if that is above the low watermark.
    pub(super) fn new(began_above: Option<InboxSeq>) -> Self {
        Self { began_above, ..Self::default() }
    }

    /// Nothing waits at or below this number of the class.
    pub(super) fn settled(&mut self, class: Class, seq: InboxSeq) {
        if has_marks(class) {
            self.began_above = self.began_above.filter(|began| *began > seq);
        }
    }

    /// A row was taken: no mark covers it until it is acked.
    pub(super) fn hold(&mut self, class: Class, chat: ChatId, seq: ChatSeq) {
        if has_marks(class) && !seq.is_of_notice() {
            *self.chats.entry(chat).or_default().waiting.entry(seq).or_default() += 1;
        }
    }

    /// It was acked. Until [`Marks::propose`] has been asked, the chat is remembered.
    pub(super) fn ack(&mut self, envelope: &Envelope) {
        if !counts(envelope) {
            return;
        }
        let held = self.chats.entry(envelope.message.chat).or_default();
        held.release(envelope.message.seq);
        held.acked = held.acked.max(envelope.message.seq);
    }

    /// It ended without an ack here.
    pub(super) fn pass(&mut self, envelope: &Envelope) {
        let chat = envelope.message.chat;
        let Some(held) = self.chats.get_mut(&chat).filter(|_| counts(envelope)) else { return };
        held.release(envelope.message.seq);
        if held.waiting.is_empty() {
            self.chats.remove(&chat);
        }
    }

    /// Its time has come, and the database has not ended it yet, as far as is known.
    pub(super) fn doubt(&mut self, now: Instant, envelope: &Envelope) {
        self.pass(envelope);
        if counts(envelope) {
            self.doubted.insert(envelope.message.chat, now);
        }
    }

    /// The database has shown all that waits in the class, as it was after this instant: doubts from before are over, but for these
    /// chats, of which something waits past its time.
    pub(super) fn trust(&mut self, class: Class, seen_at: Instant, but: &[ChatId]) {
        if !has_marks(class) {
            return;
        }
        self.began_above = None;
        self.doubted.retain(|_, doubted| *doubted >= seen_at);
        for chat in but {
            self.doubted.entry(*chat).or_insert(seen_at);
        }
        self.doubted.shrink_to_fit();
    }

    /// The highest number up to which the chat has no hole, as far as this session can tell. None: it cannot tell.
    pub(super) fn propose(&mut self, chat: ChatId) -> Option<ChatSeq> {
        let is_doubted = self.began_above.is_some() || self.doubted.contains_key(&chat);
        let held = self.chats.get(&chat)?;
        let mark = match held.waiting.first_key_value() {
            // Own messages and numbers without a row for this user count as passed: hence not the highest one acked.
            Some((lowest, _)) => ChatSeq(lowest.0.saturating_sub(1)),
            None => held.acked,
        };
        if held.waiting.is_empty() {
            self.chats.remove(&chat);
        }
        (mark > ChatSeq(0) && !is_doubted).then_some(mark)
    }

    /// Gives back what is not needed.
    pub(super) fn shrink(&mut self) {
        self.chats.shrink_to_fit();
    }

    /// The number of chats of which something is remembered as held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.chats.len()
    }
}

/// Returns whether marks speak of it.
fn counts(envelope: &Envelope) -> bool {
    has_marks(envelope.class) && !envelope.message.seq.is_of_notice()
}

const fn has_marks(class: Class) -> bool {
    match class {
        Class::Chat => true,
        Class::Alert | Class::Event => false,
    }
}

impl Held {
    fn release(&mut self, seq: ChatSeq) {
        if let Some(rows) = self.waiting.get_mut(&seq) {
            *rows -= 1;
            if *rows == 0 {
                self.waiting.remove(&seq);
            }
        }
    }
}
