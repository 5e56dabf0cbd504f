//! Preferences: what a user has muted.

use super::ChatId;

/// The things that a user has muted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preferences {
    /// Types of events that make no rows for it, at most [`super::limits::MUTED_TYPES_MAX`].
    pub muted_types: Vec<String>,
    /// Chats whose messages are delivered and marked as muted, at most [`super::limits::MUTED_CHATS_MAX`].
    pub muted_chats: Vec<ChatId>,
}

/// The chats that a user has muted, for asking whether one of them is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MutedChats(Box<[ChatId]>);

impl MutedChats {
    /// Returns whether this chat is muted.
    pub fn contains(&self, chat: ChatId) -> bool {
        self.0.binary_search(&chat).is_ok()
    }
}

impl FromIterator<ChatId> for MutedChats {
    fn from_iter<I: IntoIterator<Item = ChatId>>(chats: I) -> Self {
        let mut chats: Vec<ChatId> = chats.into_iter().collect();
        chats.sort_unstable();
        Self(chats.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_is_muted_if_it_is_listed_in_whatever_order() {
        let chats: Vec<ChatId> = (0..20).map(|_| ChatId::generate()).collect();
        let muted: MutedChats = chats[..10].iter().rev().copied().collect();
        assert!(chats.iter().enumerate().all(|(n, chat)| muted.contains(*chat) == (n < 10)));
        assert!(!MutedChats::default().contains(chats[0]));
    }
}
