//! Sealing of stored messages, for the job: of those that are plain, and of those under a data key that a rotation replaces. A page at a
//! time.
//!
//! A page is read, sealed here, and written by one statement that leaves alone what was recalled, emptied or sealed meanwhile. So a page that is done
//! twice, or by two nodes, changes nothing the second time.

use std::collections::HashSet;

use uuid::Uuid;

use super::sealing::SealedRow;
use super::{Result, Store};
use crate::domain::MessageId;
use crate::encryption::Plain;

/// A page of messages, after it was sealed.
#[derive(Debug)]
pub struct SealedPage {
    /// Messages that were sealed.
    pub rows: usize,
    /// The keys that its messages name still.
    pub keys: HashSet<String>,
    /// The next page begins behind this message. None: this was the last page.
    pub next: Option<MessageId>,
}

/// The state of sweeps, as the database has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepState {
    /// Nodes seal what they store.
    pub is_on: bool,
    /// Sweeps that were asked for.
    pub wanted: i64,
    /// The number of the last one that is done.
    pub done: i64,
    /// No node uses the keys any more that a rotation replaces.
    pub may_begin: bool,
}

/// A stored message, with what it says where that is to be sealed.
#[derive(Debug)]
struct StoredRow {
    id: Uuid,
    key_id: Option<String>,
    is_wanted: bool,
    content: Option<String>,
    metadata: Option<String>,
    sealed: Option<Vec<u8>>,
}

impl SealedRow for StoredRow {
    fn sealed(&self) -> Option<(Uuid, &str, &[u8])> {
        Some((self.id, self.key_id.as_deref()?, self.sealed.as_deref()?))
    }

    /// The key stays: it says what the row is expected to have still when it is written.
    fn open_as(&mut self, plain: Plain) {
        (self.content, self.metadata, self.sealed) = (plain.content, plain.metadata, None);
    }
}

impl Store {
    /// The state of sweeps.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Failed`](super::Error::Failed): a defect.
    pub async fn sweep_state(&self) -> Result<SweepState> {
        let settled_ms = i64::try_from(self.keys().times().settled.as_millis()).unwrap_or(i64::MAX);
        let row = sqlx::query_file!("src/store/sql/encryption_state.sql", settled_ms).fetch_one(self.database()).await?;
        Ok(SweepState { is_on: row.is_on, wanted: row.sweeps_wanted, done: row.sweeps_done, may_begin: row.is_replacing })
    }

    /// Notes that the sweep of this number begins. Where no node can store plain text any more, no start of a node asks for another one.
    ///
    /// # Errors
    /// As [`Self::sweep_state`].
    pub async fn begin_sweep(&self, number: i64) -> Result<()> {
        sqlx::query_file!("src/store/sql/begin_sweep.sql", number).execute(self.database()).await?;
        Ok(())
    }

    /// Notes that the sweep of this number is done.
    ///
    /// # Errors
    /// As [`Self::sweep_state`].
    pub async fn end_sweep(&self, number: i64) -> Result<()> {
        sqlx::query_file!("src/store/sql/end_sweep.sql", number).execute(self.database()).await?;
        Ok(())
    }

    /// Seals those of the next messages behind `after` that are plain, or under a key that a rotation replaces.
    ///
    /// # Errors
    /// As [`Self::sweep_state`]; what it had sealed by then is stored or not, as one.
    pub async fn seal_page(&self, after: MessageId, messages_max: u16) -> Result<SealedPage> {
        let replaced = self.keys().replaced();
        let asked = sqlx::query_file_as!(StoredRow, "src/store/sql/seal_page.sql", after.0, i64::from(messages_max), &replaced);
        let mut read = asked.fetch_all(self.database()).await?;
        read.sort_unstable_by_key(|row| row.id);
        let is_full = read.len() == usize::from(messages_max);
        let next = read.last().filter(|_| is_full).map(|row| MessageId(row.id));
        let keys_of = |rows: &[StoredRow]| rows.iter().filter_map(|row| row.key_id.clone()).collect::<HashSet<_>>();
        let before = keys_of(&read);
        let kept = read.extract_if(.., |row| !row.is_wanted).collect::<Vec<_>>();
        let wanted = read.len();
        let rows = self.reseal(Vec::new(), read).await?;
        // Where one could not be opened, or was left alone, any of them may be named.
        let keys = if rows == wanted { keys_of(&kept) } else { before };
        Ok(SealedPage { rows, keys, next })
    }

    /// Seals messages that SQL has stored as plain text. Returns how many notes of them were done with: as many as asked for, if there are
    /// more.
    ///
    /// # Errors
    /// As [`Self::seal_page`].
    pub async fn seal_noted(&self, messages_max: u16) -> Result<usize> {
        let asked = sqlx::query_file_as!(StoredRow, "src/store/sql/seal_noted.sql", i64::from(messages_max));
        let mut read = asked.fetch_all(self.database()).await?;
        let noted: Vec<Uuid> = read.iter().map(|row| row.id).collect();
        read.retain(|row| row.is_wanted);
        let count = noted.len();
        if count > 0 {
            self.reseal(noted, read).await?;
        }
        Ok(count)
    }

    async fn reseal(&self, noted: Vec<Uuid>, mut rows: Vec<StoredRow>) -> Result<usize> {
        self.unseal(&mut rows).await?;
        // A row that cannot be opened stays as it is.
        rows.retain(|row| row.sealed.is_none());
        let Some(key) = self.sealing_key().await?.filter(|_| !rows.is_empty() || !noted.is_empty()) else { return Ok(0) };
        let (mut ids, mut values, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for StoredRow { id, key_id, content, metadata, .. } in rows {
            ids.push(id);
            values.push(key.seal(MessageId(id), content.as_deref(), metadata.as_deref()));
            keys.push(key_id);
        }
        let asked = sqlx::query_file!("src/store/sql/reseal.sql", &noted, &ids, &values, key.id(), &keys as &[Option<String>]);
        let done = asked.execute(self.database()).await?;
        Ok(usize::try_from(done.rows_affected()).unwrap_or_default())
    }
}
