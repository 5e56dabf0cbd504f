//! The state that all persons of one replay share: the chat, the messages that will be said, the outcome of each send, and the
//! progress. Message ids are made before the first line is said, so that a delivery finds its line.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::deliveries::MessageNo;
use super::log::{Action, Log, PersonNo};
use restante_client::{Destination, NewMessage};
use restante_session::domain::{ChatId, ChatSeq, MessageId};

/// The outcome of a send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// The service stored the message under this number.
    Accepted(ChatSeq),
    /// The service refused it for good, with this code.
    Refused(String),
}

/// A message that will be said, and what is known of its send.
#[derive(Debug)]
struct Planned {
    id: MessageId,
    speaker: PersonNo,
    content: Arc<str>,
    message_type: &'static str,
    said_at: OnceLock<Instant>,
    outcome: OnceLock<SendOutcome>,
}

/// The progress of a replay. The counters only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages whose outcome is known.
    pub settled: AtomicU64,
    /// Envelopes that came, first deliveries and others.
    pub envelopes: AtomicU64,
    /// First deliveries.
    pub deliveries: AtomicU64,
    /// Connections that the service greeted.
    pub greetings: AtomicU64,
    /// Persons who have received and read everything.
    pub finished: AtomicU64,
}

/// A message that the service has confirmed.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    /// The message.
    pub message: MessageNo,
    /// The person who sent it.
    pub speaker: PersonNo,
    /// Its number in the chat.
    pub seq: ChatSeq,
}

/// The state of one log's replay.
#[derive(Debug)]
pub struct ReplayState {
    /// The chat in which the log is played.
    pub chat: ChatId,
    /// The persons' users, by their numbers.
    pub names: Vec<Arc<str>>,
    /// The instant that counts as 0 in the histories.
    pub began: Instant,
    /// The progress.
    pub counters: Counters,
    /// Cancelled when the replay must end early; [`Self::failure`] has the reason.
    pub stop: CancellationToken,
    /// The reason of an early end.
    pub failure: OnceLock<String>,
    planned: Vec<Planned>,
    numbers: HashMap<MessageId, MessageNo>,
    open: Mutex<BTreeSet<MessageNo>>,
    freed: Notify,
}

impl ReplayState {
    /// Plans all messages of this log. `names` are the persons' users, by their numbers.
    pub fn new(chat: ChatId, log: &Log, names: Vec<Arc<str>>, began: Instant) -> Self {
        let said = log.steps.iter().filter_map(|step| match &step.action {
            Action::Says(text) => Some((step.person, text, "text")),
            Action::Acts(text) => Some((step.person, text, "action")),
            Action::Joins | Action::Leaves => None,
        });
        let planned: Vec<Planned> = said.map(|(speaker, text, message_type)| Planned::new(speaker, text, message_type)).collect();
        let numbers = planned.iter().enumerate().map(|(number, message)| (message.id, number)).collect();
        Self {
            chat,
            names,
            began,
            counters: Counters::default(),
            stop: CancellationToken::new(),
            failure: OnceLock::new(),
            planned,
            numbers,
            open: Mutex::default(),
            freed: Notify::new(),
        }
    }

    /// Number of messages that will be said.
    pub fn messages(&self) -> usize {
        self.planned.len()
    }

    /// The number of a message that was sent here.
    pub fn number(&self, id: MessageId) -> Option<MessageNo> {
        self.numbers.get(&id).copied()
    }

    /// The message to be sent. From now on it counts as said.
    pub fn say(&self, number: MessageNo) -> NewMessage {
        let planned = &self.planned[number];
        planned.said_at.get_or_init(Instant::now);
        NewMessage {
            message_id: planned.id,
            to: Destination::Chat(self.chat),
            content: planned.content.to_string(),
            message_type: Some(planned.message_type.to_owned()),
            metadata: None,
        }
    }

