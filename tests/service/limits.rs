//! Limits of users over all nodes: what a user spends at one node it has not at another, and what an operator raises counts at every one.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use restante::config::Config;
use restante::domain::UserId;
use restante::service::Refusal;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::audit::by_command;
use crate::nodes::know_one_another;
use crate::support::{Database, Node, PATIENCE, Socket, database, number, token, wait_until};

/// Messages in a second, of the nodes here.
const PER_SECOND: u32 = 100;
/// Messages at once.
const BURST: u32 = 2_000;
/// A user that only the limits know.
const FLOODER: UserId = UserId(1_000_000);

fn few(config: &mut Config) {
    config.send_rate = 10 * PER_SECOND;
    config.direct_chats_per_hour = 1;
    config.groups_per_hour = 1;
}

async fn nodes<const N: usize>(db: &Database) -> [Node; N] {
    let mut nodes = Vec::new();
    for _ in 0..N {
        nodes.push(Node::with(db.options(), few).await);
    }
    know_one_another(&nodes.iter().collect::<Vec<_>>()).await;
    nodes.try_into().unwrap_or_else(|_| unreachable!("as many were started"))
}

fn takes(node: &Node) -> bool {
    node.app().delivery().limits().check_send(FLOODER).is_ok()
}

fn told(node: &Node) -> u64 {
    node.app().context().metrics.bus_sent.of("spent").get()
}

pub fn heard(node: &Node) -> u64 {
    node.app().context().metrics.bus_received.of("spent").get()
}

fn take_all(node: &Node) -> usize {
    std::iter::repeat_with(|| takes(node)).take_while(|is_taken| *is_taken).count()
}

/// Takes at each node whatever it gives now.
async fn take_at(nodes: &[&Node]) -> usize {
    let taken = nodes.iter().map(|node| take_all(node)).sum();
    tokio::time::sleep(Duration::from_millis(5)).await;
    taken
}

/// Takes what these nodes give until they have told one another enough.
async fn take_until(nodes: &[&Node], is_enough: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_enough() {
        assert!(began.elapsed() < PATIENCE, "nodes tell one another nothing");
        take_at(nodes).await;
    }
}

/// A flood at these nodes. Returns what was taken in this time, and what the rate gives in it. It is counted from when each of them has heard of the
/// others several times: what they give before is paid back later, and is as much as they give in the time that a telling takes.
async fn flood(nodes: &[&Node], time: Duration) -> (u32, u32) {
    let before: Vec<u64> = nodes.iter().map(|node| heard(node)).collect();
    take_until(nodes, || nodes.iter().zip(&before).all(|(node, before)| heard(node) >= before + 4)).await;
    let (began, mut taken) = (Instant::now(), 0);
    while began.elapsed() < time {
        taken += take_at(nodes).await;
    }
    let rate = began.elapsed().as_secs_f64() * f64::from(PER_SECOND);
    (u32::try_from(taken).unwrap(), rate as u32)
}

#[track_caller]
fn assert_is_the_rate((taken, rate): (u32, u32)) {
    assert!(taken * 10 >= rate * 8 && taken * 10 <= rate * 12, "{taken} messages where the rate gives {rate}");
}

/// Broken by telling nothing: three times the rate.
#[tokio::test]
async fn a_user_at_three_nodes_has_one_users_rate_also_when_nodes_come_and_go() {
    let time = Duration::from_secs(5);
    let db = database().await;
    let [one, two, three] = nodes::<3>(&db).await;
    let burst = take_all(&one);
    assert!(burst >= usize::try_from(BURST).unwrap() && burst < usize::try_from(2 * BURST).unwrap(), "{burst}");
    wait_until("the others have heard", || heard(&two) > 0 && heard(&three) > 0).await;
    assert_is_the_rate(flood(&[&one, &two, &three], time).await);

    three.stop().await;
    let live = &one.app().context().metrics.live_nodes;
    wait_until("two are left", || live.get() == 2).await;
    assert_is_the_rate(flood(&[&one, &two], time).await);

    let late = Node::with(db.options(), few).await;
    know_one_another(&[&one, &two, &late]).await;
    // It learns what is not paid yet before it is asked.
    take_until(&[&one], || heard(&late) > 0).await;
    assert_is_the_rate(flood(&[&one, &two, &late], time).await);
    for node in [one, two, late] {
        node.stop().await;
    }
}

