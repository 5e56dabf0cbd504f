//! The rule for direct messages, as lanes ask it: everybody may, contacts may, or a function of the application decides.
//!
//! The function is asked beside the lanes, a few questions at once, each with a bound on its time; what it has said of a pair is
//! believed for seconds. So it holds up nobody but those that it is asked for: their messages are put aside until it has
//! answered, and are refused where it fails.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashlink::LruCache;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::link::Shared;
use crate::domain::{ChatId, DirectMessages, ExternalId, UserId};
use crate::store::{self, Verdict};

/// An answer is believed for this time.
const BELIEVED: Duration = Duration::from_secs(5);
/// One that is used after this time is asked for anew meanwhile.
const RENEWED: Duration = Duration::from_secs(3);
/// After a failure a pair is refused for this time.
const FAILED: Duration = Duration::from_secs(1);
/// Pairs that are remembered: some 200 bytes each.
const PAIRS_MAX: usize = 50_000;
/// Questions that may wait. Beyond it a pair counts as one that could not be asked for.
const QUESTIONS_MAX: usize = 1_000;
/// Between two warnings that the function fails.
const WARNED_EVERY: Duration = Duration::from_secs(10);

/// The rule. Clones share what is remembered.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    shared: Shared,
    tasks: TaskTracker,
    memory: Arc<Mutex<Memory>>,
    at_once: Arc<Semaphore>,
}

/// The other user: by the direct chat of the two, or by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Other {
    Of(ChatId),
    Named(ExternalId),
}

/// The answer for a pair, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The sender may write to the other.
    Yes,
    /// It may not.
    No,
    /// The function is being asked.
    Pending,
    /// The function could not be asked, or has failed.
    Failed,
}

#[derive(Debug)]
struct Memory {
    pairs: LruCache<(UserId, Other), Known>,
    questions: usize,
    warned_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    answer: Answer,
    since: Instant,
    is_asked: bool,
}

impl Known {
    /// The answer that is believed now; none: nothing is.
    fn now(self, now: Instant) -> Option<Answer> {
        let lasts = match self.answer {
            Answer::Yes | Answer::No => BELIEVED,
            Answer::Failed => FAILED,
            Answer::Pending => return Some(Answer::Pending),
        };
        (now - self.since < lasts).then_some(self.answer)
    }
}

impl Policy {
    pub(super) fn new(shared: &Shared, tasks: &TaskTracker) -> Self {
        let memory = Memory { pairs: LruCache::new(PAIRS_MAX), questions: 0, warned_at: None };
        // Everything else that asks the database needs the rest of the pool.
        let at_once = (shared.store.pool().options().get_max_connections() / 4).clamp(1, 4);
        Self {
            shared: shared.clone(),
            tasks: tasks.clone(),
            memory: Arc::new(Mutex::new(memory)),
            at_once: Arc::new(Semaphore::new(usize::try_from(at_once).unwrap_or(1))),
        }
    }

    /// The verdict over a message of this sender to this chat, should it be a direct one. None: everybody may write to everybody.
    pub(super) fn verdict(&self, sender: UserId, chat: ChatId) -> Option<Verdict> {
        match self.shared.store.direct_messages() {
            DirectMessages::Everyone => None,
            DirectMessages::Contacts => Some(Verdict::Contacts),
            DirectMessages::Function => Some(match self.look(sender, &Other::Of(chat)) {
                Some(Answer::Yes) => Verdict::Yes,
                Some(Answer::No) => Verdict::No,
                Some(Answer::Pending | Answer::Failed) | None => Verdict::Unknown,
            }),
        }
    }

    /// The right of this user to begin a direct chat with the one of this name, as far as the function is to say.
    pub(super) fn may_begin(&self, user: UserId, other: &ExternalId) -> Answer {
        match self.shared.store.direct_messages() {
            // The statement that makes the chat looks for contacts.
            DirectMessages::Everyone | DirectMessages::Contacts => Answer::Yes,
            DirectMessages::Function => self.ask(user, Other::Named(other.clone())),
        }
    }

    /// The answer for a pair. Where none is known, the function is asked.
    pub(super) fn ask(&self, sender: UserId, other: Other) -> Answer {
        let now = Instant::now();
        let mut memory = self.memory();
        let known = memory.pairs.get(&(sender, other.clone())).and_then(|known| known.now(now));
        match known {
            Some(answer) => answer,
            None if memory.questions >= QUESTIONS_MAX => Answer::Failed,
            None => {
                memory.pairs.insert((sender, other.clone()), Known { answer: Answer::Pending, since: now, is_asked: true });
                self.put_question(&mut memory, sender, other);
                Answer::Pending
            }
        }
    }

    /// The answer for a pair, which is asked for anew where it grows old.
    fn look(&self, sender: UserId, other: &Other) -> Option<Answer> {
        let now = Instant::now();
        let mut memory = self.memory();
        let has_room = memory.questions < QUESTIONS_MAX;
        let known = memory.pairs.get_mut(&(sender, other.clone()))?;
        let answer = known.now(now)?;
        let grows_old = matches!(answer, Answer::Yes | Answer::No) && now - known.since >= RENEWED;
        if grows_old && has_room && !known.is_asked {
            known.is_asked = true;
            self.put_question(&mut memory, sender, other.clone());
        }
        Some(answer)
    }

    fn put_question(&self, memory: &mut Memory, sender: UserId, other: Other) {
        memory.questions += 1;
        let policy = self.clone();
        self.tasks.spawn(async move {
            let asked = policy.shared.stop.clone().run_until_cancelled_owned(policy.question(sender, &other)).await;
            let answer = asked.unwrap_or(Answer::Failed);
            let mut memory = policy.memory();
            memory.questions -= 1;
            memory.pairs.insert((sender, other), Known { answer, since: Instant::now(), is_asked: false });
        });
    }

    async fn question(&self, sender: UserId, other: &Other) -> Answer {
        let Ok(_place) = self.at_once.acquire().await else { return Answer::Failed };
        let (chat, name) = match other {
            Other::Of(chat) => (Some(*chat), None),
            Other::Named(name) => (None, Some(name)),
        };
        let answer = match self.shared.store.may_send(sender, chat, name).await {
            Ok(Some(true)) => Answer::Yes,
            Ok(Some(false)) => Answer::No,
            Ok(None) => self.failed(None),
            Err(cause) => self.failed(Some(&cause)),
        };
        self.shared.metrics.may_send_answers.of(answer.as_str()).inc();
        answer
    }

    /// Said once in a while: each message would cause it.
    fn failed(&self, cause: Option<&store::Error>) -> Answer {
        let now = Instant::now();
        let mut memory = self.memory();
        if memory.warned_at.is_none_or(|at| now - at >= WARNED_EVERY) {
            memory.warned_at = Some(now);
            warn!(
                ?cause,
                "restante_may_send(sender, recipient) is missing, fails, or takes longer than a second: direct messages are refused"
            );
        } else {
            debug!(?cause, "restante_may_send(sender, recipient) has failed");
        }
        Answer::Failed
    }

    /// Code under the lock cannot panic half-way: a panicking thread leaves the value whole.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Pending | Self::Failed => "failed",
        }
    }
}
