//! Expands `sqlx-data.json`, one committed file, into the file per query that sqlx's macros read, so that a build
//! needs no database and a `.env` with a `DATABASE_URL` does not make it look for one.
//!
//! Steps aside when the macros shall ask a database: `SQLX_OFFLINE_DIR` is set (`cargo xtask sqlx-data`,
//! `cargo sqlx prepare`) or `SQLX_OFFLINE` is `false`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_json::{Map, Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    for file in ["sqlx-data.json", "migrations"] {
        println!("cargo::rerun-if-changed={file}");
    }
    for variable in ["SQLX_OFFLINE", "SQLX_OFFLINE_DIR"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    // Line tables make a backtrace useful; compressed they take a third of the room, and the standard library reads them so.
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo::rustc-link-arg-bins=-Wl,--compress-debug-sections=zlib,-O2");
    }
    if asks_a_database() {
        return Ok(());
    }
    let dir = PathBuf::from(env::var("OUT_DIR")?).join("sqlx");
    expand(Path::new("sqlx-data.json"), &dir)?;
    println!("cargo::rustc-env=SQLX_OFFLINE=true");
    println!("cargo::rustc-env=SQLX_OFFLINE_DIR={}", dir.display());
    Ok(())
}

fn asks_a_database() -> bool {
    env::var_os("SQLX_OFFLINE_DIR").is_some() || env::var("SQLX_OFFLINE").is_ok_and(|value| value == "false")
}

fn expand(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    let queries: Map<String, Value> = serde_json::from_str(&fs::read_to_string(from)?)?;
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    for (hash, query) in queries.iter().filter(|(key, _)| *key != "db") {
        let file = json!({"db_name": queries["db"], "query": query["query"], "describe": query["describe"], "hash": hash});
        fs::write(to.join(format!("query-{hash}.json")), file.to_string())?;
    }
    Ok(())
}
