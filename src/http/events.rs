//! Publishing events, and looking at how far one has got.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::error::ApiError;
use super::extract::{EventPath, Payload, PublishCaller};
use super::idempotency::IdempotencyKey;
use crate::domain::{Class, FeedId, GapReason, MessageId};
use crate::protocol::publish::{PublishBody, PublishItem, PublishRequest};
use crate::protocol::server::Published;
use crate::protocol::{Code, EventFiguresData, Fault, Timestamp};
use crate::service::{EventAddress, EventProgress, Publication, Publisher, Service};

/// The outcome of each event of a list, in its order.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PublishResults")]
pub(super) struct Results {
    results: Vec<Outcome>,
}

/// The outcome of one event of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "PublishOutcome")]
pub(super) enum Outcome {
    /// It is stored.
    Published(Published),
    /// It is not.
    #[serde(rename_all = "camelCase")]
    Refused {
        /// Its id; missing where none could be read.
        #[serde(skip_serializing_if = "Option::is_none")]
        event_id: Option<MessageId>,
        error: Fault,
    },
}

/// `POST /v1/events`: the data of `event:publish`, or `{events: […]}` with an outcome for each. Answered when all are stored or refused.
pub(super) async fn publish(
    State(service): State<Service>,
    PublishCaller(publisher): PublishCaller,
    key: IdempotencyKey,
    Payload(body): Payload,
) -> Result<Response, ApiError> {
    match PublishBody::parse(&body)? {
        PublishBody::One(mut request) => {
            request.event_id = request.event_id.or_else(|| key.message(&publisher.profile.external));
            let publication = service.publish(&publisher, vec![*request]).await.pop().ok_or(Code::Internal)?;
            let published = publication.outcome?;
            Ok(Json(body_of(publication.event, published)).into_response())
        }
        PublishBody::Many(items) => {
            let results = publish_many(&service, &publisher, items).await;
            Ok(Json(Results { results }).into_response())
        }
    }
}

/// The progress of an event.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "EventProgress")]
pub(super) struct ProgressBody {
    event_id: MessageId,
    #[serde(rename = "type")]
    event_type: String,
    class: Class,
    to: ToBody,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    /// The number of listed users; null: it went to a feed or to everyone.
    recipients: Option<u64>,
    /// Rows of recipients, and what became of them. Of more than 10,000 the first 10,000 are counted.
    written: u64,
    delivered: u64,
    read: u64,
    /// By reason.
    #[serde(serialize_with = "by_reason")]
    #[schemars(with = "BTreeMap<String, u64>")]
    ended: Vec<(GapReason, u64)>,
    /// There are more rows than were counted.
    more: bool,
    /// The figures of all its rows, as far as they were counted beside the queue. Null: none were yet, or it has expired a day ago.
    figures: Option<EventFiguresData>,
}

/// The target of an event, as `to` names it; the names of listed users are not repeated.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "EventTarget")]
pub(super) enum ToBody {
    Users(u64),
    Feed(FeedId),
    Everyone(bool),
}

/// `GET /v1/events/{eventId}`: how far it has got, for its publisher.
pub(super) async fn show(
    State(service): State<Service>,
    PublishCaller(caller): PublishCaller,
    EventPath(event): EventPath,
) -> Result<Json<ProgressBody>, ApiError> {
    let progress = service.event(&caller, event).await?;
    let figures = service.event_figures(&caller.profile.external, event).await?;
    let figures = figures.map(|(as_of, figures)| EventFiguresData::new(None, as_of.into(), figures));
    Ok(Json(ProgressBody { figures, ..progress.into() }))
}

fn by_reason<S: Serializer>(ended: &[(GapReason, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(ended.iter().copied())
}

/// Publishes those that can be, and puts the outcomes into the order of the list.
async fn publish_many(service: &Service, publisher: &Publisher, items: Vec<PublishItem>) -> Vec<Outcome> {
    let mut requests: Vec<PublishRequest> = Vec::with_capacity(items.len());
    let mut unreadable: BTreeMap<usize, Outcome> = BTreeMap::new();
    for (place, item) in items.into_iter().enumerate() {
        match item {
            Ok(request) => requests.push(request),
            Err((event_id, error)) => _ = unreadable.insert(place, Outcome::Refused { event_id, error }),
        }
    }
    let mut published = service.publish(publisher, requests).await.into_iter().map(Outcome::from);
    let places = 0..published.len() + unreadable.len();
    places.filter_map(|place| unreadable.remove(&place).or_else(|| published.next())).collect()
}

fn body_of(event: MessageId, published: crate::service::Published) -> Published {
    Published { event_id: event, created_at: published.created_at.into(), duplicate: published.is_duplicate }
}

impl From<EventProgress> for ProgressBody {
    fn from(progress: EventProgress) -> Self {
        let to = match progress.to {
            EventAddress::Users => ToBody::Users(progress.recipients.unwrap_or_default()),
            EventAddress::Feed(feed) => ToBody::Feed(feed),
            EventAddress::Everyone => ToBody::Everyone(true),
        };
        Self {
            event_id: progress.id,
            event_type: progress.event_type,
            class: progress.class,
            to,
            created_at: progress.created_at.into(),
            expires_at: progress.expires_at.map(Timestamp),
            recipients: progress.recipients,
            written: progress.rows.written,
            delivered: progress.rows.delivered,
            read: progress.rows.read,
            ended: progress.rows.ended,
            more: progress.rows.more,
            figures: None,
        }
    }
}

impl From<Publication> for Outcome {
    fn from(Publication { event, outcome }: Publication) -> Self {
        match outcome {
            Ok(published) => Self::Published(body_of(event, published)),
            Err(refusal) => Self::Refused { event_id: Some(event), error: refusal.into() },
        }
    }
}
