//! The sends that may go and their order, in whatever order names are resolved.

use super::*;
use crate::protocol::client::{SendRequest, SendTarget};

fn name(text: &str) -> ExternalId {
    ExternalId::try_from(text.to_owned()).unwrap()
}

fn says(content: &str) -> PendingSend {
    let target = SendTarget::Chat(ChatId::generate());
    let request = SendRequest {
        message_id: None,
        target,
        content: content.to_owned(),
        message_type: "text".to_owned(),
        metadata: None,
        expires_at: None,
    };
    PendingSend::new(None, request)
}

fn contents(released: &Released) -> Vec<&str> {
    released.sends.iter().map(|(_, send)| send.request.content.as_str()).collect()
}

#[test]
fn sends_to_a_name_go_in_their_order_and_other_names_do_not_wait_for_them() {
    let mut order = NameOrder::default();
    let (bob, carol) = (name("bob"), name("carol"));
    assert_eq!(order.hold(bob.clone(), says("b1")), Question::ToAsk);
    assert_eq!(order.hold(carol.clone(), says("c1")), Question::ToAsk);
    assert_eq!(order.hold(bob.clone(), says("b2")), Question::Already);
    assert_eq!(contents(&order.resolved(&carol, Some(ChatId::generate()))), ["c1"]);
    assert_eq!(contents(&order.resolved(&bob, Some(ChatId::generate()))), ["b1", "b2"]);
    assert!(order.is_empty() && order.bytes == 0);
}

#[test]
fn a_chat_by_its_id_waits_for_the_name_that_means_it_and_keeps_its_place() {
    let mut order = NameOrder::default();
    let (bob, carol, chat) = (name("bob"), name("carol"), ChatId::generate());
    order.hold(bob.clone(), says("1"));
    order.hold(carol.clone(), says("other"));
    assert!(order.follow(chat, says("2")).is_none());
    order.hold(bob.clone(), says("3"));
    assert!(order.follow(chat, says("4")).is_none());
    let released = order.resolved(&bob, Some(chat));
    assert_eq!(contents(&released), ["1", "2", "3", "4"]);
    assert!(released.sends.iter().all(|(to, _)| *to == chat));
    assert_eq!(order.len(), 1, "carol's is not resolved");
}

#[test]
fn a_chat_by_its_id_waits_for_the_names_before_it_only() {
    let mut order = NameOrder::default();
    let (bob, carol, chat) = (name("bob"), name("carol"), ChatId::generate());
    assert!(order.follow(chat, says("nothing is unresolved")).is_some());
    order.hold(bob.clone(), says("b"));
    assert!(order.follow(chat, says("x")).is_none());
    order.hold(carol.clone(), says("c"));
    assert_eq!(contents(&order.resolved(&bob, Some(ChatId::generate()))), ["b", "x"]);
    assert_eq!(contents(&order.resolved(&carol, Some(ChatId::generate()))), ["c"]);
}

#[test]
fn a_name_that_is_known_does_not_overtake_its_chat_by_its_id() {
    let mut order = NameOrder::default();
    let (bob, chat) = (name("bob"), ChatId::generate());
    order.hold(bob.clone(), says("b"));
    assert!(order.follow_known(chat, says("free")).is_some());
    assert!(order.follow(chat, says("by id")).is_none());
    assert!(order.follow_known(chat, says("by name")).is_none());
    assert!(order.follow_known(ChatId::generate(), says("free")).is_some());
    assert_eq!(contents(&order.resolved(&bob, Some(ChatId::generate()))), ["b", "by id", "by name"]);
}

#[test]
fn a_name_without_a_chat_refuses_its_own_sends_and_sets_the_others_free() {
    let mut order = NameOrder::default();
    let (bob, chat) = (name("bob"), ChatId::generate());
    order.hold(bob.clone(), says("b1"));
    assert!(order.follow(chat, says("x")).is_none());
    order.hold(bob.clone(), says("b2"));
    let released = order.resolved(&bob, None);
    assert_eq!(contents(&released), ["x"]);
    assert_eq!(released.refused.iter().map(|send| send.request.content.as_str()).collect::<Vec<_>>(), ["b1", "b2"]);
    assert!(order.is_empty());
}

#[test]
fn what_waits_is_bounded_in_number_and_in_bytes() {
    let mut order = NameOrder::default();
    (0..SENDS_MAX).for_each(|n| {
        assert!(order.has_room());
        order.hold(name(&n.to_string()), says("x"));
    });
    assert!(!order.has_room());
    order.resolved(&name("0"), None);
    assert!(order.has_room());
    order.hold(name("large"), says(&"x".repeat(BYTES_MAX)));
    order.resolved(&name("1"), None);
    assert!(order.len() < SENDS_MAX && !order.has_room());
    order.resolved(&name("large"), Some(ChatId::generate()));
    assert!(order.has_room());
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
        let (mut order, mut known, mut sent) = (NameOrder::default(), [false; 4], vec![Vec::new(); 4]);
        let mut asked: Vec<usize> = Vec::new();
        let note = |sent: &mut Vec<Vec<u32>>, to: ChatId, send: &PendingSend| {
            let place = chats.iter().position(|chat| *chat == to).unwrap();
            sent[place].push(send.request.content.parse().unwrap());
        };
        for n in 0..40_u32 {
            let (place, send) = (roll(4), says(&n.to_string()));
            let to = name(&place.to_string());
            let goes = match roll(3) {
                0 => order.follow(chats[place], send),
                _ if known[place] && !order.awaits(&to) => order.follow_known(chats[place], send),
                _ => {
                    if order.hold(to, send) == Question::ToAsk {
                        asked.push(place);
                    }
                    None
                }
            };
            goes.iter().for_each(|send| note(&mut sent, chats[place], send));
            while !asked.is_empty() && (n == 39 || roll(3) == 0) {
                let place = asked.swap_remove(roll(asked.len()));
                known[place] = true;
                for (to, send) in order.resolved(&name(&place.to_string()), Some(chats[place])).sends {
                    note(&mut sent, to, &send);
                }
            }
        }
        assert!(order.is_empty() && order.behind.is_empty(), "seed {seed}");
        assert_eq!(sent.iter().map(Vec::len).sum::<usize>(), 40, "seed {seed}");
        assert!(sent.iter().all(|sent| sent.is_sorted()), "seed {seed}: {sent:?}");
    }
}
