//! The next holder of the id of an erased user: it is another user, so it sees nothing of what the erased one got, sent, or was shown, at
//! any door and on any node. Others keep what they have, and reach the next holder by the id.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::{DONE, ERASURES, ROOT, TOKENS_COUNT, run, word};
use crate::nodes::two_nodes;
use crate::rights::engine::Engine;
use crate::support::fixtures::assert_consistent;
use crate::support::{Connect, Database, Node, Socket, direct, group, number, token, until_true};

/// Things of anna from before she was erased.
struct Former {
    epoch: String,
    /// The place of her event stream.
    stream: String,
    crew: Uuid,
    pair: Uuid,
    /// Messages that she got.
    got: Vec<Value>,
    /// Messages that she sent: to ben, who had it, rejected it, or has it not, and to zoe, who was never there.
    sent: Vec<Value>,
    /// Ben, who stays online.
    _ben: Socket,
}

impl Former {
    /// Words of which the next holder may see none.
    fn secrets(&self) -> Vec<String> {
        let ids = self.got.iter().chain(&self.sent).map(|id| id.as_str().unwrap().to_owned());
        let names = ["ben", "cleo", "zoe", ROOT].map(|name| name.to_owned());
        ids.chain(names).chain([self.crew, self.pair].map(|chat| chat.to_string())).collect()
    }

    fn assert_unseen(&self, door: &str, seen: &str) {
        for secret in self.secrets() {
            assert!(!seen.contains(&secret), "{door} shows {secret}: {seen}");
        }
    }
}

/// Anna gets messages and an event and acks them, and sends messages of which each ends otherwise.
async fn live(one: &Node, other: &Node, pool: &PgPool) -> Former {
    let crew = group(pool, &["anna", "ben", "cleo"]).await;
    let mut tablet = one.open(Connect::user("anna").device("tablet")).await;
    tablet.until_pong().await;
    tablet.close().await;
    let mut anna = one.open(Connect::user("anna").device("phone")).await;
    let mut ben = other.connect("ben").await;
    let mut got = Vec::new();
    for n in 0..2 {
        ben.send("anna", &word(n)).await;
    }
    ben.ask("message:send", json!({"chatId": crew, "content": word(2)})).await;
    let event = json!({"type": "like", "data": {"text": word(3)}, "to": {"users": ["anna"]}});
    assert_eq!(other.publisher("ben").post("/v1/events", event).await.0, 200);
    for message in anna.receive(3).await {
        got.push(message["messageId"].clone());
    }
    anna.ack_up_to(3).await;
    got.push(anna.event("event:receive").await["eventId"].clone());
    anna.ask("message:delivered", json!({"upTo": 1, "class": "event"})).await;

    let mut sent = Vec::new();
    for (to, content) in [("ben", 4), ("ben", 5), ("ben", 6), ("zoe", 7)] {
        sent.push(anna.send(to, &word(content)).await["messageId"].clone());
    }
    let had = ben.receive(3).await;
    ben.ack(&had[0]).await;
    ben.ask("message:reject", json!({"messageId": had[1]["messageId"], "reason": word(8), "final": true})).await;
    let epoch = anna.ready["epoch"].as_str().unwrap().to_owned();
    let mut stream = one.stream("anna", "").await;
    stream.wait("the end", |sent| sent.event == "queue:drained").await;
    Former { epoch, stream: stream.last_id.clone(), crew, pair: direct(pool, "anna", "ben").await, got, sent, _ben: ben }
}

async fn erase(node: &Node, pool: &PgPool, content: &str) {
    assert_eq!(node.admin().post(ERASURES, json!({"userId": "anna", "content": content})).await.0, 200);
    until_true(pool, DONE).await;
    until_true(pool, TOKENS_COUNT).await;
}

/// All that a connection was told by the end of its inboxes.
async fn told(mut socket: Socket) -> String {
    let is_end = |frame: &Value| frame["event"] == "queue:drained" && frame["data"]["class"] == "event";
    let end = socket.wait("the end of the inboxes", is_end).await;
    let frames = socket.until_pong().await;
    format!("{} {end} {}", socket.ready, json!(frames))
}

