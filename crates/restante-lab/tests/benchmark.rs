//! The benchmark measures what it says: every scenario runs at small sizes, on a service and a database of its own, and gives its
//! figures. How fast it is, is not a test's business.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lab;

use std::collections::BTreeSet;
use std::thread;

use serde_json::Value;

use lab::lab;

const SIZES: &str = "--users 10 --messages 10 --backlog 100,300 --members 20,60 --group-messages 2 --connections 30 --history 200,1000 \
                     --held 200ms,400ms --held-pairs 2,4 --recipients 4 --pair-messages 2 --checks 20 --pairs 2 --spread 200ms --time 300ms --rest 300ms \
                     --followers 30,300 --followers-there 10 --feed-events 2 --waiting-events 400 --published 3 --eager";
/// Two runs at once: much of each is waiting for a database to be made.
const RUNS: [&[&str]; 2] = [
    &["drain", "history", "backlog", "storm", "promises", "flood", "events"],
    &["live", "nodes", "group", "idle", "held", "pairs", "retention", "feed", "publish", "compress"],
];

/// All figures of a run.
struct Figures(Vec<Value>);

impl Figures {
    fn measured() -> Self {
        let runs = RUNS.map(|scenarios| thread::spawn(move || figures(scenarios)));
        Self(runs.into_iter().flat_map(|run| run.join().unwrap()).collect())
    }

    fn of(&self, scenario: &str, figure: &str) -> &Value {
        let is_it = |value: &&Value| value["scenario"] == scenario && value["figure"] == figure;
        self.0.iter().find(is_it).unwrap_or_else(|| panic!("{scenario} has no figure {figure:?}"))
    }

    fn median(&self, scenario: &str, figure: &str) -> f64 {
        self.of(scenario, figure)["median"].as_f64().unwrap()
    }
}

fn figures(scenarios: &[&str]) -> Vec<Value> {
    let mut bench = lab(&["bench"]);
    bench.args(scenarios).args(["--quick", "--repeat", "1", "--json", "-"]).args(SIZES.split_whitespace());
    let run = bench.output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let results: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert!(results["database"].as_str().unwrap().contains("fsync on"), "{}", results["database"]);
    assert!(results["processors"].as_u64().unwrap() > 0);
    results["figures"].as_array().unwrap().clone()
}

#[test]
fn the_same_load_can_be_measured_over_socket_io() {
    let measured = Figures(figures(&["drain", "live", "idle", "--socketio"]));
    assert!(measured.median("drain", "drained") > 0.0);
    assert!(measured.median("live", "highest rate, told") > 0.0);
    measured.of("idle", "connections");
}

#[test]
fn the_same_load_can_be_measured_while_nobody_holds_a_snapshot() {
    let measured = Figures(figures(&["held", "--held-by", "nobody"]));
    measured.of("held", "4 pairs, held by nobody for 400ms");
    let held = |figure: &Value| figure["figure"].as_str().unwrap().contains("held for");
    assert!(!measured.0.iter().any(held));
}

