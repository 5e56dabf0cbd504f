//! The events that rows of a page stand for beside their own, for the rows that merge.
//!
//! One statement asks for those of all rows. The data that it brings is bounded, so for a page with more than that others follow: the
//! events of one answer are folded before the next statement is asked. A row whose events cannot be read costs itself only.

use tracing::error;
use uuid::Uuid;

use super::sealing::SealedRow;
use super::{Error, Result, Store};
use crate::domain::{MergedEvent, MessageId, UserId, limits};
use crate::encryption::Plain;

/// Bytes that one answer brings, of all its rows together: their data, and 64 for each event. One row needs 1.1 MiB at most. So this is
/// what a page holds of them at a time, however many rows it has.
const ANSWER_BYTES_MAX: i64 = 4 * 1024 * 1024;

/// The events that one row stands for, newest first.
struct OlderEvents {
    /// The row's place among those that were asked for.
    place: usize,
    events: Vec<MergedEvent>,
}

/// The data of one of them.
struct MergedRow {
    id: Uuid,
    data: Option<String>,
    sealed: Option<Vec<u8>>,
    key_id: Option<String>,
}

impl SealedRow for MergedRow {
    fn sealed(&self) -> Option<(Uuid, &str, &[u8])> {
        Some((self.id, self.key_id.as_deref()?, self.sealed.as_deref()?))
    }

    fn open_as(&mut self, plain: Plain) {
        (self.data, self.sealed, self.key_id) = (plain.metadata, None, None);
    }
}

impl Store {
    /// Calls `fold` once for each of these messages of a user, with its place and the events that its row stands for beside its own,
    /// newest first; with none where they cannot be read.
    pub(super) async fn older_events(
        &self,
        user: UserId,
        messages: &[MessageId],
        mut fold: impl FnMut(usize, &[MergedEvent]) + Send,
    ) -> Result<()> {
        let mut left: Vec<usize> = (0..messages.len()).collect();
        let (mut at_once, mut is_each_alone) = (left.len(), false);
        while !left.is_empty() {
            at_once = if is_each_alone { 1 } else { at_once.min(left.len()) };
            let asked: Vec<MessageId> = left[..at_once].iter().map(|place| messages[*place]).collect();
            let answer = match self.older_events_at_once(user, &asked).await {
                Err(cause) if cause.may_be_of_one_row() && at_once > 1 => {
                    is_each_alone = true;
                    continue;
                }
                Err(cause) if cause.may_be_of_one_row() => {
                    error!(message.id = %asked[0], user.number = user.0, ?cause, "the events that one stands for cannot be read; it comes without their data");
                    vec![OlderEvents { place: 0, events: Vec::new() }]
                }
                answer => answer?,
            };
            // The database also looks at those for which its answer has no room: more are not asked for than may have room.
            at_once = 2 * answer.len();
            for OlderEvents { place, events } in answer.into_iter().rev() {
                fold(left.remove(place), &events);
            }
        }
        Ok(())
    }

    /// The same of as many of them as one answer may hold, and of one at least, by their places.
    async fn older_events_at_once(&self, user: UserId, messages: &[MessageId]) -> Result<Vec<OlderEvents>> {
        let (events_max, bytes_max) = (i64::from(limits::MERGED_EVENTS_MAX - 1), i64::from(limits::MERGED_BYTES_MAX));
        let ids: Vec<Uuid> = messages.iter().map(|message| message.0).collect();
        let asked = sqlx::query_file!("src/store/sql/merged.sql", &ids, user.0, events_max, bytes_max, ANSWER_BYTES_MAX);
        let rows = asked.fetch_all(self.database()).await?;
        let mut older = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(place) = usize::try_from(row.ord - 1).ok().filter(|place| *place < messages.len()) else { continue };
            let values = row.data.into_iter().zip(row.ids).zip(row.sealed.into_iter().zip(row.key_ids));
            let mut events: Vec<_> = values.map(|((data, id), (sealed, key_id))| MergedRow { id, data, sealed, key_id }).collect();
            // The data of one that cannot be opened is missing in what is made of all.
            self.unseal(&mut events).await?;
            let events = events.into_iter().zip(row.merges).zip(row.had_expired);
            let events = events.map(|((event, merges), had_expired)| MergedEvent { data: event.data, merges, had_expired });
            older.push(OlderEvents { place, events: events.collect() });
        }
        older.sort_unstable_by_key(|older| older.place);
        if older.is_empty() { Err(Error::Failed(sqlx::Error::RowNotFound)) } else { Ok(older) }
    }
}
