//! The rights of two users towards one another (to write, begin a chat, bring into a group, see) as one table: each rule for direct messages, each
//! relation of two users, each act, at each door.

use restante::domain::DirectMessages;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::{befriend, block, stop, two_nodes_under};
use crate::support::{Node, direct, group};

/// The relation of the one to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Stranger,
    Requested,
    Asked,
    Contact,
    Blocks,
    Blocked,
    FriendBlocked,
}

/// An act of the one towards the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Write,
    WriteInSql,
    BeginChat,
    BringIntoGroup,
    WriteInGroup,
    SeePresence,
}

const RELATIONS: [Relation; 7] = [
    Relation::Stranger,
    Relation::Requested,
    Relation::Asked,
    Relation::Contact,
    Relation::Blocks,
    Relation::Blocked,
    Relation::FriendBlocked,
];
const ACTS: [Act; 6] = [Act::Write, Act::WriteInSql, Act::BeginChat, Act::BringIntoGroup, Act::WriteInGroup, Act::SeePresence];

/// The table: a yes or a no, from the rules as they are documented.
fn expected(rule: DirectMessages, relation: Relation, act: Act) -> bool {
    let is_blocked = matches!(relation, Relation::Blocks | Relation::Blocked | Relation::FriendBlocked);
    let by_rule = match rule {
        DirectMessages::Everyone => true,
        DirectMessages::Contacts => relation == Relation::Contact,
        // That of the test says no to everybody.
        DirectMessages::Function => false,
    };
    match act {
        Act::Write | Act::BeginChat => by_rule && !is_blocked,
        Act::WriteInSql => !is_blocked,
        Act::BringIntoGroup => {
            let is_contact = rule != DirectMessages::Contacts || relation == Relation::Contact;
            is_contact && relation != Relation::Blocked && relation != Relation::FriendBlocked
        }
        Act::WriteInGroup => true,
        Act::SeePresence => !is_blocked && (rule != DirectMessages::Contacts || relation == Relation::Contact),
    }
}

/// Two users, and a group that they share.
struct Pair {
    one: String,
    other: String,
    common: Uuid,
}

/// Makes two users with this relation, who shared a group before.
async fn pair(world: [&Node; 2], pool: &PgPool, name: &str, relation: Relation) -> Pair {
    let [one, other] = [format!("{name}-one"), format!("{name}-other")];
    let common = group(pool, &[&one, &other]).await;
    match relation {
        Relation::Stranger => {}
        Relation::Requested => assert_eq!(world[0].api(&one).post("/v1/contacts", json!({"userId": other})).await.0, 200),
        Relation::Asked => assert_eq!(world[0].api(&other).post("/v1/contacts", json!({"userId": one})).await.0, 200),
        Relation::Contact => befriend(world[0], &one, &other).await,
        Relation::Blocks => block(world[0], &one, &other).await,
        Relation::Blocked => block(world[1], &other, &one).await,
        Relation::FriendBlocked => {
            befriend(world[0], &one, &other).await;
            block(world[1], &other, &one).await;
        }
    }
    Pair { one, other, common }
}

