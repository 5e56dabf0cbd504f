//! The table at the end of a run, and the same results as JSON.

mod blocks;

use std::io::Write;

use anyhow::Context;
use comfy_table::{CellAlignment, LineStyle, Table, presets};

use super::figure::{Series, Unit};
use super::numbers::thousands;
use super::results::Results;
use super::testbed::Cost;

/// Shows the results: the table on stdout and JSON in the file, or with `-` JSON on stdout.
pub fn show(results: &Results, json: Option<&str>) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(results)?;
    let mut out = std::io::stdout().lock();
    match json {
        Some("-") => return Ok(writeln!(out, "{text}")?),
        Some(file) => std::fs::write(file, text + "\n").with_context(|| format!("cannot write {file}"))?,
        None => {}
    }
    writeln!(out, "{}\n{}", lines(results).join("\n"), words(results))?;
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

/// The lines of the table, with a line between scenarios.
fn lines(results: &Results) -> Vec<String> {
    let mut lines = table(results).lines().collect::<Vec<_>>().into_iter();
    // The line above, the header, and the line below it.
    let mut all: Vec<String> = lines.by_ref().take(3).collect();
    let between = all.first().cloned().unwrap_or_default();
    for (place, line) in lines.enumerate() {
        if place > 0 && place < results.figures.len() && begins_scenario(results, place) {
            all.push(between.clone());
        }
        all.push(line);
    }
    all
}

fn begins_scenario(results: &Results, place: usize) -> bool {
    place == 0 || results.figures[place - 1].label() != results.figures[place].label()
}

fn table(results: &Results) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
    table.set_header(["scenario", "figure", "median", "", "lowest", "highest", "CPU service", "database", "both", "clients"]);
    for column in table.column_iter_mut().skip(2).filter(|column| column.index != 3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for (place, series) in results.figures.iter().enumerate() {
        let scenario = if begins_scenario(results, place) { series.label() } else { String::new() };
        table.add_row(row(scenario, series));
    }
    table
}

fn row(scenario: String, series: &Series) -> Vec<String> {
    let (lowest, highest) = series.values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)));
    let mut row =
        vec![scenario, series.figure.clone(), number(series.median), unit(series.unit).to_owned(), number(lowest), number(highest)];
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
        Unit::MillisecondsPerSecond => "ms/s",
        Unit::Kibibytes => "KiB",
        Unit::Mebibytes => "MiB",
        Unit::Percent => "%",
        Unit::Times => "×",
        Unit::Count => "",
    }
}

/// A number with its significant digits, and with commas.
fn number(value: f64) -> String {
    match value.abs() {
        1000.0.. => grouped(value),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn grouped(value: f64) -> String {
    let text = thousands(value.abs().round() as u64);
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::figure::Figure;
    use super::*;

    #[test]
    fn a_line_stands_between_scenarios_only() {
        let mut results = Results::of_this_machine();
        for scenario in ["drain", "live"] {
            let figures = ["one", "two"].map(|name| Figure::new(name, 1.0, Unit::Times));
            results.add(scenario, crate::bench::testbed::Subject::Service, figures.into());
        }
        let lines = lines(&results);
        let firsts: Vec<_> = lines.iter().filter_map(|line| line.split_whitespace().next()).map(|word| word.chars().next()).collect();
        assert_eq!(firsts.into_iter().flatten().collect::<String>(), "─s═dt─lt─", "{lines:#?}");
    }

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
