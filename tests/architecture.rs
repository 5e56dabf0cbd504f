//! The house rules that a compiler does not keep: which module may know which, and how large things grow.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "architecture/comments.rs"]
mod comments;
#[path = "architecture/ended_rows.rs"]
mod ended_rows;
#[path = "architecture/followed_events.rs"]
mod followed_events;
#[path = "architecture/imports.rs"]
mod imports;
#[path = "architecture/rights.rs"]
mod rights;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules that each module of the service may use; `session` and `domain` are those of restante-session. Arrows run downwards only:
/// no module uses one that is above it here.
const KNOWS: &[(&str, &[&str])] = &[
    ("cli", &["address", "app", "config", "auth", "secret", "telemetry", "store", "protocol", "open_files", "domain"]),
    (
        "app",
        &[
            "http",
            "socketio",
            "connection",
            "driver",
            "service",
            "jobs",
            "delivery",
            "presence",
            "notifier",
            "session",
            "store",
            "hub",
            "bus",
            "auth",
            "config",
            "encryption",
            "telemetry",
            "protocol",
            "open_files",
            "domain",
        ],
    ),
    ("http", &["socketio", "event_stream", "connection", "service", "auth", "telemetry", "protocol", "open_files", "domain"]),
    ("socketio", &["connection", "driver", "auth", "protocol", "domain"]),
    ("event_stream", &["connection", "driver", "hub", "auth", "telemetry", "protocol"]),
    ("connection", &["driver", "service", "delivery", "session", "hub", "auth", "telemetry", "protocol", "domain"]),
    ("driver", &["service", "delivery", "presence", "notifier", "session", "store", "hub", "auth", "telemetry", "protocol", "domain"]),
    ("service", &["delivery", "presence", "notifier", "hub", "store", "auth", "telemetry", "protocol", "domain"]),
    ("jobs", &["delivery", "presence", "store", "encryption", "hub", "bus", "telemetry", "protocol", "domain"]),
    ("delivery", &["notifier", "session", "store", "hub", "bus", "telemetry", "protocol", "domain"]),
    ("presence", &["notifier", "store", "hub", "bus", "telemetry", "protocol", "domain"]),
    ("notifier", &["hub", "bus", "telemetry", "protocol", "domain"]),
    // These four never know one another.
    ("session", &["domain"]),
    ("store", &["encryption", "protocol", "open_files", "domain"]),
    ("hub", &["protocol", "domain"]),
    ("bus", &["protocol", "domain"]),
    // Beside them: each for itself.
    ("auth", &["telemetry", "protocol", "domain"]),
    ("telemetry", &["config::LogFormat", "protocol", "domain"]),
    ("config", &["address", "encryption", "domain"]),
    ("address", &[]),
    ("secret", &[]),
    ("open_files", &[]),
    ("encryption", &["domain"]),
    ("protocol", &["domain"]),
    ("domain", &[]),
];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// A Rust file of the service or of a crate beside it, with its text.
struct Source {
    path: PathBuf,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_under(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let crates = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path().join("src"));
    let files = crates.chain([root().join("src")]).flat_map(|folder| files_under(&folder));
    let rust = files.filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let sources: Vec<_> = rust.map(|path| Source { text: fs::read_to_string(&path).unwrap(), path }).collect();
    assert!(sources.len() > 250, "{} files", sources.len());
    sources
}

impl Source {
    /// As it is shown: `src/…` or `crates/…`.
    fn name(&self) -> String {
        self.path.strip_prefix(root()).unwrap().display().to_string()
    }

    /// The crate it belongs to: `restante`, or the name of its folder.
    fn package(&self) -> String {
        self.name().strip_prefix("crates/").map_or("restante", |rest| rest.split('/').next().unwrap()).to_owned()
    }

    /// The module of that crate.
    fn module(&self) -> String {
        let name = self.name();
        let (_, inside) = name.split_once("src/").unwrap();
        inside.split('/').next().unwrap().trim_end_matches(".rs").to_owned()
    }

    /// Its lines without comments, numbered from 1.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(n, line)| (n + 1, line.split("//").next().unwrap_or_default()))
    }

    /// The same up to its tests.
    fn code_without_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code().take_while(|(_, line)| line.trim() != "#[cfg(test)]")
    }
}