#[tokio::test]
async fn of_users_who_stay_far_below_their_rate_nodes_tell_nothing_and_of_one_node_hardly_anything() {
    let db = database().await;
    let [one, two] = nodes::<2>(&db).await;
    for user in 0..500 {
        one.app().delivery().limits().check_send(UserId(user)).unwrap();
        two.app().delivery().limits().check_send(UserId(user)).unwrap();
    }
    // One that floods one node alone.
    take_all(&one);
    wait_until("it is told of", || told(&one) > 0).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        take_all(&one);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((told(&one), told(&two)), (1, 0));
    one.stop().await;
    two.stop().await;
}

async fn begins(node: &Node, user: &str, other: &str) -> (u16, Value) {
    node.api(user).post("/v1/chats", json!({"kind": "direct", "members": [other]})).await
}

async fn makes_a_group(node: &Node, user: &str) -> (u16, Value) {
    node.api(user).post("/v1/chats", json!({"kind": "group", "title": "t", "members": ["ben"]})).await
}

#[tokio::test]
async fn chats_and_groups_of_an_hour_are_those_of_all_nodes() {
    let db = database().await;
    let [one, two] = nodes::<2>(&db).await;
    assert_eq!(begins(&one, "anna", "ben").await.0, 201);
    wait_until("the other has heard of the chat", || heard(&two) == 1).await;
    assert_eq!(makes_a_group(&one, "anna").await.0, 201);
    wait_until("and of the group", || heard(&two) == 2).await;
    for (code, (status, answer)) in
        [("too_many_chats", begins(&two, "anna", "cleo").await), ("rate_limited", makes_a_group(&two, "anna").await)]
    {
        assert_eq!((status, &answer["error"]["code"]), (429, &json!(code)), "{answer}");
        assert!(answer["error"]["retryAfterMs"].as_u64().is_some_and(|ms| ms > 1_000_000), "{answer}");
    }
    // A feed counts as a group, but for who may publish to everything.
    let feed = json!({"title": "news"});
    assert_eq!(one.api("anna").post("/v1/feeds", feed.clone()).await.0, 429);
    assert_eq!(one.api("cleo").post("/v1/feeds", feed.clone()).await.0, 201);
    assert_eq!(one.api("cleo").post("/v1/feeds", feed.clone()).await.1["error"]["code"], "rate_limited");
    for _ in 0..3 {
        assert_eq!(one.publisher("shop").post("/v1/feeds", feed.clone()).await.0, 201);
    }
    assert_eq!(begins(&two, "emil", "anna").await.0, 201, "another user has limits of its own");
    let refused = |kind| two.app().context().metrics.limited.of(kind).get();
    assert!(refused("direct_chats") > 0 && refused("groups") > 0);
    one.stop().await;
    two.stop().await;
}

/// A user that may send one message in 10 s, and two at once.
async fn slow(db: &Database) -> Node {
    Node::with(db.options(), |config| config.send_rate = 1).await
}

