//! Dead letters, for operators: a list, a look at one, putting back, giving up. Each takes a token with the scope
//! `admin`; to look at them `admin:read` is enough.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::ApiError;
use super::extract::{Admin, MessagePath, Params, Payload, limit};
use crate::domain::{ExternalId, InboxSeq, MessageId, limits};
use crate::protocol::fields::{Field, Fields, small_number};
use crate::protocol::{DeadLetterData, Fault, Timestamp};
use crate::service::{DeadLetterCursor, DeadLetterDetails, DeadLetterFilter, DeadLetterList, Service};

const LIST_DEFAULT: u16 = 50;
const LIST_MAX: u16 = 500;
const DISCARDED: &str = "discarded by an operator";

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "DeadLetterQuery")]
pub(super) struct ListParams {
    #[schemars(with = "Option<ExternalId>")]
    sender: Option<String>,
    #[schemars(with = "Option<ExternalId>")]
    recipient: Option<String>,
    /// Failed at this time or later.
    #[schemars(with = "Option<Timestamp>")]
    since: Option<String>,
    /// The beginning of the reason.
    reason: Option<String>,
    /// The `next` of a list.
    #[schemars(length(min = 1))]
    after: Option<String>,
    #[serde(default, deserialize_with = "small_number")]
    #[schemars(range(min = 1, max = LIST_MAX), extend("default" = LIST_DEFAULT))]
    limit: Option<u16>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "DeadLetterList")]
pub(super) struct ListBody {
    dead_letters: Vec<DeadLetterData>,
    /// To be passed as `after`; null at the end.
    next: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "DeadLetterDetails")]
pub(super) struct ShowBody {
    message_id: MessageId,
    /// Null when it is encrypted.
    content: Option<String>,
    metadata: Option<Box<RawValue>>,
    /// Its sender has recalled it.
    #[serde(skip_serializing_if = "Option::is_none")]
    recalled_at: Option<Timestamp>,
    dead_letters: Vec<DeadLetterData>,
}

/// The outcome of each item of a request, in its order.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DeadLetterResults")]
pub(super) struct Results {
    results: Vec<Outcome>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "DeadLetterOutcome")]
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
    State(service): State<Service>,
    Admin(admin): Admin,
    Params(params): Params<ListParams>,
) -> Result<Json<ListBody>, ApiError> {
    let rows_max = limit(params.limit, LIST_DEFAULT, LIST_MAX)?;
    let below = params
        .after
        .as_deref()
        .map(|text| DeadLetterCursor::parse(text).ok_or_else(|| Fault::invalid("`after` must be the `next` of a list")));
    let (below, filter) = (below.transpose()?, filter(params)?);
    let DeadLetterList { letters, next } = service.dead_letters(&admin, &filter, below, rows_max).await?;
    let dead_letters = letters.into_iter().map(DeadLetterData::from).collect();
    Ok(Json(ListBody { dead_letters, next: next.map(|place| place.to_string()) }))
}

/// `GET /v1/admin/dead-letters/{messageId}`: what it says, and for whom it failed.
pub(super) async fn show(
    State(service): State<Service>,
    Admin(admin): Admin,
    MessagePath(message): MessagePath,
) -> Result<Json<ShowBody>, ApiError> {
    let DeadLetterDetails { content, metadata, recalled_at, letters } = service.dead_letter(&admin, message).await?;
    let metadata = metadata.and_then(|text| RawValue::from_string(text).ok());
    let dead_letters = letters.into_iter().map(DeadLetterData::from).collect();
    let recalled_at = recalled_at.map(Timestamp);
    Ok(Json(ShowBody { message_id: message, content, metadata, recalled_at, dead_letters }))
}

/// `POST /v1/admin/dead-letters/requeue {items: [{messageId, userId}]}`: each waits again, or the outcome says why not.
pub(super) async fn requeue(
    State(service): State<Service>,
    Admin(admin): Admin,
    Payload(body): Payload,
) -> Result<Json<Results>, ApiError> {
    let items: Vec<Item> = Fields::of_body(&body, ["items"])?.list("items", limits::DEAD_LETTERS_MAX)?;
    let mut results = Vec::with_capacity(items.len());
    for Item { message, user } in items {
        let done = service.requeue(&admin, message, &user).await?;
        results.push(Outcome { message_id: message, user_id: user, outcome: done.as_str(), inbox_seq: done.inbox_seq() });
    }
    Ok(Json(Results { results }))
}

/// `POST /v1/admin/dead-letters/discard {items: [{messageId, userId}], reason?}`: each is given up for good.
pub(super) async fn discard(
    State(service): State<Service>,
    Admin(admin): Admin,
    Payload(body): Payload,
) -> Result<Json<Results>, ApiError> {
    let fields = Fields::of_body(&body, ["items", "reason"])?;
    let items: Vec<Item> = fields.list("items", limits::DEAD_LETTERS_MAX)?;
    let reason = fields.optional::<String>("reason")?.unwrap_or_else(|| DISCARDED.to_owned());
    if reason.is_empty() || reason.chars().count() > limits::REASON_CHARS_MAX {
        return Err(Fault::invalid(format!("`reason` must be 1 to {} characters", limits::REASON_CHARS_MAX)).into());
    }
    let mut results = Vec::with_capacity(items.len());
    for Item { message, user } in items {
        let done = service.discard(&admin, message, &user, &reason).await?;
        results.push(Outcome { message_id: message, user_id: user, outcome: done.as_str(), inbox_seq: None });
    }
    Ok(Json(Results { results }))
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
