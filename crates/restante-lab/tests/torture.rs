//! A short torture, with a fixed seed: the promise holds under faults, and the run says so in words and as JSON.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lab;

use std::process::Output;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use lab::lab;

/// One run at a time: each of them starts several programs.
static TURN: Mutex<()> = Mutex::new(());

fn torture(args: &[&str]) -> Output {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    lab(&["torture"]).args(args).output().unwrap()
}

#[test]
fn nothing_is_lost_and_nothing_has_its_effect_twice_under_faults() {
    let run = torture(&["--seed", "11", "--minutes", "0.2", "--nodes", "2", "--clients", "12", "--json", "-"]);
    let said = String::from_utf8_lossy(&run.stdout);
    assert_eq!(run.status.code(), Some(0), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
    let verdict: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!((&verdict["verdict"], &verdict["seed"]), (&"held".into(), &11.into()));
    assert!(verdict["faults"].as_object().unwrap().values().map(|kind| kind["done"].as_u64().unwrap()).sum::<u64>() >= 4, "{said}");
    for what in ["sends confirmed", "envelopes received", "receipts", "reads", "rows read"] {
        assert!(verdict["counts"][what].as_u64().unwrap() > 50, "{what}: {said}");
    }
}

#[test]
fn a_standby_takes_over_again_and_again_and_clocks_are_off_and_nothing_is_lost() {
    let faults = ["--standby", "--faults", "promote,clock,node-kill"];
    let run = torture(&[&["--seed", "1", "--minutes", "0.2", "--nodes", "2", "--clients", "8", "--json", "-"], faults.as_slice()].concat());
    let said = String::from_utf8_lossy(&run.stdout);
    assert_eq!(run.status.code(), Some(0), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
    let verdict: Value = serde_json::from_slice(&run.stdout).unwrap();
    let is_told = |what: &str| verdict["timeline"].as_array().unwrap().iter().any(|entry| entry["what"].as_str().unwrap().contains(what));
    assert!(is_told("; a new standby after") && is_told(": off by "), "{said}");
    let promote = &verdict["faults"]["promote"];
    let [drawn, done, not_done] = ["drawn", "done", "notDone"].map(|what| promote[what].as_u64().unwrap());
    assert!(done > 0 && drawn == done + not_done && (not_done > 0) == promote["whyNot"].is_string(), "{said}");
    assert!(verdict["counts"]["sends confirmed"].as_u64().unwrap() > 50, "{said}");
}

#[test]
fn faults_are_listed_with_what_they_do_and_unknown_or_impossible_ones_are_refused() {
    let listed = String::from_utf8(torture(&["--faults", "list"]).stdout).unwrap();
    assert!(listed.lines().any(|line| line.starts_with("pg-kill ") && line.contains("postmaster")), "{listed}");
    for faults in ["flood", "promote"] {
        let refused = torture(&["--faults", faults]);
        assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    }
}
