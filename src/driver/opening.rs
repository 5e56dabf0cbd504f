//! From a known user to a session that is registered and knows where it starts.
//!
//! The order matters. The session registers in the hub and only then reads: what is committed before the read is
//! read, what is committed after it is offered, and nothing falls between.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::debug;

use super::client::{Client, ConnectOptions};
use super::invitations::Invitations;
use super::mutes::Mutes;
use super::receipts::{self, Receipts};
use super::{Context, Driver};
use crate::auth::Identity;
use crate::delivery::Refusal;
use crate::domain::{AddressBlock, Class, InboxSeq, Page, PerClass, SessionId, UserId, limits};
use crate::hub::{AckWay, Departure, NotRegistered, Reader, Registered, SharedToken, mailbox};
use crate::protocol::{Code, Fault, Timestamp, server};
use crate::service::{Admission, Role};
use crate::session::{ClassStart, Effect, Input, Scope, Session, Settings, Start};
use crate::store::{MarksRead, Opening, OpeningRequest, Overview, Remainder};

/// A session that is registered and knows where it starts.
pub struct Opened {
    /// Its client.
    pub client: Client,
    pub(super) notes: Reader,
    pub(super) start: Start,
    /// Per class, the number up to which `?since=` acks; none where it was not taken.
    pub(super) resumed: PerClass<Option<InboxSeq>>,
    pub(super) ready: Box<server::Ready>,
    pub(super) overview: Overview,
    pub(super) receipts: Receipts,
}

impl Opened {
    /// Returns whether it emits one envelope at a time until the first ack.
    pub const fn emits_alone(&self) -> bool {
        self.start.emit_alone
    }
}

/// Opens a session for this user, who comes from this address.
///
/// # Errors
/// `token_revoked`, `unavailable`, `busy` or `too_many_sessions` with a time to come back, or `displaced` where the device has a newer
/// connection.
pub async fn open(
    permit: &Admission,
    context: &Context,
    address: Option<AddressBlock>,
    identity: &Identity,
    options: ConnectOptions,
) -> Result<Opened, Fault> {
    // Before it displaces another connection of its device, which may have a token that is good.
    if context.verifier.revocations().concern(&identity.held(), options.device.as_ref()) {
        return Err(Fault::plain(Code::TokenRevoked));
    }
    let request = OpeningRequest {
        external: &identity.external,
        name: identity.name.as_deref(),
        picture: identity.picture.as_deref(),
        device: options.device.as_ref(),
        node: context.service.node(),
        since: since(context, &options),
        pending_max: limits::PENDING_EXACT_MAX + 1,
    };
    let opening = context.service.open(permit, request).await.map_err(Refusal::to_one_of_a_crowd)?;
    let (mailbox, notes) = mailbox();
    let (profile, session_no) = (Arc::new(opening.profile.clone()), opening.session_no);
    let (session, role) = (SessionId::generate_by(&context.clock), Role::of(&identity.scope));
    let client = Client {
        session,
        profile,
        role,
        address,
        options,
        session_no,
        token: SharedToken::new(identity.held()),
        mailbox,
        mutes: Mutes::default(),
        invitations: Invitations::default(),
    };
    register(context, &client)?;
    let known = client.options.marks.as_deref().and_then(|text| receipts::parse_cursor(text, context.epoch.as_str()));
    // Read now that the session is registered: what commits later is offered, and what moves later is told.
    match context.service.first_overview(permit, &client.profile, known.as_ref(), client.options.device.as_ref()).await {
        // A newer connection of the device, at another node, may have said so before this one was there to hear it.
        Ok(overview) if overview.session_no > session_no => {
            forget(context, &client);
            Err(Fault::plain(Code::Displaced))
        }
        Ok(overview) => {
            // Nothing to tell: the client may have the new cursor at once.
            let MarksRead { marks, counts, own, rest } = &overview.marks;
            let told = match rest {
                Remainder::None(cursor) if marks.is_empty() && counts.is_empty() && own.is_empty() => Some(cursor.clone()),
                Remainder::None(_) | Remainder::From(_) => known,
            };
            let interval = jittered(context.session.poll_interval, client.session);
            let receipts = Receipts::new(Instant::now(), interval, context.epoch.as_str(), told);
            let (start, resumed) = start(context, &client, &opening);
            let ready = Box::new(ready(context, &client, &start, is_any(&resumed), &receipts, &opening));
            Ok(Opened { client, notes, start, resumed, ready, overview, receipts })
        }
        Err(refusal) => {
            forget(context, &client);
            Err(refusal.to_one_of_a_crowd())
        }
    }
}

