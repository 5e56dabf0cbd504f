//! `restante users`: erasing a user, and how far that is. It works on the database itself, or through a running service.

use clap::ValueEnum;

use super::backend::{Backend, Source};
use super::exit::{Exit, UsageError};
use super::screen::{print, printable, printable_json};
use crate::domain::ExternalId;
use crate::protocol::Timestamp;
use crate::store::{ErasedContent, Erasing};
use restante_client::{Erasure, HttpError};

pub const ABOUT: &str = "\
Erase a user, or show how far that is.

The profile (name, picture, preferences) goes at once, and the user's tokens are revoked. A running service does the rest within minutes: \
the user leaves every group, its contacts, blocks, follows and devices go, and what waits for it ends. With --content empty each message \
that it has sent is recalled, so that clients that have it are told to remove it, and each event that it has published loses its data. \
With --content keep they stay.

The id stays, since rows of others name it: a token that is issued later makes a new user of it. Backups keep all of it until they are \
removed.

With --url it asks a running service, with a token of the scope `admin` (--token, or one made with JWT_SECRET or the secret in \
the data directory). Without it works on the database: that of DATABASE_URL, or the service's own.

Examples:
  restante users erase alice --content empty
  restante users erasure alice
  restante users erase alice --content keep --url http://127.0.0.1:8080";

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    source: Source,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Erase one
    Erase {
        /// The user's id
        #[arg(value_name = "USER", allow_hyphen_values = true)]
        user: String,
        /// The treatment of what the user has said
        #[arg(long, value_enum)]
        content: Content,
    },
    /// Show how far the erasure of one is
    Erasure {
        /// The user's id
        #[arg(value_name = "USER", allow_hyphen_values = true)]
        user: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Content {
    /// It stays
    Keep,
    /// Messages are recalled, events emptied
    Empty,
}

/// Runs the command.
///
/// # Errors
/// When the service or the database refuses or does not answer, or there is no such user, or it was never erased.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let backend = Backend::open(&args.source).await?;
    let done = match args.command {
        Command::Erase { user, content } => erase(&backend, user, content).await,
        Command::Erasure { user, json } => show(&backend, user, json).await,
    };
    backend.close().await;
    done
}

async fn erase(backend: &Backend, user: String, content: Content) -> anyhow::Result<Exit> {
    let user = named(user)?;
    let Some(erasure) = backend.erase_user(&user, content).await? else {
        return Err(UsageError(printable(&format!("there is no user {user}"))).into());
    };
    print(&line(&erasure))?;
    Ok(Exit::Done)
}

async fn show(backend: &Backend, user: String, json: bool) -> anyhow::Result<Exit> {
    let user = named(user)?;
    let Some(erasure) = backend.erasure(&user).await? else {
        return Err(UsageError(printable(&format!("the user {user} was never erased"))).into());
    };
    print(&if json { printable_json(&serde_json::to_string(&erasure)?) } else { line(&erasure) })?;
    Ok(Exit::Done)
}

fn named(user: String) -> Result<ExternalId, UsageError> {
    ExternalId::try_from(user).map_err(|error| UsageError(error.to_string()))
}

fn line(erasure: &Erasure) -> String {
    let Erasure { user_id, content, asked_at, emptied, done_at } = erasure;
    let said =
        if content == "keep" { "what it has said stays".to_owned() } else { format!("{emptied} of its messages and events are empty") };
    let state = done_at.as_ref().map_or_else(|| "under way".to_owned(), |at| format!("done {at}"));
    printable(&format!("{user_id}  erased {asked_at}  {said}  {state}"))
}

impl Backend {
    async fn erase_user(&self, user: &ExternalId, content: Content) -> anyhow::Result<Option<Erasure>> {
        let (kind, word) = match content {
            Content::Keep => (ErasedContent::Keep, "keep"),
            Content::Empty => (ErasedContent::Empty, "empty"),
        };
        match self {
            Self::Service(http, token) => known(http.erase_user(token, user, word).await),
            Self::Database(store, _) => match store.erase_user(user, kind, None).await? {
                Erasing::Begun(_) => self.erasure(user).await,
                Erasing::NotFound => Ok(None),
            },
        }
    }

    async fn erasure(&self, user: &ExternalId) -> anyhow::Result<Option<Erasure>> {
        let store = match self {
            Self::Service(http, token) => return known(http.erasure(token, user).await),
            Self::Database(store, _) => store,
        };
        Ok(store.erasure(user).await?.map(|erasure| Erasure {
            user_id: user.clone(),
            content: if erasure.content == ErasedContent::Keep { "keep" } else { "empty" }.to_owned(),
            asked_at: Timestamp(erasure.asked_at).to_string(),
            emptied: erasure.emptied,
            done_at: erasure.done_at.map(|at| Timestamp(at).to_string()),
        }))
    }
}

/// None: the service does not know it.
fn known(answer: Result<Erasure, HttpError>) -> anyhow::Result<Option<Erasure>> {
    match answer {
        Err(HttpError::Rejected { status: 404, .. }) => Ok(None),
        answer => Ok(answer.map(Some)?),
    }
}
