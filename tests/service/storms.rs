//! Many clients at once: who is live is served beside them, nobody waits for ever, and all of them get everything.

use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use restante::service::{Admission, Purpose};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite;

use super::entering::of_browser;
use crate::support::fixtures::assert_consistent;
use crate::support::{Connect, Node, PATIENCE, Socket, database, direct, fill, statuses, token, wait_until};

/// All permits that a crowd may have.
async fn crowd(node: &Node) -> Vec<Admission> {
    let admission = node.app().context().service.admission();
    join_all((0..admission.crowd_at_once()).map(|_| admission.admit(Purpose::Drain, None))).await
}

/// Waits until so many openings wait.
async fn openings_wait(node: &Node, count: usize) {
    let line = format!("restante_turns_waiting{{purpose=\"opening\"}} {count}\n");
    let metrics = &node.app().context().metrics;
    wait_until("the openings wait", || metrics.render().contains(&line)).await;
}

#[tokio::test]
async fn who_is_live_and_who_asks_over_http_are_served_while_a_crowd_waits() {
    let db = database().await;
    let pool = db.pool(1).await;
    let node = Node::start(db.options()).await;
    let chat = direct(&pool, "anna", "ben").await;
    let mut ben = node.connect("ben").await;
    for _ in 0..2 {
        ben.event("queue:drained").await;
    }
    let held = crowd(&node).await;
    let mut cleo = Socket::raw(node.addr(), Connect::user("cleo")).await.unwrap();
    openings_wait(&node, 1).await;
    // Sent by somebody else than this node: Ben's session is woken and has to read a page.
    sqlx::query("select restante_send($1, 'anna', 'beside the crowd')").bind(chat).execute(&pool).await.unwrap();
    let message = ben.event("message:receive").await;
    assert_eq!(message["content"], "beside the crowd");
    ben.ack(&message).await;
    assert_eq!(node.api("dora").get("/v1/chats").await.0, 200);
    assert!(cleo.skipped().is_empty());
    drop(held);
    assert_eq!(cleo.event("ready").await["userId"], "cleo");
    openings_wait(&node, 0).await;
    node.stop().await;
}

