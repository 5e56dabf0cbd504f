//! Nodes whose clocks are off by minutes, one ahead and one behind: what must be right for everybody is by the database's
//! clock, and a node's own decides over tokens only.

use restante::domain::Clock;
use serde_json::{Value, json};
use sqlx::PgPool;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::nodes::{know_one_another, never};
use crate::support::{Database, Node, Socket, database, direct, group, token_for};

const OFF_BY: Duration = Duration::minutes(10);
/// The longest time that a test takes. It is much less than the clocks are off by.
const WHILE: Duration = Duration::seconds(60);

async fn ahead_and_behind() -> (Database, Node, Node, PgPool) {
    let db = database().await;
    let ahead = Node::by(Clock::off_by(OFF_BY), db.options(), never).await;
    let behind = Node::by(Clock::off_by(-OFF_BY), db.options(), never).await;
    know_one_another(&[&ahead, &behind]).await;
    let pool = db.pool(2).await;
    (db, ahead, behind, pool)
}

async fn clock(pool: &PgPool) -> OffsetDateTime {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(pool).await.unwrap()
}

fn instant(text: &Value) -> OffsetDateTime {
    OffsetDateTime::parse(text.as_str().unwrap(), &Rfc3339).unwrap()
}

/// Fails when the time is not about the database's present time.
async fn assert_now(pool: &PgPool, what: &str, time: &Value) {
    let (now, time) = (clock(pool).await, instant(time));
    assert!((now - time).abs() < WHILE, "{what}: {time}, and it is {now}");
}

async fn send(socket: &mut Socket, chat: &str, expires_at: Option<OffsetDateTime>) -> Value {
    let expires_at = expires_at.map(|at| at.format(&Rfc3339).unwrap());
    socket.ask("message:send", json!({"chatId": chat, "content": "x", "expiresAt": expires_at})).await
}

#[tokio::test]
async fn times_order_and_presence_are_those_of_the_database_whatever_a_nodes_clock_says() {
    let (_db, ahead, behind, pool) = ahead_and_behind().await;
    let chat = group(&pool, &["alice", "bob", "carol"]).await.to_string();
    direct(&pool, "alice", "bob").await;
    let (mut alice, mut carol) = (ahead.connect("alice").await, behind.connect("carol").await);
    let mut bob = behind.connect("bob").await;
    for socket in [&alice, &carol] {
        assert_now(&pool, "serverTime", &socket.ready["serverTime"]).await;
    }
    assert_now(&pool, "online since", &alice.event("user:online").await["timestamp"]).await;
    for _ in 0..5 {
        for sender in [&mut alice, &mut bob] {
            assert_eq!(send(sender, &chat, None).await["event"], "message:sent");
        }
    }
    let received = carol.receive(10).await;
    let order: Vec<i64> = received.iter().map(|message| message["seq"].as_i64().unwrap()).collect();
    assert_eq!(order, (1..=10).collect::<Vec<_>>());
    let times: Vec<OffsetDateTime> = received.iter().map(|message| instant(&message["createdAt"])).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_now(&pool, "createdAt", &received[9]["createdAt"]).await;
    carol.ack_up_to(10).await;
    bob.close().await;
    assert_now(&pool, "lastSeen", &alice.event("user:offline").await["lastSeen"]).await;
    ahead.stop().await;
    behind.stop().await;
}

/// Broken by a sweep, or an acceptance, that asks the node's clock.
#[tokio::test]
async fn a_message_expires_when_the_database_says_so_at_a_node_ahead_and_at_one_behind() {
    let (_db, ahead, behind, pool) = ahead_and_behind().await;
    let chat = direct(&pool, "alice", "bob").await.to_string();
    for (node, user) in [(&ahead, "alice"), (&behind, "bob")] {
        let mut sender = node.connect(user).await;
        let now = clock(&pool).await;
        let (soon, later) = (now + Duration::SECOND, now + OFF_BY / 2);
        let long = send(&mut sender, &chat, Some(later)).await["data"].take();
        let short = send(&mut sender, &chat, Some(soon)).await;
        assert_eq!(short["event"], "message:sent", "its time has not come: {short}");
        let told = sender.event("message:status").await;
        assert_eq!((&told["status"], &told["messageIds"]), (&json!("expired"), &json!([short["data"]["messageId"]])));
        assert!(clock(&pool).await >= soon);
        let waits = "select count(*) from message_status s join messages m on m.id = s.message_id where s.status = 'sent' and m.id = $1";
        let id: uuid::Uuid = long["messageId"].as_str().unwrap().parse().unwrap();
        let waiting: i64 = sqlx::query_scalar(waits).bind(id).fetch_one(&pool).await.unwrap();
        assert_eq!(waiting, 1, "its time has not come");
        let past = send(&mut sender, &chat, Some(now - Duration::SECOND)).await;
        assert_eq!(past["event"], "error", "its time is over: {past}");
    }
    ahead.stop().await;
    behind.stop().await;
}

#[tokio::test]
async fn the_time_from_accepting_to_ack_is_measured_by_one_clock() {
    let (_db, ahead, behind, pool) = ahead_and_behind().await;
    direct(&pool, "alice", "bob").await;
    for node in [&ahead, &behind] {
        let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);
        alice.send("bob", "how old am I?").await;
        let message = bob.event("message:receive").await;
        bob.ack(&message).await;
        let (_, metrics) = node.api("alice").get("/metrics").await;
        let value = |name: &str| {
            let line = metrics.as_str().unwrap().lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse::<f64>().unwrap()
        };
        let (sum, count) = (value("restante_accept_to_ack_seconds_sum "), value("restante_accept_to_ack_seconds_count "));
        assert!(count == 1.0 && (0.0..WHILE.as_seconds_f64()).contains(&sum), "{count} messages were {sum} s old");
        alice.close().await;
        bob.close().await;
    }
    ahead.stop().await;
    behind.stop().await;
}

#[tokio::test]
async fn tokens_are_judged_by_the_nodes_clock() {
    let (_db, ahead, behind, _pool) = ahead_and_behind().await;
    let (short, long) = (token_for("alice", OFF_BY / 2), token_for("alice", OFF_BY * 2));
    for (node, token, is_good) in [(&ahead, &short, false), (&ahead, &long, true), (&behind, &short, true)] {
        let status = reqwest::Client::new().get(format!("{}/v1/chats", node.url())).bearer_auth(token).send().await.unwrap().status();
        assert_eq!(status == 200, is_good, "{status}");
        let request = format!("ws://{}/ws?token={token}", node.addr()).into_client_request().unwrap();
        assert_eq!(Socket::request(request).await.is_ok(), is_good);
    }
    ahead.stop().await;
    behind.stop().await;
}
