//! The client of a session: who it is, and what it asked for when it connected.

use std::sync::Arc;

use super::invitations::Invitations;
use super::mutes::Mutes;
use crate::domain::{AddressBlock, DeviceId, PerClass, Profile, SessionId, UserId};
use crate::hub::{AckWay, Mailbox, SharedToken};
use crate::service::Role;

/// A client with a session that is registered in the hub.
#[derive(Debug)]
pub struct Client {
    /// The session's id: this connection's name in logs.
    pub session: SessionId,
    /// The user.
    pub profile: Arc<Profile>,
    /// The role that its newest token gives.
    pub role: Role,
    /// The address that it comes from, if that is known.
    pub address: Option<AddressBlock>,
    /// The options that the client sent when it connected.
    pub options: ConnectOptions,
    /// The number of this connection of its device; none without a device.
    pub session_no: Option<i64>,
    /// The token that it lives on.
    pub token: SharedToken,
    /// The mailbox through which other tasks reach this connection.
    pub mailbox: Mailbox,
    /// The chats that the user has muted, as this session knows them.
    pub(super) mutes: Mutes,
    /// The invitations of which the client was told.
    pub(super) invitations: Invitations,
}

impl Client {
    /// The number of the user.
    pub fn user(&self) -> UserId {
        self.profile.user
    }
}

/// The options that a client sends when it connects. They are checked.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// The device.
    pub device: Option<DeviceId>,
    /// Envelopes emitted and not yet acked, at most (1 to 500).
    pub window: u16,
    /// Envelopes come as batches.
    pub is_batched: bool,
    /// The place at which the client resumes. None: it does not resume.
    pub resume: Option<Resume>,
    /// The marks cursor that it kept.
    pub marks: Option<String>,
    /// The way by which its acks come.
    pub acks: AckWay,
}

/// "I have everything up to these numbers."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The epoch that the numbers are of.
    pub epoch: String,
    /// Per class, the highest number that the client has; none: the client says nothing of the class.
    pub since: PerClass<Option<i64>>,
}
