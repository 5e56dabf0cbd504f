//! Encryption at rest: content of messages and data of events as ciphertext, and the keys for it. AES-256-GCM (NIST SP 800-38D).
//!
//! A value is sealed with a data key. Data keys are stored beside the messages, wrapped by a master key that the database never sees.
//! Pure: it knows no table, no connection and no clock. Which data key is used, and since when, is up to the store.

mod content;
mod master;

pub use content::{DataKey, KEY_BYTES, Plain, VALUES_MAX};
pub use master::{BadMasterKeys, MASTER_KEYS_MAX, MasterKeys, WrappedKey};

/// The use that a node makes of encryption.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EncryptionMode {
    /// It has no key. What is sealed is unreadable here.
    #[default]
    Off,
    /// It opens what is sealed, and stores plain text. For the time in which some nodes have no keys yet.
    Read,
    /// It seals what it stores.
    On,
}

impl EncryptionMode {
    /// The mode of this name.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "off" => Some(Self::Off),
            "read" => Some(Self::Read),
            "on" => Some(Self::On),
            _ => None,
        }
    }
}

/// Lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes everything
        text
    })
}
