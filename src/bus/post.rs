//! The way in to the bus, and the task that publishes the queued news.
//!
//! A caller never waits: neither for the database nor for another node. Publishing is a transaction of its own, after the
//! commit that the news tell of. One publication takes all news that came since the one before it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::debug;

pub use super::queue::Posted;

use super::message::BusMessage;
use super::queue::{Next, Queue};
use crate::domain::NodeId;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The way in: news for the other nodes. Clones share one queue.
#[derive(Debug, Clone)]
pub struct Bus(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    me: NodeId,
    content: Mutex<Content>,
    ring: Notify,
}

#[derive(Debug, Default)]
struct Content {
    /// The other nodes that live, as far as is known.
    others: Arc<[NodeId]>,
    /// Those that said so since the registry was last asked: what it answers may be from before they came.
    met: Vec<NodeId>,
    queue: Queue,
}

impl Bus {
    /// A bus that knows of nobody yet.
    pub fn new(me: NodeId) -> Self {
        Self(Arc::new(Shared { me, content: Mutex::default(), ring: Notify::new() }))
    }

    /// The node whose bus it is.
    pub fn me(&self) -> NodeId {
        self.0.me
    }

    /// Whether no other node is known to live.
    pub fn is_alone(&self) -> bool {
        self.content().others.is_empty()
    }

    /// Tells the other nodes.
    pub fn post(&self, news: &BusMessage) -> Posted {
        let mut content = self.content();
        if content.others.is_empty() {
            return Posted::Alone;
        }
        let posted = content.queue.put(news);
        drop(content);
        self.0.ring.notify_one();
        posted
    }

    /// This node begins, and the nodes in `live` live. They are told of it. Sessions find earlier news in the database.
    pub fn begin(&self, live: Vec<NodeId>) {
        let mut content = self.content();
        content.others = self.without_me(live).into();
        drop(content);
        self.post(&BusMessage::Hello(self.0.me));
    }

    /// The registry is asked now for the nodes that live. [`Bus::know`] brings its answer.
    pub fn ask(&self) {
        self.content().met.clear();
    }

    /// These nodes live, and no others. Those that are new look for themselves: what was committed before they were known
    /// was not told to them. True: one has gone.
    pub fn know(&self, mut live: Vec<NodeId>) -> bool {
        let mut content = self.content();
        live.extend_from_slice(&content.met);
        let live = self.without_me(live);
        let newcomers: Vec<NodeId> = live.iter().copied().filter(|node| !content.others.contains(node)).collect();
        let has_gone = content.others.iter().any(|node| !live.contains(node));
        content.queue.greet(&newcomers);
        content.others = live.into();
        if content.others.is_empty() {
            content.queue.clear();
        }
        drop(content);
        self.0.ring.notify_one();
        has_gone
    }

    /// This node says that it has come.
    pub fn meet(&self, node: NodeId) {
        let mut content = self.content();
        content.met.push(node);
        let live = content.others.to_vec();
        drop(content);
        self.know(live);
    }

    /// The latest news may not have arrived: tells the other nodes to read the database.
    pub fn lost(&self) {
        let mut content = self.content();
        if !content.others.is_empty() {
            content.queue.lost();
        }
        drop(content);
        self.0.ring.notify_one();
    }

    /// This node says that it goes.
    pub fn part(&self, node: NodeId) {
        let mut content = self.content();
        let others: Vec<NodeId> = content.others.iter().copied().filter(|other| *other != node).collect();
        content.others = others.into();
        content.met.retain(|other| *other != node);
    }

    /// The nodes to tell when this node stops, and the news for them.
    pub fn farewell(&self) -> (Vec<NodeId>, Vec<String>) {
        (self.content().others.to_vec(), BusMessage::Bye(self.0.me).lines().unwrap_or_default())
    }

    fn next(&self) -> Option<(Arc<[NodeId]>, Vec<String>)> {
        let mut content = self.content();
        match content.queue.next() {
            Next::All(payloads) => Some((Arc::clone(&content.others), payloads)),
            Next::Newcomers(nodes, payload) => Some((nodes.into(), vec![payload])),
            Next::Nothing => None,
        }
    }

    fn without_me(&self, mut live: Vec<NodeId>) -> Vec<NodeId> {
        live.retain(|node| *node != self.0.me);
        live.sort_unstable();
        live.dedup();
        live
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // Nothing that runs under the lock can panic half-way: what a panicking thread left is whole.
        self.0.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Publishes until it is dropped. `carry` takes payloads to nodes; false: they did not arrive.
pub async fn publish<F: Future<Output = bool>>(bus: Bus, carry: impl Fn(Arc<[NodeId]>, Vec<String>) -> F) {
    let mut pause = FIRST_PAUSE;
    loop {
        let Some((to, payloads)) = bus.next() else {
            bus.0.ring.notified().await;
            continue;
        };
        if carry(to, payloads).await {
            pause = FIRST_PAUSE;
            continue;
        }
        debug!("other nodes could not be told; they are to look for themselves");
        bus.lost();
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::domain::{Class, UserId};

    fn wake() -> BusMessage {
        BusMessage::Wake(Class::Chat, vec![UserId(1)])
    }

    #[tokio::test]
    async fn who_is_alone_tells_nothing_and_keeps_nothing() {
        let bus = Bus::new(NodeId::generate());
        assert_eq!(bus.post(&wake()), Posted::Alone);
        bus.know(vec![bus.me()]);
        assert!(bus.is_alone());
        assert_eq!(bus.content().queue.next(), Next::Nothing);
        let other = NodeId::generate();
        bus.know(vec![other]);
        bus.post(&wake());
        assert!(bus.know(Vec::new()));
        assert_eq!(bus.content().queue.next(), Next::Nothing);
    }

    #[test]
    fn a_node_that_came_while_the_registry_was_asked_stays_known() {
        let bus = Bus::new(NodeId::generate());
        bus.ask();
        bus.meet(NodeId::generate());
        assert!(!bus.know(Vec::new()) && !bus.is_alone());
        bus.ask();
        assert!(bus.know(Vec::new()) && bus.is_alone());
    }

    #[tokio::test]
    async fn what_did_not_arrive_is_a_look_for_everybody_once_something_arrives() {
        let bus = Bus::new(NodeId::generate());
        let other = NodeId::generate();
        bus.meet(other);
        bus.meet(other);
        bus.post(&wake());
        let (carried, mut payloads) = mpsc::unbounded_channel();
        let publishing = tokio::spawn(publish(bus.clone(), move |to, told| {
            let (carried, tries) = (carried.clone(), carried.strong_count());
            async move { carried.send((to.to_vec(), told, tries)).is_ok() }
        }));
        let (to, told, _) = payloads.recv().await.unwrap();
        assert_eq!((to, told.len()), (vec![other], 1));
        assert!(matches!(BusMessage::read(&told[0]), Some(BusMessage::Look)), "the newcomer is greeted");
        let (_, told, _) = payloads.recv().await.unwrap();
        assert!(matches!(BusMessage::read(&told[0]), Some(BusMessage::Wake(..))));
        publishing.abort();

        bus.post(&wake());
        let (carried, mut payloads) = mpsc::unbounded_channel();
        let tries = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let publishing = tokio::spawn(publish(bus.clone(), move |_, told| {
            let (carried, first) = (carried.clone(), tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0);
            async move { !first && carried.send(told).is_ok() }
        }));
        let told = payloads.recv().await.unwrap();
        assert!(matches!(BusMessage::read(&told[0]), Some(BusMessage::Look)), "{told:?}");
        publishing.abort();
    }
}
