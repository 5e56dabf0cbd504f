//! What scenarios drive the service with: users and chats made at once, many cheap sockets, a bar to watch.

mod cast;
mod progress;
mod socket;

pub use cast::{Cast, direct_chats, users};
pub use progress::Progress;
pub use socket::{Heard, Numbering, Socket};
