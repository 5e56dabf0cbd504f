//! The properties of every state, with the names of `ARCHITECTURE.md`, and the states that must be reachable, so that no property holds
//! only because nothing happens.

use stateright::Property;

use super::connection::{Connection, Supply};
use super::database::{Hint, Row, Status, Writer, chat_of};
use super::world::{Action, State, World};

pub(crate) const SETTLED: &str = "I2: nothing at or below settled_seq waits";
pub(crate) const CURSOR: &str = "I2: what waits at or below a cursor is held, or its ack is on the way to the database";
pub(crate) const HINT: &str = "I2: what waits above the cursor of a live session has a hint on its way";
pub(crate) const REST: &str = "I2: without luck, and without a hint, everything that waits is delivered in the end";
pub(crate) const DEVICE: &str = "I2: nothing behind a device's cursor lacks its ack";
pub(crate) const ORDER: &str = "I3: a chat is first seen in the order of its numbers";
pub(crate) const ACKED: &str = "I5: nothing is delivered before an ack of it has arrived";
pub(crate) const GAPS: &str = "I6: numbers run 1, 2, 3, … in the order of commits";
pub(crate) const ONCE: &str = "I8: a message is one row, delivered once, with one receipt";
pub(crate) const ONE_PER_HUB: &str = "a device has one connection on a node";
pub(crate) const ONE_LIVES: &str = "once all is told, the newest connection of a device lives, and no other";

pub(crate) const TAKEN: &str = "I2: an event that a follower's cursor has passed is a row of its inbox";

pub(crate) const REACHED: [&str; 3] = ["a session is live", "everything is delivered", "something comes twice"];

pub(crate) fn all() -> Vec<Property<World>> {
    vec![
        Property::<World>::always(SETTLED, |_, state| state.database.waiting().all(|row| row.seq > state.database.settled_seq)),
        Property::<World>::always(CURSOR, |_, state| state.database.waiting().all(|row| is_in_nobodys_past(state, row))),
        Property::<World>::always(HINT, |_, state| {
            state.database.waiting().all(|row| is_owed_to_the_live(state, row))
                && state.database.untaken().all(|event| live(state).all(|it| it.owed.contains(Hint::Event(event.message).place())))
        }),
        Property::<World>::always(REST, comes_to_rest),
        Property::<World>::always(DEVICE, |world, state| {
            let behind = |row: &&Row| row.seq <= state.database.acked_seq && row.status != Status::Failed;
            !world.has_device || state.database.rows.iter().filter(behind).all(|row| state.acked.contains(row.message))
        }),
        // A message that an operator puts back comes late.
        Property::<World>::always(ORDER, |world, state| world.requeues > 0 || is_seen_in_order(state)),
        Property::<World>::always(ACKED, |_, state| {
            state.database.rows.iter().all(|row| row.status != Status::Delivered || state.acked.contains(row.message))
        }),
        Property::<World>::always(GAPS, |_, state| has_no_gaps(state)),
        Property::<World>::always(ONCE, |world, state| {
            let rows = &state.database.rows;
            (0..world.messages).all(|message| rows.iter().filter(|row| row.message == message).count() <= 1)
                && rows.iter().all(|row| row.deliveries <= 1)
        }),
        Property::<World>::always(TAKEN, |_, state| {
            let database = &state.database;
            let passed = database.events.iter().filter(|event| event.seq <= database.cursors[chat_of(event.message)]);
            passed.into_iter().all(|event| database.rows.iter().any(|row| row.message == event.message))
        }),
        Property::<World>::always(ONE_PER_HUB, |world, state| {
            let on = |node| state.sockets.iter().flatten().filter(move |it| it.node == node && it.is_registered()).count();
            !world.has_device || (on(0) <= 1 && on(1) <= 1)
        }),
        Property::<World>::always(ONE_LIVES, the_newest_lives),
        Property::<World>::sometimes(REACHED[0], |_, state| state.sockets.iter().flatten().any(|it| it.supply == Supply::Live)),
        Property::<World>::sometimes(REACHED[1], |world, state| {
            let delivered = state.database.rows.iter().filter(|row| row.status == Status::Delivered);
            delivered.count() == usize::from(world.messages)
        }),
        Property::<World>::sometimes(REACHED[2], |_, state| {
            state.sockets.iter().flatten().any(|it| it.down.iter().any(|message| state.seen.contains(message)))
        }),
    ]
}

