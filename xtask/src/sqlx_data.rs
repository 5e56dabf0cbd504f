//! `sqlx-data.json`: what each query of the service takes and gives. sqlx's macros find it out from a database
//! while the service is compiled and write a file per query; here they are put together into the one file that is
//! committed, and that `build.rs` takes apart again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::scratch::Scratch;

/// The committed file, in the order in which it is written.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct SqlxData {
    db: String,
    /// By the hash of its text.
    #[serde(flatten)]
    queries: BTreeMap<String, Query>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Query {
    query: String,
    describe: Value,
}

/// A file that the macros write.
#[derive(Deserialize)]
struct QueryFile {
    hash: String,
    #[serde(flatten)]
    query: Query,
}

/// Writes the file.
pub async fn write() -> anyhow::Result<ExitCode> {
    let data = ask_database().await?;
    fs::write(path(), data.to_json()?).with_context(|| path().display().to_string())?;
    println!("sqlx-data.json: {} queries", data.queries.len());
    Ok(ExitCode::SUCCESS)
}

/// Compares the committed file with what a database says now.
pub async fn check() -> anyhow::Result<ExitCode> {
    let now = ask_database().await?;
    let text = fs::read_to_string(path()).with_context(|| path().display().to_string())?;
    let committed: SqlxData = serde_json::from_str(&text).context("sqlx-data.json")?;
    let mut differences = committed.differences(&now);
    if differences.is_empty() && text != now.to_json()? {
        differences.push("says the same but is written otherwise".to_owned());
    }
    if differences.is_empty() {
        println!("sqlx-data.json is true: {} queries", now.queries.len());
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("sqlx-data.json is not true; run `cargo xtask sqlx-data` and commit it:");
    for difference in differences {
        eprintln!("  {difference}");
    }
    Ok(ExitCode::FAILURE)
}

impl SqlxData {
    fn to_json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    fn differences(&self, now: &Self) -> Vec<String> {
        let missing = now.queries.iter().filter(|(hash, _)| !self.queries.contains_key(*hash)).map(|(_, query)| ("missing", query));
        let known = self.queries.iter().filter_map(|(hash, query)| match now.queries.get(hash) {
            None => Some(("no longer used", query)),
            Some(other) if other != query => Some(("described otherwise", query)),
            Some(_) => None,
        });
        missing.chain(known).map(|(what, query)| format!("{what}: {}", query.first_line())).collect()
    }
}

impl Query {
    fn first_line(&self) -> &str {
        self.query.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim()
    }
}

async fn ask_database() -> anyhow::Result<SqlxData> {
    let scratch = Scratch::new(&workspace().join("migrations")).await?;
    let answers = tempfile::tempdir()?;
    let compiled = compile(&scratch.url(), answers.path());
    scratch.drop().await?;
    compiled?;
    merge(answers.path())
}

/// Compiles the library with the macros asking the database. `build.rs` is run again and with it our crate alone,
/// since each time another directory stands in `SQLX_OFFLINE_DIR`; dependencies stay as they are.
fn compile(url: &str, answers: &Path) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["check", "--quiet", "--package", "restante", "--lib"])
        .current_dir(workspace())
        .env("DATABASE_URL", url)
        .env("SQLX_OFFLINE", "false")
        .env("SQLX_OFFLINE_DIR", answers)
        .status()?;
    if !status.success() {
        bail!("the service does not compile");
    }
    Ok(())
}

fn merge(answers: &Path) -> anyhow::Result<SqlxData> {
    let mut queries = BTreeMap::new();
    for entry in fs::read_dir(answers)? {
        let file: QueryFile = serde_json::from_str(&fs::read_to_string(entry?.path())?)?;
        queries.insert(file.hash, file.query);
    }
    Ok(SqlxData { db: "PostgreSQL".to_owned(), queries })
}

fn path() -> PathBuf {
    workspace().join("sqlx-data.json")
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn data(queries: &[(&str, &str, Value)]) -> SqlxData {
        let query = |(hash, text, describe): &(&str, &str, Value)| {
            ((*hash).to_owned(), Query { query: (*text).to_owned(), describe: describe.clone() })
        };
        SqlxData { db: "PostgreSQL".to_owned(), queries: queries.iter().map(query).collect() }
    }

    #[test]
    fn what_differs_is_named_by_the_first_line_of_its_query() {
        let committed =
            data(&[("a", "\n-- kept: why\nselect 1", json!(1)), ("b", "-- old: why\nselect 2", json!(1)), ("c", "-- same: why", json!(1))]);
        let now = data(&[("a", "\n-- kept: why\nselect 1", json!(2)), ("c", "-- same: why", json!(1)), ("d", "-- new: why", json!(1))]);
        assert_eq!(
            committed.differences(&now),
            ["missing: -- new: why", "described otherwise: -- kept: why", "no longer used: -- old: why"]
        );
        assert!(now.differences(&now).is_empty());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let data = data(&[("a", "select 1", json!({"nullable": [null]}))]);
        assert_eq!(serde_json::from_str::<SqlxData>(&data.to_json().unwrap()).unwrap(), data);
        assert!(data.to_json().unwrap().starts_with("{\n  \"db\": \"PostgreSQL\",\n"));
    }
}
