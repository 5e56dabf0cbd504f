//! Figures of delivery: the statement that counts what the journal names, the one that removes old figures, and those that read them. No
//! statement here looks at the queue.

use time::OffsetDateTime;

use super::{Result, Store};
use crate::domain::{Delays, EventFigures, EventId, FigureGroup, GroupBy, HourSpan, Outcomes};

/// Lines of the journal that one page takes, and messages that they name together: some 100 ms.
const LINES_AT_ONCE: i32 = 500;
const MESSAGES_AT_ONCE: i32 = 5_000;
/// Types of messages that have figures of their own in an hour.
const TYPES_MAX: i32 = 50;
/// More days than there are figures of, and few enough for PostgreSQL's calendar.
const FOR_EVER_DAYS: i32 = 1_000_000;
/// Figures that one statement removes.
const OLD_FIGURES_AT_ONCE: i32 = 1_000;

/// A page of the journal that was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalPage {
    /// Lines that were taken out.
    pub lines: usize,
    /// Rows of the queue that they tell of.
    pub moves: usize,
    /// It had as much as a page may have: there may be more.
    pub is_full: bool,
    /// Those of them whose messages had been removed: what became of them is in no figure.
    pub lost: usize,
    /// The time of the newest of the lines. None: there was none.
    pub last_at: Option<OffsetDateTime>,
    /// Milliseconds since the oldest line that is left. None: none is.
    pub late_ms: Option<i64>,
}

/// A question for figures.
#[derive(Debug, Clone)]
pub struct StatisticsQuery {
    /// The hours.
    pub span: HourSpan,
    /// The property that makes a group.
    pub by: GroupBy,
    /// Only groups whose keys come behind this one. None: from the first on.
    pub after: Option<String>,
    /// At most so many groups.
    pub groups_max: u16,
}

/// The time up to which figures are true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatisticsClock {
    /// All that was committed before is in figures that are read later.
    pub as_of: OffsetDateTime,
    /// The database's clock.
    pub now: OffsetDateTime,
}

impl Store {
    /// Counts what the oldest lines of the journal tell, those behind `after`, and takes them out.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn count_journal(&self, after: Option<OffsetDateTime>) -> Result<JournalPage> {
        let asked = sqlx::query_file!("src/store/sql/count_journal.sql", after, LINES_AT_ONCE, MESSAGES_AT_ONCE, TYPES_MAX);
        let row = asked.fetch_one(self.database()).await?;
        let count = |rows: i32| usize::try_from(rows).unwrap_or_default();
        Ok(JournalPage {
            lines: count(row.lines),
            moves: count(row.moves),
            is_full: row.lines >= LINES_AT_ONCE || row.moves >= MESSAGES_AT_ONCE,
            lost: count(row.lost),
            last_at: row.last_at,
            late_ms: row.late_ms,
        })
    }

    /// Removes figures of hours that are older than `days` days, and of events that have expired a day ago. None: hours are kept for ever,
    /// and those of events go all the same. True: there may be more.
    ///
    /// # Errors
    /// As [`Self::count_journal`].
    pub async fn purge_statistics(&self, days: Option<i32>) -> Result<bool> {
        let asked = sqlx::query_file!("src/store/sql/purge_statistics.sql", days.unwrap_or(FOR_EVER_DAYS), OLD_FIGURES_AT_ONCE);
        Ok(asked.fetch_one(self.database()).await?.rows >= OLD_FIGURES_AT_ONCE)
    }

    /// The time up to which the figures are true by now.
    ///
    /// # Errors
    /// As [`Self::count_journal`].
    pub async fn statistics_clock(&self) -> Result<StatisticsClock> {
        let row = sqlx::query_file!("src/store/sql/statistics_as_of.sql").fetch_one(self.database()).await?;
        Ok(StatisticsClock { as_of: row.as_of, now: row.now })
    }

    /// The figures of some hours in groups, in the order of their keys. Groups of which nothing is known are left out.
    ///
    /// # Errors
    /// As [`Self::count_journal`].
    pub async fn statistics(&self, query: &StatisticsQuery) -> Result<Vec<FigureGroup>> {
        let HourSpan { from, to } = query.span;
        let (by, after, most) = (query.by.as_str(), query.after.as_deref().unwrap_or_default(), i64::from(query.groups_max));
        let rows = sqlx::query_file!("src/store/sql/statistics.sql", from, to, by, after, most).fetch_all(self.database()).await?;
        let groups = rows.into_iter().map(|row| FigureGroup {
            key: row.key,
            accepted: count(row.accepted),
            outcomes: Outcomes {
                recipients: count(row.recipients),
                delivered: count(row.delivered),
                read: count(row.read),
                ended: by_reason(row.reasons, row.ended),
                delays: delays(row.delays.unwrap_or_default()),
            },
        });
        Ok(groups.collect())
    }

    /// The figures of an event. None: it is none, or nothing of it was counted yet, or it has expired a day ago. It checks no rights.
    ///
    /// # Errors
    /// As [`Self::count_journal`].
    pub async fn event_figures(&self, event: EventId) -> Result<Option<EventFigures>> {
        let row = sqlx::query_file!("src/store/sql/event_statistics.sql", event.0).fetch_optional(self.database()).await?;
        Ok(row.map(|row| EventFigures {
            outcomes: Outcomes {
                recipients: count(row.recipients),
                delivered: count(row.delivered),
                read: count(row.read),
                ended: by_reason(row.reasons, row.ended),
                delays: delays(row.delays),
            },
            first_delivered_at: row.first_delivered_at,
            last_delivered_at: row.last_delivered_at,
        }))
    }
}

/// The counts that are not 0, each with its reason.
fn by_reason(reasons: Vec<String>, counts: Vec<i64>) -> Vec<(String, u64)> {
    reasons.into_iter().zip(counts.into_iter().map(count)).filter(|(_, rows)| *rows > 0).collect()
}

fn delays(counts: Vec<i64>) -> Delays {
    Delays::of(counts.into_iter().map(count).collect())
}

fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or_default()
}
