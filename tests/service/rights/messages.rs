//! Acts on a message by the relation to it: stranger, member that joined after it, former member that got it, recipient, sender.

use reqwest::Method;
use restante::service::{Act, Relation};
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::{DONE, Way, arrange, assert_outcome, event, http, nothing, of_table};
use crate::support::{Node, database, fill, group};

const RELATIONS: [Relation; 5] = [Relation::Stranger, Relation::Member, Relation::FormerMember, Relation::Recipient, Relation::Sender];
const NOT_THERE: &str = "not_found";

/// Acts with their outcomes for [`RELATIONS`].
const TABLE: [(Act, [&str; 5]); 4] = [
    (Act::SeeStatus, [NOT_THERE, NOT_THERE, DONE, DONE, DONE]),
    (Act::Recall, [NOT_THERE, NOT_THERE, NOT_THERE, "forbidden", DONE]),
    (Act::Reject, [NOT_THERE, NOT_THERE, DONE, DONE, NOT_THERE]),
    (Act::Ack, [DONE; 5]),
];

fn name(case: &str, relation: Relation) -> String {
    format!("{case}-{relation:?}")
}

/// Makes a message in a group, with a user of each relation to it. Returns its id.
async fn arranged(node: &Node, pool: &PgPool, case: &str) -> Uuid {
    let of = |relation| name(case, relation);
    let (admin, sender, former) = (format!("{case}-admin"), of(Relation::Sender), of(Relation::FormerMember));
    let chat = group(pool, &[&admin, &sender, &former, &of(Relation::Recipient)]).await;
    fill(pool, chat, &sender, 1).await;
    let members = format!("/v1/chats/{chat}/members");
    arrange(node, &admin, Method::DELETE, &members, json!({"userIds": [former]})).await;
    arrange(node, &admin, Method::POST, &members, json!({"userIds": [of(Relation::Member)]})).await;
    // One more, so that the member that has joined has a row, too, with the number that others have of the first.
    fill(pool, chat, &sender, 1).await;
    sqlx::query_scalar("select id from messages where chat_id = $1 and seq = 1").bind(chat).fetch_one(pool).await.unwrap()
}

/// The ways to ask for an act of the table.
fn ways(act: Act, message: Uuid, user: &str) -> Vec<Way> {
    let (of, many) = (json!({"messageId": message}), json!({"messageIds": [message]}));
    let with = |first: Vec<Way>, events: [Way; 2]| first.into_iter().chain(events).collect();
    match act {
        Act::SeeStatus => vec![http(Method::GET, format!("/v1/messages/{message}/status"), nothing())],
        Act::Recall => {
            let in_sql = Way::Statement(format!("select restante_recall('{message}', '{user}')"));
            with(vec![http(Method::POST, format!("/v1/messages/{message}/recall"), nothing()), in_sql], event("message:recall", of))
        }
        Act::Reject => with(vec![http(Method::POST, "/v1/inbox/reject", of.clone())], event("message:reject", of)),
        Act::Ack => with(vec![http(Method::POST, "/v1/inbox/ack", many.clone())], event("message:delivered", many)),
        other => panic!("{other:?} is none of the table"),
    }
}

/// The users of rows that were delivered, of all in the chat of a message.
async fn delivered(pool: &PgPool, message: Uuid) -> Vec<String> {
    let rows = "select u.external_id from messages m join messages o on o.chat_id = m.chat_id join message_status s on s.message_id = o.id \
                join users u on u.id = s.user_id where m.id = $1 and s.status = 'delivered'";
    sqlx::query_scalar(rows).bind(message).fetch_all(pool).await.unwrap()
}

/// Broken by a recall of any member's messages in `restante_take_back`, by statuses for whoever asks, and by an ack without the user in the key of
/// `restante_settle`.
#[tokio::test]
async fn each_act_on_a_message_has_the_outcome_of_its_relation_at_every_door() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    for (act, outcomes) in TABLE {
        for (relation, expected) in RELATIONS.into_iter().zip(outcomes) {
            let case = format!("{act:?}-{relation:?}");
            assert_eq!(of_table("", act, relation), expected, "the table of the service: {case}");
            let (id, user) = (arranged(&node, &pool, &case).await, name(&case, relation));
            for way in ways(act, id, &user) {
                assert_outcome(&node, &pool, (&user, ""), &way, expected, &case).await;
            }
            // An ack is never refused, and moves the row of nobody else.
            if act == Act::Ack {
                let moved = if relation == Relation::Recipient { vec![user] } else { Vec::new() };
                assert_eq!(delivered(&pool, id).await, moved, "{case}");
            }
        }
    }
    for act in [Act::SeeStatus, Act::Recall] {
        for (relation, expected) in RELATIONS.into_iter().zip(TABLE[usize::from(act == Act::Recall)].1) {
            let case = format!("narrow-{act:?}-{relation:?}");
            let (id, user) = (arranged(&node, &pool, &case).await, name(&case, relation));
            assert_outcome(&node, &pool, (&user, "send"), &ways(act, id, &user)[0], expected, &case).await;
        }
    }
    node.stop().await;
}
