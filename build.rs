//! `sqlx-data.json` (one file, committed) -> the per-query files that sqlx >= 0.7 reads.
use std::{env, fs, path::PathBuf};
fn main() {
    println!("cargo::rerun-if-changed=sqlx-data.json");
    println!("cargo::rerun-if-changed=migrations");
    println!("cargo::rerun-if-env-changed=SQLX_OFFLINE");
    println!("cargo::rerun-if-env-changed=SQLX_OFFLINE_DIR");
    // `cargo sqlx prepare` sets SQLX_OFFLINE_DIR itself; SQLX_OFFLINE=false asks for a live database.
    if env::var_os("SQLX_OFFLINE_DIR").is_some() || env::var("SQLX_OFFLINE").is_ok_and(|v| v == "false") {
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap()).join("sqlx");
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out).unwrap();
    let all: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&fs::read_to_string("sqlx-data.json").unwrap()).unwrap();
    for (hash, q) in all.iter().filter(|(k, _)| *k != "db") {
        let file = serde_json::json!({"db_name": all["db"], "query": q["query"], "describe": q["describe"], "hash": hash});
        fs::write(out.join(format!("query-{hash}.json")), file.to_string()).unwrap();
    }
    println!("cargo::rustc-env=SQLX_OFFLINE=true");
    println!("cargo::rustc-env=SQLX_OFFLINE_DIR={}", out.display());
}
