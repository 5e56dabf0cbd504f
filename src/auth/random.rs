//! Random bytes of the operating system, for what nobody may guess.

use aws_lc_rs::rand;
use uuid::{Builder, Uuid};

/// Random bytes.
pub(super) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// An id that tells nothing, not even when it was made (RFC 9562 section 5.4).
pub fn random_id() -> Uuid {
    Builder::from_random_bytes(bytes()).into_uuid()
}
