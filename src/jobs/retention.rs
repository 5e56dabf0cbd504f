//! Retention: removes what was finished long ago, so that tables stop growing: rows of recipients, then events to listed users and
//! messages without one, then the times at which users were last there.
//!
//! A sweep visits all inboxes, all events to listed users, all chats and all users that were ever there, a page a pass, and then rests. `purge_pace`
//! says how large pages are, and how long it pauses between two. It waits for no lock. What somebody holds is left for the next sweep. The place of
//! the sweep is the cursor.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::{DoneBy, Job, Passed, PurgePace, Rest};
use crate::domain::{ChatId, Class, FeedSeq, UserId};
use crate::store::{self, FIRST_CHAT, PurgeLimits, Purged, Store};
use crate::telemetry::Metrics;

/// The interval between two passes while the job rests, and after a pass that failed.
const EVERY: Duration = Duration::from_secs(10);
/// The rest between two sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// Users that one pass looks at to forget when they were last there.
const USERS_AT_ONCE: i32 = 1_000;

/// The job.
#[derive(Debug)]
pub(super) struct Retention {
    store: Store,
    days: i32,
    metrics: Arc<Metrics>,
    pace: PurgePace,
    /// The next sweep begins then. None: one is under way, or this node has just taken the job over.
    rests_until: Option<Instant>,
    sweep: Sweep,
}

impl Retention {
    pub(super) fn new(store: Store, days: u16, metrics: Arc<Metrics>) -> Self {
        Self { store, days: i32::from(days), metrics, pace: PurgePace::default(), rests_until: None, sweep: Sweep::default() }
    }

    /// Purges one page, and returns the place behind which the next one begins.
    async fn page(&self, place: Place) -> store::Result<Purged<Place>> {
        let limits = PurgeLimits { places: PurgePace::PLACES, rows: self.pace.rows() };
        Ok(match place {
            Place::Inboxes(user, class) => {
                let purged = self.store.purge_inboxes(self.days, (user, class), limits).await?;
                purged.or_next(|(user, class)| Place::Inboxes(user, class), Some(Place::Listed(Class::Alert, FeedSeq(0))))
            }
            Place::Listed(class, seq) => {
                let purged = self.store.purge_listed_events(class, seq, self.pace.rows()).await?;
                let is_first = class == Class::Alert;
                let end = if is_first { Place::Listed(Class::Event, FeedSeq(0)) } else { Place::Chats(FIRST_CHAT) };
                purged.or_next(|seq| Place::Listed(class, seq), Some(end))
            }
            Place::Chats(chat) => {
                let purged = self.store.purge_chats(self.days, chat, limits).await?;
                purged.or_next(Place::Chats, Some(Place::LastSeen(UserId(0))))
            }
            Place::LastSeen(user) => {
                let purged = self.store.purge_last_seen(self.days, user, USERS_AT_ONCE).await?;
                purged.or_next(Place::LastSeen, None)
            }
        })
    }

    /// Notes what a page has met.
    fn note(&mut self, purged: &Purged<Place>) {
        self.sweep.rows += purged.rows;
        self.sweep.late_ms = self.sweep.late_ms.max(purged.late_ms);
        let lag = i64::try_from(self.sweep.late_ms / 1_000).unwrap_or(i64::MAX);
        if purged.next.is_none() || lag > self.metrics.retention_lag.get() {
            self.metrics.retention_lag.set(lag);
        }
    }

    fn end_sweep(&mut self) {
        let Sweep { rows, late_ms } = std::mem::take(&mut self.sweep);
        if rows > 0 {
            info!(rows, late_seconds = late_ms / 1_000, days = self.days, "what was finished long ago was removed");
        }
        self.rests_until = Some(Instant::now() + SWEEP_EVERY);
    }
}