/// Returns whether the token of this client is worth nothing in the hands of its device.
pub(super) fn is_revoked(context: &Context, client: &Client) -> bool {
    client.token.ask(|token| context.verifier.revocations().concern(token, client.options.device.as_ref()))
}

fn register(context: &Context, client: &Client) -> Result<(), Fault> {
    let device = client.options.device.clone().zip(client.session_no);
    let registered = Registered {
        session: client.session,
        device: device.clone(),
        mailbox: client.mailbox.clone(),
        acks: client.options.acks,
        token: client.token.clone(),
    };
    context.hub.register(client.user(), registered).map_err(|refused| match refused {
        NotRegistered::TooMany => Fault::plain(Code::TooManySessions).retry_after_ms(5_000),
        NotRegistered::Displaced => Fault::plain(Code::Displaced),
    })?;
    if let Some((device, session_no)) = &device {
        context.notifier.displace(client.user(), device, *session_no);
    }
    // Asked once the session is registered: what is revoked later closes it.
    if is_revoked(context, client) {
        forget(context, client);
        return Err(Fault::plain(Code::TokenRevoked));
    }
    Ok(())
}

/// The numbers of `?since=`, where they are of this epoch: those of another say nothing.
fn since(context: &Context, options: &ConnectOptions) -> PerClass<Option<i64>> {
    let resume = options.resume.as_ref().filter(|resume| resume.epoch == context.epoch.as_str());
    resume.map(|resume| resume.since).unwrap_or_default()
}

fn start(context: &Context, client: &Client, opening: &Opening) -> (Start, PerClass<Option<InboxSeq>>) {
    let since = since(context, &client.options);
    // A number that was never given says nothing.
    let resumed = PerClass::from_fn(|class| since[class].filter(|n| (0..=opening.inboxes[class].last_seq.0).contains(n)).map(InboxSeq));
    let has_device = client.options.device.is_some();
    let classes = PerClass::from_fn(|class| {
        let inbox = opening.inboxes[class];
        let stored = if has_device { inbox.acked_seq } else { inbox.settled_seq };
        let to_come = if class == Class::Chat { 0 } else { inbox.pending };
        ClassStart { cursor: resumed[class].unwrap_or(stored), last_seq: inbox.last_seq, settled_seq: inbox.settled_seq, to_come }
    });
    let scope = if has_device || is_any(&resumed) { Scope::Everything } else { Scope::Waiting };
    let emit_alone = context.crash_loops.emit_alone(client.user(), client.options.device.as_ref());
    let poll_interval = jittered(context.session.poll_interval, client.session);
    let settings = Settings { window: client.options.window, poll_interval, ..Settings::clone(&context.session) };
    let keeps_cursor = has_device || client.options.acks == AckWay::Http;
    (Start { settings, scope, keeps_cursor, classes, emit_alone, database_time: opening.at }, resumed)
}

/// Returns whether `?since=` was taken for one class at least.
fn is_any(resumed: &PerClass<Option<InboxSeq>>) -> bool {
    resumed.values().any(Option::is_some)
}

fn ready(context: &Context, client: &Client, start: &Start, resumed: bool, receipts: &Receipts, opening: &Opening) -> server::Ready {
    let PerClass { chat, alert, event } = start.classes;
    let acked = |class: ClassStart| client.options.device.is_some().then_some(class.cursor);
    let pending: u32 = opening.inboxes.values().map(|inbox| inbox.pending).sum();
    server::Ready {
        user_id: client.profile.external.clone(),
        session_id: client.session,
        device_id: client.options.device.clone(),
        window: start.settings.window,
        pending: pending.min(limits::PENDING_EXACT_MAX),
        pending_more: pending > limits::PENDING_EXACT_MAX,
        last_seq: chat.last_seq,
        settled_seq: chat.settled_seq,
        alert_last_seq: alert.last_seq,
        alert_settled_seq: alert.settled_seq,
        event_last_seq: event.last_seq,
        event_settled_seq: event.settled_seq,
        acked_seq: acked(chat),
        alert_acked_seq: acked(alert),
        event_acked_seq: acked(event),
        epoch: context.epoch.as_str().into(),
        resumed,
        marks_cursor: receipts.cursor(),
        server_time: Timestamp(opening.at),
    }
}

