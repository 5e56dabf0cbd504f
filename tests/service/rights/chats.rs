//! Acts on a group by the relation to it: stranger, former member, invited, member, admin.

use reqwest::Method;
use restante::service::{Act, Relation};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use super::{DONE, Engine, Way, arrange, assert_outcome, event, http, nothing, of_table};
use crate::support::{Node, database, fill, group, scoped_token};

const RELATIONS: [Relation; 5] = [Relation::Stranger, Relation::FormerMember, Relation::Invited, Relation::Member, Relation::GroupAdmin];
const NOT_IN_IT: &str = "not_a_member";
const NO: &str = "not_found";

/// Acts with their outcomes for [`RELATIONS`].
const TABLE: [(Act, [&str; 5]); 11] = [
    (Act::Send, [NOT_IN_IT, NOT_IN_IT, NOT_IN_IT, DONE, DONE]),
    (Act::SeeChat, [NOT_IN_IT, NOT_IN_IT, NOT_IN_IT, DONE, DONE]),
    (Act::ReadHistory, [NOT_IN_IT, NOT_IN_IT, NOT_IN_IT, DONE, DONE]),
    (Act::Read, [NOT_IN_IT, DONE, NOT_IN_IT, DONE, DONE]),
    (Act::ReadEverything, [NOT_IN_IT, DONE, NOT_IN_IT, DONE, DONE]),
    (Act::AddMembers, [NOT_IN_IT, NOT_IN_IT, NOT_IN_IT, "forbidden", DONE]),
    (Act::RemoveMembers, [NOT_IN_IT, NOT_IN_IT, NOT_IN_IT, "forbidden", DONE]),
    (Act::LeaveChat, [NOT_IN_IT, NOT_IN_IT, NOT_IN_IT, DONE, DONE]),
    (Act::SeeInvited, [NOT_IN_IT, NOT_IN_IT, NOT_IN_IT, DONE, DONE]),
    (Act::AcceptInvitation, [NO, NO, DONE, DONE, DONE]),
    (Act::DeclineInvitation, [NO, NO, DONE, NO, NO]),
];

/// The name of the user with this relation to the group of a case.
fn name(case: &str, relation: Relation) -> String {
    format!("{case}-{relation:?}")
}

/// Makes a group of one user of each relation and two more, with a message that all of them got.
async fn arranged(node: &Node, pool: &PgPool, case: &str) -> Uuid {
    let of = |relation| name(case, relation);
    let (admin, member, former) = (of(Relation::GroupAdmin), of(Relation::Member), of(Relation::FormerMember));
    let chat = group(pool, &[&admin, &member, &former, &format!("{case}-listens"), &format!("{case}-goes")]).await;
    fill(pool, chat, &admin, 1).await;
    arrange(node, &admin, Method::DELETE, &format!("/v1/chats/{chat}/members"), json!({"userIds": [former]})).await;
    let invite = format!("select restante_invite('{chat}', '{admin}', array['{}'])", of(Relation::Invited));
    sqlx::raw_sql(AssertSqlSafe(invite)).execute(pool).await.unwrap();
    chat
}

/// The ways to ask for an act of the table.
fn ways(act: Act, chat: Uuid, case: &str, user: &str) -> Vec<Way> {
    let path = format!("/v1/chats/{chat}");
    let (message, read) = (json!({"chatId": chat, "content": "x"}), json!({"chatId": chat, "seq": 1}));
    match act {
        Act::Send => {
            let mut ways = vec![
                http(Method::POST, "/v1/messages", message.clone()),
                http(Method::POST, "/api/messages/send", message.clone()),
                Way::Statement(format!("select restante_send('{chat}', '{user}', 'x')")),
            ];
            ways.extend(event("message:send", message));
            ways
        }
        Act::SeeChat => vec![http(Method::GET, path, nothing())],
        Act::ReadHistory => vec![http(Method::GET, format!("{path}/messages"), nothing())],
        Act::Read => {
            let mut ways =
                vec![http(Method::POST, format!("{path}/read"), json!({"seq": 1})), http(Method::POST, "/api/messages/read", read.clone())];
            ways.extend(event("message:read", read));
            ways
        }
        Act::ReadEverything => {
            vec![http(Method::PATCH, "/api/messages/read", json!({"chatId": chat})), Way::Engine("message:read", json!({"chatId": chat}))]
        }
        Act::AddMembers => vec![http(Method::POST, format!("{path}/members"), json!({"userIds": [format!("{case}-new")]}))],
        Act::RemoveMembers => vec![http(Method::DELETE, format!("{path}/members"), json!({"userIds": [format!("{case}-goes")]}))],
        Act::LeaveChat => vec![http(Method::POST, format!("{path}/leave"), nothing())],
        Act::SeeInvited => vec![http(Method::GET, format!("{path}/invitations"), nothing())],
        Act::AcceptInvitation => answers("accept", chat, user),
        Act::DeclineInvitation => answers("decline", chat, user),
        other => panic!("{other:?} is none of the table"),
    }
}

