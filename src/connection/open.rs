//! From a known user to `ready`: where the session starts, who is told, and what its first effects are.
//!
//! The order matters. The session registers in the hub and only then reads: what is committed before the read is
//! read, what is committed after it is offered, and nothing falls between.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use time::OffsetDateTime;
use tracing::{Instrument, debug, info_span, warn};

use super::Shared;
use super::handshake::{Batching, Socket, Wishes, refuse};
use super::marks::{self, Cursors};
use super::outbox::Outbox;
use super::shell::Shell;
use crate::auth::Identity;
use crate::domain::{Class, InboxSeq, Profile, SessionId, limits};
use crate::hub::{Arrival, Departure, Mailbox, NotRegistered, Reader, Registered, mailbox};
use crate::protocol::client::FrameId;
use crate::protocol::{Code, Fault, Timestamp, server};
use crate::session::{ClassStart, Scope, Session, Settings, Start};
use crate::store::{self, MarksRead, Opening, PageRequest};

/// Who a connection is.
#[derive(Debug, Clone)]
pub(super) struct Who {
    pub(super) session: SessionId,
    pub(super) profile: Arc<Profile>,
    pub(super) wishes: Wishes,
    pub(super) epoch: Arc<str>,
}

/// Opens a session and starts the task that runs it. `answer_to`: a first frame `authenticate` waits for its answer.
pub(super) async fn run(shared: Shared, socket: Socket, identity: Identity, wishes: Wishes, answer_to: Option<Option<FrameId>>) {
    let turn = shared.turns.take().await;
    // Boxed, so that whoever waits for a turn takes little room.
    let opened = Box::pin(open(&shared, &identity, wishes)).await;
    drop(turn);
    match opened {
        Ok(opened) => {
            let span = info_span!("session", session.id = %opened.who.session, user.id = %opened.who.profile.external);
            let tasks = shared.tasks.clone();
            // A task of its own: what opening needed would otherwise be kept as long as the connection lives, and
            // idle connections are most of a node's memory.
            tasks.spawn(begin(shared, socket, &identity, opened, answer_to).instrument(span));
        }
        Err(fault) => Box::pin(refuse(&shared, socket, answer_to.as_ref().and_then(Option::as_ref), &fault)).await,
    }
}

/// A session that is registered and knows where it starts.
struct Opened {
    who: Who,
    mailbox: Mailbox,
    notes: Reader,
    start: Start,
    resumed: Resumed,
    pending: u32,
    arrival: Arrival,
    marks: MarksRead,
    cursors: Cursors,
}

/// Was `?since=` taken, and up to which number does it ack?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resumed {
    No,
    At(InboxSeq),
}

async fn open(shared: &Shared, identity: &Identity, wishes: Wishes) -> Result<Opened, Fault> {
    let profile = shared.store.sign_in(identity.external.clone(), identity.name.clone(), identity.picture.clone()).await;
    let profile = Arc::new(profile.map_err(|error| away(shared, &error))?);
    let opening = shared.store.open(profile.user, wishes.device.as_ref()).await.map_err(|error| away(shared, &error))?;
    let who = Who { session: SessionId::generate(), profile, wishes, epoch: shared.epoch.borrow().clone() };
    let (mailbox, notes) = mailbox();
    let device = who.wishes.device.clone().zip(opening.session_no);
    let arrival = shared.hub.register(who.profile.user, Registered { session: who.session, device, mailbox: mailbox.clone() }).map_err(
        |refused| match refused {
            NotRegistered::TooMany => Fault::plain(Code::TooManySessions).retry_after_ms(5_000),
            NotRegistered::Displaced => Fault::plain(Code::Displaced),
        },
    )?;
    let (start, resumed) = start(shared, &who, &opening);
    match read_what_is_needed(shared, &who, &start).await {
        Ok((pending, marks, cursors)) => Ok(Opened { who, mailbox, notes, start, resumed, pending, arrival, marks, cursors }),
        Err(error) => {
            shared.hub.unregister(who.profile.user, who.session);
            Err(away(shared, &error))
        }
    }
}

async fn read_what_is_needed(shared: &Shared, who: &Who, start: &Start) -> store::Result<(u32, MarksRead, Cursors)> {
    let request = match start.scope {
        Scope::Waiting => PageRequest::Waiting,
        Scope::Everything => PageRequest::Everything,
    };
    let mut pending = 0;
    for class in Class::ALL {
        let place = start.classes[class.index()];
        // Nothing behind the cursor: no need to ask.
        if place.cursor < place.last_seq {
            pending += shared.store.pending(request, who.profile.user, class, place.cursor, limits::PENDING_EXACT_MAX + 1).await?;
        }
    }
    let known = who.wishes.marks.as_deref().and_then(|text| marks::parse_cursor(text, &who.epoch));
    let marks = shared.store.marks_since(who.profile.user, known).await?;
    // Nothing to tell: the client may have the new cursor at once.
    let nothing_moved = marks.marks.is_empty() && marks.tallies.is_empty();
    let cursors = Cursors { told: if nothing_moved { Some(marks.cursor) } else { known } };
    Ok((pending, marks, cursors))
}

