//! Which sends may go, and in which order, whatever is resolved when.

use super::*;
use crate::protocol::client::SendTarget;

fn name(text: &str) -> ExternalId {
    ExternalId::try_from(text.to_owned()).unwrap()
}

fn says(content: &str) -> Sending {
    let target = SendTarget::Chat(ChatId::generate());
    let request = SendRequest {
        message_id: None,
        target,
        content: content.to_owned(),
        message_type: "text".to_owned(),
        metadata: None,
        expires_at: None,
    };
    Sending { id: None, request }
}

fn contents(released: &Released) -> Vec<&str> {
    released.sends.iter().map(|(_, sending)| sending.request.content.as_str()).collect()
}

#[test]
fn sends_to_a_name_go_in_their_order_and_other_names_do_not_wait_for_them() {
    let mut directing = Directing::default();
    let (bob, carol) = (name("bob"), name("carol"));
    assert_eq!(directing.hold(bob.clone(), says("b1")), Asked::ToBe);
    assert_eq!(directing.hold(carol.clone(), says("c1")), Asked::ToBe);
    assert_eq!(directing.hold(bob.clone(), says("b2")), Asked::Already);
    assert_eq!(contents(&directing.resolved(&carol, Some(ChatId::generate()))), ["c1"]);
    assert_eq!(contents(&directing.resolved(&bob, Some(ChatId::generate()))), ["b1", "b2"]);
    assert!(directing.is_empty() && directing.bytes == 0);
}

#[test]
fn a_chat_by_its_id_waits_for_the_name_that_means_it_and_keeps_its_place() {
    let mut directing = Directing::default();
    let (bob, carol, chat) = (name("bob"), name("carol"), ChatId::generate());
    directing.hold(bob.clone(), says("1"));
    directing.hold(carol.clone(), says("other"));
    assert!(directing.follow(chat, says("2")).is_none());
    directing.hold(bob.clone(), says("3"));
    assert!(directing.follow(chat, says("4")).is_none());
    let released = directing.resolved(&bob, Some(chat));
    assert_eq!(contents(&released), ["1", "2", "3", "4"]);
    assert!(released.sends.iter().all(|(to, _)| *to == chat));
    assert_eq!(directing.sends(), 1, "carol's is not resolved");
}

#[test]
fn a_chat_by_its_id_waits_for_the_names_before_it_only() {
    let mut directing = Directing::default();
    let (bob, carol, chat) = (name("bob"), name("carol"), ChatId::generate());
    assert!(directing.follow(chat, says("nothing is unresolved")).is_some());
    directing.hold(bob.clone(), says("b"));
    assert!(directing.follow(chat, says("x")).is_none());
    directing.hold(carol.clone(), says("c"));
    assert_eq!(contents(&directing.resolved(&bob, Some(ChatId::generate()))), ["b", "x"]);
    assert_eq!(contents(&directing.resolved(&carol, Some(ChatId::generate()))), ["c"]);
}

#[test]
fn a_name_that_is_known_does_not_overtake_its_chat_by_its_id() {
    let mut directing = Directing::default();
    let (bob, chat) = (name("bob"), ChatId::generate());
    directing.hold(bob.clone(), says("b"));
    assert!(directing.follow_known(chat, says("free")).is_some());
    assert!(directing.follow(chat, says("by id")).is_none());
    assert!(directing.follow_known(chat, says("by name")).is_none());
    assert!(directing.follow_known(ChatId::generate(), says("free")).is_some());
    assert_eq!(contents(&directing.resolved(&bob, Some(ChatId::generate()))), ["b", "by id", "by name"]);
}

#[test]
fn a_name_without_a_chat_refuses_its_own_sends_and_sets_the_others_free() {
    let mut directing = Directing::default();
    let (bob, chat) = (name("bob"), ChatId::generate());
    directing.hold(bob.clone(), says("b1"));
    assert!(directing.follow(chat, says("x")).is_none());
    directing.hold(bob.clone(), says("b2"));
    let released = directing.resolved(&bob, None);
    assert_eq!(contents(&released), ["x"]);
    assert_eq!(released.refused.iter().map(|sending| sending.request.content.as_str()).collect::<Vec<_>>(), ["b1", "b2"]);
    assert!(directing.is_empty());
}

#[test]
fn what_waits_is_bounded_in_number_and_in_bytes() {
    let mut directing = Directing::default();
    (0..SENDS_MAX).for_each(|n| {
        assert!(directing.has_room());
        directing.hold(name(&n.to_string()), says("x"));
    });
    assert!(!directing.has_room());
    directing.resolved(&name("0"), None);
    assert!(directing.has_room());
    directing.hold(name("large"), says(&"x".repeat(BYTES_MAX)));
    directing.resolved(&name("1"), None);
    assert!(directing.sends() < SENDS_MAX && !directing.has_room());
    directing.resolved(&name("large"), Some(ChatId::generate()));
    assert!(directing.has_room());
}

/// A chat behind every name, as the database would find them, and names that are resolved in any order.
#[test]
fn whatever_the_order_in_which_names_are_resolved_each_chat_keeps_its_own() {
    let chats: Vec<ChatId> = (0..4).map(|_| ChatId::generate()).collect();
    for seed in 0..2_000_u64 {
        let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut roll = |sides: usize| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            usize::try_from(dice % sides as u64).unwrap()
        };
        let (mut directing, mut known, mut sent) = (Directing::default(), [false; 4], vec![Vec::new(); 4]);
        let mut asked: Vec<usize> = Vec::new();
        let note = |sent: &mut Vec<Vec<u32>>, to: ChatId, sending: &Sending| {
            let place = chats.iter().position(|chat| *chat == to).unwrap();
            sent[place].push(sending.request.content.parse().unwrap());
        };
        for n in 0..40_u32 {
            let (place, sending) = (roll(4), says(&n.to_string()));
            let to = name(&place.to_string());
            let goes = match roll(3) {
                0 => directing.follow(chats[place], sending),
                _ if known[place] && !directing.awaits(&to) => directing.follow_known(chats[place], sending),
                _ => {
                    if directing.hold(to, sending) == Asked::ToBe {
                        asked.push(place);
                    }
                    None
                }
            };
            goes.iter().for_each(|sending| note(&mut sent, chats[place], sending));
            while !asked.is_empty() && (n == 39 || roll(3) == 0) {
                let place = asked.swap_remove(roll(asked.len()));
                known[place] = true;
                for (to, sending) in directing.resolved(&name(&place.to_string()), Some(chats[place])).sends {
                    note(&mut sent, to, &sending);
                }
            }
        }
        assert!(directing.is_empty() && directing.behind.is_empty(), "seed {seed}");
        assert_eq!(sent.iter().map(Vec::len).sum::<usize>(), 40, "seed {seed}");
        assert!(sent.iter().all(|sent| sent.is_sorted()), "seed {seed}: {sent:?}");
    }
}
