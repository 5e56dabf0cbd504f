//! The protocol of Restante as a model small enough to read, and every state of it looked at.
//!
//! A model is no test of the code: it says that the protocol is right, whatever happens in which order. The code is held
//! against the same properties by its own tests. What an action stands for:
//!
//! | action | in the code |
//! |---|---|
//! | `Send`, `Write` | `restante_accept` (`migrations/20261128000003_accepting.sql`), its steps 1 and 2, 4, 5; sent by `Lane::try_once` (`src/delivery/accept.rs`) |
//! | `AdvanceSettled` | `restante_advance_settled` (`migrations/20261128000004_settling.sql`), lock and look |
//! | `Open`, `Register` | `open` (`src/driver/opening.rs`): `restante_open`, then `Hub::register`, and only then the first page |
//! | `Take` | `restante_take` (`migrations/20261128000013_taking.sql`), its look, its lock, and what it writes under the lock; an event is stored by `restante_publish_batch` (`migrations/20261128000014_publishing.sql`) |
//! | `TakeTogether` | `FeedWakes::take_for` (`src/service/feed_wakes.rs`): `restante_take_together`, then `Hub::offer` |
//! | `ReadPage` | `src/store/sql/page_waiting.sql`, for a device `src/store/sql/page_everything.sql` |
//! | `PageArrives` | `Inbox::page` (`crates/restante-session/src/session/inbox.rs`), then `Session::carry_on` (`crates/restante-session/src/session/drain.rs`), which emits |
//! | `Offer`, `Wake` | `Inbox::offer`, `Inbox::nudge`: what `Hub::offer` and `Hub::wake` bring, from this node or another |
//! | `Receive`, `Reject` | the client: takes an envelope and acks it, or refuses it for good |
//! | `AckArrives` | `Session::ack` (`crates/restante-session/src/session/ack.rs`), `DeviceCursor::advance` (`crates/restante-session/src/session/device.rs`) |
//! | `CommitAcks` | `restante_settle` (`migrations/20261128000004_settling.sql`), one transaction |
//! | `Requeue` | `restante_requeue` (`migrations/20261128000009_operators.sql`) |
//! | `Displace` | a newer connection of the device is heard of: the lower number yields |
//! | `Break`, `Crash` | a socket is lost with all that is on it; a node with its connections, transactions and queued acks |
//! | `Look` | `Session::polled` (`crates/restante-session/src/session/fallback_poll.rs`). The model does without; only its way to rest needs it |
//!
//! Hints are given no order and no fate: any row that is committed may be hinted to any connection that is registered, at
//! any time, again and again, or never. So they are late, doubled, reordered and lost in every way there is. `owed` only
//! remembers which of them would be news.
//!
//! In reading order: `database`, `taking`, `connection`, `world` (the actions), `properties`, `checked`.
//!
//! Each [`Defect`] is a mistake that is easily made, or was made. With it in the world a certain property must fail. Otherwise the
//! property, or the model, says nothing. `cargo test -p restante-model -- --nocapture` prints how many states there were,
//! and how each defect does its harm.

mod checked;
mod connection;
mod database;
mod defect;
mod properties;
mod taking;
mod world;

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};

use defect::Defect;
use properties::{ACKED, CURSOR, GAPS, HINT, ONCE, ONE_LIVES, ONE_PER_HUB, ORDER, REACHED, REST, SETTLED, TAKEN};
use world::{Action, World};

