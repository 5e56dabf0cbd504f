//! From a known user to `ready`: where the session starts, who is told, and what its first effects are.
//!
//! The order matters. The session registers in the hub and only then reads: what is committed before the read is
//! read, what is committed after it is offered, and nothing falls between.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use time::OffsetDateTime;
use tracing::{Instrument, debug, info_span};

use super::Shared;
use super::handshake::{Batching, Socket, Wishes, refuse};
use super::marks::{self, Cursors};
use super::outbox::Outbox;
use super::shell::Shell;
use crate::auth::Identity;
use crate::delivery::Refusal;
use crate::domain::{Class, InboxSeq, Page, Profile, SessionId, limits};
use crate::hub::{Departure, Mailbox, NotRegistered, Reader, Registered, mailbox};
use crate::protocol::client::FrameId;
use crate::protocol::{Code, Fault, Timestamp, server};
use crate::service::Admission;
use crate::session::{ClassStart, Effect, Input, Scope, Session, Settings, Start};
use crate::store::{MarksRead, Opening, OpeningRequest, Overview, Rest};

/// Who a connection is.
#[derive(Debug, Clone)]
pub(super) struct Who {
    pub(super) session: SessionId,
    pub(super) profile: Arc<Profile>,
    pub(super) wishes: Wishes,
    /// Which connection of its device it is.
    pub(super) session_no: Option<i64>,
}

/// Opens a session and starts the task that runs it. `answer_to`: a first frame `authenticate` waits for its answer.
pub(super) async fn run(shared: Shared, socket: Socket, identity: Identity, wishes: Wishes, answer_to: Option<Option<FrameId>>) {
    let admitted = tokio::select! {
        permit = shared.service.admit_opening(&identity.external) => permit.map_err(Refusal::to_one_of_a_crowd),
        () = shared.stop.begun() => Err(shared.stop.refusal()),
    };
    let opened = match admitted {
        // Boxed, so that what waits for a permit takes little room.
        Ok(permit) => Box::pin(open_with(permit, &shared, &identity, wishes)).await,
        Err(fault) => Err(fault),
    };
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
    overview: Overview,
    cursors: Cursors,
    /// The database's clock.
    at: OffsetDateTime,
}

/// Was `?since=` taken, and up to which number does it ack?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resumed {
    No,
    At(InboxSeq),
}

async fn open_with(permit: Admission, shared: &Shared, identity: &Identity, wishes: Wishes) -> Result<Opened, Fault> {
    let request = OpeningRequest {
        external: &identity.external,
        name: identity.name.as_deref(),
        picture: identity.picture.as_deref(),
        device: wishes.device.as_ref(),
        since: wishes.resume.as_ref().filter(|(of, _)| of == shared.epoch.as_str()).map(|(_, since)| *since),
        pending_max: limits::PENDING_EXACT_MAX + 1,
    };
    let opening = shared.service.open(&permit, request).await.map_err(Refusal::to_one_of_a_crowd)?;
    let (profile, session_no) = (Arc::new(opening.profile.clone()), opening.session_no);
    let who = Who { session: SessionId::generate_by(&shared.clock), profile, wishes, session_no };
    let (mailbox, notes) = mailbox();
    let device = who.wishes.device.clone().zip(opening.session_no);
    let registered = Registered { session: who.session, device: device.clone(), mailbox: mailbox.clone() };
    shared.hub.register(who.profile.user, registered).map_err(|refused| match refused {
        NotRegistered::TooMany => Fault::plain(Code::TooManySessions).retry_after_ms(5_000),
        NotRegistered::Displaced => Fault::plain(Code::Displaced),
    })?;
    if let Some((device, session_no)) = &device {
        shared.reach.displace(who.profile.user, device, *session_no);
    }
    let (start, resumed) = start(shared, &who, &opening);
    let known = who.wishes.marks.as_deref().and_then(|text| marks::parse_cursor(text, shared.epoch.as_str()));
    // Read now that the session is registered: what commits later is offered, and what moves later is told.
    match shared.service.first_overview(&permit, &who.profile, known, who.wishes.device.as_ref()).await {
        // A newer connection of the device, at another node, may have said so before this one was there to hear it.
        Ok(overview) if overview.session_no > session_no => {
            forget(shared, &who);
            Err(Fault::plain(Code::Displaced))
        }
        Ok(overview) => {
            let pending = opening.inboxes.iter().map(|inbox| inbox.pending).sum();
            // Nothing to tell: the client may have the new cursor at once.
            let MarksRead { marks, tallies, rest } = &overview.marks;
            let told = match rest {
                Rest::None(cursor) if marks.is_empty() && tallies.is_empty() => Some(*cursor),
                Rest::None(_) | Rest::From(_) => known,
            };
            let cursors = Cursors { told };
            Ok(Opened { who, mailbox, notes, start, resumed, pending, overview, cursors, at: opening.at })
        }
        Err(refusal) => {
            forget(shared, &who);
            Err(refusal.to_one_of_a_crowd())
        }
    }
}