/// Says that the user is here, and asks to be told of its direct contacts.
pub(super) fn greet<O>(driver: &Driver<O>, peers: &[UserId]) {
    driver.context.presence.arrived(driver.client.user());
    // There are fewer contacts than a session may watch, and it watches nobody yet.
    let _ = driver.context.hub.watch(driver.client.session, driver.client.user(), &driver.client.mailbox, peers);
}

/// Spreads the fallback polls of many sessions that began together over time.
fn jittered(poll_interval: Duration, session: SessionId) -> Duration {
    let spread = u32::from(session.0.as_bytes()[15]);
    poll_interval * (192 + spread / 2) / 256
}

/// Answers the first pages that would be empty. `ends` was read after the session had registered, as a page is, and
/// nothing lies between the cursor and the end of its inbox: this is the page that the statement would bring.
pub(super) fn without_empty_pages(session: &mut Session, effects: Vec<Effect>, ends: PerClass<InboxSeq>) -> Vec<Effect> {
    let answered = effects.into_iter().flat_map(|effect| match effect {
        Effect::ReadPage { class, after, .. } if after == ends[class] => {
            let page = Page { class, after, rows: Vec::new(), is_last: true, last_seq: after };
            session.handle(Instant::now(), Input::Page(page))
        }
        effect => vec![effect],
    });
    answered.collect()
}

/// After the end, however it came: the hub forgets the session, and presence learns of a user's last.
pub(super) async fn leave(context: &Context, client: &Client, code: Option<Code>) {
    forget(context, client);
    debug!(session.id = %client.session, code = code.map(Code::as_str), "connection ended");
    let Some((device, session_no)) = client.options.device.as_ref().zip(client.session_no) else { return };
    if context.epoch.is_over() {
        return;
    }
    let noted = tokio::time::timeout(Duration::from_secs(5), context.service.device_seen(&client.profile, device, session_no)).await;
    if !matches!(noted, Ok(Ok(()))) {
        debug!(user.id = %client.profile.external, "when a device was last seen could not be noted");
    }
}

/// The session is taken out of the hub.
fn forget(context: &Context, client: &Client) {
    if context.hub.unregister(client.user(), client.session) == Departure::Last {
        context.presence.left(client.user());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_page_is_read_unless_nothing_was_behind_the_cursor_after_the_session_had_registered() {
        let place = |seq| ClassStart { cursor: InboxSeq(seq), last_seq: InboxSeq(seq), settled_seq: InboxSeq(seq), to_come: 0 };
        let settings = Settings {
            window: 50,
            page_rows: 50,
            ack_timeout: Duration::from_secs(30),
            attempts_max: 5,
            uncommitted_acks_max: 500,
            stalled_max: Duration::from_secs(10),
            poll_interval: Duration::from_secs(30),
            low_watermark_every: 1_000,
        };
        let start = Start {
            settings,
            scope: Scope::Waiting,
            keeps_cursor: false,
            classes: PerClass { chat: place(7), alert: place(0), event: place(3) },
            emit_alone: false,
            database_time: time::OffsetDateTime::UNIX_EPOCH,
        };
        let effects = |ends: PerClass<i64>| {
            let (mut session, effects) = Session::start(Instant::now(), start.clone());
            without_empty_pages(&mut session, effects, ends.map(InboxSeq))
        };
        let is_drained = |effect: &Effect| matches!(effect, Effect::Drained { .. });
        assert!(effects(PerClass { chat: 7, alert: 0, event: 3 }).iter().all(is_drained));
        // A message was committed between the opening and the registration: nobody offers it, it has to be read.
        let first = effects(PerClass { chat: 8, alert: 0, event: 3 });
        assert!(matches!(
            first[..],
            [
                Effect::ReadPage { class: Class::Chat, after: InboxSeq(7), .. },
                Effect::Drained { class: Class::Alert, .. },
                Effect::Drained { class: Class::Event, .. }
            ]
        ));
    }
}
