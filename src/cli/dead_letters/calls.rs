//! The calls of the dead-letter commands: to a running service, or to the database itself.

use crate::cli::backend::Backend;
use crate::cli::exit::UsageError;
use crate::cli::pages::{PAGE, Page};
use crate::domain::{ExternalId, MessageId};
use crate::protocol::{DeadLetterData, Timestamp};
use crate::store::{self, DeadLetterCursor, DeadLetterFilter, Store};
use restante_client::{DeadLetter, DeadLetterDetails, DeadLetterOutcome, DeadLetterPage, DeadLetterQuery, HttpError};

impl Backend {
    /// A page, newest first.
    pub(super) async fn page(&self, query: DeadLetterQuery) -> anyhow::Result<Page<DeadLetter>> {
        let page = match self {
            Self::Service(http, token) => http.dead_letters(token, &query).await?,
            Self::Database(store, _) => page(store, &query).await?,
        };
        Ok(Page { rows: page.dead_letters, next: page.next })
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
            outcomes.push(noted(*message, user, store.put_back(*message, user, None).await?.as_str()));
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
            let done = store.discard(*message, user, words.unwrap_or("discarded by an operator"), None).await?;
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
    let rows_max = query.limit.unwrap_or(PAGE).min(PAGE);
    let below = query.after.as_deref().and_then(DeadLetterCursor::parse);
    let letters = store.dead_letters(&filter, below, rows_max + 1).await?;
    let (letters, next) = store::page_of(letters, rows_max, |letter| DeadLetterCursor::of(letter).to_string());
    Ok(DeadLetterPage { dead_letters: letters.into_iter().map(shown).collect::<anyhow::Result<_>>()?, next })
}

async fn show(store: &Store, message: MessageId) -> anyhow::Result<Option<DeadLetterDetails>> {
    let filter = DeadLetterFilter { message: Some(message), ..DeadLetterFilter::default() };
    let letters = store.dead_letters(&filter, None, PAGE).await?;
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
