//! The calls of an operator about dead letters. They take a token with the scope `admin`.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Http, HttpError};
use restante_session::domain::{ChatId, ChatSeq, ExternalId, MessageId};

/// A filter of dead letters. A field that is `None` does not filter.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DeadLetterQuery {
    /// Only those of this sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// Only those for this recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// Failed then or later (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only those whose reason begins with this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The page token: `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u16>,
}

/// A message that failed for a recipient.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// The message.
    pub message_id: MessageId,
    /// The recipient.
    pub user_id: ExternalId,
    /// The sender.
    pub sender_id: ExternalId,
    /// Its chat.
    pub chat_id: ChatId,
    /// Its number there.
    pub seq: ChatSeq,
    /// The type that its sender gave it, such as `text`.
    pub message_type: String,
    /// The reason, as the sender was told.
    pub reason: String,
    /// The last error that the recipient's client reported.
    pub last_error: Option<String>,
    /// Attempts that were counted.
    pub attempts: u16,
    /// When it was accepted (RFC 3339).
    pub created_at: String,
    /// When it failed (RFC 3339).
    pub failed_at: String,
}

/// A page of dead letters, newest first.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterPage {
    /// Them.
    pub dead_letters: Vec<DeadLetter>,
    /// The page token of the next page; `None`: this page is the last.
    pub next: Option<String>,
}

/// A message with its content, and its dead letters.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterDetails {
    /// The message.
    pub message_id: MessageId,
    /// Its text; none when it is encrypted.
    pub content: Option<String>,
    /// Its sender's JSON.
    pub metadata: Option<Box<RawValue>>,
    /// For whom it failed.
    pub dead_letters: Vec<DeadLetter>,
}

/// The outcome of a request for one dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterOutcome {
    /// The message.
    pub message_id: MessageId,
    /// Its recipient.
    pub user_id: ExternalId,
    /// `requeued`, `discarded`, or why not.
    pub outcome: String,
}

#[derive(Deserialize)]
struct Results {
    results: Vec<DeadLetterOutcome>,
}

impl Http {
    /// A page of the list.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn dead_letters(&self, token: &str, query: &DeadLetterQuery) -> Result<DeadLetterPage, HttpError> {
        self.call_with_query::<_, Value>(token, Method::GET, "v1/admin/dead-letters", query, None).await
    }

    /// One message.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn dead_letter(&self, token: &str, message: MessageId) -> Result<DeadLetterDetails, HttpError> {
        let path = format!("v1/admin/dead-letters/{message}");
        self.call_with_query::<_, Value>(token, Method::GET, &path, &DeadLetterQuery::default(), None).await
    }

    /// Puts some back, at most 100.
    ///
    /// # Errors
    /// See [`HttpError`]. May be repeated: what was put back is `not_failed` then.
    pub async fn requeue(&self, token: &str, items: &[(MessageId, ExternalId)]) -> Result<Vec<DeadLetterOutcome>, HttpError> {
        self.change(token, "requeue", json!({"items": named(items)})).await
    }

    /// Gives some up, at most 100.
    ///
    /// # Errors
    /// See [`HttpError`]. May be repeated: what was given up is `not_failed` then.
    pub async fn discard(
        &self,
        token: &str,
        items: &[(MessageId, ExternalId)],
        reason: Option<&str>,
    ) -> Result<Vec<DeadLetterOutcome>, HttpError> {
        self.change(token, "discard", json!({"items": named(items), "reason": reason})).await
    }

    async fn change(&self, token: &str, what: &str, body: Value) -> Result<Vec<DeadLetterOutcome>, HttpError> {
        let path = format!("v1/admin/dead-letters/{what}");
        let done: Results = self.call_with_query(token, Method::POST, &path, &DeadLetterQuery::default(), Some(&body)).await?;
        Ok(done.results)
    }
}

fn named(items: &[(MessageId, ExternalId)]) -> Vec<Value> {
    items.iter().map(|(message, user)| json!({"messageId": message, "userId": user})).collect()
}