/// Two messages of two chats, so that their transactions meet at the inbox only.
const ONE_SOCKET: World = World {
    defect: None,
    messages: 2,
    sends: 2,
    connects: 2,
    crashes: 1,
    sockets: 1,
    has_device: false,
    requeues: 0,
    page_rows: 2,
    window: 1,
    feeds: 0,
};
/// A node may crash with the answer: the message is sent again, by the other one, or while the first is under way.
const SENT_AGAIN: World = World { messages: 1, ..ONE_SOCKET };
/// More than a page, more than the window, two messages of one chat.
const THREE_MESSAGES: World = World { messages: 3, sends: 3, connects: 1, crashes: 0, ..ONE_SOCKET };
/// The client refuses, the operator puts back.
const REQUEUED: World = World { requeues: 1, ..ONE_SOCKET };
/// Two sockets of one user at once, on one node or two.
const TWO_SOCKETS: World = World { messages: 1, sends: 1, sockets: 2, ..ONE_SOCKET };
/// A device that reconnects.
const DEVICE: World = World { has_device: true, window: 2, ..ONE_SOCKET };
/// The same with its old socket alive meanwhile.
const DEVICE_TWICE: World = World { messages: 1, sends: 1, connects: 3, sockets: 2, has_device: true, ..ONE_SOCKET };
/// An event to a listed user, which is a row at once, and one of a feed that the user follows.
const FEED: World = World { feeds: 0b10, crashes: 0, ..ONE_SOCKET };
/// Three events of two feeds: more than a take may write at once.
const FEEDS: World = World { feeds: 0b11, messages: 3, sends: 3, connects: 1, crashes: 0, ..ONE_SOCKET };
/// Two pages of one user are read at once, and each takes.
const TWO_TAKES: World = World { feeds: 0b01, messages: 1, sends: 1, sockets: 2, ..ONE_SOCKET };

/// Looks at every state of a sound world.
fn holds(name: &str, world: World) {
    let checker = world.checker().threads(2).spawn_bfs().join();
    println!("{name}: {} states", checker.unique_state_count());
    for (property, path) in checker.discoveries() {
        assert!(REACHED.contains(&property), "{name}, {property}: {:#?}", path.into_actions());
    }
    for property in REACHED {
        // One connection in a life without a crash gets nothing twice.
        assert!(checker.discovery(property).is_some() || world_has_one_life(name), "{name}: never {property}");
    }
}

/// Worlds in which the client connects once.
fn world_has_one_life(name: &str) -> bool {
    ["three messages", "feeds"].contains(&name)
}

/// Finds the shortest way in which the defect breaks the property.
fn breaks(defect: Defect, property: &'static str, world: World) -> Vec<Action> {
    let world = World { defect: Some(defect), ..world };
    let checker = world.checker().finish_when(HasDiscoveries::AllOf(BTreeSet::from([property]))).spawn_bfs().join();
    let path = checker.discovery(property).unwrap_or_else(|| panic!("{defect:?} breaks nothing")).into_actions();
    println!("{defect:?} breaks \"{property}\" in {} steps: {path:?}", path.len());
    path
}

#[test]
fn everything_holds_whatever_crashes_breaks_or_comes_late() {
    holds("one socket", ONE_SOCKET);
    holds("sent again", SENT_AGAIN);
}

#[test]
fn everything_holds_with_more_than_a_page_and_a_window() {
    holds("three messages", THREE_MESSAGES);
}

#[test]
fn everything_holds_when_an_operator_puts_a_message_back() {
    holds("requeued", REQUEUED);
}

#[test]
fn everything_holds_with_two_sockets_at_once() {
    holds("two sockets", TWO_SOCKETS);
}

#[test]
fn everything_holds_for_a_device_that_comes_back_and_for_one_whose_old_socket_lives() {
    holds("device", DEVICE);
    holds("device twice", DEVICE_TWICE);
}

#[test]
fn everything_holds_for_events_that_become_rows_when_a_page_is_read() {
    holds("feed", FEED);
    holds("feeds", FEEDS);
    holds("two takes", TWO_TAKES);
}

#[test]
fn registering_after_taking_leaves_an_event_without_a_wake() {
    let path = breaks(Defect::RegistersAfterReading, HINT, TWO_TAKES);
    assert!(path.iter().any(|action| matches!(action, Action::Take(_))), "the page was taken before: {path:?}");
}

