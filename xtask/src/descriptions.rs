//! The descriptions of HTTP and of the sockets, and the types of the TypeScript client, which are made from them.
//!
//! The service's tests write and compare `docs/openapi.json` and `docs/asyncapi.json`, since only the service knows its types; this calls
//! them, so that the service is built as `cargo test` builds it. The TypeScript is made here from the two files alone.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::sqlx_data::workspace;
use crate::typescript;

/// Writes the files.
pub fn write() -> anyhow::Result<ExitCode> {
    run_test(Some("write"))?;
    let text = types()?;
    fs::write(path(), &text).with_context(|| path().display().to_string())?;
    println!("written: docs/openapi.json, docs/asyncapi.json, {TYPES} ({} lines)", text.lines().count());
    Ok(ExitCode::SUCCESS)
}

/// Compares the committed files with what the types say now.
pub fn check() -> anyhow::Result<ExitCode> {
    run_test(None)?;
    if fs::read_to_string(path()).with_context(|| path().display().to_string())? == types()? {
        println!("the descriptions are true");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{TYPES} is not what the descriptions say; run `cargo xtask descriptions` and commit it");
    Ok(ExitCode::FAILURE)
}

const TYPES: &str = "clients/typescript/src/wire.ts";

fn run_test(mode: Option<&str>) -> anyhow::Result<()> {
    let mut test = Command::new(env!("CARGO"));
    test.current_dir(workspace()).args([
        "test",
        "--quiet",
        "--locked",
        "--test",
        "descriptions",
        "the_committed_descriptions_are_those_of_the_types",
    ]);
    test.env_remove("DESCRIPTIONS").envs(mode.map(|mode| ("DESCRIPTIONS", mode)));
    if !test.status().with_context(|| format!("{test:?}"))?.success() {
        bail!("the descriptions are not what the types say, or the service cannot be built");
    }
    Ok(())
}

fn types() -> anyhow::Result<String> {
    let read = |file: &str| -> anyhow::Result<Value> {
        let text = fs::read_to_string(workspace().join(file)).with_context(|| file.to_owned())?;
        serde_json::from_str(&text).with_context(|| file.to_owned())
    };
    Ok(typescript::types(&read("docs/openapi.json")?, &read("docs/asyncapi.json")?))
}

fn path() -> PathBuf {
    workspace().join(TYPES)
}
