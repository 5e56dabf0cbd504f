//! A session of a client that polls: packets that wait for its next request, packets that have come with one, and who has the word.
//!
//! Both ways are bounded. A client that does not poll stops only itself: its connection's task can put no more, as with a socket that nobody
//! reads.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use axum::extract::ws::Utf8Bytes;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::connection::WebSocket;
use crate::domain::limits;
use crate::protocol::socketio::{CLOSE, NOOP, SEPARATOR};

/// Bytes that wait for the next request before no more is put.
const WAITING_BYTES_MAX: usize = 64 * 1024;
/// Packets of the client that wait for its task.
const INCOMING_MAX: usize = 32;

/// A session. Requests and the connection's task share it.
#[derive(Debug)]
pub(super) struct Session {
    /// Its id of Engine.IO, which nobody can guess.
    pub(super) sid: String,
    /// Cancelled when it ends: it is answered nothing any more.
    pub(super) over: CancellationToken,
    incoming: mpsc::Sender<Utf8Bytes>,
    taking_over: mpsc::Sender<WebSocket>,
    /// Something waits for the request that polls.
    wanted: Notify,
    outgoing: Mutex<Outgoing>,
}

#[derive(Debug, Default)]
struct Outgoing {
    packets: VecDeque<Utf8Bytes>,
    bytes: usize,
    phase: Phase,
    is_polled: bool,
    is_posted: bool,
    /// The connection's task waits for room, or for the last packet to go.
    task: Option<Waker>,
}

/// The transport that has the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Polling,
    /// A WebSocket is about to take over: requests are answered with nothing.
    Probed,
    /// The last packet is put.
    Closing,
}

/// The ends of a session that its connection's task holds.
#[derive(Debug)]
pub(super) struct Ends {
    /// Packets of the client.
    pub(super) incoming: mpsc::Receiver<Utf8Bytes>,
    /// The WebSocket that takes over.
    pub(super) taking_over: mpsc::Receiver<WebSocket>,
}

/// One of a session's two kinds of request, of which there is one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Takes what waits.
    Poll,
    /// Brings packets.
    Post,
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Session, Kind);

impl Session {
    /// A session with this id.
    pub(super) fn new(sid: String) -> (Arc<Self>, Ends) {
        let (to_task, incoming) = mpsc::channel(INCOMING_MAX);
        let (take_over, taking_over) = mpsc::channel(1);
        let (over, wanted, outgoing) = (CancellationToken::new(), Notify::new(), Mutex::default());
        let session = Self { sid, over, incoming: to_task, taking_over: take_over, wanted, outgoing };
        (Arc::new(session), Ends { incoming, taking_over })
    }

