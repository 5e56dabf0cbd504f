//! Acts towards another user by the relation to it. What `DIRECT_MESSAGES` narrows of it is in `crate::people`.

use reqwest::Method;
use restante::service::{Act, Relation};
use serde_json::json;

use super::{DONE, Way, arrange, assert_outcome, event, http, of_table};
use crate::support::{Node, database};

const RELATIONS: [Relation; 7] =
    [Relation::Stranger, Relation::Requested, Relation::Asked, Relation::Contact, Relation::Blocks, Relation::Blocked, Relation::Oneself];
const NO: &str = "not_found";
const SHUT: &str = "not_accepted";

/// Acts with their outcomes for [`RELATIONS`].
const TABLE: [(Act, [&str; 7]); 9] = [
    (Act::SendToUser, [DONE, DONE, DONE, DONE, SHUT, SHUT, DONE]),
    (Act::BeginChat, [DONE, DONE, DONE, DONE, SHUT, SHUT, DONE]),
    (Act::BringIntoGroup, [DONE, DONE, DONE, DONE, DONE, SHUT, DONE]),
    (Act::RequestContact, [DONE, DONE, DONE, DONE, "conflict", DONE, "invalid"]),
    (Act::AcceptContact, [NO, NO, DONE, DONE, "conflict", NO, "invalid"]),
    (Act::DeclineContact, [NO, NO, DONE, NO, NO, NO, "invalid"]),
    (Act::RemoveContact, [DONE, DONE, DONE, DONE, DONE, DONE, "invalid"]),
    (Act::Block, [DONE, DONE, DONE, DONE, DONE, DONE, "invalid"]),
    (Act::Unblock, [DONE, DONE, DONE, DONE, DONE, DONE, "invalid"]),
];

/// Gives the one this relation to the other. Returns the name of the other.
async fn arranged(node: &Node, one: &str, relation: Relation) -> String {
    let other = format!("{one}-other");
    let names = async |user: &str, path: &str, named: &str| arrange(node, user, Method::POST, path, json!({"userId": named})).await;
    match relation {
        Relation::Requested => _ = names(one, "/v1/contacts", &other).await,
        Relation::Asked => _ = names(&other, "/v1/contacts", one).await,
        Relation::Contact => {
            names(one, "/v1/contacts", &other).await;
            names(&other, "/v1/contacts", one).await;
        }
        Relation::Blocks => _ = names(one, "/v1/blocks", &other).await,
        Relation::Blocked => _ = names(&other, "/v1/blocks", one).await,
        Relation::Oneself => return one.to_owned(),
        _ => {}
    }
    other
}

/// The ways to ask for an act of the table.
fn ways(act: Act, one: &str, other: &str) -> Vec<Way> {
    let (message, user) = (json!({"to": other, "content": "x"}), json!({"userId": other}));
    let made = |kind: &str| http(Method::POST, "/v1/chats", json!({"kind": kind, "members": [other]}));
    let each = |method: Method, path: &str, name: &'static str, function: &str| {
        let in_sql = Way::Statement(format!("select {function}('{one}', '{other}')"));
        [http(method, path, user.clone()), in_sql].into_iter().chain(event(name, user.clone())).collect()
    };
    match act {
        Act::SendToUser => {
            let by_http = ["/v1/messages", "/api/messages/send"].map(|path| http(Method::POST, path, message.clone()));
            by_http.into_iter().chain(event("message:send", message)).collect()
        }
        Act::BeginChat => vec![made("direct")],
        Act::BringIntoGroup => vec![made("group")],
        Act::RequestContact => each(Method::POST, "/v1/contacts", "contact:request", "restante_request_contact"),
        Act::AcceptContact => each(Method::POST, "/v1/contacts/accept", "contact:accept", "restante_accept_contact"),
        Act::DeclineContact => each(Method::POST, "/v1/contacts/decline", "contact:decline", "restante_decline_contact"),
        Act::RemoveContact => each(Method::DELETE, "/v1/contacts", "contact:remove", "restante_remove_contact"),
        Act::Block => each(Method::POST, "/v1/blocks", "block:add", "restante_block"),
        Act::Unblock => each(Method::DELETE, "/v1/blocks", "block:remove", "restante_unblock"),
        other => panic!("{other:?} is none of the table"),
    }
}

/// Broken by `closed_chats` that `restante_accept` does not look at, by requests to a user that the caller has blocked, and by a contact of oneself.
#[tokio::test]
async fn each_act_towards_a_user_has_the_outcome_of_its_relation_at_every_door() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    for (act, outcomes) in TABLE {
        for (relation, expected) in RELATIONS.into_iter().zip(outcomes) {
            let case = format!("{act:?}-{relation:?}");
            assert_eq!(of_table("", act, relation), expected, "the table of the service: {case}");
            // Two users of their own for each way: the first would change what the second finds.
            for n in 0..ways(act, "", "").len() {
                let one = format!("{case}-{n}");
                if act == Act::SendToUser && n % 2 == 1 {
                    // These two have a direct chat, which a block closes.
                    let message = json!({"to": format!("{one}-other"), "content": "x"});
                    arrange(&node, &one, Method::POST, "/v1/messages", message).await;
                }
                let other = arranged(&node, &one, relation).await;
                let way = &ways(act, &one, &other)[n];
                // In SQL it is no mistake to end a block that there is not.
                let is_harmless = (act, relation) == (Act::Unblock, Relation::Oneself) && matches!(way, Way::Statement(_));
                assert_outcome(&node, &pool, (&one, ""), way, if is_harmless { DONE } else { expected }, &case).await;
            }
        }
    }
    node.stop().await;
}
