//! The WebSocket of a client: `tokio-tungstenite`, and beside it compression where the handshake has agreed on it (RFC 7692).
//!
//! Frames of a client come in without compression, as [`Inflating`] hands them on. A text that goes out is compressed alone, if it is long
//! enough; nothing is kept between two of them. All rules of RFC 6455 are the library's.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes};
use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use restante_deflate::{Agreement, Deflating, Inflating, Side};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use tokio_tungstenite::tungstenite::protocol::{self, Role, WebSocketConfig};

use crate::domain::limits;
use crate::telemetry::Metrics;

/// The opcode of a text (RFC 6455 section 5.2).
const TEXT: u8 = 1;
/// Texts of fewer bytes go as they are: it would save no packet.
const COMPRESSED_FROM: usize = 1_024;
/// Bytes that deflate may add to a message that does not shrink.
const DEFLATE_ADDS_MAX: usize = 1_024;

/// One socket.
#[derive(Debug)]
pub struct WebSocket {
    inner: WebSocketStream<Inflating<TokioIo<Upgraded>>>,
    compression: Option<Box<Compression>>,
}

/// The compression of what goes out.
#[derive(Debug)]
struct Compression {
    agreement: Agreement,
    metrics: Arc<Metrics>,
    /// The text that was taken last, as long as it is not compressed. Nothing else is taken meanwhile.
    under_way: Option<Deflating>,
}

impl WebSocket {
    /// The socket of a connection that was upgraded, with the compression that both sides have agreed on.
    pub(super) async fn new(upgraded: Upgraded, compression: Option<(Agreement, Arc<Metrics>)>) -> Self {
        let mut stream = Inflating::new(TokioIo::new(upgraded));
        let compression = compression.map(|(agreement, metrics)| {
            stream.begin(Side::Server, limits::FRAME_BYTES_MAX + DEFLATE_ADDS_MAX);
            Box::new(Compression { agreement, metrics, under_way: None })
        });
        Self { inner: WebSocketStream::from_raw_socket(stream, Role::Server, Some(config())).await, compression }
    }

    /// Compresses what was taken last and gives it to the library, a part in each call: others have their turn between them.
    fn poll_compressed(&mut self, context: &mut Context<'_>) -> Poll<Result<(), tungstenite::Error>> {
        let Some(compression) = self.compression.as_deref_mut() else { return Poll::Ready(Ok(())) };
        let Some(text) = compression.under_way.as_mut() else { return Poll::Ready(Ok(())) };
        if !text.step() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let frame = compression.finish();
        Poll::Ready(frame.map_or(Ok(()), |frame| self.inner.start_send_unpin(frame)))
    }

    /// Gives a text to the library, or begins to compress it. The library is ready for one.
    fn start_text(&mut self, text: Bytes) -> Result<(), tungstenite::Error> {
        match self.compression.as_deref_mut() {
            Some(compression) if text.len() >= COMPRESSED_FROM => {
                let mut deflating = Deflating::new(text, compression.agreement);
                let is_done = deflating.step();
                compression.under_way = Some(deflating);
                let frame = if is_done { compression.finish() } else { None };
                frame.map_or(Ok(()), |frame| self.inner.start_send_unpin(frame))
            }
            Some(_) | None => self.inner.start_send_unpin(text_frame(text, false)),
        }
    }
}

impl Compression {
    /// The frame of the text that is compressed by now.
    fn finish(&mut self) -> Option<tungstenite::Message> {
        let deflating = self.under_way.take()?;
        let plain = deflating.plain_bytes();
        match deflating.finish() {
            Ok(deflated) => {
                let bytes = |form| self.metrics.compressed_frame.of(form);
                bytes("plain").inc_by(plain as u64);
                bytes("deflated").inc_by(deflated.len() as u64);
                Some(text_frame(deflated, true))
            }
            Err(plain) => Some(text_frame(plain, false)),
        }
    }
}

/// The limits of a socket.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        // An idle connection keeps its buffer: small, or idle connections would be most of the node's memory.
        .read_buffer_size(2 * 1024)
        .write_buffer_size(16 * 1024)
        .max_write_buffer_size(2 * limits::BATCH_FRAME_BYTES_MAX)
        .max_message_size(Some(limits::FRAME_BYTES_MAX))
        .max_frame_size(Some(limits::FRAME_BYTES_MAX))
}

/// The one frame of a text. The library would make the same, after a look at every byte of it.
fn text_frame(payload: Bytes, is_compressed: bool) -> tungstenite::Message {
    let header = FrameHeader { rsv1: is_compressed, opcode: TEXT.into(), ..FrameHeader::default() };
    tungstenite::Message::Frame(Frame::from_payload(header, payload))
}

/// A message as the library has read it. None: a single frame, which it hands out to nobody.
fn heard(message: tungstenite::Message) -> Option<Result<Message, axum::Error>> {
    let text = |text: tungstenite::Utf8Bytes| Utf8Bytes::try_from(Bytes::from(text)).map_err(axum::Error::new);
    Some(match message {
        tungstenite::Message::Text(heard) => text(heard).map(Message::Text),
        tungstenite::Message::Binary(bytes) => Ok(Message::Binary(bytes)),
        tungstenite::Message::Ping(bytes) => Ok(Message::Ping(bytes)),
        tungstenite::Message::Pong(bytes) => Ok(Message::Pong(bytes)),
        tungstenite::Message::Close(None) => Ok(Message::Close(None)),
        tungstenite::Message::Close(Some(close)) => {
            text(close.reason).map(|reason| Message::Close(Some(CloseFrame { code: close.code.into(), reason })))
        }
        tungstenite::Message::Frame(_) => return None,
    })
}

impl Stream for WebSocket {
    type Item = Result<Message, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match ready!(this.inner.poll_next_unpin(context)) {
                Some(Ok(message)) => {
                    if let Some(heard) = heard(message) {
                        return Poll::Ready(Some(heard));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(axum::Error::new(error)))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Sink<Message> for WebSocket {
    type Error = axum::Error;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        let this = self.get_mut();
        ready!(this.poll_compressed(context)).map_err(axum::Error::new)?;
        this.inner.poll_ready_unpin(context).map_err(axum::Error::new)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), axum::Error> {
        let this = self.get_mut();
        let sent = match message {
            Message::Text(text) => this.start_text(text.into()),
            Message::Binary(bytes) => this.inner.start_send_unpin(tungstenite::Message::Binary(bytes)),
            Message::Ping(bytes) => this.inner.start_send_unpin(tungstenite::Message::Ping(bytes)),
            Message::Pong(bytes) => this.inner.start_send_unpin(tungstenite::Message::Pong(bytes)),
            Message::Close(close) => {
                let close = close.map(|close| protocol::CloseFrame { code: close.code.into(), reason: close.reason.as_str().into() });
                this.inner.start_send_unpin(tungstenite::Message::Close(close))
            }
        };
        sent.map_err(axum::Error::new)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        let this = self.get_mut();
        ready!(this.poll_compressed(context)).map_err(axum::Error::new)?;
        this.inner.poll_flush_unpin(context).map_err(axum::Error::new)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        let this = self.get_mut();
        ready!(this.poll_compressed(context)).map_err(axum::Error::new)?;
        this.inner.poll_close_unpin(context).map_err(axum::Error::new)
    }
}
