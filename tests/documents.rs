//! The documents say what the code does: tables, names, numbers and examples are held against it, so that neither can
//! change alone. What is only prose is for people to check.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "documents/events.rs"]
mod events;
#[path = "documents/frames.rs"]
mod frames;
#[path = "documents/markdown.rs"]
mod markdown;
#[path = "documents/rights.rs"]
mod rights;
#[path = "documents/scopes.rs"]
mod scopes;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use events::events;
use markdown::{commands, spans, taken_apart};
use restante::app::StartError;
use restante::protocol::{client, codes};
use restante::store::{self, CannotUse, Unfit};
use serde_json::Value;

/// Where words and state machine are.
const SESSION: &str = "crates/restante-session/src";

const DOCUMENTS: [&str; 7] =
    ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/protocol.md", "docs/operations.md", "docs/security.md", "docs/torture.md"];

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn read(relative: &str) -> String {
    fs::read_to_string(path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

/// The texts between quotes in a line of code.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

/// `262144` as `262,144`.
fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

#[test]
fn the_table_of_codes_is_the_codes() {
    assert!(read("docs/protocol.md").contains(&codes::table_markdown()), "put this into docs/protocol.md:\n{}", codes::table_markdown());
}

#[test]
fn every_event_has_a_heading() {
    let document = read("docs/protocol.md");
    let headings: BTreeSet<&str> = document.lines().filter(|line| line.starts_with("### ")).flat_map(spans).collect();
    for event in events() {
        assert!(headings.contains(event.as_str()), "docs/protocol.md has no heading for {event}");
    }
}

#[test]
fn every_example_is_a_frame_of_the_service_or_one_it_understands() {
    let document = read("docs/protocol.md");
    let examples: Vec<String> =
        taken_apart(&document).0.into_iter().filter(|block| block.language == "json").map(|block| block.text).collect();
    let ours = frames::of_the_service();
    let mut shown = Vec::new();
    for example in &examples {
        let value: Value = serde_json::from_str(example).unwrap_or_else(|error| panic!("{error}:\n{example}"));
        if value.get("event").is_some() && !ours.contains(&value) {
            client::parse(example).unwrap_or_else(|error| panic!("neither sent nor understood, {error}:\n{example}"));
        }
        shown.push(value);
    }
    for frame in ours {
        assert!(shown.contains(&frame), "docs/protocol.md does not show\n{frame}");
    }
}

#[test]
fn the_example_of_an_event_stream_is_what_one_is_told() {
    let document = read("docs/protocol.md");
    let written = frames::of_an_event_stream();
    assert!(document.contains(&format!("```text\n{written}```")), "put this into docs/protocol.md, Server-sent events:\n{written}");
}

/// The loop is run as a program: `tests/service/documented_loop.rs` has its faults.
#[test]
fn the_loop_is_the_program_that_the_tests_run() {
    let document = read("docs/protocol.md");
    let section = document.split("\n## A client, as a loop\n").nth(1).unwrap();
    let mut documented: Vec<&str> = section.split("```").nth(1).unwrap().lines().skip(1).filter(|line| !line.is_empty()).collect();
    let program = read("tests/support/loop_client.rs");
    let lines = program.lines().filter_map(|line| line.trim_start().strip_prefix("//|"));
    let mut made: Vec<&str> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).filter(|line| !line.is_empty()).collect();
    assert!(documented.len() > 40);
    documented.sort_unstable();
    made.sort_unstable();
    assert_eq!(documented, made, "tests/support/loop_client.rs is made of the lines of the loop");
}

/// The codes with which some line of the service ends a connection: those that the doors name, and those that a statement brings about.
#[test]
fn a_close_code_is_told_where_and_only_where_the_code_ends_a_connection() {
    let mut ending: BTreeSet<String> = ["Busy", "Unavailable", "Internal"].map(str::to_owned).into();
    let variants = |text: &str, before: &str| -> Vec<String> {
        let pieces = text.split(before).skip(1);
        pieces
            .map(|piece| piece.chars().take_while(|c| c.is_alphanumeric()).collect())
            .filter(|name: &String| name.starts_with(char::is_uppercase))
            .collect()
    };
    for source in ["connection", "auth"].iter().flat_map(|module| sources_of(module)).chain(sources_of("hub")) {
        let text = fs::read_to_string(source).unwrap();
        ending.extend(variants(&text, "Code::"));
        ending.extend(text.contains("Fault::invalid(").then(|| "Invalid".to_owned()));
    }
    ending.extend(variants(&read("src/driver/opening.rs"), "Code::"));
    for source in sources_of("driver") {
        ending.extend(variants(&fs::read_to_string(source).unwrap(), ".close(Code::"));
    }
    let told: BTreeSet<String> = codes::TABLE.iter().filter(|row| row.close.is_some()).map(|row| format!("{:?}", row.code)).collect();
    assert_eq!(told, ending, "src/protocol/codes.rs");
}

#[test]
fn every_limit_of_the_protocol_is_in_its_table() {
    let document = read("docs/protocol.md");
    let section = document.split("\n## Limits\n").nth(1).unwrap().split("\n## ").next().unwrap();
    for line in read("crates/restante-session/src/domain/limits.rs").lines() {
        let Some((name, value)) = line.strip_prefix("pub const ").and_then(|line| line.split_once(": ")) else { continue };
        let (_, value) = value.trim_end_matches(';').split_once(" = ").unwrap();
        let value: u64 = value.split(" * ").map(|factor| factor.replace('_', "").parse::<u64>().unwrap()).product();
        let shown = with_commas(value);
        assert!(section.contains(&format!("| {shown} ")), "docs/protocol.md, Limits: {name} = {shown} is missing");
    }
}

#[test]
fn every_rule_and_fault_of_the_torture_is_in_its_table() {
    let document = read("docs/torture.md");
    for (source, table) in
        [("crates/restante-judge/src/findings.rs", "\nrules! {"), ("crates/restante-lab/src/torture/plan.rs", "\nkinds! {")]
    {
        let source = read(source);
        let lines: Vec<&str> =
            source.split(table).nth(1).unwrap().split("\n}").next().unwrap().lines().filter(|line| line.contains('"')).collect();
        assert!(lines.len() > 20, "{table}");
        for line in lines {
            let (name, words) = (quoted(line).next().unwrap(), quoted(line).nth(1).unwrap());
            assert!(
                document.contains(&format!("| `{name}` | {words} |")),
                "docs/torture.md does not hold this line:\n| `{name}` | {words} |"
            );
        }
    }
}

#[test]
fn what_connections_need_is_documented_and_so_is_what_a_node_says_without_it() {
    let document = read("docs/operations.md");
    for (name, value) in store::SETTINGS {
        let line = format!("\nalter role restante in database restante set {name} = '{value}';\n");
        assert!(document.contains(&line), "docs/operations.md does not hold this line:{line}");
    }
    for (name, _) in store::DEFAULTS {
        assert!(document.contains(&format!("`{name}`")), "docs/operations.md says nothing of {name}");
    }
    let lacks_settings = StartError::CannotUse(CannotUse::LacksSettings(Vec::new()));
    let loses_statements = StartError::CannotUse(CannotUse::LosesStatements(sqlx::Error::PoolClosed));
    let others = [CannotUse::DirectLacksSettings(Vec::new()), CannotUse::BreaksThePromise(Vec::new()), CannotUse::ReadOnly];
    let others = others.map(StartError::CannotUse);
    for error in [lacks_settings, loses_statements, StartError::NotDirect, StartError::TwoDatabases].into_iter().chain(others) {
        assert!(document.contains(&format!("| `{error}`")), "docs/operations.md does not hold this: {error}");
    }
}

/// One of each, with the names that the document uses.
fn refusals() -> Vec<Unfit> {
    let [schema, role, database] = ["restante", "restante", "shop"].map(str::to_owned);
    let (object, search_path) = ("table users".to_owned(), "\"\"".to_owned());
    vec![
        Unfit::Encoding { database, encoding: "SQL_ASCII".to_owned() },
        Unfit::NoSchema { search_path },
        Unfit::MayNotMakeSchema { schema: schema.clone(), role: role.clone() },
        Unfit::MayNotUseSchema { schema: schema.clone(), role },
        Unfit::Elsewhere { schema: schema.clone(), elsewhere: "public".to_owned() },
        Unfit::Foreign { schema: "public".to_owned(), object },
        Unfit::ForeignMigrations { schema: "public".to_owned(), version: 20_250_101_000_000 },
        Unfit::BeforeTheFirstRelease { schema: "public".to_owned(), version: 20_261_126_000_800 },
        Unfit::Modified { schema: "public".to_owned(), version: 20_261_128_000_003 },
        Unfit::NewerLine { schema: "public".to_owned(), line: "0.2".to_owned(), own: "0.1".to_owned() },
        Unfit::Renamed { schema: "messaging".to_owned(), function: "restante_accept has search_path=restante, pg_temp".to_owned() },
        Unfit::Half { schema: "public".to_owned(), missing: "constraint members_are_users".to_owned() },
        Unfit::OtherOrder {
            collation: "database shop".to_owned(),
            recorded: "2.31".to_owned(),
            actual: "2.36".to_owned(),
            mends: Vec::new(),
        },
    ]
}

#[test]
fn what_a_start_refuses_is_documented_in_its_own_words() {
    let document = read("docs/operations.md");
    let section = document.split("\n## What a start refuses\n").nth(1).unwrap().split("\n## ").next().unwrap();
    for refusal in refusals() {
        assert!(section.contains(&format!("\n| {refusal}")), "docs/operations.md, What a start refuses, lacks\n| {refusal} |");
    }
    let two = StartError::TwoSchemas { here: "restante".to_owned(), there: "public".to_owned(), mends: String::new() }.to_string();
    assert!(section.contains(two.lines().next().unwrap()), "{two}");
}

#[test]
fn every_route_is_documented() {
    let document = read("docs/protocol.md");
    let routes = read("src/http/mod.rs");
    let mut found = 0;
    for route in routes.lines().map(str::trim).filter(|line| line.starts_with(".route(")) {
        let path = quoted(route).next().unwrap().replace("{chat}", "{chatId}").replace("{message}", "{messageId}");
        let path = path.replace("{event}", "{eventId}").replace("{feed}", "{feedId}");
        for (call, method) in [("get(", "GET"), ("post(", "POST"), ("delete(", "DELETE"), ("put(", "PUT"), ("patch(", "PATCH")] {
            if route.contains(&format!(" {call}")) || route.contains(&format!(").{call}")) {
                found += 1;
                assert!(document.contains(&format!("`{method} {path}`")), "docs/protocol.md does not name {method} {path}");
            }
        }
    }
    assert!(found >= 17, "only {found} routes were found in src/http/mod.rs");
}

#[test]
fn every_metric_is_documented_in_its_own_words() {
    let document = read("docs/operations.md");
    for row in metric_rows() {
        assert!(document.contains(&row), "docs/operations.md does not hold this line:\n{row}");
    }
}

/// The table's lines, from the table in the code.
fn metric_rows() -> Vec<String> {
    let source = read("src/telemetry.rs");
    let table = source.split("\nmetrics! {").nth(1).unwrap().split("\n}").next().unwrap();
    let rows: Vec<String> = table.split(";\n").filter(|entry| entry.contains(" = ")).map(metric_row).collect();
    assert!(rows.len() >= 19, "{rows:?}");
    rows
}

fn metric_row(entry: &str) -> String {
    let (declared, made) = entry.split_once(" = ").unwrap();
    let (maker, words) = made.split_once("),").unwrap();
    let labels: Vec<String> = quoted(maker).map(|label| format!("`{label}`")).collect();
    let (name, help) = (quoted(words).next().unwrap(), quoted(words).nth(1).unwrap());
    let unit = if words.contains(" in Seconds") { "_seconds" } else { "" };
    let kind = ["Counter", "Gauge", "Histogram"].into_iter().find(|kind| declared.contains(kind)).unwrap();
    let end = if kind == "Counter" { "_total" } else { "" };
    format!("| `restante_{name}{unit}{end}` | {} | {} | {help} |", kind.to_lowercase(), labels.join(" "))
}

#[test]
fn the_commands_that_are_shown_exist_with_their_options() {
    let mut checked = BTreeSet::new();
    for document in DOCUMENTS {
        for words in commands(&read(document), "restante") {
            let Some(subcommand) = words.first() else { continue };
            // Options may be those of a command of the command.
            let names = words.iter().take(2).take_while(|word| !word.starts_with('-'));
            let help = Command::new(env!("CARGO_BIN_EXE_restante")).args(names).arg("--help").output().unwrap();
            assert!(help.status.success(), "{document}: there is no `restante {subcommand}`");
            let help = String::from_utf8(help.stdout).unwrap();
            for option in words.iter().filter(|word| word.starts_with("--")) {
                assert!(help.contains(option.as_str()), "{document}: `restante {subcommand}` has no {option}");
            }
            checked.insert(subcommand.clone());
        }
    }
    for command in ["listen", "send", "token", "migrate"] {
        assert!(checked.contains(command), "no document shows `restante {command}`");
    }
}

/// A heading as GitHub makes an anchor of it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).collect::<String>();
    kept.replace(' ', "-")
}

