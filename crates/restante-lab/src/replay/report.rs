//! The table at the end of a replay, and the same figures as JSON.

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

use super::driver::Played;
use super::log::Log;
use super::person::PersonReport;
use super::rows::Statuses;
use restante_judge::{Findings, Rule};

/// The figures of one log, or of all logs.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    title: String,
    lines: u64,
    lines_skipped: u64,
    people: u64,
    messages: u64,
    deliveries: u64,
    deliveries_expected: u64,
    redeliveries: u64,
    duplicates: u64,
    connections_lost: u64,
    sends_repeated: u64,
    statuses: Statuses,
    seconds_sending: f64,
    seconds_delivering: f64,
    latency_ms: Latency,
    broken: BTreeMap<&'static str, u64>,
    #[serde(skip)]
    findings: Findings,
    #[serde(skip)]
    latencies_us: Vec<u32>,
}

/// Milliseconds from said to received, for persons who were connected.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Latency {
    p50: f64,
    p99: f64,
    max: f64,
}

impl Latency {
    fn of(latencies_us: &[u32]) -> Self {
        // Up to an hour, to three digits: these bounds are valid, so the histogram is always there.
        let Ok(mut histogram) = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3) else { return Self::default() };
        latencies_us.iter().for_each(|micros| histogram.saturating_record(u64::from(*micros)));
        let ms = |micros: u64| micros as f64 / 1000.0;
        if histogram.is_empty() {
            return Self::default();
        }
        Self { p50: ms(histogram.value_at_quantile(0.5)), p99: ms(histogram.value_at_quantile(0.99)), max: ms(histogram.max()) }
    }
}

impl Figures {
    /// The figures of one log.
    pub fn of(title: &str, log: &Log, played: Played) -> Self {
        let sum = |count: fn(&PersonReport) -> u64| played.reports.iter().map(count).sum::<u64>();
        let (deliveries, redeliveries) = (sum(|report| report.deliveries.first), sum(|report| report.deliveries.redeliveries));
        let (duplicates, lost) = (sum(|report| report.deliveries.duplicates), sum(|report| report.connections_lost));
        let repeated = sum(|report| report.sends_repeated);
        let messages = played.accepted;
        let latencies_us: Vec<u32> = played.reports.into_iter().flat_map(|report| report.latencies_us).collect();
        Self {
            title: title.to_owned(),
            lines: log.lines as u64,
            lines_skipped: log.skipped as u64,
            people: log.people.len() as u64,
            messages,
            deliveries,
            deliveries_expected: messages * (log.people.len() as u64).saturating_sub(1),
            redeliveries,
            duplicates,
            connections_lost: lost,
            sends_repeated: repeated,
            statuses: played.statuses,
            seconds_sending: played.sending.as_secs_f64(),
            seconds_delivering: played.delivering.as_secs_f64(),
            latency_ms: Latency::of(&latencies_us),
            broken: counts(&played.findings),
            findings: played.findings,
            latencies_us,
        }
    }

    /// The figures of all logs together, which were played one after another.
    pub fn sum(logs: &[Self]) -> Option<Self> {
        let mut all = logs.first()?.clone();
        "all".clone_into(&mut all.title);
        for log in &logs[1..] {
            all.lines += log.lines;
            all.lines_skipped += log.lines_skipped;
            all.people += log.people;
            all.messages += log.messages;
            all.deliveries += log.deliveries;
            all.deliveries_expected += log.deliveries_expected;
            all.redeliveries += log.redeliveries;
            all.duplicates += log.duplicates;
            all.connections_lost += log.connections_lost;
            all.sends_repeated += log.sends_repeated;
            all.statuses.merge(&log.statuses);
            all.seconds_sending += log.seconds_sending;
            all.seconds_delivering += log.seconds_delivering;
            all.findings.merge(&log.findings);
            all.latencies_us.extend(&log.latencies_us);
        }
        all.latency_ms = Latency::of(&all.latencies_us);
        all.broken = counts(&all.findings);
        Some(all)
    }

    /// True when every rule held.
    pub fn holds(&self) -> bool {
        self.findings.is_empty()
    }

    fn broken(&self, rules: &[Rule]) -> String {
        rules.iter().map(|rule| self.findings.count(*rule)).sum::<u64>().to_string()
    }

    fn broken_otherwise(&self) -> String {
        let shown = [&ORDER[..], &GAPS, &LOSSES].concat();
        let others: Vec<Rule> = Rule::ALL.iter().copied().filter(|rule| !shown.contains(rule)).collect();
        self.broken(&others)
    }
}

fn counts(findings: &Findings) -> BTreeMap<&'static str, u64> {
    findings.iter().map(|(rule, count, _)| (rule.name(), count)).collect()
}

