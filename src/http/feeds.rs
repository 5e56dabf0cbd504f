//! Feeds: making one, who publishes to it, who follows it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::chats::PersonBody;
use super::error::ApiError;
use super::extract::{Caller, FeedPath, Params, Payload, PublishCaller, limit};
use crate::domain::{ExternalId, FeedId, limits};
use crate::protocol::fields::{Fields, small_number};
use crate::protocol::{Fault, Timestamp};
use crate::service::{FeedList, FeedRole, FeedView, FollowChange, FollowerList, NewFeed, PublisherChange, Service};

const FEEDS_DEFAULT: u16 = 50;
const FEEDS_MAX: u16 = 100;
const FOLLOWERS_DEFAULT: u16 = 200;
const FOLLOWERS_MAX: u16 = 500;

/// A feed that is there.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "FeedMade")]
pub(super) struct MadeBody {
    feed_id: FeedId,
}

/// A feed as the caller sees it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Feed")]
pub(super) struct FeedBody {
    feed_id: FeedId,
    title: Option<String>,
    created_at: Timestamp,
    /// The caller made it.
    is_maker: bool,
    /// The caller may publish to it.
    is_publisher: bool,
    /// The caller follows it.
    is_follower: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "FeedList")]
pub(super) struct ListBody {
    feeds: Vec<FeedBody>,
    /// To be passed as `after` for those that follow; null: these were the last.
    next: Option<FeedId>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "FollowerList")]
pub(super) struct FollowersBody {
    followers: Vec<PersonBody>,
    /// To be passed as `after` for those that follow; null: these were the last.
    next: Option<ExternalId>,
}

/// The answer to a change.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Done {}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "FeedListQuery")]
pub(super) struct ListParams {
    #[schemars(extend("enum" = ["follower", "publisher"], "default" = "follower"))]
    role: Option<String>,
    #[schemars(with = "Option<FeedId>")]
    after: Option<Uuid>,
    #[serde(default, deserialize_with = "small_number")]
    #[schemars(range(min = 1, max = FEEDS_MAX), extend("default" = FEEDS_DEFAULT))]
    limit: Option<u16>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "FollowersQuery")]
pub(super) struct FollowersParams {
    after: Option<ExternalId>,
    #[serde(default, deserialize_with = "small_number")]
    #[schemars(range(min = 1, max = FOLLOWERS_MAX), extend("default" = FOLLOWERS_DEFAULT))]
    limit: Option<u16>,
}

/// Reads the request of `POST /v1/feeds`.
fn new_feed(body: &[u8]) -> Result<NewFeed, Fault> {
    let fields = Fields::of_body(body, ["feedId", "title", "publishers"])?;
    let title = fields.optional::<String>("title")?;
    if title.as_ref().is_some_and(|title| title.chars().count() > limits::TITLE_CHARS_MAX) {
        return Err(Fault::invalid(format!("`title` must be at most {} characters", limits::TITLE_CHARS_MAX)));
    }
    let mut publishers: Vec<ExternalId> = fields.optional_list("publishers", limits::IDS_MAX)?.unwrap_or_default();
    publishers.sort_unstable();
    publishers.dedup();
    Ok(NewFeed { feed: fields.optional("feedId")?, title, publishers })
}

/// `POST /v1/feeds {feedId?, title?, publishers?}`: the caller is its maker and first publisher.
pub(super) async fn create(
    State(service): State<Service>,
    PublishCaller(caller): PublishCaller,
    Payload(body): Payload,
) -> Result<(StatusCode, Json<MadeBody>), ApiError> {
    let feed_id = service.make_feed(&caller, new_feed(&body)?).await?;
    Ok((StatusCode::CREATED, Json(MadeBody { feed_id })))
}

