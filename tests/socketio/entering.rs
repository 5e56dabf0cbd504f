//! Ways to bring a token, and refusals: who is to come back by itself, and who is not.

use std::time::Duration;

use serde_json::json;

use crate::everyday::enter;
use crate::stock::stock;
use crate::support::{Node, database, token, token_for};

#[tokio::test]
async fn a_token_comes_in_auth_in_the_query_or_in_an_event() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    for transport in ["websocket", "polling"] {
        let (Some(mut asks), Some(mut says)) = (stock().await, stock().await) else { return };
        asks.connect(&node.url(), json!({"transports": [transport], "query": {"token": token("anna"), "device": "phone"}}), json!(null))
            .await;
        let ready = asks.event("ready").await;
        assert_eq!((&ready["userId"], &ready["deviceId"]), (&json!("anna"), &json!("phone")));
        for (given, has_callback) in [(json!(token("ben")), false), (json!({"token": token("ben")}), true)] {
            says.connect(&node.url(), json!({"transports": [transport]}), json!(null)).await;
            says.life("connect").await;
            if has_callback {
                assert_eq!(says.ask("authenticate", json!([given])).await["userId"], "ben");
            } else {
                says.emit("authenticate", given).await;
            }
            assert_eq!(says.event("authenticated").await["userId"], "ben");
            assert_eq!(says.event("ready").await["userId"], "ben");
            says.act("leave").await;
            says.life("disconnect").await;
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn options_of_ws_come_in_auth() {
    let Some(mut anna) = stock().await else { return };
    let db = database().await;
    let node = Node::start(db.options()).await;
    let auth = json!({"token": token("anna"), "device": "desk", "window": 7});
    anna.connect(&node.url(), json!({"transports": ["websocket"]}), auth).await;
    let ready = anna.event("ready").await;
    assert_eq!((&ready["deviceId"], &ready["window"]), (&json!("desk"), &json!(7)));
    node.stop().await;
}

#[tokio::test]
async fn a_refusal_that_would_be_repeated_is_a_connect_error_with_its_code_and_the_client_stays_away() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let expired = token_for("anna", time::Duration::seconds(-5));
    for transport in ["websocket", "polling"] {
        for (auth, code) in [
            (json!("no.token"), "not_authenticated"),
            (json!(expired), "token_expired"),
            (json!({"token": token("anna"), "window": 0}), "invalid"),
        ] {
            let Some(mut anna) = stock().await else { return };
            anna.connect(&node.url(), json!({"transports": [transport]}), auth).await;
            let refused = anna.life("connect_error").await;
            assert_eq!((&refused["data"]["code"], &refused["active"]), (&json!(code), &json!(false)), "{refused}");
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_authenticates_wrongly_by_an_event_is_told_and_disconnected() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    for (event, data, code) in [("authenticate", json!("x"), "not_authenticated"), ("ping", json!({}), "bad_frame")] {
        let Some(mut anna) = stock().await else { return };
        anna.connect(&node.url(), json!({"transports": ["polling"]}), json!(null)).await;
        anna.life("connect").await;
        anna.emit(event, data).await;
        assert_eq!(anna.event("error").await["code"], code);
        let gone = anna.life("disconnect").await;
        assert_eq!((&gone["reason"], &gone["active"]), (&json!("io server disconnect"), &json!(false)));
    }
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_brings_no_token_in_time_is_cut_off() {
    let Some(mut anna) = stock().await else { return };
    let db = database().await;
    let node = Node::with(db.options(), |config| config.auth_timeout = Duration::from_millis(500)).await;
    anna.connect(&node.url(), json!({"transports": ["websocket"], "reconnection": false}), json!(null)).await;
    anna.life("connect").await;
    assert_eq!(anna.event("error").await["code"], "authentication_timeout");
    assert_eq!(anna.life("disconnect").await["reason"], "transport close");
    node.stop().await;
}

#[tokio::test]
async fn a_namespace_that_there_is_not_is_refused_alone() {
    let Some(mut anna) = stock().await else { return };
    let db = database().await;
    let node = Node::start(db.options()).await;
    anna.connect(&format!("{}/admin", node.url()), json!({"transports": ["websocket"]}), json!(token("anna"))).await;
    assert_eq!(anna.life("connect_error").await["message"], "Invalid namespace");
    node.stop().await;
}

#[tokio::test]
async fn a_transport_that_is_turned_off_and_a_door_that_is_closed_are_not_there() {
    let db = database().await;
    let node = Node::with(db.options(), |config| {
        config.socketio_transports = vec![restante::config::SocketIoTransport::WebSocket];
    })
    .await;
    let polls = reqwest::get(format!("{}/socket.io/?EIO=4&transport=polling", node.url())).await.unwrap();
    assert_eq!(polls.status(), 400);
    if let Some(mut anna) = stock().await {
        enter(&node, &mut anna, "anna", &["websocket"]).await;
    }
    node.stop().await;
    let node = Node::with(db.options(), |config| config.socketio_transports = Vec::new()).await;
    let polls = reqwest::get(format!("{}/socket.io/?EIO=4&transport=polling", node.url())).await.unwrap();
    assert_eq!(polls.status(), 404);
    node.stop().await;
}
