//! Letters between nodes, encrypted and authenticated: anybody who may connect to the database may notify any channel and
//! listen to it, and a server of NATS may have other clients. AES-256-GCM (NIST SP 800-38D) with a key for each sender, which
//! HKDF-SHA256 (RFC 5869) derives from a secret of the table `bus_keys`.
//!
//! A letter names its key, its sender, the sender's boot and a counter; these and the recipient are authenticated with it. So a
//! letter is good for one recipient, once: the counter only grows. Gaps are allowed, since letters may be lost. Which nodes and
//! boots there are is said by the database alone. This file knows no connection and no clock.
//!
//! Where messages are encrypted at rest, the text is encrypted before with a secret that the database does not have (a content key). So what
//! the database has, the secret of the letter among it, opens no content; and a node without that secret still knows who has written.

mod content_keys;

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use uuid::Uuid;

use crate::domain::NodeId;
pub use content_keys::{ContentKey, ContentKeys};
#[cfg(test)]
pub(super) use tests::listing;

/// Bytes of text of a letter. Sealed it has less than 8,000, which is what PostgreSQL takes as a notification.
pub(super) const TEXT_BYTES_MAX: usize = 5_880;

/// Letters of nodes that are not listed, that are kept whole.
const KEPT_MAX: usize = 64;
/// A letter is kept until so many listings do not name its node.
const LISTINGS_MAX: u8 = 2;
const VERSION: u8 = 2;
/// Version, number of the key, node, boot, counter.
const HEAD_BYTES: usize = 1 + 8 + 16 + 16 + 8;
/// The purpose of the key of a letter.
const LETTER: &[u8] = b"restante bus 1";
const COUNTER_BYTES: usize = 8;

/// A secret that nodes share, with its number.
#[derive(Clone, PartialEq, Eq)]
pub struct BusKey {
    /// Its number: later keys have higher ones.
    pub number: i64,
    /// 32 random bytes.
    pub secret: [u8; 32],
}

/// Without the secret.
impl fmt::Debug for BusKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BusKey").field("number", &self.number).finish_non_exhaustive()
    }
}

/// The nodes and keys that the database lists, and the content keys.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The boot of the node that asks.
    pub boot: Uuid,
    /// The nodes that live, this one too, with their boots.
    pub live: Vec<(NodeId, Uuid)>,
    /// The keys that are valid.
    pub keys: Vec<BusKey>,
    /// The number of the key that letters are sealed with now.
    pub sealing: i64,
    /// The content keys.
    pub content: ContentKeys,
}

/// The reason for which a letter is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// It was not sealed by a node of this service, for this node, with a key that is valid.
    Forged,
    /// It was heard before, or is older than one that was.
    Replayed,
    /// Its sender is not listed as living. The database is asked again, at once, and the letter is taken if it lists the sender.
    Unlisted,
    /// A node that lives has sent it, and its content key is not known here.
    Unreadable,
}

impl Rejected {
    /// The name of the reason, as metrics show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forged => "forged",
            Self::Replayed => "replayed",
            Self::Unlisted => "unlisted",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A letter that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Opened {
    /// Of a node that lives.
    Letter(NodeId, String),
    Rejected(Rejected),
}

/// Nodes that were not listed before, or not under their boot.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arrived {
    pub(super) nodes: Vec<NodeId>,
    /// Letters of theirs that came before they were listed here, in their order.
    pub(super) letters: Vec<(NodeId, String)>,
    /// More of them came than could be kept.
    pub(super) has_missed: bool,
}

/// Seals and opens the letters of one node.
#[derive(Debug)]
pub(super) struct Seals {
    me: NodeId,
    boot: Uuid,
    /// The number of the latest letter.
    counter: u64,
    keys: BTreeMap<i64, BusKey>,
    sealing: i64,
    content: ContentKeys,
    /// Letters of nodes that live could not be read since the last listing.
    has_unreadable: bool,
    senders: BTreeMap<NodeId, Sender>,
    /// Letters of nodes that are not listed, until the database was asked for them.
    kept: Vec<Kept>,
}

/// A letter of a node that is not listed.
#[derive(Debug)]
struct Kept {
    head: Head,
    /// None: there was no room for it.
    text: Option<String>,
    /// Listings that came since and do not name the node. The first one may be from before it was listed.
    listings: u8,
}

#[derive(Debug, Clone, Copy)]
struct Sender {
    boot: Uuid,
    /// The counter of its latest letter.
    latest: u64,
}

/// The part of a letter that is not encrypted.
#[derive(Debug, Clone, Copy)]
struct Head {
    key: i64,
    node: NodeId,
    boot: Uuid,
    counter: u64,
}

impl Seals {
    /// Knows no key and nobody yet.
    pub(super) fn new(me: NodeId) -> Self {
        Self {
            me,
            boot: Uuid::nil(),
            counter: 0,
            keys: BTreeMap::new(),
            sealing: 0,
            content: ContentKeys::default(),
            has_unreadable: false,
            senders: BTreeMap::new(),
            kept: Vec::new(),
        }
    }

    /// Takes the nodes, boots and keys that the database lists now.
    pub(super) fn list(&mut self, listing: Listing) -> Arrived {
        self.boot = listing.boot;
        self.sealing = listing.sealing;
        self.keys = listing.keys.into_iter().map(|key| (key.number, key)).collect();
        self.content = listing.content;
        let before = std::mem::take(&mut self.senders);
        let mut arrived = Arrived { has_missed: std::mem::take(&mut self.has_unreadable), ..Arrived::default() };
        for (node, boot) in listing.live {
            let known = before.get(&node).filter(|known| known.boot == boot).copied();
            if known.is_none() && node != self.me {
                arrived.nodes.push(node);
            }
            self.senders.insert(node, known.unwrap_or(Sender { boot, latest: 0 }));
        }
        self.take_kept(&mut arrived);
        arrived
    }