#[tokio::test]
async fn every_door_tells_when_to_come_again() {
    let db = database().await;
    let node = slow(&db).await;
    let anna = node.api("anna");
    let send = json!({"to": "ben", "content": "x"});
    let mut refused = (0, Value::Null);
    for _ in 0..3 {
        refused = anna.post("/v1/messages", send.clone()).await;
    }
    assert_eq!((refused.0, &refused.1["error"]["code"]), (429, &json!("rate_limited")), "{refused:?}");
    assert!(refused.1["error"]["retryAfterMs"].as_u64().is_some_and(|ms| ms > 0 && ms <= 10_000), "{refused:?}");

    let mut socket = node.connect("anna").await;
    for n in 0..101 {
        socket.ask_later("message:send", json!({"to": "ben", "content": n.to_string()})).await;
    }
    let error = socket.event("error").await;
    assert_eq!(error["code"], "rate_limited", "100 wait: {error}");
    assert!(error["retryAfterMs"].as_u64().is_some_and(|ms| ms > 0), "{error}");

    let answer = over_socketio(&node, "emil").await;
    let wait = answer.split("\"retryAfterMs\":").nth(1).and_then(|rest| rest.split([',', '}']).next()?.parse::<u64>().ok());
    assert!(wait.is_some_and(|ms| ms > 0), "{answer}");
    assert!(node.app().context().metrics.limited.of("messages").get() >= 3);
    node.stop().await;
}

/// A callback over Socket.IO that says that too many messages wait for the rate.
async fn over_socketio(node: &Node, user: &str) -> String {
    let (mut socket, _) = connect_async(format!("ws://{}/socket.io/?EIO=4&transport=websocket", node.addr())).await.unwrap();
    socket.send(Message::text(format!("40{}", json!({"token": token(user)})))).await.unwrap();
    // Two are sent, and 100 wait.
    for id in 0..110 {
        let event = json!(["message:send", {"to": "ben", "content": id.to_string()}]);
        socket.send(Message::text(format!("42{id}{event}"))).await.unwrap();
    }
    let refusal = async {
        loop {
            let frame = socket.next().await.unwrap().unwrap().into_text().unwrap();
            if frame.starts_with("43") && frame.contains("\"rate_limited\"") {
                return frame.to_string();
            }
        }
    };
    tokio::time::timeout(PATIENCE, refusal).await.unwrap()
}

#[tokio::test]
async fn addresses_are_refused_that_bring_too_many_bad_tokens_or_come_too_often() {
    let db = database().await;
    let node = Node::with(db.options(), |config| {
        config.failed_token_rate = 2;
        config.handshake_rate = 2;
    })
    .await;
    for _ in 0..4 {
        node.connect("anna").await.close().await;
    }
    let mut request = format!("ws://{}/ws", node.addr()).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "restante.v1".parse().unwrap());
    let mut late = Socket::request(request).await.unwrap();
    let error = late.event("error").await;
    assert_eq!(error["code"], "busy");
    assert!(error["retryAfterMs"].as_u64().is_some_and(|ms| ms > 0 && ms <= 5_000), "{error}");
    assert_eq!(late.closed().await, Some(4503));
    let (status, answer) = node.api("anna").get("/v1/stream").await;
    assert_eq!((status, &answer["error"]["code"]), (503, &json!("busy")), "{answer}");
    assert!(answer["error"]["retryAfterMs"].as_u64().is_some_and(|ms| ms > 0), "{answer}");

    let bad = || async {
        let answer = reqwest::Client::new().get(format!("{}/v1/chats", node.url())).bearer_auth("no token").send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    for _ in 0..5 {
        assert_eq!(bad().await.0, 401);
    }
    let (status, answer) = bad().await;
    assert_eq!((status, &answer["error"]["code"]), (429, &json!("rate_limited")), "{answer}");
    assert!(answer["error"]["retryAfterMs"].as_u64().is_some_and(|ms| ms > 0 && ms <= 5_000), "{answer}");
    assert_eq!(node.api("anna").get("/v1/chats").await.0, 429, "no token of that address is looked at");
    let refused = |kind| node.app().context().metrics.limited.of(kind).get();
    assert!(refused("failed_tokens") >= 2 && refused("handshakes") >= 1);
    assert_eq!(reqwest::get(format!("{}/healthz", node.url())).await.unwrap().status(), 200);
    node.stop().await;
}

