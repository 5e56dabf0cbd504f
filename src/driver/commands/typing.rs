//! `typing`: told to the members of a chat who are there, kept nowhere.
//!
//! The last state wins. A connection tells one notice in 300 ms at most. A state that comes sooner waits, and of each chat the latest
//! one waits. The members who were told `true` are told `false` when the client says so, when it has not repeated `true` for
//! 6 s, and when its connection ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::{ChatId, UserId, limits};
use crate::driver::{Driver, OperationResult, Outgoing};
use crate::protocol::event::Notice;

/// The shortest time between two typing notices of a connection.
const PAUSE: Duration = Duration::from_millis(limits::TYPING_PAUSE_MS);
/// A `true` that is not repeated for this long is over.
const LASTS: Duration = Duration::from_millis(limits::TYPING_LASTS_MS);
/// Chats of which a connection's state is kept. In a further one the oldest of them ends.
const CHATS_MAX: usize = 8;

/// The typing state of a session.
#[derive(Debug, Default)]
pub(in crate::driver) struct TypingState {
    /// In the order in which they were said last.
    chats: Vec<Typing>,
    /// The chat whose members are being read.
    asked: Option<ChatId>,
    told_at: Option<Instant>,
}

/// The state of one chat.
#[derive(Debug)]
struct Typing {
    chat: ChatId,
    /// The latest state, if it is not told yet.
    wanted: Option<bool>,
    said_at: Instant,
    /// The members who were told `true` last.
    told: Vec<UserId>,
}

/// The next thing to do.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The members of this chat are to be read.
    Ask(ChatId),
    /// These members are to be told.
    Tell(ChatId, Vec<UserId>, bool),
}

impl Typing {
    /// True if nobody else has to be asked for: those who were told `true` are told `false`.
    fn knows_whom_to_tell(&self) -> bool {
        self.wanted == Some(false) && !self.told.is_empty()
    }
}

impl TypingState {
    /// The client says its state in a chat. A state of another chat may have to end for it.
    fn say(&mut self, now: Instant, chat: ChatId, typing: bool) -> Option<Step> {
        let told = match self.chats.iter().position(|known| known.chat == chat) {
            Some(place) => self.chats.remove(place).told,
            None => Vec::new(),
        };
        let ended = (self.chats.len() >= CHATS_MAX).then(|| self.chats.remove(0));
        self.chats.push(Typing { chat, wanted: Some(typing), said_at: now, told });
        ended.filter(|ended| !ended.told.is_empty()).map(|ended| Step::Tell(ended.chat, ended.told, false))
    }

    /// The next step, if one is due.
    fn step(&mut self, now: Instant) -> Option<Step> {
        for typing in self.chats.iter_mut().filter(|typing| typing.wanted.is_none() && typing.said_at + LASTS <= now) {
            typing.wanted = Some(false);
        }
        if self.told_at.is_some_and(|told| now < told + PAUSE) {
            return None;
        }
        let asked = self.asked;
        let may_go = |typing: &Typing| match asked {
            None => typing.wanted.is_some(),
            Some(asked) => typing.knows_whom_to_tell() && typing.chat != asked,
        };
        let place = self.chats.iter().position(may_go)?;
        self.told_at = Some(now);
        if self.chats[place].knows_whom_to_tell() {
            let Typing { chat, told, .. } = self.chats.remove(place);
            return Some(Step::Tell(chat, told, false));
        }
        let chat = self.chats[place].chat;
        self.asked = Some(chat);
        Some(Step::Ask(chat))
    }

    /// The members of the chat that was asked for; nobody: the user is not in it, or that could not be read.
    fn found(&mut self, chat: ChatId, users: Vec<UserId>) -> Option<Step> {
        self.asked = None;
        let place = self.chats.iter().position(|typing| typing.chat == chat)?;
        let typing = &mut self.chats[place];
        match typing.wanted.take() {
            Some(true) if !users.is_empty() => {
                typing.told.clone_from(&users);
                Some(Step::Tell(chat, users, true))
            }
            Some(_) => {
                let told = self.chats.remove(place).told;
                Some(Step::Tell(chat, if told.is_empty() { users } else { told }, false))
            }
            None => None,
        }
    }

    /// The time of the next step; none: nothing is due but an answer.
    pub(in crate::driver) fn deadline(&self) -> Option<Instant> {
        let at = |typing: &Typing| match (typing.wanted, self.asked) {
            (None, _) => Some(typing.said_at + LASTS),
            (Some(_), Some(asked)) if !typing.knows_whom_to_tell() || typing.chat == asked => None,
            (Some(_), _) => Some(self.told_at.map_or(typing.said_at, |told| told + PAUSE)),
        };
        self.chats.iter().filter_map(at).min()
    }

    /// The connection ends: the members who believe that the user types.
    fn end(&mut self) -> Vec<Step> {
        let chats = std::mem::take(&mut self.chats).into_iter().filter(|typing| !typing.told.is_empty());
        chats.map(|typing| Step::Tell(typing.chat, typing.told, false)).collect()
    }
}

/// Takes the client's state in a chat.
pub(super) fn typing<O: Outgoing>(driver: &mut Driver<O>, chat: ChatId, typing: bool) {
    let now = Instant::now();
    let ended = driver.typing.say(now, chat, typing);
    ended.into_iter().for_each(|step| perform(driver, step));
    due(driver, now);
}

/// Performs the step that is due.
pub(in crate::driver) fn due<O: Outgoing>(driver: &mut Driver<O>, now: Instant) {
    if let Some(step) = driver.typing.step(now) {
        perform(driver, step);
    }
}