fn start(shared: &Shared, who: &Who, opening: &Opening) -> (Start, Resumed) {
    let [chat, event] = opening.inboxes;
    // Numbers of another epoch, or that were never given, say nothing.
    let resumed = match &who.wishes.resume {
        Some((epoch, since)) if epoch == shared.epoch.as_str() && (0..=chat.last_seq.0).contains(since) => Resumed::At(InboxSeq(*since)),
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
    let look_interval = jittered(shared.settings.session.look_interval, who.session);
    let settings = Settings { window: who.wishes.window, look_interval, ..shared.settings.session.clone() };
    (Start { settings, scope, has_device, classes, emit_alone }, resumed)
}

/// Spreads the slow looks of many sessions that began together over time.
pub(super) fn jittered(look_interval: Duration, session: SessionId) -> Duration {
    let spread = u32::from(session.0.as_bytes()[15]);
    look_interval * (192 + spread / 2) / 256
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
    let Opened { who, mailbox, notes, start, resumed, pending, overview, cursors, at } = opened;
    let mut outbox = Outbox::default();
    if let Some(id) = answer_to {
        outbox.text(server::frame(id.as_ref(), &authenticated(identity)));
    }
    outbox.text(ready(&who, shared.epoch.as_str(), &start, resumed, pending, &cursors, at));
    let pace = if start.emit_alone { Pace::Alone } else { Pace::Windowed };
    let settled = start.classes[Class::Chat.index()].settled_seq;
    let (mut session, effects) = Session::start(Instant::now(), start);
    let effects = without_empty_pages(&mut session, effects, overview.ends);
    let mut shell = Box::new(Shell::new(shared, who, mailbox, outbox, session, identity.expires_at, cursors));
    shell.tell_marks(overview.marks);
    if let Resumed::At(since) = resumed {
        shell.ack_up_to(settled, since);
    }
    shell.greet(&overview.peers);
    shell.perform(effects);
    // Split here: the halves are small, and the future of the loop keeps what it is given twice.
    let (sink, incoming) = socket.split();
    shell.run(sink, incoming, notes, pace)
}

/// Answers the first pages that would be empty. `ends` was read after the session had registered, as a page is, and
/// nothing lies between the cursor and the end of its inbox: this is the page that the statement would bring.
fn without_empty_pages(session: &mut Session, effects: Vec<Effect>, ends: [InboxSeq; 2]) -> Vec<Effect> {
    let answered = effects.into_iter().flat_map(|effect| match effect {
        Effect::ReadPage { class, after, .. } if after == ends[class.index()] => {
            let page = Page { class, after, rows: Vec::new(), is_last: true, last_seq: after };
            session.handle(Instant::now(), Input::Page(page))
        }
        effect => vec![effect],
    });
    answered.collect()
}

pub(super) fn authenticated(identity: &Identity) -> server::Authenticated<'_> {
    server::Authenticated { user_id: &identity.external, expires_at: Timestamp(identity.expires_at) }
}

fn ready(
    who: &Who,
    epoch: &str,
    start: &Start,
    resumed: Resumed,
    pending: u32,
    cursors: &Cursors,
    at: OffsetDateTime,
) -> axum::extract::ws::Utf8Bytes {
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
            epoch,
            resumed: matches!(resumed, Resumed::At(_)),
            marks_cursor: &cursors.to_tell(epoch),
            server_time: Timestamp(at),
        },
    )
}

/// After the end, however it came: the hub forgets the session, and presence learns of a user's last.
pub(super) async fn leave(shared: &Shared, who: &Who, ended: Ended) {
    shared.metrics.connection_closed(ended.code);
    if ended.anything_emitted {
        shared.crashes.ended(who.profile.user, who.wishes.device.as_ref(), ended.anything_acked);
    }
    forget(shared, who);
    debug!(session.id = %who.session, code = ended.code.map(Code::as_str), "connection ended");
    let Some(device) = &who.wishes.device else { return };
    if shared.epoch.is_over() {
        return;
    }
    let noted = tokio::time::timeout(Duration::from_secs(5), shared.service.device_seen(&who.profile, device)).await;
    if !matches!(noted, Ok(Ok(()))) {
        debug!(user.id = %who.profile.external, "when a device was last seen could not be noted");
    }
}

fn forget(shared: &Shared, who: &Who) {
    if shared.hub.unregister(who.profile.user, who.session) == Departure::Last {
        shared.presence.left(who.profile.user);
    }
}

impl Batching {
    pub(super) const fn is_on(self) -> bool {
        matches!(self, Self::On)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_page_is_read_unless_nothing_was_behind_the_cursor_after_the_session_had_registered() {
        let place = |seq| ClassStart { cursor: InboxSeq(seq), last_seq: InboxSeq(seq), settled_seq: InboxSeq(seq) };
        let settings = Settings {
            window: 50,
            page_rows: 50,
            ack_timeout: Duration::from_secs(30),
            attempts_max: 5,
            uncommitted_acks_max: 500,
            stalled_max: Duration::from_secs(10),
            look_interval: Duration::from_secs(30),
            advance_settled_every: 1_000,
        };
        let start = Start { settings, scope: Scope::Waiting, has_device: false, classes: [place(7), place(0)], emit_alone: false };
        let effects = |ends: [i64; 2]| {
            let (mut session, effects) = Session::start(Instant::now(), start.clone());
            without_empty_pages(&mut session, effects, ends.map(InboxSeq))
        };
        let is_drained = |effect: &Effect| matches!(effect, Effect::Drained { .. });
        assert!(effects([7, 0]).iter().all(is_drained));
        // A message was committed between the opening and the registration: nobody offers it, it has to be read.
        let first = effects([8, 0]);
        assert!(matches!(
            first[..],
            [Effect::ReadPage { class: Class::Chat, after: InboxSeq(7), .. }, Effect::Drained { class: Class::Event, .. }]
        ));
    }
}