#[test]
fn a_take_of_what_it_saw_before_the_lock_makes_a_row_twice() {
    breaks(Defect::TakesWhatItSawBeforeTheLock, ONCE, TWO_TAKES);
}

#[test]
fn a_cursor_from_a_later_statement_passes_an_event() {
    breaks(Defect::CursorFromALaterStatement, TAKEN, FEEDS);
}

#[test]
fn a_node_that_finds_the_rows_made_and_wakes_nobody_leaves_one_without_a_hint() {
    breaks(Defect::WakesNobodyWhoseRowsAreMade, HINT, TWO_TAKES);
}

#[test]
fn a_wake_forgotten_while_taking_leaves_an_event_without_one() {
    breaks(Defect::ForgetsHintsWhileReading, HINT, FEED);
}

#[test]
fn delivered_when_emitted_is_delivered_without_an_ack() {
    breaks(Defect::DeliveredWhenEmitted, ACKED, ONE_SOCKET);
}

#[test]
fn numbers_given_before_the_lock_are_passed_by_a_cursor() {
    let path = breaks(Defect::NumbersBeforeTheLock, CURSOR, ONE_SOCKET);
    let sends = path.iter().filter(|action| matches!(action, Action::Send(..)));
    assert_eq!(sends.count(), 2, "commits came in another order than numbers");
    breaks(Defect::NumbersBeforeTheLock, GAPS, ONE_SOCKET);
    breaks(Defect::NumbersBeforeTheLock, ORDER, World { messages: 3, crashes: 0, ..ONE_SOCKET });
}

#[test]
fn registering_after_reading_leaves_a_message_without_a_hint() {
    breaks(Defect::RegistersAfterReading, HINT, ONE_SOCKET);
}

#[test]
fn a_last_seq_from_a_later_statement_takes_the_cursor_past_a_message() {
    breaks(Defect::LastSeqFromALaterStatement, CURSOR, ONE_SOCKET);
}

#[test]
fn settled_seq_from_the_locking_statement_overtakes_a_message_for_ever() {
    breaks(Defect::SettledInTheLockingStatement, SETTLED, ONE_SOCKET);
    breaks(Defect::SettledInTheLockingStatement, REST, ONE_SOCKET);
}

#[test]
fn displacing_in_order_of_arrival_ends_the_newest_connection() {
    breaks(Defect::DisplacedInOrderOfArrival, ONE_LIVES, DEVICE_TWICE);
}

#[test]
fn a_hub_that_does_not_look_has_a_device_twice() {
    breaks(Defect::HubLetsADeviceInTwice, ONE_PER_HUB, DEVICE_TWICE);
}

#[test]
fn a_hint_forgotten_while_reading_leaves_a_message_without_one() {
    breaks(Defect::ForgetsHintsWhileReading, HINT, ONE_SOCKET);
}

#[test]
fn settling_whatever_the_status_delivers_twice() {
    breaks(Defect::SettlesWhateverTheStatus, ONCE, ONE_SOCKET);
}

#[test]
fn an_id_looked_for_before_the_lock_is_stored_twice() {
    breaks(Defect::LooksForTheIdBeforeTheLock, ONCE, SENT_AGAIN);
}

#[test]
fn a_device_cursor_that_jumps_over_holes_leaves_a_message_behind() {
    breaks(Defect::DeviceCursorJumpsOverHoles, properties::DEVICE, DEVICE);
}

#[test]
fn what_the_map_names_exists() {
    let map = include_str!("model.rs").lines().filter_map(|line| line.strip_prefix("//! |"));
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the model lies in the repository");
    let files = map.flat_map(|line| line.split('`')).filter(|span| span.contains('/'));
    let (there, missing): (Vec<&str>, Vec<&str>) = files.partition(|file| root.join(file).is_file());
    assert!(there.len() > 10 && missing.is_empty(), "{missing:?}");
}
