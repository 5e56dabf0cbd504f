//! The door of clients that only read: server-sent events over one answer of HTTP that does not end. The session and its task are those
//! of `connection`; acks come by requests of their own.
//!
//! In reading order: `door` (from the request to a session), `socket` (an answer as a socket of frames), `wire` (the connection under the
//! answer: its client may leave, and a client that does not read is cut off).

mod door;
mod socket;
mod wire;

pub use door::{StreamRequest, open};
pub use wire::Wire;
