//! `schema.sql`: what the migrations make, in one file, for people who want to read what is in force. `pg_dump` writes it from a
//! database to which they were applied; what differs from run to run, or from one minor version to the next, is left out.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

use crate::scratch::Scratch;
use crate::sqlx_data::workspace;

/// The major version whose `pg_dump` writes the file: others write some things otherwise.
const MAJOR: &str = "15";

const HEAD: &str = "\
-- The schema as the migrations make it: to be read, not to be run. `cargo xtask schema` writes it with PostgreSQL 15's pg_dump,
-- and `cargo xtask schema --check` compares. What it is all for is said in its comments and in docs/operations.md.
";

/// Writes the file.
pub async fn write() -> anyhow::Result<ExitCode> {
    let dump = dump().await?;
    fs::write(path(), &dump.text).with_context(|| path().display().to_string())?;
    println!("schema.sql: {} lines, written by {}", dump.text.lines().count(), dump.version);
    Ok(ExitCode::SUCCESS)
}

/// Compares the committed file with what the migrations make now.
pub async fn check() -> anyhow::Result<ExitCode> {
    let dump = dump().await?;
    if !dump.version.contains(&format!(" {MAJOR}.")) {
        println!("skipped: schema.sql is of pg_dump {MAJOR}, and this is {}", dump.version);
        return Ok(ExitCode::SUCCESS);
    }
    let committed = fs::read_to_string(path()).with_context(|| path().display().to_string())?;
    match committed.lines().zip(dump.text.lines()).position(|(committed, now)| committed != now) {
        None if committed == dump.text => {
            println!("schema.sql is true: {} lines", committed.lines().count());
            Ok(ExitCode::SUCCESS)
        }
        first => {
            let line = first.unwrap_or_else(|| committed.lines().count().min(dump.text.lines().count())) + 1;
            eprintln!("schema.sql is not true from line {line} on; run `cargo xtask schema` and commit it");
            Ok(ExitCode::FAILURE)
        }
    }
}

struct Dump {
    text: String,
    version: String,
}

async fn dump() -> anyhow::Result<Dump> {
    let program = restante_postgres::program("pg_dump")?;
    let version = output(Command::new(&program).arg("--version"))?.trim().to_owned();
    let scratch = Scratch::new(&workspace().join("migrations")).await?;
    let dumped = output(
        Command::new(&program)
            .args(["--schema-only", "--no-owner", "--no-privileges", "--exclude-table=_sqlx_migrations", "--schema=public"])
            .args(scratch.pg_dump_args()),
    );
    scratch.drop().await?;
    Ok(Dump { text: HEAD.to_owned() + &readable(&dumped?), version })
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Without pg_dump's own settings and headings, without the name of the schema before each name, and without empty lines in a row.
fn readable(dump: &str) -> String {
    let is_noise = |line: &str| {
        line.starts_with("--") || line.starts_with("\\") || line.starts_with("SET ") || line.starts_with("SELECT pg_catalog.set_config(")
    };
    let is_schema = |line: &str| line.starts_with("CREATE SCHEMA public") || line.starts_with("COMMENT ON SCHEMA public");
    let mut text = String::new();
    // Lines of functions stay as they are, noise or not.
    let mut in_body = false;
    for line in dump.lines() {
        let was_in_body = in_body;
        if line.matches("$$").count() % 2 == 1 {
            in_body = !in_body;
        }
        if !was_in_body && (is_noise(line) || is_schema(line)) {
            continue;
        }
        if line.is_empty() && !was_in_body && (text.is_empty() || text.ends_with("\n\n")) {
            continue;
        }
        text.push_str(&if was_in_body { line.to_owned() } else { line.replace("public.", "") });
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}

fn path() -> PathBuf {
    workspace().join("schema.sql")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_becomes_readable_and_what_functions_say_stays_as_it_is() {
        let dump = "--\n-- PostgreSQL database dump\n--\n\n\\restrict x\n\nSET lock_timeout = 0;\n\nCREATE TABLE public.a (b public.c);\n\n\n--\n-- Name: f\n--\n\n\
                    CREATE FUNCTION public.f() RETURNS void\n    AS $$\n-- why\n\n\nselect public.g();\n$$;\n";
        assert_eq!(
            readable(dump),
            "CREATE TABLE a (b c);\n\nCREATE FUNCTION f() RETURNS void\n    AS $$\n-- why\n\n\nselect public.g();\n$$;\n"
        );
    }
}