/// The rules that the table shows in lines of their own.
const ORDER: [Rule; 2] = [Rule::Order, Rule::SenderOrder];
const GAPS: [Rule; 3] = [Rule::ChatGap, Rule::InboxGap, Rule::DeviceHole];
const LOSSES: [Rule; 2] = [Rule::Lost, Rule::NotReceived];

type Row = (&'static str, fn(&Figures) -> String);

const ROWS: &[Row] = &[
    ("lines (skipped)", |f| format!("{} ({})", f.lines, f.lines_skipped)),
    ("people", |f| f.people.to_string()),
    ("messages", |f| f.messages.to_string()),
    ("deliveries", |f| f.deliveries.to_string()),
    ("  expected", |f| f.deliveries_expected.to_string()),
    ("redeliveries", |f| f.redeliveries.to_string()),
    ("duplicates seen", |f| f.duplicates.to_string()),
    ("sends repeated", |f| f.sends_repeated.to_string()),
    ("connections lost", |f| f.connections_lost.to_string()),
    ("order violations", |f| f.broken(&ORDER)),
    ("gaps", |f| f.broken(&GAPS)),
    ("losses", |f| f.broken(&LOSSES)),
    ("anything else broken", |f| f.broken_otherwise()),
    ("final statuses", |f| f.statuses.words()),
    ("messages/s", |f| rate(f.messages, f.seconds_sending)),
    ("deliveries/s", |f| rate(f.deliveries, f.seconds_delivering)),
    ("latency p50", |f| milliseconds(f.latency_ms.p50)),
    ("latency p99", |f| milliseconds(f.latency_ms.p99)),
    ("latency max", |f| milliseconds(f.latency_ms.max)),
    ("time", |f| format!("{:.1} s", f.seconds_delivering)),
];

fn rate(count: u64, seconds: f64) -> String {
    format!("{:.0}", count as f64 / Duration::from_secs_f64(seconds).as_secs_f64().max(0.001))
}

fn milliseconds(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

/// A column for each log and, when there are several, one for all of them.
pub fn table(logs: &[Figures]) -> String {
    let all = (logs.len() > 1).then(|| Figures::sum(logs)).flatten();
    let columns: Vec<&Figures> = logs.iter().chain(&all).collect();
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(std::iter::once(String::new()).chain(columns.iter().map(|figures| figures.title.clone())));
    for (name, cell) in ROWS {
        table.add_row(std::iter::once((*name).to_owned()).chain(columns.iter().map(|figures| cell(figures))));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// The rules that broke with their cases, or that everything held.
pub fn verdict(logs: &[Figures]) -> String {
    let Some(all) = Figures::sum(logs) else { return "No log was played.".to_owned() };
    if all.holds() {
        return format!("Everything held: {} messages, {} deliveries, no loss, no order violation, no gap.", all.messages, all.deliveries);
    }
    let broken = all.findings.iter().map(|(rule, count, cases)| format!("BROKEN: {}: {count}\n  {}", rule.name(), cases.join("\n  ")));
    broken.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::deliveries::Deliveries;

    fn figures(findings: Findings) -> Figures {
        let log = Log::parse("[01:00] <a> 1\n=== b [x]  has joined #c\n");
        let (history, deliveries, latencies_us) = (Default::default(), Deliveries::new(1), vec![1000, 2000, 30_000]);
        let reports = vec![PersonReport { history, deliveries, latencies_us, connections_lost: 1, sends_repeated: 0 }];
        let (sending, delivering) = (Duration::from_secs(1), Duration::from_secs(2));
        let played = Played { accepted: 0, reports, findings, statuses: Statuses::default(), sending, delivering };
        Figures::of("log", &log, played)
    }

    #[test]
    fn table_has_a_column_for_all_when_there_are_several() {
        assert!(!table(&[figures(Findings::default())]).contains("all"));
        let two = table(&[figures(Findings::default()), figures(Findings::default())]);
        assert!(two.contains("all") && two.contains("2.0 ms"), "{two}");
    }

    #[test]
    fn verdict_names_what_broke_with_a_case() {
        assert!(verdict(&[figures(Findings::default())]).starts_with("Everything held"));
        let mut findings = Findings::default();
        findings.add(Rule::NotReceived, || "bob never saw number 7".into());
        let broken = figures(findings);
        assert!(!broken.holds());
        assert_eq!(verdict(&[broken]), "BROKEN: not-received: 1\n  bob never saw number 7");
    }

    #[test]
    fn figures_are_json_for_scripts() {
        let json = serde_json::to_value(figures(Findings::default())).unwrap();
        assert_eq!((json["connectionsLost"].as_u64(), json["latencyMs"]["p50"].as_f64()), (Some(1), Some(2.0)));
    }
}
