//! Sealed values: content and metadata of one message, or the data of one event, under a data key.
//!
//! A value is a version, a nonce of 96 random bits, and the ciphertext with its tag. The id of the message and the id of the key are
//! authenticated with it, so a value opens only in its own row. Its length shows how long the text is.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;

use super::hex;
use crate::domain::MessageId;

/// Bytes of a key of AES-256.
pub const KEY_BYTES: usize = 32;
/// Values after which a node wants another data key. Random nonces are good for 2^32 values of a key (NIST SP 800-38D, 8.3), by all
/// nodes together: sixteen nodes that all come to this bound stay within it.
pub const VALUES_MAX: u64 = 1 << 28;

const VERSION: u8 = 1;
/// The place of the ciphertext: behind the version and the nonce.
const TEXT_AT: usize = 1 + NONCE_LEN;
const CONTEXT: &[u8] = b"restante message 1";
const BUS_CONTEXT: &[u8] = b"restante bus secret 1";
/// Random bytes of the id of a key.
const ID_BYTES: usize = 8;
/// Flags, then the length of the content.
const HEAD_BYTES: usize = 1 + 4;
const HAS_CONTENT: u8 = 1;
const HAS_METADATA: u8 = 2;

/// The parts of a message that are sealed together.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Plain {
    /// The text. None: an event has none.
    pub content: Option<String>,
    /// The client's JSON, or the data of an event. None: there is none.
    pub metadata: Option<String>,
}

/// Without the text.
impl fmt::Debug for Plain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Plain").finish_non_exhaustive()
    }
}

/// A data key, ready for use.
pub struct DataKey {
    id: String,
    cipher: LessSafeKey,
    /// Derived from the key, for what nodes tell one another.
    bus_secret: [u8; KEY_BYTES],
    /// Values that were sealed with it here.
    values: AtomicU64,
}

/// Without the key.
impl fmt::Debug for DataKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DataKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl DataKey {
    /// The key of these bytes, under the id that rows name.
    pub fn new(id: String, secret: &[u8; KEY_BYTES]) -> Self {
        Self { id, cipher: cipher(secret), bus_secret: derived(secret, BUS_CONTEXT), values: AtomicU64::new(0) }
    }

    /// A secret for what nodes tell one another of messages, which says nothing of the key.
    pub fn bus_secret(&self) -> [u8; KEY_BYTES] {
        self.bus_secret
    }

    /// Random bytes for a new key, and a random id.
    ///
    /// # Panics
    /// If the operating system has no random bytes.
    pub fn generate() -> (String, [u8; KEY_BYTES]) {
        (hex(&random::<ID_BYTES>()), random())
    }

    /// The id that rows name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns whether this node has sealed as many values with it as it may.
    pub fn is_worn(&self) -> bool {
        self.values.load(Ordering::Relaxed) >= VALUES_MAX
    }

    /// The sealed form of what a message says, or of the data of an event, which has no content. The same text is another value each time.
    /// It is copied once.
    ///
    /// # Panics
    /// If the operating system has no random bytes.
    pub fn seal(&self, message: MessageId, content: Option<&str>, metadata: Option<&str>) -> Vec<u8> {
        self.values.fetch_add(1, Ordering::Relaxed);
        let nonce = random::<NONCE_LEN>();
        let text_bytes = HEAD_BYTES + content.map_or(0, str::len) + metadata.map_or(0, str::len);
        let mut sealed = Vec::with_capacity(TEXT_AT + text_bytes + AES_256_GCM.tag_len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        put_text(&mut sealed, content, metadata);
        let tag = self
            .cipher
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), self.authenticated(message), &mut sealed[TEXT_AT..])
            .expect("a message is far shorter than what AES-GCM takes");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Opens a value. None: it was not sealed with this key for this message, or was changed.
    pub fn open(&self, message: MessageId, sealed: &[u8]) -> Option<Plain> {
        let (&VERSION, rest) = sealed.split_first()? else { return None };
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut body = body.to_vec();
        let text = self.cipher.open_in_place(Nonce::assume_unique_for_key(*nonce), self.authenticated(message), &mut body).ok()?;
        Plain::from_bytes(text)
    }

