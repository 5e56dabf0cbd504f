//! Figures of delivery: what was accepted and what became of it, for a group of messages or for one event, and the times to delivery.
//!
//! Times are kept as counts in fixed steps, each 10 % longer than the one before. So those of many hours can be added up, and a percentile is
//! within 5 % of the true one, or within half a millisecond where that is more.

use time::{Duration, OffsetDateTime};

use super::limits::STATISTICS_DAYS_MAX;

/// The factor from one step of times to the next.
const STEP: f64 = 1.1;
/// Seconds of an hour.
const HOUR: i64 = 3_600;

/// The property of messages by which figures are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupBy {
    /// The class of their inboxes.
    #[default]
    Class,
    /// Their type.
    Type,
    /// The hour in which it happened, in UTC.
    Hour,
}

impl GroupBy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Class, Self::Type, Self::Hour];

    /// The word for it in requests and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Class => "class",
            Self::Type => "type",
            Self::Hour => "hour",
        }
    }

    /// The property that a word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.as_str() == word)
    }
}

/// Whole hours, from the beginning of the first to the end of the last, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HourSpan {
    /// The beginning of the first hour.
    pub from: OffsetDateTime,
    /// The end of the last hour.
    pub to: OffsetDateTime,
}

impl HourSpan {
    /// The hours that a span of time touches. Without an end it ends now, without a beginning it begins a day before its end.
    ///
    /// # Errors
    /// The span is empty, or touches more than 31 days: the words say so, with the limit.
    pub fn touched(from: Option<OffsetDateTime>, to: Option<OffsetDateTime>, now: OffsetDateTime) -> Result<Self, String> {
        let to = to.unwrap_or(now);
        let from = from.unwrap_or_else(|| to.saturating_sub(Duration::DAY));
        if from >= to {
            return Err("`from` must be before `to`".to_owned());
        }
        let hour = |seconds: i64| OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| "the span is beyond the calendar".to_owned());
        let first = from.unix_timestamp().div_euclid(HOUR) * HOUR;
        let whole = to.unix_timestamp().div_euclid(HOUR) * HOUR;
        let last = if hour(whole)? < to { whole + HOUR } else { whole };
        if last - first > STATISTICS_DAYS_MAX * 24 * HOUR {
            return Err(format!("from `from` to `to` there are at most {STATISTICS_DAYS_MAX} days"));
        }
        Ok(Self { from: hour(first)?, to: hour(last)? })
    }
}

/// Times to delivery, counted in steps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delays(Vec<u64>);

impl Delays {
    /// The counts of the steps: first what took less than a millisecond, then from 1 ms to 1.1 ms, from there to 1.21 ms, and so on.
    pub const fn of(counts: Vec<u64>) -> Self {
        Self(counts)
    }

    /// The time in milliseconds within which this share of the deliveries was done, from 0 to 1. None: there was none.
    pub fn percentile(&self, share: f64) -> Option<f64> {
        let total: u64 = self.0.iter().sum();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of rows times 0 to 1"
        )]
        let rank = ((total as f64 * share).ceil() as u64).clamp(1, total.max(1));
        let mut passed = 0;
        let step = self.0.iter().position(|count| {
            passed += count;
            passed >= rank
        })?;
        Some(match i32::try_from(step) {
            Ok(0) => 0.5,
            Ok(step) => STEP.powf(f64::from(step) - 0.5),
            Err(_) => f64::INFINITY,
        })
    }
}

/// The outcomes of rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcomes {
    /// Rows that were made, one for each recipient of each message.
    pub recipients: u64,
    /// Rows that became delivered, those that were read at once too.
    pub delivered: u64,
    /// Rows that became read.
    pub read: u64,
    /// Rows that ended otherwise, by reason; `requeued`: rows that had failed and were put back.
    pub ended: Vec<(String, u64)>,
    /// The times from the acceptance of a message to the delivery of a row.
    pub delays: Delays,
}

/// The figures of a group of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FigureGroup {
    /// The class, the type or the hour (RFC 3339) that they have in common.
    pub key: String,
    /// Messages and events that were accepted.
    pub accepted: u64,
    /// The outcomes of their rows.
    pub outcomes: Outcomes,
}

/// The figures of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFigures {
    /// The outcomes of its rows.
    pub outcomes: Outcomes,
    /// The time of its first delivery. None: there was none.
    pub first_delivered_at: Option<OffsetDateTime>,
    /// The time of its last delivery so far.
    pub last_delivered_at: Option<OffsetDateTime>,
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    /// The step of a time, as the database computes it.
    fn step(ms: f64) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small whole number")]
        let step = (ms.ln() / STEP.ln()).floor() as usize + 1;
        if ms < 1.0 { 0 } else { step }
    }

    #[test]
    fn a_percentile_is_within_five_percent_of_the_true_one() {
        let times: Vec<f64> = (1..=2_000).map(|n| f64::from(n) * 1.7).collect();
        let mut counts = vec![0; 252];
        times.iter().for_each(|ms| counts[step(*ms)] += 1);
        let delays = Delays::of(counts);
        for (share, place) in [(0.5, 999), (0.95, 1_899), (0.99, 1_979), (1.0, 1_999)] {
            let (found, truth) = (delays.percentile(share).unwrap(), times[place]);
            assert!((found / truth - 1.0).abs() < 0.05, "{share}: {found} ms for {truth} ms");
        }
    }

    #[test]
    fn nothing_delivered_has_no_percentile_and_one_delivery_has_all() {
        assert_eq!([Delays::default(), Delays::of(vec![0; 9])].map(|delays| delays.percentile(0.5)), [None, None]);
        let one = Delays::of(vec![1]);
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|share| one.percentile(share)), [Some(0.5); 4]);
    }

    #[test]
    fn a_span_covers_the_hours_that_it_touches() {
        let now = datetime!(2026-11-29 22:40 UTC);
        let span = |from, to| HourSpan::touched(from, to, now);
        let day = HourSpan { from: datetime!(2026-11-28 22:00 UTC), to: datetime!(2026-11-29 23:00 UTC) };
        assert_eq!(span(None, None), Ok(day));
        let hour = HourSpan { from: datetime!(2026-11-29 10:00 UTC), to: datetime!(2026-11-29 11:00 UTC) };
        assert_eq!(span(Some(datetime!(2026-11-29 12:00 +2)), Some(datetime!(2026-11-29 11:00 UTC))), Ok(hour));
        assert_eq!(span(Some(datetime!(2026-11-29 10:59:59.9 UTC)), Some(datetime!(2026-11-29 10:59:59.99 UTC))), Ok(hour));
    }

    #[test]
    fn a_span_that_is_empty_or_too_long_is_refused_with_the_limit() {
        let now = datetime!(2026-11-29 22:40 UTC);
        assert!(HourSpan::touched(Some(now), Some(now), now).unwrap_err().contains("before"));
        assert!(HourSpan::touched(Some(now), None, now).is_err());
        let long = HourSpan::touched(Some(datetime!(2026-10-29 22:00 UTC)), None, now);
        assert!(long.unwrap_err().contains("31 days"));
        assert!(HourSpan::touched(Some(datetime!(2026-10-29 23:00 UTC)), None, now).is_ok());
        assert!(HourSpan::touched(None, Some(datetime!(9999-12-31 23:59 UTC)), now).unwrap_err().contains("calendar"));
    }
}
