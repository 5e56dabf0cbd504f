//! Server-sent events, `GET /v1/stream`: what waits comes in order and at the pace of acks that come over HTTP, and a client that comes back
//! goes on where it had acked. `ends` has how a stream is refused and how it ends.

mod ends;

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::fixtures::assert_consistent;
use crate::support::{Node, Sent, Socket, Stream, database, direct, fill, number, rows, statuses, until_true};

/// The numbers of messages in the inbox.
fn numbers(messages: &[Value]) -> Vec<i64> {
    messages.iter().map(|message| message["inboxSeq"].as_i64().unwrap()).collect()
}

/// Waits until the chat inbox is drained, and returns up to where.
async fn drained(stream: &mut Stream) -> Value {
    stream.wait("queue:drained of messages", |sent| sent.event == "queue:drained" && sent.data["class"] == "chat").await.data["inboxSeq"]
        .take()
}

/// Anna in her chat with Ben. What she types comes after everything that was sent to him before.
struct Typist {
    anna: Socket,
    chat: Uuid,
    typing: bool,
}

impl Typist {
    async fn of(node: &Node, chat: Uuid) -> Self {
        Self { anna: node.connect("anna").await, chat, typing: false }
    }

    /// The messages that had been sent to this stream of Ben's by now, and that the test has not taken.
    async fn messages_before_now(&mut self, ben: &mut Stream) -> Vec<Sent> {
        self.typing = !self.typing;
        self.anna.tell("typing", json!({"chatId": self.chat, "typing": self.typing})).await;
        ben.wait("what Anna types", |sent| sent.event == "typing" && sent.data["typing"] == self.typing).await;
        ben.skipped().iter().filter(|sent| sent.event == "message:receive").cloned().collect()
    }
}

