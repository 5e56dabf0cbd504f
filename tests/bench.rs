//! `restante bench` from the outside: that its comparisons run and add up, on the smallest sizes. The figures mean nothing here.

use std::process::Command;

use serde_json::Value;

#[test]
fn the_service_is_compared_with_the_naive_one_and_with_the_database_alone() {
    let args = ["bench", "drain", "--quick", "--repeat", "1", "--baseline", "--limit", "--json", "-"];
    let output = Command::new(env!("CARGO_BIN_EXE_restante")).args(args).current_dir(std::env::temp_dir()).output().unwrap();
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
        let output = Command::new(env!("CARGO_BIN_EXE_restante")).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{flag}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
