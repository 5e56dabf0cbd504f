//! The inbox without a socket: look, ack, reject. Looking marks nothing; only the ack makes a message delivered.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::extract::{Caller, Params, Payload, limit};
use crate::connection::Shared;
use crate::delivery::{Acks, Attempt, AttemptTarget, Refusal};
use crate::domain::{Class, InboxSeq, MessageId, PageRow, Profile, limits};
use crate::protocol::client::{AckRequest, RejectRequest, parse_body};
use crate::protocol::message::ReceiveData;
use crate::protocol::server::{DeliveredOk, RejectOk};
use crate::protocol::{Code, Fault};
use crate::store::{Inbox, PageRequest};

/// Waiting messages of one answer, at most.
const LIST_MAX: u16 = 500;
/// Rows acked in one go for an `upTo`.
const ACK_PAGE: u16 = 500;

#[derive(Debug, Deserialize)]
pub(super) struct ListParams {
    after: Option<i64>,
    limit: Option<u16>,
    class: Option<Class>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InboxBody<'a> {
    class: Class,
    /// As `message:receive`.
    messages: Vec<ReceiveData<'a>>,
    /// The highest number given.
    last_seq: InboxSeq,
    /// More waits behind the last of these.
    more: bool,
}

/// `GET /v1/inbox?after=&limit=&class=`: what waits above a number, oldest first.
pub(super) async fn list(
    State(shared): State<Shared>,
    Caller(caller): Caller,
    Params(params): Params<ListParams>,
) -> Result<Response, ApiError> {
    let limit = limit(params.limit, limits::PAGE_ROWS, LIST_MAX)?;
    let class = params.class.unwrap_or_default();
    let refused = |cause| ApiError::from_store(&shared, &cause);
    // Nothing waits at or below settled_seq: the read starts there, and not at the beginning of a long life.
    let settled = settled(&shared, &caller, class).await?;
    let mut place = settled.max(InboxSeq(params.after.unwrap_or(0)));
    let page = loop {
        shared.metrics.page_read(class);
        let page = shared.store.page(PageRequest::Look, caller.user, class, place, limit).await.map_err(refused)?;
        shared.metrics.unreadable_rows.inc_by(page.unreadable_rows());
        // Of a page that is nothing but gaps the client would have no number to go on from.
        match page.rows.last() {
            Some(PageRow::Gap { to, .. }) if !page.is_last && page.is_all_gaps() => place = *to,
            _ => break page,
        }
    };
    let messages = page.rows.iter().filter_map(|row| match row {
        PageRow::Envelope(envelope) => Some(ReceiveData::new(envelope, envelope.attempts.saturating_add(1))),
        PageRow::Gap { .. } => None,
    });
    let body = InboxBody { class, messages: messages.collect(), last_seq: page.last_seq, more: !page.is_last };
    Ok(Json(body).into_response())
}

/// `POST /v1/inbox/ack`: the data of `message:delivered`. Answered when it is committed.
pub(super) async fn ack(
    State(shared): State<Shared>,
    Caller(caller): Caller,
    Payload(body): Payload,
) -> Result<Json<DeliveredOk>, ApiError> {
    let request = parse_body(&body, AckRequest::parse)?;
    // Acks of connections wait for the database; a request would rather be repeated.
    if shared.delivery.health().is_away() {
        return Err(Refusal::Unavailable.into());
    }
    match request {
        AckRequest::Messages(messages) => settle(&shared, &caller, messages).await?,
        AckRequest::UpTo { class, seq } => ack_up_to(&shared, &caller, class, seq).await?,
    }
    Ok(Json(DeliveredOk {}))
}

/// Up to where nothing waits.
async fn settled(shared: &Shared, caller: &Profile, class: Class) -> Result<InboxSeq, ApiError> {
    let advanced = shared.store.advance_settled(&[Inbox { user: caller.user, class }]).await;
    let advanced = advanced.map_err(|cause| ApiError::from_store(shared, &cause))?;
    Ok(advanced.into_iter().flatten().next().unwrap_or_default())
}

/// Without a connection nothing was emitted, so everything that was given out may be acked.
async fn ack_up_to(shared: &Shared, caller: &Arc<Profile>, class: Class, up_to: InboxSeq) -> Result<(), ApiError> {
    let refused = |cause| ApiError::from_store(shared, &cause);
    let end = shared.store.page(PageRequest::Look, caller.user, class, InboxSeq(i64::MAX), 1).await.map_err(refused)?;
    if up_to > end.last_seq {
        let words = format!("`upTo` is above {}, the highest number of the inbox; nothing was changed", end.last_seq);
        return Err(Fault::new(Code::AckAhead, words).into());
    }
    let settled = settled(shared, caller, class).await?;
    loop {
        let waiting = shared.store.waiting_up_to(caller.user, class, settled, up_to, ACK_PAGE).await.map_err(refused)?;
        let is_last = waiting.len() < usize::from(ACK_PAGE);
        settle(shared, caller, waiting).await?;
        if is_last {
            return Ok(());
        }
    }
}

async fn settle(shared: &Shared, caller: &Arc<Profile>, by_id: Vec<MessageId>) -> Result<(), Refusal> {
    if by_id.is_empty() {
        return Ok(());
    }
    shared.delivery.settle(Acks { user: Arc::clone(caller), rows: Vec::new(), by_id, marks: Vec::new(), device: None }).await
}

/// `POST /v1/inbox/reject`: the data of `message:reject`.
pub(super) async fn reject(
    State(shared): State<Shared>,
    Caller(caller): Caller,
    Payload(body): Payload,
) -> Result<Json<RejectOk>, ApiError> {
    let RejectRequest { message, reason, is_final } = parse_body(&body, RejectRequest::parse)?;
    let attempt = Attempt { user: caller, target: AttemptTarget::Message(message), reason, is_final };
    let outcome = shared.delivery.count_attempt(attempt).await?;
    Ok(Json(RejectOk::new(message, outcome)))
}