#[tokio::test]
async fn what_waits_comes_in_order_and_no_more_than_the_window_before_acks_come_over_http() {
    let db = database().await;
    let pool = db.pool(2).await;
    let chat = direct(&pool, "anna", "ben").await;
    fill(&pool, chat, "anna", 120).await;
    let node = Node::start(db.options()).await;
    let mut anna = Typist::of(&node, chat).await;
    let mut ben = node.stream("ben", "window=20").await;
    assert_eq!(ben.header("content-type"), Some("text/event-stream"));
    assert_eq!((ben.header("cache-control"), ben.header("x-accel-buffering")), (Some("no-store"), Some("no")));
    let mut came = Vec::new();
    for _ in 0..6 {
        let page = ben.receive(20).await;
        assert_eq!(anna.messages_before_now(&mut ben).await, []);
        ben.ack(&page).await;
        came.extend(numbers(&page));
    }
    assert_eq!(came, Vec::from_iter(1..=120));
    assert_eq!(drained(&mut ben).await, 120);
    assert_eq!(statuses(&pool, "ben").await, ["delivered"; 120]);
    assert_eq!(number(&pool, "select count(*) from message_status where attempts > 0").await, 0);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn an_ack_over_http_at_another_node_frees_the_window_of_the_stream() {
    let db = database().await;
    let pool = db.pool(2).await;
    fill(&pool, direct(&pool, "anna", "ben").await, "anna", 12).await;
    let patient = |config: &mut restante::config::Config| config.look_interval = Duration::from_secs(3_600);
    let (here, there) = (Node::with(db.options(), patient).await, Node::with(db.options(), patient).await);
    for device in ["", "device=phone"] {
        let mut ben = here.stream("ben", &format!("window=4&{device}")).await;
        let api = there.api("ben");
        let path = format!("/v1/inbox/ack?{device}");
        let first = ben.receive(4).await;
        let ids: Vec<&Value> = first.iter().map(|message| &message["messageId"]).collect();
        assert_eq!(api.post(&path, json!({"messageIds": ids})).await.0, 200);
        let second = ben.receive(4).await;
        let up_to = second.last().unwrap()["inboxSeq"].clone();
        assert_eq!(api.post(&path, json!({"upTo": up_to})).await.0, 200);
        assert_eq!(numbers(&ben.receive(4).await).last(), Some(&(up_to.as_i64().unwrap() + 4)));
        // For the device that comes next, which begins before the oldest message that waits.
        drop(ben);
        assert_eq!(api.post("/v1/inbox/ack", json!({"upTo": 12})).await.0, 200);
        fill(&pool, direct(&pool, "anna", "ben").await, "anna", 12).await;
    }
    here.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn an_ack_of_another_client_frees_no_place_of_a_device() {
    let db = database().await;
    let pool = db.pool(2).await;
    let chat = direct(&pool, "anna", "ben").await;
    fill(&pool, chat, "anna", 2).await;
    let node = Node::start(db.options()).await;
    let mut anna = Typist::of(&node, chat).await;
    let (mut phone, mut tablet) = (node.stream("ben", "device=phone&window=1").await, node.stream("ben", "device=tablet&window=1").await);
    let (one, same) = (phone.receive(1).await, tablet.receive(1).await);
    assert_eq!(one[0]["messageId"], same[0]["messageId"]);
    tablet.ack(&same).await;
    assert_eq!(numbers(&tablet.receive(1).await), [2]);
    // A client that names no device is another client, too.
    assert_eq!(node.api("ben").post("/v1/inbox/ack", json!({"messageIds": [one[0]["messageId"]]})).await.0, 200);
    assert_eq!(anna.messages_before_now(&mut phone).await, []);
    phone.ack(&one).await;
    assert_eq!(numbers(&phone.receive(1).await), [2]);
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_had_not_acked_and_nothing_that_it_had() {
    let db = database().await;
    let pool = db.pool(2).await;
    let chat = direct(&pool, "anna", "ben").await;
    fill(&pool, chat, "anna", 12).await;
    let node = Node::start(db.options()).await;
    let mut anna = Typist::of(&node, chat).await;
    for device in ["", "device=phone"] {
        let query = format!("window=5&{device}");
        let mut ben = node.stream("ben", &query).await;
        let first = ben.receive(5).await;
        let before = ben.last_id.clone();
        ben.ack(&first[..3]).await;
        ben.moved_from(&before).await;
        // Three more have come by now, or are under way. They are not acked.
        let id = ben.last_id.clone();
        drop(ben);
        let mut ben = node.stream_again("ben", &query, &id).await;
        let begin = first[3]["inboxSeq"].as_i64().unwrap();
        let again = ben.receive(5).await;
        assert_eq!(numbers(&again), Vec::from_iter(begin..begin + 5), "{id}");
        ben.ack(&again).await;
        let rest = ben.receive(4).await;
        ben.ack(&rest).await;
        assert_eq!(numbers(&rest), Vec::from_iter(begin + 5..begin + 9));
        drained(&mut ben).await;
        let end = ben.last_id.clone();
        drop(ben);
        let mut ben = node.stream_again("ben", &query, &end).await;
        assert_eq!(anna.messages_before_now(&mut ben).await, [], "everything was acked: {end}");
        drop(ben);
        // For the device that comes next.
        fill(&pool, chat, "anna", 12).await;
    }
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn the_query_resumes_as_on_the_socket_and_an_id_of_another_epoch_says_nothing() {
    let db = database().await;
    let pool = db.pool(2).await;
    fill(&pool, direct(&pool, "anna", "ben").await, "anna", 3).await;
    let node = Node::start(db.options()).await;
    let ben = node.connect("ben").await;
    let epoch = ben.ready["epoch"].as_str().unwrap().to_owned();
    ben.close().await;
    let mut ben = node.stream("ben", &format!("epoch={epoch}&since=1")).await;
    assert_eq!(numbers(&ben.receive(2).await), [2, 3]);
    until_true(&pool, "select count(*) = 1 from message_status where status = 'delivered'").await;
    drop(ben);
    let mut ben = node.stream_again("ben", "", "0123456789abcdef;3,alert:0,event:0").await;
    assert_eq!(numbers(&ben.receive(2).await), [2, 3]);
    assert_eq!(rows(&pool, "ben").await.iter().filter(|row| row.status == "sent").count(), 2);
    node.stop().await;
}

#[tokio::test]
async fn alerts_events_gaps_and_recalls_come_under_their_names() {
    let db = database().await;
    let pool = db.pool(2).await;
    fill(&pool, direct(&pool, "anna", "ben").await, "anna", 1).await;
    let node = Node::start(db.options()).await;
    let (anna, shop) = (node.api("anna"), node.publisher("shop"));
    let mut ben = node.stream("ben", "device=phone").await;
    let first = ben.receive(1).await;
    ben.ack(&first).await;
    drop(ben);
    let (_, sent) = anna.post("/v1/messages", json!({"to": "ben", "content": "not for long"})).await;
    sqlx::query("update messages set expires_at = now() - interval '1 second' where id = $1::uuid")
        .bind(sent["messageId"].as_str().unwrap())
        .execute(&pool)
        .await
        .unwrap();
    let (_, kept) = anna.post("/v1/messages", json!({"to": "ben", "content": "kept"})).await;
    for urgent in [false, true] {
        let event = json!({"type": "new_post", "data": {"n": 1}, "to": {"users": ["ben"]}, "urgent": urgent});
        assert_eq!(shop.post("/v1/events", event).await.0, 200);
    }
    let mut ben = node.stream("ben", "device=phone").await;
    let gap = ben.event("queue:gap").await;
    assert_eq!((&gap["reason"], &gap["class"]), (&json!("expired"), &json!("chat")));
    let message = ben.receive(1).await;
    assert_eq!(message[0]["messageId"], kept["messageId"]);
    let mut classes = Vec::new();
    for _ in 0..2 {
        let event = ben.event("event:receive").await;
        assert_eq!(event["data"], json!({"n": 1}));
        classes.push(event["class"].as_str().unwrap().to_owned());
        ben.ack(&[json!({"messageId": event["eventId"]})]).await;
    }
    classes.sort_unstable();
    assert_eq!(classes, ["alert", "event"]);
    ben.ack(&message).await;
    assert_eq!(anna.post(&format!("/v1/messages/{}/recall", kept["messageId"].as_str().unwrap()), json!({})).await.0, 200);
    assert_eq!(ben.event("message:recalled").await["messageId"], kept["messageId"]);
    node.stop().await;
}

#[tokio::test]
async fn a_reject_over_http_brings_the_message_again_and_the_last_one_ends_it() {
    let db = database().await;
    let pool = db.pool(1).await;
    fill(&pool, direct(&pool, "anna", "ben").await, "anna", 1).await;
    // Long before the time for an ack is over.
    let node = Node::with(db.options(), |config| config.ack_timeout = Duration::from_secs(3_600)).await;
    let mut ben = node.stream("ben", "device=phone").await;
    let first = ben.receive(1).await;
    let reject = |is_final: bool| json!({"messageId": first[0]["messageId"], "reason": "cannot decode", "final": is_final});
    let (status, answer) = node.api("ben").post("/v1/inbox/reject?device=phone", reject(false)).await;
    assert_eq!((status, &answer["attempts"]), (200, &json!(1)));
    assert_eq!(ben.receive(1).await[0]["attempt"], 2);
    assert_eq!(node.api("ben").post("/v1/inbox/reject?device=phone", reject(true)).await.0, 200);
    assert_eq!(ben.event("queue:gap").await["reason"], "failed");
    assert_eq!(statuses(&pool, "ben").await, ["failed"]);
    node.stop().await;
}

#[tokio::test]
async fn two_doors_in_one_chat_serve_the_same_messages_receipts_and_notices() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::start(db.options()).await;
    let (mut anna, mut ben) = (node.connect("anna").await, node.stream("ben", "").await);
    let sent = anna.send("ben", "from a socket").await;
    let got = ben.receive(1).await;
    assert_eq!((&got[0]["messageId"], &got[0]["content"]), (&sent["messageId"], &json!("from a socket")));
    ben.ack(&got).await;
    let receipt = anna.event("message:status").await;
    assert_eq!((&receipt["status"], &receipt["userId"]), (&json!("delivered"), &json!("ben")));
    let (_, back) = node.api("ben").post("/v1/messages", json!({"to": "anna", "content": "over HTTP"})).await;
    let received = anna.event("message:receive").await;
    assert_eq!(received["messageId"], back["messageId"]);
    assert_eq!(ben.event("message:sent").await["messageId"], back["messageId"], "the user's other connections are shown it");
    anna.ack(&received).await;
    let receipt = ben.event("message:status").await;
    assert_eq!((&receipt["status"], &receipt["messageIds"]), (&json!("delivered"), &json!([back["messageId"]])));
    let chat = sent["chatId"].clone();
    anna.tell("typing", json!({"chatId": chat, "typing": true})).await;
    assert_eq!(ben.event("typing").await["typing"], true);
    let presence = anna.ask("presence:get", json!({"userIds": ["ben"]})).await;
    assert_eq!(presence["data"]["users"][0]["online"], true);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn what_a_client_has_sent_begins_no_line_of_the_stream() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (mut anna, mut ben) = (node.connect("anna").await, node.stream("ben", "").await);
    let metadata = "{\"a\":\n\"x\",\r\n\"b\":\r\n\r\n1,\n\n\"c\":[\r\"\\n\\r\"]}";
    let data = format!(r#"{{"to":"ben","content":"one\nevent: forged\r\rdata: {{}}","metadata":{metadata}}}"#);
    anna.text(format!(r#"{{"event":"message:send","id":1,"data":{data}}}"#)).await;
    let got = ben.receive(1).await;
    assert_eq!(got[0]["content"], "one\nevent: forged\r\rdata: {}");
    assert_eq!(got[0]["metadata"], json!({"a": "x", "b": 1, "c": ["\n\r"]}));
    assert!(ben.skipped().iter().all(|sent| sent.event.starts_with("queue:") || sent.event.starts_with("user:")), "{:?}", ben.skipped());
    node.stop().await;
}

#[tokio::test]
async fn a_stream_is_not_compressed_and_each_event_comes_at_once() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let request = node.stream_request("ben", "").header("accept-encoding", "gzip");
    let mut ben = Stream::of(request.send().await.unwrap(), node.api("ben"), None);
    ben.event("ready").await;
    assert_eq!(ben.header("content-encoding"), None);
    let mut anna = node.connect("anna").await;
    for n in 0..20 {
        let sent = anna.send("ben", &format!("{n}{}", "x".repeat(2_000))).await;
        assert_eq!(ben.receive(1).await[0]["messageId"], sent["messageId"]);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_heartbeat_is_a_comment_and_needs_no_answer() {
    let db = database().await;
    let node = Node::with(db.options(), |config| config.heartbeat = Duration::from_millis(50)).await;
    let mut ben = node.stream("ben", "").await;
    let mut anna = node.connect("anna").await;
    // More of them than a client of a socket may leave unanswered.
    while ben.comments < 5 {
        anna.send("ben", "to wait for").await;
        let got = ben.receive(1).await;
        ben.ack(&got).await;
    }
    node.stop().await;
}
