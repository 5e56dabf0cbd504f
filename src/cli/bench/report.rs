//! The closing table, and the same as JSON.

mod blocks;

use std::io::Write;

use anyhow::Context;
use comfy_table::{CellAlignment, Table, presets};

use super::figure::{Results, Series, Unit};
use super::stand::Cost;

/// Shows the results: the table on stdout and JSON in the file, or with `-` JSON on stdout.
pub fn show(results: &Results, json: Option<&str>) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(results)?;
    let mut out = std::io::stdout().lock();
    match json {
        Some("-") => return Ok(writeln!(out, "{text}")?),
        Some(file) => std::fs::write(file, text + "\n").with_context(|| format!("cannot write {file}"))?,
        None => {}
    }
    writeln!(out, "{}\n{}", table(results), words(results))?;
    for block in blocks::of(results) {
        writeln!(out, "\n{block}")?;
    }
    Ok(())
}

fn words(results: &Results) -> String {
    format!(
        "restante {} on {}, {} processors for service, database and clients together; CPU in seconds per 1,000 messages.",
        results.version, results.database, results.processors
    )
}

fn table(results: &Results) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["scenario", "figure", "median", "", "lowest", "highest", "CPU service", "database", "both", "clients"]);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for series in &results.figures {
        table.add_row(row(series));
    }
    table
}

fn row(series: &Series) -> Vec<String> {
    let (lowest, highest) = series.values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)));
    let mut row =
        vec![series.label(), series.figure.clone(), number(series.median), unit(series.unit).to_owned(), number(lowest), number(highest)];
    match series.cpu_seconds_per1000 {
        Some(Cost { service, database, clients }) => {
            row.extend([service, database, service + database, clients].map(|seconds| format!("{seconds:.4}")));
        }
        None => row.extend(std::iter::repeat_n(String::new(), 4)),
    }
    row
}

const fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::PerSecond => "/s",
        Unit::Milliseconds => "ms",
        Unit::Seconds => "s",
    }
}

/// With as many digits as mean something, thousands apart.
fn number(value: f64) -> String {
    match value.abs() {
        1000.0.. => grouped(value),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        assert_eq!(number(1_234_567.8), "1,234,568");
        assert_eq!(number(999.6), "1000");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(1.234), "1.23");
        assert_eq!(number(-12_345.0), "-12,345");
        assert_eq!(number(0.0), "0.00");
    }
}
