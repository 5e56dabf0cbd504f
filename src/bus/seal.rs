//! Letters between nodes, encrypted and authenticated: anybody who may connect to the database may notify any channel and
//! listen to it, and a server of NATS may have other clients. AES-256-GCM (NIST SP 800-38D) with a key for each sender, which
//! HKDF-SHA256 (RFC 5869) derives from a secret of the table `bus_keys`.
//!
//! A letter names its key, its sender, the sender's boot and a counter; these and the recipient are authenticated with it. So a
//! letter is good for one recipient, once: the counter only grows. Gaps are allowed, since letters may be lost. Which nodes and
//! boots there are is said by the database alone. This file knows no connection and no clock.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use uuid::Uuid;

use crate::domain::NodeId;

/// Bytes of text of a letter. Sealed it has less than 8,000, which is what PostgreSQL takes as a notification.
pub(super) const TEXT_BYTES_MAX: usize = 5_930;

/// Letters of nodes that are not listed, that are kept whole.
const KEPT_MAX: usize = 64;
/// A letter is kept until so many listings do not name its node.
const LISTINGS_MAX: u8 = 2;
const VERSION: u8 = 1;
/// Version, number of the key, node, boot, counter.
const HEAD_BYTES: usize = 1 + 8 + 16 + 16 + 8;
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

/// The nodes and keys that the database lists.
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
}

