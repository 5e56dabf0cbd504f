//! The actions of a client between two frames: it sends, acks and reads what is due. By chance it sends something new, repeats an old
//! message, leaves, opens a second connection, or changes who is in a group.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::state::Outgoing;
use super::{Actor, Phase, TICK_MS};
use restante_client::{Http, Wire, encode};
use restante_judge::history::{Change, Event};
use restante_session::domain::limits::IDS_MAX;
use restante_session::domain::{self, ChatId};

/// The next step of the connection.
pub(super) enum Next {
    /// The connection goes on.
    Stay,
    /// The client leaves.
    Leave,
    /// The client opens another connection beside this one.
    Double,
    /// The client reads nothing for this time.
    StopReading(Duration),
}

/// The time after which a call over HTTP is given up. It may have been done all the same.
pub(super) const HTTP_CALL_MAX: Duration = Duration::from_secs(8);

/// With this many sends without an answer the client sends nothing new.
const OPEN_MAX: usize = 40;

impl Actor {
    /// Acts. To be called every few milliseconds, and after each frame.
    pub(super) fn act(&mut self, wire: &mut Wire) -> Next {
        while let Some(Ok(noted)) = self.http_calls.try_join_next() {
            if let Event::BlockAnswered { .. } | Event::ContactAnswered { .. } = &noted {
                self.state.asked_at = None;
            }
            self.recorder.note(self.connection, noted);
        }
        if !self.state.connection.as_ref().is_some_and(|session| session.is_ready) {
            return Next::Stay;
        }
        let is_run = self.phase() == Phase::Run;
        self.progress.open.store(self.state.outbox.len() + self.events.len(), Ordering::Relaxed);
        self.send_what_is_due(wire);
        self.publish_what_is_due(wire);
        if !is_run || self.rng.chance(400) {
            self.ack_and_read(wire);
        }
        if !is_run {
            return Next::Stay;
        }
        if self.progress.doubles.swap(false, Ordering::Relaxed) {
            return Next::Double;
        }
        // Frames come more often than ticks, so busy clients act more often. That does no harm.
        if self.rng.chance((1000 * TICK_MS / self.environment.pace_ms.max(TICK_MS)).min(1000)) {
            self.draw_an_action(wire)
        } else {
            Next::Stay
        }
    }

    fn draw_an_action(&mut self, wire: &mut Wire) -> Next {
        match self.rng.between(1, 1000) {
            1..=460 => self.say_something(),
            461..=695 => self.publish_something(),
            696..=735 => self.change_a_following(),
            736..=775 => self.repeat_something(wire),
            776..=795 => self.publish_again(wire),
            796..=825 => self.change_a_membership(),
            826..=870 => self.recall_something(wire),
            871..=880 => self.change_mutes(),
            881..=910 if self.environment.contacts => self.change_a_contact(),
            881..=940 => self.change_a_block(wire),
            941..=945 => self.revoke_something(),
            946..=960 => return Next::Leave,
            961..=975 => return Next::Double,
            976..=985 => return Next::StopReading(self.rng.pause_ms(300, 2500)),
            _ => {
                let ask = self.state.ask();
                self.state.answered(ask); // the client does not wait for the pong
                wire.queue(encode("ping", Some(&format!("ping {ask}")), &json!({})));
            }
        }
        Next::Stay
    }

    fn say_something(&mut self) {
        if self.state.outbox.len() >= OPEN_MAX {
            return;
        }
        self.state.made += 1;
        let groups: Vec<Uuid> =
            self.environment.groups.iter().filter(|group| group.people.contains(&self.user)).map(|group| group.chat).collect();
        let chat = if self.rng.chance(700) { self.rng.one_of(&groups).copied() } else { None };
        let to = if chat.is_none() { self.somebody() } else { None };
        let filling = if self.rng.chance(20) { self.rng.between(1, 8000) } else { self.rng.between(0, 60) };
        let content = format!("{} says {} {}", self.name, self.state.made, "x".repeat(usize::try_from(filling).unwrap_or_default()));
        let expires_at = self.rng.chance(30).then(|| soon(self.rng.pause_ms(500, 6000))).flatten();
        let message = self.rng.uuid();
        self.state.outbox.push_back(Outgoing { message, chat, to, content, expires_at, due: Some(Instant::now()) });
    }

    /// A user to write to: its rival as a rule, so that a block finds something that waits.
    fn somebody(&mut self) -> Option<String> {
        let rival = self.rival().cloned();
        rival.filter(|_| self.rng.chance(500)).or_else(|| self.rng.one_of(&self.environment.users).cloned())
    }

    fn send_what_is_due(&mut self, wire: &mut Wire) {
        for outgoing in self.state.due() {
            self.put_on_the_wire(&outgoing, wire);
        }
    }

