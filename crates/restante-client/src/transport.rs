//! The socket below [`super::Wire`]: the library's own, or one that offers compression (RFC 7692) and counts what comes. Frames look the same
//! over both.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use restante_deflate::{Inflating, OFFER};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::error::{Error, UrlError};
use tokio_tungstenite::tungstenite::http::{HeaderValue, Request, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Result};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async_with_config, connect_async_with_config};

/// One open socket.
#[derive(Debug)]
pub(super) enum Transport {
    /// Nothing is compressed.
    Plain(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>),
    /// Frames from the service may be compressed.
    Compressed(Box<WebSocketStream<Inflating<TcpStream>>>),
}

impl Transport {
    /// Connects with this request.
    pub(super) async fn connect(request: Request<()>, config: WebSocketConfig, offers_compression: bool) -> Result<Self> {
        if offers_compression {
            return Self::connect_compressed(request, config).await;
        }
        let (socket, _) = connect_async_with_config(request, Some(config), true).await?;
        Ok(Self::Plain(Box::new(socket)))
    }

    async fn connect_compressed(mut request: Request<()>, config: WebSocketConfig) -> Result<Self> {
        request.headers_mut().insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(OFFER));
        let (Some("ws"), Some(host)) = (request.uri().scheme_str(), request.uri().host()) else {
            return Err(Error::Url(UrlError::UnsupportedUrlScheme));
        };
        let stream = TcpStream::connect((host.trim_matches(['[', ']']), request.uri().port_u16().unwrap_or(80))).await?;
        stream.set_nodelay(true)?;
        let mut stream = Inflating::new(stream);
        stream.begin_after_answer(config.max_message_size.unwrap_or(usize::MAX));
        let (socket, _) = client_async_with_config(request, stream, Some(config)).await?;
        Ok(Self::Compressed(Box::new(socket)))
    }

    /// The bytes that have come, the answer to the request among them. None: they are not counted.
    pub(super) fn bytes_received(&self) -> Option<u64> {
        match self {
            Self::Plain(_) => None,
            Self::Compressed(socket) => Some(socket.get_ref().received()),
        }
    }
}

impl Stream for Transport {
    type Item = Result<Message>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.get_mut() {
            Self::Plain(socket) => socket.poll_next_unpin(context),
            Self::Compressed(socket) => socket.poll_next_unpin(context),
        }
    }
}

impl Sink<Message> for Transport {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => socket.poll_ready_unpin(context),
            Self::Compressed(socket) => socket.poll_ready_unpin(context),
        }
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<()> {
        match self.get_mut() {
            Self::Plain(socket) => socket.start_send_unpin(message),
            Self::Compressed(socket) => socket.start_send_unpin(message),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => socket.poll_flush_unpin(context),
            Self::Compressed(socket) => socket.poll_flush_unpin(context),
        }
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => socket.poll_close_unpin(context),
            Self::Compressed(socket) => socket.poll_close_unpin(context),
        }
    }
}
