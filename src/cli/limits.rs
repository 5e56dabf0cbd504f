//! `restante limits`: the limits of single users, raised and listed. It asks the database itself, or a running service.

use super::backend::{Backend, Source};
use super::exit::{Exit, UsageError};
use super::pages::{PAGE, Page, in_pages, print_row};
use super::screen::{print, printable, say};
use crate::domain::{ExternalId, UserId};
use crate::protocol::Timestamp;
use crate::store::{LimitSet, page_of};
use restante_client::{RaisedLimit, RaisedLimitPage, RaisedLimitQuery};

pub const ABOUT: &str = "\
Raise the limits of a user, or list the users whose limits are raised.

set multiplies all rates of a user (SEND_RATE, EVENT_RATE, REQUEST_RATE, chats, groups and named users in an hour) by a factor of 1 to 1000, on \
every node, within seconds. With 1 they are those of others again.

With --url it asks a running service, with a token of the scope `admin` (--token, or one made with JWT_SECRET or the secret in \
the data directory). Without it works on the database: that of DATABASE_URL, or the service's own.

Examples:
  restante limits set newsletter 20
  restante limits set newsletter 1
  restante limits list --json --url http://127.0.0.1:8080";

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    source: Source,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Multiply all rates of a user
    Set {
        /// The user
        #[arg(allow_hyphen_values = true)]
        user: String,
        /// By how much, 1 to 1000
        #[arg(allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..=1_000))]
        factor: u16,
    },
    /// List the users whose limits are raised
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// When the service or the database refuses or does not answer, or there is no such user.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let backend = Backend::open(&args.source).await?;
    let done = match args.command {
        Command::Set { user, factor } => set(&backend, user, factor).await,
        Command::List { json } => list(&backend, json).await,
    };
    backend.close().await;
    done
}

async fn set(backend: &Backend, user: String, factor: u16) -> anyhow::Result<Exit> {
    backend.set_limit(&user, factor).await?;
    print(&printable(&format!("the limits of {user} are multiplied by {factor}")))?;
    Ok(Exit::Done)
}

async fn list(backend: &Backend, json: bool) -> anyhow::Result<Exit> {
    let page = async |rows_max, after| {
        let page = backend.raised_limits(&RaisedLimitQuery { limit: Some(rows_max), after }).await?;
        Ok(Page { rows: page.limits, next: page.next })
    };
    let mut users = 0;
    let printed = in_pages(usize::MAX, page, |raised| {
        users += 1;
        print_row(&raised, json, line)
    });
    printed.await?;
    say(&format!("restante: the limits of {users} users are raised"));
    Ok(Exit::Done)
}

fn line(raised: &RaisedLimit) -> String {
    let RaisedLimit { user_id, factor, set_at } = raised;
    printable(&format!("{user_id}  {factor} times  since {set_at}"))
}

impl Backend {
    async fn set_limit(&self, user: &str, factor: u16) -> anyhow::Result<()> {
        let store = match self {
            Self::Service(http, token) => return Ok(http.set_limit(token, user, factor).await?),
            Self::Database(store, _) => store,
        };
        let user = ExternalId::try_from(user.to_owned()).map_err(|error| UsageError(error.to_string()))?;
        match store.set_limit(&user, factor, None).await? {
            LimitSet::Set => Ok(()),
            LimitSet::NoSuchUser => Err(UsageError("there is no such user".to_owned()).into()),
            LimitSet::TooMany => Err(UsageError("the limits of too many users are raised: set those of some to 1".to_owned()).into()),
        }
    }

    async fn raised_limits(&self, query: &RaisedLimitQuery) -> anyhow::Result<RaisedLimitPage> {
        let store = match self {
            Self::Service(http, token) => return Ok(http.raised_limits(token, query).await?),
            Self::Database(store, _) => store,
        };
        let rows_max = query.limit.unwrap_or(PAGE).min(PAGE);
        let after = query.after.as_deref().and_then(|after| after.parse().ok()).unwrap_or(i64::MIN);
        let (raised, next) = page_of(store.raised_limits(UserId(after), rows_max + 1).await?, rows_max, |raised| raised.user.0.to_string());
        let shown = raised.into_iter().map(|raised| RaisedLimit {
            user_id: raised.external.to_string(),
            factor: raised.factor,
            set_at: Timestamp(raised.set_at).to_string(),
        });
        Ok(RaisedLimitPage { limits: shown.collect(), next })
    }
}
