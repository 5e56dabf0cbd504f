//! The chains of a connection: one for each chat to which something of it is on its way to a lane.

use std::collections::HashMap;

use crate::delivery::Chain;
use crate::domain::{ChatId, MessageId};

/// The chains, by chat. There are no more of them than sends without an answer.
#[derive(Debug, Default)]
pub(super) struct Chains(HashMap<ChatId, Open>);

/// A chain with sends that have no answer.
#[derive(Debug)]
struct Open {
    chain: Chain,
    sends: usize,
}

impl Chains {
    /// The place of a send that goes to this chat now, and was received as this number.
    pub(super) fn enter(&mut self, chat: ChatId, no: u64) -> Chain {
        let open = self.0.entry(chat).or_insert_with(|| Open { chain: Chain::begin(), sends: 0 });
        open.sends += 1;
        open.chain.at(no)
    }

    /// A send to this chat has its answer. The chain ends with its last one.
    pub(super) fn leave(&mut self, chat: ChatId) {
        let Some(open) = self.0.get_mut(&chat) else { return };
        open.sends -= 1;
        if open.sends == 0 {
            self.0.remove(&chat);
        }
    }

    /// The first message of the chat's chain that was refused. Others of the chain have no answer yet.
    pub(super) fn broken_by(&self, chat: ChatId) -> Option<MessageId> {
        self.0.get(&chat)?.chain.broken_by()
    }

    /// Gives back the room that a busier time has left behind.
    pub(super) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }
}