fn anchors(document: &str) -> BTreeSet<String> {
    let (_, prose) = taken_apart(document);
    prose.iter().filter_map(|line| line.strip_prefix('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn links_between_documents_resolve() {
    let mut found = 0;
    for document in DOCUMENTS {
        let text = read(document);
        let folder = Path::new(document).parent().unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|link| !link.contains("://")) {
            found += 1;
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { PathBuf::from(document) } else { folder.join(file) };
            assert!(path(&target.to_string_lossy()).exists(), "{document}: {link} leads nowhere");
            if !place.is_empty() {
                assert!(anchors(&read(&target.to_string_lossy())).contains(place), "{document}: {link}: no such heading");
            }
        }
    }
    assert!(found >= 40, "only {found} links were found");
}

#[test]
fn files_that_are_named_exist() {
    for document in DOCUMENTS {
        let text = read(document);
        for name in taken_apart(&text).1.into_iter().flat_map(spans) {
            let is_path =
                ["src/", "crates/", "tests/", "migrations/", "docs/"].iter().any(|folder| name.starts_with(folder)) && !name.contains('…');
            assert!(!is_path || path(name).exists(), "{document}: there is no {name}");
        }
    }
}

#[test]
fn the_tests_of_the_invariants_exist() {
    let tests = read("tests/service/invariants.rs");
    let text = read("ARCHITECTURE.md");
    let named: BTreeSet<&str> = text.lines().flat_map(spans).filter(|span| span.starts_with('i') && span.contains('_')).collect();
    let named: BTreeSet<&str> = named.into_iter().filter(|span| span[1..].starts_with(|c: char| c.is_ascii_digit())).collect();
    for name in &named {
        assert!(tests.contains(&format!("fn {name}(")), "there is no test {name}");
    }
    assert_eq!(named.len(), 13);
}

#[test]
fn the_map_names_every_module_and_what_it_uses() {
    let drawn = drawn_map();
    let real = real_map();
    assert_eq!(drawn.keys().collect::<Vec<_>>(), real.keys().collect::<Vec<_>>());
    for (module, uses) in &real {
        assert_eq!(&drawn[module], uses, "ARCHITECTURE.md, the map: {module}");
    }
}

/// Module to what it uses, as the table of ARCHITECTURE.md has it: `| `name` | what | `a` `b` |`.
fn drawn_map() -> BTreeMap<String, BTreeSet<String>> {
    let text = read("ARCHITECTURE.md");
    let section = text.split("\n## The map\n").nth(1).unwrap().split("\n## ").next().unwrap().to_owned();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(row).collect()
}

/// A row of a table: its name, and the names of its last column.
fn row(row: &str) -> (String, BTreeSet<String>) {
    let cells: Vec<&str> = row.split('|').collect();
    (spans(cells[1]).next().unwrap().to_owned(), spans(cells[3]).map(str::to_owned).collect())
}

/// The same from the sources, tests left out.
fn real_map() -> BTreeMap<String, BTreeSet<String>> {
    let mut map: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let declared = [read("src/lib.rs"), read(&format!("{SESSION}/lib.rs"))].concat();
    let modules: BTreeSet<&str> =
        declared.lines().filter_map(|line| line.strip_prefix("pub mod ")).map(|name| name.trim_end_matches(';')).collect();
    for module in &modules {
        let uses = map.entry((*module).to_owned()).or_default();
        for source in sources_of(module) {
            let text = fs::read_to_string(source).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            for used in text.split("crate::").skip(1) {
                let list = used.strip_prefix('{').map_or(used, |list| list.split('}').next().unwrap());
                let names: Vec<&str> = if list.len() == used.len() { vec![used] } else { list.split(',').collect() };
                let first =
                    |name: &str| name.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned();
                uses.extend(names.into_iter().map(first).filter(|name| modules.contains(name.as_str()) && name != module));
            }
        }
    }
    map
}

fn sources_of(module: &str) -> Vec<PathBuf> {
    let places = ["src", SESSION];
    let mut found: Vec<PathBuf> =
        places.map(|place| path(&format!("{place}/{module}.rs"))).into_iter().filter(|file| file.exists()).collect();
    let mut folders = places.map(|place| path(&format!("{place}/{module}"))).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            let name = entry.file_name().unwrap().to_string_lossy().into_owned();
            match (entry.is_dir(), name.as_str()) {
                (_, "tests" | "tests.rs" | "properties.rs" | "fake.rs") => {}
                (true, _) => folders.push(entry),
                (false, name) if name.ends_with(".rs") => found.push(entry),
                (false, _) => {}
            }
        }
    }
    found
}

