//! The pace of the job `retention`: how many rows its next pass removes, and how long it pauses before. Work that nobody waits for gives
//! way: a pass is short, so that nobody waits for long where both need a processor or a lock, and passes are few. The further the job has
//! fallen behind, the more of them are made. `restante-lab bench retention` measures at the same pace.

use std::time::Duration;

/// Rows that one pass removes, at most and at least.
const ROWS_MAX: i32 = 1_000;
const ROWS_MIN: i32 = 50;
/// A pass should take no longer than this: sessions that write to an inbox wait for its purge.
const PASS_TIME: Duration = Duration::from_millis(4);
/// The pause after a pass is this many times the time of the pass: the job uses a hundredth of one backend, so that fewer than a hundredth
/// of all messages meet a pass.
const PAUSE_FACTOR: u32 = 99;
/// The same while it removes what should have gone an hour ago: a twentieth of one backend.
const PAUSE_FACTOR_LATE: u32 = 19;
const LATE: Duration = Duration::from_secs(3_600);
/// The same while it removes what should have gone a day ago: a quarter of one backend.
const PAUSE_FACTOR_BEHIND: u32 = 3;
const BEHIND: Duration = Duration::from_secs(86_400);
/// The shortest pause and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The size of passes and the pauses between them.
#[derive(Debug, Clone)]
pub struct PurgePace {
    rows: i32,
}

impl Default for PurgePace {
    fn default() -> Self {
        Self { rows: ROWS_MAX / 4 }
    }
}

impl PurgePace {
    /// Inboxes or chats that one pass looks at.
    pub const PLACES: i32 = 500;

    /// The rows that the next pass may remove.
    pub const fn rows(&self) -> i32 {
        self.rows
    }

    /// A pass took so long, and the oldest row of its sweep should have gone so long ago: the pause until the next pass, whose size is
    /// chosen here.
    pub fn after(&mut self, took: Duration, late: Duration) -> Duration {
        self.rows = if took > PASS_TIME { self.rows / 2 } else { self.rows + self.rows / 4 }.clamp(ROWS_MIN, ROWS_MAX);
        let factor = match late {
            late if late > BEHIND => PAUSE_FACTOR_BEHIND,
            late if late > LATE => PAUSE_FACTOR_LATE,
            _ => PAUSE_FACTOR,
        };
        (took * factor).clamp(PAUSE_MIN, PAUSE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_shrink_and_pauses_grow_while_the_database_is_slow() {
        let mut pace = PurgePace::default();
        for _ in 0..20 {
            assert_eq!(pace.after(Duration::from_millis(1), Duration::ZERO), Duration::from_millis(99));
        }
        assert_eq!(pace.rows, 1_000);
        assert_eq!(pace.after(Duration::from_millis(20), Duration::ZERO), Duration::from_millis(1_980));
        assert_eq!(pace.rows, 500);
        for _ in 0..20 {
            pace.after(Duration::from_secs(60), Duration::ZERO);
        }
        assert_eq!((pace.rows, pace.after(Duration::from_secs(60), Duration::ZERO)), (50, Duration::from_secs(5)));
    }

    #[test]
    fn a_pass_in_its_time_grows_by_a_quarter_and_one_beyond_it_is_halved() {
        let mut pace = PurgePace::default();
        assert_eq!(pace.rows(), 250);
        pace.after(Duration::from_millis(4), Duration::ZERO);
        assert_eq!(pace.rows(), 312);
        pace.after(Duration::from_micros(4_001), Duration::ZERO);
        assert_eq!(pace.rows(), 156);
    }

    #[test]
    fn a_job_that_is_an_hour_behind_pauses_for_less_and_one_that_is_a_day_behind_for_least() {
        let mut pace = PurgePace::default();
        let (pass, hour, second) = (Duration::from_millis(8), Duration::from_secs(60 * 60), Duration::from_secs(1));
        assert_eq!(pace.after(pass, hour), Duration::from_millis(792));
        assert_eq!(pace.after(pass, hour + second), Duration::from_millis(152));
        assert_eq!(pace.after(pass, 24 * hour), Duration::from_millis(152));
        assert_eq!(pace.after(pass, 24 * hour + second), Duration::from_millis(24));
        assert_eq!(pace.after(Duration::from_micros(100), 25 * hour), Duration::from_millis(20));
    }
}