/// The outcomes of an act at each door: it was done, or the code of its refusal.
async fn outcomes(node: &Node, pool: &PgPool, Pair { one, other, common }: &Pair, act: Act) -> Vec<Option<String>> {
    let api = node.api(one);
    let code = |answer: &Value| answer["error"]["code"].as_str().or(answer["data"]["code"].as_str()).map(str::to_owned);
    let posted = async |path: &str, body: Value| code(&api.post(path, body).await.1);
    match act {
        Act::Write => {
            let mut socket = node.connect(one).await;
            let over_socket = code(&socket.ask("message:send", json!({"to": other, "content": "x"})).await);
            vec![over_socket, posted("/v1/messages", json!({"to": other, "content": "x"})).await]
        }
        Act::WriteInSql => {
            // A chat of two of whom one blocks the other is not made.
            let ids = crate::support::users(pool, &[one, other]).await;
            let chat: Option<Uuid> =
                sqlx::query_scalar("select restante_direct_chat($1, $2)").bind(ids[0]).bind(ids[1]).fetch_one(pool).await.unwrap();
            let Some(chat) = chat else { return vec![Some("no chat".to_owned())] };
            let sent = sqlx::query("select restante_send($1, $2, 'x')").bind(chat).bind(one).execute(pool).await;
            vec![sent.err().map(|error| error.into_database_error().unwrap().code().unwrap().into_owned())]
        }
        Act::BeginChat => vec![posted("/v1/chats", json!({"kind": "direct", "members": [other]})).await],
        Act::BringIntoGroup => {
            let (_, made) = api.post("/v1/chats", json!({"kind": "group", "members": []})).await;
            let chat = format!("/v1/chats/{}", made["chatId"].as_str().unwrap());
            let (_, of_two) = api.post("/v1/chats", json!({"kind": "group", "members": [other]})).await;
            let (_, added) = api.post(&format!("{chat}/members"), json!({"userIds": [other]})).await;
            let invited = |is: bool| is.then(|| "invited".to_owned());
            let is_alone = of_two["chatId"].as_str().map(|chat| format!("/v1/chats/{chat}/invitations"));
            let waits = match is_alone {
                Some(path) => !api.get(&path).await.1["invited"].as_array().unwrap().is_empty(),
                None => false,
            };
            vec![code(&of_two).or(invited(waits)), code(&added).or(invited(added["invited"].is_array()))]
        }
        Act::WriteInGroup => {
            let mut socket = node.connect(one).await;
            let over_socket = code(&socket.ask("message:send", json!({"chatId": common, "content": "x"})).await);
            vec![over_socket, posted("/v1/messages", json!({"chatId": common, "content": "x"})).await]
        }
        Act::SeePresence => {
            let there = node.connect(other).await;
            let mut socket = node.connect(one).await;
            let over_socket = socket.ask("presence:get", json!({"userIds": [other]})).await["data"]["users"][0]["online"].clone();
            let (_, over_http) = api.get(&format!("/v1/presence?userIds={other}")).await;
            there.close().await;
            let seen = [over_socket, over_http["users"][0]["online"].clone()];
            seen.into_iter().map(|online| (online != true).then(|| "offline".to_owned())).collect()
        }
    }
}

/// Broken by presence for whom a user has requested as a contact, and that has not accepted.
#[tokio::test]
async fn each_rule_relation_and_act_has_the_outcome_of_the_table_at_every_door() {
    for rule in [DirectMessages::Everyone, DirectMessages::Contacts, DirectMessages::Function] {
        let world = two_nodes_under(rule).await;
        let (_, one, other, pool) = &world;
        let no = "create function restante_may_send(text, text) returns boolean language sql as 'select false'";
        sqlx::raw_sql(no).execute(pool).await.unwrap();
        for relation in RELATIONS {
            for act in ACTS {
                // Of each act two users of their own, who have no direct chat yet.
                let two = pair([one, other], pool, &format!("{relation:?}-{act:?}"), relation).await;
                for (node, told) in [(one, "one"), (other, "the other")] {
                    let outcomes = outcomes(node, pool, &two, act).await;
                    let is_done = expected(rule, relation, act);
                    assert!(
                        outcomes.iter().all(|outcome| outcome.is_none() == is_done),
                        "{rule:?} {relation:?} {act:?} at {told}: {outcomes:?}"
                    );
                    let codes = match (rule, relation, act) {
                        (
                            DirectMessages::Contacts,
                            Relation::Stranger | Relation::Requested | Relation::Asked | Relation::Blocks,
                            Act::BringIntoGroup,
                        ) => ["invited"; 4],
                        _ => ["not_accepted", "42501", "no chat", "offline"],
                    };
                    assert!(outcomes.iter().flatten().all(|code| codes.contains(&code.as_str())), "{outcomes:?}");
                }
            }
        }
        // With a chat that was there before.
        let two = pair([one, other], pool, "before", Relation::Stranger).await;
        let chat = direct(pool, &two.one, &two.other).await;
        block(one, &two.other, &two.one).await;
        let sent = sqlx::query("select restante_send($1, $2, 'x')").bind(chat).bind(&two.one).execute(pool).await.unwrap_err();
        assert_eq!(sent.into_database_error().unwrap().code().as_deref(), Some("42501"));
        stop(world).await;
    }
}