/// Files that are compiled for tests only: named by a `mod` under `#[cfg(test)]`.
fn test_files(sources: &[Source]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for source in sources {
        let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]") {
            let Some(name) = pair[1].strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) else { continue };
            let stem = source.path.file_stem().unwrap().to_str().unwrap();
            let folder = source.path.parent().unwrap();
            let folder = if matches!(stem, "mod" | "lib" | "main") { folder.to_owned() } else { folder.join(stem) };
            found.extend([folder.join(format!("{name}.rs")), folder.join(name)]);
        }
    }
    found
}

fn is_for_tests(source: &Source, tests: &BTreeSet<PathBuf>) -> bool {
    source.path.ancestors().any(|path| tests.contains(path))
}

#[test]
fn modules_know_only_what_stands_below_them() {
    for source in sources().iter().filter(|source| ["restante", "restante-session"].contains(&source.package().as_str())) {
        let module = source.module();
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        let (_, known) = KNOWS.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("say in KNOWS where {module} stands"));
        for (n, line) in source.code() {
            for (at, _) in line.match_indices("crate::") {
                let path = &line[at + "crate::".len()..];
                let allowed = |name: &&str| {
                    path.starts_with(*name) && !path[name.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_')
                };
                assert!(
                    allowed(&module.as_str()) || known.iter().any(allowed),
                    "{}:{n}: {module} does not know crate::{path}",
                    source.name()
                );
            }
        }
    }
}

/// Only the service asks the database for a client: it has the admission.
#[test]
fn no_door_and_no_session_asks_the_store_past_the_admission() {
    let doors = ["http", "socketio", "event_stream", "connection", "driver"];
    for source in sources().iter().filter(|source| source.package() == "restante" && doors.contains(&source.module().as_str())) {
        for (n, line) in source.code_without_tests() {
            assert!(
                ![".store.", ".store()", "Store::", "sqlx::query"].iter().any(|way| line.contains(way)),
                "{}:{n}: {line}",
                source.name()
            );
        }
    }
}

#[test]
fn the_rules_name_no_arrow_upwards_and_none_among_the_four() {
    let place = |name: &str| KNOWS.iter().position(|(module, _)| *module == name.split("::").next().unwrap()).unwrap();
    for (n, (module, known)) in KNOWS.iter().enumerate() {
        for other in *known {
            assert!(place(other) > n, "{module} knows {other}");
        }
        let four = ["session", "store", "hub", "bus"];
        assert!(!four.contains(module) || !known.iter().any(|other| four.contains(other)), "{module}");
        assert!(!known.contains(&"config") || ["app", "cli"].contains(module), "{module} reads the configuration");
    }
}

/// Modules that can be read in one order can be understood, tested and moved piece by piece.
#[test]
fn no_files_import_one_another_in_a_circle() {
    let all = sources();
    let tests = test_files(&all);
    let mut crates: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for source in all.iter().filter(|source| !is_for_tests(source, &tests)) {
        let name = source.name();
        let (folder, path) = name.split_once("src/").unwrap();
        let code = source.code_without_tests().map(|(_, line)| format!("{line}\n")).collect();
        crates.entry(format!("{folder}src/")).or_default().push((path.to_owned(), code));
    }
    let mut broken = Vec::new();
    for (folder, files) in &crates {
        for circle in imports::Crate::new(files.iter().map(|(path, code)| (path.as_str(), code.clone()))).circles() {
            let files: Vec<String> = circle.iter().map(|path| format!("{folder}{path}")).collect();
            broken.push(files);
        }
    }
    assert!(broken.is_empty(), "these import one another in a circle: {broken:#?}");
}

/// Cargo keeps the crates apart; where in a crate another one may be used is kept here.
#[test]
fn crates_are_used_where_they_belong() {
    // The parts of the benchmark that the service is compared with, and what is measured without it. They may use the service's library.
    let places = ["bench/naive", "bench/limit", "bench/load/filling.rs", "bench/scenario/retention.rs", "bench/scenario/seal.rs"];
    let compared = places.map(|place| format!("crates/restante-lab/src/{place}"));
    for source in sources() {
        let (package, name) = (source.package(), source.name());
        for (n, line) in source.code() {
            let drives = line.contains("restante_client") || line.contains("restante_postgres");
            assert!(
                !drives || package != "restante" || source.module() == "cli",
                "{name}:{n}: only commands are clients, or run PostgreSQL"
            );
            let mut paths = line.split("restante::").skip(1);
            let is_manners = package != "restante-lab" || paths.all(|path| path.starts_with("cli::"));
            assert!(is_manners || compared.iter().any(|place| name.starts_with(place)), "{name}:{n}: the lab starts the service, {line}");
        }
    }
}

