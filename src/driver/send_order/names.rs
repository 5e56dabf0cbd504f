//! Sends that name a user whose direct chat is not known yet, and those that must not overtake them.
//!
//! The messages of a connection to one chat are stored in the order in which they were received. A name stands for one chat, so
//! sends to other names may overtake. A chat that is named by its id may be the chat that a lookup is about to return. Such a
//! send waits until all names before it are resolved, or until one of them is resolved to this chat. This module uses neither
//! the database nor the socket.

use std::collections::{HashMap, VecDeque};

use super::pending::PendingSend;
use crate::domain::{ChatId, ExternalId};

/// Sends that wait at most; then no further frame is read.
const SENDS_MAX: usize = 100;
/// Bytes of what they say, likewise.
const BYTES_MAX: usize = 1024 * 1024;

/// Those that wait, in order.
#[derive(Debug, Default)]
pub(super) struct NameOrder {
    names: HashMap<ExternalId, Unresolved>,
    /// To known chats, behind names.
    behind: VecDeque<Behind>,
    last_no: u64,
    sends: usize,
    bytes: usize,
}

/// Sends to one name. The first one is from when the name was asked for.
#[derive(Debug)]
struct Unresolved {
    sends: Vec<Numbered>,
}

/// Sends are numbered as they come.
#[derive(Debug)]
struct Numbered {
    no: u64,
    send: PendingSend,
}

#[derive(Debug)]
struct Behind {
    chat: ChatId,
    numbered: Numbered,
}

/// Says if the caller must look a name up. It must for the first send to that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    ToAsk,
    Already,
}

/// The sends that may go once a name is resolved, in order.
#[derive(Debug, Default)]
pub(super) struct Released {
    /// To these chats.
    pub(super) sends: Vec<(ChatId, PendingSend)>,
    /// Nowhere: the name has no chat.
    pub(super) refused: Vec<PendingSend>,
}

impl NameOrder {
    pub(super) fn is_empty(&self) -> bool {
        self.sends == 0
    }

    /// Sends that wait.
    pub(super) const fn len(&self) -> usize {
        self.sends
    }

    /// Returns whether more may be taken in.
    pub(super) const fn has_room(&self) -> bool {
        self.sends < SENDS_MAX && self.bytes < BYTES_MAX
    }

    /// Names that are not resolved.
    pub(super) fn names(&self) -> impl Iterator<Item = &ExternalId> {
        self.names.keys()
    }

    /// Returns whether something waits for this name.
    pub(super) fn awaits(&self, name: &ExternalId) -> bool {
        self.names.contains_key(name)
    }

    /// Keeps a send until its name is resolved.
    pub(super) fn hold(&mut self, name: ExternalId, send: PendingSend) -> Question {
        let numbered = self.numbered(send);
        let unresolved = self.names.entry(name).or_insert(Unresolved { sends: Vec::new() });
        unresolved.sends.push(numbered);
        if unresolved.sends.len() == 1 { Question::ToAsk } else { Question::Already }
    }

    /// A send to a chat that was named by its id: given back if no name before it can mean that chat.
    pub(super) fn follow(&mut self, chat: ChatId, send: PendingSend) -> Option<PendingSend> {
        if self.names.is_empty() {
            return Some(send);
        }
        let numbered = self.numbered(send);
        self.behind.push_back(Behind { chat, numbered });
        None
    }

    /// A send to the chat of a name that is known: no name that is unresolved means it, but the chat's id may have been used.
    pub(super) fn follow_known(&mut self, chat: ChatId, send: PendingSend) -> Option<PendingSend> {
        if self.behind.iter().all(|behind| behind.chat != chat) { Some(send) } else { self.follow(chat, send) }
    }

    /// This name has this chat, or none.
    pub(super) fn resolved(&mut self, name: &ExternalId, chat: Option<ChatId>) -> Released {
        let mut released = Released::default();
        let of_name = self.names.remove(name).map_or_else(Vec::new, |unresolved| unresolved.sends);
        match chat {
            None => released.refused.extend(of_name.into_iter().map(|numbered| numbered.send)),
            Some(chat) => {
                let mut of_chat: Vec<_> = of_name.into_iter().chain(self.behind_of(chat)).collect();
                of_chat.sort_by_key(|numbered| numbered.no);
                released.sends.extend(of_chat.into_iter().map(|numbered| (chat, numbered.send)));
            }
        }
        released.sends.extend(self.behind_nothing());
        for send in released.sends.iter().map(|(_, send)| send).chain(&released.refused) {
            self.sends -= 1;
            self.bytes -= send.bytes();
        }
        released
    }

    /// Takes out the sends to this user or this chat of which `is_taken` holds, in order. A lookup that is under way goes on.
    pub(super) fn take_out(
        &mut self,
        name: Option<&ExternalId>,
        chat: Option<ChatId>,
        is_taken: impl Fn(&PendingSend) -> bool,
    ) -> Vec<PendingSend> {
        let of_name = name.and_then(|name| self.names.get_mut(name));
        let mut taken: Vec<Numbered> =
            of_name.into_iter().flat_map(|unresolved| unresolved.sends.extract_if(.., |numbered| is_taken(&numbered.send))).collect();
        let (of_chat, others) =
            std::mem::take(&mut self.behind).into_iter().partition(|behind| Some(behind.chat) == chat && is_taken(&behind.numbered.send));
        self.behind = others;
        let of_chat: VecDeque<Behind> = of_chat;
        taken.extend(of_chat.into_iter().map(|behind| behind.numbered));
        taken.sort_by_key(|numbered| numbered.no);
        for numbered in &taken {
            self.sends -= 1;
            self.bytes -= numbered.send.bytes();
        }
        taken.into_iter().map(|numbered| numbered.send).collect()
    }

    /// Gives back the room that a busier time has left behind.
    pub(super) fn shrink(&mut self) {
        self.names.shrink_to_fit();
        self.behind.shrink_to_fit();
    }

    fn numbered(&mut self, send: PendingSend) -> Numbered {
        self.last_no += 1;
        self.sends += 1;
        self.bytes += send.bytes();
        Numbered { no: self.last_no, send }
    }

    fn behind_of(&mut self, chat: ChatId) -> Vec<Numbered> {
        if self.behind.iter().all(|behind| behind.chat != chat) {
            return Vec::new();
        }
        let (its, others): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.behind).into_iter().partition(|behind| behind.chat == chat);
        self.behind = others;
        its.into_iter().map(|behind| behind.numbered).collect()
    }

    /// Those before which no name is unresolved any more.
    fn behind_nothing(&mut self) -> Vec<(ChatId, PendingSend)> {
        if self.behind.is_empty() {
            return Vec::new();
        }
        let firsts = self.names.values().filter_map(|unresolved| unresolved.sends.first());
        let free_below = firsts.map(|first| first.no).min().unwrap_or(u64::MAX);
        let free = self.behind.iter().take_while(|behind| behind.numbered.no < free_below).count();
        self.behind.drain(..free).map(|behind| (behind.chat, behind.numbered.send)).collect()
    }
}

#[cfg(test)]
mod tests;
