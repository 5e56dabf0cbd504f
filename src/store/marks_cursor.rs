//! The marks cursor: a place in the order of transactions. It knows no SQL: `marks` asks with it.
//!
//! A transaction that writes, in whatever database of the cluster, may stay open for hours, and later ones commit before it. So
//! the cursor does not stop at the oldest one that is open: it names the open ones, and counts everything else as told.

use std::fmt;

/// Transactions that a cursor names. They are the oldest ones, so a forgotten one is among them.
const PENDING_MAX: usize = 8;

/// A place in the order of transactions: everything below `next` has been told, save what belongs to `pending`.
///
/// As text it is the number `next`, and then each pending one behind a dot: `804.783`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MarksCursor {
    next: u64,
    /// Transactions that were open when the cursor was made, ascending, each below `next`; at most 8.
    pending: Vec<u64>,
}

impl MarksCursor {
    /// Everything below this transaction has been told.
    pub const fn at(next: u64) -> Self {
        Self { next, pending: Vec::new() }
    }

    /// Reads a cursor as a client passes it back. None: it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.splitn(PENDING_MAX + 2, '.').map(|number| number.parse::<u64>().ok().filter(|number| *number > 0));
        let next = numbers.next()??;
        let pending = numbers.collect::<Option<Vec<u64>>>()?;
        let is_ascending = pending.is_sorted_by(|one, other| one < other) && pending.last().is_none_or(|last| *last < next);
        (is_ascending && pending.len() <= PENDING_MAX).then_some(Self { next, pending })
    }

    /// The cursor of a reader whose snapshot this is, as PostgreSQL writes it: `xmin:xmax:open,open`. One that cannot be read asks for
    /// everything, which is always safe.
    pub(super) fn of_snapshot(snapshot: &str) -> Self {
        let mut parts = snapshot.split(':').skip(1);
        let Some(end) = parts.next().and_then(|end| end.parse().ok()) else { return Self::at(0) };
        let mut open: Vec<u64> = Vec::new();
        for number in parts.next().unwrap_or_default().split(',').filter(|number| !number.is_empty()) {
            let Ok(number) = number.parse() else { return Self::at(0) };
            open.push(number);
        }
        open.sort_unstable();
        // Beyond those that are named, everything is told again.
        let next = open.get(PENDING_MAX).copied().unwrap_or(end);
        open.truncate(PENDING_MAX);
        Self { next, pending: open }
    }

    /// The first transaction of which nothing was told, as PostgreSQL reads it.
    pub(super) fn next(&self) -> String {
        self.next.to_string()
    }

    /// Earlier ones of which nothing was told, as PostgreSQL reads them.
    pub(super) fn pending(&self) -> Vec<String> {
        self.pending.iter().map(u64::to_string).collect()
    }
}

impl fmt::Display for MarksCursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.next)?;
        self.pending.iter().try_for_each(|number| write!(formatter, ".{number}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cursor_names_the_transactions_that_are_open_and_passes_the_others() {
        assert_eq!(MarksCursor::of_snapshot("100:100:"), MarksCursor::at(100));
        assert_eq!(MarksCursor::of_snapshot("100:900:100,850").to_string(), "900.100.850");
        let many: Vec<String> = (0..50).map(|n| (100 + n * 10).to_string()).collect();
        let cursor = MarksCursor::of_snapshot(&format!("100:900:{}", many.join(",")));
        assert_eq!(cursor.to_string(), "180.100.110.120.130.140.150.160.170", "the ninth is told again with all that follows");
        for unreadable in ["", "100", "100:", "x:y:z", "1:2:x"] {
            assert_eq!(MarksCursor::of_snapshot(unreadable), MarksCursor::at(0), "{unreadable}");
        }
    }

    #[test]
    fn what_no_server_wrote_is_no_cursor() {
        for bad in
            ["", "0", "x", "-1", "5.", "5.5", "5.6", "5.0", "9.3.2", "9.3.3", "9.1,2", "99.1.2.3.4.5.6.7.8.9", "18446744073709551616"]
        {
            assert_eq!(MarksCursor::parse(bad), None, "{bad}");
        }
        assert!(MarksCursor::parse(&format!("5{}", ".1".repeat(1_000_000))).is_none());
        assert_eq!(MarksCursor::parse("99.1.2.3.4.5.6.7.8").unwrap().pending().len(), PENDING_MAX);
    }

    proptest! {
        #[test]
        fn a_cursor_that_was_written_is_read_back(open in prop::collection::btree_set(1..u64::MAX, 0..20)) {
            let list: Vec<String> = open.iter().map(u64::to_string).collect();
            let cursor = MarksCursor::of_snapshot(&format!("{}:{}:{}", open.first().unwrap_or(&7), u64::MAX, list.join(",")));
            prop_assert_eq!(MarksCursor::parse(&cursor.to_string()), Some(cursor));
        }
    }
}
