//! The database: every statement of the service, in `.sql` files named as the function that runs them.
//!
//! One file a table family. Functions take and return the words of [`crate::domain`]; nothing here knows of
//! sockets, sessions or lanes. Lanes bring their own connection, everything else borrows one from the pool.

mod accept;
mod accounts;
mod audit;
mod blocks;
mod caps;
mod chats;
mod collations;
mod contacts;
mod data_keys;
mod dead_letters;
mod devices;
mod direct;
mod enums;
mod epoch;
mod erasing;
mod error;
mod event_batch;
mod events;
mod expiry;
mod fair_timeout;
mod fan_out;
mod feeds;
mod guarded_pool;
mod health;
mod history;
mod horizon;
mod inbox;
mod invitations;
mod jobs;
mod key_ring;
mod lock_timeout;
mod marks;
mod marks_cursor;
mod may_send;
mod membership;
mod merged;
mod nodes;
mod objects;
mod pages;
mod people;
mod preferences;
mod raised_limits;
mod recalls;
mod resealing;
mod retention;
mod revocations;
mod row_states;
mod rows;
mod schema;
mod schema_state;
mod sealing;
mod sequences;
mod settings;
mod settle;
mod shape;
mod slots;
mod stall_detector;
mod statistics;
mod streams;
mod unfit;

pub use accept::{AcceptBatch, AcceptOutcome, AcceptedRow, Verdict, accept, database_clock, recipients_waiting, wait_for_replication};
pub use accounts::{BegunLogin, LoginTimes, NewLogin, Refreshed, RenewedLogin};
pub use audit::Act;
pub use blocks::{BlockedUser, Blocking, HiddenReceipts, NewBlock, Unblocking};
pub use caps::{CapPlace, Capped};
pub use chats::{ChatView, Member, MemberMarks, StatusOf};
pub use collations::{ChangedCollation, changed_collations, judge_collations};
pub use contacts::{ContactAudience, ContactChange, ContactOutcome, ContactRole, ContactState, ContactView};
pub use data_keys::UnfitKeys;
pub use dead_letters::{Content, DeadLetterCursor, DeadLetterFilter, Discarded, PutBack};
pub use devices::{DevicePlace, DevicesPurged};
pub use direct::{DirectBatch, DirectChat, DirectLookup};
pub use epoch::Epoch;
pub use erasing::{ErasedChat, ErasedContent, ErasedRows, Erasing, Erasure, ErasureStage, ErasureStep};
pub use error::{Error, Failure};
pub use event_batch::EventBatch;
pub use events::{EventAddress, EventBy, EventOutcome, EventProgress, EventRequest, EventRows, EventTarget};
pub use expiry::{ExpiredPage, ExpiredRow, ExpiryCursor};
pub use fair_timeout::fair_timeout;
pub use fan_out::FannedOut;
pub use feeds::{FeedChange, FeedRole, FeedView, Taken};
pub use guarded_pool::Loan;
pub use health::Health;
pub use history::{HistoryPage, HistoryRange};
pub use horizon::OldestTransaction;
pub use inbox::{Inbox, InboxStart, Opening, OpeningRequest, Peek, Place, WaitingRows};
pub use invitations::{Acceptance, Accepting, InvitationView, InvitedUser};
pub use jobs::{Acquired, JobLease};
pub use key_ring::{KeyRing, KeyTimes, StoredKey};
pub use lock_timeout::{LockHolder, lock_holders, set_lock_timeout};
pub use marks::{MarksRead, Overview, PageToken, ReceiptCountsRequest, RecountedChat, Remainder};
pub use marks_cursor::MarksCursor;
pub use membership::{Adding, EndedPart, Grouping, Joined, Left, NotAllowed, Unfinished, UnknownUsers};
pub use nodes::{Beat, Presented, Room};
pub use objects::objects;
pub use pages::{PageRead, PageRequest};
pub use people::{Known, SignedIn, WatchedUser};
pub use preferences::{PreferencesChange, PreferencesOutcome};
pub use raised_limits::LimitSet;
pub use recalls::{RECIPIENTS_AT_ONCE, RecallPart, RecalledRow, TakenBack};
pub use resealing::{SealedPage, SweepState};
pub use retention::{FIRST_CHAT, PurgeLimits, Purged};
pub use revocations::{NewRevocation, RevocationPlace, Snapshot, WrittenPlace};
pub use row_states::{AttemptState, attempt_states};
pub use schema::{SchemaName, make_schema, schema_of, wake_channel};
pub use schema_state::{SchemaState, ToDo, own_line};
pub use sealing::{SealedColumn, SealedText, Sealer};
pub use sequences::{Sequence, sequences_behind};
pub use settings::{
    CannotUse, DEFAULTS, LockTimeout, PLANNING, SETTINGS, check_connections, check_direct, is_shared, server_version, with_direct_settings,
    with_settings,
};
pub use settle::{
    AckedRows, AttemptRequest, AttemptedRow, DeviceCursor, ExactMark, MarkProposal, NamedMessage, ReadRequest, ReadRow, ReadRows, RowKey,
    SettleBatch, SettledRows, StatusRow, count_attempts, locate, locate_acked, read, seqs_of_messages, settle,
};
pub use shape::Shape;
pub use slots::Slots;
pub use stall_detector::StallDetector;
pub use statistics::{JournalPage, StatisticsClock, StatisticsQuery};
pub use streams::{EVENTS_TOGETHER_MAX, StreamHead, TakenTogether};
pub use unfit::Unfit;

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;

