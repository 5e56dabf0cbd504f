//! The everyday words between front ends and service, over each transport.

use serde_json::{Value, json};

use crate::stock::{Stock, stock};
use crate::support::{Connect, Node, database, token};

/// The transports of the client's options: one, the other, and one that takes over from the other.
const TRANSPORTS: [&[&str]; 3] = [&["websocket"], &["polling"], &["polling", "websocket"]];

/// Connects a client past `ready`, which is returned.
pub async fn enter(node: &Node, client: &mut Stock, user: &str, transports: &[&str]) -> Value {
    client.connect(&node.url(), json!({"transports": transports}), json!(token(user))).await;
    client.life("connect").await;
    client.event("ready").await
}

#[tokio::test]
async fn an_unchanged_client_sends_gets_and_acks_over_each_transport() {
    let (Some(mut anna), Some(mut ben)) = (stock().await, stock().await) else { return };
    let db = database().await;
    let node = Node::start(db.options()).await;
    for transports in TRANSPORTS {
        assert_eq!(enter(&node, &mut ben, "ben", transports).await["userId"], "ben");
        assert_eq!(ben.event("authenticated").await["userId"], "ben");
        enter(&node, &mut anna, "anna", transports).await;
        if transports.len() > 1 {
            assert_eq!(anna.life("upgrade").await["transport"], "websocket");
        }
        let sent = anna.ask("message:send", json!([{"to": "ben", "content": "grüß dich"}])).await;
        assert_eq!(anna.event("message:sent").await, sent);
        let received = ben.event("message:receive").await;
        let said = (&received["messageId"], &received["content"], &received["senderId"]);
        assert_eq!(said, (&sent["messageId"], &json!("grüß dich"), &json!("anna")));
        // Marks of the rounds before come first, since the client says nothing of what it knows.
        let status = loop {
            let status = anna.event("message:status").await;
            if status["kind"] != "mark" {
                break status;
            }
        };
        let told = (&status["messageId"], &status["status"], &status["deliveredTo"], &status["userId"]);
        assert_eq!(told, (&sent["messageId"], &json!("delivered"), &json!("ben"), &json!("ben")), "{status}");
        for client in [&mut anna, &mut ben] {
            client.act("leave").await;
            assert_eq!(client.life("disconnect").await["reason"], "io client disconnect");
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn clients_of_both_kinds_are_in_one_chat_and_statuses_come_one_by_one() {
    let Some(mut anna) = stock().await else { return };
    let db = database().await;
    let node = Node::start(db.options()).await;
    enter(&node, &mut anna, "anna", &["websocket"]).await;
    let mut ben = node.open(Connect::user("ben")).await;
    let first = anna.ask("message:send", json!([{"to": "ben", "content": "1"}])).await;
    let second = anna.ask("message:send", json!([{"to": "ben", "content": "2"}])).await;
    ben.receive(2).await;
    let up_to = json!({"chatId": first["chatId"], "seq": second["seq"]});
    assert_eq!(ben.ask("message:read", up_to).await["event"], "message:read:ok");
    for sent in [&first, &second] {
        let read = json!({"messageId": sent["messageId"], "chatId": sent["chatId"], "readBy": "ben"});
        assert_eq!(anna.event("message:read").await, read);
        let status = loop {
            let status = anna.event("message:status").await;
            if status["status"] == "read" {
                break status;
            }
            assert_eq!((&status["status"], &status["deliveredTo"], &status["readBy"]), (&json!("delivered"), &json!("ben"), &json!(null)));
        };
        assert_eq!((&status["messageId"], &status["readBy"]), (&sent["messageId"], &json!("ben")));
    }
    let back = ben.send("anna", "3").await;
    assert_eq!(anna.event("message:receive").await["messageId"], back["messageId"]);
    // The chat alone: everything in it is read.
    let read = anna.ask("message:read", json!([{"chatId": first["chatId"]}])).await;
    assert_eq!((&read["chatId"], &read["seq"]), (&first["chatId"], &back["seq"]));
    node.stop().await;
}

#[tokio::test]
async fn each_callback_is_answered_and_errors_name_their_code() {
    let Some(mut anna) = stock().await else { return };
    let db = database().await;
    let node = Node::start(db.options()).await;
    enter(&node, &mut anna, "anna", &["websocket"]).await;
    let sent = anna.ask("message:send", json!([{"to": "ben", "content": "1"}])).await;
    let chat = &sent["chatId"];
    assert_eq!(anna.ask("ping", json!([])).await, json!({}));
    assert_eq!(anna.ask("typing", json!([{"chatId": chat, "typing": true}])).await, json!({}));
    assert_eq!(anna.ask("user:reconnected", json!([])).await, json!({"pending": 0}));
    assert_eq!(anna.ask("message:delivered", json!([{"messageId": sent["messageId"]}])).await, json!({}));
    assert_eq!(anna.ask("presence:get", json!([{"userIds": ["ben"]}])).await["users"][0]["online"], false);
    assert_eq!(anna.ask("presence:subscribe", json!([{"userIds": ["ben"]}])).await["users"][0]["userId"], "ben");
    assert_eq!(anna.ask("authenticate", json!([token("anna")])).await["userId"], "anna");
    for (event, args, code) in [
        ("message:send", json!([{"to": "ben"}]), "invalid"),
        ("message:send", json!(["text"]), "invalid"),
        ("message:send", json!([{"chatId": "0192f0c0-0000-7000-8000-000000000000", "content": "1"}]), "not_a_member"),
        ("typing", json!([{"chatId": chat}]), "invalid"),
        ("no:such", json!([]), "unknown_event"),
        ("authenticate", json!(["x"]), "not_authenticated"),
    ] {
        let answer = anna.ask(event, args).await;
        assert_eq!(answer["error"]["code"], code, "{event} {answer}");
        assert!(answer["error"]["message"].is_string());
    }
    // Without a callback an error is an event.
    anna.emit("no:such", json!({})).await;
    assert_eq!(anna.event("error").await["code"], "unknown_event");
    node.stop().await;
}

#[tokio::test]
async fn typing_presence_and_what_other_sessions_send_are_told() {
    let (Some(mut anna), Some(mut ben)) = (stock().await, stock().await) else { return };
    let db = database().await;
    let node = Node::start(db.options()).await;
    enter(&node, &mut anna, "anna", &["websocket"]).await;
    let chat = anna.ask("message:send", json!([{"to": "ben", "content": "1"}])).await["chatId"].clone();
    let before = anna.ask("presence:subscribe", json!([{"userIds": ["ben"]}])).await;
    assert_eq!(before["users"][0]["online"], false);
    enter(&node, &mut ben, "ben", &["polling"]).await;
    let online = anna.event("user:online").await;
    assert!(online["userId"] == "ben" && online["timestamp"].is_string(), "{online}");
    ben.emit("typing", json!({"chatId": chat, "typing": true})).await;
    assert_eq!(anna.event("typing").await, json!({"chatId": chat, "userId": "ben", "typing": true}));
    let mut other = node.open(Connect::user("anna")).await;
    let sent = other.send("ben", "2").await;
    let echo = loop {
        let echo = anna.event("message:sent").await;
        if echo["messageId"] == sent["messageId"] {
            break echo;
        }
    };
    assert_eq!((&echo["content"], &echo["duplicate"]), (&json!("2"), &json!(false)));
    ben.act("leave").await;
    let offline = anna.event("user:offline").await;
    assert!(offline["userId"] == "ben" && offline["lastSeen"].is_string(), "{offline}");
    node.stop().await;
}

#[tokio::test]
async fn operators_choose_forms_that_front_ends_expect() {
    let (Some(mut anna), Some(mut ben)) = (stock().await, stock().await) else { return };
    let db = database().await;
    let node = Node::with(db.options(), |config| {
        config.socketio_message_new = true;
        config.socketio_event_types = vec!["post_update".to_owned()];
        config.socketio_presence = vec![restante::config::PresenceForm::Presence];
    })
    .await;
    enter(&node, &mut anna, "anna", &["websocket"]).await;
    let mut publisher = node.open(Connect::publisher("poster")).await;
    let sent = publisher.send("anna", "1").await;
    let receive = anna.event("message:receive").await;
    assert_eq!(anna.event("message:new").await, json!({"message": receive}));
    // Called twice, the one callback acks once.
    assert_eq!(publisher.event("message:status").await["messageIds"], json!([sent["messageId"]]));
    for (kind, is_told) in [("post_update", true), ("new_post", false)] {
        let publish = json!({"type": kind, "data": {"postId": 7}, "to": {"users": ["anna"]}});
        assert_eq!(publisher.ask("event:publish", publish).await["event"], "event:published");
        let event = anna.event("event:receive").await;
        assert_eq!((&event["type"], &event["data"]), (&json!(kind), &json!({"postId": 7})));
        if is_told {
            assert_eq!(anna.event(kind).await, json!({"postId": 7}));
        }
    }
    assert!(!anna.has_skipped(|line| line["event"] == "new_post"));
    anna.ask("message:send", json!([{"to": "ben", "content": "1"}])).await;
    anna.ask("presence:subscribe", json!([{"userIds": ["ben"]}])).await;
    enter(&node, &mut ben, "ben", &["websocket"]).await;
    assert_eq!(anna.event("user:presence").await, json!({"userId": "ben", "isOnline": true, "lastSeen": null}));
    ben.act("leave").await;
    let gone = anna.event("user:presence").await;
    assert!(gone["isOnline"] == false && gone["lastSeen"].is_string(), "{gone}");
    assert!(!anna.has_skipped(|line| line["event"] == "user:online" || line["event"] == "user:offline"));
    node.stop().await;
}
