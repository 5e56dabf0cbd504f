//! The database: every statement of the service, in `.sql` files named as the function that runs them.
//!
//! One file a table family. Functions take and return the words of [`crate::domain`]; nothing here knows of
//! sockets, sessions or lanes. Lanes bring their own connection, everything else borrows one from the pool.

mod accept;
mod chats;
mod dead_letters;
mod epoch;
mod error;
mod expiry;
mod inbox;
mod marks;
mod membership;
mod nodes;
mod people;
mod rows;
mod settings;
mod settle;

pub use accept::{AcceptBatch, AcceptOutcome, AcceptedRow, accept, database_clock, recipients_waiting};
pub use chats::{ChatView, HistoryRange, Member, MemberMarks, StatusOf};
pub use dead_letters::{Content, DeadLetterCursor, DeadLetterFilter, PutBack};
pub use epoch::Epoch;
pub use error::Error;
pub use expiry::{ExpiredPage, ExpiredRow, ExpiryCursor};
pub use inbox::{Glance, Inbox, InboxStart, Opening, OpeningRequest, PageRequest, Place};
pub use marks::{MarksCursor, MarksRead, Overview, TallyRequest};
pub use membership::{Joined, Left, NotAllowed};
pub use nodes::{Beat, Presented};
pub use people::Known;
pub use settings::{CannotUse, LockPatience, PLANNING, SETTINGS, check_connections, is_shared, with_settings};
pub use settle::{
    AttemptBatch, AttemptedRow, DeviceCursor, ExactMark, Located, MarkProposal, ReadRequest, ReadRow, ReadRows, SettleBatch, SettledRows,
    count_attempts, locate, read, seqs_of_messages, settle,
};

use sqlx::PgPool;

/// The result of anything asked of the database.
pub type Result<T> = std::result::Result<T, Error>;

/// The pool, and what is asked of it.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
}

impl Store {
    /// A store on this pool.
    pub const fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The pool, for the migrations and for tests.
    pub const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Does the database answer, and accept writes?
    pub async fn ping(&self) -> Result<()> {
        let row = sqlx::query_file!("src/store/sql/ping.sql").fetch_one(&self.pool).await?;
        match row.in_recovery {
            true => Err(Error::Unavailable(sqlx::Error::Io(std::io::Error::other("the server is a standby and takes no writes")))),
            false => Ok(()),
        }
    }

    /// The database's clock.
    pub async fn clock(&self) -> Result<time::OffsetDateTime> {
        Ok(sqlx::query_file_scalar!("src/store/sql/database_clock.sql").fetch_one(&self.pool).await?)
    }
}
