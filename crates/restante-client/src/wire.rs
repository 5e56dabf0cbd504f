//! One WebSocket: text frames out, text frames in. Understands none of them, never comes back by itself, and
//! has no clock; that is what tests need that want to see, or break, the protocol itself.
//!
//! Reading drives writing: frames are queued without waiting and leave whenever the socket is polled, so two
//! ends that both have much to say cannot block each other.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::Options;
use super::hint::tls_hint;
use super::http::{error_report, words};
use super::transport::Transport;
use restante_session::domain::limits::BATCH_FRAME_BYTES_MAX;
use restante_session::domain::printable;

/// Small, since a replay keeps hundreds of sockets open.
const READ_BUFFER_BYTES: usize = 4096;
const WRITE_BUFFER_BYTES: usize = 8192;
/// Twice what the service promises to stay below, so that a service above its own limit is noticed and not cut off at the edge.
const FRAME_BYTES_MAX: usize = 2 * BATCH_FRAME_BYTES_MAX;

/// The reasons why a connection ends, or does not begin.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The address cannot be used.
    #[error("{0}")]
    BadAddress(String),
    /// The service does not answer.
    #[error("cannot reach the service at {place}{}", tls_hint(place))]
    Unreachable {
        /// Its address.
        place: String,
        /// The reason.
        source: tungstenite::Error,
    },
    /// It answered, but not with a WebSocket.
    #[error("the service refused the connection: HTTP {status} {}", printable(body))]
    Refused {
        /// HTTP status.
        status: u16,
        /// The beginning of what it said.
        body: String,
        /// When it wants this client to try again.
        retry_after: Option<Duration>,
    },
    /// The service closed the connection.
    #[error("the service closed the connection ({}{}{reason})", code.map_or("without a code".to_owned(), |code| code.to_string()), if reason.is_empty() { "" } else { ": " }, reason = printable(reason))]
    Closed {
        /// The close code; none when the stream just ended.
        code: Option<u16>,
        /// The service's words.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] tungstenite::Error),
    /// Not a sound, not even a ping, for too long.
    #[error("the service has fallen silent")]
    Silent,
}

/// One open socket.
#[derive(Debug)]
pub struct Wire {
    socket: Transport,
    outgoing: VecDeque<Utf8Bytes>,
    sounds: u64,
    text_bytes: u64,
}

