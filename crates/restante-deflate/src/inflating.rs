//! A stream of bytes that hands on the frames of the stream below it without compression, where that was agreed on. What is written passes
//! as it is: see [`crate::Deflating`] for that direction.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::frames::{Frames, Side};

/// Bytes read at once.
const READ_BYTES: usize = 2048;

/// A stream over another one. Without an agreement it costs nothing but its place.
#[derive(Debug)]
pub struct Inflating<S> {
    below: S,
    frames: Option<Box<Frames>>,
    received: u64,
}

impl<S> Inflating<S> {
    /// Passes everything, until [`Inflating::begin`].
    pub const fn new(below: S) -> Self {
        Self { below, frames: None, received: 0 }
    }

    /// Inflates from the next byte on, which must be the first one of a frame. A compressed message may have `message_bytes_max` bytes on the
    /// wire; how large it is without compression the library above limits, as it gets it in fragments of 4 KiB at most.
    ///
    /// Reading ends with an error whose inner error is a [`crate::Broken`] where a message cannot be inflated.
    pub fn begin(&mut self, side: Side, message_bytes_max: usize) {
        self.frames = Some(Box::new(Frames::new(side, message_bytes_max as u64)));
    }

    /// Inflates behind the answer to a handshake that has compression in its offer ([`crate::OFFER`]): the next byte is the first one of that
    /// answer. A service that did not agree compresses nothing.
    pub fn begin_after_answer(&mut self, message_bytes_max: usize) {
        self.frames = Some(Box::new(Frames::after_answer(Side::Client, message_bytes_max as u64)));
    }

    /// Bytes that have come from the stream below.
    pub const fn received(&self) -> u64 {
        self.received
    }
}

impl<S: AsyncRead + Unpin> Inflating<S> {
    fn poll_below(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.below).poll_read(context, buffer))?;
        let bytes = buffer.filled().len() - before;
        self.received += bytes as u64;
        Poll::Ready(Ok(bytes))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Inflating<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let Some(frames) = this.frames.as_mut() else { return this.poll_below(context, buffer).map_ok(|_| ()) };
            frames.work();
            if !frames.output.is_empty() {
                let bytes = frames.output.len().min(buffer.remaining());
                buffer.put_slice(&frames.output[..bytes]);
                frames.output.advance(bytes);
                frames.shrink();
                return Poll::Ready(Ok(()));
            }
            if let Some(broken) = frames.broken() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, broken)));
            }
            let mut room = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut room);
            if ready!(this.poll_below(context, &mut read))? == 0 {
                return Poll::Ready(Ok(()));
            }
            if let Some(frames) = this.frames.as_mut() {
                frames.read(read.filled());
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Inflating<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().below).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().below).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().below).poll_shutdown(context)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().below).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.below.is_write_vectored()
    }
}