/// The connections of the next holder, with what clients of the erased one may remember.
async fn connections(node: &Node, former: &Former) {
    let plain = Connect::user("anna");
    former.assert_unseen("a connection", &told(node.open(plain.clone()).await).await);
    let since = || plain.clone().with("epoch", &former.epoch).with("since", "0,event:0");
    let mut resumed = node.open(since()).await;
    for (class, last) in [("chat", 3), ("event", 1)] {
        let gap = resumed.wait("the gap", |frame| frame["event"] == "queue:gap" && frame["data"]["class"] == class).await;
        assert_eq!(gap["data"], json!({"class": class, "fromSeq": 1, "toSeq": last, "count": last, "reason": "purged"}));
    }
    former.assert_unseen("since", &told(resumed).await);
    for device in ["phone", "tablet"] {
        former.assert_unseen(device, &told(node.open(plain.clone().device(device)).await).await);
        former.assert_unseen(device, &told(node.open(since().device(device)).await).await);
    }
    for id in ["", &former.stream] {
        let mut stream = node.stream_again("anna", "", id).await;
        stream.wait("the end", |sent| sent.event == "queue:drained" && sent.data["class"] == "event").await;
        former.assert_unseen("a stream", &format!("{:?}", stream.skipped()));
    }
    let query = format!("&epoch={}&since=0,event:0", former.epoch);
    let mut engine = Engine::enter_with(node, &query, &json!({"token": token("anna")})).await;
    let mut heard = String::new();
    while !(heard.contains("queue:drained") && heard.contains("\"event\"")) {
        heard = engine.until(&["42["]).await;
        former.assert_unseen("Socket.IO", &heard);
    }
}

/// The requests of the next holder.
async fn requests(node: &Node, former: &Former) {
    let api = node.api("anna");
    for path in
        ["/v1/chats", "/v1/inbox", "/v1/inbox?class=event", "/v1/contacts", "/v1/blocks", "/v1/feeds?role=publisher", "/v1/invitations"]
    {
        let (status, answer) = api.get(path).await;
        assert_eq!(status, 200, "{path}: {answer}");
        former.assert_unseen(path, &answer.to_string());
    }
    let (_, seen) = api.get("/v1/presence?userIds=ben,cleo,zoe").await;
    for user in seen["users"].as_array().unwrap() {
        assert_eq!((&user["online"], &user["lastSeen"]), (&json!(false), &Value::Null), "nobody shares a chat with it: {seen}");
    }
    for id in former.got.iter().chain(&former.sent) {
        let id = id.as_str().unwrap();
        assert_eq!(api.get(&format!("/v1/messages/{id}/status")).await.0, 404, "{id}");
        assert_eq!(api.post(&format!("/v1/messages/{id}/recall"), json!({})).await.0, 404, "{id}");
    }
    for chat in [former.crew, former.pair] {
        assert_eq!(api.get(&format!("/v1/chats/{chat}/messages")).await.0, 403);
        assert!(matches!(api.get(&format!("/v1/chats/{chat}")).await.0, 403 | 404));
        assert_eq!(api.post(&format!("/v1/chats/{chat}/read"), json!({"seq": 1})).await.0, 403);
        assert_eq!(api.post("/v1/messages", json!({"chatId": chat, "content": "x"})).await.0, 403);
    }
}

/// Others keep the old chat, in which nothing is accepted any more, and begin a new one by the id.
async fn others(one: &Node, other: &Node, former: &Former) {
    let (mut anna, mut ben) = (one.connect("anna").await, other.connect("ben").await);
    let refused = ben.ask("message:send", json!({"chatId": former.pair, "content": "still there?"})).await;
    assert_eq!(refused["data"]["code"], "not_accepted", "{refused}");
    let (_, history) = other.api("ben").get(&format!("/v1/chats/{}/messages", former.pair)).await;
    assert_eq!(history["messages"].as_array().unwrap().len(), 5, "the other member keeps it");
    let (_, statuses) = other.api("ben").get(&format!("/v1/messages/{}/status", former.got[0].as_str().unwrap())).await;
    assert_eq!(
        (&statuses["statuses"][0]["userId"], &statuses["statuses"][0]["status"]),
        (&json!("anna"), &json!("delivered")),
        "{statuses}"
    );

    ben.send("anna", "welcome").await;
    let welcome = anna.receive(1).await.remove(0);
    assert_eq!((&welcome["content"], &welcome["inboxSeq"]), (&json!("welcome"), &json!(4)), "numbers go on");
    assert_ne!(welcome["chatId"], json!(former.pair));
    anna.ack(&welcome).await;
    let answer = anna.send("ben", "thank you").await;
    assert_eq!(answer["chatId"], welcome["chatId"]);
    let first = ben.wait("the answer", |frame| frame["data"]["content"] == "thank you").await;
    assert_eq!(first["data"]["senderId"], "anna");
    let (status, statuses) = one.api("anna").get(&format!("/v1/messages/{}/status", answer["messageId"].as_str().unwrap())).await;
    assert_eq!((status, &statuses["statuses"][0]["userId"]), (200, &json!("ben")));
}

