//! Notes from other tasks: offers, receipts, notices, and requests to read the marks.

use std::sync::Arc;
use std::time::Instant;

use super::commands::ack;
use super::receipts::Next;
use super::{Driver, OperationResult, Outgoing};
use super::{invitations, mutes};
use crate::domain::{Class, Message, UserId};
use crate::hub::{Found, Missed, Note, Reader};
use crate::protocol::Code;
use crate::protocol::client::CommittedAnswer;
use crate::protocol::event::{Encoded, Notice, ServerEvent};
use crate::service::OverviewQuery;
use crate::session::Input;
use crate::store::{MarksRead, Overview, PageToken};

/// Notes taken before the caller looks at everything else again.
const NOTES_AT_ONCE: usize = 32;

/// Takes what was found in the mailbox, and some of what follows.
pub(super) fn found<O: Outgoing>(driver: &mut Driver<O>, first: Found, more: &mut Reader) {
    take(driver, first);
    for _ in 1..NOTES_AT_ONCE {
        let Some(found) = more.try_next() else { return };
        take(driver, found);
    }
}

fn take<O: Outgoing>(driver: &mut Driver<O>, found: Found) {
    match found {
        Found::Closing(code) => driver.close(code),
        Found::Note(note) => take_note(driver, note),
        Found::Missed(missed) => look_for(driver, missed),
    }
}

fn take_note<O: Outgoing>(driver: &mut Driver<O>, note: Note) {
    match note {
        Note::Offer(envelope) => driver.handle(Input::Offer(*envelope)),
        Note::Receipt(receipt) => match driver.receipts.receipt(Instant::now(), receipt) {
            Some(event) => driver.outbox.event(None, &event),
            None => read_moved_marks(driver),
        },
        Note::ReadUpTo(chat, seq) => {
            driver.handle(Input::ReadUpTo(chat, seq));
            if let Some(event) = driver.receipts.read_elsewhere(chat, seq) {
                driver.outbox.event(None, &event);
            }
        }
        Note::Echo(message) => driver.outbox.event(None, &ServerEvent::Echo(message)),
        Note::EchoOf(message) => {
            if driver.receipts.echoes.add(message) {
                read_echoes(driver);
            }
        }
        Note::Notice(notice) => {
            // Before the client is told: nothing of the chat is emitted after it.
            if let Notice::Removed { chat, left_seq, .. } = *notice {
                driver.handle(Input::Left(chat, left_seq));
            }
            driver.outbox.event(None, &ServerEvent::Notice(notice));
        }
        Note::PreferencesChanged => mutes::changed(driver),
        Note::MaySee(user) => watch(driver, &[user]),
        Note::Answered(answer) => driver.handle(committed(&answer)),
    }
}

/// The answer of a client that came by another way than its connection.
fn committed(answer: &CommittedAnswer) -> Input {
    match answer {
        CommittedAnswer::Acks(request) => Input::AckCommitted(ack::target(request.clone())),
        CommittedAnswer::Reject { message, attempts } => Input::RejectCommitted { message: *message, attempts: *attempts },
    }
}

fn look_for<O: Outgoing>(driver: &mut Driver<O>, missed: Missed) {
    // First: what is read for the other reasons is emitted after it.
    if missed.preferences() {
        mutes::changed(driver);
    }
    for class in Class::ALL {
        if missed.wakes(class) {
            driver.handle(Input::Wake(class));
            if class != Class::Chat && driver.session.is_behind(class) {
                driver.context.service.take_ahead(&driver.client.profile, class);
            }
        }
    }
    if missed.ended() {
        driver.handle(Input::SomethingEnded);
    }
    if missed.receipts() {
        read_moved_marks(driver);
    }
}

/// Reads the marks that moved since the client was told last; at most one read at a time.
pub(super) fn read_moved_marks<O: Outgoing>(driver: &mut Driver<O>) {
    if driver.receipts.begin_read() {
        read_marks(driver, None);
    }
}

/// The first part of a read, or a further one once the client has taken those before.
fn read_marks<O: Outgoing>(driver: &mut Driver<O>, page_token: Option<PageToken>) {
    let (service, room) = (driver.context.service.clone(), driver.outbox.room());
    let (user, since) = (Arc::clone(&driver.client.profile), driver.receipts.known());
    let (device, changes) = (driver.client.options.device.clone(), driver.client.mutes.changes());
    driver.run(Box::pin(async move {
        if page_token.is_some() {
            room.await;
        }
        OperationResult::Overview(changes, Box::new(service.overview(OverviewQuery { user, since, page_token, device }).await))
    }));
}

/// Reads messages that the user has sent elsewhere and that did not come along; one read at a time keeps their order.
fn read_echoes<O: Outgoing>(driver: &mut Driver<O>) {
    let messages = driver.receipts.echoes.next();
    if messages.is_empty() {
        return;
    }
    let (service, room) = (driver.context.service.clone(), driver.outbox.room());
    let user = Arc::clone(&driver.client.profile);
    driver.run(Box::pin(async move {
        room.await;
        OperationResult::Echoes(service.own_messages(&user, messages).await)
    }));
}

/// Such messages were read.
pub(super) fn echoes_read<O: Outgoing>(driver: &mut Driver<O>, messages: Vec<Message>) {
    for message in messages {
        driver.outbox.event(None, &ServerEvent::Echo(Encoded::new(Arc::new(message))));
    }
    read_echoes(driver);
}

/// An overview was read. It shows too whether the device has a newer connection at another node, whose word was lost.
/// It was asked for after so many changes of what is muted.
pub(super) fn overview_read<O: Outgoing>(driver: &mut Driver<O>, changes: u64, overview: Overview) {
    if overview.session_no > driver.client.session_no {
        return driver.close(Code::Displaced);
    }
    driver.client.mutes.read(changes, overview.muted);
    invitations::look(driver, overview.is_invited);
    // Contacts that it has only now, and those of a chat that was closed.
    watch(driver, &overview.peers);
    // The session may hold rows that the user has read elsewhere, or that ended below its mark, and of which no hint came.
    if !overview.marks.own.is_empty() {
        driver.handle(Input::SomethingEnded);
    }
    tell_marks(driver, overview.marks);
}

/// The session watches these users too, as those whom it found at its beginning.
fn watch<O: Outgoing>(driver: &Driver<O>, peers: &[UserId]) {
    let client = &driver.client;
    driver.context.hub.watch_missing(client.session, client.user(), &client.mailbox, peers);
}

/// Tells marks that were read, and reads what is left of them.
pub(super) fn tell_marks<O: Outgoing>(driver: &mut Driver<O>, read: MarksRead) {
    let (events, next) = driver.receipts.read(&read);
    events.iter().for_each(|event| driver.outbox.event(None, event));
    match next {
        Next::Done => {}
        Next::ReadAgain => read_moved_marks(driver),
        Next::ReadOn(token) => read_marks(driver, Some(token)),
    }
}
