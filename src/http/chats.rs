//! Chats: making them, listing them, looking at one.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::ApiError;
use super::extract::{Caller, ChatPath, Params, Payload, limit};
use super::idempotency::IdempotencyKey;
use crate::domain::{ChatId, ChatKind, ChatSeq, ExternalId, Profile, Role, limits};
use crate::protocol::fields::{Fields, small_number};
use crate::protocol::{Code, Fault, Timestamp};
use crate::service::{ChatDetails, ChatList, ChatView, Member, MemberMarks, MembersPart, NewChat, NewChatResult, Service};

const CHATS_DEFAULT: u16 = 50;
const CHATS_MAX: u16 = 100;
const MEMBERS_DEFAULT: u16 = 200;
const MEMBERS_MAX: u16 = 500;

/// A chat as its member sees it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Chat")]
pub(super) struct ChatBody {
    chat_id: ChatId,
    kind: ChatKind,
    title: Option<String>,
    created_at: Timestamp,
    /// The highest message number.
    last_seq: ChatSeq,
    role: Role,
    /// The caller's own marks.
    #[serde(flatten)]
    marks: MarksBody,
    /// Exact while at most 1,000 messages lie above `readSeq`; else of the first 1,000.
    unread: u32,
    unread_more: bool,
    /// The other one, in a direct chat of two.
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<PersonBody>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Marks")]
struct MarksBody {
    joined_seq: ChatSeq,
    delivered_seq: ChatSeq,
    read_seq: ChatSeq,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Person")]
pub(super) struct PersonBody {
    user_id: ExternalId,
    name: Option<String>,
    profile_picture: Option<String>,
}

/// A member as others see it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Member")]
struct MemberBody {
    #[serde(flatten)]
    person: PersonBody,
    role: Role,
    #[serde(flatten)]
    marks: MarksBody,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ChatList")]
pub(super) struct ListBody {
    chats: Vec<ChatBody>,
    /// To be passed as `after` for those that follow; null: these were the last.
    next: Option<ChatId>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ChatWithMembers")]
pub(super) struct ShowBody {
    #[serde(flatten)]
    chat: ChatBody,
    #[schemars(range(min = 0))]
    member_count: i64,
    members: Vec<MemberBody>,
    /// To be passed as `membersAfter` for those that follow; null: these were the last.
    members_next: Option<ExternalId>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "ChatListQuery")]
pub(super) struct ListParams {
    #[schemars(with = "Option<ChatId>")]
    after: Option<Uuid>,
    #[serde(default, deserialize_with = "small_number")]
    #[schemars(range(min = 1, max = CHATS_MAX), extend("default" = CHATS_DEFAULT))]
    limit: Option<u16>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ChatQuery")]
pub(super) struct ShowParams {
    members_after: Option<ExternalId>,
    #[serde(default, deserialize_with = "small_number")]
    #[schemars(range(min = 1, max = MEMBERS_MAX), extend("default" = MEMBERS_DEFAULT))]
    limit: Option<u16>,
}

/// `GET /v1/chats?after=&limit=`: the caller's chats in the order of their ids.
pub(super) async fn list(
    State(service): State<Service>,
    Caller(caller): Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<ListBody>, ApiError> {
    let limit = limit(params.limit, CHATS_DEFAULT, CHATS_MAX)?;
    let ChatList { chats, next } = service.chats(&caller, params.after.map(ChatId), limit).await?;
    Ok(Json(ListBody { chats: chats.into_iter().map(ChatBody::from).collect(), next }))
}

/// `GET /v1/chats/{chatId}?membersAfter=&limit=`: one chat, with its members and their marks.
pub(super) async fn show(
    State(service): State<Service>,
    Caller(caller): Caller,
    ChatPath(chat): ChatPath,
    Params(params): Params<ShowParams>,
) -> Result<Json<ShowBody>, ApiError> {
    let limit = limit(params.limit, MEMBERS_DEFAULT, MEMBERS_MAX)?;
    let part = MembersPart { after: params.members_after.as_ref(), limit };
    let ChatDetails { chat, member_count, members, members_next } = service.chat(&caller, chat, part).await?;
    let members = members.into_iter().map(MemberBody::from).collect();
    Ok(Json(ShowBody { chat: chat.into(), member_count, members, members_next }))
}

/// Reads the request of `POST /v1/chats`. A group has this id, if there is one.
fn new_chat(body: &[u8], caller: &Profile, id: Option<ChatId>) -> Result<NewChat, Fault> {
    let fields = Fields::of_body(body, ["kind", "title", "members"])?;
    let title = fields.optional::<String>("title")?;
    if title.as_ref().is_some_and(|title| title.chars().count() > limits::TITLE_CHARS_MAX) {
        return Err(Fault::invalid(format!("`title` must be at most {} characters", limits::TITLE_CHARS_MAX)));
    }
    // The caller is one of them anyway.
    let mut members: Vec<ExternalId> = fields.optional_list("members", limits::MEMBERS_MAX)?.unwrap_or_default();
    let named_itself = members.contains(&caller.external);
    members.retain(|member| *member != caller.external);
    members.sort_unstable();
    members.dedup();
    match fields.required::<String>("kind")?.as_str() {
        "group" if members.len() >= limits::MEMBERS_MAX => Err(Fault::plain(Code::TooManyMembers)),
        "group" => Ok(NewChat::Group { id, title, members }),
        "direct" => match (members.pop(), members.is_empty(), named_itself) {
            (Some(other), true, _) => Ok(NewChat::Direct(other)),
            (None, _, true) => Ok(NewChat::Direct(caller.external.clone())),
            (Some(_), false, _) | (None, _, false) => Err(Fault::invalid("`members` of a direct chat must name one user")),
        },
        _ => Err(Fault::invalid("`kind` must be \"direct\" or \"group\"")),
    }
}

/// `POST /v1/chats {kind, title?, members}`: 201, or 200 for a chat that was there already: a direct one, or the group of this key.
pub(super) async fn create(
    State(service): State<Service>,
    Caller(caller): Caller,
    key: IdempotencyKey,
    Payload(body): Payload,
) -> Result<(StatusCode, Json<ChatBody>), ApiError> {
    let new = new_chat(&body, &caller, key.chat(&caller.external))?;
    let NewChatResult { chat, is_new } = service.create_chat(&caller, new).await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(chat.into())))
}

impl From<ChatView> for ChatBody {
    fn from(view: ChatView) -> Self {
        Self {
            chat_id: view.chat,
            kind: view.kind,
            title: view.title,
            created_at: view.created_at.into(),
            last_seq: view.last_seq,
            role: view.role,
            marks: view.marks.into(),
            unread: view.unread,
            unread_more: view.unread_more,
            other: view.other.map(PersonBody::from),
        }
    }
}

impl From<MemberMarks> for MarksBody {
    fn from(marks: MemberMarks) -> Self {
        Self { joined_seq: marks.joined, delivered_seq: marks.delivered, read_seq: marks.read }
    }
}

impl From<Profile> for PersonBody {
    fn from(profile: Profile) -> Self {
        Self { user_id: profile.external, name: profile.name, profile_picture: profile.picture }
    }
}

impl From<Member> for MemberBody {
    fn from(member: Member) -> Self {
        Self { person: member.profile.into(), role: member.role, marks: member.marks.into() }
    }
}