/// The ways to answer an invitation.
fn answers(answer: &str, chat: Uuid, user: &str) -> Vec<Way> {
    let (named, of_chat) = (if answer == "accept" { "invitation:accept" } else { "invitation:decline" }, json!({"chatId": chat}));
    let by_http = http(Method::POST, format!("/v1/invitations/{answer}"), of_chat.clone());
    let in_sql = Way::Statement(format!("select restante_{answer}_invitation('{user}', '{chat}')"));
    [by_http, in_sql].into_iter().chain(event(named, of_chat)).collect()
}

/// Broken by a history for former members, by members who add others, and by `Act::ReadHistory` without its row in the table of the service.
#[tokio::test]
async fn each_act_on_a_group_has_the_outcome_of_its_relation_at_every_door() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    for (act, outcomes) in TABLE {
        for (relation, expected) in RELATIONS.into_iter().zip(outcomes) {
            let (case, user) = (format!("{act:?}-{relation:?}"), name(&format!("{act:?}-{relation:?}"), relation));
            assert_eq!(of_table("", act, relation), expected, "the table of the service: {case}");
            let chat = arranged(&node, &pool, &case).await;
            for way in ways(act, chat, &case, &user) {
                assert_outcome(&node, &pool, (&user, ""), &way, expected, &case).await;
            }
        }
    }
    // Asked for by a token that may send and nothing else, the relation counts all the same.
    let chat = arranged(&node, &pool, "narrow").await;
    for (relation, expected) in RELATIONS.into_iter().zip(TABLE[0].1) {
        let user = name("narrow", relation);
        for way in &ways(Act::Send, chat, "narrow", &user)[..2] {
            assert_outcome(&node, &pool, (&user, "send"), way, expected, "with the scope send").await;
        }
    }
    node.stop().await;
}

/// Broken by an audience that is asked for the chat alone, and not for the one that types, and by `typing` as an act of operators.
#[tokio::test]
async fn one_that_types_is_told_of_by_members_only_at_both_sockets() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let chat = arranged(&node, &pool, "types").await;
    let mut listener = node.connect("types-listens").await;
    // Those that nobody is to hear come first: what the others say comes behind it.
    for relation in RELATIONS {
        let user = name("types", relation);
        assert_eq!(of_table("", Act::Type, relation), DONE, "it is no mistake, and outsiders are not heard");
        let mut socket = node.connect(&user).await;
        socket.tell("typing", json!({"chatId": chat, "typing": true})).await;
        socket.until_pong().await;
        let mut engine = Engine::enter(&node, &scoped_token(&user, "")).await.unwrap();
        engine.tell("typing", json!({"chatId": chat, "typing": false})).await;
        engine.ask("ping", nothing()).await;
        if matches!(relation, Relation::Member | Relation::GroupAdmin) {
            for is_typing in [true, false] {
                let fits = |frame: &Value| {
                    frame["event"] == "typing" && frame["data"]["userId"] == user.as_str() && frame["data"]["typing"] == is_typing
                };
                listener.wait("it types, or does not any more", fits).await;
            }
        }
    }
    let outsiders = [Relation::Stranger, Relation::FormerMember, Relation::Invited].map(|relation| name("types", relation));
    let is_heard = |frame: &&Value| frame["event"] == "typing" && outsiders.iter().any(|user| frame["data"]["userId"] == user.as_str());
    let heard: Vec<&Value> = listener.skipped().iter().filter(is_heard).collect();
    assert!(heard.is_empty(), "{heard:?}");
    node.stop().await;
}