#[test]
fn every_scenario_gives_its_figures() {
    let figures = Figures::measured();
    let names: BTreeSet<&str> = figures.0.iter().map(|figure| figure["scenario"].as_str().unwrap()).collect();
    assert_eq!(names, RUNS.into_iter().flatten().copied().collect());
    for figure in &figures.0 {
        let (value, unit) = (figure["median"].as_f64().unwrap(), figure["unit"].as_str().unwrap());
        assert_eq!(figure["values"].as_array().unwrap().len(), 1, "{figure}");
        match unit {
            // A loss may be a gain.
            "%" => assert!(value.is_finite(), "{figure}"),
            // CPU is counted in hundredths of a second, and few rows may be dead.
            "ms/s" | "count" | "KiB" => assert!(value >= 0.0, "{figure}"),
            _ => assert!(value > 0.0, "{figure}"),
        }
        if figure["unit"] == "1/s" {
            assert!(figure["cpuSecondsPer1000"]["service"].as_f64().unwrap() >= 0.0, "{figure}");
        }
    }
    for (scenario, figure) in [
        ("drain", "drained"),
        ("live", "highest rate, told"),
        ("nodes", "sent → recipient, p99"),
        ("backlog", "window 50: rate with 300 / with 100"),
        ("backlog", "window 500, 300 waiting: drained"),
        ("group", "20 members away: rows stored"),
        ("group", "60 members there: sent → sender told of all"),
        ("idle", "memory of the service per connection"),
        ("pairs", "chats that are new"),
        ("pairs", "chats that are there"),
        ("pairs", "the same from new connections"),
        ("pairs", "the same by the chats' ids"),
        ("promises", "live: sent → recipient, p99"),
        ("promises", "50 waiting: connect → drained, p50"),
        ("promises", "online check: asked → answered, p99"),
        ("flood", "flooded: sent → recipient, p99"),
        ("flood", "sent → recipient, p99: flooded / quiet"),
        ("storm", "first connect → all drained"),
        ("history", "drained with 1,000 / with 200"),
        ("held", "4 pairs, held for 400ms: dead rows of inboxes"),
        ("held", "4 pairs, at last: size of inboxes"),
        ("retention", "sent → recipient, p99: beside it / without"),
        ("feed", "300 followers, 10 there: published → stored"),
        ("feed", "300 followers, 10 there: published → last follower there"),
        ("feed", "300 followers, 10 there, eager: published → all rows written"),
        ("feed", "published → stored: 300 / 30 followers"),
        ("publish", "event → stored, p99"),
        ("publish", "p50: event / message"),
        ("events", "400 events wait, beside: sent → recipient, p99"),
        ("events", "sent → recipient, p99: beside / without"),
        ("events", "sent → recipient, p99: while they are drained / without"),
    ] {
        figures.of(scenario, figure);
    }
    assert_eq!(figures.median("flood", "flooded: answers of /readyz that are not 200"), 0.0);
    for table in ["messages", "message_status"] {
        let rows = |month: u32| figures.median("retention", &format!("month {month}: rows of {table}"));
        assert_eq!([rows(1), rows(3), rows(4)], [100.0, 300.0, 300.0], "the first month goes as the fourth comes");
    }
    assert_eq!(figures.median("idle", "connections"), 30.0);
    assert!(figures.median("events", "drained meanwhile in a second") > 0.0, "events were drained beside the chat");
    let worst = |part: &str| figures.median("storm", &format!("connect → drained, {part}"));
    assert!(worst("p50") <= worst("p99") && worst("p99") <= worst("max"));
    assert!(worst("max") <= 1000.0 * figures.median("storm", "first connect → all drained"), "one takes no longer than all");
    let there = |what: &str| figures.median("group", &format!("60 members there: sent → {what}"));
    assert!(there("last member") < there("sender told of all"));
}

#[test]
fn too_many_connections_are_refused_in_words() {
    let run = lab(&["bench", "idle", "--connections", "100000000"]).output().unwrap();
    let words = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(2), "{words}");
    assert!(words.contains("100,000,050 connections need 100,000,250 open files"), "{words}");
}

#[test]
fn the_service_is_compared_with_the_naive_one_and_with_the_database_alone() {
    let args = ["bench", "drain", "--quick", "--repeat", "1", "--baseline", "--limit", "--json", "-"];
    let output = lab(&args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();

    let figures = results["figures"].as_array().unwrap();
    for subject in ["service", "naive"] {
        let rates: Vec<_> =
            figures.iter().filter(|it| it["subject"] == subject && it["unit"] == "1/s").map(|it| it["figure"].as_str().unwrap()).collect();
        assert_eq!(rates, ["stored and confirmed", "drained"], "{subject}");
    }
    for part in ["ratios", "shares"] {
        let rates: Vec<_> = results[part].as_array().unwrap().iter().map(|it| it["figure"].as_str().unwrap()).collect();
        assert_eq!(rates, ["stored and confirmed", "drained"], "{part}");
    }
    // Four statements, three sizes of batches, three numbers of connections.
    let limits = results["limits"].as_array().unwrap();
    assert_eq!(limits.len(), 36);
    assert!(limits.iter().all(|limit| limit["median"].as_f64().unwrap() > 0.0), "{limits:#?}");
}

#[test]
fn the_comparisons_need_a_server_of_their_own() {
    for flag in ["--baseline", "--limit"] {
        let args = ["bench", flag, "--url", "http://127.0.0.1:1", "--database", "postgres://nowhere"];
        let output = lab(&args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{flag}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
