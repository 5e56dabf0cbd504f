//! Things that are not told between two users of whom one has blocked the other: typing, presence, and how far each has got in their direct chat.

use serde_json::{Value, json};

use super::{block, of, stop, unblock};
use crate::nodes::two_nodes;
use crate::support::{Connect, Socket, direct, group};

async fn types(socket: &mut Socket, chat: uuid::Uuid) {
    socket.tell("typing", json!({"chatId": chat, "typing": true})).await;
}

/// Broken by leaving the row out of `blocks`: bob was told.
#[tokio::test]
async fn neither_learns_that_the_other_types_and_everybody_else_does() {
    let world = two_nodes().await;
    let (_, one, other, pool) = &world;
    let (chat, common) = (direct(pool, "alice", "bob").await, group(pool, &["alice", "bob", "carol"]).await);
    let (mut alice, mut bob, mut carol) = (one.connect("alice").await, other.connect("bob").await, other.connect("carol").await);
    block(other, "bob", "alice").await;
    types(&mut alice, chat).await;
    types(&mut alice, common).await;
    // Told after what was said before it, on the same way.
    assert_eq!(carol.event("typing").await["userId"], "alice");
    assert_eq!(of(&mut bob, &["typing"]).await, Vec::<Value>::new());
    types(&mut bob, chat).await;
    types(&mut bob, common).await;
    assert_eq!(carol.wait("bob types", |frame| frame["data"]["userId"] == "bob").await["data"]["chatId"], json!(common));
    assert_eq!(of(&mut alice, &["typing"]).await, Vec::<Value>::new());
    unblock(other, "bob", "alice").await;
    types(&mut bob, chat).await;
    assert_eq!(
        alice.wait("bob types", |frame| frame["data"]["userId"] == "bob" && frame["data"]["typing"] == true).await["event"],
        "typing"
    );
    stop(world).await;
}

/// Broken by leaving the row out of `blocks`: alice was online.
#[tokio::test]
async fn neither_sees_whether_the_other_is_there() {
    let world = two_nodes().await;
    let (_, one, other, pool) = &world;
    for with in ["bob", "carol"] {
        direct(pool, "alice", with).await;
    }
    group(pool, &["alice", "bob", "carol"]).await;
    let (mut bob, mut carol) = (other.connect("bob").await, other.connect("carol").await);
    let alice = one.connect("alice").await;
    for socket in [&mut bob, &mut carol] {
        assert_eq!(socket.event("user:online").await["userId"], "alice");
        socket.ask("presence:subscribe", json!({"userIds": ["alice"]})).await;
    }
    block(one, "bob", "alice").await;
    let seen = bob.ask("presence:get", json!({"userIds": ["alice"]})).await["data"]["users"][0].clone();
    assert_eq!(seen, json!({"userId": "alice", "online": false, "lastSeen": null}));
    let (_, seen) = one.api("alice").get("/v1/presence?userIds=bob,carol").await;
    assert_eq!((&seen["users"][0]["online"], &seen["users"][1]["online"]), (&json!(false), &json!(true)));
    crate::support::wait_until("what bob watches was checked", || other.app().context().hub.watches() < 2).await;
    alice.close().await;
    assert_eq!(carol.event("user:offline").await["userId"], "alice");
    let alice = one.connect("alice").await;
    assert_eq!(carol.event("user:online").await["userId"], "alice");
    assert_eq!(of(&mut bob, &["user:online", "user:offline"]).await, Vec::<Value>::new());
    // One that connects now is told of those that it may see.
    bob.close().await;
    let mut bob = other.connect("bob").await;
    alice.close().await;
    assert_eq!(carol.event("user:offline").await["userId"], "alice");
    assert_eq!(of(&mut bob, &["user:online", "user:offline"]).await, Vec::<Value>::new());
    stop(world).await;
}

/// Broken by leaving the rows out of `closed_chats`: alice was told at once.
#[tokio::test]
async fn neither_learns_how_far_the_other_has_got_in_their_chat_and_both_do_once_it_is_open() {
    let world = two_nodes().await;
    let (_, one, other, pool) = &world;
    let common = group(pool, &["alice", "bob"]).await;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    let first = alice.send("bob", "to bob").await;
    let came = bob.receive(1).await.remove(0);
    bob.ack(&came).await;
    let cursor = alice.event("message:status").await["marksCursor"].as_str().unwrap().to_owned();
    let second = bob.send("alice", "to alice").await;
    let waits = alice.receive(1).await.remove(0);
    block(other, "bob", "alice").await;
    let chat = first["chatId"].clone();
    // After it bob reads, and alice acks what bob had sent before.
    bob.ask("message:read", json!({"chatId": chat, "seq": 1})).await;
    alice.ack(&waits).await;
    let in_group = [alice.ask("message:send", json!({"chatId": common, "content": "a"})).await, bob.receive(1).await.remove(0)];
    bob.ack(&in_group[1]).await;
    let told = alice.event("message:status").await;
    assert_eq!(told["messageIds"], json!([in_group[0]["data"]["messageId"]]), "what came before it would have been told before it");
    bob.ask("message:send", json!({"chatId": common, "content": "b"})).await;
    let came = alice.receive(1).await.remove(0);
    alice.ack(&came).await;
    assert_eq!(bob.event("message:status").await["messageIds"], json!([came["messageId"]]));
    for (socket, user, node, message, status) in
        [(&mut alice, "alice", one, &first, "delivered"), (&mut bob, "bob", other, &second, "sent")]
    {
        assert_eq!(of(socket, &["message:status"]).await, Vec::<Value>::new(), "{user}");
        let (_, told) = node.api(user).get(&format!("/v1/messages/{}/status", message["messageId"].as_str().unwrap())).await;
        assert_eq!((&told["statuses"][0]["status"], &told["statuses"][0]["readAt"]), (&json!(status), &Value::Null));
    }
    let of_bob = async || {
        let (_, shown) = one.api("alice").get(&format!("/v1/chats/{}", chat.as_str().unwrap())).await;
        shown["members"].as_array().unwrap().iter().find(|member| member["userId"] == "bob").unwrap()["readSeq"].clone()
    };
    assert_eq!(of_bob().await, 0);
    // A sender that was away.
    let mut back = one.open(Connect::user("alice").with("marks", &cursor)).await;
    let marks = of(&mut back, &["message:status"]).await;
    assert!(marks.iter().all(|mark| mark["data"]["chatId"] == json!(common)), "{marks:?}");
    unblock(other, "bob", "alice").await;
    assert_eq!(of_bob().await, 1);
    let (_, told) = one.api("alice").get(&format!("/v1/messages/{}/status", first["messageId"].as_str().unwrap())).await;
    assert_eq!(told["statuses"][0]["status"], "read");
    alice.send("bob", "again").await;
    let came = bob.receive(1).await.remove(0);
    bob.ack(&came).await;
    assert_eq!(alice.event("message:status").await["messageIds"], json!([came["messageId"]]));
    stop(world).await;
}

