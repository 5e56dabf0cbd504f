//! The way out of a connection: frames queue here and go to the socket together, many with one flush.
//!
//! What waits is bounded: beyond [`BYTES_MAX`] the connection takes nothing in any more that could add to it, so a
//! client that does not read stops itself and nobody else. Only the connection's own task puts and writes, so that
//! nothing is locked and nobody is woken.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes};
use futures_util::{Sink, SinkExt};
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};

use crate::protocol::Fault;
use crate::protocol::client::FrameId;
use crate::protocol::codec::{Codec, JsonFrames};
use crate::protocol::event::ServerEvent;

/// Bytes that may wait before nothing more is taken in. What is under way then (a window of envelopes, answers to
/// what was asked before) still fits: this is where taking in stops, not where memory ends.
const BYTES_MAX: usize = 512 * 1024;
/// A client that takes nothing for so long is too slow.
const STALLED_MAX: Duration = Duration::from_secs(10);

/// Frames on their way out.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    codec: JsonFrames,
    frames: VecDeque<Message>,
    flush: Flush,
    level: Arc<Level>,
    /// Runs while the socket takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// Was everything given to the socket flushed?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Flush {
    #[default]
    Done,
    Needed,
    /// A close frame: nothing goes out after it.
    Last,
}

/// Bytes that wait, for those who add to them.
#[derive(Debug, Default)]
struct Level {
    bytes: AtomicUsize,
    fell: Notify,
}

/// What writing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// There was no room, and now there is.
    Room,
    /// Everything, the close frame too.
    Closed,
    /// The socket is gone.
    Lost,
    /// The client did not read for too long.
    TooSlow,
}

impl Outbox {
    /// An empty outbox that writes events with this codec.
    pub(super) fn new(codec: JsonFrames) -> Self {
        Self { codec, ..Self::default() }
    }

    /// Puts an event. `reply_to` is the id of the client's frame that it answers.
    pub(super) fn event(&mut self, reply_to: Option<&FrameId>, event: &ServerEvent) {
        let Self { codec, frames, level, .. } = self;
        codec.encode(reply_to, event, &mut |frame: Utf8Bytes| {
            level.bytes.fetch_add(frame.len(), Ordering::Relaxed);
            frames.push_back(Message::Text(frame));
        });
    }

    /// Puts a ping.
    pub(super) fn ping(&mut self) {
        self.frames.push_back(Message::Ping(bytes::Bytes::new()));
    }

    /// Puts a close frame (RFC 6455 section 5.5.1); nothing goes out after it.
    pub(super) fn close(&mut self, code: u16, reason: &str) {
        self.frames.push_back(Message::Close(Some(CloseFrame { code, reason: reason.into() })));
    }

    /// Puts the close frame of a fault.
    pub(super) fn close_for(&mut self, fault: &Fault) {
        self.close(fault.code.close(), fault.code.as_str());
    }

    /// May more be taken in?
    pub(super) fn has_room(&self) -> bool {
        self.level.has_room()
    }

    /// Ends when there is room, or at once. May be kept and awaited anywhere.
    pub(super) fn room(&self) -> impl Future<Output = ()> + Send + use<> {
        let level = Arc::clone(&self.level);
        async move {
            loop {
                let fell = level.fell.notified();
                if level.has_room() {
                    return;
                }
                fell.await;
            }
        }
    }

    /// Writes what waits, and goes on waiting for more until there is something to say. May be dropped and called again
    /// at any time, and must be before what was put meanwhile is written.
    pub(super) async fn write(&mut self, socket: &mut (impl Sink<Message> + Unpin)) -> Written {
        poll_fn(|context| self.poll_write(context, socket)).await
    }

    /// Writes everything up to a close frame, which is there already.
    pub(super) async fn finish(&mut self, socket: &mut (impl Sink<Message> + Unpin)) -> Written {
        loop {
            match self.write(socket).await {
                Written::Room => {}
                end @ (Written::Closed | Written::Lost | Written::TooSlow) => return end,
            }
        }
    }

    /// Gives back room that is not needed.
    pub(super) fn shrink(&mut self) {
        self.frames.shrink_to_fit();
    }

    fn poll_write(&mut self, context: &mut Context<'_>, socket: &mut (impl Sink<Message> + Unpin)) -> Poll<Written> {
        loop {
            match self.poll_step(context, socket) {
                Poll::Ready(None) => self.stalled = None,
                Poll::Ready(Some(written)) => return Poll::Ready(written),
                Poll::Pending if self.is_idle() => return Poll::Pending,
                Poll::Pending => {
                    let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALLED_MAX)));
                    return stalled.as_mut().poll(context).map(|()| Written::TooSlow);
                }
            }
        }
    }

    /// One frame, or a flush once there is none. Pending: nothing waits, or the socket does not take it.
    fn poll_step(&mut self, context: &mut Context<'_>, socket: &mut (impl Sink<Message> + Unpin)) -> Poll<Option<Written>> {
        if self.flush != Flush::Last && !self.frames.is_empty() {
            if ready!(socket.poll_ready_unpin(context)).is_err() {
                return Poll::Ready(Some(Written::Lost));
            }
            return Poll::Ready(self.hand_over(socket));
        }
        if self.flush == Flush::Done {
            return Poll::Pending;
        }
        if ready!(socket.poll_flush_unpin(context)).is_err() {
            return Poll::Ready(Some(Written::Lost));
        }
        match std::mem::take(&mut self.flush) {
            Flush::Last => Poll::Ready(Some(Written::Closed)),
            Flush::Needed | Flush::Done => Poll::Ready(None),
        }
    }

    /// Gives the next frame to a socket that is ready for one.
    fn hand_over(&mut self, socket: &mut (impl Sink<Message> + Unpin)) -> Option<Written> {
        let frame = self.frames.pop_front()?;
        self.flush = if matches!(frame, Message::Close(_)) { Flush::Last } else { Flush::Needed };
        let bytes = if let Message::Text(text) = &frame { text.len() } else { 0 };
        if socket.start_send_unpin(frame).is_err() {
            return Some(Written::Lost);
        }
        let had_room = self.level.has_room();
        self.level.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if had_room || !self.level.has_room() {
            return None;
        }
        self.level.fell.notify_waiters();
        Some(Written::Room)
    }

    fn is_idle(&self) -> bool {
        self.frames.is_empty() && self.flush == Flush::Done
    }
}

impl Level {
    fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) < BYTES_MAX
    }
}
