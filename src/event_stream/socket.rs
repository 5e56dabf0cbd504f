//! An answer of HTTP as a socket of frames: texts go into its body, nothing comes in, and the client's end is that of its connection.
//!
//! A chunk that is flushed has been taken by the connection. It takes more only when there is room in its own buffer, so a client that does not
//! read is noticed as on any socket.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::extract::ws::Message;
use bytes::{Bytes, BytesMut};
use futures_util::{Sink, Stream};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard, PollSender, WaitForCancellationFutureOwned};

use super::wire::Wire;
use crate::telemetry::Metrics;

/// Bytes of one piece of the body, from which on no more is added to it.
const PIECE_BYTES: usize = 16 * 1024;

/// The socket of a stream.
#[derive(Debug)]
pub(super) struct EventSocket {
    pieces: PollSender<Bytes>,
    /// Texts that are not in the body yet.
    piece: BytesMut,
    wire: Wire,
    left: Pin<Box<WaitForCancellationFutureOwned>>,
    end: End,
    metrics: Arc<Metrics>,
}

/// The distance of the stream from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// More may come.
    Open,
    /// The last text is given, and not in the body yet.
    Closing,
    /// The body has everything, and ends.
    Closed,
}

/// The body of the answer.
#[derive(Debug)]
pub(super) struct EventBody {
    pieces: mpsc::Receiver<Bytes>,
    /// The socket learns when the connection has dropped the body.
    _left: DropGuard,
}

/// A socket and the body that it writes.
pub(super) fn socket(wire: Wire, metrics: Arc<Metrics>) -> (EventSocket, EventBody) {
    metrics.event_streams.inc();
    let (pieces, taken) = mpsc::channel(1);
    let left: CancellationToken = wire.begin();
    let body = EventBody { pieces: taken, _left: left.clone().drop_guard() };
    let left = Box::pin(left.cancelled_owned());
    (EventSocket { pieces: PollSender::new(pieces), piece: BytesMut::new(), wire, left, end: End::Open, metrics }, body)
}

impl Stream for EventBody {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pieces.poll_recv(context).map(|piece| piece.map(Ok))
    }
}

impl EventSocket {
    /// Gives the piece to the body, once the body has taken the one before it.
    fn poll_hand_over(&mut self, context: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        if !self.piece.is_empty() {
            ready!(self.pieces.poll_reserve(context)).map_err(axum::Error::new)?;
            let piece = std::mem::take(&mut self.piece).freeze();
            self.pieces.send_item(piece).map_err(axum::Error::new)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream for EventSocket {
    type Item = Result<Message, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.end == End::Closed {
            return Poll::Ready(None);
        }
        self.left.as_mut().poll(context).map(|()| None)
    }
}

impl Sink<Message> for EventSocket {
    type Error = axum::Error;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        let this = self.get_mut();
        if this.piece.len() < PIECE_BYTES { Poll::Ready(Ok(())) } else { this.poll_hand_over(context) }
    }

    fn start_send(self: Pin<&mut Self>, frame: Message) -> Result<(), axum::Error> {
        let this = self.get_mut();
        match frame {
            Message::Text(text) => this.piece.extend_from_slice(text.as_bytes()),
            Message::Close(_) => this.end = End::Closing,
            // The dialect writes its own.
            Message::Ping(_) | Message::Pong(_) | Message::Binary(_) => {}
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        let this = self.get_mut();
        if this.end == End::Closed {
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_hand_over(context))?;
        // There is room again only when the body has taken the last piece.
        ready!(this.pieces.poll_reserve(context)).map_err(axum::Error::new)?;
        if this.end == End::Closing {
            this.end = End::Closed;
            // The place that was asked for is not needed, and would keep the body open.
            this.pieces.abort_send();
            this.pieces.close();
            this.wire.end();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        self.poll_flush(context)
    }
}

impl Drop for EventSocket {
    /// A client that was given up, or has left, may have pieces before it that it never takes.
    fn drop(&mut self) {
        self.metrics.event_streams.dec();
        if self.end != End::Closed {
            self.wire.end();
            self.wire.cut();
        }
    }
}