use crate::domain::DirectMessages;
use guarded_pool::GuardedPool;

/// The result of anything asked of the database.
pub type Result<T> = std::result::Result<T, Error>;

/// The pool, and the statements that run on it.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
    stall_detector: StallDetector,
    slots: Slots,
    health: Health,
    direct_messages: DirectMessages,
    keys: KeyRing,
}

impl Store {
    /// A store on this pool.
    pub fn new(pool: PgPool) -> Self {
        let (options, health) = ((*pool.connect_options()).clone(), Health::new());
        let stall_detector = StallDetector::new(options.clone(), health.clone());
        Self { pool, stall_detector, slots: Slots::new(options), health, direct_messages: DirectMessages::Everyone, keys: KeyRing::off() }
    }

    /// A store on a pool of its own, which connects when it is needed.
    pub fn connect_lazily(pool: PgPoolOptions, to: PgConnectOptions) -> Self {
        let health = Health::new();
        let (stall_detector, slots) = (StallDetector::new(to.clone(), health.clone()), Slots::new(to.clone()));
        let known = stall_detector.clone();
        // Asked whether it is there, a dead connection would say nothing.
        let pool = pool.test_before_acquire(false).before_acquire(move |_, meta| {
            let is_good = known.is_good(meta.age);
            Box::pin(async move { Ok(is_good) })
        });
        Self {
            pool: pool.connect_lazy_with(to),
            stall_detector,
            slots,
            health,
            direct_messages: DirectMessages::Everyone,
            keys: KeyRing::off(),
        }
    }

    /// The same store under this rule for direct messages.
    #[must_use]
    pub fn under(self, direct_messages: DirectMessages) -> Self {
        Self { direct_messages, ..self }
    }

    /// The rule for direct messages.
    pub const fn direct_messages(&self) -> DirectMessages {
        self.direct_messages
    }

    /// Returns whether only contacts write to one another, and learn of one another.
    fn is_for_contacts(&self) -> bool {
        self.direct_messages == DirectMessages::Contacts
    }

    /// The pool, for the migrations and for tests.
    pub const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The stall detector, for statements on other connections than the pool's.
    pub const fn stall_detector(&self) -> &StallDetector {
        &self.stall_detector
    }

    /// Returns whether more connections can be made.
    pub const fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The state of the database: away, or there.
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// The pool that runs all of its statements.
    const fn database(&self) -> GuardedPool<'_> {
        GuardedPool(self)
    }

    /// From now on only connections are used that are made from now on. Those there are may lead to a server that is a
    /// standby, or was the primary: it answers, and takes no writes for as long as it lives.
    pub fn renew(&self) {
        self.stall_detector.renew(Instant::now());
    }

    /// Checks that the database answers, accepts writes and keeps them.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away, read-only, or does not keep commits.
    /// [`Error::Failed`]: a defect.
    pub async fn ping(&self) -> Result<()> {
        let mut lent = self.lend().await?;
        let answered = self.ping_over(lent.connection()?).await;
        lent.answered(answered)
    }

    /// [`Self::ping`] over a connection of the caller.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the database is away, read-only, or does not keep commits. [`Error::Failed`]: a defect.
    pub async fn ping_over(&self, connection: &mut PgConnection) -> Result<()> {
        let asked = sqlx::query_file!("src/store/sql/ping_schema.sql").fetch_one(connection);
        let row = self.stall_detector.answer(asked).await?;
        let why = match (row.is_read_only, row.is_lossy) {
            (true, _) => "the database is read-only: a standby, or made so",
            (false, true) => "synchronous_commit is off: what is confirmed might be lost",
            (false, false) => return Ok(()),
        };
        self.renew();
        self.health.learn(Err(Error::Unavailable(sqlx::Error::Io(std::io::Error::other(why)))))
    }

    /// The database's clock.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Failed`]: a defect.
    pub async fn clock(&self) -> Result<time::OffsetDateTime> {
        Ok(sqlx::query_file_scalar!("src/store/sql/database_clock.sql").fetch_one(self.database()).await?)
    }
}

/// Whole milliseconds, as functions of the schema take them.
fn ms(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// The first `limit` of what was read, and the place of the last of them where there is more. One more than `limit` was asked for:
/// it tells that there is.
pub fn page_of<T, P>(mut read: Vec<T>, limit: u16, place: impl Fn(&T) -> P) -> (Vec<T>, Option<P>) {
    let has_more = read.len() > usize::from(limit);
    read.truncate(usize::from(limit));
    let next = read.last().filter(|_| has_more).map(place);
    (read, next)
}

#[cfg(test)]
mod tests {
    use super::page_of;

    #[test]
    fn a_page_has_a_next_one_exactly_where_one_more_was_read_than_is_shown() {
        let of = |read: u16| page_of((0..read).collect(), 3, |n| *n);
        assert_eq!(of(0), (vec![], None));
        assert_eq!(of(3), (vec![0, 1, 2], None));
        assert_eq!(of(4), (vec![0, 1, 2], Some(2)));
    }
}