    fn take_kept(&mut self, arrived: &mut Arrived) {
        for mut letter in std::mem::take(&mut self.kept) {
            match self.senders.get_mut(&letter.head.node).filter(|sender| sender.boot == letter.head.boot) {
                Some(sender) => {
                    sender.latest = sender.latest.max(letter.head.counter);
                    match letter.text {
                        Some(text) => arrived.letters.push((letter.head.node, text)),
                        None => arrived.has_missed = true,
                    }
                }
                None => {
                    letter.listings += 1;
                    if letter.listings < LISTINGS_MAX {
                        self.kept.push(letter);
                    }
                }
            }
        }
    }

    /// Keeps a letter of a node that is not listed, in the order of its counter. Beyond the bound a node is noted once.
    fn keep(&mut self, head: Head, text: String) -> Rejected {
        let of_sender = |kept: &&mut Kept| kept.head.node == head.node && kept.head.boot == head.boot;
        let count = self.kept.len();
        match self.kept.iter_mut().rfind(of_sender) {
            Some(latest) if latest.head.counter >= head.counter => return Rejected::Replayed,
            Some(latest) if latest.text.is_none() => latest.head = head,
            _ if count < 2 * KEPT_MAX => {
                self.kept.push(Kept { head, text: (count < KEPT_MAX).then_some(text), listings: 0 });
            }
            _ => {}
        }
        Rejected::Unlisted
    }

    /// A letter for a node. None: there is no key yet, or the text is longer than [`TEXT_BYTES_MAX`].
    pub(super) fn seal(&mut self, to: NodeId, text: &str) -> Option<String> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let key = self.keys.get(&self.sealing)?;
        self.counter += 1;
        let head = Head { key: key.number, node: self.me, boot: self.boot, counter: self.counter };
        let mut body = self.content.sealed(head, to, text)?;
        head.cipher(LETTER, &key.secret)?.seal_in_place_append_tag(head.nonce(), head.authenticated(to), &mut body).ok()?;
        let mut letter = head.bytes().to_vec();
        letter.append(&mut body);
        Some(STANDARD_NO_PAD.encode(letter))
    }

    /// Opens what was heard on the channel of this node.
    pub(super) fn open(&mut self, letter: &str) -> Opened {
        let Some((head, text)) = self.decrypt(letter) else { return Opened::Rejected(Rejected::Forged) };
        match (self.senders.get_mut(&head.node).filter(|sender| sender.boot == head.boot), text) {
            (Some(sender), _) if sender.latest >= head.counter => Opened::Rejected(Rejected::Replayed),
            (Some(sender), Some(text)) => {
                sender.latest = head.counter;
                Opened::Letter(head.node, text)
            }
            (None, Some(text)) => Opened::Rejected(self.keep(head, text)),
            // Its sender is somebody who may write to this node, listed already or soon: what it has told is looked for.
            (sender, None) => {
                if let Some(sender) = sender {
                    sender.latest = head.counter;
                }
                self.has_unreadable = true;
                Opened::Rejected(Rejected::Unreadable)
            }
        }
    }

    /// The head of a letter that a node of this service has sealed for this one, and its text. No text: its content key is not known here.
    fn decrypt(&self, letter: &str) -> Option<(Head, Option<String>)> {
        let mut letter = STANDARD_NO_PAD.decode(letter).ok()?;
        let (head, body) = letter.split_at_mut_checked(HEAD_BYTES)?;
        let head = Head::read(head)?;
        let cipher = head.cipher(LETTER, &self.keys.get(&head.key)?.secret)?;
        let body = cipher.open_in_place(head.nonce(), head.authenticated(self.me), body).ok()?;
        Some((head, self.content.opened(head, self.me, body)))
    }
}

impl Head {
    fn bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(&self.key.to_be_bytes());
        bytes[9..25].copy_from_slice(self.node.0.as_bytes());
        bytes[25..41].copy_from_slice(self.boot.as_bytes());
        bytes[41..].copy_from_slice(&self.counter.to_be_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (&[VERSION], rest) = bytes.split_first_chunk::<1>()? else { return None };
        let (key, rest) = rest.split_first_chunk::<8>()?;
        let (node, rest) = rest.split_first_chunk::<16>()?;
        let (boot, rest) = rest.split_first_chunk::<16>()?;
        let counter = rest.first_chunk::<COUNTER_BYTES>()?;
        let node = NodeId(Uuid::from_bytes(*node));
        Some(Self { key: i64::from_be_bytes(*key), node, boot: Uuid::from_bytes(*boot), counter: u64::from_be_bytes(*counter) })
    }

    /// The key of this sender and boot for a purpose. No two senders share one, so a counter is a nonce that is used once.
    fn cipher(self, purpose: &[u8], secret: &[u8; 32]) -> Option<LessSafeKey> {
        let context = [purpose, self.node.0.as_bytes(), self.boot.as_bytes()];
        let pseudorandom = Salt::new(HKDF_SHA256, &[]).extract(secret);
        let derived = pseudorandom.expand(&context, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(derived)))
    }

    fn nonce(self) -> Nonce {
        let mut bytes = [0; NONCE_LEN];
        bytes[NONCE_LEN - COUNTER_BYTES..].copy_from_slice(&self.counter.to_be_bytes());
        Nonce::assume_unique_for_key(bytes)
    }

    /// The additional data: the head, and the node that the letter is for.
    fn authenticated(self, to: NodeId) -> Aad<Vec<u8>> {
        Aad::from([self.bytes().as_slice(), to.0.as_bytes()].concat())
    }
}

#[cfg(test)]
mod tests;
