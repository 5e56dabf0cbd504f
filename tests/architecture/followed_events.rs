//! An event of a feed becomes a row for a follower, or has expired, or is muted, or is not for that user. One function of the schema says
//! so, and each place that looks at events of a feed for a user asks it.

use std::collections::BTreeSet;

use super::ended_rows::{functions, statements, words};

const RULE: &str = "restante_event_becomes(";

/// Those that ask.
const ASKING: [&str; 6] =
    ["merged", "restante_count_untaken", "restante_excess", "restante_is_superseded", "restante_take", "restante_take_together"];

/// Those that know of exceptions: the rule, and what writes and removes them.
const EXCEPTIONS: [&str; 3] = ["restante_event_becomes", "restante_publish_batch", "restante_purge_chats"];

#[test]
fn the_state_of_an_event_for_a_follower_is_told_by_one_function() {
    let all: Vec<_> = statements().into_iter().chain(functions()).collect();
    let named = |is_meant: &dyn Fn(&str) -> bool| {
        all.iter().filter(|(_, text)| is_meant(text)).map(|(name, _)| name.as_str()).collect::<BTreeSet<_>>()
    };
    assert_eq!(named(&|text| words(text).contains("event_exceptions")), BTreeSet::from(EXCEPTIONS));
    let asking = named(&|text| text.contains(RULE) && !text.contains("LANGUAGE sql"));
    assert_eq!(asking, BTreeSet::from(ASKING));
}