    /// Sends a message again that was confirmed, with the same id.
    fn repeat_something(&mut self, wire: &mut Wire) {
        let place = self.rng.index(self.state.confirmed.len());
        if let Some(mut again) = self.state.confirmed.get(place).cloned() {
            again.expires_at = None; // its time may be over, and a repeated id has to be answered as a duplicate
            self.put_on_the_wire(&again, wire);
        }
    }

    fn put_on_the_wire(&mut self, outgoing: &Outgoing, wire: &mut Wire) {
        let Outgoing { message, chat, to, content, expires_at, .. } = outgoing;
        let attempted = Event::SendAttempted { message: *message, chat: *chat, to: to.clone(), content: content.as_str().into() };
        self.recorder.note(self.connection, attempted);
        let mut data = json!({"messageId": message, "content": content});
        for (name, value) in [("chatId", json!(chat)), ("to", json!(to)), ("expiresAt", json!(expires_at))] {
            if value != Value::Null {
                data[name] = value;
            }
        }
        wire.queue(encode("message:send", Some(&message.to_string()), &data));
    }

    fn ack_and_read(&mut self, wire: &mut Wire) {
        let connection = self.connection;
        let (by_id, up_to) = self.due_acks();
        for messages in by_id.chunks(IDS_MAX) {
            let ask = self.perhaps_ask();
            self.recorder.note(connection, Event::AckedIds { messages: messages.to_vec(), ask });
            wire.queue(encode("message:delivered", ask.map(|ask| ask.to_string()).as_deref(), &json!({"messageIds": messages})));
        }
        for (class, up_to) in up_to {
            let ask = self.perhaps_ask();
            self.recorder.note(connection, Event::AckedUpTo { class: super::listener::class(class), up_to, ask });
            let data = json!({"upTo": up_to, "class": class});
            wire.queue(encode("message:delivered", ask.map(|ask| ask.to_string()).as_deref(), &data));
        }
        let reads = self.state.connection.as_mut().map(|session| std::mem::take(&mut session.to_read)).unwrap_or_default();
        for (chat, seq) in reads {
            let ask = self.state.ask();
            self.recorder.note(connection, Event::ReadUpTo { chat, seq, ask });
            wire.queue(encode("message:read", Some(&ask.to_string()), &json!({"chatId": chat, "seq": seq})));
        }
    }

    /// The acks that leave now: by id, of all inboxes together, and up to a number of an inbox. A number below an earlier one is acked by
    /// id.
    fn due_acks(&mut self) -> (Vec<Uuid>, Vec<(domain::Class, i64)>) {
        let Some(session) = &mut self.state.connection else { return (Vec::new(), Vec::new()) };
        let (mut by_id, mut up_to) = (Vec::new(), Vec::new());
        for (class, acks) in session.acks.as_mut() {
            let mut last = None;
            for (message, number) in std::mem::take(&mut acks.due) {
                if session.acks_by_id || number <= acks.highest {
                    by_id.push(message);
                } else {
                    last = Some((class, number));
                }
                acks.highest = acks.highest.max(number);
            }
            up_to.extend(last);
        }
        (by_id, up_to)
    }

    fn perhaps_ask(&mut self) -> Option<u64> {
        self.rng.chance(500).then(|| self.state.ask())
    }

    /// An admin adds a user again, and any other member leaves. The call runs in the background, because it may take long.
    fn change_a_membership(&mut self) {
        let mine: Vec<_> = self.environment.groups.iter().filter(|group| group.people.contains(&self.user)).collect();
        let Some(group) = self.rng.one_of(&mine) else { return };
        let chat = group.chat;
        // There are few admins, so the other members leave less often than they are added again.
        if group.admin != self.user && !self.rng.chance(200) {
            return;
        }
        let (user, change) = match group.admin == self.user {
            true => (self.rng.one_of(&group.people).cloned().unwrap_or_default(), Change::Join),
            false => (self.user.clone(), Change::Leave),
        };
        let (token, url) = self.any_node();
        self.http_calls.spawn(async move {
            let call = async {
                let http = Http::new(&url)?;
                let who = [user.clone()];
                match change {
                    Change::Join => http.add_members(&token, ChatId(chat), &who).await?,
                    Change::Leave => http.remove_members(&token, ChatId(chat), &who).await?,
                }
                anyhow::Ok(())
            };
            let answer = match tokio::time::timeout(HTTP_CALL_MAX, call).await {
                Ok(Ok(())) => "done".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            Event::Membership { chat, user, change, answer }
        });
    }
}

fn soon(after: Duration) -> Option<String> {
    (OffsetDateTime::now_utc() + after).format(&Rfc3339).ok()
}
