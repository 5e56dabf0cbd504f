//! The inbox without a socket: look, ack, reject. Looking marks nothing; only the ack makes a message delivered.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::extract::{Caller, Params, Payload, limit, number};
use crate::domain::{Class, DeviceId, InboxSeq, Page, PageRow, limits};
use crate::protocol::Fault;
use crate::protocol::client::{AckRequest, RejectRequest, parse_body};
use crate::protocol::feed_event::EventData;
use crate::protocol::fields::small_number;
use crate::protocol::recalled::InboxItem;
use crate::protocol::server::{DeliveredOk, RejectOk};
use crate::service::Service;

/// Waiting messages of one answer, at most.
const LIST_MAX: u16 = 500;

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "InboxQuery")]
pub(super) struct ListParams {
    #[schemars(with = "Option<InboxSeq>")]
    after: Option<String>,
    #[serde(default, deserialize_with = "small_number")]
    #[schemars(range(min = 1, max = LIST_MAX), extend("default" = limits::PAGE_ROWS))]
    limit: Option<u16>,
    class: Option<Class>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Inbox")]
pub(super) struct InboxBody<'a> {
    class: Class,
    #[serde(flatten)]
    items: Items<'a>,
    /// The highest number given.
    last_seq: InboxSeq,
    /// More waits behind the last of these.
    more: bool,
}

/// The part of an inbox that an answer shows.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "InboxItems")]
pub(super) enum Items<'a> {
    /// Of the class chat: as `message:receive`, and notices as `message:recalled`.
    Messages(Vec<InboxItem<'a>>),
    /// Of the other classes: as `event:receive`.
    Events(Vec<EventData<'a>>),
}

impl<'a> Items<'a> {
    fn of(page: &'a Page) -> Self {
        let envelopes = page.rows.iter().filter_map(|row| match row {
            PageRow::Envelope(envelope) => Some((envelope, envelope.attempts.saturating_add(1))),
            PageRow::Gap { .. } => None,
        });
        match page.class {
            Class::Chat => Self::Messages(envelopes.map(|(envelope, attempt)| InboxItem::of(envelope, attempt)).collect()),
            Class::Alert | Class::Event => Self::Events(envelopes.map(|(envelope, attempt)| EventData::new(envelope, attempt)).collect()),
        }
    }
}

/// `GET /v1/inbox?after=&limit=&class=`: what waits above a number, oldest first.
pub(super) async fn list(
    State(service): State<Service>,
    Caller(caller): Caller,
    Params(params): Params<ListParams>,
) -> Result<Response, ApiError> {
    let limit = limit(params.limit, limits::PAGE_ROWS, LIST_MAX)?;
    let class = params.class.unwrap_or_default();
    let after = number("after", params.after.as_deref())?.unwrap_or(0);
    let page = service.inbox(&caller, class, InboxSeq(after), limit).await?;
    let body = InboxBody { class, items: Items::of(&page), last_seq: page.last_seq, more: !page.is_last };
    Ok(Json(body).into_response())
}

/// The query of an ack and of a reject: which client it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "ClientQuery")]
pub(super) struct ClientParams {
    #[schemars(with = "Option<DeviceId>")]
    device: Option<String>,
}

impl ClientParams {
    fn device(self) -> Result<Option<DeviceId>, Fault> {
        self.device.map(DeviceId::try_from).transpose().map_err(|error| Fault::invalid(error.to_string()))
    }
}

/// `POST /v1/inbox/ack?device=`: the data of `message:delivered`. Answered when it is committed.
pub(super) async fn ack(
    State(service): State<Service>,
    Caller(caller): Caller,
    Params(client): Params<ClientParams>,
    Payload(body): Payload,
) -> Result<Json<DeliveredOk>, ApiError> {
    let device = client.device()?;
    let request = parse_body(&body, AckRequest::parse)?;
    service.ack(&caller, device, request).await?;
    Ok(Json(DeliveredOk {}))
}

/// `POST /v1/inbox/reject?device=`: the data of `message:reject`.
pub(super) async fn reject(
    State(service): State<Service>,
    Caller(caller): Caller,
    Params(client): Params<ClientParams>,
    Payload(body): Payload,
) -> Result<Json<RejectOk>, ApiError> {
    let device = client.device()?;
    let request = parse_body(&body, RejectRequest::parse)?;
    let message = request.message;
    Ok(Json(RejectOk::new(message, service.reject(caller, device, request).await?)))
}
