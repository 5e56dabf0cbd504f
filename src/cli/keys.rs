//! `restante keys`: the data keys that messages are encrypted with, listed and rotated. It asks the database itself, or a running service.

use super::backend::{Backend, Source};
use super::exit::{Exit, UsageError};
use super::screen::{print, printable, printable_json, say};
use restante_client::{DataKey, DataKeys};

pub const ABOUT: &str = "\
List the data keys that messages are encrypted with, or rotate them.

A data key stands in the database, wrapped by a master key, which does not. A new one is made every day. rotate asks for a new one now, \
and for a sweep that encrypts every message with it. Nodes make the key within seconds; the sweep begins five minutes later, when no node \
uses the former keys any more. list shows how far it is.

With --url it asks a running service, with a token of the scope `admin` (--token, or one made with JWT_SECRET or the secret in \
the data directory). Without it works on the database: that of DATABASE_URL, or the service's own.

Examples:
  restante keys list
  restante keys list --json --url http://127.0.0.1:8080
  restante keys rotate";

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    source: Source,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List them, newest first
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a new one, and encrypt every message with it
    Rotate,
}

/// Runs the command.
///
/// # Errors
/// When the service or the database refuses or does not answer, or encryption is off.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let backend = Backend::open(&args.source).await?;
    let done = match args.command {
        Command::List { json } => list(&backend, json).await,
        Command::Rotate => rotate(&backend).await,
    };
    backend.close().await;
    done
}

async fn list(backend: &Backend, json: bool) -> anyhow::Result<Exit> {
    let keys = backend.data_keys().await?;
    if json {
        print(&printable_json(&serde_json::to_string(&keys)?))?;
        return Ok(Exit::Done);
    }
    for key in &keys.keys {
        print(&line(key))?;
    }
    let DataKeys { is_on, sweeps_wanted, sweeps_done, .. } = keys;
    let state = if is_on { "on" } else { "off" };
    say(&format!("restante: encryption is {state}, and sweep {sweeps_done} of {sweeps_wanted} is done"));
    Ok(Exit::Done)
}

async fn rotate(backend: &Backend) -> anyhow::Result<Exit> {
    let Some(sweep) = backend.rotate_keys().await? else {
        return Err(UsageError("encryption is off, so there is nothing to rotate: set ENCRYPTION=on".to_owned()).into());
    };
    print(&format!("sweep {sweep} brings every message under a new data key; `restante keys list` shows when it is done"))?;
    Ok(Exit::Done)
}

fn line(key: &DataKey) -> String {
    let DataKey { key_id, master_key_id, made_at, is_replaced } = key;
    let state = if *is_replaced { "  to be replaced" } else { "" };
    printable(&format!("{key_id}  made {made_at}  wrapped with {master_key_id}{state}"))
}

impl Backend {
    async fn data_keys(&self) -> anyhow::Result<DataKeys> {
        let store = match self {
            Self::Service(http, token) => return Ok(http.data_keys(token).await?),
            Self::Database(store, _) => store,
        };
        let (state, stored) = (store.sweep_state().await?, store.stored_keys().await?);
        let keys = stored.into_iter().map(|stored| DataKey {
            key_id: stored.key.id,
            master_key_id: stored.key.master_id,
            made_at: crate::protocol::Timestamp(stored.made_at).to_string(),
            is_replaced: stored.is_replaced,
        });
        Ok(DataKeys { is_on: state.is_on, sweeps_wanted: state.wanted, sweeps_done: state.done, keys: keys.collect() })
    }

    async fn rotate_keys(&self) -> anyhow::Result<Option<i64>> {
        match self {
            Self::Service(http, token) => Ok(http.rotate_keys(token).await?),
            Self::Database(store, _) => Ok(store.rotate_keys(None).await?),
        }
    }
}
