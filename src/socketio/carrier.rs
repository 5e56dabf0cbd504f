//! A session that began by polling, as a socket of frames: texts out of requests and into answers, until a WebSocket takes over. Then it is that
//! WebSocket, after what was still waiting.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::extract::ws::Message;
use futures_util::{Sink, Stream};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::session::Ends;
use super::sessions::Entry;
use crate::connection::WebSocket;

/// The socket of such a session. The session ends with it.
#[derive(Debug)]
pub(super) struct Carrier {
    entry: Entry,
    ends: Ends,
    socket: Option<Box<WebSocket>>,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Carrier {
    /// The socket of this session.
    pub(super) fn new(entry: Entry, ends: Ends) -> Self {
        let over = Box::pin(entry.session.over.clone().cancelled_owned());
        Self { entry, ends, socket: None, over }
    }

    /// The WebSocket, once it has taken over and has what waited. Pending with none: the client polls.
    fn poll_socket(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<&mut WebSocket>, axum::Error>> {
        if self.socket.is_none()
            && let Poll::Ready(Some(socket)) = self.ends.taking_over.poll_recv(context)
        {
            self.socket = Some(Box::new(socket));
        }
        let Some(socket) = self.socket.as_deref_mut() else { return Poll::Ready(Ok(None)) };
        let mut has_moved = false;
        loop {
            ready!(Pin::new(&mut *socket).poll_ready(context))?;
            let Some(packet) = self.entry.session.take_one() else { break };
            Pin::new(&mut *socket).start_send(Message::Text(packet))?;
            has_moved = true;
        }
        if has_moved {
            // The rest goes with the next flush, or the next look.
            let _ = Pin::new(&mut *socket).poll_flush(context)?;
        }
        Poll::Ready(Ok(Some(socket)))
    }
}

impl Stream for Carrier {
    type Item = Result<Message, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        // Everything that requests brought is older than anything of the WebSocket.
        if let Poll::Ready(Some(packet)) = this.ends.incoming.poll_recv(context) {
            return Poll::Ready(Some(Ok(Message::Text(packet))));
        }
        if this.over.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        match this.poll_socket(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Ok(None)) => Poll::Pending,
            Poll::Ready(Ok(Some(_))) | Poll::Pending => match this.socket.as_deref_mut() {
                Some(socket) => Pin::new(socket).poll_next(context),
                None => Poll::Pending,
            },
        }
    }
}

impl Sink<Message> for Carrier {
    type Error = axum::Error;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        let this = self.get_mut();
        match ready!(this.poll_socket(context))? {
            Some(socket) => Pin::new(socket).poll_ready(context),
            None => this.entry.session.poll_room(context).map(Ok),
        }
    }

    fn start_send(self: Pin<&mut Self>, frame: Message) -> Result<(), axum::Error> {
        let this = self.get_mut();
        match (this.socket.as_deref_mut(), frame) {
            (Some(socket), frame) => Pin::new(socket).start_send(frame),
            (None, Message::Text(text)) => {
                this.entry.session.put(text);
                Ok(())
            }
            (None, Message::Close(_)) => {
                this.entry.session.put_close();
                Ok(())
            }
            // Polling has packets of its own for these.
            (None, Message::Ping(_) | Message::Pong(_) | Message::Binary(_)) => Ok(()),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        let this = self.get_mut();
        match ready!(this.poll_socket(context))? {
            Some(socket) => Pin::new(socket).poll_flush(context),
            None => this.entry.session.poll_taken(context).map(Ok),
        }
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        let this = self.get_mut();
        match this.socket.as_deref_mut() {
            Some(socket) => Pin::new(socket).poll_close(context),
            None => Poll::Ready(Ok(())),
        }
    }
}
