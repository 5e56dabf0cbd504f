//! The bound of events that live in all: the statement that counts them and ends the oldest, a page at a time.

use super::{Result, Store};

/// Events that one page looks at, and rows of their recipients.
const EVENTS_AT_ONCE: i32 = 1_000;
const ROWS_AT_ONCE: i32 = 2_000;

/// A place in a sweep, which goes from the newest event to the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapPlace {
    /// The next page begins below this number of `living_events`.
    pub before: i64,
    /// Living events that were counted before.
    pub counted: u64,
}

impl CapPlace {
    /// Before the newest event.
    pub const FIRST: Self = Self { before: i64::MAX, counted: 0 };
}

/// One page of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capped {
    /// Living events from the newest down to here, those that are allowed.
    pub counted: u64,
    /// Events that are capped to the end: no row of them waits.
    pub events: u64,
    /// Rows that ended.
    pub rows: u64,
    /// Rows of a capped event may still wait.
    pub is_ending: bool,
    /// The place at which the next page begins. None: this was the last one.
    pub next: Option<CapPlace>,
}

impl Store {
    /// Counts living events, takes out those that live no more, and ends the oldest beyond `events_max`. Waits for nobody.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn cap_events(&self, place: CapPlace, events_max: u32) -> Result<Capped> {
        let counted = i64::try_from(place.counted).unwrap_or(i64::MAX);
        let (events_max, place) = (i64::from(events_max), place.before);
        let asked = sqlx::query_file!("src/store/sql/cap_events.sql", place, counted, events_max, EVENTS_AT_ONCE, ROWS_AT_ONCE);
        let row = asked.fetch_one(self.database()).await?;
        let counted = u64::try_from(row.counted).unwrap_or_default();
        Ok(Capped {
            counted,
            events: u64::try_from(row.events_capped).unwrap_or_default(),
            rows: u64::try_from(row.rows_capped).unwrap_or_default(),
            is_ending: row.is_ending,
            next: row.next_before.map(|before| CapPlace { before, counted }),
        })
    }
}