/// `GET /v1/feeds?role=&after=&limit=`: those that the caller follows, or with `role=publisher` may publish to.
pub(super) async fn list(
    State(service): State<Service>,
    Caller(caller): Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<ListBody>, ApiError> {
    let limit = limit(params.limit, FEEDS_DEFAULT, FEEDS_MAX)?;
    let role = match params.role.as_deref() {
        None | Some("follower") => FeedRole::Follower,
        Some("publisher") => FeedRole::Publisher,
        Some(_) => return Err(Fault::invalid("`role` must be follower or publisher").into()),
    };
    let FeedList { feeds, next } = service.feeds(&caller, role, params.after.map(FeedId), limit).await?;
    Ok(Json(ListBody { feeds: feeds.into_iter().map(FeedBody::from).collect(), next }))
}

/// `GET /v1/feeds/{feedId}`: one feed.
pub(super) async fn show(
    State(service): State<Service>,
    Caller(caller): Caller,
    FeedPath(feed): FeedPath,
) -> Result<Json<FeedBody>, ApiError> {
    Ok(Json(service.feed(&caller, feed).await?.into()))
}

/// `GET /v1/feeds/{feedId}/followers?after=&limit=`: for publishers.
pub(super) async fn followers(
    State(service): State<Service>,
    PublishCaller(caller): PublishCaller,
    FeedPath(feed): FeedPath,
    Params(params): Params<FollowersParams>,
) -> Result<Json<FollowersBody>, ApiError> {
    let limit = limit(params.limit, FOLLOWERS_DEFAULT, FOLLOWERS_MAX)?;
    let FollowerList { followers, next } = service.followers(&caller, feed, params.after.as_ref(), limit).await?;
    Ok(Json(FollowersBody { followers: followers.into_iter().map(PersonBody::from).collect(), next }))
}

/// `POST /v1/feeds/{feedId}/publishers {userIds}`: for its maker.
pub(super) async fn add_publishers(
    State(service): State<Service>,
    PublishCaller(caller): PublishCaller,
    FeedPath(feed): FeedPath,
    Payload(body): Payload,
) -> Result<Json<Done>, ApiError> {
    service.change_publishers(&caller, feed, PublisherChange::Add, &user_ids(&body)?).await?;
    Ok(Json(Done {}))
}

/// `DELETE /v1/feeds/{feedId}/publishers {userIds}`: for its maker, who stays.
pub(super) async fn remove_publishers(
    State(service): State<Service>,
    PublishCaller(caller): PublishCaller,
    FeedPath(feed): FeedPath,
    Payload(body): Payload,
) -> Result<Json<Done>, ApiError> {
    service.change_publishers(&caller, feed, PublisherChange::Remove, &user_ids(&body)?).await?;
    Ok(Json(Done {}))
}

/// `POST /v1/feeds/{feedId}/follow {userIds?}`: the caller follows, or these users.
pub(super) async fn follow(
    State(service): State<Service>,
    PublishCaller(caller): PublishCaller,
    FeedPath(feed): FeedPath,
    Payload(body): Payload,
) -> Result<Json<Done>, ApiError> {
    service.change_followers(&caller, feed, FollowChange::Follow, user_ids_or_none(&body)?.as_deref()).await?;
    Ok(Json(Done {}))
}

/// `POST /v1/feeds/{feedId}/unfollow {userIds?}`: the caller follows no more, or these users.
pub(super) async fn unfollow(
    State(service): State<Service>,
    PublishCaller(caller): PublishCaller,
    FeedPath(feed): FeedPath,
    Payload(body): Payload,
) -> Result<Json<Done>, ApiError> {
    service.change_followers(&caller, feed, FollowChange::Unfollow, user_ids_or_none(&body)?.as_deref()).await?;
    Ok(Json(Done {}))
}

fn user_ids(body: &[u8]) -> Result<Vec<ExternalId>, Fault> {
    Fields::of_body(body, ["userIds"])?.list("userIds", limits::IDS_MAX)
}

/// None: no body, or one that names nobody. Many clients send none.
fn user_ids_or_none(body: &[u8]) -> Result<Option<Vec<ExternalId>>, Fault> {
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    Fields::of_body(body, ["userIds"])?.optional_list("userIds", limits::IDS_MAX)
}

impl From<FeedView> for FeedBody {
    fn from(view: FeedView) -> Self {
        Self {
            feed_id: view.feed,
            title: view.title,
            created_at: view.created_at.into(),
            is_maker: view.is_maker,
            is_publisher: view.is_publisher,
            is_follower: view.is_follower,
        }
    }
}
