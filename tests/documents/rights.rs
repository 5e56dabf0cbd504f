//! The table of rights in docs/security.md, as the service has it.

use restante::auth::Scope;
use restante::service::{Act, Relation, Role, may};

const OF_GROUPS: &[Relation] = &[Relation::Stranger, Relation::FormerMember, Relation::Invited, Relation::Member, Relation::GroupAdmin];
const OF_MESSAGES: &[Relation] = &[Relation::Stranger, Relation::FormerMember, Relation::Recipient, Relation::Sender];
const OF_USERS: &[Relation] =
    &[Relation::Stranger, Relation::Requested, Relation::Asked, Relation::Contact, Relation::Blocks, Relation::Blocked, Relation::Oneself];
const OF_FEEDS: &[Relation] = &[Relation::Stranger, Relation::Follower, Relation::Publisher, Relation::Maker];

/// Acts whose outcome depends on a relation, in words.
const ACTS: [(&str, Act, &[Relation]); 30] = [
    ("send to a group", Act::Send, OF_GROUPS),
    ("look at a group, its members and marks", Act::SeeChat, OF_GROUPS),
    ("read its history", Act::ReadHistory, OF_GROUPS),
    ("mark it as read, up to where one left", Act::Read, OF_GROUPS),
    ("add members", Act::AddMembers, OF_GROUPS),
    ("remove others", Act::RemoveMembers, OF_GROUPS),
    ("leave it", Act::LeaveChat, OF_GROUPS),
    ("see who is invited", Act::SeeInvited, OF_GROUPS),
    ("accept an invitation", Act::AcceptInvitation, OF_GROUPS),
    ("decline an invitation", Act::DeclineInvitation, OF_GROUPS),
    ("ask what became of a message", Act::SeeStatus, OF_MESSAGES),
    ("recall it", Act::Recall, OF_MESSAGES),
    ("reject it", Act::Reject, OF_MESSAGES),
    ("send to a user", Act::SendToUser, OF_USERS),
    ("begin a direct chat", Act::BeginChat, OF_USERS),
    ("bring a user into one's group", Act::BringIntoGroup, OF_USERS),
    ("request a contact", Act::RequestContact, OF_USERS),
    ("accept a contact", Act::AcceptContact, OF_USERS),
    ("decline a contact", Act::DeclineContact, OF_USERS),
    ("remove a contact", Act::RemoveContact, OF_USERS),
    ("block", Act::Block, OF_USERS),
    ("unblock", Act::Unblock, OF_USERS),
    ("look at a feed", Act::SeeFeed, OF_FEEDS),
    ("follow it", Act::Follow, OF_FEEDS),
    ("publish to a feed", Act::PublishToFeed, OF_FEEDS),
    ("publish to users or to everyone", Act::PublishToUsers, OF_FEEDS),
    ("ask how far an event has got", Act::SeeProgress, OF_FEEDS),
    ("list followers", Act::ListFollowers, OF_FEEDS),
    ("change publishers", Act::ChangePublishers, OF_FEEDS),
    ("make others follow", Act::ChangeFollowers, OF_FEEDS),
];

const fn words(relation: Relation) -> &'static str {
    match relation {
        Relation::Unknown => "anybody",
        Relation::Stranger => "stranger",
        Relation::FormerMember => "former member",
        Relation::Invited => "one that is invited",
        Relation::Member => "member",
        Relation::GroupAdmin => "admin of the group",
        Relation::Sender => "sender",
        Relation::Recipient => "recipient",
        Relation::Publisher => "publisher",
        Relation::Maker => "maker of the feed",
        Relation::Follower => "follower",
        Relation::Contact => "contact",
        Relation::Requested => "one that has requested it",
        Relation::Asked => "one that it has requested",
        Relation::Blocks => "one that has blocked it",
        Relation::Blocked => "one that it has blocked",
        Relation::Oneself => "the user itself",
    }
}

fn table() -> String {
    let mut lines = "| act | open to | refused |\n|---|---|---|\n".to_owned();
    for (act_words, act, relations) in ACTS {
        let (mut open, mut refused) = (Vec::new(), Vec::<(&str, Vec<&str>)>::new());
        for relation in relations {
            match may(Role::of(&Scope::default()), act, *relation) {
                Ok(()) => open.push(words(*relation)),
                Err(refusal) => match refused.iter_mut().find(|(code, _)| *code == refusal.code().as_str()) {
                    Some((_, relations)) => relations.push(words(*relation)),
                    None => refused.push((refusal.code().as_str(), vec![words(*relation)])),
                },
            }
        }
        let open = match open.len() {
            0 => "the scope `events:write`".to_owned(),
            all if all == relations.len() => "everybody".to_owned(),
            _ => open.join(", "),
        };
        let refused: Vec<String> = refused.iter().map(|(code, relations)| format!("`{code}`: {}", relations.join(", "))).collect();
        lines.push_str(&format!("| {act_words} | {open} | {} |\n", refused.join("; ")));
    }
    lines
}

#[test]
fn who_may_do_what_is_the_table_of_the_service() {
    assert!(super::read("docs/security.md").contains(&table()), "put this into docs/security.md:\n{}", table());
}