#[tokio::test]
async fn a_raised_limit_counts_at_every_node_within_seconds_and_is_noted() {
    let db = database().await;
    let [one, two] = nodes::<2>(&db).await;
    let pool = db.pool(1).await;
    let admin = one.admin();
    assert_eq!(admin.post("/v1/admin/limits", json!({"userId": "anna", "factor": 5})).await.0, 404, "nobody knows her yet");
    one.connect("anna").await.close().await;
    let anna = UserId(number(&pool, "select id from users where external_id = 'anna'").await);
    let pace = |node: &Node| node.app().delivery().limits().pace(anna);
    let usual = pace(&one);

    let (status, answer) = admin.post("/v1/admin/limits", json!({"userId": "anna", "factor": 5})).await;
    assert_eq!((status, &answer), (200, &json!({"userId": "anna", "factor": 5})));
    wait_until("both nodes count by it", || [&one, &two].iter().all(|node| pace(node) == usual / 5)).await;
    let (_, list) = two.admin().get("/v1/admin/limits").await;
    assert_eq!((&list["limits"][0]["userId"], &list["limits"][0]["factor"], &list["next"]), (&json!("anna"), &json!(5), &Value::Null));

    sqlx::query("select restante_set_limit('anna', 1)").execute(&pool).await.unwrap();
    wait_until("both nodes have heard from SQL", || [&one, &two].iter().all(|node| pace(node) == usual)).await;
    let set = by_command(&db, &["limits", "set", "anna", "7"]).await;
    assert!(set.contains("the limits of anna are multiplied by 7"), "{set}");
    wait_until("both nodes have heard of the command", || [&one, &two].iter().all(|node| pace(node) == usual / 7)).await;
    let listed = by_command(&db, &["limits", "list"]).await;
    assert!(listed.starts_with("anna  7 times  since 2"), "{listed}");
    by_command(&db, &["limits", "set", "anna", "1"]).await;
    assert_eq!(by_command(&db, &["limits", "list"]).await, "");

    let noted = "select count(*) from audit where action = 'limits.set' and target->>'userId' = 'anna'";
    assert_eq!(number(&pool, noted).await, 5);
    assert_eq!(number(&pool, "select count(*) from audit where action = 'limits.set' and outcome = 'not_found'").await, 1);

    for body in [
        json!({"userId": "anna"}),
        json!({"userId": "anna", "factor": 0}),
        json!({"userId": "anna", "factor": 1_001}),
        json!({"factor": 2}),
    ] {
        assert_eq!(admin.post("/v1/admin/limits", body.clone()).await.0, 400, "{body}");
    }
    assert_eq!(one.api("anna").post("/v1/admin/limits", json!({"userId": "anna", "factor": 5})).await.0, 403);
    sqlx::query("select restante_set_limit('anna', 1001)").execute(&pool).await.expect_err("no factor");
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn points_that_are_owed_at_one_node_are_owed_at_the_others() {
    let db = database().await;
    let asks = |config: &mut Config| config.request_rate = 10;
    let (one, two) = (Node::with(db.options(), asks).await, Node::with(db.options(), asks).await);
    know_one_another(&[&one, &two]).await;
    let anna = restante::domain::ExternalId::try_from("anna".to_owned()).unwrap();
    let budget = |node: &Node| node.app().context().service.budget(&anna);
    budget(&one).count(15);
    // Her part of the rate at the other node is used up too.
    budget(&two).count(6);
    wait_until("the other has heard", || heard(&two) > 0).await;
    assert!(budget(&two).debt() > Duration::from_secs(3), "{:?}", budget(&two).debt());
    let refused = two.app().context().service.pay(&anna, 1, "http").await;
    assert!(matches!(refused, Err(Refusal::RateLimited(_))), "{refused:?}");
    one.stop().await;
    two.stop().await;
}
