//! What a client does by itself, between two frames: it sends, acks and reads what is due, and as its dice fall it says
//! something new, repeats something old, goes away, opens a second connection, or joins and leaves groups.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::memory::Outgoing;
use super::{Actor, Phase, TICK_MS};
use crate::torture::history::{Change, Class, What};
use restante_client::{Http, Wire, encode};
use restante_session::domain::ChatId;
use restante_session::domain::limits::IDS_MAX;

/// What becomes of the connection.
pub(super) enum Next {
    /// It goes on.
    Stay,
    /// The client goes.
    Leave,
    /// The client opens another beside it.
    Double,
    /// The client reads nothing for so long.
    Deaf(Duration),
}

/// A call over HTTP is given up after this; whether it was done is not known then.
const ERRAND_MAX: Duration = Duration::from_secs(8);

/// Sends without an answer; with so many nothing new is said.
const OPEN_MAX: usize = 40;

impl Actor {
    /// Once every few milliseconds, and after each frame.
    pub(super) fn act(&mut self, wire: &mut Wire) -> Next {
        while let Some(Ok(noted)) = self.errands.try_join_next() {
            self.scribe.note(self.connection, noted);
        }
        if !self.memory.session.as_ref().is_some_and(|session| session.is_ready) {
            return Next::Stay;
        }
        let is_run = self.phase() == Phase::Run;
        self.progress.open.store(self.memory.outbox.len(), Ordering::Relaxed);
        self.send_what_is_due(wire);
        if !is_run || self.dice.chance(400) {
            self.ack_and_read(wire);
        }
        if !is_run {
            return Next::Stay;
        }
        if self.progress.doubles.swap(false, Ordering::Relaxed) {
            return Next::Double;
        }
        // Frames come more often than ticks, which only makes the busy busier.
        if self.dice.chance((1000 * TICK_MS / self.world.pace_ms.max(TICK_MS)).min(1000)) { self.draw_a_deed(wire) } else { Next::Stay }
    }

    fn draw_a_deed(&mut self, wire: &mut Wire) -> Next {
        match self.dice.between(1, 1000) {
            1..=780 => self.say_something(),
            781..=850 => self.repeat_something(wire),
            851..=890 => self.change_a_membership(),
            891..=960 => return Next::Leave,
            961..=975 => return Next::Double,
            976..=985 => return Next::Deaf(self.dice.pause_ms(300, 2500)),
            _ => {
                let ask = self.memory.ask();
                self.memory.answered(ask); // nobody waits for the pong
                wire.queue(encode("ping", Some(&format!("ping {ask}")), &json!({})));
            }
        }
        Next::Stay
    }

    fn say_something(&mut self) {
        if self.memory.outbox.len() >= OPEN_MAX {
            return;
        }
        self.memory.made += 1;
        let groups: Vec<Uuid> =
            self.world.groups.iter().filter(|group| group.people.contains(&self.user)).map(|group| group.chat).collect();
        let chat = if self.dice.chance(700) { self.dice.one_of(&groups).copied() } else { None };
        let to = if chat.is_none() { self.dice.one_of(&self.world.users).cloned() } else { None };
        let filling = if self.dice.chance(20) { self.dice.between(1, 8000) } else { self.dice.between(0, 60) };
        let content = format!("{} says {} {}", self.name, self.memory.made, "x".repeat(usize::try_from(filling).unwrap_or_default()));
        let expires_at = self.dice.chance(30).then(|| soon(self.dice.pause_ms(500, 6000))).flatten();
        let message = self.dice.uuid();
        self.memory.outbox.push_back(Outgoing { message, chat, to, content, expires_at, due: Some(Instant::now()) });
    }

    fn send_what_is_due(&mut self, wire: &mut Wire) {
        for outgoing in self.memory.due() {
            self.put_on_the_wire(&outgoing, wire);
        }
    }

    /// The same id once more, although it was confirmed.
    fn repeat_something(&mut self, wire: &mut Wire) {
        let place = self.dice.index(self.memory.confirmed.len());
        if let Some(mut again) = self.memory.confirmed.get(place).cloned() {
            again.expires_at = None; // its time may be over, and the id counts first
            self.put_on_the_wire(&again, wire);
        }
    }

    fn put_on_the_wire(&mut self, outgoing: &Outgoing, wire: &mut Wire) {
        let Outgoing { message, chat, to, content, expires_at, .. } = outgoing;
        let attempted = What::SendAttempted { message: *message, chat: *chat, to: to.clone(), content: content.clone() };
        self.scribe.note(self.connection, attempted);
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
            self.scribe.note(connection, What::AckedIds { messages: messages.to_vec(), ask });
            wire.queue(encode("message:delivered", ask.map(|ask| ask.to_string()).as_deref(), &json!({"messageIds": messages})));
        }
        if let Some(up_to) = up_to {
            let ask = self.perhaps_ask();
            self.scribe.note(connection, What::AckedUpTo { class: Class::Chat, up_to, ask });
            wire.queue(encode("message:delivered", ask.map(|ask| ask.to_string()).as_deref(), &json!({"upTo": up_to})));
        }
        let reads = self.memory.session.as_mut().map(|session| std::mem::take(&mut session.to_read)).unwrap_or_default();
        for (chat, seq) in reads {
            let ask = self.memory.ask();
            self.scribe.note(connection, What::ReadUpTo { chat, seq, ask });
            wire.queue(encode("message:read", Some(&ask.to_string()), &json!({"chatId": chat, "seq": seq})));
        }
    }

    /// Acks that leave now: by id, and up to a number. A number below one that came before is named by its id.
    fn due_acks(&mut self) -> (Vec<Uuid>, Option<i64>) {
        let Some(session) = &mut self.memory.session else { return (Vec::new(), None) };
        let (mut by_id, mut up_to) = (Vec::new(), None);
        for (message, number) in std::mem::take(&mut session.to_ack) {
            if session.acks_by_id || number <= session.highest {
                by_id.push(message);
            } else {
                up_to = Some(number);
            }
            session.highest = session.highest.max(number);
        }
        (by_id, up_to)
    }

    fn perhaps_ask(&mut self) -> Option<u64> {
        self.dice.chance(500).then(|| self.memory.ask())
    }

    /// An admin brings somebody back, anybody else leaves. In the background, since it may take long.
    fn change_a_membership(&mut self) {
        let mine: Vec<_> = self.world.groups.iter().filter(|group| group.people.contains(&self.user)).collect();
        let Some(group) = self.dice.one_of(&mine) else { return };
        let chat = group.chat;
        // Few are admins, so the others leave less often than they are brought back.
        if group.admin != self.user && !self.dice.chance(200) {
            return;
        }
        let (user, change) = match group.admin == self.user {
            true => (self.dice.one_of(&group.people).cloned().unwrap_or_default(), Change::Join),
            false => (self.user.clone(), Change::Leave),
        };
        let node = self.dice.index(self.world.nodes.len());
        let (token, url) = (self.token.clone(), self.world.nodes[node].clone());
        self.errands.spawn(async move {
            let call = async {
                let http = Http::new(&url)?;
                let who = [user.clone()];
                match change {
                    Change::Join => http.add_members(&token, ChatId(chat), &who).await?,
                    Change::Leave => http.remove_members(&token, ChatId(chat), &who).await?,
                }
                anyhow::Ok(())
            };
            let answer = match tokio::time::timeout(ERRAND_MAX, call).await {
                Ok(Ok(())) => "done".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            What::Membership { chat, user, change, answer }
        });
    }
}

fn soon(after: Duration) -> Option<String> {
    (OffsetDateTime::now_utc() + after).format(&Rfc3339).ok()
}
