//! Callbacks of messages as acks and rejects, and what comes again.

use std::time::Duration;

use serde_json::json;

use crate::everyday::enter;
use crate::stock::stock;
use crate::support::{Node, database, token};

#[tokio::test]
async fn a_message_whose_callback_is_not_called_comes_again_and_its_late_callback_still_acks() {
    let Some(mut anna) = stock().await else { return };
    let db = database().await;
    let node = Node::with(db.options(), |config| config.ack_timeout = Duration::from_millis(800)).await;
    let mut ben = node.connect("ben").await;
    anna.connect(&node.url(), json!({"transports": ["websocket"]}), json!(token("anna"))).await;
    anna.event("ready").await;
    anna.acking(false).await;
    ben.send("anna", "1").await;
    let first = anna.whole("message:receive").await;
    ben.send("anna", "2").await;
    let second = anna.whole("message:receive").await;
    // A client that acks later ones has skipped the first.
    anna.answer(&second, json!([{"received": true}])).await;
    let again = anna.whole("message:receive").await;
    assert_eq!((&again["args"][0]["messageId"], &again["args"][0]["attempt"]), (&first["args"][0]["messageId"], &json!(2)));
    anna.answer(&first, json!([])).await;
    let mut acked = Vec::new();
    while acked.len() < 2 {
        acked.extend(ben.event("message:status").await["messageIds"].as_array().unwrap().clone());
    }
    assert_eq!(acked, [second["args"][0]["messageId"].clone(), first["args"][0]["messageId"].clone()]);
    node.stop().await;
}

#[tokio::test]
async fn a_callback_with_an_error_rejects_and_after_the_last_attempt_the_message_has_failed() {
    let Some(mut anna) = stock().await else { return };
    let db = database().await;
    let node = Node::with(db.options(), |config| config.attempts_max = 2).await;
    let mut ben = node.connect("ben").await;
    enter(&node, &mut anna, "anna", &["polling"]).await;
    anna.acking(false).await;
    let sent = ben.send("anna", "1").await;
    for attempt in 1..=2 {
        let received = anna.whole("message:receive").await;
        assert_eq!(received["args"][0]["attempt"], attempt);
        anna.answer(&received, json!([{"error": {"message": "no room"}}])).await;
    }
    let status = ben.event("message:status").await;
    assert_eq!((&status["status"], &status["messageIds"]), (&json!("failed"), &json!([sent["messageId"]])));
    assert_eq!(status["reason"], "no room");
    node.stop().await;
}

#[tokio::test]
async fn sends_that_the_client_repeats_by_itself_count_once_and_all_callbacks_are_answered() {
    let Some(mut anna) = stock().await else { return };
    let db = database().await;
    let node = Node::with(db.options(), |config| config.send_rate = 10).await;
    let mut ben = node.connect("ben").await;
    let options = json!({"transports": ["websocket"], "retries": 1_000, "ackTimeout": 100});
    anna.connect(&node.url(), options, json!(token("anna"))).await;
    anna.event("ready").await;
    // Beyond the burst each send waits for the rate: a second, ten times as long as the client does.
    let mut asked = Vec::new();
    for n in 0..24 {
        let send = json!([{"messageId": uuid::Uuid::now_v7(), "to": "ben", "content": n.to_string()}]);
        asked.push(anna.ask_later("retried", "message:send", send).await);
    }
    for ack in asked {
        let sent = anna.answered(ack).await;
        assert!(sent["messageId"].is_string(), "{sent}");
    }
    let received = ben.receive(24).await;
    let contents: Vec<_> = received.iter().map(|message| message["content"].as_str().unwrap().parse::<u32>().unwrap()).collect();
    assert_eq!(contents, (0..24).collect::<Vec<_>>());
    node.stop().await;
}

#[tokio::test]
async fn a_repeated_send_without_an_id_is_told_what_it_needs() {
    let Some(mut anna) = stock().await else { return };
    let db = database().await;
    // Two at once, and then one in ten seconds: the first of the two that say the same is not answered before the second comes.
    let node = Node::with(db.options(), |config| config.send_rate = 1).await;
    enter(&node, &mut anna, "anna", &["websocket"]).await;
    for n in 0..2 {
        anna.ask("message:send", json!([{"to": "ben", "content": n.to_string()}])).await;
    }
    let send = json!([{"to": "ben", "content": "again"}]);
    let first = anna.ask_later("emit", "message:send", send.clone()).await;
    let refused = anna.ask("message:send", send).await;
    assert_eq!(refused["error"]["code"], "invalid");
    assert!(refused["error"]["message"].as_str().unwrap().contains("messageId"), "{refused}");
    assert!(anna.answered(first).await["messageId"].is_string());
    node.stop().await;
}
