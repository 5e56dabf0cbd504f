//! The rows at the end of a replay: read from the database where its address is given, else made from what the status API answers to
//! the sender of each message.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep};

use super::state::{Accepted, ReplayState};
use restante_client::{Http, HttpError, RecipientStatus};
use restante_judge::Status;
use restante_judge::history::Class;
use restante_judge::snapshot::{Member, MemberInterval, Message, Row, Snapshot, read_chat};
use restante_session::domain::{self, ChatId};

const REQUESTS_MAX: usize = 16;

/// Number of rows by status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Statuses(BTreeMap<String, u64>);

impl Statuses {
    /// Counts rows.
    pub fn of(rows: &[Row]) -> Self {
        let mut statuses = Self::default();
        rows.iter().for_each(|row| *statuses.0.entry(format!("{:?}", row.status).to_lowercase()).or_default() += 1);
        statuses
    }

    /// Adds those of another log.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(status, rows)| *self.0.entry(status.clone()).or_default() += rows);
    }

    /// `delivered 3, read 120`; `none` when there are no rows.
    pub fn words(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|(status, rows)| format!("{status} {rows}")).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    }
}

/// Reads the chat's rows from the database.
///
/// # Errors
/// When the database cannot be reached or does not answer.
pub async fn from_database(url: &str, chat: ChatId) -> anyhow::Result<Snapshot> {
    let mut database = PgConnection::connect(url).await.context("cannot connect to --database-url")?;
    let snapshot = read_chat(&mut database, chat.0).await?;
    let _ = database.close().await;
    Ok(snapshot)
}

/// Asks the status API about each accepted message. `tokens` are the persons', by their numbers.
///
/// # Errors
/// When the service refuses, or does not answer until `patience` is over.
pub async fn from_service(
    http: &Http,
    state: &ReplayState,
    accepted: &[Accepted],
    tokens: &[String],
    patience: Duration,
) -> anyhow::Result<Snapshot> {
    let asked = stream::iter(accepted).map(|message| async {
        let id = state.id(message.message);
        let rows = insist(patience, || http.statuses(&tokens[message.speaker], id)).await?;
        anyhow::Ok(
            rows.into_iter().map(move |RecipientStatus { user_id, status }| row(user_id.as_str(), id, of(status))).collect::<Vec<_>>(),
        )
    });
    let rows = asked.buffer_unordered(REQUESTS_MAX).try_concat().await?;
    Ok(Snapshot { rows, ..without_statuses(state, accepted) })
}

/// The accepted messages as their senders know them, with a row that waits for each recipient: every person but the sender.
pub fn without_statuses(state: &ReplayState, accepted: &[Accepted]) -> Snapshot {
    let chat = state.chat.0;
    let message = |accepted: &Accepted| {
        let (sender, content) = (state.names[accepted.speaker].to_string(), state.content(accepted.message).to_string());
        (
            state.id(accepted.message).0,
            Message { chat, seq: accepted.seq.0, sender, content, is_over: false, is_recalled: false, is_sealed: false },
        )
    };
    let rows = accepted.iter().flat_map(|message| {
        let others = state.names.iter().enumerate().filter(|(person, _)| *person != message.speaker);
        others.map(|(_, name)| row(name, state.id(message.message), Status::Sent))
    });
    let member =
        |name: &std::sync::Arc<str>| Member { chat, user: name.to_string(), joined: 0, left: None, delivered: 0, read: 0, purged: 0 };
    let interval = |name: &std::sync::Arc<str>| MemberInterval { chat, user: name.to_string(), joined: 0, left: None };
    Snapshot {
        chats: HashMap::from([(chat, accepted.iter().map(|message| message.seq.0).max().unwrap_or_default())]),
        messages: accepted.iter().map(message).collect(),
        rows: rows.collect(),
        members: state.names.iter().map(member).collect(),
        intervals: state.names.iter().map(interval).collect(),
        ..Snapshot::default()
    }
}

fn row(user: &str, message: domain::MessageId, status: Status) -> Row {
    let (user, message, reason) = (user.to_owned(), message.0, String::new());
    Row { user, class: Class::Chat, seq: None, message, status, attempts: 0, reason, ended_later: 0 }
}

/// The judge's word for a status of the service.
pub(super) const fn of(status: domain::Status) -> Status {
    match status {
        domain::Status::Sent => Status::Sent,
        domain::Status::Delivered => Status::Delivered,
        domain::Status::Read => Status::Read,
        domain::Status::Failed => Status::Failed,
        domain::Status::Expired => Status::Expired,
    }
}

/// Repeats a call until it succeeds, is refused for good, or `patience` is over.
///
/// # Errors
/// The last error of the call.
pub async fn insist<T, F: Future<Output = Result<T, HttpError>>>(patience: Duration, mut call: impl FnMut() -> F) -> anyhow::Result<T> {
    let give_up = Instant::now() + patience;
    loop {
        match call().await {
            Ok(found) => return Ok(found),
            Err(error) if !error.is_retryable() => return Err(error.into()),
            Err(error) if Instant::now() > give_up => {
                return Err(error).with_context(|| format!("gave up after {} s", patience.as_secs()));
            }
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_add_up_and_are_told_in_words() {
        let id = domain::MessageId::generate();
        assert_eq!(Statuses::of(&[]).words(), "none");
        let statuses = Statuses::of(&[row("a", id, Status::Read), row("b", id, Status::Read)]);
        let mut all = statuses.clone();
        all.merge(&statuses);
        all.merge(&Statuses::of(&[row("c", id, of(domain::Status::Delivered))]));
        assert_eq!(all.words(), "delivered 1, read 4");
    }
}
