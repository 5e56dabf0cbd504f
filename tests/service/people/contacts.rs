//! Contacts: requested, accepted, removed, told, and what they are good for where only contacts write to one another.

use restante::domain::DirectMessages;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{befriend, block, of, stop, two_nodes_under, unblock};
use crate::nodes::two_nodes;
use crate::support::fixtures::LockHolder;
use crate::support::{Connect, Node, SOMEBODY_WAITS, direct, fill, group, wait_until};

const TOLD: [&str; 3] = ["contact:requested", "contact:accepted", "contact:removed"];

async fn list(node: &Node, user: &str, state: &str) -> Vec<String> {
    let (_, page) = node.api(user).get(&format!("/v1/contacts?state={state}")).await;
    page["contacts"].as_array().unwrap().iter().map(|contact| contact["userId"].as_str().unwrap().to_owned()).collect()
}

async fn code(node: &Node, from: &str, send: Value) -> Value {
    node.connect(from).await.ask("message:send", send).await["data"]["code"].clone()
}

#[tokio::test]
async fn each_change_is_told_to_both_sides_at_every_node_but_to_the_connection_that_makes_it() {
    let world = two_nodes().await;
    let (_, one, other, _) = &world;
    let (mut anna, mut also_anna, mut ben) = (one.connect("anna").await, other.connect("anna").await, other.connect("ben").await);
    let ask = json!({"userId": "ben"});
    let answer = anna.ask("contact:request", ask.clone()).await;
    assert_eq!((&answer["event"], &answer["data"]), (&json!("contact:ok"), &json!({"userId": "ben", "state": "requested"})));
    assert_eq!(ben.event("contact:requested").await, json!({"userId": "anna", "by": "anna"}));
    assert_eq!(also_anna.event("contact:requested").await, json!({"userId": "ben", "by": "anna"}));
    assert_eq!(anna.ask("contact:request", ask.clone()).await["data"]["state"], "requested", "once more is no news");
    assert_eq!(
        (list(one, "anna", "requested").await, list(other, "ben", "incoming").await),
        (vec!["ben".to_owned()], vec!["anna".to_owned()])
    );
    let answer = ben.ask("contact:accept", json!({"userId": "anna"})).await;
    assert_eq!(answer["data"], json!({"userId": "anna", "state": "contact"}));
    for socket in [&mut anna, &mut also_anna] {
        assert_eq!(socket.event("contact:accepted").await, json!({"userId": "ben", "by": "ben"}));
    }
    for (user, with) in [("anna", "ben"), ("ben", "anna")] {
        assert_eq!(list(one, user, "contact").await, [with]);
        assert_eq!((list(one, user, "requested").await.len(), list(one, user, "incoming").await.len()), (0, 0));
    }
    assert_eq!(anna.ask("contact:remove", ask.clone()).await["data"]["state"], "none");
    assert_eq!(ben.event("contact:removed").await, json!({"userId": "anna", "by": "anna"}));
    assert_eq!(also_anna.event("contact:removed").await, json!({"userId": "ben", "by": "anna"}));
    // A request that is declined.
    anna.ask("contact:request", ask).await;
    ben.event("contact:requested").await;
    assert_eq!(ben.ask("contact:decline", json!({"userId": "anna"})).await["data"]["state"], "none");
    assert_eq!(anna.event("contact:removed").await, json!({"userId": "ben", "by": "ben"}));
    for socket in [&mut anna, &mut ben] {
        assert_eq!(of(socket, &TOLD).await, Vec::<Value>::new());
    }
    stop(world).await;
}

