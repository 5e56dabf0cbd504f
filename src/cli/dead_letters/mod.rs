//! `restante dead-letters`: what failed, listed, looked at, put back, given up. It works on the database itself, or
//! through a running service; `calls` hides which.

mod calls;

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::backend::{Backend, Source};
use super::exit::{Exit, UsageError};
use super::identity::duration;
use super::pages::{More, in_pages, print_row};
use super::screen::{print, printable, printable_json, say};
use crate::domain::limits::DEAD_LETTERS_MAX;
use crate::domain::{ExternalId, MessageId};
use crate::protocol::Timestamp;
use restante_client::{DeadLetter, DeadLetterQuery};

pub const ABOUT: &str = "\
List what failed, put it back, or give it up.

A message that a recipient's client did not ack in so many attempts, or rejected for good, has failed for this recipient: it \
is a dead letter. Put back it waits again, at the end of the inbox; given up it is listed no more. Its sender is told of either.

With --url it asks a running service, with a token of the scope `admin` (--token, or one made with JWT_SECRET or the secret in \
the data directory). Without it works on the database: that of DATABASE_URL, or the service's own.

requeue and discard take one message, or everything that fits the filters; then they first say how many that are, and do it when \
they are given that number with --confirm.

Examples:
  restante dead-letters list --since 24h
  restante dead-letters list --json --sender alice --url http://127.0.0.1:8080
  restante dead-letters show 01a1fc86-aafd-769c-a408-197d07aac76a
  restante dead-letters requeue 01a1fc86-aafd-769c-a408-197d07aac76a --recipient bob
  restante dead-letters requeue --reason \"cannot decode\" --confirm 120
  restante dead-letters discard --all --confirm 7 --words \"the client is gone\"";

/// More at once than a person means; narrow it down by `--since`.
const BULK_MAX: usize = 100_000;

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
        #[command(flatten)]
        filter: Filter,
        /// At most so many
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show one message, with what it says
    Show {
        /// The message's id
        #[arg(value_parser = message_id)]
        message: MessageId,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Put some back: they wait again
    Requeue(Which),
    /// Give some up for good
    Discard {
        #[command(flatten)]
        which: Which,
        /// The reason, for the sender
        #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
        words: Option<String>,
    },
}

#[derive(Debug, Clone, Default, clap::Args)]
struct Filter {
    /// Those of this sender
    #[arg(long, value_name = "USER", allow_hyphen_values = true)]
    sender: Option<String>,
    /// Those that this recipient did not get
    #[arg(long, value_name = "USER", allow_hyphen_values = true)]
    recipient: Option<String>,
    /// Failed since then: a time (RFC 3339), or 24h for the last day
    #[arg(long, value_parser = since, value_name = "TIME")]
    since: Option<String>,
    /// Those whose reason begins like this
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Which {
    /// One message, for all recipients it failed for, or for --recipient
    #[arg(value_parser = message_id)]
    message: Option<MessageId>,
    #[command(flatten)]
    filter: Filter,
    /// All there are
    #[arg(long, conflicts_with_all = ["message", "sender", "recipient", "since", "reason"])]
    all: bool,
    /// The number that these must have: the one it said before
    #[arg(long, value_name = "N")]
    confirm: Option<usize>,
}

/// The request for the dead letters.
#[derive(Debug, Clone, Copy)]
enum Change<'a> {
    Requeue,
    Discard(Option<&'a str>),
}

/// Runs the command.
///
/// # Errors
/// When the service or the database refuses or does not answer.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let backend = Backend::open(&args.source).await?;
    let done = match &args.command {
        Command::List { filter, limit, json } => list(&backend, filter, *limit, *json).await,
        Command::Show { message, json } => show(&backend, *message, *json).await,
        Command::Requeue(which) => change(&backend, which, Change::Requeue).await,
        Command::Discard { which, words } => change(&backend, which, Change::Discard(words.as_deref())).await,
    };
    backend.close().await;
    done
}

async fn list(backend: &Backend, filter: &Filter, limit: usize, json: bool) -> anyhow::Result<Exit> {
    let letters =
        in_pages(limit, async |rows_max, after| backend.page(filter.query(rows_max, after)).await, |letter| print_row(&letter, json, line));
    letters.await?.say("raise --limit, or narrow it down");
    Ok(Exit::Done)
}

/// Everything on one line; the message's id is what other commands want.
fn line(letter: &DeadLetter) -> String {
    let DeadLetter { message_id, user_id, sender_id, attempts, reason, failed_at, .. } = letter;
    let plural = if *attempts == 1 { "" } else { "s" };
    printable(&format!("{failed_at}  {message_id}  {sender_id} → {user_id}  {attempts} attempt{plural}  {reason}"))
}