#[test]
fn main_knows_the_command_line_only() {
    let main = fs::read_to_string(root().join("src/main.rs")).unwrap();
    assert!(main.lines().filter(|line| line.contains("restante::")).all(|line| line.contains("restante::cli")), "{main}");
}

#[test]
fn every_file_says_first_what_it_is_for() {
    for source in sources() {
        assert!(source.text.starts_with("//! "), "{}", source.name());
    }
}

#[test]
fn no_file_and_no_function_outgrows_the_reader() {
    let all = sources();
    let tests = test_files(&all);
    for source in &all {
        let lines = source.text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines", source.name());
        if is_for_tests(source, &tests) {
            continue;
        }
        let code: Vec<(usize, &str)> = source.code_without_tests().collect();
        for (n, (line_no, line)) in code.iter().enumerate() {
            if !is_function(line) || line.trim_end().ends_with('}') {
                continue;
            }
            let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
            let length = code[n..].iter().position(|(_, line)| *line == end).map_or(0, |lines| lines + 1);
            assert!(length <= FUNCTION_LINES_MAX, "{}:{line_no}: a function of {length} lines", source.name());
        }
    }
}

/// Tells whether a function begins in this line.
fn is_function(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let before = words.iter().take_while(|word| **word != "fn");
    words.contains(&"fn") && before.clone().all(|word| word.starts_with("pub") || matches!(*word, "const" | "async" | "in"))
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let all = sources();
    let tests = test_files(&all);
    assert!(!tests.is_empty());
    for source in all.iter().filter(|source| !is_for_tests(source, &tests)) {
        for (n, line) in source.code_without_tests() {
            assert!(!line.contains(".unwrap()"), "{}:{n}: {line}", source.name());
        }
    }
}

#[test]
fn statements_live_in_the_store() {
    for path in ["src", "crates"].iter().flat_map(|folder| files_under(&root().join(folder))) {
        let is_sql = path.extension().is_some_and(|end| end == "sql");
        let is_place = ["src/store/sql", "crates/restante-judge"].iter().any(|folder| path.starts_with(root().join(folder)));
        assert!(!is_sql || is_place, "{}", path.display());
    }
    // The lab and the judge are not the service: they fill databases, read them from outside, and compare.
    let is_service =
        |source: &&Source| source.module() != "store" && !matches!(source.package().as_str(), "restante-lab" | "restante-judge");
    for source in sources().iter().filter(is_service) {
        for (n, line) in source.code() {
            assert!(
                !line.contains("query!(") && !line.contains("query_file") && !line.contains("query_as"),
                "{}:{n}: {line}",
                source.name()
            );
        }
    }
}

/// A node's clock may be wrong, so only one file may read the time of day. The commands beside `serve` and the lab are no nodes.
#[test]
fn only_the_clock_reads_the_time_of_day() {
    let all = sources();
    let tests = test_files(&all);
    let is_node = |source: &Source| !matches!(source.package().as_str(), "restante-client" | "restante-lab") && source.module() != "cli";
    let is_service = |source: &&Source| is_node(source) && !is_for_tests(source, &tests);
    let reads = ["now_utc(", "now_local(", "SystemTime::now", "UtcDateTime::now", "now_v7(", "Timestamp::now"];
    let mut readers = BTreeSet::new();
    for source in all.iter().filter(is_service) {
        if source.code_without_tests().any(|(_, line)| reads.iter().any(|read| line.contains(read))) {
            readers.insert(source.name());
        }
    }
    assert_eq!(readers, BTreeSet::from(["crates/restante-session/src/domain/clock.rs".to_owned()]));
}

#[test]
fn no_file_names_a_place_that_only_one_machine_has() {
    // Put together here, so that this file does not name them.
    let places = ["work", "root/.cargo", "mnt", "Users"].map(|place| format!("/{place}/"));
    for folder in ["src", "crates", "tests", "migrations", "model", "fuzz/fuzz_targets", "xtask/src", ".ci"] {
        for path in files_under(&root().join(folder)) {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            for place in &places {
                assert!(!text.contains(place.as_str()), "{} names {place}", path.display());
            }
        }
    }
}
