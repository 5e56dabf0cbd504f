//! From the outbox to the socket: frames go together, many with one flush, and a client that takes nothing is given up.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::ws::Message;
use futures_util::{Sink, SinkExt};
use tokio::time::{Sleep, sleep};

use super::outbox::{Outbox, Room};
use crate::protocol::dialect::Dialect;

/// A client that takes nothing for this time is too slow.
const STALLED_MAX: Duration = Duration::from_secs(10);

/// Writes the frames of one outbox to one socket.
#[derive(Debug, Default)]
pub(super) struct Writer {
    flush: Flush,
    /// Runs while the socket takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// Says if everything that was given to the socket is flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Flush {
    #[default]
    Done,
    Needed,
    /// A close frame: nothing goes out after it.
    Last,
}

/// The outcome of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// There was no room in the outbox, and now there is.
    Room,
    /// Everything, the close frame too.
    Closed,
    /// The socket is gone.
    Lost,
    /// The client did not read for too long.
    TooSlow,
}

impl Writer {
    /// Writes what waits, and goes on waiting for more until there is something to say. May be dropped and called again
    /// at any time, and must be before what was put meanwhile is written.
    pub(super) async fn write<D: Dialect>(&mut self, outbox: &mut Outbox<D>, socket: &mut (impl Sink<Message> + Unpin)) -> Written {
        poll_fn(|context| self.poll_write(context, outbox, socket)).await
    }

    /// Writes everything up to a close frame, which is there already.
    pub(super) async fn finish<D: Dialect>(&mut self, outbox: &mut Outbox<D>, socket: &mut (impl Sink<Message> + Unpin)) -> Written {
        loop {
            match self.write(outbox, socket).await {
                Written::Room => {}
                end @ (Written::Closed | Written::Lost | Written::TooSlow) => return end,
            }
        }
    }

    fn poll_write<D: Dialect>(
        &mut self,
        context: &mut Context<'_>,
        outbox: &mut Outbox<D>,
        socket: &mut (impl Sink<Message> + Unpin),
    ) -> Poll<Written> {
        loop {
            match self.poll_step(context, outbox, socket) {
                Poll::Ready(None) => self.stalled = None,
                Poll::Ready(Some(written)) => return Poll::Ready(written),
                Poll::Pending if outbox.is_empty() && self.flush == Flush::Done => return Poll::Pending,
                Poll::Pending => {
                    let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALLED_MAX)));
                    return stalled.as_mut().poll(context).map(|()| Written::TooSlow);
                }
            }
        }
    }

    /// One frame, or a flush once there is none. Pending: nothing waits, or the socket does not take it.
    fn poll_step<D: Dialect>(
        &mut self,
        context: &mut Context<'_>,
        outbox: &mut Outbox<D>,
        socket: &mut (impl Sink<Message> + Unpin),
    ) -> Poll<Option<Written>> {
        if self.flush != Flush::Last && !outbox.is_empty() {
            if ready!(socket.poll_ready_unpin(context)).is_err() {
                return Poll::Ready(Some(Written::Lost));
            }
            return Poll::Ready(self.hand_over(outbox, socket));
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
    fn hand_over<D: Dialect>(&mut self, outbox: &mut Outbox<D>, socket: &mut (impl Sink<Message> + Unpin)) -> Option<Written> {
        let frame = outbox.take()?;
        self.flush = if matches!(frame, Message::Close(_)) { Flush::Last } else { Flush::Needed };
        let bytes = if let Message::Text(text) = &frame { text.len() } else { 0 };
        if socket.start_send_unpin(frame).is_err() {
            return Some(Written::Lost);
        }
        match outbox.gone(bytes) {
            Room::AsBefore => None,
            Room::Again => Some(Written::Room),
        }
    }
}
