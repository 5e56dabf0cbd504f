//! What the client says: each frame becomes an input of the session, or an answer that will come.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::directing::{self, Released, Sending};
use super::handshake::verify;
use super::open::authenticated;
use super::shell::{Done, Shell, instant_of};
use crate::delivery::Refusal;
use crate::domain::{AttemptOutcome, ChatId, ExternalId, MessageId, UserId};
use crate::protocol::client::{
    self, AckRequest, ClientEvent, Frame, FrameId, ReadRequest, ReadUpTo, RejectRequest, SendRequest, SendTarget,
};
use crate::protocol::{Code, Fault, Timestamp, server};
use crate::service::PresenceOf;
use crate::session::{AckTarget, Input, ReadTarget, Ticket};
use crate::store::DirectChat;

/// What a ticket is to be answered with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    /// `message:delivered:ok`.
    Delivered,
    /// `message:reject:ok` for this message, with what became of the attempt.
    Reject(MessageId, Option<AttemptOutcome>),
    /// `message:read:ok`; its answer comes from the lane.
    Read,
}

/// The direct chat with this user has been found or made.
pub(super) struct Directed {
    to: ExternalId,
    chat: Result<DirectChat, Refusal>,
}

/// Typing is told at most so often per connection; more is dropped, nobody misses it.
const TYPING_PAUSE: Duration = Duration::from_millis(300);

/// What a connection keeps about typing.
#[derive(Debug, Default)]
pub(super) struct TypingState {
    last: Option<Instant>,
    wanted: Option<(ChatId, bool)>,
}

impl Shell {
    pub(super) fn text(&mut self, text: &str) {
        match client::parse(text) {
            Ok(Frame { id, event }) => self.event(id, event),
            Err(error) => self.refuse(error.id.as_ref(), &error.fault),
        }
    }

    /// A frame that was on its way when the connection was closed: acks count, whoever displaced it.
    pub(super) fn late(&mut self, text: &str) {
        let Ok(Frame { event, .. }) = client::parse(text) else { return };
        match event {
            ClientEvent::Delivered(_) | ClientEvent::Reject(_) | ClientEvent::Read(_) => self.event(None, event),
            ClientEvent::Send(_)
            | ClientEvent::Authenticate { .. }
            | ClientEvent::Typing { .. }
            | ClientEvent::PresenceGet(_)
            | ClientEvent::PresenceSubscribe(_)
            | ClientEvent::Ping => {}
        }
    }

    fn event(&mut self, id: Option<FrameId>, event: ClientEvent) {
        match event {
            ClientEvent::Send(request) => self.send(id, request),
            ClientEvent::Delivered(request) => {
                let target = match request {
                    AckRequest::Messages(messages) => AckTarget::Messages(messages),
                    AckRequest::UpTo { class, seq } => AckTarget::UpTo(class, seq),
                };
                let ticket = self.ticket(id, Asked::Delivered);
                self.happened(Input::Ack { target, ticket });
            }
            ClientEvent::Reject(RejectRequest { message, reason, is_final }) => {
                let ticket = self.ticket(id, Asked::Reject(message, None));
                self.happened(Input::Reject { message, reason, is_final, ticket });
            }
            ClientEvent::Read(ReadRequest { chat, target }) => {
                let target = match target {
                    ReadUpTo::Seq(seq) => ReadTarget::Seq(seq),
                    ReadUpTo::Message(message) => ReadTarget::Message(message),
                };
                let ticket = self.ticket(id, Asked::Read);
                self.happened(Input::Read { chat, target, ticket });
            }
            ClientEvent::Authenticate { token } => self.authenticate(id.as_ref(), &token),
            ClientEvent::Typing { chat, typing } => self.typing(chat, typing),
            ClientEvent::PresenceGet(users) => self.presence(id, users, Watch::No),
            ClientEvent::PresenceSubscribe(users) => self.presence(id, users, Watch::Yes),
            ClientEvent::Ping => self.outbox.text(server::frame(id.as_ref(), &server::Pong {})),
        }
    }

    fn ticket(&mut self, id: Option<FrameId>, asked: Asked) -> Option<Ticket> {
        let id = id?;
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.tickets.insert(ticket, (id, asked));
        Some(ticket)
    }

    /// A new token of the same user carries the connection on.
    fn authenticate(&mut self, id: Option<&FrameId>, token: &secrecy::SecretString) {
        match verify(&self.shared, token) {
            Ok(identity) if identity.external == self.who.profile.external => {
                self.token_expires = instant_of(identity.expires_at, &self.shared.clock);
                self.outbox.text(server::frame(id, &authenticated(&identity)));
            }
            Ok(_) => self.refuse(id, &Fault::plain(Code::OtherUser)),
            Err(fault) => self.refuse(id, &fault),
        }
    }

