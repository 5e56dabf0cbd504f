//! The blocks below the table: ratios, limits and shares.

use comfy_table::{CellAlignment, LineStyle, Table, presets};

use super::number;
use crate::bench::compare::Ratio;
use crate::bench::limit::{Limit, Share, Three};
use crate::bench::results::Results;
use crate::bench::sizes::NAIVE_PART;

/// The blocks that have rows.
pub fn of(results: &Results) -> Vec<String> {
    let mut blocks = Vec::new();
    if !results.ratios.is_empty() {
        blocks.push(ratios(&results.ratios));
    }
    if !results.limits.is_empty() {
        blocks.push(limits(&results.limits));
    }
    if !results.shares.is_empty() {
        blocks.push(shares(&results.shares));
    }
    blocks
}

fn ratios(ratios: &[Ratio]) -> String {
    let row = |ratio: &Ratio| {
        let cpu = ratio.cpu.map_or_else(Default::default, |cpu| [cpu.service, cpu.database, cpu.both].map(times));
        [ratio.scenario.clone(), ratio.figure.clone(), times(ratio.rate)].into_iter().chain(cpu).collect()
    };
    let table = tabulated(&["naive to service", "figure", "rate", "CPU service", "database", "both"], 2, ratios.iter().map(row));
    format!(
        "{table}\nFrom the medians: how many times the messages the service does in the same time, and how many times the CPU the naive one spends \
         on a message. The naive one had one user to write to where the service had {NAIVE_PART}."
    )
}

/// Makes a line for each statement and size, with the numbers of connections side by side.
fn limits(limits: &[Limit]) -> String {
    let mut header = vec!["database alone".to_owned(), "in a batch".to_owned()];
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut last = None;
    for limit in limits {
        if last != Some((limit.work, limit.batch)) {
            last = Some((limit.work, limit.batch));
            rows.push(vec![limit.work.name().to_owned(), limit.batch.to_string()]);
        }
        if rows.len() == 1 {
            header.extend([format!("/s on {}", limit.connections), "CPU".to_owned()]);
        }
        if let Some(row) = rows.last_mut() {
            row.extend([number(limit.median), limit.database_cpu_seconds_per1000.map_or_else(String::new, seconds)]);
        }
    }
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let table = tabulated(&header, 1, rows.into_iter());
    format!(
        "{table}\nMessages a second on so many connections at once, and the database's CPU seconds per 1,000; without service and sockets, the same \
         rows, settings and batches."
    )
}

/// Makes two lines for each rate.
fn shares(shares: &[Share]) -> String {
    let percent = |share: f64| if share.is_finite() { format!("{:.0} %", share * 100.0) } else { "?".to_owned() };
    let row = |share: &Share, what: &str, three: Three, show: fn(f64) -> String, part: f64| {
        let name = format!("{}: {}, {what}", share.scenario, share.figure);
        let at = format!("{} × {}", share.batch, share.connections);
        [name, number(share.service_batch), at]
            .into_iter()
            .chain([three.rows, three.statement, three.service].map(show))
            .chain([percent(part)])
            .collect()
    };
    let rows = shares.iter().flat_map(|share| {
        let rate = row(share, "/s", share.rate, number, share.share_of_rate);
        let cpu = share.database_cpu.zip(share.share_of_database_cpu);
        [Some(rate), cpu.map(|(cpu, part)| row(share, "database CPU", cpu, seconds, part))].into_iter().flatten()
    });
    let header = ["share of the limit", "service's batch", "compared at", "rows alone", "own statement", "service", "share"];
    format!(
        "{}\nCompared at the batch nearest to the service's mean one, on as many connections as the rows alone were written fastest on. The share \
         of the rate is service / rows alone, that of the database's CPU rows alone / service.",
        tabulated(&header, 1, rows)
    )
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.4}")
}

/// A run may be shorter than a tick of the CPU clock. Its ratio is then no number.
fn times(factor: f64) -> String {
    if factor.is_finite() { format!("{} ×", number(factor)) } else { "?".to_owned() }
}

/// Makes a table whose first `words` columns are words, and the others numbers.
fn tabulated(header: &[&str], words: usize, rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
    table.set_header(header);
    for column in table.column_iter_mut().skip(words) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.add_rows(rows);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_that_is_none_is_not_made_up() {
        assert_eq!(times(6.404), "6.40 ×");
        assert_eq!(times(f64::INFINITY), "?");
        assert_eq!(times(f64::NAN), "?");
    }
}