fn is_in_nobodys_past(state: &State, row: &Row) -> bool {
    let is_acked = |node: u8| state.lanes[usize::from(node)].acks.contains(row.message);
    state.sockets.iter().flatten().all(|it| row.seq > it.cursor || it.holds(row.seq) || is_acked(it.node))
}

fn live(state: &State) -> impl Iterator<Item = &Connection> {
    state.sockets.iter().flatten().filter(|it| it.is_registered() && it.supply == Supply::Live)
}

/// A row that a take of another session has made is told by the wake of its stream.
fn is_owed_to_the_live(state: &State, row: &Row) -> bool {
    let hints = [Hint::Row(row.seq), Hint::Event(row.message)];
    live(state).all(|it| row.seq <= it.cursor || hints.iter().any(|hint| it.owed.contains(hint.place())))
}

/// Goes on from here with what happens by itself, and a client that connects if it is not there: nothing is lost from
/// now on, and no hint arrives.
fn comes_to_rest(world: &World, state: &State) -> bool {
    const ROUNDS: usize = 30;
    let mut state = state.clone();
    for _ in 0..ROUNDS {
        let is_idle = state.database.writers.iter().all(|writer| *writer == Writer::Idle);
        if is_idle && state.database.waiting().next().is_none() && state.database.untaken().next().is_none() {
            return true;
        }
        if state.sockets.iter().all(Option::is_none) {
            state.connects_left = 1;
            world.act(&mut state, Action::Open(0));
        }
        let mut actions = Vec::new();
        world.helpful(&state, &mut actions);
        actions.extend((0..state.sockets.len()).map(Action::Look));
        for action in actions {
            world.act(&mut state, action);
        }
    }
    false
}

fn is_seen_in_order(state: &State) -> bool {
    let number = |message: u8| state.database.rows.iter().find(|row| row.message == message).map(|row| row.chat_seq);
    let of = |chat| state.seen.iter().filter(move |message| chat_of(**message) == chat).map(|message| number(*message));
    of(0).is_sorted() && of(1).is_sorted()
}

fn has_no_gaps(state: &State) -> bool {
    let database = &state.database;
    let mut numbers: Vec<u8> = database.rows.iter().map(|row| row.seq).collect();
    let is_commit_order = numbers.is_sorted();
    numbers.extend(database.gaps.iter());
    numbers.sort_unstable();
    let chat_is_whole = |chat: usize| {
        let rows = database.rows.iter().filter(|row| chat_of(row.message) == chat).map(|row| row.chat_seq);
        let events = database.events.iter().filter(|event| chat_of(event.message) == chat).map(|event| event.seq);
        let is_feed = database.feeds & (1 << chat) != 0;
        let mut numbers: Vec<u8> = if is_feed { events.collect() } else { rows.collect() };
        let is_commit_order = numbers.is_sorted() || !database.gaps.is_empty();
        numbers.sort_unstable();
        is_commit_order && numbers.into_iter().eq(1..=database.chats[chat])
    };
    is_commit_order && numbers.into_iter().eq(1..=database.last_seq) && chat_is_whole(0) && chat_is_whole(1)
}

fn the_newest_lives(world: &World, state: &State) -> bool {
    let live = |state: &State| -> Vec<u8> { state.sockets.iter().flatten().filter(|it| it.is_registered()).map(|it| it.number).collect() };
    let before = live(state);
    if !world.has_device || before.is_empty() {
        return !state.newest_yielded;
    }
    let mut told = state.clone();
    for socket in 0..told.sockets.len() {
        for number in &before {
            if told.sockets[socket].as_ref().is_some_and(|it| it.is_registered()) {
                world.act(&mut told, Action::Displace(socket, *number));
            }
        }
    }
    !told.newest_yielded && live(&told) == [before.iter().copied().max().unwrap_or(0)]
}
