//! Dead letters, for operators: a list, a look at one, putting back, giving up. Each takes a token with the scope
//! `admin`, and leaves a line in the log. Nodes and senders learn of a change from the database, whoever made it.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tracing::info;

use super::error::ApiError;
use super::extract::{Admin, MessagePath, Params, Payload, limit};
use crate::connection::Shared;
use crate::domain::{ExternalId, InboxSeq, MessageId, limits};
use crate::protocol::fields::{Field, Fields};
use crate::protocol::{Code, DeadLetterData, Fault, Timestamp};
use crate::store::{self, DeadLetterCursor, DeadLetterFilter, PutBack};

const LIST_DEFAULT: u16 = 50;
const LIST_MAX: u16 = 500;
const DISCARDED: &str = "discarded by an operator";

#[derive(Debug, Deserialize)]
pub(super) struct ListParams {
    sender: Option<String>,
    recipient: Option<String>,
    since: Option<String>,
    reason: Option<String>,
    after: Option<String>,
    limit: Option<u16>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListBody {
    dead_letters: Vec<DeadLetterData>,
    /// To be passed as `after`; null at the end.
    next: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShowBody {
    message_id: MessageId,
    /// Null when it is encrypted.
    content: Option<String>,
    metadata: Option<Box<RawValue>>,
    dead_letters: Vec<DeadLetterData>,
}

/// The outcome of each item of a request, in its order.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    results: Vec<Outcome>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    message_id: MessageId,
    user_id: ExternalId,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    inbox_seq: Option<InboxSeq>,
}

/// A message and one of its recipients.
#[derive(Debug)]
struct Item {
    message: MessageId,
    user: ExternalId,
}

impl<'a> Field<'a> for Item {
    fn read(value: &'a RawValue) -> Result<Self, std::borrow::Cow<'static, str>> {
        let item = Fields::of(value.get(), ["messageId", "userId"])
            .and_then(|fields| Ok(Self { message: fields.required("messageId")?, user: fields.required("userId")? }));
        item.map_err(|fault| format!("is wrong: {}", fault.message).into())
    }
}

/// `GET /v1/admin/dead-letters?sender=&recipient=&since=&reason=&after=&limit=`: newest first.
pub(super) async fn list(
    State(shared): State<Shared>,
    Admin(admin): Admin,
    Params(params): Params<ListParams>,
) -> Result<Json<ListBody>, ApiError> {
    let rows_max = limit(params.limit, LIST_DEFAULT, LIST_MAX)?;
    let below = params
        .after
        .as_deref()
        .map(|text| DeadLetterCursor::parse(text).ok_or_else(|| Fault::invalid("`after` must be the `next` of a list")));
    let (below, filter) = (below.transpose()?, filter(params)?);
    // One more than wanted tells whether there are more.
    let found = shared.store.dead_letters(&filter, below, rows_max + 1).await;
    let mut letters = found.map_err(|cause| ApiError::from_store(&shared, &cause))?;
    let has_more = letters.len() > usize::from(rows_max);
    letters.truncate(usize::from(rows_max));
    let next = letters.last().filter(|_| has_more).map(|letter| DeadLetterCursor::of(letter).to_string());
    info!(admin.id = %admin, items = letters.len(), action = "list", "dead letters");
    Ok(Json(ListBody { dead_letters: letters.into_iter().map(DeadLetterData::from).collect(), next }))
}

/// `GET /v1/admin/dead-letters/{messageId}`: what it says, and for whom it failed.
pub(super) async fn show(
    State(shared): State<Shared>,
    Admin(admin): Admin,
    MessagePath(message): MessagePath,
) -> Result<Json<ShowBody>, ApiError> {
    let refused = |cause| ApiError::from_store(&shared, &cause);
    let filter = DeadLetterFilter { message: Some(message), ..DeadLetterFilter::default() };
    let letters = shared.store.dead_letters(&filter, None, LIST_MAX).await.map_err(refused)?;
    if letters.is_empty() {
        return Err(Code::NotFound.into());
    }
    let content = shared.store.message_content(message).await.map_err(refused)?.ok_or(Code::NotFound)?;
    info!(admin.id = %admin, message.id = %message, action = "show", "dead letters");
    let metadata = content.metadata.and_then(|text| RawValue::from_string(text).ok());
    Ok(Json(ShowBody {
        message_id: message,
        content: content.text,
        metadata,
        dead_letters: letters.into_iter().map(DeadLetterData::from).collect(),
    }))
}

/// `POST /v1/admin/dead-letters/requeue {items: [{messageId, userId}]}`: each waits again, or the outcome says why not.
pub(super) async fn requeue(State(shared): State<Shared>, Admin(admin): Admin, Payload(body): Payload) -> Result<Json<Results>, ApiError> {
    let items: Vec<Item> = Fields::of_body(&body, ["items"])?.list("items", limits::DEAD_LETTERS_MAX)?;
    let mut results = Vec::with_capacity(items.len());
    for Item { message, user } in items {
        let (outcome, inbox_seq) = match shared.store.put_back(message, &user).await {
            Ok(PutBack::Requeued(seq)) => ("requeued", Some(seq)),
            Ok(PutBack::NoRecipient) => ("no_recipient", None),
            Ok(PutBack::Left) => ("left", None),
            Ok(PutBack::Expired) => ("expired", None),
            Ok(PutBack::NotFailed) => ("not_failed", None),
            Err(cause) => (undone(&shared, cause)?, None),
        };
        note(&shared, &admin, "requeue", message, &user, outcome);
        results.push(Outcome { message_id: message, user_id: user, outcome, inbox_seq });
    }
    Ok(Json(Results { results }))
}

/// `POST /v1/admin/dead-letters/discard {items: [{messageId, userId}], reason?}`: each is given up for good.
pub(super) async fn discard(State(shared): State<Shared>, Admin(admin): Admin, Payload(body): Payload) -> Result<Json<Results>, ApiError> {
    let fields = Fields::of_body(&body, ["items", "reason"])?;
    let items: Vec<Item> = fields.list("items", limits::DEAD_LETTERS_MAX)?;
    let reason = fields.optional::<String>("reason")?.unwrap_or_else(|| DISCARDED.to_owned());
    if reason.is_empty() || reason.chars().count() > limits::REASON_CHARS_MAX {
        return Err(Fault::invalid(format!("`reason` must be 1 to {} characters", limits::REASON_CHARS_MAX)).into());
    }
    let mut results = Vec::with_capacity(items.len());
    for Item { message, user } in items {
        let outcome = match shared.store.discard(message, &user, &reason).await {
            Ok(true) => "discarded",
            Ok(false) => "not_failed",
            Err(cause) => undone(&shared, cause)?,
        };
        note(&shared, &admin, "discard", message, &user, outcome);
        results.push(Outcome { message_id: message, user_id: user, outcome, inbox_seq: None });
    }
    Ok(Json(Results { results }))
}

/// Somebody else's lock concerns one item; anything else ends the request, and what was done before it stays done.
fn undone(shared: &Shared, cause: store::Error) -> Result<&'static str, ApiError> {
    match cause {
        store::Error::Held(_) => Ok("busy"),
        cause @ (store::Error::Unavailable(_)
        | store::Error::Busy(_)
        | store::Error::Taken(_)
        | store::Error::Invalid(_)
        | store::Error::Failed(_)) => Err(ApiError::from_store(shared, &cause)),
    }
}

fn note(shared: &Shared, admin: &ExternalId, action: &'static str, message: MessageId, user: &ExternalId, outcome: &'static str) {
    info!(admin.id = %admin, message.id = %message, user.id = %user, action, outcome, "dead letters");
    if matches!(outcome, "requeued" | "discarded") {
        shared.metrics.dead_letters.of(outcome).inc();
    }
}

fn filter(params: ListParams) -> Result<DeadLetterFilter, Fault> {
    let user = |name: &str, text: Option<String>| {
        text.map(ExternalId::try_from).transpose().map_err(|error| Fault::invalid(format!("`{name}`: {error}")))
    };
    let since = params.since.map(|text| Timestamp::parse(&text).ok_or_else(|| Fault::invalid("`since` must be a time as in RFC 3339")));
    Ok(DeadLetterFilter {
        sender: user("sender", params.sender)?,
        recipient: user("recipient", params.recipient)?,
        message: None,
        since: since.transpose()?.map(|at| at.0),
        reason: params.reason,
    })
}