#[tokio::test]
async fn who_comes_when_too_many_wait_is_told_when_to_come_back() {
    let db = database().await;
    let node = Node::with(db.options(), |config| config.openings_waiting_max = 1).await;
    let request = tungstenite::client::IntoClientRequest::into_client_request(format!("ws://{}/ws", node.addr())).unwrap();
    let mut early = Socket::request(request).await.unwrap();
    let held = crowd(&node).await;
    let mut first = Socket::raw(node.addr(), Connect::user("first")).await.unwrap();
    openings_wait(&node, 1).await;
    let Err(tungstenite::Error::Http(refused)) = Socket::raw(node.addr(), Connect::user("second")).await else { panic!("it was let in") };
    let body: Value = serde_json::from_slice(refused.body().as_deref().unwrap()).unwrap();
    assert_eq!((refused.status().as_u16(), &body["error"]["code"]), (503, &json!("busy")));
    assert!(body["error"]["retryAfterMs"].as_u64().unwrap() >= 2_000 && refused.headers().contains_key("retry-after"));
    // One that offers the subprotocol sees no HTTP, and one that has its socket already neither: both are told there.
    let mut browser = Socket::request(of_browser(node.addr(), "", &token("browser"))).await.unwrap();
    let error = browser.event("error").await;
    assert_eq!((&error["code"], error["retryAfterMs"].as_u64().unwrap() >= 2_000), (&json!("busy"), true));
    assert_eq!(browser.closed().await, Some(4503));
    early.tell("authenticate", json!({"token": token("early")})).await;
    let error = early.event("error").await;
    assert_eq!((&error["code"], error["retryAfterMs"].as_u64().unwrap() >= 2_000), (&json!("busy"), true));
    assert_eq!(early.closed().await, Some(4503));
    drop(held);
    first.event("ready").await;
    assert!(node.app().context().metrics.render().contains(r#"restante_connections_closed_total{reason="busy"} 2"#));
    node.stop().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_those_who_wait_to_be_admitted() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let held = crowd(&node).await;
    let mut late = Socket::raw(node.addr(), Connect::user("late")).await.unwrap();
    openings_wait(&node, 1).await;
    let stop = tokio::spawn(node.stop());
    assert_eq!((late.error().await, late.closed().await), (json!("restart"), Some(1012)));
    tokio::time::timeout(PATIENCE, stop).await.unwrap().unwrap();
    drop(held);
}

#[tokio::test]
async fn a_crowd_larger_than_the_pool_gets_everything_once_and_the_living_go_on_meanwhile() {
    const USERS: usize = 60;
    const WAITING: i32 = 60;
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::with(db.options(), |config| config.pool_size = 4).await;
    for user in 0..USERS {
        let chat = direct(&pool, "anna", &format!("user-{user}")).await;
        fill(&pool, chat, "anna", WAITING).await;
    }
    let (mut dora, mut emil) = (node.connect("dora").await, node.connect("emil").await);
    // One user comes with many connections, each of which is given everything.
    let comers = (0..USERS).chain(std::iter::repeat_n(0, 10));
    let drained = join_all(comers.map(async |user| {
        let mut socket = node.connect(&format!("user-{user}")).await;
        let mut numbers = Vec::new();
        for _ in 0..if user == 0 { 0 } else { WAITING } {
            let message = socket.event("message:receive").await;
            numbers.push(message["inboxSeq"].as_i64().unwrap());
            socket.tell("message:delivered", json!({"messageId": message["messageId"]})).await;
        }
        if user > 0 {
            assert_eq!(numbers, (1..=i64::from(WAITING)).collect::<Vec<_>>());
            socket.wait("the end", |frame| frame["event"] == "queue:drained" && frame["data"]["class"] == "chat").await;
        }
    }));
    let living = async {
        for _ in 0..20 {
            let sent = dora.send("emil", "meanwhile").await;
            let message = emil.event("message:receive").await;
            assert_eq!(message["messageId"], sent["messageId"]);
            emil.ack(&message).await;
        }
    };
    tokio::join!(drained, living);
    for user in 1..USERS {
        assert!(statuses(&pool, &format!("user-{user}")).await.iter().all(|status| status == "delivered"));
    }
    assert_consistent(&pool).await;
    node.stop().await;
}

/// All permits that requests may have.
fn requests(node: &Node) -> Vec<Admission> {
    let admission = node.app().context().service.admission();
    std::iter::from_fn(|| admission.admit(Purpose::Request, None).now_or_never()).collect()
}

/// Broken by a request that takes a connection of the pool past the admission queue, and by a user without a bound.
#[tokio::test]
async fn while_requests_have_all_that_is_theirs_messages_are_delivered_and_a_user_with_too_many_is_told_that_it_is_busy() {
    const WAITING: usize = 64;
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (mut anna, mut ben) = (node.connect("anna").await, node.connect("ben").await);
    anna.send("ben", "before").await;
    ben.receive(1).await;
    let held = requests(&node);
    let dora = node.api("dora");
    let mut asked: FuturesUnordered<_> = (0..=WAITING).map(|_| dora.get("/v1/chats")).collect();
    let (status, refused) = asked.next().await.unwrap();
    assert_eq!((status, &refused["error"]["code"], &refused["error"]["retryAfterMs"]), (503, &json!("busy"), &json!(500)), "{refused}");
    let presence = anna.ask_later("presence:get", json!({"userIds": ["ben"]})).await;
    let sent = anna.send("ben", "beside the requests").await;
    assert_eq!(ben.receive(1).await[0]["messageId"], sent["messageId"]);
    let line = format!("restante_turns_waiting{{purpose=\"request\"}} {}\n", WAITING + 1);
    let metrics = &node.app().context().metrics;
    wait_until("the requests wait", || metrics.render().contains(&line)).await;
    drop(held);
    assert_eq!(anna.answer(&presence).await["event"], "presence:state");
    assert!(asked.map(|(status, _)| status).collect::<Vec<_>>().await.iter().all(|status| *status == 200));
    node.stop().await;
}
