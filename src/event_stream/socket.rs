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

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, SinkExt, StreamExt};

    use super::*;

    const TEXT_BYTES: usize = 1_000;

    fn text() -> Message {
        Message::Text("x".repeat(TEXT_BYTES).into())
    }

    #[tokio::test]
    async fn a_socket_whose_body_nobody_takes_holds_a_piece_and_takes_no_more() {
        let (mut socket, body) = socket(Wire::default(), Arc::default());
        let mut given = 0;
        while socket.feed(text()).now_or_never().is_some() {
            given += TEXT_BYTES;
            assert!(given < 3 * PIECE_BYTES, "one piece is in the body, and one before it");
        }
        assert!(socket.flush().now_or_never().is_none(), "nothing is flushed that nobody has taken");
        // All of it comes, in order, once somebody takes it.
        let close = async { socket.send(Message::Close(None)).await.unwrap() };
        let (pieces, ()) = tokio::join!(body.collect::<Vec<_>>(), close);
        let taken: usize = pieces.into_iter().map(|piece| piece.unwrap().len()).sum();
        assert_eq!(taken, given);
    }

    #[tokio::test]
    async fn the_connection_of_a_stream_is_cut_where_it_was_broken_off_and_not_where_it_has_ended() {
        for has_ended in [false, true] {
            let wire = Wire::default();
            let (mut socket, body) = socket(wire.clone(), Arc::default());
            assert!(wire.is_streaming());
            if has_ended {
                let _ = tokio::join!(socket.send(Message::Close(None)), body.collect::<Vec<_>>());
            }
            drop(socket);
            assert_eq!((wire.is_streaming(), wire.is_cut().now_or_never().is_none()), (false, has_ended));
        }
    }
}