    /// Begins a request. None: one of its kind is under way, which the protocol forbids.
    pub(super) fn begin(&self, kind: Kind) -> Option<Turn<'_>> {
        let mut outgoing = self.lock();
        let is_under_way = outgoing.is_under_way(kind);
        if std::mem::replace(is_under_way, true) {
            return None;
        }
        drop(outgoing);
        Some(Turn(self, kind))
    }

    /// Waits until something is there for a request, and takes as much of it as a body may hold.
    pub(super) async fn body(&self) -> String {
        loop {
            let wanted = self.wanted.notified();
            if let Some(body) = self.take_body() {
                return body;
            }
            wanted.await;
        }
    }

    fn take_body(&self) -> Option<String> {
        let mut outgoing = self.lock();
        if outgoing.phase == Phase::Probed {
            return Some(NOOP.to_owned());
        }
        let mut body = outgoing.packets.pop_front()?.as_str().to_owned();
        // The end comes alone: the client's library acts on it before the packets that come with it.
        while let Some(next) = outgoing.packets.front()
            && next.as_str() != CLOSE
            && body.len() + SEPARATOR.len_utf8() + next.len() <= limits::FRAME_BYTES_MAX
        {
            body.push(SEPARATOR);
            body.push_str(next);
            outgoing.packets.pop_front();
        }
        outgoing.bytes = outgoing.packets.iter().map(|packet| packet.len()).sum();
        outgoing.wake_task();
        Some(body)
    }

    /// Gives a packet of the client to its task, when that takes it. False: the session is over.
    pub(super) async fn bring(&self, packet: Utf8Bytes) -> bool {
        let brought = self.over.run_until_cancelled(self.incoming.send(packet)).await;
        matches!(brought, Some(Ok(())))
    }

    /// Puts a packet for the client.
    pub(super) fn put(&self, packet: Utf8Bytes) {
        let mut outgoing = self.lock();
        outgoing.bytes += packet.len();
        outgoing.packets.push_back(packet);
        drop(outgoing);
        self.wanted.notify_one();
    }

    /// Puts the packet that ends the session.
    pub(super) fn put_close(&self) {
        self.lock().phase = Phase::Closing;
        self.put(CLOSE.into());
    }

    /// Takes a packet back, for a WebSocket that has taken over.
    pub(super) fn take_one(&self) -> Option<Utf8Bytes> {
        let mut outgoing = self.lock();
        let packet = outgoing.packets.pop_front()?;
        outgoing.bytes -= packet.len();
        Some(packet)
    }

    /// Ready when a further packet may be put.
    pub(super) fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        self.lock().poll(context, |outgoing| outgoing.bytes < WAITING_BYTES_MAX)
    }

    /// Ready at once; after the packet that ends the session, when that was taken.
    pub(super) fn poll_taken(&self, context: &mut Context<'_>) -> Poll<()> {
        self.lock().poll(context, |outgoing| outgoing.phase != Phase::Closing || outgoing.packets.is_empty())
    }

    /// A WebSocket is about to take over. False: it may not, now.
    pub(super) fn probe(&self) -> bool {
        let mut outgoing = self.lock();
        let may = outgoing.phase == Phase::Polling && !self.over.is_cancelled();
        if may {
            outgoing.phase = Phase::Probed;
            drop(outgoing);
            self.wanted.notify_one();
        }
        may
    }

    /// The WebSocket has the word from now on.
    pub(super) fn hand_over(&self, socket: WebSocket) {
        // Only one was let probe, so there is room.
        let _ = self.taking_over.try_send(socket);
    }

    /// The WebSocket that had probed has gone: the client polls on.
    pub(super) fn unprobe(&self) {
        let mut outgoing = self.lock();
        if outgoing.phase == Phase::Probed {
            outgoing.phase = Phase::Polling;
        }
        drop(outgoing);
        self.wanted.notify_one();
    }

    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outgoing {
    const fn is_under_way(&mut self, kind: Kind) -> &mut bool {
        match kind {
            Kind::Poll => &mut self.is_polled,
            Kind::Post => &mut self.is_posted,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>, is_ready: impl FnOnce(&Self) -> bool) -> Poll<()> {
        if is_ready(self) {
            return Poll::Ready(());
        }
        self.task = Some(context.waker().clone());
        Poll::Pending
    }

    fn wake_task(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.lock().is_under_way(self.1) = false;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn room(session: &Session) -> bool {
        session.poll_room(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_request_takes_what_waits_in_order_and_waits_where_nothing_does() {
        let (session, _ends) = Session::new("a".to_owned());
        assert_eq!(session.body().now_or_never(), None);
        ["42[1]", "2", "42[2]"].iter().for_each(|packet| session.put((*packet).into()));
        assert_eq!(session.body().now_or_never().unwrap(), "42[1]\x1e2\x1e42[2]");
        assert_eq!(session.body().now_or_never(), None);
    }

    #[test]
    fn what_waits_is_bounded_and_so_is_a_body() {
        let (session, _ends) = Session::new("a".to_owned());
        assert!(room(&session));
        let large = "4".repeat(WAITING_BYTES_MAX);
        session.put(large.as_str().into());
        assert!(!room(&session));
        (0..4).for_each(|_| session.put(large.as_str().into()));
        assert_eq!(session.body().now_or_never().unwrap().matches(SEPARATOR).count(), 2);
        assert_eq!(session.body().now_or_never().unwrap().matches(SEPARATOR).count(), 1);
        assert!(room(&session));
    }

    #[test]
    fn there_is_one_request_of_a_kind_at_a_time() {
        let (session, _ends) = Session::new("a".to_owned());
        let poll = session.begin(Kind::Poll);
        assert!(poll.is_some() && session.begin(Kind::Poll).is_none() && session.begin(Kind::Post).is_some());
        drop(poll);
        assert!(session.begin(Kind::Poll).is_some());
    }

    #[test]
    fn while_a_websocket_takes_over_a_request_gets_nothing_and_nothing_is_lost() {
        let (session, _ends) = Session::new("a".to_owned());
        session.put("42[1]".into());
        assert!(session.probe() && !session.probe());
        assert_eq!(session.body().now_or_never().unwrap(), NOOP);
        session.unprobe();
        assert_eq!(session.body().now_or_never().unwrap(), "42[1]");
        assert!(session.probe());
        session.put("42[2]".into());
        assert_eq!(session.take_one().unwrap().as_str(), "42[2]");
    }

    #[test]
    fn the_end_is_told_before_the_session_goes() {
        let (session, _ends) = Session::new("a".to_owned());
        let taken = || session.poll_taken(&mut Context::from_waker(Waker::noop())).is_ready();
        session.put("42[1]".into());
        assert!(taken());
        session.put_close();
        assert!(!taken() && !session.probe());
        assert_eq!(session.body().now_or_never().unwrap(), "42[1]");
        assert!(!taken());
        assert_eq!(session.body().now_or_never().unwrap(), CLOSE);
        assert!(taken());
    }
}