    fn send(&mut self, id: Option<FrameId>, request: SendRequest) {
        if let Err(refusal) = self.shared.service.check_send(self.who.profile.user) {
            return self.refuse(id.as_ref(), &refusal.into());
        }
        let sending = Sending { id, request };
        match &sending.request.target {
            SendTarget::Chat(chat) => {
                let chat = *chat;
                let goes = self.directing.follow(chat, sending);
                goes.into_iter().for_each(|sending| self.send_to(chat, sending));
            }
            SendTarget::User(to) => self.direct(to.clone(), sending),
        }
    }

    /// To a user: at once where the chat is known, and nothing waits that must not be overtaken.
    fn direct(&mut self, to: ExternalId, sending: Sending) {
        let (service, user) = (&self.shared.service, self.who.profile.user);
        if !self.directing.awaits(&to)
            && let Some(chat) = service.known_direct_chat(user, &to)
        {
            let goes = self.directing.follow_known(chat, sending);
            return goes.into_iter().for_each(|sending| self.send_to(chat, sending));
        }
        if self.directing.hold(to.clone(), sending) == directing::Asked::ToBe {
            let asked = service.ask_direct_chat(user, to.clone());
            self.operations.push(Box::pin(async move { Done::Directed(Box::new(Directed { to, chat: asked.await })) }));
        }
    }

    pub(super) fn directed(&mut self, directed: Directed) {
        let Directed { to, chat } = directed;
        let Released { sends, refused } = self.directing.resolved(&to, chat.as_ref().ok().map(|found| found.chat));
        if let Err(refusal) = chat {
            for Sending { id, .. } in refused {
                self.shared.metrics.refused(refusal.code());
                self.refuse(id.as_ref(), &refusal.into());
            }
        }
        sends.into_iter().for_each(|(chat, sending)| self.send_to(chat, sending));
    }

    fn send_to(&mut self, chat: ChatId, sending: Sending) {
        self.marks_look.soon(Instant::now());
        let Sending { id, request } = sending;
        let sent = self.shared.service.send_to(Arc::clone(&self.who.profile), Some(self.who.session), chat, request);
        self.answer(async move {
            match sent.await {
                Ok(accepted) => (server::frame(id.as_ref(), &server::SentAnswer::from(accepted)), None),
                Err(refusal) => (server::frame(id.as_ref(), &Fault::from(refusal)), None),
            }
        });
    }

    /// The connection ends: what was received and waits for its chat is still sent, as what did not have to wait. Nobody hears
    /// what becomes of it.
    pub(super) fn send_what_waits(&mut self) {
        let mut directing = std::mem::take(&mut self.directing);
        if directing.is_empty() {
            return;
        }
        let (service, profile, session) = (self.shared.service.clone(), Arc::clone(&self.who.profile), self.who.session);
        self.shared.tasks.spawn(async move {
            let asking = directing.names().cloned().map(|to| {
                let asked = service.ask_direct_chat(profile.user, to.clone());
                async move { (to, asked.await) }
            });
            for (to, chat) in join_all(asking.collect::<Vec<_>>()).await {
                for (chat, Sending { request, .. }) in directing.resolved(&to, chat.ok().map(|found| found.chat)).sends {
                    drop(service.send_to(Arc::clone(&profile), Some(session), chat, request));
                }
            }
        });
    }

    fn presence(&mut self, id: Option<FrameId>, users: Vec<ExternalId>, watch: Watch) {
        let (service, asker) = (self.shared.service.clone(), Arc::clone(&self.who.profile));
        let (session, mailbox) = (self.who.session, self.mailbox.clone());
        self.answer(async move {
            let seen = match watch {
                Watch::No => service.presence(&asker, users).await,
                Watch::Yes => service.subscribe_presence(&asker, (session, &mailbox), users).await,
            };
            let seen = match seen {
                Ok(seen) => seen,
                Err(refusal) => return (server::frame(id.as_ref(), &Fault::from(refusal)), None),
            };
            let users = seen.into_iter().map(|PresenceOf { user, online, last_seen }| server::Presence {
                user_id: user,
                online,
                last_seen: last_seen.map(Timestamp),
            });
            (server::frame(id.as_ref(), &server::PresenceState { users: users.collect() }), None)
        });
    }

    fn typing(&mut self, chat: ChatId, typing: bool) {
        let now = Instant::now();
        let is_soon = self.typing.last.is_some_and(|last| now - last < TYPING_PAUSE);
        if is_soon || self.typing.wanted.is_some() {
            return;
        }
        self.typing.last = Some(now);
        self.typing.wanted = Some((chat, typing));
        let (service, user) = (self.shared.service.clone(), Arc::clone(&self.who.profile));
        self.operations.push(Box::pin(async move {
            // Not a member, or the database is away: nobody is told.
            Done::Audience(chat, service.typing_audience(&user, chat).await.unwrap_or_default())
        }));
    }

    pub(super) fn audience(&mut self, chat: ChatId, users: &[UserId]) {
        let Some((_, typing)) = self.typing.wanted.take() else { return };
        let frame = server::frame(None, &server::Typing { chat_id: chat, user_id: &self.who.profile.external, typing });
        self.shared.reach.frame(users.to_vec(), frame);
    }
}

/// Does the client want to know of changes too?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    No,
    Yes,
}
