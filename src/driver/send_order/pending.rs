//! A message of a client that no lane has yet.

use crate::domain::{ChatId, ExternalId, MessageId};
use crate::protocol::client::{FrameId, SendRequest, SendTarget};

/// A message on its way to a lane.
#[derive(Debug)]
pub(in crate::driver) struct PendingSend {
    /// The id of its frame; none: the client wants no answer.
    pub(in crate::driver) id: Option<FrameId>,
    /// The request of the client.
    pub(in crate::driver) request: SendRequest,
    /// Its place among the sends of the connection, as they were received.
    pub(super) no: u64,
}

/// The target of a send, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::driver) struct Place {
    /// The user that it names.
    pub(super) name: Option<ExternalId>,
    /// Its chat.
    pub(super) chat: Option<ChatId>,
}

impl PendingSend {
    /// A send that is being received.
    pub(in crate::driver) const fn new(id: Option<FrameId>, request: SendRequest) -> Self {
        Self { id, request, no: 0 }
    }

    /// The id that the client has chosen. A send without one takes no part in the order of refusals.
    pub(super) const fn message(&self) -> Option<MessageId> {
        self.request.message_id
    }

    /// The user that it names.
    pub(super) const fn name(&self) -> Option<&ExternalId> {
        match &self.request.target {
            SendTarget::User(name) => Some(name),
            SendTarget::Chat(_) => None,
        }
    }

    /// Bytes of what it says.
    pub(super) fn bytes(&self) -> usize {
        self.request.content.len() + self.request.metadata.as_ref().map_or(0, |metadata| metadata.get().len())
    }
}

impl Place {
    /// True when a send to this place may be one to the other.
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.name.is_some() && self.name == other.name || self.chat.is_some() && self.chat == other.chat
    }
}
