//! The chats that the user of a session has muted, as the session remembers them. What it emits is marked by them.
//!
//! They come with the overview that a session reads at its beginning and whenever it checks the marks. When a change is told they are
//! read by themselves, and nothing is emitted before the answer: what is sent to the client after the change is marked by it.

use std::sync::Arc;

use futures_util::FutureExt;

use super::effects;
use super::{Driver, OperationResult, Outgoing};
use crate::domain::{Class, Envelope, MutedChats};
use crate::session::Effect;

/// The muted chats, and what waits while they are read.
#[derive(Debug, Default)]
pub(super) struct Mutes {
    chats: MutedChats,
    /// Changes that were told. A read that began before the last of them says nothing.
    changes: u64,
    is_reading: bool,
    /// Effects that wait for the read, in order. The session emits no more than its windows hold.
    kept: Vec<Effect>,
}

impl Mutes {
    pub(super) fn new(chats: MutedChats) -> Self {
        Self { chats, ..Self::default() }
    }

    /// The number of changes that were told so far, to be given back together with what a read brings.
    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    /// An overview that was asked for after so many changes has brought these.
    pub(super) fn read(&mut self, changes: u64, chats: MutedChats) {
        if changes == self.changes {
            self.chats = chats;
        }
    }

    /// Marks an envelope that is about to be sent.
    pub(super) fn mark(&self, envelope: &mut Envelope) {
        envelope.is_muted = envelope.class == Class::Chat && self.chats.contains(envelope.message.chat);
    }

    /// Keeps an effect that has to wait for a read. None: it was kept.
    pub(super) fn pass(&mut self, effect: Effect) -> Option<Effect> {
        match effect {
            Effect::Emit(_) | Effect::Drained { .. } if self.is_reading => {
                self.kept.push(effect);
                None
            }
            effect => Some(effect),
        }
    }
}

/// A change was told.
pub(super) fn changed<O: Outgoing>(driver: &mut Driver<O>) {
    driver.client.mutes.changes += 1;
    // A read that is in progress is repeated when it ends.
    if !driver.client.mutes.is_reading {
        read(driver);
    }
}

fn read<O: Outgoing>(driver: &mut Driver<O>) {
    driver.client.mutes.is_reading = true;
    let changes = driver.client.mutes.changes;
    let muted = driver.context.service.muted_chats(Arc::clone(&driver.client.profile));
    driver.run(Box::pin(muted.map(move |chats| OperationResult::MutedChats(changes, chats))));
}

/// The muted chats were read by themselves, after so many changes.
pub(super) fn were_read<O: Outgoing>(driver: &mut Driver<O>, changes: u64, chats: MutedChats) {
    if changes < driver.client.mutes.changes {
        return read(driver);
    }
    driver.client.mutes.read(changes, chats);
    driver.client.mutes.is_reading = false;
    for effect in std::mem::take(&mut driver.client.mutes.kept) {
        effects::perform(driver, effect);
    }
}
