//! The way out of a connection: frames queue here and a writer puts them on the socket, many with one flush.
//!
//! What waits is bounded: beyond [`BYTES_MAX`] the connection takes nothing in any more that could add to it, so a
//! client that does not read stops itself and nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes};
use futures_util::{Sink, SinkExt};
use tokio::sync::{Notify, mpsc};

use crate::protocol::Fault;

/// Bytes that may wait before nothing more is taken in. What is under way then (a window of envelopes, answers to
/// what was asked before) still fits: this is where taking in stops, not where memory ends.
const BYTES_MAX: usize = 512 * 1024;
/// A client that takes nothing for so long is too slow.
const STALLED_MAX: Duration = Duration::from_secs(10);
/// Frames put on the socket with one flush, at most.
const FRAMES_PER_FLUSH: usize = 64;

#[derive(Debug, Default)]
struct Level {
    bytes: AtomicUsize,
    fell: Notify,
}

/// Where frames are put.
#[derive(Debug)]
pub(super) struct Outbox {
    frames: mpsc::UnboundedSender<Message>,
    level: Arc<Level>,
}

/// The other end.
#[derive(Debug)]
pub(super) struct Writer {
    frames: mpsc::UnboundedReceiver<Message>,
    level: Arc<Level>,
}

/// How the writer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// Everything, the close frame too.
    Closed,
    /// The socket is gone.
    Lost,
    /// The client did not read for too long.
    TooSlow,
}

pub(super) fn outbox() -> (Outbox, Writer) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let level = Arc::new(Level::default());
    (Outbox { frames: sender, level: Arc::clone(&level) }, Writer { frames: receiver, level })
}

impl Outbox {
    /// Puts a text frame.
    pub(super) fn text(&self, frame: Utf8Bytes) {
        self.level.bytes.fetch_add(frame.len(), Ordering::Relaxed);
        // A writer that has ended has told the connection already.
        let _ = self.frames.send(Message::Text(frame));
    }

    /// Puts a ping.
    pub(super) fn ping(&self) {
        let _ = self.frames.send(Message::Ping(bytes::Bytes::new()));
    }

    /// Puts a close frame (RFC 6455 section 5.5.1); nothing goes out after it.
    pub(super) fn close(&self, code: u16, reason: &str) {
        let _ = self.frames.send(Message::Close(Some(CloseFrame { code, reason: reason.into() })));
    }

    /// Puts the close frame of a fault.
    pub(super) fn close_for(&self, fault: &Fault) {
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
}

impl Level {
    fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) < BYTES_MAX
    }
}

impl Writer {
    /// Writes until a close frame, the end of the outbox, or a client that is gone or too slow.
    pub(super) async fn run(mut self, mut socket: impl Sink<Message> + Unpin) -> Written {
        let mut frames = Vec::with_capacity(4);
        loop {
            if self.frames.recv_many(&mut frames, FRAMES_PER_FLUSH).await == 0 {
                return Written::Closed;
            }
            for frame in frames.drain(..) {
                let (bytes, is_close) = match &frame {
                    Message::Text(text) => (text.len(), false),
                    Message::Close(_) => (0, true),
                    Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => (0, false),
                };
                if let Some(end) = ended(tokio::time::timeout(STALLED_MAX, socket.feed(frame)).await) {
                    return end;
                }
                self.level.bytes.fetch_sub(bytes, Ordering::Relaxed);
                if is_close {
                    return ended(tokio::time::timeout(STALLED_MAX, socket.flush()).await).unwrap_or(Written::Closed);
                }
            }
            if let Some(end) = ended(tokio::time::timeout(STALLED_MAX, socket.flush()).await) {
                return end;
            }
            self.level.fell.notify_waiters();
        }
    }
}

fn ended<E>(written: Result<Result<(), E>, tokio::time::error::Elapsed>) -> Option<Written> {
    match written {
        Ok(Ok(())) => None,
        Ok(Err(_)) => Some(Written::Lost),
        Err(_) => Some(Written::TooSlow),
    }
}
