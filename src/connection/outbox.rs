//! The way out of a connection: events queue here, encoded, until the writer takes them.
//!
//! The queue is bounded. Beyond [`BYTES_MAX`] the connection reads nothing more that could add to the queue, so a
//! client that does not read stops only itself. Only the connection's own task uses the queue, so it needs no lock
//! and no wake-up. It uses events and a dialect, and no socket.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes};
use tokio::sync::Notify;

use crate::driver::Outgoing;
use crate::protocol::Fault;
use crate::protocol::client::FrameId;
use crate::protocol::dialect::{Decoded, Dialect};
use crate::protocol::event::ServerEvent;

/// Bytes that may wait before nothing more is taken in. What is under way then (a window of envelopes, answers to
/// what was asked before) still fits: this is where taking in stops, not where memory ends.
const BYTES_MAX: usize = 512 * 1024;

/// Frames on their way out.
#[derive(Debug)]
pub(super) struct Outbox<D> {
    dialect: D,
    frames: VecDeque<Message>,
    level: Arc<Level>,
}

/// Bytes that wait, for those who add to them.
#[derive(Debug, Default)]
struct Level {
    bytes: AtomicUsize,
    fell: Notify,
}

/// Says if there is room again where there was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// As before.
    AsBefore,
    /// There was none, and now there is.
    Again,
}

impl<D: Dialect> Outbox<D> {
    /// An empty outbox that writes events in this dialect.
    pub(super) fn new(dialect: D) -> Self {
        Self { dialect, frames: VecDeque::new(), level: Arc::default() }
    }

    /// Reads a text of the client, whose dialect is the same both ways.
    pub(super) fn decode(&mut self, text: &str) -> Decoded {
        self.dialect.decode(text)
    }

    /// Puts a text that is no event.
    pub(super) fn text(&mut self, text: Utf8Bytes) {
        self.level.bytes.fetch_add(text.len(), Ordering::Relaxed);
        self.frames.push_back(Message::Text(text));
    }

    /// Puts a ping.
    pub(super) fn ping(&mut self) {
        match self.dialect.ping() {
            Message::Text(text) => self.text(text),
            frame => self.frames.push_back(frame),
        }
    }

    /// Returns whether the client answers a ping.
    pub(super) fn is_ping_answered(&self) -> bool {
        self.dialect.is_ping_answered()
    }

    /// Puts the close frame of a fault (RFC 6455 section 5.5.1); nothing goes out after it.
    pub(super) fn close_for(&mut self, fault: &Fault) {
        if let Some(text) = self.dialect.farewell(fault) {
            self.text(text);
        }
        let (code, reason) = (fault.code.close(), fault.code.as_str().into());
        self.frames.push_back(Message::Close(Some(CloseFrame { code, reason })));
    }

    /// Returns whether more may be taken in.
    pub(super) fn has_room(&self) -> bool {
        self.level.has_room()
    }

    /// Returns whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Takes the next frame out. It still counts until [`Outbox::gone`].
    pub(super) fn take(&mut self) -> Option<Message> {
        self.frames.pop_front()
    }

    /// A frame with this number of bytes of text has been handed to the socket.
    pub(super) fn gone(&mut self, bytes: usize) -> Room {
        let had_room = self.level.has_room();
        self.level.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if had_room || !self.level.has_room() {
            return Room::AsBefore;
        }
        self.level.fell.notify_waiters();
        Room::Again
    }
}

impl<D: Dialect> Outgoing for Outbox<D> {
    fn event(&mut self, reply_to: Option<&FrameId>, event: &ServerEvent) {
        let Self { dialect, frames, level } = self;
        dialect.encode(reply_to, event, &mut |frame: Utf8Bytes| {
            level.bytes.fetch_add(frame.len(), Ordering::Relaxed);
            frames.push_back(Message::Text(frame));
        });
    }

    fn room(&self) -> impl Future<Output = ()> + Send + use<D> {
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

    fn shrink(&mut self) {
        self.frames.shrink_to_fit();
    }
}

impl Level {
    fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) < BYTES_MAX
    }
}
