//! The names of the events of `/ws`, read from the sources that read and write them.

use std::collections::BTreeSet;

use restante::protocol::Fault;
use restante::protocol::invitations::{ChatUninvited, InvitationData, InvitationListOk, InvitationOk};
use restante::protocol::people::{BlockListOk, BlockOk, ContactAccepted, ContactListOk, ContactOk, ContactRemoved, ContactRequested};
use restante::protocol::recalled::{RecallOk, Recalled};
use restante::protocol::server::Shape;

use crate::{quoted, read};

/// The names of all events, from the code that reads and writes them.
pub fn events() -> BTreeSet<String> {
    let reading = read("src/protocol/client.rs");
    let is_event = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c == ':');
    let mut names: BTreeSet<String> = BTreeSet::new();
    for line in reading.lines().map(str::trim).filter(|line| line.starts_with('"') && line.contains("\" => ")) {
        names.extend(quoted(line).take(1).map(str::to_owned));
    }
    let writing = read("src/protocol/server.rs");
    let table = writing.split("\nevents! {").nth(1).unwrap();
    for line in table.lines().map(str::trim).filter(|line| line.starts_with('"') && line.contains('{')) {
        names.extend(quoted(line).take(1).map(str::to_owned));
    }
    let messages = [read("src/protocol/message.rs"), read("src/protocol/feed_event.rs")].concat();
    for piece in messages.split(r#"{"event":""#).skip(1) {
        names.extend(piece.split('"').next().map(str::to_owned));
    }
    names.extend([<Fault as Shape>::EVENT, <RecallOk as Shape>::EVENT, <Recalled as Shape>::EVENT].map(str::to_owned));
    names.extend([<ContactOk as Shape>::EVENT, <ContactListOk as Shape>::EVENT, <ContactRequested as Shape>::EVENT].map(str::to_owned));
    names.extend([<ContactAccepted as Shape>::EVENT, <ContactRemoved as Shape>::EVENT].map(str::to_owned));
    names.extend([<InvitationData as Shape>::EVENT, <ChatUninvited as Shape>::EVENT].map(str::to_owned));
    names.extend([<InvitationOk as Shape>::EVENT, <InvitationListOk as Shape>::EVENT].map(str::to_owned));
    names.extend([<BlockOk as Shape>::EVENT, <BlockListOk as Shape>::EVENT].map(str::to_owned));
    assert!(names.len() >= 28 && names.iter().all(|name| is_event(name)), "{names:?}");
    names
}
