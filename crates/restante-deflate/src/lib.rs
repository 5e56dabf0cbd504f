//! permessage-deflate (RFC 7692) beneath a WebSocket library that has none: `agreement` is the negotiation, `deflating` compresses a message
//! that goes out, and [`Inflating`] is a stream that hands on frames as if nobody had compressed them.
//!
//! The library above keeps all rules of RFC 6455: fragments, control frames, masks, UTF-8, limits, the closing handshake. Each message is
//! compressed alone (`no_context_takeover` both ways), so a connection keeps no state between two messages.

mod agreement;
mod deflating;
mod frames;
mod inflater;
mod inflating;
#[cfg(test)]
mod tests;

pub use agreement::{Agreement, OFFER, is_agreed};
pub use deflating::Deflating;
pub use frames::{Broken, Side};
pub use inflating::Inflating;

/// The end of a flushed block. A compressed message goes without it (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
