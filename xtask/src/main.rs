//! The project's own commands: `cargo xtask sqlx-data [--check]`, `cargo xtask schema [--check]`,
//! `cargo xtask descriptions [--check]`, `cargo xtask sabotage [WORD…]`.
//!
//! It does not depend on the service: `sqlx-data.json` must be made when the service cannot be built for want of
//! it. It uses the crate of the embedded server; how runs name what they make is shared as source.

mod descriptions;
mod sabotage;
mod schema;
mod scratch;
mod sqlx_data;
mod typescript;

#[path = "../../tests/support/run.rs"]
#[expect(dead_code, reason = "tests use more of it")]
mod run;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask sqlx-data [--check]
       cargo xtask schema [--check]
       cargo xtask descriptions [--check]
       cargo xtask sabotage [WORD…]

  sqlx-data          writes sqlx-data.json: what every query of the service takes and gives, asked from a database
  sqlx-data --check  fails when the committed sqlx-data.json says anything else
  schema             writes schema.sql: what the migrations make, in one file to read
  schema --check     fails when the committed schema.sql says anything else
  descriptions       writes docs/openapi.json, docs/asyncapi.json and clients/typescript/src/wire.ts: what the types of the protocol say
  descriptions --check  fails when a committed one says anything else
  sabotage           breaks a copy of the service by each patch of tests/torture/broken (whose name contains a WORD), and fails
                     unless `restante-lab torture` finds each; takes some twenty minutes

The database is an embedded PostgreSQL that is thrown away or, where DATABASE_URL is set, a scratch database there.";

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let variables = restante_postgres::libpq_variables();
    if !variables.is_empty() {
        return Err(restante_postgres::begin_again_without(&variables).into());
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["sqlx-data"] => sqlx_data::write().await,
        ["sqlx-data", "--check"] => sqlx_data::check().await,
        ["schema"] => schema::write().await,
        ["schema", "--check"] => schema::check().await,
        ["descriptions"] => descriptions::write(),
        ["descriptions", "--check"] => descriptions::check(),
        ["sabotage", ref words @ ..] => sabotage::run(words),
        _ => {
            eprintln!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}
