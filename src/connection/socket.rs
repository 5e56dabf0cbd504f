//! The socket of a connection: frames in, frames out. The session's task knows no more of a transport.

use axum::extract::ws::Message;
use futures_util::stream::Peekable;
use futures_util::{Sink, Stream};

use super::websocket::WebSocket;

/// A socket of any transport that carries frames. The end of the stream, or an error without a fault, is the client's end.
pub trait Frames: Stream<Item = Result<Message, axum::Error>> + Sink<Message> + Unpin + Send + 'static {}

impl<T: Stream<Item = Result<Message, axum::Error>> + Sink<Message> + Unpin + Send + 'static> Frames for T {}

/// A client's socket, and perhaps a frame of it that came before it was read.
pub(super) type Socket = Peekable<WebSocket>;
