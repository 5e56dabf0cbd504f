//! What all persons of one replay share: the chat, the messages that will be said, what became of each, and
//! how far things are. Message ids are made before the first line is said, so a sighting finds its line.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::checker::{Accepted, Course, MessageNo};
use super::log::{Log, PersonNo, What};
use restante_client::{NewMessage, Place};
use restante_session::domain::{ChatId, ChatSeq, MessageId};

/// What became of a message when it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Stored under this number.
    Accepted(ChatSeq),
    /// Refused for good, in these words.
    Refused(String),
}

/// A message that will be said, and what is known of it.
#[derive(Debug)]
struct Planned {
    id: MessageId,
    speaker: PersonNo,
    content: String,
    message_type: &'static str,
    said_at: OnceLock<Instant>,
    outcome: OnceLock<Outcome>,
    was_postponed: AtomicBool,
}

/// How far things are. Only ever grows.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages whose outcome is known.
    pub settled: AtomicU64,
    /// Envelopes seen, first sights and others.
    pub envelopes: AtomicU64,
    /// First sights.
    pub deliveries: AtomicU64,
    /// Connections greeted by the service.
    pub greetings: AtomicU64,
    /// Persons who have everything and have read it.
    pub finished: AtomicU64,
}

/// One log's replay.
#[derive(Debug)]
pub struct Stage {
    /// Where it is played.
    pub chat: ChatId,
    /// How far it is.
    pub counters: Counters,
    /// Cancelled when it must end early; the reason stands in [`Self::failure`].
    pub stop: CancellationToken,
    /// Why it ended early.
    pub failure: OnceLock<String>,
    planned: Vec<Planned>,
    numbers: HashMap<MessageId, MessageNo>,
    open: Mutex<BTreeSet<MessageNo>>,
    freed: Notify,
}

impl Stage {
    /// For all that is said in this log.
    pub fn new(chat: ChatId, log: &Log) -> Self {
        let said = log.steps.iter().filter_map(|step| match &step.what {
            What::Says(text) => Some((step.person, text, "text")),
            What::Acts(text) => Some((step.person, text, "action")),
            What::Joins | What::Leaves => None,
        });
        let planned: Vec<Planned> = said.map(|(speaker, text, message_type)| Planned::new(speaker, text, message_type)).collect();
        let numbers = planned.iter().enumerate().map(|(number, message)| (message.id, number)).collect();
        Self {
            chat,
            counters: Counters::default(),
            stop: CancellationToken::new(),
            failure: OnceLock::new(),
            planned,
            numbers,
            open: Mutex::default(),
            freed: Notify::new(),
        }
    }

    /// How many messages will be said.
    pub fn messages(&self) -> usize {
        self.planned.len()
    }

    /// The number of a message that was sent here.
    pub fn number(&self, id: MessageId) -> Option<MessageNo> {
        self.numbers.get(&id).copied()
    }

    /// The message to be sent; from now on it counts as said.
    pub fn say(&self, number: MessageNo) -> NewMessage {
        let planned = &self.planned[number];
        planned.said_at.get_or_init(Instant::now);
        NewMessage {
            message_id: planned.id,
            place: Place::Chat(self.chat),
            content: planned.content.clone(),
            message_type: Some(planned.message_type.to_owned()),
            metadata: None,
        }
    }

    /// When it was said.
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

    /// The outcome of a message is known. `false`: it was known before, and is another.
    pub fn settle(&self, number: MessageNo, outcome: Outcome) -> bool {
        let known = self.planned[number].outcome.get_or_init(|| outcome.clone());
        if self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number) {
            self.counters.settled.fetch_add(1, Ordering::Relaxed);
            self.freed.notify_one();
        }
        *known == outcome
    }

    /// The service has put the message off at least once.
    pub fn postpone(&self, number: MessageNo) {
        self.planned[number].was_postponed.store(true, Ordering::Relaxed);
    }

    /// What was accepted, in the log's order.
    pub fn accepted(&self) -> Vec<Accepted> {
        let accepted = |(message, planned): (MessageNo, &Planned)| match planned.outcome.get() {
            Some(Outcome::Accepted(seq)) => {
                let was_postponed = planned.was_postponed.load(Ordering::Relaxed);
                let course = if was_postponed { Course::Postponed } else { Course::Straight };
                Some(Accepted { message, speaker: planned.speaker, seq: *seq, course })
            }
            Some(Outcome::Refused(_)) | None => None,
        };
        self.planned.iter().enumerate().filter_map(accepted).collect()
    }

    /// The words with which messages were refused, and one for each whose outcome never came.
    pub fn unaccepted(&self) -> Vec<String> {
        let words = |planned: &Planned| match planned.outcome.get() {
            Some(Outcome::Accepted(_)) => None,
            Some(Outcome::Refused(words)) => Some(words.clone()),
            None => Some("no answer".to_owned()),
        };
        self.planned.iter().filter_map(words).collect()
    }

    /// The id of a message.
    pub fn id(&self, number: MessageNo) -> MessageId {
        self.planned[number].id
    }

    /// Ends the replay early.
    pub fn fail(&self, why: String) {
        let _ = self.failure.set(why);
        self.stop.cancel();
    }
}

impl Planned {
    fn new(speaker: PersonNo, text: &str, message_type: &'static str) -> Self {
        Self {
            id: MessageId::generate(),
            speaker,
            content: text.to_owned(),
            message_type,
            said_at: OnceLock::new(),
            outcome: OnceLock::new(),
            was_postponed: AtomicBool::new(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stage() -> Stage {
        Stage::new(ChatId::generate(), &Log::parse("[01:00] <a> 1\n=== b [x]  has joined #c\n=== b waves\n[01:00] <a> 3"))
    }

    #[test]
    fn only_what_is_said_is_planned() {
        let stage = stage();
        assert_eq!(stage.messages(), 3);
        assert_eq!(stage.say(1).message_type.as_deref(), Some("action"));
        assert_eq!(stage.number(stage.id(2)), Some(2));
        assert_eq!(stage.number(MessageId::generate()), None);
    }

    #[tokio::test]
    async fn window_is_counted_from_the_oldest_open_message() {
        let stage = stage();
        stage.enter(0, 2).await;
        stage.enter(1, 2).await;
        stage.settle(1, Outcome::Accepted(ChatSeq(1)));
        assert!(tokio::time::timeout(Duration::from_millis(20), stage.enter(2, 2)).await.is_err());
        stage.settle(0, Outcome::Accepted(ChatSeq(2)));
        stage.enter(2, 2).await;
    }

    #[test]
    fn second_outcome_that_differs_is_noticed() {
        let stage = stage();
        assert!(stage.settle(0, Outcome::Accepted(ChatSeq(1))));
        assert!(stage.settle(0, Outcome::Accepted(ChatSeq(1))));
        assert!(!stage.settle(0, Outcome::Accepted(ChatSeq(2))));
        assert_eq!(stage.accepted().len(), 1);
        assert_eq!(stage.unaccepted(), ["no answer", "no answer"]);
    }
}