/// A block that no node has made is found at once too.
#[tokio::test]
async fn a_block_that_is_made_in_sql_ends_what_a_session_holds_and_what_it_watches() {
    let world = two_nodes().await;
    let (_, one, other, pool) = &world;
    let (mut alice, mut bob) = (one.connect("alice").await, other.open(Connect::user("bob").with("window", 1)).await);
    alice.send("bob", "1").await;
    alice.send("bob", "2").await;
    bob.receive(1).await;
    bob.ask("presence:subscribe", json!({"userIds": ["alice"]})).await;
    assert!(sqlx::query_scalar::<_, bool>("select restante_block('bob', 'alice')").fetch_one(pool).await.unwrap());
    let mut gaps = 0;
    while gaps < 2 {
        let gap = bob.event("queue:gap").await;
        assert_eq!(gap["reason"], "blocked", "{gap}");
        gaps += gap["count"].as_i64().unwrap();
    }
    crate::support::wait_until("what bob watches was checked", || other.app().context().hub.watches() == 0).await;
    assert_eq!(alice.ask("message:send", json!({"to": "bob", "content": "3"})).await["data"]["code"], "not_accepted");
    stop(world).await;
}

/// Broken by notifying no chat in `restante_people_changed`: the node went on telling receipts in the form that it remembered.
#[tokio::test]
async fn receipts_end_at_every_node_with_a_block_that_is_made_in_sql_and_come_again_when_it_is_taken_back() {
    let world = two_nodes().await;
    let (_, one, other, pool) = &world;
    let common = group(pool, &["alice", "bob"]).await;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    alice.send("bob", "1").await;
    let came = bob.receive(1).await.remove(0);
    bob.ack(&came).await;
    alice.event("message:status").await;
    alice.send("bob", "2").await;
    let held = bob.receive(1).await.remove(0);
    // Acks of bob are told by the node that he is connected to.
    let knows_forms = async |count: i64| {
        let known = || other.app().context().metrics.chat_sizes_known.get();
        crate::support::wait_until("so many forms are remembered", || known() == count).await;
    };
    knows_forms(1).await;
    let changes = async |call: &'static str| assert!(sqlx::query_scalar::<_, bool>(call).fetch_one(pool).await.unwrap());
    changes("select restante_block('alice', 'bob')").await;
    knows_forms(0).await;
    bob.ack(&held).await;
    let in_group = alice.ask("message:send", json!({"chatId": common, "content": "fence"})).await["data"]["messageId"].clone();
    let fence = bob.receive(1).await.remove(0);
    bob.ack(&fence).await;
    assert_eq!(alice.event("message:status").await["messageIds"], json!([in_group]), "what came before it would have been told before it");
    knows_forms(2).await;
    changes("select restante_unblock('alice', 'bob')").await;
    knows_forms(1).await;
    let third = alice.send("bob", "3").await;
    let came = bob.receive(1).await.remove(0);
    bob.ack(&came).await;
    assert_eq!(alice.event("message:status").await["messageIds"], json!([third["messageId"]]));
    stop(world).await;
}

/// As a server of XMPP sends presence to a contact that is unblocked (XEP-0191). Broken by leaving `watch_missing` out: both waited in vain.
#[tokio::test]
async fn two_with_a_direct_chat_see_one_another_again_after_an_unblock_without_asking() {
    let world = two_nodes().await;
    let (_, one, other, pool) = &world;
    direct(pool, "alice", "bob").await;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    assert_eq!(alice.event("user:online").await["userId"], "bob");
    for in_sql in [false, true] {
        block(one, "bob", "alice").await;
        let watches = || one.app().context().hub.watches() + other.app().context().hub.watches();
        crate::support::wait_until("what both watch was checked", || watches() == 0).await;
        if in_sql {
            sqlx::query("select restante_unblock('bob', 'alice')").execute(pool).await.unwrap();
        } else {
            unblock(other, "bob", "alice").await;
        }
        assert_eq!(alice.event("user:online").await["userId"], "bob", "{in_sql}");
        assert_eq!(bob.event("user:online").await["userId"], "alice", "{in_sql}");
    }
    bob.close().await;
    assert_eq!(alice.event("user:offline").await["userId"], "bob");
    stop(world).await;
}