impl Wire {
    /// Opens a socket: as the options say, once, without a second try.
    ///
    /// # Errors
    /// [`WireError::BadAddress`], [`WireError::Unreachable`] or [`WireError::Refused`].
    pub async fn connect(options: &Options) -> Result<Self, WireError> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        match Transport::connect(options.request()?, config, options.compression).await {
            Ok(socket) => Ok(Self { socket, outgoing: VecDeque::new(), sounds: 0, text_bytes: 0 }),
            Err(tungstenite::Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                let retry_after = error_report(body).and_then(|report| report.retry_after_ms).map(Duration::from_millis);
                Err(WireError::Refused { status: response.status().as_u16(), body: words(body), retry_after })
            }
            Err(tungstenite::Error::Url(error)) => Err(WireError::BadAddress(error.to_string())),
            Err(source) => Err(WireError::Unreachable { place: options.url.as_str().trim_end_matches('/').to_owned(), source }),
        }
    }

    /// Queues a frame. It leaves with the next [`Self::next`] or [`Self::flush`].
    pub fn queue(&mut self, frame: impl Into<Utf8Bytes>) {
        self.outgoing.push_back(frame.into());
    }

    /// Sends a frame now.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send(&mut self, frame: impl Into<Utf8Bytes>) -> Result<(), WireError> {
        self.queue(frame);
        self.flush().await
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn flush(&mut self) -> Result<(), WireError> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// The next text frame. May be dropped and called again without losing one.
    ///
    /// # Errors
    /// When the connection has ended; from then on always.
    pub async fn next(&mut self) -> Result<Utf8Bytes, WireError> {
        poll_fn(|cx| {
            let frame = self.poll_read(cx);
            if frame.is_pending()
                && let Poll::Ready(Err(error)) = self.poll_flush(cx)
            {
                return Poll::Ready(Err(error));
            }
            frame
        })
        .await
    }

    /// Sends a close frame and waits for the service's. Frames that arrive meanwhile are dropped.
    pub async fn close(mut self) {
        let _ = self.flush().await;
        let _ = self.socket.close().await;
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    /// The number of messages that came, pings included. A connection is alive while it grows.
    pub const fn sounds(&self) -> u64 {
        self.sounds
    }

    /// The bytes of the texts that came, as they are without compression.
    pub const fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// The bytes that came over the socket, with everything around the texts. They are counted where the options offer compression.
    pub fn bytes_received(&self) -> Option<u64> {
        self.socket.bytes_received()
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Utf8Bytes, WireError>> {
        loop {
            let message = ready!(self.socket.poll_next_unpin(cx));
            self.sounds += 1;
            match message {
                Some(Ok(Message::Text(text))) => {
                    self.text_bytes += text.len() as u64;
                    return Poll::Ready(Ok(text));
                }
                Some(Ok(Message::Close(frame))) => {
                    // tungstenite has put the answer behind what waits to leave; whether it arrives changes nothing.
                    let _ = self.socket.poll_flush_unpin(cx);
                    return Poll::Ready(Err(closed(frame)));
                }
                // Pongs are tungstenite's work; the service has no binary frames.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_))) => {}
                Some(Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed)) | None => {
                    return Poll::Ready(Err(closed(None)));
                }
                Some(Err(error)) => return Poll::Ready(Err(WireError::Broken(error))),
            }
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        while !self.outgoing.is_empty() {
            ready!(self.socket.poll_ready_unpin(cx)).map_err(WireError::Broken)?;
            if let Some(frame) = self.outgoing.pop_front() {
                self.socket.start_send_unpin(Message::Text(frame)).map_err(WireError::Broken)?;
            }
        }
        self.socket.poll_flush_unpin(cx).map_err(WireError::Broken)
    }
}

fn closed(frame: Option<CloseFrame>) -> WireError {
    match frame {
        Some(frame) => WireError::Closed { code: Some(frame.code.into()), reason: frame.reason.to_string() },
        None => WireError::Closed { code: None, reason: String::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[tokio::test]
    async fn frames_go_out_and_come_in() {
        let fake = Fake::start().await;
        let options = Options::new(&fake.url, "t-alice").unwrap();
        let (wire, seat) = tokio::join!(Wire::connect(&options), fake.accept());
        let (mut wire, mut seat) = (wire.unwrap(), seat);
        assert_eq!(seat.bearer, "Bearer t-alice");
        wire.send("hello").await.unwrap();
        assert_eq!(seat.heard().await, "hello");
        seat.say("welcome").await;
        assert_eq!(wire.next().await.unwrap().as_str(), "welcome");
    }

    #[tokio::test]
    async fn close_code_is_told() {
        let fake = Fake::start().await;
        let options = Options::new(&fake.url, "t").unwrap();
        let (wire, seat) = tokio::join!(Wire::connect(&options), fake.accept());
        let mut wire = wire.unwrap();
        let (end, ()) = tokio::join!(wire.next(), seat.close(4509, "displaced"));
        assert!(matches!(end, Err(WireError::Closed { code: Some(4509), reason }) if reason == "displaced"));
        assert!(wire.next().await.is_err());
    }

    #[tokio::test]
    async fn nobody_there_is_unreachable() {
        let fake = Fake::start().await;
        let options = Options::new(&fake.url, "t").unwrap();
        drop(fake);
        assert!(matches!(Wire::connect(&options).await, Err(WireError::Unreachable { .. })));
    }

    #[tokio::test]
    async fn refusal_carries_status_and_words() {
        let fake = Fake::start().await;
        let options = Options::new(&fake.url, "t").unwrap();
        let (refused, ()) = tokio::join!(Wire::connect(&options), fake.refuse(401, "no such user"));
        assert!(matches!(refused, Err(WireError::Refused { status: 401, body, .. }) if body == "no such user"));
    }
}
