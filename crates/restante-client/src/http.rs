//! The calls that are made over HTTP: making a chat, looking at statuses. One method a route, no state.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode, Url};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::endpoint::{below, service_url};
use super::hint::tls_hint;
use super::{ErrorReport, Recalled, Sent, WireError};
use restante_session::domain::{ChatId, ExternalId, FeedId, MessageId, Status, printable};

/// The ways in which a call fails.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The service does not answer, or the answer broke off. Another attempt may succeed.
    #[error("cannot reach the service{}", .0.url().map_or("", |url| tls_hint(url.as_str())))]
    Unreachable(#[source] reqwest::Error),
    /// The service is there and cannot now (429, 5xx). Another try may succeed.
    #[error("the service cannot now: HTTP {status} {}", printable(message))]
    NotNow {
        /// HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// The token is missing, wrong, over, or not allowed here (401, 403).
    #[error("the service refuses: HTTP {status} {}", printable(message))]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// Anything else it said no to.
    #[error("HTTP {status}: {}", printable(message))]
    Rejected {
        /// HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// The answer is not what the protocol says.
    #[error("the service's answer is not understood: {}", printable(.0))]
    Malformed(String),
}

impl HttpError {
    /// May the same call succeed later?
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::NotNow { .. })
    }
}

/// A chat, as its list shows it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chat {
    /// Its id.
    pub chat_id: ChatId,
    /// Its title, when it has one.
    #[serde(default)]
    pub title: Option<String>,
    /// The other one, in a direct chat.
    #[serde(default)]
    pub other: Option<Other>,
}

/// The other member of a direct chat.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Other {
    /// The user.
    pub user_id: ExternalId,
    /// The display name, when the service knows one.
    #[serde(default)]
    pub name: Option<String>,
}

#[derive(Deserialize)]
struct ChatPage {
    chats: Vec<Chat>,
    #[serde(default)]
    next: Option<ChatId>,
}

const CHAT_PAGES_MAX: usize = 30;

/// The status of a message for one recipient.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecipientStatus {
    /// The recipient.
    pub user_id: ExternalId,
    /// The row's status.
    pub status: Status,
}

#[derive(Deserialize)]
struct Statuses {
    statuses: Vec<RecipientStatus>,
}

/// Calls to one service. Cheap to clone; the connections are shared.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client,
    url: Url,
}

impl Http {
    /// For the service at this address.
    ///
    /// # Errors
    /// When the address is none, or TLS cannot be set up.
    pub fn new(url: &str) -> Result<Self, WireError> {
        let url = service_url(url)?;
        let client = Client::builder().timeout(Duration::from_secs(30)).connect_timeout(Duration::from_secs(5)).build();
        Ok(Self { client: client.map_err(|error| WireError::BadAddress(error.to_string()))?, url })
    }

    /// Makes a group; the caller is a member of it.
    ///
    /// # Errors
    /// See [`HttpError`]. Repeating after a lost answer may make a second group: use the one that was answered.
    pub async fn create_group(&self, token: &str, title: &str, members: &[String]) -> Result<ChatId, HttpError> {
        let body = json!({"kind": "group", "title": title, "members": members});
        let chat: Chat = self.call(token, Method::POST, "v1/chats", Some(&body)).await?;
        Ok(chat.chat_id)
    }

