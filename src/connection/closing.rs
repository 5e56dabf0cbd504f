//! The closing handshake of a WebSocket (RFC 6455 section 7), whichever side begins it.

use std::time::Duration;

use axum::extract::ws::Message;
use futures_util::{Stream, StreamExt};
use restante_deflate::Broken;
use tokio::time::timeout;

use super::outbox::Outbox;
use super::socket::Frames;
use super::writer::Writer;
use crate::driver::Outgoing;
use crate::protocol::client::FrameId;
use crate::protocol::dialect::Dialect;
use crate::protocol::{Code, Fault};
use crate::telemetry::Metrics;

/// Time that a client has to answer our close frame.
const LINGER: Duration = Duration::from_secs(1);

/// The fault that a broken frame is; `None`: the connection is simply gone.
pub fn fault_of(error: &axum::Error) -> Option<Fault> {
    use tokio_tungstenite::tungstenite::Error;
    let inner = std::error::Error::source(error)?.downcast_ref::<Error>()?;
    match inner {
        Error::Capacity(_) => Some(Fault::plain(Code::TooLarge)),
        Error::Utf8(_) | Error::Protocol(_) => match inner {
            Error::Protocol(tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => None,
            _ => Some(Fault::new(Code::BadFrame, "a frame breaks RFC 6455")),
        },
        Error::Io(error) => error.get_ref()?.downcast_ref().map(fault_of_compression),
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Tls(_)
        | Error::WriteBufferFull(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::Http(_)
        | Error::HttpFormat(_) => None,
    }
}

fn fault_of_compression(broken: &Broken) -> Fault {
    match broken {
        Broken::TooLarge => Fault::plain(Code::TooLarge),
        Broken::NotDeflate | Broken::OutOfOrder => Fault::new(Code::BadFrame, "a compressed frame breaks RFC 7692"),
    }
}

/// Says why, and closes.
pub async fn refuse<D: Dialect>(metrics: &Metrics, mut socket: impl Frames, dialect: D, reply_to: Option<&FrameId>, fault: &Fault) {
    let mut outbox = Outbox::new(dialect);
    outbox.event(reply_to, &fault.clone().into());
    outbox.close_for(fault);
    Writer::default().finish(&mut outbox, &mut socket).await;
    metrics.connection_closed(Some(fault.code));
    linger(&mut socket, |_| ()).await;
}

/// After the client's close frame: lets ours go out (RFC 6455 section 5.5.1). The socket has it ready and writes it when it
/// is read on; nothing else may be written any more.
pub async fn answer_close(socket: &mut (impl Stream<Item = Result<Message, axum::Error>> + Unpin)) {
    let _ = timeout(LINGER, socket.next()).await;
}

/// After our close frame: waits until the client has closed too (RFC 6455 section 7.1.1), and hands out the texts that
/// were on their way. A socket that is dropped with something unread in it resets the connection, and the close frame
/// may never be seen.
pub(super) async fn linger(socket: &mut (impl Stream<Item = Result<Message, axum::Error>> + Unpin), mut text: impl FnMut(&str)) {
    let until_closed = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(late))) => text(&late),
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Close(_))) => {}
                // Gone, or what is there cannot be read as frames: then the client only gets the time to read ours.
                Some(Err(error)) if fault_of(&error).is_some() => std::future::pending().await,
                Some(Err(_)) | None => return,
            }
        }
    };
    // A client that does not answer in time has had its chance.
    let _ = timeout(LINGER, until_closed).await;
}
