//! The commands of the lab that documents show exist, with their options.

#[path = "../../../tests/documents/markdown.rs"]
#[expect(dead_code, reason = "the service's test of its documents uses more of it")]
mod markdown;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const DOCUMENTS: [&str; 6] =
    ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/operations.md", "docs/performance.md", "docs/torture.md"];

#[test]
fn the_commands_that_are_shown_exist_with_their_options() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut checked = BTreeSet::new();
    for document in DOCUMENTS {
        for words in markdown::commands(&std::fs::read_to_string(root.join(document)).unwrap(), "restante-lab") {
            let Some(subcommand) = words.first() else { continue };
            let help = Command::new(env!("CARGO_BIN_EXE_restante-lab")).args([subcommand, "--help"]).output().unwrap();
            assert!(help.status.success(), "{document}: there is no `restante-lab {subcommand}`");
            let help = String::from_utf8(help.stdout).unwrap();
            for option in words.iter().filter(|word| word.starts_with("--")) {
                assert!(help.contains(option.as_str()), "{document}: `restante-lab {subcommand}` has no {option}");
            }
            checked.insert(subcommand.clone());
        }
    }
    assert_eq!(checked, ["bench", "demo", "handover", "replay", "torture"].map(str::to_owned).into());
}