/// Broken by locking nobody: the second was answered that it had only requested the first.
#[tokio::test]
async fn of_two_that_request_one_another_at_once_the_second_makes_them_contacts() {
    let world = two_nodes().await;
    let (db, one, _, pool) = &world;
    let mut anna = one.connect("anna").await;
    let ben = one.api("ben");
    crate::support::users(pool, &["ben"]).await;
    let first = LockHolder::holds(&db.options(), "select restante_request_contact('anna', 'ben')").await;
    let second = tokio::spawn(async move { ben.post("/v1/contacts", json!({"userId": "anna"})).await });
    while !second.is_finished() && !sqlx::query_scalar::<_, bool>(SOMEBODY_WAITS).fetch_one(pool).await.unwrap() {}
    first.commits().await;
    let (status, answer) = second.await.unwrap();
    // It may have waited for too long by then.
    let answer = if status == 503 { one.api("ben").post("/v1/contacts", json!({"userId": "anna"})).await.1 } else { answer };
    assert_eq!(answer["state"], "contact");
    assert_eq!(anna.event("contact:accepted").await["userId"], "ben");
    stop(world).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_over_each_door() {
    let world = two_nodes().await;
    let (_, one, _, pool) = &world;
    let mut anna = one.connect("anna").await;
    for change in ["accept", "decline"] {
        assert_eq!(anna.ask(&format!("contact:{change}"), json!({"userId": "ben"})).await["data"]["code"], "not_found");
        assert_eq!(one.api("anna").post(&format!("/v1/contacts/{change}"), json!({"userId": "ben"})).await.0, 404);
        let in_sql = format!("select restante_{change}_contact('anna', 'ben')");
        let error = sqlx::query(sqlx::AssertSqlSafe(in_sql)).execute(pool).await.unwrap_err();
        assert_eq!(error.into_database_error().unwrap().code().as_deref(), Some("P0002"));
    }
    for bad in [json!({"userId": "anna"}), json!({}), json!({"userId": null})] {
        assert_eq!(anna.ask("contact:request", bad.clone()).await["data"]["code"], "invalid", "{bad}");
        assert_eq!(one.api("anna").post("/v1/contacts", bad).await.0, 400);
    }
    for bad in [json!({"state": "none"}), json!({"limit": 0}), json!({"after": 7})] {
        assert_eq!(anna.ask("contact:list", bad.clone()).await["data"]["code"], "invalid", "{bad}");
    }
    assert_eq!(one.api("anna").get("/v1/contacts?state=none").await.0, 400);
    assert_eq!(anna.ask("contact:remove", json!({"userId": "ben"})).await["data"]["state"], "none", "there is nothing to remove");
    let full = "insert into contacts (user_id, other_id) select (select id from users where external_id = 'anna'), u.id \
                from restante_users(array(select 'contact-' || n from generate_series(1, 10000) n)) u";
    sqlx::query(full).execute(pool).await.unwrap();
    assert_eq!(anna.ask("contact:request", json!({"userId": "ben"})).await["data"]["code"], "conflict");
    let page = one.api("anna").get("/v1/contacts?state=requested&limit=500").await.1;
    assert_eq!((page["contacts"].as_array().unwrap().len(), page["next"].is_string()), (500, true));
    stop(world).await;
}

#[tokio::test]
async fn a_block_ends_a_contact_as_a_removal_does_and_hides_what_the_blocked_requests() {
    let world = two_nodes().await;
    let (_, one, other, _) = &world;
    befriend(one, "anna", "ben").await;
    let (mut anna, mut ben) = (one.connect("anna").await, other.connect("ben").await);
    block(one, "ben", "anna").await;
    assert_eq!(anna.event("contact:removed").await, json!({"userId": "ben", "by": "ben"}));
    assert_eq!(list(other, "anna", "contact").await, [""; 0]);
    assert_eq!(anna.ask("contact:request", json!({"userId": "ben"})).await["data"]["state"], "requested", "as with anybody");
    assert_eq!(list(other, "ben", "incoming").await, [""; 0]);
    assert_eq!(ben.ask("contact:request", json!({"userId": "anna"})).await["data"]["code"], "conflict");
    assert_eq!(of(&mut ben, &TOLD[..1]).await, Vec::<Value>::new());
    unblock(other, "ben", "anna").await;
    assert_eq!(list(one, "ben", "incoming").await, ["anna"]);
    assert_eq!(of(&mut ben, &TOLD[..1]).await, Vec::<Value>::new(), "no flood");
    stop(world).await;
}

/// Broken by leaving `p_verdicts` out of the short way of `restante_accept`.
/// Broken by telling both sides or none: the other connection of the blocked one heard nothing, and so it knew of the block.
#[tokio::test]
async fn what_the_blocked_does_is_told_to_its_own_connections_as_ever_and_to_nobody_else() {
    let world = two_nodes().await;
    let (_, one, other, pool) = &world;
    let (mut anna, mut also_anna) = (one.connect("anna").await, other.connect("anna").await);
    let (mut ben, mut also_ben) = (one.connect("ben").await, other.connect("ben").await);
    block(other, "ben", "anna").await;
    for (command, event, state) in [("request", "contact:requested", "requested"), ("remove", "contact:removed", "none")] {
        let answer = anna.ask(&format!("contact:{command}"), json!({"userId": "ben"})).await;
        assert_eq!(answer["data"], json!({"userId": "ben", "state": state}));
        assert_eq!(also_anna.event(event).await, json!({"userId": "ben", "by": "anna"}));
    }
    // The one who blocks neither sees a request nor ends it.
    anna.ask("contact:request", json!({"userId": "ben"})).await;
    also_anna.event("contact:requested").await;
    assert_eq!(ben.ask("contact:decline", json!({"userId": "anna"})).await["data"]["code"], "not_found");
    assert_eq!(ben.ask("contact:remove", json!({"userId": "anna"})).await["data"]["state"], "none");
    let declined = sqlx::query("select restante_decline_contact('ben', 'anna')").execute(pool).await.unwrap_err();
    assert_eq!(declined.into_database_error().unwrap().code().as_deref(), Some("P0002"));
    assert_eq!(list(one, "anna", "requested").await, ["ben"]);
    // A block by the blocked one ends its request, of which the other one has never heard.
    block(one, "anna", "ben").await;
    for socket in [&mut anna, &mut also_anna] {
        assert_eq!(socket.event("contact:removed").await, json!({"userId": "ben", "by": "anna"}));
    }
    assert_eq!(list(one, "anna", "requested").await, [""; 0]);
    for socket in [&mut ben, &mut also_ben, &mut anna, &mut also_anna] {
        assert_eq!(of(socket, &TOLD).await, Vec::<Value>::new());
    }
    stop(world).await;
}

#[tokio::test]
async fn where_only_contacts_write_to_one_another_others_are_refused_as_behind_a_block_and_groups_are_open() {
    let world = two_nodes_under(DirectMessages::Contacts).await;
    let (_, one, other, pool) = &world;
    let to_ben = json!({"to": "ben", "content": "x"});
    assert_eq!(code(one, "anna", to_ben.clone()).await, "not_accepted");
    assert_eq!(crate::support::number(pool, "select count(*) from chats where kind = 'direct'").await, 0, "no chat begins");
    let chat = direct(pool, "anna", "ben").await;
    let refused = json!({"chatId": chat, "content": "x"});
    for node in [one, other] {
        assert_eq!(code(node, "anna", refused.clone()).await, "not_accepted");
        assert_eq!(node.api("ben").post("/v1/messages", json!({"to": "anna", "content": "x"})).await.1["error"]["code"], "not_accepted");
    }
    // A group of two is no direct chat, and one's chat with oneself has nobody to ask.
    let pair = group(pool, &["anna", "ben"]).await;
    for send in [json!({"chatId": pair, "content": "x"}), json!({"to": "anna", "content": "x"})] {
        assert_eq!(code(one, "anna", send).await, Value::Null);
    }
    befriend(other, "anna", "ben").await;
    let id = Uuid::now_v7();
    let send = json!({"messageId": id, "to": "ben", "content": "x"});
    assert_eq!(code(one, "anna", send.clone()).await, Value::Null);
    assert_eq!(other.api("ben").delete("/v1/contacts", json!({"userId": "anna"})).await.0, 200);
    assert_eq!(code(one, "anna", to_ben.clone()).await, "not_accepted");
    let again = one.connect("anna").await.ask("message:send", send).await["data"].clone();
    assert_eq!(again["duplicate"], true, "{again}");
    // All that waits is delivered all the same, and the application may send.
    assert_eq!(other.api("ben").get("/v1/inbox").await.1["messages"].as_array().unwrap().len(), 2);
    sqlx::query("select restante_send($1, 'anna', 'x')").bind(chat).execute(pool).await.unwrap();
    stop(world).await;
}

#[tokio::test]
async fn in_a_batch_each_message_has_a_verdict_of_its_own() {
    let world = two_nodes_under(DirectMessages::Contacts).await;
    let (_, one, _, pool) = &world;
    befriend(one, "anna", "ben").await;
    let chats = [direct(pool, "anna", "ben").await, direct(pool, "anna", "carol").await, group(pool, &["anna", "carol"]).await];
    let anna = crate::support::users(pool, &["anna"]).await[0];
    let accept = "select unnest(outcomes) from restante_accept(array(select gen_random_uuid() from unnest($1::uuid[])), $1, array_fill($2::bigint, array[3]), \
                  array_fill('text'::text, array[3]), array_fill('x'::text, array[3]), array_fill(null::text, array[3]), \
                  array_fill(null::timestamptz, array[3]), false, $3)";
    for (verdict, outcomes) in [
        ("contacts", ["accepted", "not_accepted", "accepted"]),
        ("no", ["not_accepted", "not_accepted", "accepted"]),
        ("unknown", ["undecided", "undecided", "accepted"]),
        ("yes", ["accepted", "accepted", "accepted"]),
    ] {
        let asked = sqlx::query_scalar::<_, String>(accept).bind(chats).bind(anna).bind([verdict; 3]);
        assert_eq!(asked.fetch_all(pool).await.unwrap(), outcomes, "{verdict}");
    }
    // Everybody may, where nobody says otherwise.
    fill(pool, chats[1], "anna", 2).await;
    stop(world).await;
}

/// Broken by asking `audience.sql` as where everybody writes to everybody: carol was told that anna types.
#[tokio::test]
async fn where_only_contacts_write_to_one_another_they_alone_see_presence_and_typing() {
    let world = two_nodes_under(DirectMessages::Contacts).await;
    let (_, one, other, pool) = &world;
    let common = group(pool, &["anna", "ben", "carol"]).await;
    direct(pool, "anna", "carol").await;
    befriend(one, "anna", "ben").await;
    let (mut ben, mut carol) = (other.connect("ben").await, other.connect("carol").await);
    carol.ask("presence:subscribe", json!({"userIds": ["anna"]})).await;
    let anna = one.connect("anna").await;
    assert_eq!(ben.event("user:online").await["userId"], "anna", "a contact, though they share no direct chat");
    for (socket, online) in [(&mut ben, true), (&mut carol, false)] {
        let seen = socket.ask("presence:get", json!({"userIds": ["anna"]})).await["data"]["users"][0].clone();
        assert_eq!(seen["online"], online);
    }
    let mut anna = anna;
    anna.tell("typing", json!({"chatId": common, "typing": true})).await;
    assert_eq!(ben.event("typing").await["userId"], "anna");
    assert_eq!(of(&mut carol, &["typing", "user:online"]).await, Vec::<Value>::new());
    // From the removal on.
    assert_eq!(one.api("ben").delete("/v1/contacts", json!({"userId": "anna"})).await.0, 200);
    assert_eq!(anna.event("contact:removed").await["userId"], "ben");
    wait_until("what ben watches was checked", || other.app().context().hub.watches() == 0).await;
    anna.close().await;
    let anna = one.open(Connect::user("anna").device("phone")).await;
    assert_eq!(of(&mut ben, &["user:online", "user:offline"]).await, Vec::<Value>::new());
    anna.close().await;
    stop(world).await;
}

/// As XMPP has it: presence comes with the acceptance (RFC 6121, 3.1.5). Broken by leaving `watch_missing` out: both waited in vain.
#[tokio::test]
async fn two_who_become_contacts_see_one_another_from_then_on_without_asking() {
    let world = two_nodes_under(DirectMessages::Contacts).await;
    let (_, one, other, pool) = &world;
    let (mut anna, mut ben, mut carol) = (one.connect("anna").await, other.connect("ben").await, other.connect("carol").await);
    befriend(one, "anna", "ben").await;
    assert_eq!(anna.event("user:online").await["userId"], "ben");
    assert_eq!(ben.event("user:online").await["userId"], "anna");
    sqlx::raw_sql("select restante_request_contact('anna', 'carol'), restante_accept_contact('carol', 'anna')")
        .execute(pool)
        .await
        .unwrap();
    assert_eq!(anna.event("user:online").await["userId"], "carol");
    // Anna's state is known at that node: carol is told all the same, and ben not again.
    assert_eq!(carol.event("user:online").await["userId"], "anna");
    assert_eq!(of(&mut ben, &["user:online"]).await, Vec::<Value>::new());
    anna.close().await;
    for socket in [&mut ben, &mut carol] {
        assert_eq!(socket.event("user:offline").await["userId"], "anna");
    }
    stop(world).await;
}

#[tokio::test]
async fn contacts_that_an_application_makes_in_sql_count_as_any_other() {
    let world = two_nodes_under(DirectMessages::Contacts).await;
    let (_, one, other, pool) = &world;
    let state = async |call: &'static str| sqlx::query_scalar::<_, String>(call).fetch_one(pool).await.unwrap();
    assert_eq!(state("select restante_request_contact('anna', 'ben')").await, "requested");
    assert_eq!(code(one, "anna", json!({"to": "ben", "content": "x"})).await, "not_accepted");
    assert_eq!(state("select restante_accept_contact('ben', 'anna')").await, "contact");
    assert_eq!(code(one, "anna", json!({"to": "ben", "content": "x"})).await, Value::Null);
    assert_eq!(list(other, "ben", "contact").await, ["anna"]);
    assert_eq!(state("select restante_remove_contact('anna', 'ben')").await, "none");
    assert_eq!(code(other, "ben", json!({"to": "anna", "content": "x"})).await, "not_accepted");
    stop(world).await;
}
