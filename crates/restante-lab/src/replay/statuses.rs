//! The final statuses, as the database has them: one query where its address is given, else the status API,
//! asked by the sender of each message.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use sqlx::PgPool;
use tokio::time::{Instant, sleep};

use super::checker::Accepted;
use super::stage::Stage;
use restante_client::{Http, HttpError};
use restante_session::domain::{ChatId, Status};

const COUNTS: &str =
    "select s.status::text, count(*) from messages m join message_status s on s.message_id = m.id where m.chat_id = $1 group by s.status";
const REQUESTS_AT_ONCE: usize = 16;

/// How many rows have which status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Statuses(BTreeMap<String, u64>);

impl Statuses {
    /// Adds rows.
    pub fn add(&mut self, status: &str, rows: u64) {
        *self.0.entry(status.to_owned()).or_default() += rows;
    }

    /// Rows with this status.
    pub fn count(&self, status: Status) -> u64 {
        self.0.get(&name(status)).copied().unwrap_or_default()
    }

    /// All rows.
    pub fn all(&self) -> u64 {
        self.0.values().sum()
    }

    /// Adds another log's.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(status, rows)| self.add(status, *rows));
    }

    /// `read 120, delivered 3`.
    pub fn words(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|(status, rows)| format!("{status} {rows}")).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    }
}

fn name(status: Status) -> String {
    format!("{status:?}").to_lowercase()
}

/// From the database itself.
pub async fn from_database(url: &str, chat: ChatId) -> anyhow::Result<Statuses> {
    let pool = PgPool::connect(url).await.context("cannot connect to --database-url")?;
    let rows: Vec<(String, i64)> = sqlx::query_as(COUNTS).bind(chat.0).fetch_all(&pool).await?;
    pool.close().await;
    let mut statuses = Statuses::default();
    for (status, rows) in rows {
        statuses.add(&status, u64::try_from(rows).unwrap_or_default());
    }
    Ok(statuses)
}

/// Over HTTP, from the status API. `tokens` are the persons', by their numbers.
pub async fn from_service(
    http: &Http,
    stage: &Stage,
    accepted: &[Accepted],
    tokens: &[String],
    patience: Duration,
) -> anyhow::Result<Statuses> {
    let asked = stream::iter(accepted).map(|message| async {
        let id = stage.id(message.message);
        insist(patience, || http.statuses(&tokens[message.speaker], id)).await
    });
    let found = asked.buffer_unordered(REQUESTS_AT_ONCE);
    let add = async |mut statuses: Statuses, rows: Vec<_>| {
        rows.iter().for_each(|row: &restante_client::RecipientStatus| statuses.add(&name(row.status), 1));
        Ok(statuses)
    };
    found.try_fold(Statuses::default(), add).await
}

/// Repeats a call until it succeeds, is refused for good, or patience is over.
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
        let mut statuses = Statuses::default();
        assert_eq!(statuses.words(), "none");
        statuses.add("read", 2);
        let mut all = statuses.clone();
        all.merge(&statuses);
        all.add(&name(Status::Delivered), 1);
        assert_eq!((all.count(Status::Read), all.all(), all.words().as_str()), (4, 5, "delivered 1, read 4"));
    }
}
