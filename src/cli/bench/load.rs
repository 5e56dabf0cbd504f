//! What scenarios drive the service with: users, chats and waiting messages made at once, many cheap sockets, a bar to watch.

mod audience;
mod cast;
mod draining;
mod filling;
mod progress;
mod socket;

pub use audience::{Audience, connect_all};
pub use cast::{Cast, Crowd, direct_chats, group_chat, users};
pub use draining::{Drained, drain, drain_all, ensure_drained, waiting};
pub use filling::{accept_all, tidy};
pub use progress::Progress;
pub use socket::{Heard, Numbering, Socket};
