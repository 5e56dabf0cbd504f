//! The way in to the bus, and the task that publishes the queued messages.
//!
//! A caller never waits: neither for the database nor for another node. Publishing is a transaction of its own, after the
//! commit that the messages tell of. One publication takes all messages that came since the one before it, and seals them for each
//! node. Which nodes live is said by the database alone: a message makes this node ask it again, and no more.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::debug;

pub use super::queue::Posted;

use super::BusEvent;
use super::message::BusMessage;
use super::queue::{Next, Queue};
use super::seal::{Listing, Opened, Rejected, Seals};
use crate::domain::NodeId;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Payloads that are sealed, each with the node that it is for.
pub type Letters = Vec<(NodeId, String)>;

/// The way in: messages for the other nodes. Clones share one queue.
#[derive(Debug, Clone)]
pub struct Bus(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    me: NodeId,
    content: Mutex<Content>,
    seals: Mutex<Seals>,
    ring: Notify,
    /// Rung when the database is to be asked which nodes live.
    outdated: Notify,
    /// Held while letters are sealed and carried: they arrive in the order of their counters.
    publishing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Content {
    /// The other nodes that live, as far as is known.
    others: Arc<[NodeId]>,
    /// Those that said that they go, after they had told everything.
    parted: BTreeSet<NodeId>,
    queue: Queue,
}

impl Bus {
    /// A bus that knows of nobody yet.
    pub fn new(me: NodeId) -> Self {
        let (content, seals) = (Mutex::default(), Mutex::new(Seals::new(me)));
        Self(Arc::new(Shared {
            me,
            content,
            seals,
            ring: Notify::new(),
            outdated: Notify::new(),
            publishing: tokio::sync::Mutex::default(),
        }))
    }

    /// The node whose bus it is.
    pub fn me(&self) -> NodeId {
        self.0.me
    }

    /// Returns whether no other node is known to live.
    pub fn is_alone(&self) -> bool {
        self.content().others.is_empty()
    }

    /// Nodes that are known to live, this one too.
    pub fn live_nodes(&self) -> u32 {
        u32::try_from(self.content().others.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Tells the other nodes.
    pub fn post(&self, message: &BusMessage) -> Posted {
        let mut content = self.content();
        if content.others.is_empty() {
            return Posted::Alone;
        }
        let posted = content.queue.put(message);
        drop(content);
        self.0.ring.notify_one();
        posted
    }

    /// This node begins, and the nodes of the listing live. They are told of it. Sessions find in the database what was committed before.
    pub fn begin(&self, listing: Listing) {
        let live = self.others_of(&listing);
        self.seals().list(listing);
        self.content().others = live.into();
        self.post(&BusMessage::Hello);
    }

    /// The nodes of the listing live, and no others. The sessions of those that are new check everything: what was committed before they were
    /// known was not told to them. `received` gets what they said before they were listed here. True: the sessions of this node are to
    /// check everything, since one has gone that may not have told everything, or one that is new said too much before it was listed here.
    pub fn know(&self, listing: Listing, received: &mut impl FnMut(BusEvent)) -> bool {
        let live = self.others_of(&listing);
        let arrived = self.seals().list(listing);
        let mut content = self.content();
        let has_gone = content.others.iter().any(|node| !live.contains(node) && !content.parted.contains(node));
        content.parted.retain(|node| live.contains(node));
        content.queue.greet(&arrived.nodes);
        content.others = live.into();
        if content.others.is_empty() {
            content.queue.clear();
        }
        drop(content);
        self.0.ring.notify_one();
        for (sender, text) in &arrived.letters {
            text.lines().for_each(|line| received(self.line(*sender, line)));
        }
        has_gone || arrived.has_missed
    }

    /// Waits until the database is to be asked which nodes live.
    pub async fn outdated(&self) {
        self.0.outdated.notified().await;
    }

    /// These payloads may not have arrived: tells the other nodes to check the database.
    pub(super) fn lost(&self, payloads: &[String]) {
        let mut content = self.content();
        if !content.others.is_empty() {
            content.queue.lost(payloads);
        }
        drop(content);
        self.0.ring.notify_one();
    }

    /// Takes what was heard on the channel of this node, and says what it is.
    pub fn open(&self, letter: &str, received: &mut impl FnMut(BusEvent)) {
        self.open_or_own(letter, |_| {}, received);
    }

    /// The same; `own` gets the text of what this node has sent to itself.
    pub(super) fn open_or_own(&self, letter: &str, own: impl FnOnce(String), received: &mut impl FnMut(BusEvent)) {
        let opened = self.seals().open(letter);
        match opened {
            Opened::Letter(sender, text) if sender == self.0.me => own(text),
            Opened::Letter(sender, text) => text.lines().for_each(|line| received(self.line(sender, line))),
            Opened::Rejected(reason) => {
                if reason == Rejected::Unlisted {
                    self.0.outdated.notify_one();
                }
                received(BusEvent::Rejected(reason));
            }
        }
    }

    /// A letter for a node. None: this node is not listed yet.
    #[cfg(any(feature = "nats", test))]
    pub(super) fn seal(&self, to: NodeId, text: &str) -> Option<String> {
        self.seals().seal(to, text)
    }

    fn line(&self, sender: NodeId, line: &str) -> BusEvent {
        let Some(message) = BusMessage::read(line) else { return BusEvent::Unknown };
        match message {
            BusMessage::Hello => self.0.outdated.notify_one(),
            BusMessage::Bye => {
                self.content().parted.insert(sender);
            }
            _ => {}
        }
        BusEvent::Message(message)
    }

    fn next(&self) -> Option<(Arc<[NodeId]>, Vec<String>)> {
        let mut content = self.content();
        match content.queue.next() {
            Next::All(payloads) => Some((Arc::clone(&content.others), payloads)),
            Next::Newcomers(nodes, payload) => Some((nodes.into(), vec![payload])),
            Next::Nothing => None,
        }
    }

    fn letters(&self, to: &[NodeId], payloads: &[String]) -> Letters {
        let mut seals = self.seals();
        let each = to.iter().flat_map(|node| payloads.iter().map(move |payload| (*node, payload)));
        each.filter_map(|(node, payload)| Some((node, seals.seal(node, payload)?))).collect()
    }

    fn others_of(&self, listing: &Listing) -> Vec<NodeId> {
        let mut live: Vec<NodeId> = listing.live.iter().map(|(node, _)| *node).filter(|node| *node != self.0.me).collect();
        live.sort_unstable();
        live.dedup();
        live
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // Code under the lock cannot panic half-way: a panicking thread leaves the value whole.
        self.0.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seals(&self) -> MutexGuard<'_, Seals> {
        // As in `content`.
        self.0.seals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Publishes until `end` is ready and nothing is left. `carry` takes letters to nodes; false: they did not arrive. Returns whether
/// everything was carried; else the sessions of the other nodes have to check everything.
///
/// Dropped in the middle, it leaves the letters that are under way neither carried nor queued.
pub async fn publish<F: Future<Output = bool>>(bus: &Bus, end: impl Future<Output = ()>, carry: impl Fn(Letters) -> F) -> bool {
    let mut end = std::pin::pin!(end);
    let mut pause = FIRST_PAUSE;
    loop {
        let one_at_a_time = bus.0.publishing.lock().await;
        if let Some((to, payloads)) = bus.next() {
            if carry(bus.letters(&to, &payloads)).await {
                pause = FIRST_PAUSE;
                continue;
            }
            debug!("other nodes could not be told; their sessions are to check everything");
            bus.lost(&payloads);
            drop(one_at_a_time);
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = &mut end => return false,
            }
            continue;
        }
        drop(one_at_a_time);
        tokio::select! {
            biased;
            () = bus.0.ring.notified() => {}
            () = &mut end => return true,
        }
    }
}

/// Tells the other nodes that this one goes and has told everything. To be called when [`publish`] has returned true.
/// False: it did not arrive.
pub async fn part<F: Future<Output = bool>>(bus: &Bus, carry: impl Fn(Letters) -> F) -> bool {
    let _one_at_a_time = bus.0.publishing.lock().await;
    let (others, farewell) = (Arc::clone(&bus.content().others), BusMessage::Bye.lines().unwrap_or_default());
    others.is_empty() || carry(bus.letters(&others, &farewell)).await
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::sync::mpsc;

    use super::super::seal::listing;
    use super::*;
    use crate::domain::{Class, UserId};

    fn wake() -> BusMessage {
        BusMessage::Wake(Class::Chat, vec![UserId(1)])
    }

    /// Two nodes that the database lists.
    fn pair() -> (Bus, Bus) {
        let (one, other) = (Bus::new(NodeId::generate()), Bus::new(NodeId::generate()));
        one.begin(listing(&[one.me()]));
        other.begin(listing(&[other.me(), one.me()]));
        one.know(listing(&[one.me(), other.me()]), &mut |_| {});
        (one, other)
    }

    /// The words of what a bus says of letters for it.
    fn opened(bus: &Bus, letters: &Letters) -> Vec<String> {
        let mut events = Vec::new();
        for (_, letter) in letters.iter().filter(|(node, _)| *node == bus.me()) {
            bus.open(letter, &mut |event| events.push(event));
        }
        let word = |event: BusEvent| match event {
            BusEvent::Message(message) => message.kind().to_owned(),
            other => format!("{other:?}"),
        };
        events.into_iter().map(word).collect()
    }

    /// Everything that is queued, once.
    async fn published(bus: &Bus) -> Letters {
        let (carried, mut letters) = mpsc::unbounded_channel();
        assert!(publish(bus, ready(()), |told| ready(carried.send(told).is_ok())).await);
        drop(carried);
        let mut all = Letters::new();
        while let Some(some) = letters.recv().await {
            all.extend(some);
        }
        all
    }

    #[test]
    fn a_letter_is_read_line_by_line() {
        let (one, other) = pair();
        let letter = other.seal(one.me(), "\"Z\"\n{}\n{\"w\":[\"chat\",[7]]}").unwrap();
        assert_eq!(opened(&one, &vec![(one.me(), letter)]), ["Unknown", "Unknown", "wake"]);
    }

    #[tokio::test]
    async fn who_is_alone_tells_nothing_and_keeps_nothing() {
        let bus = Bus::new(NodeId::generate());
        assert_eq!(bus.post(&wake()), Posted::Alone);
        bus.know(listing(&[bus.me()]), &mut |_| {});
        assert!(bus.is_alone());
        assert_eq!(bus.content().queue.next(), Next::Nothing);
        let other = NodeId::generate();
        bus.know(listing(&[bus.me(), other]), &mut |_| {});
        bus.post(&wake());
        assert!(bus.know(listing(&[bus.me()]), &mut |_| {}));
        assert_eq!(bus.content().queue.next(), Next::Nothing);
    }

    #[tokio::test]
    async fn a_node_that_says_that_it_has_come_is_believed_once_the_database_lists_it() {
        let (one, other) = (Bus::new(NodeId::generate()), Bus::new(NodeId::generate()));
        one.begin(listing(&[one.me()]));
        other.begin(listing(&[other.me(), one.me()]));
        let hello = published(&other).await;
        assert_eq!(opened(&one, &hello), ["Rejected(Unlisted)"]);
        assert!(one.is_alone());
        one.outdated().await;
        assert!(!one.know(listing(&[one.me(), other.me()]), &mut |_| {}), "it has said no more than that it came");
        assert!(!one.is_alone());
        assert_eq!(opened(&other, &published(&one).await), ["check"], "it is greeted");
    }

    #[tokio::test]
    async fn what_a_node_told_before_it_was_listed_here_is_heard_once_it_is() {
        let (one, other) = (Bus::new(NodeId::generate()), Bus::new(NodeId::generate()));
        one.begin(listing(&[one.me()]));
        other.begin(listing(&[other.me(), one.me()]));
        other.post(&wake());
        assert_eq!(opened(&one, &published(&other).await), ["Rejected(Unlisted)"]);
        let mut heard = Vec::new();
        assert!(!one.know(listing(&[one.me(), other.me()]), &mut |event| heard.push(event)));
        assert!(matches!(heard[..], [BusEvent::Message(BusMessage::Hello), BusEvent::Message(BusMessage::Wake(..))]), "{heard:?}");
    }

    #[tokio::test]
    async fn a_node_that_goes_has_told_everything_or_the_others_check() {
        for has_parted in [true, false] {
            let (one, other) = pair();
            other.post(&wake());
            let mut last = published(&other).await;
            if has_parted {
                let (carried, mut letters) = mpsc::unbounded_channel();
                assert!(part(&other, |told| ready(carried.send(told).is_ok())).await);
                last.extend(letters.recv().await.unwrap());
            }
            assert!(opened(&one, &last).contains(&"wake".to_owned()));
            assert!(!one.is_alone(), "until the database says so");
            assert_eq!(one.know(listing(&[one.me()]), &mut |_| {}), !has_parted);
            assert!(one.is_alone() && one.content().parted.is_empty());
        }
    }

    #[tokio::test]
    async fn publishing_ends_once_nothing_is_left_and_says_whether_everything_arrived() {
        let (one, other) = pair();
        one.post(&wake());
        assert!(!publish(&one, ready(()), |_| ready(false)).await);
        assert_eq!(opened(&other, &published(&one).await), ["wake", "check"]);
        let begun = std::sync::atomic::AtomicU32::new(0);
        let endless = publish(&one, pending(), |_| {
            begun.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            ready(true)
        });
        assert!(futures_util::FutureExt::now_or_never(endless).is_none(), "it waits for more");
    }

    #[tokio::test]
    async fn what_did_not_arrive_is_a_check_for_everybody_once_something_arrives() {
        let (bus, other) = pair();
        published(&bus).await;
        bus.post(&wake());
        let tries = std::sync::atomic::AtomicU32::new(0);
        let (carried, mut letters) = mpsc::unbounded_channel();
        let end = async {
            while tries.load(std::sync::atomic::Ordering::Relaxed) < 2 {
                tokio::task::yield_now().await
            }
        };
        let told = publish(&bus, end, |told| {
            let is_first = tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            ready(!is_first && carried.send(told).is_ok())
        });
        assert!(told.await);
        assert_eq!(opened(&other, &letters.recv().await.unwrap()), ["check"]);
    }
}