#[test]
fn the_table_of_crates_is_the_workspace() {
    let text = read("ARCHITECTURE.md");
    let section = text.split("\n## The crates\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let drawn: BTreeMap<String, BTreeSet<String>> = section.lines().filter(|line| line.starts_with("| `")).map(row).collect();
    let manifest = read("Cargo.toml");
    let members = manifest.lines().find(|line| line.starts_with("members = ")).unwrap();
    assert_eq!(quoted(members).count() + 1, drawn.len(), "ARCHITECTURE.md, the crates");
    for folder in quoted(members).chain(["."]) {
        let manifest = read(&format!("{folder}/Cargo.toml"));
        let name = quoted(manifest.lines().find(|line| line.starts_with("name = ")).unwrap()).next().unwrap();
        let uses = manifest.lines().filter(|line| line.contains("{ path = ")).map(|line| line.split(' ').next().unwrap().to_owned());
        assert_eq!(drawn.get(name), Some(&uses.collect()), "ARCHITECTURE.md, the crates: {name}");
    }
}

#[test]
fn the_crates_own_map_names_every_module() {
    let text = read("src/lib.rs");
    for module in text.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        let name = module.trim_end_matches(';');
        assert!(text.lines().any(|line| line.starts_with("//! - ") && line.contains(&format!("[`{name}`]"))), "src/lib.rs: {name}");
    }
}
