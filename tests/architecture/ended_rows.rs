//! A row that waits may have ended: its message has expired, or was recalled, or its user has left, and no job has written it yet. One
//! function of the schema says so. Each statement that reads rows of the queue with their messages must ask it, or stand here with a reason.

use std::collections::BTreeSet;
use std::fs;

use super::root;

const RULE: &str = "restante_ended_unwritten(";
const LEFT: &str = "restante_departed(";
const SHOWS_ACKED: &str = "p_shows_acked => true";

/// Statements of the service that need not ask, and why.
const STATEMENTS: [(&str, &str); 4] = [
    ("locate", "a reject is of a message that its client has, and is answered by what its row says"),
    ("merged", "it reads events that have ended"),
    ("status_counts", "it counts what is written"),
    ("statuses", "it shows what is written"),
];

/// Functions that need not ask, and why.
const FUNCTIONS: [(&str, &str); 18] = [
    ("delivery_trace", "it shows what is written"),
    ("restante_attempt", "it counts against rows that a session has emitted"),
    ("restante_end_departures", "it is the job that writes it"),
    ("restante_erase_inbox", "it writes the end"),
    ("restante_erase_messages", "it forgets what clients have written of a message, whatever became of its rows"),
    ("restante_exact_marks", "no mark passes a row before its end is written"),
    ("restante_expire", "it is the job that writes it"),
    ("restante_fan_out", "it writes rows, with their ends"),
    ("restante_finished_at", "nothing is purged before its end is written"),
    ("restante_give_up", "it ends a row, whatever else may have ended it"),
    ("restante_publish_batch", "it writes rows, with their ends"),
    ("restante_put_block", "it writes the end, or notes it"),
    ("restante_recall_part", "it writes it"),
    ("restante_remove_followers", "it notes the departure"),
    ("restante_remove_members", "it notes the departure"),
    ("restante_return_to_inbox", "it makes rows wait, and has looked at the message under a lock"),
    ("restante_settle", "acks come located, by a statement that asks; of messages it writes ids into the journal"),
    ("restante_waiting_rows", "the low watermark passes no row before its end is written"),
];

/// Those that know of departures beside the rule: they note one, write its end, note how far it goes, or ask first whether there is any.
const DEPARTURES: [&str; 9] = [
    "locate_acked",
    "restante_departed",
    "restante_end_departures",
    "restante_open",
    "restante_put_block",
    "restante_remove_followers",
    "restante_remove_members",
    "restante_reopen_chat",
    "unfinished",
];

/// SQL without its comments.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The statements of the service, by name.
pub(super) fn statements() -> Vec<(String, String)> {
    let files = fs::read_dir(root().join("src/store/sql")).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), without_comments(&fs::read_to_string(path).unwrap())))
        .collect()
}

/// The functions of the schema, by name.
pub(super) fn functions() -> Vec<(String, String)> {
    let schema = without_comments(&fs::read_to_string(root().join("schema.sql")).unwrap());
    let made = schema.split("\nCREATE FUNCTION ").skip(1).map(|text| text.split("\nCREATE TABLE ").next().unwrap_or_default());
    made.filter_map(|text| Some((text.split_once('(')?.0.to_owned(), text.split("\nCOMMENT ON ").next()?.to_owned()))).collect()
}

pub(super) fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').collect()
}

/// Rows of the queue are read together with their messages.
fn reads_both(text: &str) -> bool {
    let words = words(text);
    words.contains("message_status") && words.contains("messages")
}

/// Those of `all` that neither ask nor are excused, and excuses that nobody needs.
fn faults(all: &[(String, String)], excused: &[(&str, &str)]) -> Vec<String> {
    let asks = |text: &str| text.contains(RULE);
    let silent = all.iter().filter(|(name, text)| reads_both(text) && !asks(text) && excused.iter().all(|(known, _)| known != name));
    let needless = excused.iter().filter(|(known, _)| !all.iter().any(|(name, text)| name == known && reads_both(text) && !asks(text)));
    silent
        .map(|(name, _)| format!("{name} reads rows that wait with their messages, and does not ask {RULE}…)"))
        .chain(needless.map(|(known, why)| format!("{known} ({why}) need not be named")))
        .collect()
}

#[test]
fn each_statement_that_reads_rows_with_their_messages_asks_whether_they_have_ended() {
    let statements = statements();
    assert!(statements.iter().filter(|(_, text)| text.contains(RULE)).count() >= 7);
    assert_eq!(faults(&statements, &STATEMENTS), Vec::<String>::new());
}

#[test]
fn each_function_that_reads_rows_that_wait_with_their_messages_asks_whether_they_have_ended() {
    let waiting: Vec<_> = functions().into_iter().filter(|(_, text)| text.contains("'sent'")).collect();
    assert!(waiting.len() > 20, "{}", waiting.len());
    assert_eq!(faults(&waiting, &FUNCTIONS), Vec::<String>::new());
}

/// Two statements had a copy of it beside the call.
#[test]
fn a_row_that_was_acked_and_recalled_is_known_by_the_same_function() {
    let statements = statements();
    let named =
        |word: &str| statements.iter().filter(|(_, text)| text.contains(word)).map(|(name, _)| name.as_str()).collect::<BTreeSet<_>>();
    assert_eq!(named("'recalled'"), BTreeSet::new());
    assert_eq!(named(SHOWS_ACKED), BTreeSet::from(["page_everything", "row_states"]));
}

#[test]
fn departures_are_asked_for_by_one_function() {
    let all: Vec<_> = statements().into_iter().chain(functions()).collect();
    let readers: BTreeSet<&str> =
        all.iter().filter(|(_, text)| words(text).contains("departures")).map(|(name, _)| name.as_str()).collect();
    assert_eq!(readers, BTreeSet::from(DEPARTURES));
    assert!(all.iter().filter(|(_, text)| text.contains(LEFT)).count() >= 8);
}
