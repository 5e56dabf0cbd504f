//! Contacts and blocks: the commands of users, the answers, and the events that the other user is told. The answers are the bodies of HTTP too.

use schemars::JsonSchema;
use serde::Serialize;

use super::fields::{data_fields, page_limit};
use super::invitations::{InvitationCommand, InvitationListOk, InvitationOk};
use super::server::Shape;
use super::{Fault, Timestamp};
use crate::domain::ExternalId;

/// A command about another user, or about the list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeopleCommand {
    /// `contact:request`, `contact:accept`, `contact:decline`, `contact:remove`: of this user.
    Contact(ContactCommand, ExternalId),
    /// `contact:list`.
    Contacts(ContactListing, PeoplePage),
    /// `block:add`: the caller blocks this user.
    Block(ExternalId),
    /// `block:remove`: the caller blocks this user no more.
    Unblock(ExternalId),
    /// `block:list`.
    Blocks(PeoplePage),
    /// `invitation:accept`, `invitation:decline`, `invitation:list`.
    Invitation(InvitationCommand),
}

/// A change of what the caller has with another user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContactCommand {
    /// Requests it, or accepts its request.
    Request,
    /// Accepts its request.
    Accept,
    /// Declines its request.
    Decline,
    /// Removes it, or takes the request back.
    Remove,
}

/// A list of users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContactListing {
    /// The caller's contacts.
    Contact,
    /// Those that the caller has requested.
    Requested,
    /// Those that have requested the caller.
    Incoming,
}

/// The part of a list that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeoplePage {
    /// Behind this user; none: from the first on.
    pub after: Option<ExternalId>,
    /// The largest number of users, 1 to [`PEOPLE_PAGE_MAX`](crate::domain::limits::PEOPLE_PAGE_MAX).
    pub limit: u16,
}

/// An answer to a [`PeopleCommand`].
#[derive(Debug, Clone)]
pub enum PeopleAnswer {
    /// `contact:ok`.
    Contact(ContactOk),
    /// `contact:list:ok`.
    Contacts(ContactListOk),
    /// `block:ok`.
    Block(BlockOk),
    /// `block:list:ok`.
    Blocks(BlockListOk),
    /// `invitation:ok`.
    Invitation(InvitationOk),
    /// `invitation:list:ok`.
    Invitations(InvitationListOk),
}

/// `contact:ok`: what the caller has with a user.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContactOk {
    /// The user.
    pub user_id: ExternalId,
    /// Its state for the caller.
    pub state: ContactStateWord,
}

/// The state of two users after a change, for one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ContactState")]
pub enum ContactStateWord {
    /// Neither has requested the other.
    None,
    /// The caller has requested it.
    Requested,
    /// They are contacts.
    Contact,
}

/// `contact:list:ok`: a part of a list of contacts.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContactListOk {
    /// The users.
    pub contacts: Vec<ContactData>,
    /// To be passed as `after` for those that follow; null: these were the last.
    pub next: Option<ExternalId>,
}

/// A user in a list of contacts.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Contact")]
pub struct ContactData {
    /// The user.
    pub user_id: ExternalId,
    /// Its name.
    pub name: Option<String>,
    /// The address of its picture.
    pub profile_picture: Option<String>,
    /// Since when they are contacts, or one has requested the other.
    pub since: Timestamp,
}

macro_rules! told {
    ($($(#[$doc:meta])* $event:literal $name:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize, JsonSchema)]
        #[serde(rename_all = "camelCase")]
        pub struct $name<'a> {
            /// The other user.
            pub user_id: &'a ExternalId,
            /// The one of the two that has done it.
            pub by: &'a ExternalId,
        }
        impl Shape for $name<'_> {
            const EVENT: &'static str = $event;
        }
    )* };
}

told! {
    /// `contact:requested`: one of two users has requested the other as a contact.
    "contact:requested" ContactRequested;
    /// `contact:accepted`: two users are contacts.
    "contact:accepted" ContactAccepted;
    /// `contact:removed`: two users are no contacts, and a request of one of them is gone.
    "contact:removed" ContactRemoved;
}

/// `block:ok`: a user is blocked, or is not.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockOk {
    /// The user.
    pub user_id: ExternalId,
    /// The caller has blocked it.
    pub is_blocked: bool,
}

/// `block:list:ok`: a part of the users that the caller has blocked.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockListOk {
    /// The users.
    pub blocks: Vec<BlockData>,
    /// To be passed as `after` for those that follow; null: these were the last.
    pub next: Option<ExternalId>,
}

/// A user that the caller has blocked.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Block")]
pub struct BlockData {
    /// The user.
    pub user_id: ExternalId,
    /// Its name.
    pub name: Option<String>,
    /// The address of its picture.
    pub profile_picture: Option<String>,
    /// Since when.
    pub blocked_at: Timestamp,
}

impl Shape for ContactOk {
    const EVENT: &'static str = "contact:ok";
}

impl Shape for ContactListOk {
    const EVENT: &'static str = "contact:list:ok";
}

impl Shape for BlockOk {
    const EVENT: &'static str = "block:ok";
}

impl Shape for BlockListOk {
    const EVENT: &'static str = "block:list:ok";
}

/// Reads the user of a command.
///
/// # Errors
/// It is missing, or no user's id.
pub(super) fn user(data: &str) -> Result<ExternalId, Fault> {
    data_fields(data, ["userId"])?.required("userId")
}

/// Reads the data of `contact:list`.
///
/// # Errors
/// A field is not valid.
pub(super) fn contact_list(data: &str) -> Result<PeopleCommand, Fault> {
    let state: Option<String> = data_fields(data, ["state"])?.optional("state")?;
    Ok(PeopleCommand::Contacts(contact_listing(state.as_deref())?, PeoplePage::parse(data)?))
}

/// The list of this name; without a name the contacts.
///
/// # Errors
/// There is no such list.
pub fn contact_listing(state: Option<&str>) -> Result<ContactListing, Fault> {
    match state {
        None | Some("contact") => Ok(ContactListing::Contact),
        Some("requested") => Ok(ContactListing::Requested),
        Some("incoming") => Ok(ContactListing::Incoming),
        Some(_) => Err(Fault::invalid("`state` must be \"contact\", \"requested\" or \"incoming\"")),
    }
}

impl PeoplePage {
    /// Reads it from a JSON object.
    ///
    /// # Errors
    /// A field is not valid.
    pub(super) fn parse(data: &str) -> Result<Self, Fault> {
        let fields = data_fields(data, ["after", "limit"])?;
        let limit = fields.optional::<u64>("limit")?.map(|limit| u16::try_from(limit).unwrap_or(u16::MAX));
        Self::new(fields.optional("after")?, limit)
    }

    /// A part behind `after`; without a limit [`PEOPLE_PAGE_DEFAULT`](crate::domain::limits::PEOPLE_PAGE_DEFAULT) users.
    ///
    /// # Errors
    /// The limit is 0 or too large.
    pub fn new(after: Option<ExternalId>, limit: Option<u16>) -> Result<Self, Fault> {
        Ok(Self { after, limit: page_limit(limit)? })
    }
}