    /// Adds members to a chat; may be repeated.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn add_members(&self, token: &str, chat: ChatId, members: &[String]) -> Result<(), HttpError> {
        let body = json!({"userIds": members});
        self.send(token, Method::POST, &format!("v1/chats/{chat}/members"), Some(&body)).await.map(drop)
    }

    /// Takes members out of a chat, oneself too; may be repeated.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn remove_members(&self, token: &str, chat: ChatId, members: &[String]) -> Result<(), HttpError> {
        let body = json!({"userIds": members});
        self.send(token, Method::DELETE, &format!("v1/chats/{chat}/members"), Some(&body)).await.map(drop)
    }

    /// Makes a feed of this id; the caller is its first publisher, and these users publish to it too. May be repeated.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn make_feed(&self, token: &str, feed: FeedId, publishers: &[String]) -> Result<(), HttpError> {
        let body = json!({"feedId": feed, "publishers": publishers});
        self.send(token, Method::POST, "v1/feeds", Some(&body)).await.map(drop)
    }

    /// The caller follows a feed from now on; may be repeated.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn follow(&self, token: &str, feed: FeedId) -> Result<(), HttpError> {
        self.send::<Value>(token, Method::POST, &format!("v1/feeds/{feed}/follow"), None).await.map(drop)
    }

    /// The caller follows a feed no more; may be repeated.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn unfollow(&self, token: &str, feed: FeedId) -> Result<(), HttpError> {
        self.send::<Value>(token, Method::POST, &format!("v1/feeds/{feed}/unfollow"), None).await.map(drop)
    }

    /// The caller's chats; after the first few thousand no more are asked for.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn chats(&self, token: &str) -> Result<Vec<Chat>, HttpError> {
        let mut chats = Vec::new();
        let mut path = "v1/chats?limit=100".to_owned();
        for _ in 0..CHAT_PAGES_MAX {
            let page: ChatPage = self.call::<ChatPage, Value>(token, Method::GET, &path, None).await?;
            chats.extend(page.chats);
            match page.next {
                Some(next) => path = format!("v1/chats?limit=100&after={next}"),
                None => break,
            }
        }
        Ok(chats)
    }

    /// Sends a message; `data` is that of `message:send`. With a `messageId` it may be repeated.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn send_message<T: Serialize + Sync>(&self, token: &str, data: &T) -> Result<Sent, HttpError> {
        self.call(token, Method::POST, "v1/messages", Some(data)).await
    }

    /// Recalls a message of the caller; may be repeated.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn recall(&self, token: &str, message: MessageId) -> Result<Recalled, HttpError> {
        self.call::<Recalled, Value>(token, Method::POST, &format!("v1/messages/{message}/recall"), None).await
    }

    /// The caller mutes events of these types, and of no others; may be repeated.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn mute_types(&self, token: &str, types: &[String]) -> Result<(), HttpError> {
        self.send(token, Method::PUT, "v1/preferences", Some(&json!({"mutedTypes": types}))).await.map(drop)
    }

    /// The status of a message for each recipient. The sender and the chat's members may ask.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn statuses(&self, token: &str, message: MessageId) -> Result<Vec<RecipientStatus>, HttpError> {
        let path = format!("v1/messages/{message}/status");
        let found: Statuses = self.call::<Statuses, Value>(token, Method::GET, &path, None).await?;
        Ok(found.statuses)
    }

    /// A call whose query is a struct of texts and numbers.
    pub(super) async fn call_with_query<T: DeserializeOwned, B: Serialize + Sync>(
        &self,
        token: &str,
        method: Method,
        path: &str,
        query: &(impl Serialize + Sync),
        body: Option<&B>,
    ) -> Result<T, HttpError> {
        let mut url = below(&self.url, path);
        let fields = serde_json::to_value(query).unwrap_or_default();
        for (name, value) in fields.as_object().into_iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            url.query_pairs_mut().append_pair(name, &text);
        }
        let path = url.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        self.call(token, method, &path, body).await
    }

    async fn call<T: DeserializeOwned, B: Serialize + Sync>(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, HttpError> {
        let bytes = self.send(token, method, path, body).await?;
        serde_json::from_slice(&bytes).map_err(|error| HttpError::Malformed(format!("{path}: {error}")))
    }

    async fn send<B: Serialize + Sync>(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<bytes::Bytes, HttpError> {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let mut url = below(&self.url, path);
        url.set_query(query);
        let mut request = self.client.request(method, url).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(HttpError::Unreachable)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(HttpError::Unreachable)?;
        if status.is_success() { Ok(bytes) } else { Err(refusal(status, &bytes)) }
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> HttpError {
    let message = words(body);
    match status.as_u16() {
        status @ (401 | 403) => HttpError::Refused { status, message },
        status @ (408 | 425 | 429 | 500..=599) => HttpError::NotNow { status, message },
        status => HttpError::Rejected { status, message },
    }
}

/// The service's own words where the body has its shape, else the beginning of what it said.
pub(super) fn words(body: &[u8]) -> String {
    error_report(body).map_or_else(
        || String::from_utf8_lossy(body).chars().take(300).collect(),
        |report| if report.message.is_empty() { report.code } else { format!("{} ({})", report.message, report.code) },
    )
}

/// The error in a body, where it has the service's shape.
pub(super) fn error_report(body: &[u8]) -> Option<ErrorReport> {
    #[derive(Deserialize)]
    struct Wrapped {
        error: ErrorReport,
    }
    let wrapped = serde_json::from_slice::<Wrapped>(body).map(|wrapped| wrapped.error);
    wrapped.or_else(|_| serde_json::from_slice::<ErrorReport>(body)).ok()
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[tokio::test]
    async fn refusals_are_told_by_what_the_caller_can_do() {
        let fake = Fake::start().await;
        let http = Http::new(&fake.url).unwrap();
        let answer = async |status, body| {
            let message = MessageId::generate();
            tokio::join!(http.statuses("t", message), fake.refuse(status, body)).0.unwrap_err()
        };
        assert!(answer(503, r#"{"code":"unavailable","message":"later"}"#).await.is_retryable());
        let refused = answer(401, r#"{"error":{"code":"not_authenticated","message":"token expired"}}"#).await;
        assert_eq!(refused.to_string(), "the service refuses: HTTP 401 token expired (not_authenticated)");
        assert!(matches!(answer(404, "nothing here").await, HttpError::Rejected { status: 404, message } if message == "nothing here"));
    }

    #[tokio::test]
    async fn nobody_there_is_worth_another_try() {
        let fake = Fake::start().await;
        let http = Http::new(&fake.url).unwrap();
        drop(fake);
        assert!(http.statuses("t", MessageId::generate()).await.unwrap_err().is_retryable());
    }
}
