//! A comment opens with its subject. Behind a question word its reader has to guess what it speaks of until its end.

use std::fs;
use std::path::{Path, PathBuf};

use super::{files_under, root};

/// No comment opens with these, and no sentence that begins a line of one.
const OPENINGS: [&str; 13] =
    ["How", "Is it", "So long", "What", "Whatever", "Whether", "Which", "Whichever", "Who", "Whoever", "Whom", "Whose", "Why"];

const FOLDERS: [&str; 10] = [
    "src",
    "crates",
    "tests",
    "xtask/src",
    "model",
    "migrations",
    "examples",
    "clients/typescript/src",
    "clients/typescript/test",
    "clients/typescript/scripts",
];

fn files() -> Vec<PathBuf> {
    let all = FOLDERS.iter().flat_map(|folder| files_under(&root().join(folder)));
    all.filter(|path| !path.iter().any(|part| part == "node_modules" || part == "target")).collect()
}

/// The marks of comments in a file: those that begin a line, and the one that may stand behind code.
fn marks(path: &Path) -> Option<(&'static [&'static str], &'static str)> {
    match path.extension()?.to_str()? {
        "rs" => Some((&["///", "//!", "//"], " // ")),
        "ts" | "mjs" | "js" => Some((&["/**", "/*", "*", "//"], " // ")),
        // A text that begins a line is that of a `comment on`.
        "sql" => Some((&["--", "'"], " -- ")),
        _ => None,
    }
}

/// The comment of a line, without its mark.
fn comment<'a>(line: &'a str, (at_start, behind): (&[&str], &str)) -> Option<&'a str> {
    let line = line.trim_start();
    let whole = at_start.iter().find_map(|mark| line.strip_prefix(mark));
    whole.or_else(|| line.split_once(behind).map(|(_, rest)| rest)).map(|text| text.trim_start_matches(['…', ' ']))
}

fn opening(comment: &str) -> Option<&'static str> {
    let opens = |word: &&str| comment.strip_prefix(word).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric));
    OPENINGS.into_iter().find(opens)
}

#[test]
fn no_comment_opens_with_a_question_word() {
    let (mut found, mut comments) = (Vec::new(), 0);
    for path in files() {
        let Some(marks) = marks(&path) else { continue };
        for (n, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let Some(comment) = comment(line, marks) else { continue };
            comments += 1;
            if let Some(word) = opening(comment) {
                found.push(format!("{}:{}: {word} …", path.strip_prefix(root()).unwrap().display(), n + 1));
            }
        }
    }
    assert!(comments > 10_000, "{comments} lines of comments");
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn an_opening_is_seen_in_every_kind_of_comment() {
    let of = |file: &str, line: &str| comment(line, marks(Path::new(file)).unwrap()).and_then(opening);
    for (file, line) in [
        ("a.rs", "    /// What it is."),
        ("a.rs", "//! What it is."),
        ("a.ts", "  /** What it is. */"),
        ("a.mjs", " * What it is."),
        ("a.sql", "  a bigint -- … What it is,"),
        ("a.sql", "  'What it is.';"),
    ] {
        assert_eq!(of(file, line), Some("What"), "{line}");
    }
    assert_eq!(of("a.rs", &["let a = 1; //", " What it is."].concat()), Some("What"));
    assert_eq!(of("a.rs", "/// Is it there?"), Some("Is it"));
    for line in ["/// Whatsoever.", "/// It says what it is.", "let what = \"What\";", "//"] {
        assert_eq!(of("a.rs", line), None, "{line}");
    }
}