    /// The time at which it was first said.
    pub fn said_at(&self, number: MessageNo) -> Option<Instant> {
        self.planned[number].said_at.get().copied()
    }

    /// Waits until this message is within `window` of the oldest one whose outcome is not known.
    pub async fn enter(&self, number: MessageNo, window: usize) {
        loop {
            let freed = self.freed.notified();
            if self.try_enter(number, window) {
                return;
            }
            freed.await;
        }
    }

    fn try_enter(&self, number: MessageNo, window: usize) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let is_near = open.first().is_none_or(|oldest| number - oldest < window);
        if is_near {
            open.insert(number);
        }
        is_near
    }

    /// Waits until every outcome is known.
    pub async fn all_settled(&self) {
        loop {
            let freed = self.freed.notified();
            if self.open.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                return;
            }
            freed.await;
        }
    }

    /// Notes the outcome of a send. Returns false when another outcome was known before.
    pub fn settle(&self, number: MessageNo, outcome: SendOutcome) -> bool {
        let known = self.planned[number].outcome.get_or_init(|| outcome.clone());
        if self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number) {
            self.counters.settled.fetch_add(1, Ordering::Relaxed);
            self.freed.notify_one();
        }
        *known == outcome
    }

    /// The messages that the service confirmed, in the log's order.
    pub fn accepted(&self) -> Vec<Accepted> {
        let accepted = |(message, planned): (MessageNo, &Planned)| match planned.outcome.get() {
            Some(SendOutcome::Accepted(seq)) => Some(Accepted { message, speaker: planned.speaker, seq: *seq }),
            Some(SendOutcome::Refused(_)) | None => None,
        };
        self.planned.iter().enumerate().filter_map(accepted).collect()
    }

    /// The text of a message. Clones share it.
    pub fn content(&self, number: MessageNo) -> &Arc<str> {
        &self.planned[number].content
    }

    /// The id of a message.
    pub fn id(&self, number: MessageNo) -> MessageId {
        self.planned[number].id
    }

    /// Ends the replay early, for this reason. The first reason is kept.
    pub fn fail(&self, why: String) {
        let _ = self.failure.set(why);
        self.stop.cancel();
    }
}

impl Planned {
    fn new(speaker: PersonNo, text: &str, message_type: &'static str) -> Self {
        Self { id: MessageId::generate(), speaker, content: text.into(), message_type, said_at: OnceLock::new(), outcome: OnceLock::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn state() -> ReplayState {
        let log = Log::parse("[01:00] <a> 1\n=== b [x]  has joined #c\n=== b waves\n[01:00] <a> 3");
        ReplayState::new(ChatId::generate(), &log, vec!["a".into(), "b".into()], Instant::now())
    }

    #[test]
    fn only_what_is_said_is_planned() {
        let state = state();
        assert_eq!(state.messages(), 3);
        assert_eq!(state.say(1).message_type.as_deref(), Some("action"));
        assert_eq!(state.number(state.id(2)), Some(2));
        assert_eq!(state.number(MessageId::generate()), None);
    }

    #[tokio::test]
    async fn window_is_counted_from_the_oldest_open_message() {
        let state = state();
        state.enter(0, 2).await;
        state.enter(1, 2).await;
        state.settle(1, SendOutcome::Accepted(ChatSeq(1)));
        assert!(tokio::time::timeout(Duration::from_millis(20), state.enter(2, 2)).await.is_err());
        state.settle(0, SendOutcome::Accepted(ChatSeq(2)));
        state.enter(2, 2).await;
    }

    #[test]
    fn second_outcome_that_differs_is_noticed() {
        let state = state();
        assert!(state.settle(0, SendOutcome::Accepted(ChatSeq(1))));
        assert!(state.settle(0, SendOutcome::Accepted(ChatSeq(1))));
        assert!(!state.settle(0, SendOutcome::Accepted(ChatSeq(2))));
        assert_eq!(state.accepted().len(), 1);
    }
}
