//! Letters that are read once, by whom they are for, and by nobody else.

use super::content_keys::{ENCRYPTED, ID_BYTES_MAX};
use super::*;

fn key(number: i64) -> BusKey {
    BusKey { number, secret: [u8::try_from(number).unwrap(); 32] }
}

/// A listing of these nodes, each with a boot that is told by its id.
pub(in crate::bus) fn listing(live: &[NodeId]) -> Listing {
    let boot = |node: &NodeId| Uuid::from_u128(node.0.as_u128() ^ 1);
    let boots = live.iter().map(|node| (*node, boot(node))).collect();
    let boot = live.first().map(boot).unwrap_or_default();
    Listing { boot, live: boots, keys: vec![key(1)], sealing: 1, content: ContentKeys::default() }
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
    assert!(!there.list(listing(&[there.me])).has_missed && there.list(listing(&[there.me])).letters.is_empty() && there.kept.is_empty());
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

fn content_key(id: &str, byte: u8) -> ContentKey {
    ContentKey { id: id.to_owned(), secret: [byte; 32] }
}

#[test]
fn content_is_read_with_the_content_key_only_and_a_node_without_it_looks_for_itself() {
    let (mut here, mut there) = pair();
    let nodes = [here.me, there.me];
    let seals = |keys: [ContentKey; 1]| ContentKeys { sealing: keys.into_iter().next(), opening: Vec::new() };
    let opens = |keys: &[ContentKey]| ContentKeys { sealing: None, opening: keys.to_vec() };
    here.list(Listing { content: seals([content_key("day 2", 2)]), ..listing(&[nodes[0], nodes[1]]) });
    let list = |there: &mut Seals, content| there.list(Listing { content, ..listing(&[nodes[1], nodes[0]]) }).has_missed;
    let unreadable = Opened::Rejected(Rejected::Unreadable);
    assert!(!list(&mut there, opens(&[content_key("day 1", 2), content_key("day 2", 1)])));
    for key in 0..2 {
        let letter = here.seal(there.me, "a secret word").unwrap();
        assert_eq!(there.open(&letter), unreadable, "the id or the secret is another: {key}");
        assert_eq!(there.open(&letter), Opened::Rejected(Rejected::Replayed));
        assert!(list(&mut there, ContentKeys::default()), "what it was told has to be looked for");
        assert!(!list(&mut there, ContentKeys::default()), "once");
    }
    list(&mut there, opens(&[content_key("day 1", 1), content_key("day 2", 2)]));
    let letter = here.seal(there.me, "a secret word").unwrap();
    assert_eq!(there.open(&letter), Opened::Letter(here.me, "a secret word".to_owned()));
    // A node that encrypts nothing is read as before, and reads what others encrypt.
    let letter = there.seal(here.me, "of a node that only reads").unwrap();
    assert_eq!(here.open(&letter), Opened::Letter(there.me, "of a node that only reads".to_owned()));
    // The secret of the letter alone shows nothing of what it says.
    let mut letter = STANDARD_NO_PAD.decode(here.seal(there.me, "a secret word").unwrap()).unwrap();
    let (head, body) = letter.split_at_mut(HEAD_BYTES);
    let head = Head::read(head).unwrap();
    let cipher = head.cipher(LETTER, &key(1).secret).unwrap();
    let body = cipher.open_in_place(head.nonce(), head.authenticated(there.me), body).unwrap();
    assert!(body.starts_with(&[ENCRYPTED, 5]) && !body.windows(6).any(|bytes| bytes == b"secret"));
    assert!(!format!("{:?}", content_key("k", 77)).contains("77"), "the secret is in no log");
}

#[test]
fn the_longest_text_fits_into_a_notification_once_it_is_sealed() {
    let (mut here, there) = pair();
    let content = ContentKeys { sealing: Some(content_key(&"k".repeat(ID_BYTES_MAX), 1)), opening: Vec::new() };
    here.list(Listing { content, ..listing(&[here.me, there.me]) });
    assert!(here.seal(there.me, &"x".repeat(TEXT_BYTES_MAX)).unwrap().len() < 8_000);
    assert!(here.seal(there.me, &"x".repeat(TEXT_BYTES_MAX + 1)).is_none());
}
