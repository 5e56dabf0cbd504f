//! Invitations to groups: the commands of the one who is invited, the answers, and what it is told. The answers are the bodies of HTTP too.

use schemars::JsonSchema;
use serde::Serialize;

use super::fields::{data_fields, page_limit};
use super::server::Shape;
use super::{Fault, Timestamp};
use crate::domain::{ChatId, ChatSeq, ExternalId};

/// A command about an invitation, or about the list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvitationCommand {
    /// `invitation:accept`: the caller is a member of this group from now on.
    Accept(ChatId),
    /// `invitation:decline`.
    Decline(ChatId),
    /// `invitation:list`.
    List(InvitationPage),
}

/// The part of a list of invitations that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitationPage {
    /// Behind the invitation to this chat; none: from the first on.
    pub after: Option<ChatId>,
    /// The largest number of invitations.
    pub limit: u16,
}

/// `invitation:ok`: an invitation is answered.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InvitationOk {
    /// The group.
    pub chat_id: ChatId,
    /// The caller's state in it.
    pub state: InvitationStateWord,
    /// As a member the caller gets messages above this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joined_seq: Option<ChatSeq>,
}

/// The state of somebody who was invited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "InvitationState")]
pub enum InvitationStateWord {
    /// It has accepted.
    Member,
    /// It has declined.
    Declined,
}

/// `invitation:list:ok`: a part of the invitations that wait for the caller.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InvitationListOk {
    /// The invitations, in the order of their chats.
    pub invitations: Vec<InvitationData>,
    /// To be passed as `after` for those that follow; null: these were the last.
    pub next: Option<ChatId>,
}

/// `chat:invited`: the user is invited to a group. The same is an entry of the list.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Invitation")]
pub struct InvitationData {
    /// The group.
    pub chat_id: ChatId,
    /// Its title.
    pub title: Option<String>,
    /// The admin that has invited the user.
    pub by: ExternalId,
    /// Its name.
    pub name: Option<String>,
    /// The address of its picture.
    pub profile_picture: Option<String>,
    /// Since when.
    pub invited_at: Timestamp,
    /// The end of the invitation.
    pub expires_at: Timestamp,
}

/// `chat:uninvited`: an invitation waits no more. It was accepted, declined or withdrawn, or has ended otherwise.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChatUninvited {
    /// The group.
    pub chat_id: ChatId,
}

impl Shape for InvitationOk {
    const EVENT: &'static str = "invitation:ok";
}

impl Shape for InvitationListOk {
    const EVENT: &'static str = "invitation:list:ok";
}

impl Shape for InvitationData {
    const EVENT: &'static str = "chat:invited";
}

impl Shape for ChatUninvited {
    const EVENT: &'static str = "chat:uninvited";
}

impl InvitationPage {
    /// A part behind `after`; without a limit 100 invitations.
    ///
    /// # Errors
    /// The limit is 0 or too large.
    pub fn new(after: Option<ChatId>, limit: Option<u16>) -> Result<Self, Fault> {
        Ok(Self { after, limit: page_limit(limit)? })
    }
}

/// Reads the group of a command.
///
/// # Errors
/// It is missing, or no chat's id.
pub(super) fn accept(data: &str) -> Result<InvitationCommand, Fault> {
    chat(data).map(InvitationCommand::Accept)
}

/// Reads the group of a command.
///
/// # Errors
/// It is missing, or no chat's id.
pub(super) fn decline(data: &str) -> Result<InvitationCommand, Fault> {
    chat(data).map(InvitationCommand::Decline)
}

/// Reads the data of `invitation:list`.
///
/// # Errors
/// A field is not valid.
pub(super) fn list(data: &str) -> Result<InvitationCommand, Fault> {
    let fields = data_fields(data, ["after", "limit"])?;
    let limit = fields.optional::<u64>("limit")?.map(|limit| u16::try_from(limit).unwrap_or(u16::MAX));
    Ok(InvitationCommand::List(InvitationPage::new(fields.optional("after")?, limit)?))
}

fn chat(data: &str) -> Result<ChatId, Fault> {
    data_fields(data, ["chatId"])?.required("chatId")
}
