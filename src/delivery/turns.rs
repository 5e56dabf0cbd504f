//! The turns of a chat: those who join and leave it, or are taken in and out, take turns with those who send to it.
//!
//! Both take the lock of the chat's row. Where many change a chat, one of them always waits for that lock, and a lane, which does not
//! wait for long, might never find it free. So on one node one change of a chat is under way at a time, and it begins once the sends are
//! answered that were there before it. A send waits for one change at most.
//!
//! Other nodes are not asked: where there are any, a chat is left alone after each change for as long as that has taken.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep, timeout};

use super::routes::Routes;
use crate::domain::ChatId;

/// A change waits for its turn for this time at most, and then for this time at most for the sends before it. As long may it wait for
/// the lock of the chat's row then.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest time for which a chat is left alone after a change.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The chats of a node that are being changed. Clones share them.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    routes: Arc<Routes>,
    /// A chat is here while somebody changes it, or waits for that.
    chats: Mutex<HashMap<ChatId, Arc<tokio::sync::Mutex<()>>>>,
}

/// The turn of one change. It ends when this is dropped.
#[derive(Debug)]
pub struct Turn {
    // Given back before the place is.
    _turn: OwnedMutexGuard<()>,
    _place: Place,
    begun: Instant,
}

/// A place in the line of a chat.
#[derive(Debug)]
struct Place {
    turns: Turns,
    chat: ChatId,
}

impl Turns {
    pub(super) fn new(routes: Arc<Routes>) -> Self {
        Self(Arc::new(Inner { routes, chats: Mutex::default() }))
    }

    /// Waits for the turn to change who is in this chat. None: it did not come within a second, because others change it.
    pub async fn change(&self, chat: ChatId) -> Option<Turn> {
        let (place, line) = self.enter(chat);
        let turn = timeout(PATIENCE, line.lock_owned()).await.ok()?;
        // A time of its own: a change that has waited long for its turn must not pass the sends that are there. Sends that take longer
        // wait for somebody else than those who change the chat.
        let _ = timeout(PATIENCE, self.0.routes.answered(chat)).await;
        Some(Turn { _turn: turn, _place: place, begun: Instant::now() })
    }

    fn enter(&self, chat: ChatId) -> (Place, Arc<tokio::sync::Mutex<()>>) {
        let line = Arc::clone(self.lock().entry(chat).or_default());
        (Place { turns: self.clone(), chat }, line)
    }

    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, HashMap<ChatId, Arc<tokio::sync::Mutex<()>>>> {
        self.0.chats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Ends the turn once the chat was left alone for as long as the turn has taken, and not longer than 100 ms: sends of other nodes,
    /// of which this node does not know, find it free. Returns at once.
    pub fn end_after_a_pause(self) {
        let pause = self.begun.elapsed().min(LONGEST_PAUSE);
        tokio::spawn(async move {
            sleep(pause).await;
            drop(self);
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut chats = self.turns.lock();
        // Changes that wait hold the line too.
        if chats.get(&self.chat).is_some_and(|line| Arc::strong_count(line) == 1) {
            chats.remove(&self.chat);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    fn turns() -> (Arc<Routes>, Turns) {
        let routes = Routes::new(1);
        (Arc::clone(&routes), Turns::new(routes))
    }

    #[tokio::test(start_paused = true)]
    async fn one_change_of_a_chat_is_under_way_at_a_time_and_none_of_another_chat_waits() {
        let (_, turns) = turns();
        let [chat, other] = [(); 2].map(|()| ChatId::generate());
        let first = turns.change(chat).await.unwrap();
        let mut second = pin!(turns.change(chat));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(turns.change(other).now_or_never().flatten().is_some());
        drop(first);
        drop(second.as_mut().now_or_never().flatten().unwrap());
        assert!(turns.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_begins_once_the_sends_before_it_are_answered_and_not_later() {
        let (routes, turns) = turns();
        let chat = ChatId::generate();
        for _ in 0..2 {
            routes.enter(chat);
        }
        let mut change = pin!(turns.change(chat));
        assert!(change.as_mut().now_or_never().is_none());
        // It came later.
        routes.enter(chat);
        routes.leave(chat);
        assert!(change.as_mut().now_or_never().is_none(), "one that was there before is under way");
        routes.leave(chat);
        assert!(change.as_mut().now_or_never().flatten().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn sends_that_somebody_else_holds_keep_a_change_for_a_second_and_a_change_that_takes_longer_keeps_nobody() {
        let (routes, turns) = turns();
        let chat = ChatId::generate();
        routes.enter(chat);
        let turn = turns.change(chat).await.expect("it goes on after a second");
        assert!(turns.change(chat).await.is_none(), "it does not wait for ever");
        drop(turn);
        assert!(turns.lock().is_empty(), "nothing is left of those who gave up");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_change_the_chat_is_left_alone_for_as_long_as_that_took() {
        let (_, turns) = turns();
        let chat = ChatId::generate();
        let turn = turns.change(chat).await.unwrap();
        tokio::time::advance(Duration::from_millis(40)).await;
        let ended = Instant::now();
        turn.end_after_a_pause();
        drop(turns.change(chat).await.unwrap());
        assert_eq!(ended.elapsed(), Duration::from_millis(40));
    }
}
