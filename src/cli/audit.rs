//! `restante audit`: what operators have done. It asks the database itself, or a running service.

use super::backend::{Backend, Source};
use super::exit::Exit;
use super::pages::{PAGE, Page, in_pages, print_row};
use super::screen::{printable, printable_json};
use crate::protocol::AuditEntryData;
use crate::store::page_of;
use restante_client::{AuditEntry, AuditPage, AuditQuery};

pub const ABOUT: &str = "\
Show what operators have done, newest first.

Each act of an operator leaves one line, in the transaction in which it was done: when, who, what, to what, and what came of it. It names the \
node that was asked, or the role of the database where it was done by a command or by hand. Lines are never changed and never removed, \
and hold no content of messages and no token.

With --url it asks a running service, with a token of the scope `admin` (--token, or one made with JWT_SECRET or the secret in \
the data directory). Without it works on the database: that of DATABASE_URL, or the service's own.

Examples:
  restante audit
  restante audit --limit 1000 --json --url http://127.0.0.1:8080";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// At most so many
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: Source,
}

/// Runs the command.
///
/// # Errors
/// When the service or the database refuses or does not answer.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let backend = Backend::open(&args.source).await?;
    let done = list(&backend, &args).await;
    backend.close().await;
    done
}

async fn list(backend: &Backend, args: &Args) -> anyhow::Result<Exit> {
    let page = async |rows_max, after| {
        let page = backend.audit(&AuditQuery { limit: Some(rows_max), after }).await?;
        Ok(Page { rows: page.entries, next: page.next })
    };
    in_pages(args.limit, page, |entry| print_row(&entry, args.json, line)).await?.say("raise --limit");
    Ok(Exit::Done)
}

/// Everything on one line.
fn line(entry: &AuditEntry) -> String {
    let AuditEntry { at, actor, action, target, outcome, node_id, role, address, .. } = entry;
    let by = node_id.map_or_else(|| format!("role {role}"), |node| format!("node {node}"));
    let from = address.as_deref().map_or_else(String::new, |address| format!(" at {address}"));
    let target = printable_json(&serde_json::Value::from(target.clone()).to_string());
    format!("{}  {target}  {}", printable(&format!("{at}  {actor}  {action}")), printable(&format!("{outcome}  {by}{from}")))
}

impl Backend {
    /// A page of acts.
    async fn audit(&self, query: &AuditQuery) -> anyhow::Result<AuditPage> {
        let store = match self {
            Self::Service(http, token) => return Ok(http.audit(token, query).await?),
            Self::Database(store, _) => store,
        };
        let rows_max = query.limit.unwrap_or(PAGE).min(PAGE);
        let below = query.after.as_deref().and_then(|after| after.parse().ok());
        let (entries, next) = page_of(store.audit_entries(below, rows_max + 1).await?, rows_max, |entry| entry.id.to_string());
        let shown = |entry| anyhow::Ok(serde_json::from_value(serde_json::to_value(AuditEntryData::from(entry))?)?);
        Ok(AuditPage { entries: entries.into_iter().map(shown).collect::<anyhow::Result<_>>()?, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_is_one_line_and_what_strangers_chose_moves_no_cursor() {
        let entry = serde_json::json!({
            "id": 7, "at": "2026-11-01T12:00:00.000Z", "actor": "ca\u{1b}rol", "action": "dead_letter.requeue", "outcome": "requeued",
            "target": {"messageId": "0192f0c0-7d4e-7cc3-98c4-dc0c0c07398f", "userId": "b\u{1b}[2Jen\n"}, "role": "app", "address": "10.0.0.7"
        });
        let shown = line(&serde_json::from_value(entry).unwrap());
        assert!(!shown.contains(['\u{1b}', '\n']), "{shown:?}");
        assert!(shown.starts_with("2026-11-01T12:00:00.000Z  ca"), "{shown:?}");
        assert!(shown.ends_with("requeued  role app at 10.0.0.7"), "{shown:?}");
    }
}