    fn authenticated(&self, message: MessageId) -> Aad<Vec<u8>> {
        Aad::from([CONTEXT, message.0.as_bytes(), self.id.as_bytes()].concat())
    }
}

impl Plain {
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (head, text) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let [flags, length @ ..] = *head;
        let (content, metadata) = text.split_at_checked(usize::try_from(u32::from_be_bytes(length)).ok()?)?;
        let text = |flag: u8, bytes: &[u8]| (flags & flag != 0).then(|| String::from_utf8(bytes.to_vec())).transpose().ok();
        Some(Self { content: text(HAS_CONTENT, content)?, metadata: text(HAS_METADATA, metadata)? })
    }
}

fn put_text(to: &mut Vec<u8>, content: Option<&str>, metadata: Option<&str>) {
    let flags = if content.is_some() { HAS_CONTENT } else { 0 } | if metadata.is_some() { HAS_METADATA } else { 0 };
    let (content, metadata) = (content.unwrap_or_default(), metadata.unwrap_or_default());
    let content_bytes = u32::try_from(content.len()).expect("content is at most some KiB");
    to.push(flags);
    to.extend_from_slice(&content_bytes.to_be_bytes());
    to.extend_from_slice(content.as_bytes());
    to.extend_from_slice(metadata.as_bytes());
}

/// Another secret (HKDF-SHA256, RFC 5869).
fn derived(secret: &[u8; KEY_BYTES], context: &[u8]) -> [u8; KEY_BYTES] {
    let mut bytes = [0; KEY_BYTES];
    let pseudorandom = Salt::new(HKDF_SHA256, &[]).extract(secret);
    let derived = pseudorandom.expand(&[context], HKDF_SHA256).and_then(|derived| derived.fill(&mut bytes));
    derived.expect("SHA-256 gives as many bytes as a key has");
    bytes
}

pub(super) fn cipher(secret: &[u8; KEY_BYTES]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, secret).expect("the length is that of a key of AES-256"))
}

/// # Panics
/// If the operating system has no random bytes.
pub(super) fn random<const BYTES: usize>() -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    rand::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str, byte: u8) -> DataKey {
        DataKey::new(id.to_owned(), &[byte; KEY_BYTES])
    }

    fn plain(content: Option<&str>, metadata: Option<&str>) -> Plain {
        Plain { content: content.map(str::to_owned), metadata: metadata.map(str::to_owned) }
    }

    #[test]
    fn what_was_sealed_opens_as_it_was_and_shows_nothing() {
        let (key, message) = (key("k", 1), MessageId::generate());
        for (content, metadata) in
            [(Some("a secret word"), Some(r#"{"secret": 1}"#)), (Some(""), None), (None, Some("null")), (None, None), (Some("ü€"), None)]
        {
            let sealed = key.seal(message, content, metadata);
            assert_eq!(key.open(message, &sealed), Some(plain(content, metadata)));
            assert!(!sealed.windows(6).any(|bytes| bytes == b"secret"));
            assert_eq!(sealed.capacity(), sealed.len(), "it was made in one piece");
            assert_ne!(key.seal(message, content, metadata), sealed, "a nonce is used once");
        }
        assert!(!format!("{:?} {key:?}", plain(Some("a secret word"), None)).contains("secret"));
    }

    #[test]
    fn a_value_opens_with_its_key_in_its_own_row_and_unchanged_or_not_at_all() {
        let (right, message) = (key("k", 1), MessageId::generate());
        let sealed = right.seal(message, Some("text"), Some("{}"));
        assert_eq!(right.open(MessageId::generate(), &sealed), None, "in the row of another message");
        assert_eq!(key("other", 1).open(message, &sealed), None, "under another key's id");
        assert_eq!(key("k", 2).open(message, &sealed), None, "another key");
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(right.open(message, &changed), None, "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(right.open(message, &sealed[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn a_node_wants_another_key_long_before_nonces_may_repeat() {
        let key = key("k", 1);
        assert!(!key.is_worn());
        key.values.store(VALUES_MAX - 1, Ordering::Relaxed);
        key.seal(MessageId::generate(), None, None);
        assert!(key.is_worn());
    }
}
