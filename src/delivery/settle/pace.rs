//! The number of rows that the next transaction of a settle lane may settle: 5,000 at most, and no more than it settles in 50 ms. The
//! other users of the lane wait for that long.
//!
//! The time that a row takes is not known beforehand: it depends on the machine, on what is in memory, and on who else is at work. So it is
//! measured. What a transaction takes beside its rows (locks, marks of bounded length) does not get less with fewer of them, so it is not
//! counted: two transactions of different sizes tell the one from the other. It knows nothing of jobs and does not read the clock.

use std::time::Duration;

use tokio::time::Instant;

/// Rows in one transaction.
pub(super) const ROWS_MAX: usize = 5_000;
/// Rows that go in one transaction however long they take. With fewer the transaction itself would cost more than they do.
const ROWS_MIN: usize = 50;
/// Rows in one transaction while nothing is known of their time.
const ROWS_FIRST: usize = 500;
/// The time that PostgreSQL may work on one transaction. Its commit is not counted: it takes the same for few rows.
const TIME_MAX: Duration = Duration::from_millis(50);
/// A measurement that is older is not relied on.
const BELIEVED: Duration = Duration::from_secs(10);

/// The pace of one lane.
#[derive(Debug)]
pub(super) struct Pace {
    rows: usize,
    last: Option<Measured>,
}

/// A transaction that was measured.
#[derive(Debug, Clone, Copy)]
struct Measured {
    rows: usize,
    took: Duration,
    /// The part of it that was not for its rows, as far as is known.
    beside: Duration,
    at: Instant,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self { rows: ROWS_FIRST, last: None }
    }

    /// Rows that a transaction may settle that begins now.
    pub(super) fn rows(&self, now: Instant) -> usize {
        if self.last(now).is_some() { self.rows } else { self.rows.min(ROWS_FIRST) }
    }

    /// A transaction has settled these rows in this time. One that took too long is followed by smaller ones; a large one that was quick
    /// by one of twice the size. Few rows say nothing of many.
    pub(super) fn measure(&mut self, rows: usize, took: Duration, now: Instant) {
        if rows < ROWS_MIN {
            return;
        }
        let (may, this) = (self.rows(now), Measured { rows, took, beside: Duration::ZERO, at: now }.after(self.last(now)));
        self.rows = if took > TIME_MAX {
            this.fits().clamp(ROWS_MIN, (2 * may).min(ROWS_MAX))
        } else if rows * 2 >= may && took * 2 <= TIME_MAX {
            (may * 2).min(ROWS_MAX)
        } else {
            may
        };
        self.last = Some(this);
    }

    fn last(&self, now: Instant) -> Option<Measured> {
        self.last.filter(|last| now.duration_since(last.at) < BELIEVED)
    }
}

impl Measured {
    /// With what it took beside its rows: of two of different sizes the smaller one shows it.
    fn after(self, before: Option<Self>) -> Self {
        let beside = match before {
            Some(before) if before.is_of_another_size(self) => {
                let (took, more) = (self.took.as_secs_f64(), self.took.as_secs_f64() - before.took.as_secs_f64());
                let a_row = more / (self.rows as f64 - before.rows as f64);
                Duration::try_from_secs_f64(took - a_row.max(0.0) * self.rows as f64).unwrap_or_default()
            }
            Some(before) => before.beside,
            None => Duration::ZERO,
        };
        Self { beside, ..self }
    }

    /// Rows that take the time that there is. Where they took none of it, it is any number.
    fn fits(self) -> usize {
        let of_rows = self.took.saturating_sub(self.beside).as_secs_f64();
        (TIME_MAX.as_secs_f64() * self.rows as f64 / of_rows) as usize
    }

    const fn is_of_another_size(self, other: Self) -> bool {
        4 * self.rows <= 3 * other.rows || 4 * other.rows <= 3 * self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settles until the pace no longer changes, where a row takes this time and each transaction this time beside. Returns the rows of
    /// each transaction.
    fn parts_beside(pace: &mut Pace, a_row: Duration, beside: Duration) -> Vec<usize> {
        let (now, mut parts) = (Instant::now(), Vec::new());
        while parts.last() != Some(&pace.rows(now)) {
            let rows = pace.rows(now);
            parts.push(rows);
            pace.measure(rows, beside + a_row * u32::try_from(rows).unwrap(), now);
        }
        parts
    }

    fn parts(pace: &mut Pace, a_row: Duration) -> Vec<usize> {
        parts_beside(pace, a_row, Duration::ZERO)
    }

    #[test]
    fn a_transaction_takes_no_longer_than_its_time_once_its_rows_are_known() {
        for micros in [1, 5, 9, 20, 80, 300, 1_000] {
            let mut pace = Pace::new();
            let rows = *parts(&mut pace, Duration::from_micros(micros)).last().unwrap();
            assert!(rows <= ROWS_MAX && rows * usize::try_from(micros).unwrap() <= 50_000, "{micros}: {rows}");
            assert!(rows * usize::try_from(micros).unwrap() >= 25_000 / 2 || rows == ROWS_MAX, "{micros}: {rows} are too few");
        }
        assert_eq!(parts(&mut Pace::new(), Duration::from_micros(1)), [500, 1_000, 2_000, 4_000, 5_000]);
        assert_eq!(parts(&mut Pace::new(), Duration::from_millis(1)), [500, 50]);
    }

    #[test]
    fn rows_that_become_slow_are_noticed_after_one_transaction_and_those_that_become_quick_soon() {
        let mut pace = Pace::new();
        parts(&mut pace, Duration::from_micros(1));
        assert_eq!(parts(&mut pace, Duration::from_millis(1)), [5_000, 50]);
        assert_eq!(parts(&mut pace, Duration::from_micros(1)), [50, 100, 200, 400, 800, 1_600, 3_200, 5_000]);
    }

    #[test]
    fn what_a_transaction_takes_beside_its_rows_does_not_make_it_smaller_and_smaller() {
        let mut pace = Pace::new();
        let parts = parts_beside(&mut pace, Duration::from_micros(20), Duration::from_millis(200));
        assert!(parts.len() < 12 && *parts.last().unwrap() >= 2_000, "{parts:?}");
    }

    #[test]
    fn few_rows_say_nothing_of_many_and_what_was_measured_long_ago_is_forgotten() {
        let (mut pace, now) = (Pace::new(), Instant::now());
        pace.measure(1, Duration::from_secs(1), now);
        assert_eq!(pace.rows(now), ROWS_FIRST);
        parts(&mut pace, Duration::from_micros(1));
        assert_eq!(pace.rows(Instant::now() + BELIEVED), ROWS_FIRST);
    }
}
