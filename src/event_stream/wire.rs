//! The TCP connection under an answer that does not end. The listener has it, and the stream only answers: this is what the two say to one
//! another. A request carries it to its handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

/// One connection of a client. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Wire(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_streaming: AtomicBool,
    left: CancellationToken,
    cut: CancellationToken,
}

impl Wire {
    /// Returns whether an answer is under way that does not end by itself.
    pub fn is_streaming(&self) -> bool {
        self.0.is_streaming.load(Ordering::Relaxed)
    }

    /// The client has closed the connection. A client of a stream has nothing more to say, so this is its end.
    pub fn client_left(&self) {
        self.0.left.cancel();
    }

    /// Waits until the connection is to end at once, whatever is still to be written.
    pub async fn is_cut(&self) {
        self.0.cut.cancelled().await;
    }

    /// A stream begins on it. The token is cancelled when the client has left.
    pub fn begin(&self) -> CancellationToken {
        self.0.is_streaming.store(true, Ordering::Relaxed);
        self.0.left.child_token()
    }

    /// The stream has said its last word.
    pub(super) fn end(&self) {
        self.0.is_streaming.store(false, Ordering::Relaxed);
    }

    /// The stream was broken off.
    pub(super) fn cut(&self) {
        self.0.cut.cancel();
    }
}