impl Job for Retention {
    fn name(&self) -> &'static str {
        "retention"
    }

    fn interval(&self) -> Duration {
        EVERY
    }

    fn done_by(&self) -> DoneBy {
        DoneBy::OneNode
    }

    async fn pass(&mut self, cursor: &str) -> store::Result<Passed> {
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            return Ok(Passed { rows: 0, rest: Rest::Nothing, cursor: None });
        }
        self.rests_until = None;
        let began = Instant::now();
        let purged = self.page(Place::of(cursor)).await?;
        let took = began.elapsed();
        debug!(rows = purged.rows, place = cursor, "a page was purged");
        self.note(&purged);
        let pause = self.pace.after(took, Duration::from_millis(self.sweep.late_ms));
        let (rest, cursor) = match purged.next {
            Some(next) => (Rest::Later(pause), next.text()),
            None => {
                self.end_sweep();
                (Rest::Nothing, String::new())
            }
        };
        Ok(Passed { rows: purged.rows, rest, cursor: Some(cursor) })
    }

    fn forget(&mut self) {
        self.rests_until = None;
        self.sweep = Sweep::default();
        self.metrics.retention_lag.set(0);
    }
}

/// The findings of a sweep so far.
#[derive(Debug, Default)]
struct Sweep {
    rows: usize,
    late_ms: u64,
}

/// A place in a sweep. The next page begins behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Inboxes(UserId, Class),
    Listed(Class, FeedSeq),
    Chats(ChatId),
    LastSeen(UserId),
}

impl Place {
    /// Before everything.
    const FIRST: Self = Self::Inboxes(UserId(0), Class::Chat);

    /// The place that a cursor names. The beginning, if it is empty or no place.
    fn of(cursor: &str) -> Self {
        Self::parse(cursor).unwrap_or_else(|| {
            if !cursor.is_empty() {
                warn!("the cursor of the job retention is no place; the sweep begins anew");
            }
            Self::FIRST
        })
    }

    fn parse(cursor: &str) -> Option<Self> {
        let mut words = cursor.split(' ');
        let place = match (words.next()?, words.next()?) {
            ("inboxes", user) => Self::Inboxes(UserId(user.parse().ok()?), class(words.next()?)?),
            ("listed", class_name) => Self::Listed(class(class_name)?, FeedSeq(words.next()?.parse().ok()?)),
            ("chats", chat) => Self::Chats(ChatId(Uuid::parse_str(chat).ok()?)),
            ("last_seen", user) => Self::LastSeen(UserId(user.parse().ok()?)),
            _ => return None,
        };
        words.next().is_none().then_some(place)
    }

    /// The cursor that names it.
    fn text(self) -> String {
        match self {
            Self::Inboxes(user, class) => format!("inboxes {} {}", user.0, class.as_str()),
            Self::Listed(class, seq) => format!("listed {} {}", class.as_str(), seq.0),
            Self::Chats(chat) => format!("chats {}", chat.0),
            Self::LastSeen(user) => format!("last_seen {}", user.0),
        }
    }
}

fn class(word: &str) -> Option<Class> {
    Class::ALL.into_iter().find(|class| class.as_str() == word)
}

impl<P> Purged<P> {
    /// The same with places of a sweep: behind the last page stands `end`.
    fn or_next(self, place: impl FnOnce(P) -> Place, end: Option<Place>) -> Purged<Place> {
        Purged { rows: self.rows, late_ms: self.late_ms, next: self.next.map(place).or(end) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_one_that_is_no_place_means_the_beginning() {
        for place in [
            Place::FIRST,
            Place::Inboxes(UserId(7), Class::Event),
            Place::Listed(Class::Alert, FeedSeq(i64::MAX)),
            Place::Chats(ChatId(Uuid::from_u128(9))),
            Place::LastSeen(UserId(i64::MAX)),
        ] {
            assert_eq!(Place::of(&place.text()), place);
        }
        for none in [
            "",
            "inboxes",
            "inboxes 7",
            "inboxes 7 chats",
            "listed alert",
            "listed x 1",
            "chats 7",
            "last_seen x",
            "last_seen 1 2",
            "users 1",
        ] {
            assert_eq!(Place::of(none), Place::FIRST, "{none}");
        }
    }
}
