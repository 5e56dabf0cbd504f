//! Connections that end: which clients come back by themselves, and that nothing is lost to them.

use serde_json::{Value, json};

use crate::everyday::enter;
use crate::stock::stock;
use crate::support::{Connect, Node, database, token, token_for};

/// Starts a node on the port of one that has stopped.
async fn successor(db: &crate::support::Database, addr: std::net::SocketAddr) -> Node {
    Node::with(db.options(), |config| config.listen_addr = addr).await
}

#[tokio::test]
async fn a_client_of_a_node_that_stops_comes_back_by_itself_and_gets_what_it_missed() {
    let db = database().await;
    for transport in ["websocket", "polling"] {
        let Some(mut anna) = stock().await else { return };
        let node = Node::start(db.options()).await;
        let addr = node.addr();
        enter(&node, &mut anna, "anna", &[transport]).await;
        node.stop().await;
        assert!(anna.event("server:draining").await["reconnectAfterMs"].is_u64());
        let gone = anna.life("disconnect").await;
        assert_eq!((&gone["reason"], &gone["active"]), (&json!("transport close"), &json!(true)), "{transport}");
        let node = successor(&db, addr).await;
        let sent = node.connect("ben").await.send("anna", "while you were away").await;
        let back = anna.life("connect").await;
        assert_ne!(back["recovered"], json!(true));
        assert_eq!(anna.event("message:receive").await["messageId"], sent["messageId"]);
        anna.act("leave").await;
        anna.life("disconnect").await;
        node.stop().await;
    }
}

/// Broken by a `CONNECT_ERROR` for every refusal: after it the library stays away.
#[tokio::test]
async fn a_client_that_is_refused_for_now_is_cut_off_and_comes_back_by_itself() {
    let Some(mut anna) = stock().await else { return };
    let db = database().await;
    let node = Node::with(db.options(), |config| config.sessions_per_user_max = 1).await;
    let other = node.open(Connect::user("anna")).await;
    anna.connect(&node.url(), json!({"transports": ["websocket"]}), json!(token("anna"))).await;
    let gone = anna.life("disconnect").await;
    assert_eq!((&gone["reason"], &gone["active"]), (&json!("transport close"), &json!(true)));
    assert!(!anna.has_skipped(|line| line["life"] == "connect_error"));
    other.close().await;
    assert_eq!(anna.event("ready").await["userId"], "anna");
    node.stop().await;
}

#[tokio::test]
async fn a_displaced_client_stays_away() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    for transport in ["websocket", "polling"] {
        let Some(mut anna) = stock().await else { return };
        let auth = json!({"token": token("anna"), "device": "phone"});
        anna.connect(&node.url(), json!({"transports": [transport]}), auth).await;
        anna.event("ready").await;
        let _newer = node.open(Connect::user("anna").device("phone")).await;
        assert_eq!(anna.event("error").await["code"], "displaced");
        let gone = anna.life("disconnect").await;
        assert_eq!((&gone["reason"], &gone["active"]), (&json!("io server disconnect"), &json!(false)), "{transport}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_client_whose_token_ends_comes_back_with_the_next_and_stays_away_without_one() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    for renews in [true, false] {
        let Some(mut anna) = stock().await else { return };
        anna.connect(&node.url(), json!({"transports": ["websocket"]}), json!(token_for("anna", time::Duration::seconds(3)))).await;
        anna.event("ready").await;
        if renews {
            anna.renew(&token("anna")).await;
        }
        assert_eq!(anna.event("error").await["code"], "token_expired");
        assert_eq!(anna.life("disconnect").await["reason"], "transport close");
        if renews {
            assert_eq!(anna.event("ready").await["userId"], "anna");
        } else {
            let refused = anna.life("connect_error").await;
            assert_eq!((&refused["data"]["code"], &refused["active"]), (&json!("token_expired"), &json!(false)));
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn what_was_emitted_and_not_acked_before_a_cut_comes_again_in_order() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut ben = node.connect("ben").await;
    for transports in [&["websocket"][..], &["polling"], &["polling", "websocket"]] {
        let Some(mut anna) = stock().await else { return };
        enter(&node, &mut anna, "anna", transports).await;
        anna.acking(false).await;
        let mut sent: Vec<Value> = Vec::new();
        for n in 0..30 {
            sent.push(ben.send("anna", &n.to_string()).await["messageId"].clone());
        }
        for id in &sent {
            assert_eq!(&anna.event("message:receive").await["messageId"], id);
        }
        anna.act("cut").await;
        anna.life("disconnect").await;
        anna.acking(true).await;
        anna.act("again").await;
        anna.life("connect").await;
        for id in &sent {
            let again = anna.event("message:receive").await;
            assert_eq!((&again["messageId"], &again["attempt"]), (id, &json!(1)));
        }
        let mut delivered = 0;
        while delivered < sent.len() {
            let status = ben.event("message:status").await;
            delivered += status["messageIds"].as_array().unwrap().len();
        }
        anna.act("leave").await;
        anna.life("disconnect").await;
    }
    node.stop().await;
}
