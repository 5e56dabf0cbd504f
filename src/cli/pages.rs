//! Lists that are asked for page after page, and printed as they come.

use serde::Serialize;

use super::screen::{OutputError, print, printable_json, say};

/// Rows that are asked for at once.
pub const PAGE: u16 = 500;

/// A page of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// Its rows, in order.
    pub rows: Vec<T>,
    /// The place behind which the next page begins; none: it was the last.
    pub next: Option<String>,
}

/// Says if a list has more than was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    /// Everything was given.
    Nothing,
    /// There are more rows.
    Rows,
}

impl More {
    /// Says on stderr how the rest is to be had.
    pub fn say(self, advice: &str) {
        match self {
            Self::Nothing => {}
            Self::Rows => say(&format!("restante: there are more: {advice}")),
        }
    }
}

/// Gives at most `limit` rows to `each`, in order. `page` is asked for at most so many rows behind a place.
///
/// # Errors
/// When a page cannot be had, or `each` fails.
pub async fn in_pages<T>(
    limit: usize,
    mut page: impl AsyncFnMut(u16, Option<String>) -> anyhow::Result<Page<T>>,
    mut each: impl FnMut(T) -> anyhow::Result<()>,
) -> anyhow::Result<More> {
    let (mut left, mut after) = (limit, None);
    while left > 0 {
        let Page { rows, next } = page(u16::try_from(left).unwrap_or(PAGE).min(PAGE), after).await?;
        left = left.saturating_sub(rows.len());
        rows.into_iter().try_for_each(&mut each)?;
        after = next;
        if after.is_none() {
            return Ok(More::Nothing);
        }
    }
    Ok(More::Rows)
}

/// Prints a row: as a JSON object, or as the line that `line` makes of it.
///
/// # Errors
/// [`OutputError`].
pub fn print_row<T: Serialize>(row: &T, json: bool, line: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
    print(&if json { printable_json(&serde_json::to_string(row)?) } else { line(row) }).map_err(|error: OutputError| error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of the numbers below `len`, in pages of at most three.
    async fn listed(len: usize, limit: usize) -> (Vec<usize>, Vec<u16>, More) {
        let (mut got, mut asked) = (Vec::new(), Vec::new());
        let page = async |rows_max: u16, after: Option<String>| {
            asked.push(rows_max);
            let first = after.map_or(0, |after| after.parse::<usize>().unwrap());
            let end = (first + usize::from(rows_max).min(3)).min(len);
            Ok(Page { rows: (first..end).collect(), next: (end < len).then(|| end.to_string()) })
        };
        let gather = |row| {
            got.push(row);
            Ok(())
        };
        let more = in_pages(limit, page, gather).await.unwrap();
        (got, asked, more)
    }

    #[tokio::test]
    async fn a_list_goes_on_behind_each_page_up_to_its_end_or_the_limit() {
        assert_eq!(listed(7, 50).await, ((0..7).collect(), vec![50, 47, 44], More::Nothing));
        assert_eq!(listed(7, 4).await, ((0..4).collect(), vec![4, 1], More::Rows));
        assert_eq!(listed(3, 3).await, ((0..3).collect(), vec![3], More::Nothing), "nothing is behind the last row");
        assert_eq!(listed(0, 9).await, (vec![], vec![9], More::Nothing));
        assert_eq!(listed(1, usize::MAX).await, (vec![0], vec![PAGE], More::Nothing));
    }
}