async fn nothing_is_seen(content: &str) {
    let (_db, one, other, pool) = two_nodes().await;
    let former = live(&one, &other, &pool).await;
    erase(&other, &pool, content).await;
    for node in [&one, &other] {
        connections(node, &former).await;
        requests(node, &former).await;
    }
    others(&one, &other, &former).await;
    assert_consistent(&pool).await;
    one.stop().await;
    other.stop().await;
}

/// Broken by a name that does not pass on: everything was shown with `since=0`.
#[tokio::test]
async fn it_sees_nothing_of_the_erased_user_where_content_was_kept() {
    nothing_is_seen("keep").await;
}

/// Broken likewise: marks and statuses of messages that were emptied were told.
#[tokio::test]
async fn it_sees_nothing_of_the_erased_user_where_content_was_emptied() {
    nothing_is_seen("empty").await;
}

/// Broken by blocks that stay with the erased user, or that pass on one part at a time and leave the rest.
#[tokio::test]
async fn it_stays_blocked_by_those_who_had_blocked_the_id() {
    let (_db, one, other, pool) = two_nodes().await;
    let mut anna = one.connect("anna").await;
    anna.send("dora", "hello").await;
    assert_eq!(other.api("dora").post("/v1/blocks", json!({"userId": "anna"})).await.0, 200);
    let crowd = "insert into blocks (user_id, other_id) select b.id, u.id from restante_users(array(select 'user-' || n from generate_series(1, 2500) n)) b, users u \
                 where u.external_id = 'anna'";
    run(&pool, crowd).await;
    erase(&one, &pool, "keep").await;
    let mut anna = one.connect("anna").await;
    for to in ["dora", "user-999"] {
        let refused = anna.ask("message:send", json!({"to": to, "content": "hello"})).await;
        assert_eq!(refused["data"]["code"], "not_accepted", "{to}: {refused}");
    }
    let (_, blocked) = other.api("dora").get("/v1/blocks").await;
    assert_eq!(blocked["blocks"].as_array().map(Vec::len), Some(1), "{blocked}");
    assert_consistent(&pool).await;
    assert_eq!(other.api("dora").delete("/v1/blocks", json!({"userId": "anna"})).await.0, 200);
    anna.send("dora", "hello again").await;
    assert_eq!(number(&pool, "select count(*) from blocks").await, 2500);
    one.stop().await;
    other.stop().await;
}

/// Broken by a connection that lives on as the erased user, which nothing reaches any more.
#[tokio::test]
async fn one_that_comes_before_the_name_has_passed_on_is_closed_and_comes_again_as_the_new_user() {
    let db: Database = crate::support::database().await;
    let pool = db.pool(2).await;
    let node = Node::with(db.options(), |config| config.jwt_leeway = Duration::from_secs(1)).await;
    node.connect("anna").await.send("ben", "hello").await;
    assert_eq!(node.admin().post(ERASURES, json!({"userId": "anna", "content": "keep"})).await.0, 200);
    // Tokens count in seconds, and an issuer may be ahead by one.
    until_true(&pool, "select clock_timestamp() >= date_trunc('second', revoked_at) + interval '3 s' from revocations").await;
    let mut early = node.connect("anna").await;
    assert_eq!((early.error().await, early.closed().await), (json!("token_revoked"), Some(4401)));
    until_true(&pool, DONE).await;
    until_true(&pool, TOKENS_COUNT).await;
    assert_eq!(node.api("anna").get("/v1/chats").await.1["chats"], json!([]));
    let (status, again) = node.admin().get(&format!("{ERASURES}?userId=anna")).await;
    assert_eq!((status, again["doneAt"].is_string()), (200, true), "the erasure is found by the name: {again}");

    // The next one is erased by the same name.
    node.connect("anna").await.send("ben", "it is me").await;
    erase(&node, &pool, "keep").await;
    assert_eq!(number(&pool, "select count(*) from users where external_id = 'anna'").await, 3);
    assert_eq!(number(&pool, "select count(*) from users where external_id = 'anna' and is_current").await, 1);
    assert_eq!(node.api("anna").get("/v1/chats").await.1["chats"], json!([]));
    assert_consistent(&pool).await;
    node.stop().await;
}