async fn show(backend: &Backend, message: MessageId, json: bool) -> anyhow::Result<Exit> {
    let Some(found) = backend.show(message).await? else { anyhow::bail!("message {message} is no dead letter") };
    if json {
        print(&printable_json(&serde_json::to_string(&found)?))?;
        return Ok(Exit::Done);
    }
    for letter in &found.dead_letters {
        print(&line(letter))?;
        let error = letter.last_error.as_deref().unwrap_or("nothing went wrong at the client");
        print(&format!("  last error  {}", printable(error)))?;
        let accepted = format!("{}, #{} in {}, {}", letter.created_at, letter.seq, letter.chat_id, letter.message_type);
        print(&format!("  accepted    {}", printable(&accepted)))?;
    }
    print(&format!("content\n{}", found.content.as_deref().map_or_else(|| "(encrypted)".to_owned(), |text| format!("{text:?}"))))?;
    if let Some(metadata) = found.metadata {
        print(&format!("metadata\n{}", printable_json(metadata.get())))?;
    }
    Ok(Exit::Done)
}

async fn change(backend: &Backend, which: &Which, change: Change<'_>) -> anyhow::Result<Exit> {
    let items = gather(backend, which).await?;
    let count = items.len();
    match (which.message, which.confirm) {
        (_, Some(confirmed)) if confirmed != count => {
            say(&format!("restante: there are {count}, not {confirmed}: nothing was done"));
            return Ok(Exit::Failed);
        }
        (None, None) if count == 0 => {
            print("there is no dead letter that fits: nothing is to be done")?;
            return Ok(Exit::Done);
        }
        (None, None) => {
            print(&format!("{count} in all. To go on, repeat with --confirm {count}"))?;
            return Ok(Exit::Done);
        }
        (Some(message), _) if count == 0 => anyhow::bail!("message {message} is no dead letter"),
        (Some(_), None) | (_, Some(_)) => {}
    }
    let mut done = 0;
    for items in items.chunks(DEAD_LETTERS_MAX) {
        let outcomes = match change {
            Change::Requeue => backend.requeue(items).await?,
            Change::Discard(words) => backend.discard(items, words).await?,
        };
        for it in outcomes {
            match it.outcome.as_str() {
                "requeued" | "discarded" => done += 1,
                why => say(&printable(&format!("restante: message {} for {}: {why}", it.message_id, it.user_id))),
            }
        }
    }
    print(&format!("{done} of {count} {}", if matches!(change, Change::Requeue) { "requeued" } else { "discarded" }))?;
    Ok(if done == count { Exit::Done } else { Exit::Failed })
}

/// The dead letters that fit the filter, oldest first, so that they are put back in the order in which they failed.
async fn gather(backend: &Backend, which: &Which) -> anyhow::Result<Vec<(MessageId, ExternalId)>> {
    let letters = if let Some(message) = which.message {
        let found = backend.show(message).await?.map(|found| found.dead_letters).unwrap_or_default();
        let fits = |letter: &DeadLetter| which.filter.recipient.as_deref().is_none_or(|user| user == letter.user_id.as_str());
        found.into_iter().filter(fits).collect()
    } else if which.all || !which.filter.is_empty() {
        let mut letters = Vec::new();
        let page = async |rows_max, after| backend.page(which.filter.query(rows_max, after)).await;
        let gather = |letter| {
            letters.push(letter);
            Ok(())
        };
        let more = in_pages(BULK_MAX, page, gather).await?;
        anyhow::ensure!(more == More::Nothing, "more than {BULK_MAX} fit: narrow it down with --since");
        letters
    } else {
        return Err(UsageError("name a message, or filters, or --all".to_owned()).into());
    };
    Ok(letters.into_iter().rev().map(|letter| (letter.message_id, letter.user_id)).collect())
}

impl Filter {
    /// The request for a page behind a place.
    fn query(&self, rows_max: u16, after: Option<String>) -> DeadLetterQuery {
        let Self { sender, recipient, since, reason } = self.clone();
        DeadLetterQuery { sender, recipient, since, reason, after, limit: Some(rows_max) }
    }

    fn is_empty(&self) -> bool {
        self.sender.is_none() && self.recipient.is_none() && self.since.is_none() && self.reason.is_none()
    }
}

fn message_id(text: &str) -> Result<MessageId, String> {
    text.parse().map(MessageId).map_err(|_| "a message's id is a UUID".to_owned())
}

/// A time as it is, or so long before now.
pub(super) fn since(text: &str) -> Result<String, String> {
    if OffsetDateTime::parse(text, &Rfc3339).is_ok() {
        return Ok(text.to_owned());
    }
    let ago: Duration = duration(text).map_err(|_| "a time looks like 2026-11-01T12:00:00Z, or like 24h".to_owned())?;
    let at = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(Timestamp(at.into()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_a_while_ago() {
        assert_eq!(since("2026-11-01T12:00:00Z").as_deref(), Ok("2026-11-01T12:00:00Z"));
        let since_yesterday = Timestamp::parse(&since("24h").unwrap()).unwrap().0;
        let day = OffsetDateTime::now_utc() - since_yesterday;
        assert!((time::Duration::hours(24)..time::Duration::hours(25)).contains(&day), "{day}");
        assert!(since("yesterday").is_err());
    }
}
