//! Streams of feeds to which something was published, until a task of this node looks which connected users follow them. A stream
//! that moves often waits once. It knows neither the database nor who follows what.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::ChatId;

/// Streams that may wait of those that a node tells. Beyond it everybody looks.
const TOLD_MAX: usize = 10_000;
/// Streams that may wait of those that nobody has signed. Beyond it they are dropped: sessions look for themselves now and then.
const UNSIGNED_MAX: usize = 10_000;
/// Streams that are taken at once.
const TAKEN_MAX: usize = 256;

/// Streams that have moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MovedFeeds {
    /// These.
    Streams(Vec<ChatId>),
    /// Any of them: too many have moved.
    All,
}

/// The streams that wait.
#[derive(Debug, Default)]
pub(super) struct MovedStreams {
    content: Mutex<Content>,
    ring: Notify,
}

#[derive(Debug, Default)]
struct Content {
    told: BTreeSet<ChatId>,
    unsigned: BTreeSet<ChatId>,
    everybody: bool,
}

impl MovedStreams {
    /// A node tells of these streams.
    pub(super) fn put(&self, streams: &[ChatId]) {
        let mut content = self.content();
        content.told.extend(streams);
        if content.told.len() > TOLD_MAX {
            (content.told, content.everybody) = (BTreeSet::new(), true);
        }
        drop(content);
        self.ring.notify_one();
    }

    /// Somebody tells of these streams and has not signed it.
    pub(super) fn put_unsigned(&self, streams: &[ChatId]) {
        let mut content = self.content();
        let room = UNSIGNED_MAX.saturating_sub(content.unsigned.len());
        content.unsigned.extend(streams.iter().take(room));
        drop(content);
        self.ring.notify_one();
    }

    /// Waits until some have moved, and takes them. One task calls this. May be dropped at any time.
    pub(super) async fn take(&self) -> MovedFeeds {
        loop {
            if let Some(moved) = self.content().take() {
                return moved;
            }
            self.ring.notified().await;
        }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // Code under the lock cannot panic half-way: a panicking thread leaves the value whole.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn take(&mut self) -> Option<MovedFeeds> {
        if std::mem::take(&mut self.everybody) {
            self.told.clear();
            return Some(MovedFeeds::All);
        }
        let mut streams = Vec::new();
        for waiting in [&mut self.told, &mut self.unsigned] {
            while streams.len() < TAKEN_MAX
                && let Some(stream) = waiting.pop_first()
            {
                streams.push(stream);
            }
        }
        (!streams.is_empty()).then_some(MovedFeeds::Streams(streams))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn streams(count: usize) -> Vec<ChatId> {
        (0..count).map(|_| ChatId::generate()).collect()
    }

    fn taken(moved: &MovedStreams) -> Vec<MovedFeeds> {
        std::iter::from_fn(|| moved.take().now_or_never()).collect()
    }

    #[tokio::test]
    async fn a_stream_waits_once_however_often_it_moves() {
        let (moved, stream) = (MovedStreams::default(), ChatId::generate());
        for _ in 0..100_000 {
            moved.put(&[stream]);
        }
        moved.put_unsigned(&[stream]);
        assert_eq!(taken(&moved), [MovedFeeds::Streams(vec![stream, stream])], "told, and unsigned");
        moved.put(&[stream]);
        assert_eq!(moved.take().await, MovedFeeds::Streams(vec![stream]));
        assert_eq!(taken(&moved), []);
    }

    #[tokio::test]
    async fn whatever_is_unsigned_is_bounded_and_keeps_back_nothing_that_a_node_tells() {
        let moved = MovedStreams::default();
        for _ in 0..30 {
            moved.put_unsigned(&streams(1_000));
        }
        let of_node = streams(3);
        moved.put(&of_node);
        let parts = taken(&moved);
        let MovedFeeds::Streams(first) = &parts[0] else { panic!("{parts:?}") };
        assert!(of_node.iter().all(|stream| first[..3].contains(stream)));
        let len = |part: &MovedFeeds| match part {
            MovedFeeds::Streams(streams) => streams.len(),
            MovedFeeds::All => panic!("what nobody signed makes nobody look"),
        };
        assert!(parts.iter().all(|part| len(part) <= TAKEN_MAX));
        assert_eq!(parts.iter().map(len).sum::<usize>(), UNSIGNED_MAX + 3);
    }

    #[tokio::test]
    async fn too_many_that_nodes_tell_are_all() {
        let moved = MovedStreams::default();
        (0..30).for_each(|_| moved.put(&streams(1_000)));
        assert_eq!(taken(&moved).first(), Some(&MovedFeeds::All));
        assert!(moved.content().told.len() <= TOLD_MAX);
    }
}