fn start(shared: &Shared, who: &Who, opening: &Opening) -> (Start, Resumed) {
    let [chat, event] = opening.inboxes;
    // Numbers of another epoch, or that were never given, say nothing.
    let resumed = match &who.wishes.resume {
        Some((epoch, since)) if **epoch == *who.epoch && (0..=chat.last_seq.0).contains(since) => Resumed::At(InboxSeq(*since)),
        Some(_) | None => Resumed::No,
    };
    let has_device = who.wishes.device.is_some();
    let place = |inbox: crate::store::InboxStart| ClassStart {
        cursor: if has_device { inbox.acked_seq } else { inbox.settled_seq },
        last_seq: inbox.last_seq,
        settled_seq: inbox.settled_seq,
    };
    let mut classes = [place(chat), place(event)];
    if let Resumed::At(since) = resumed {
        classes[0].cursor = since;
    }
    let scope = if has_device || matches!(resumed, Resumed::At(_)) { Scope::Everything } else { Scope::Waiting };
    let emit_alone = shared.crashes.emit_alone(who.profile.user, who.wishes.device.as_ref());
    let settings = Settings { window: who.wishes.window, ..jittered(shared.settings.session.clone(), who.session) };
    (Start { settings, scope, has_device, classes, emit_alone }, resumed)
}

/// Spreads the slow looks of many sessions that began together over time.
fn jittered(mut settings: Settings, session: SessionId) -> Settings {
    let spread = u32::from(session.0.as_bytes()[15]);
    settings.look_interval = settings.look_interval * (192 + spread / 2) / 256;
    settings
}

fn away(shared: &Shared, error: &store::Error) -> Fault {
    if error.is_unavailable() {
        shared.delivery.health().report_away();
        return Fault::plain(Code::Unavailable).retry_after_ms(1_000);
    }
    if let store::Error::Held(_) = error {
        return Fault::plain(Code::Unavailable).retry_after_ms(200);
    }
    warn!(cause = ?error, "a connection could not be opened");
    Fault::plain(Code::Internal)
}

/// How much a session emits at once to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// One envelope, until the first ack.
    Alone,
    /// A window.
    Windowed,
}

/// How a session ended, for those who count.
pub(super) struct Ended {
    pub(super) code: Option<Code>,
    pub(super) anything_emitted: bool,
    pub(super) anything_acked: bool,
}

/// Everything up to the loop, and the loop itself as a future.
fn begin(
    shared: Shared,
    socket: Socket,
    identity: &Identity,
    opened: Opened,
    answer_to: Option<Option<FrameId>>,
) -> impl Future<Output = ()> + Send + use<> {
    let Opened { who, mailbox, notes, start, resumed, pending, arrival, marks, cursors } = opened;
    let mut outbox = Outbox::default();
    if let Some(id) = answer_to {
        outbox.text(server::frame(id.as_ref(), &authenticated(identity)));
    }
    outbox.text(ready(&who, &start, resumed, pending, &cursors));
    let pace = if start.emit_alone { Pace::Alone } else { Pace::Windowed };
    let settled = start.classes[Class::Chat.index()].settled_seq;
    let (session, effects) = Session::start(Instant::now(), start);
    let mut shell = Box::new(Shell::new(shared, who, mailbox, outbox, session, identity.expires_at, cursors));
    shell.tell_marks(marks);
    if let Resumed::At(since) = resumed {
        shell.ack_up_to(settled, since);
    }
    shell.greet(arrival);
    shell.perform(effects);
    // Split here: the halves are small, and the future of the loop keeps what it is given twice.
    let (sink, incoming) = socket.split();
    shell.run(sink, incoming, notes, pace)
}

pub(super) fn authenticated(identity: &Identity) -> server::Authenticated<'_> {
    server::Authenticated { user_id: &identity.external, expires_at: Timestamp(identity.expires_at) }
}

fn ready(who: &Who, start: &Start, resumed: Resumed, pending: u32, cursors: &Cursors) -> axum::extract::ws::Utf8Bytes {
    let [chat, event] = start.classes;
    server::frame(
        None,
        &server::Ready {
            user_id: &who.profile.external,
            session_id: who.session,
            device_id: who.wishes.device.as_ref(),
            window: start.settings.window,
            pending: pending.min(limits::PENDING_EXACT_MAX),
            pending_more: pending > limits::PENDING_EXACT_MAX,
            last_seq: chat.last_seq,
            settled_seq: chat.settled_seq,
            event_last_seq: event.last_seq,
            event_settled_seq: event.settled_seq,
            epoch: &who.epoch,
            resumed: matches!(resumed, Resumed::At(_)),
            marks_cursor: &cursors.to_tell(&who.epoch),
            server_time: Timestamp(OffsetDateTime::now_utc()),
        },
    )
}

/// After the end, however it came: the hub forgets the session, watchers learn of the user.
pub(super) async fn leave(shared: &Shared, who: &Who, ended: Ended) {
    shared.metrics.connection_closed(ended.code);
    if ended.anything_emitted {
        shared.crashes.ended(who.profile.user, who.wishes.device.as_ref(), ended.anything_acked);
    }
    let departure = shared.hub.unregister(who.profile.user, who.session);
    debug!(session.id = %who.session, code = ended.code.map(Code::as_str), "connection ended");
    let noted = tokio::time::timeout(Duration::from_secs(5), note_departure(shared, who, departure)).await;
    if !matches!(noted, Ok(Ok(()))) {
        debug!(user.id = %who.profile.external, "when the user was last seen could not be noted");
    }
}

async fn note_departure(shared: &Shared, who: &Who, departure: Departure) -> store::Result<()> {
    if let Some(device) = &who.wishes.device {
        shared.store.device_seen(who.profile.user, device).await?;
    }
    if departure == Departure::Last {
        let last_seen = shared.store.note_last_seen(who.profile.user).await?;
        // Somebody who came back meanwhile has been announced already.
        if !shared.hub.is_here(who.profile.user) {
            let frame = server::frame(None, &server::UserOffline { user_id: &who.profile.external, last_seen: Timestamp(last_seen) });
            shared.hub.tell_watchers(who.profile.user, &frame);
        }
    }
    Ok(())
}

impl Batching {
    pub(super) const fn is_on(self) -> bool {
        matches!(self, Self::On)
    }
}