/// Tells the members, and goes on.
pub(in crate::driver) fn audience_found<O: Outgoing>(driver: &mut Driver<O>, chat: ChatId, users: Vec<UserId>) {
    let step = driver.typing.found(chat, users);
    step.into_iter().for_each(|step| perform(driver, step));
    due(driver, Instant::now());
}

/// The connection has ended: nobody is left with a user who types.
pub(in crate::driver) fn end<O: Outgoing>(driver: &mut Driver<O>) {
    driver.typing.end().into_iter().for_each(|step| perform(driver, step));
}

fn perform<O: Outgoing>(driver: &mut Driver<O>, step: Step) {
    match step {
        Step::Ask(chat) => {
            let (service, user) = (driver.context.service.clone(), Arc::clone(&driver.client.profile));
            driver.run(Box::pin(async move {
                // The user is no member, or the database is away: nobody is told.
                OperationResult::Audience(chat, service.typing_audience(&user, chat).await.unwrap_or_default())
            }));
        }
        Step::Tell(chat, users, typing) => {
            let user = driver.client.profile.external.clone();
            driver.context.notifier.notice(users, Notice::Typing { chat, user, typing });
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const BEN: UserId = UserId(2);

    fn chat(n: u128) -> ChatId {
        ChatId(Uuid::from_u128(n))
    }

    fn tell(n: u128, typing: bool) -> Option<Step> {
        Some(Step::Tell(chat(n), vec![BEN], typing))
    }

    /// One chat in which `true` was told, and the time.
    fn typing() -> (TypingState, Instant) {
        let (mut state, now) = (TypingState::default(), Instant::now());
        assert_eq!(state.say(now, chat(1), true), None);
        assert_eq!(state.step(now), Some(Step::Ask(chat(1))));
        assert_eq!(state.found(chat(1), vec![BEN]), tell(1, true));
        (state, now)
    }

    #[test]
    fn what_is_said_too_soon_waits_and_the_last_state_is_told() {
        let (mut state, now) = typing();
        for typing in [false, true, false] {
            assert_eq!((state.say(now, chat(1), typing), state.step(now)), (None, None));
        }
        assert_eq!(state.deadline(), Some(now + PAUSE));
        assert_eq!(state.step(now + PAUSE), tell(1, false));
        assert_eq!((state.deadline(), state.step(now + 9 * LASTS)), (None, None), "it is over");
        let (mut state, now) = typing();
        for typing in [false, true] {
            assert_eq!((state.say(now, chat(1), typing), state.step(now)), (None, None));
        }
        assert_eq!(state.step(now + PAUSE), Some(Step::Ask(chat(1))), "the first one that waits is not the last");
        assert_eq!(state.found(chat(1), vec![BEN]), tell(1, true));
    }

    #[test]
    fn a_state_that_changes_while_the_members_are_read_is_told_as_it_is_then() {
        let (mut state, now) = (TypingState::default(), Instant::now());
        state.say(now, chat(1), true);
        assert_eq!(state.step(now), Some(Step::Ask(chat(1))));
        state.say(now, chat(1), false);
        assert_eq!((state.deadline(), state.step(now + LASTS)), (None, None));
        assert_eq!(state.found(chat(1), vec![BEN]), tell(1, false));
        assert_eq!(state.end(), []);
    }

    #[test]
    fn a_state_that_is_not_repeated_is_over_after_six_seconds_and_one_that_is_lasts() {
        let (mut state, now) = typing();
        assert_eq!((state.deadline(), state.step(now + LASTS / 2)), (Some(now + LASTS), None));
        let again = now + LASTS / 2;
        state.say(again, chat(1), true);
        assert_eq!(state.step(again), Some(Step::Ask(chat(1))));
        assert_eq!(state.found(chat(1), vec![BEN]), tell(1, true));
        assert_eq!(state.step(now + LASTS), None);
        assert_eq!(state.step(again + LASTS), tell(1, false));
        assert_eq!(state.end(), []);
    }

    #[test]
    fn at_the_end_those_are_told_who_were_told_that_the_user_types() {
        let (mut state, now) = typing();
        state.say(now, chat(2), true);
        state.say(now, chat(3), false);
        assert_eq!(state.end(), [tell(1, false).unwrap()]);
    }

    #[test]
    fn a_user_who_is_no_member_any_more_is_said_to_have_stopped() {
        let (mut state, now) = typing();
        state.say(now + PAUSE, chat(1), true);
        assert_eq!(state.step(now + PAUSE), Some(Step::Ask(chat(1))));
        assert_eq!(state.found(chat(1), Vec::new()), tell(1, false));
        assert_eq!(state.end(), []);
    }

    #[test]
    fn one_notice_goes_out_in_a_pause_whatever_the_number_of_chats_and_few_chats_are_kept() {
        let (mut state, mut now) = typing();
        let mut told = 1;
        for n in 0..1_000 {
            now += Duration::from_millis(10);
            told += u32::from(state.say(now, chat(n % 40 + 1), n % 3 > 0).is_some());
            if let Some(Step::Ask(chat)) = state.step(now) {
                told += u32::from(state.found(chat, vec![BEN]).is_some());
            }
            assert!(state.chats.len() <= CHATS_MAX);
        }
        // 10 s, and each `true` ends once.
        assert!(told <= 2 * (10_000 / 300 + 1), "{told}");
    }

    #[test]
    fn an_end_does_not_wait_for_the_members_of_another_chat() {
        let (mut state, now) = typing();
        state.say(now, chat(2), true);
        assert_eq!(state.step(now + PAUSE), Some(Step::Ask(chat(2))));
        assert_eq!(state.deadline(), Some(now + LASTS));
        assert_eq!(state.step(now + LASTS), tell(1, false));
    }
}