impl Rejected {
    /// The name of the reason, as metrics show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forged => "forged",
            Self::Replayed => "replayed",
            Self::Unlisted => "unlisted",
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
        Self { me, boot: Uuid::nil(), counter: 0, keys: BTreeMap::new(), sealing: 0, senders: BTreeMap::new(), kept: Vec::new() }
    }

    /// Takes the nodes, boots and keys that the database lists now.
    pub(super) fn list(&mut self, listing: Listing) -> Arrived {
        self.boot = listing.boot;
        self.sealing = listing.sealing;
        self.keys = listing.keys.into_iter().map(|key| (key.number, key)).collect();
        let before = std::mem::take(&mut self.senders);
        let mut arrived = Arrived::default();
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
        let mut body = text.as_bytes().to_vec();
        head.cipher(key)?.seal_in_place_append_tag(head.nonce(), head.authenticated(to), &mut body).ok()?;
        let mut letter = head.bytes().to_vec();
        letter.append(&mut body);
        Some(STANDARD_NO_PAD.encode(letter))
    }

    /// Opens what was heard on the channel of this node.
    pub(super) fn open(&mut self, letter: &str) -> Opened {
        let Some((head, text)) = self.decrypt(letter) else { return Opened::Rejected(Rejected::Forged) };
        match self.senders.get_mut(&head.node).filter(|sender| sender.boot == head.boot) {
            Some(sender) if sender.latest < head.counter => {
                sender.latest = head.counter;
                Opened::Letter(head.node, text)
            }
            Some(_) => Opened::Rejected(Rejected::Replayed),
            None => Opened::Rejected(self.keep(head, text)),
        }
    }

    fn decrypt(&self, letter: &str) -> Option<(Head, String)> {
        let mut letter = STANDARD_NO_PAD.decode(letter).ok()?;
        let (head, body) = letter.split_at_mut_checked(HEAD_BYTES)?;
        let head = Head::read(head)?;
        let cipher = head.cipher(self.keys.get(&head.key)?)?;
        let text = cipher.open_in_place(head.nonce(), head.authenticated(self.me), body).ok()?;
        Some((head, std::str::from_utf8(text).ok()?.to_owned()))
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

    /// The key of this sender and boot. No two senders share one, so a counter is a nonce that is used once.
    fn cipher(self, key: &BusKey) -> Option<LessSafeKey> {
        let context = [b"restante bus 1".as_slice(), self.node.0.as_bytes(), self.boot.as_bytes()];
        let pseudorandom = Salt::new(HKDF_SHA256, &[]).extract(&key.secret);
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
pub(super) mod tests {
    use super::*;

    fn key(number: i64) -> BusKey {
        BusKey { number, secret: [u8::try_from(number).unwrap(); 32] }
    }

    /// A listing of these nodes, each with a boot that is told by its id.
    pub(in crate::bus) fn listing(live: &[NodeId]) -> Listing {
        let boot = |node: &NodeId| Uuid::from_u128(node.0.as_u128() ^ 1);
        let boots = live.iter().map(|node| (*node, boot(node))).collect();
        Listing { boot: live.first().map(boot).unwrap_or_default(), live: boots, keys: vec![key(1)], sealing: 1 }
    }

    fn pair() -> (Seals, Seals) {
        let (one, other) = (NodeId::generate(), NodeId::generate());
        let (mut here, mut there) = (Seals::new(one), Seals::new(other));
        assert_eq!(here.list(listing(&[one, other])).nodes, [other]);
        assert_eq!(there.list(listing(&[other, one])).nodes, [one]);
        (here, there)
    }

    #[test]
    fn a_letter_is_read_by_its_recipient_once_and_shows_nothing() {
        let (mut here, mut there) = pair();
        let letter = here.seal(there.me, "a secret word").unwrap();
        assert!(!letter.contains("secret") && !STANDARD_NO_PAD.decode(&letter).unwrap().windows(6).any(|bytes| bytes == b"secret"));
        assert_eq!(there.open(&letter), Opened::Letter(here.me, "a secret word".to_owned()));
        assert_eq!(there.open(&letter), Opened::Rejected(Rejected::Replayed));
        let [_, lost, second, third] = [(); 4].map(|()| here.seal(there.me, "x").unwrap());
        assert!(matches!(there.open(&second), Opened::Letter(..)), "gaps are allowed");
        assert_eq!(there.open(&lost), Opened::Rejected(Rejected::Replayed), "it is older than one that was heard");
        assert!(matches!(there.open(&third), Opened::Letter(..)));
        assert_ne!(here.seal(there.me, "x"), here.seal(there.me, "x"));
    }

    #[test]
    fn a_letter_for_another_node_or_with_any_bit_changed_is_forged() {
        let (mut here, mut there) = pair();
        let mut third = Seals::new(NodeId::generate());
        third.list(listing(&[third.me, here.me, there.me]));
        let letter = here.seal(there.me, "for one").unwrap();
        assert_eq!(third.open(&letter), Opened::Rejected(Rejected::Forged));
        let bytes = STANDARD_NO_PAD.decode(&letter).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(there.open(&STANDARD_NO_PAD.encode(changed)), Opened::Rejected(Rejected::Forged), "bit {bit}");
        }
        for text in ["", "beat", "{\"w\":[\"chat\",[1]]}", "\"l\"", &letter[..40], &letter[..70], "AAAA", &"A".repeat(7_999)] {
            assert_eq!(there.open(text), Opened::Rejected(Rejected::Forged), "{text}");
        }
        assert!(matches!(there.open(&letter), Opened::Letter(..)), "none of it counted");
    }

    #[test]
    fn only_nodes_and_boots_that_the_database_lists_are_believed() {
        let (mut here, mut there) = pair();
        let unlisted = Opened::Rejected(Rejected::Unlisted);
        let [before, second] = ["before", "second"].map(|text| here.seal(there.me, text).unwrap());
        there.list(listing(&[there.me]));
        assert_eq!([&before, &second].map(|letter| there.open(letter)), [unlisted.clone(), unlisted.clone()]);
        assert_eq!(there.open(&before), Opened::Rejected(Rejected::Replayed));
        // A listing that was asked for before they came says nothing of it.
        assert_eq!(there.list(listing(&[there.me])), Arrived::default());
        let letters = ["before", "second"].map(|text| (here.me, text.to_owned())).to_vec();
        assert_eq!(there.list(listing(&[there.me, here.me])), Arrived { nodes: vec![here.me], letters, has_missed: false });
        assert_eq!(there.open(&second), Opened::Rejected(Rejected::Replayed));
        assert_eq!(there.list(listing(&[there.me, here.me])), Arrived::default());
        // Listed anew, it has another boot, and what it said under the one before is not heard again.
        let mut anew = listing(&[there.me, here.me]);
        anew.live[1].1 = Uuid::from_u128(7);
        assert_eq!(there.list(anew.clone()).nodes, [here.me]);
        assert_eq!(there.open(&before), unlisted);
        assert!(there.list(anew.clone()).letters.is_empty() && there.list(anew).letters.is_empty() && there.kept.is_empty());
    }

    #[test]
    fn of_a_node_that_is_not_listed_yet_only_so_many_letters_are_kept_and_the_rest_is_looked_for() {
        let (mut here, mut there) = pair();
        there.list(listing(&[there.me]));
        for _ in 0..3 * KEPT_MAX {
            let letter = here.seal(there.me, "x").unwrap();
            assert_eq!(there.open(&letter), Opened::Rejected(Rejected::Unlisted));
        }
        assert_eq!(there.kept.len(), KEPT_MAX + 1);
        let arrived = there.list(listing(&[there.me, here.me]));
        assert_eq!((arrived.letters.len(), arrived.has_missed), (KEPT_MAX, true));
        // Replays of nodes that have gone leave no more behind.
        there.list(listing(&[there.me]));
        for _ in 0..3 * KEPT_MAX {
            let mut gone = Seals::new(NodeId::generate());
            gone.list(listing(&[gone.me]));
            there.open(&gone.seal(there.me, "x").unwrap());
        }
        assert_eq!(there.kept.len(), 2 * KEPT_MAX);
        assert!(
            !there.list(listing(&[there.me])).has_missed && there.list(listing(&[there.me])).letters.is_empty() && there.kept.is_empty()
        );
    }

    #[test]
    fn two_keys_are_valid_while_the_key_changes_and_older_ones_are_not() {
        let (mut here, mut there) = pair();
        let nodes = [here.me, there.me];
        let with = |me: usize, keys: &[i64], sealing: i64| {
            let live = [nodes[me], nodes[1 - me]];
            Listing { keys: keys.iter().map(|number| key(*number)).collect(), sealing, ..listing(&live) }
        };
        let old = here.seal(there.me, "with the old key").unwrap();
        there.list(with(1, &[1, 2], 1));
        assert!(matches!(there.open(&old), Opened::Letter(..)));
        here.list(with(0, &[1, 2], 2));
        let new = here.seal(there.me, "with the new key").unwrap();
        assert!(matches!(there.open(&new), Opened::Letter(..)));
        here.list(with(0, &[1, 2], 1));
        let late = here.seal(there.me, "with the old key, too late").unwrap();
        there.list(with(1, &[2], 2));
        assert_eq!(there.open(&late), Opened::Rejected(Rejected::Forged));
        assert!(Seals::new(here.me).seal(there.me, "without a key").is_none());
        assert!(!format!("{there:?}").contains("secret:") && !format!("{:?}", key(77)).contains("77, 77"), "the secret is in no log");
    }

    #[test]
    fn the_longest_text_fits_into_a_notification_once_it_is_sealed() {
        let (mut here, there) = pair();
        assert!(here.seal(there.me, &"x".repeat(TEXT_BYTES_MAX)).unwrap().len() < 8_000);
        assert!(here.seal(there.me, &"x".repeat(TEXT_BYTES_MAX + 1)).is_none());
    }
}
