//! Events of sockets: every event of the description has a row, and is answered alike over WebSocket and Socket.IO, whatever the scope of the
//! whole person that says it, save what the scope opens more of.

use std::collections::BTreeSet;

use reqwest::Client;
use serde_json::{Value, json};

use super::{Engine, connected, word};
use crate::support::{Node, database, scoped_token, told};

const ID: &str = "0192f0c0-7d4e-7cc3-98c4-dc0c0c07398f";

/// Events, what is said in each, and its outcome. Those that ask for nothing, or get no answer, are in [`WITHOUT`].
fn events() -> Vec<(&'static str, Value, &'static str)> {
    let user = json!({"userId": "somebody"});
    vec![
        ("message:send", json!({"chatId": ID, "content": "x"}), "not_a_member"),
        ("message:skip", json!({"messageId": ID}), "done"),
        ("message:recall", json!({"messageId": ID}), "not_found"),
        ("message:delivered", json!({"messageIds": [ID]}), "done"),
        ("message:reject", json!({"messageId": ID}), "not_found"),
        ("message:read", json!({"chatId": ID, "seq": 1}), "not_a_member"),
        ("presence:get", json!({"userIds": ["somebody"]}), "done"),
        ("presence:subscribe", json!({"userIds": ["somebody"]}), "done"),
        ("contact:request", user.clone(), "done"),
        ("contact:accept", user.clone(), "not_found"),
        ("contact:decline", user.clone(), "not_found"),
        ("contact:remove", user.clone(), "done"),
        ("contact:list", json!({}), "done"),
        ("block:add", user.clone(), "done"),
        ("block:remove", user, "done"),
        ("block:list", json!({}), "done"),
        ("invitation:accept", json!({"chatId": ID}), "not_found"),
        ("invitation:decline", json!({"chatId": ID}), "not_found"),
        ("invitation:list", json!({}), "done"),
    ]
}

/// Events that are tried elsewhere: renewals, what anybody may say, typing (`super::chats`), and publishing (`super::feeds`, and below).
const WITHOUT: [&str; 5] = ["authenticate", "ping", "user:reconnected", "typing", "event:publish"];

/// Broken by an event without a row here.
#[tokio::test]
async fn each_event_is_answered_the_same_over_both_sockets_and_scopes_open_no_more_than_they_say() {
    let db = database().await;
    let node = Node::with(db.options(), |config| config.request_rate = 0).await;
    let (_, description) = told(Client::new().get(format!("{}/asyncapi.json", node.url())).send().await.unwrap()).await;
    let received = description["operations"].as_object().unwrap().iter().filter(|(_, operation)| operation["action"] == "receive");
    let described: BTreeSet<String> = received.map(|(name, _)| name.split_once('.').unwrap().1.replace('.', ":")).collect();
    let rows: BTreeSet<String> = events().iter().map(|(event, ..)| *event).chain(WITHOUT).map(str::to_owned).collect();
    assert_eq!(rows, described, "say in `events` what comes of it");
    for scope in ["", "openid", "events:write", "admin:read", "admin"] {
        let token = scoped_token(&format!("user {scope}"), scope);
        let (mut socket, mut engine) = (connected(&node, &token).await, Engine::enter(&node, &token).await.unwrap());
        for (event, data, expected) in events() {
            let answers = [socket.ask(event, data.clone()).await, engine.ask(event, data).await];
            assert_eq!(answers.each_ref().map(word), [expected; 2], "{event} with the scope {scope:?}: {answers:?}");
        }
        let to_everyone = json!({"type": "news", "data": {}, "to": {"everyone": true}});
        let expected = if scope == "events:write" { "done" } else { "forbidden" };
        let answers = [socket.ask("event:publish", to_everyone.clone()).await, engine.ask("event:publish", to_everyone).await];
        assert_eq!(answers.each_ref().map(word), [expected; 2], "with the scope {scope:?}: {answers:?}");
        socket.close().await;
    }
    node.stop().await;
}
