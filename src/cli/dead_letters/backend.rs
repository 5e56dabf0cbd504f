//! The backend of the dead-letter commands: a running service, or the database itself. Both have the same requests and answers.

use std::time::Duration;

use anyhow::Context;
use sqlx::postgres::PgPoolOptions;

use super::Source;
use crate::app;
use crate::cli::exit::UsageError;
use crate::cli::hints::program;
use crate::cli::host::{Host, data_dir};
use crate::cli::identity::token_for_admin;
use crate::cli::screen::say;
use crate::cli::serve::{checked, settings_of_environment};
use crate::cli::waiting;
use crate::domain::{ExternalId, MessageId};
use crate::protocol::{DeadLetterData, Timestamp};
use crate::store::{self, DeadLetterCursor, DeadLetterFilter, PLANNING, Store};
use restante_client::{DeadLetter, DeadLetterDetails, DeadLetterOutcome, DeadLetterPage, DeadLetterQuery, Http, HttpError};

/// The time that the command waits for a lock.
const LOCK_TIMEOUT: &str = "5s";
const ROWS_MAX: u16 = 500;

/// A backend.
pub(super) enum Backend {
    /// A running service, and the token for it.
    Service(Http, String),
    /// The database, and the server if this command has started it.
    Database(Store, Box<Host>),
}

impl Backend {
    pub(super) async fn open(source: &Source) -> anyhow::Result<Self> {
        if let Some(url) = &source.url {
            let token = source.token.clone().map_or_else(token_for_admin, Ok)?;
            return Ok(Self::Service(Http::new(url)?, token));
        }
        let config = checked(settings_of_environment())?;
        if config.database_url.is_none() && !restante_postgres::has_cluster(&data_dir(&config)?) {
            return Err(UsageError("there is no database here: set DATABASE_URL, or DATA_DIR, or name a service with --url".into()).into());
        }
        let host = Host::start(&config).await?;
        match Self::connect(&host).await {
            Ok(store) => Ok(Self::Database(store, Box::new(host))),
            Err(error) => {
                host.stop().await;
                Err(error)
            }
        }
    }

    /// The database of the host, if it has the schema.
    async fn connect(host: &Host) -> anyhow::Result<Store> {
        waiting::reach(&host.database, say).await?;
        if app::needs_migration(&host.database).await? {
            let why = format!(
                "the database has no schema of this version, so it has no dead letters: run `{} migrate` with the same settings, or start the service",
                program()
            );
            return Err(UsageError(why).into());
        }
        let options = host.database.clone().with_settings().await?.direct.options([("lock_timeout", LOCK_TIMEOUT)]).options(PLANNING);
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(10)).connect_with(options).await;
        let pool = pool.context("cannot reach the database")?;
        store::check_direct(&mut *pool.acquire().await?).await?;
        Ok(Store::new(pool))
    }

    pub(super) async fn close(self) {
        if let Self::Database(store, host) = self {
            store.pool().close().await;
            host.stop().await;
        }
    }

    /// A page, newest first.
    pub(super) async fn page(&self, query: &DeadLetterQuery) -> anyhow::Result<DeadLetterPage> {
        match self {
            Self::Service(http, token) => Ok(http.dead_letters(token, query).await?),
            Self::Database(store, _) => page(store, query).await,
        }
    }

    /// One message; none when it is no dead letter.
    pub(super) async fn show(&self, message: MessageId) -> anyhow::Result<Option<DeadLetterDetails>> {
        match self {
            Self::Service(http, token) => match http.dead_letter(token, message).await {
                Err(HttpError::Rejected { status: 404, .. }) => Ok(None),
                found => Ok(Some(found?)),
            },
            Self::Database(store, _) => show(store, message).await,
        }
    }

    /// Puts at most 100 back.
    pub(super) async fn requeue(&self, items: &[(MessageId, ExternalId)]) -> anyhow::Result<Vec<DeadLetterOutcome>> {
        let store = match self {
            Self::Service(http, token) => return Ok(http.requeue(token, items).await?),
            Self::Database(store, _) => store,
        };
        let mut outcomes = Vec::with_capacity(items.len());
        for (message, user) in items {
            outcomes.push(noted(*message, user, store.put_back(*message, user).await?.as_str()));
        }
        Ok(outcomes)
    }

    /// Gives at most 100 up.
    pub(super) async fn discard(&self, items: &[(MessageId, ExternalId)], words: Option<&str>) -> anyhow::Result<Vec<DeadLetterOutcome>> {
        let store = match self {
            Self::Service(http, token) => return Ok(http.discard(token, items, words).await?),
            Self::Database(store, _) => store,
        };
        let mut outcomes = Vec::with_capacity(items.len());
        for (message, user) in items {
            let done = store.discard(*message, user, words.unwrap_or("discarded by an operator")).await?;
            outcomes.push(noted(*message, user, done.as_str()));
        }
        Ok(outcomes)
    }
}

/// The outcome for this message and recipient.
fn noted(message: MessageId, user: &ExternalId, outcome: &str) -> DeadLetterOutcome {
    DeadLetterOutcome { message_id: message, user_id: user.clone(), outcome: outcome.to_owned() }
}

async fn page(store: &Store, query: &DeadLetterQuery) -> anyhow::Result<DeadLetterPage> {
    let user = |text: &Option<String>| text.clone().map(ExternalId::try_from).transpose().map_err(|error| UsageError(error.to_string()));
    let filter = DeadLetterFilter {
        sender: user(&query.sender)?,
        recipient: user(&query.recipient)?,
        message: None,
        since: query.since.as_deref().and_then(Timestamp::parse).map(|at| at.0),
        reason: query.reason.clone(),
    };
    let rows_max = query.limit.unwrap_or(ROWS_MAX).min(ROWS_MAX);
    let below = query.after.as_deref().and_then(DeadLetterCursor::parse);
    let letters = store.dead_letters(&filter, below, rows_max + 1).await?;
    let (letters, next) = store::page_of(letters, rows_max, |letter| DeadLetterCursor::of(letter).to_string());
    Ok(DeadLetterPage { dead_letters: letters.into_iter().map(shown).collect::<anyhow::Result<_>>()?, next })
}

async fn show(store: &Store, message: MessageId) -> anyhow::Result<Option<DeadLetterDetails>> {
    let filter = DeadLetterFilter { message: Some(message), ..DeadLetterFilter::default() };
    let letters = store.dead_letters(&filter, None, ROWS_MAX).await?;
    let Some(content) = store.message_content(message).await?.filter(|_| !letters.is_empty()) else { return Ok(None) };
    Ok(Some(DeadLetterDetails {
        message_id: message,
        content: content.text,
        metadata: content.metadata.map(serde_json::value::RawValue::from_string).transpose()?,
        dead_letters: letters.into_iter().map(shown).collect::<anyhow::Result<_>>()?,
    }))
}

/// A dead letter as the client reads it from the service.
fn shown(letter: crate::domain::DeadLetter) -> anyhow::Result<DeadLetter> {
    Ok(serde_json::from_value(serde_json::to_value(DeadLetterData::from(letter))?)?)
}
