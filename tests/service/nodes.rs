//! Several nodes on one database: what one has committed, the others tell their clients at once. No session looks for
//! itself in these tests, save where it is told to.

use std::time::Duration;

use restante::app;
use restante::config::Config;
use restante::domain::{ChatId, ChatSeq, Class, UserId};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{
    Connect, Database, Node, Socket, StallingProxy, database, direct, fill, group, number, until_true, users, wait_until,
};

/// No slow look in these tests.
pub fn never(config: &mut Config) {
    config.look_interval = Duration::from_secs(3_600);
}

/// Two nodes that know of one another.
pub async fn two_nodes() -> (Database, Node, Node, PgPool) {
    let db = database().await;
    let one = Node::with(db.options(), never).await;
    let other = Node::with(db.options(), never).await;
    know_one_another(&[&one, &other]).await;
    let pool = db.pool(2).await;
    (db, one, other, pool)
}

pub async fn know_one_another(nodes: &[&Node]) {
    let count = i64::try_from(nodes.len()).unwrap();
    for node in nodes {
        let live = &node.app().context().metrics.live_nodes;
        let others = node.app().context();
        wait_until("the nodes know one another", || !others.notifier.is_alone() && live.get() >= count).await;
    }
}

fn sent(node: &Node, kind: &'static str) -> u64 {
    node.app().context().metrics.bus_sent.of(kind).get()
}

#[tokio::test]
async fn a_message_accepted_at_one_node_is_received_at_another_and_its_receipts_come_back() {
    let (_db, one, other, pool) = two_nodes().await;
    let chat = direct(&pool, "alice", "bob").await.to_string();
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    let answer = alice.send("bob", "from node to node").await;
    let message = bob.event("message:receive").await;
    assert_eq!(
        (&message["content"], &message["inboxSeq"], &message["senderId"]),
        (&json!("from node to node"), &json!(1), &json!("alice"))
    );
    assert_eq!((&message["messageId"], &message["createdAt"]), (&answer["messageId"], &answer["createdAt"]));
    bob.ack(&message).await;
    let status = alice.event("message:status").await;
    assert_eq!(
        (&status["status"], &status["messageIds"], &status["userId"]),
        (&json!("delivered"), &json!([answer["messageId"]]), &json!("bob"))
    );
    bob.ask("message:read", json!({"chatId": chat, "seq": 1})).await;
    assert_eq!(alice.event("message:status").await["status"], "read");
    let reads = other.app().context().metrics.page_reads.of("chat").get();
    alice.send("bob", "without a read").await;
    bob.event("message:receive").await;
    assert_eq!(other.app().context().metrics.page_reads.of("chat").get(), reads, "the envelope came along");
    assert!(sent(&one, "offer") >= 2 && sent(&other, "receipt") >= 2);
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_into_a_notification_is_received_all_the_same() {
    let (_db, one, other, pool) = two_nodes().await;
    let names: Vec<String> = (0..150).map(|n| format!("member-{n}")).collect();
    let members: Vec<&str> = ["alice", "bob"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let chat = group(&pool, &members).await;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    let large = "\u{20AC}".repeat(10_000);
    alice.send("bob", &large).await;
    assert_eq!(bob.event("message:receive").await["content"], large.as_str());
    alice.ask("message:send", json!({"chatId": chat, "content": "to many"})).await;
    assert_eq!(bob.event("message:receive").await["content"], "to many");
    assert!(one.app().context().metrics.bus_degraded.of("offer").get() >= 2);
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn what_a_user_sends_is_shown_on_its_connections_at_other_nodes_whatever_its_size() {
    let (_db, one, other, pool) = two_nodes().await;
    let names: Vec<String> = (0..120).map(|n| format!("member-{n}")).collect();
    let many: Vec<&str> = ["alice"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let (large, alone) = (group(&pool, &many).await, group(&pool, &["alice"]).await);
    let small = direct(&pool, "alice", "bob").await;
    let (mut alice, mut also_alice) = (one.connect("alice").await, other.connect("alice").await);
    let mut contents: Vec<String> = [100, 5_000, 5_500, 5_900, 6_000, 7_500, 7_900, 8_000, 32_768].map(|bytes| "x".repeat(bytes)).to_vec();
    contents.push("\u{1}".repeat(3_000));
    let sends = contents.iter().flat_map(|content| [small, large, alone].map(|chat| json!({"chatId": chat, "content": content})));
    let with_metadata = json!({"chatId": small, "content": "with metadata", "metadata": {"of": "m".repeat(8_000)}});
    for send in sends.chain([with_metadata]) {
        let answer = alice.ask("message:send", send.clone()).await;
        assert_eq!(answer["event"], "message:sent", "{answer}");
        let echo = also_alice.event("message:sent").await;
        assert_eq!((&echo["messageId"], &echo["seq"]), (&answer["data"]["messageId"], &answer["data"]["seq"]));
        assert_eq!((&echo["content"], &echo["senderId"]), (&send["content"], &json!("alice")));
        assert_eq!(echo["metadata"], send["metadata"]);
    }
    assert!(other.app().context().metrics.bus_received.of("echo").get() >= 10, "most of them did not fit");
    one.stop().await;
    other.stop().await;
}

/// Nobody looks for itself in this test: what a stopping node still has to tell must be told.
#[tokio::test]
async fn what_a_node_has_still_to_tell_when_it_stops_is_told() {
    let (_db, one, other, pool) = two_nodes().await;
    let chat = direct(&pool, "alice", "bob").await;
    let ids = users(&pool, &["alice", "bob"]).await;
    let mut bob = other.connect("bob").await;
    fill(&pool, chat, "alice", 1).await;
    let looks = other.app().context().metrics.wakes.of("check").get();
    let notifier = one.app().context().notifier.clone();
    // More than a few transactions hold, before what counts.
    for _ in 0..10_000 {
        notifier.read_up_to(UserId(ids[0]), None, ChatId(chat), ChatSeq(1));
    }
    notifier.wake(UserId(ids[1]), Class::Chat);
    one.stop().await;
    bob.event("message:receive").await;
    until_true(&pool, "select count(*) = 1 from nodes where not is_leaving").await;
    wait_until("the other knows that it is alone", || other.app().context().notifier.is_alone()).await;
    assert_eq!(other.app().context().metrics.wakes.of("check").get(), looks, "a node that has told everything leaves nothing to look for");
    other.stop().await;
}

#[tokio::test]
async fn typing_membership_and_own_messages_reach_sessions_at_other_nodes() {
    let (_db, one, other, pool) = two_nodes().await;
    let chat = group(&pool, &["alice", "bob"]).await;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    let mut also_alice = other.connect("alice").await;
    alice.tell("typing", json!({"chatId": chat, "typing": true})).await;
    assert_eq!(bob.event("typing").await, json!({"chatId": chat, "userId": "alice", "typing": true}));
    let answer = alice.send("bob", "seen by myself").await;
    let echo = also_alice.event("message:sent").await;
    assert_eq!((&echo["messageId"], &echo["content"]), (&answer["messageId"], &json!("seen by myself")));
    assert!(alice.until_pong().await.iter().all(|frame| frame["event"] != "message:sent"), "the session that sent it has its answer");
    let path = format!("/v1/chats/{chat}/members");
    one.api("alice").post(&path, json!({"userIds": ["carol"]})).await;
    let mut carol = other.connect("carol").await;
    one.api("alice").delete(&path, json!({"userIds": ["carol"]})).await;
    assert_eq!(carol.event("chat:removed").await["chatId"], json!(chat));
    one.api("alice").post(&path, json!({"userIds": ["carol"]})).await;
    assert_eq!(carol.event("chat:added").await["chatId"], json!(chat));
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn what_a_user_has_read_at_one_node_is_settled_for_its_session_at_another() {
    let (_db, one, other, pool) = two_nodes().await;
    let chat = direct(&pool, "alice", "bob").await;
    let mut phone = one.connect("bob").await;
    let mut laptop = other.open(Connect::user("bob").with("window", 1)).await;
    let mut alice = one.connect("alice").await;
    alice.send("bob", "first").await;
    assert_eq!(laptop.event("message:receive").await["seq"], 1);
    alice.send("bob", "second").await;
    assert_eq!(phone.receive(2).await.len(), 2);
    phone.ask("message:read", json!({"chatId": chat, "seq": 1})).await;
    // Its window had no room until it was told.
    assert_eq!(laptop.event("message:receive").await["seq"], 2);
    laptop.ask("message:read", json!({"chatId": chat, "seq": 2})).await;
    alice.wait("read", |frame| frame["data"]["status"] == "read" && frame["data"]["seq"] == 2).await;
    until_true(&pool, "select bool_and(status = 'read') from message_status").await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn of_two_sockets_of_a_device_at_two_nodes_exactly_one_lives() {
    let (_db, one, other, pool) = two_nodes().await;
    let mut alice = one.connect("alice").await;
    for round in 1..=20 {
        let open = |node: &Node| Socket::raw(node.addr(), Connect::user("bob").device("phone"));
        let (first, second) = tokio::join!(open(&one), open(&other));
        let (mut first, mut second) = (first.unwrap(), second.unwrap());
        let (code, mut survivor) = tokio::select! {
            code = first.closed() => (code, second),
            code = second.closed() => (code, first),
        };
        assert_eq!(code, Some(4509), "round {round}");
        let content = format!("round {round}");
        alice.send("bob", &content).await;
        let message = survivor.wait("the message", |frame| frame["data"]["content"] == content.as_str()).await;
        survivor.ack(&message["data"]).await;
        // One lives on until the next round displaces it.
        survivor.until_pong().await;
    }
    assert_eq!(number(&pool, "select session_no from devices").await, 40);
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_connection_that_was_overtaken_while_it_opened_yields() {
    let (_db, one, other, pool) = two_nodes().await;
    // Another node opens a newer one right after this one has its number, and says so before this one can hear it.
    let overtake = "create function overtake() returns trigger language plpgsql as $$
                    begin update devices set session_no = session_no + 1 where user_id = new.user_id; return null; end $$;
                    create trigger overtake after insert on devices for each row execute function overtake()";
    sqlx::raw_sql(overtake).execute(&pool).await.unwrap();
    let mut overtaken = Socket::raw(one.addr(), Connect::user("bob").device("phone")).await.unwrap();
    assert_eq!(overtaken.closed().await, Some(4509));
    assert_eq!(one.app().context().hub.sessions(), 0, "it is forgotten");
    let mut newest = other.open(Connect::user("bob").device("phone")).await;
    newest.until_pong().await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_device_whose_newer_connection_was_told_to_nobody_is_displaced_by_a_look() {
    let (_db, one, other, pool) = two_nodes().await;
    let mut phone = one.open(Connect::user("bob").device("phone")).await;
    sqlx::query("update devices set session_no = session_no + 1").execute(&pool).await.unwrap();
    terminate_listeners(&pool).await;
    assert_eq!(phone.closed().await, Some(4509));
    one.stop().await;
    other.stop().await;
}

async fn terminate_listeners(pool: &PgPool) {
    const TERMINATE: &str = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                             where datname = current_database() and query like 'LISTEN%' and pid <> pg_backend_pid()";
    let listens = "select count(*) > 0 from pg_stat_activity where datname = current_database() and query like 'LISTEN%'";
    until_true(pool, listens).await;
    assert!(number(pool, TERMINATE).await > 0);
}

#[tokio::test]
async fn a_message_arrives_although_the_listeners_backend_was_terminated() {
    let (_db, one, other, pool) = two_nodes().await;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    for round in 0..3 {
        terminate_listeners(&pool).await;
        let content = format!("round {round}");
        alice.send("bob", &content).await;
        let message = bob.event("message:receive").await;
        assert_eq!(message["content"], content);
        bob.ack(&message).await;
        // By name, or up to a mark: the receipt was lost, or not.
        alice.wait("delivered", |frame| frame["event"] == "message:status" && frame["data"]["seq"] == round + 1).await;
    }
    assert!(other.app().context().metrics.listener_connects.get() >= 3);
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_listener_whose_connection_is_dead_without_a_word_is_noticed() {
    let db = database().await;
    let proxy = StallingProxy::start(&db.options());
    let one = Node::with(db.options(), never).await;
    let through = app::Database { options: db.options(), direct: proxy.options(&db.options()) };
    let other = Node::on(through, never).await;
    know_one_another(&[&one, &other]).await;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    alice.send("bob", "before").await;
    bob.event("message:receive").await;
    proxy.stall();
    alice.send("bob", "into the void").await;
    let message = bob.event("message:receive").await;
    assert_eq!(message["content"], "into the void");
    alice.send("bob", "after").await;
    bob.event("message:receive").await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_sender_whose_receipts_are_lost_between_nodes_learns_of_them_by_its_own_look() {
    let (_db, one, other, pool) = two_nodes().await;
    let often = |config: &mut Config| config.look_interval = Duration::from_millis(200);
    let third = Node::with(_db.options(), often).await;
    know_one_another(&[&third]).await;
    let chat = direct(&pool, "alice", "bob").await;
    let mut alice = third.connect("alice").await;
    alice.send("bob", "who will tell me").await;
    // As a node does that dies right after its commit.
    let ack = "select count(*) from users u, restante_read(array[u.id], array[$1], '{1}', 2000) where u.external_id = 'bob'";
    sqlx::query(ack).bind(chat).execute(&pool).await.unwrap();
    let status = alice.wait("read", |frame| frame["event"] == "message:status" && frame["data"]["status"] == "read").await;
    assert_eq!((&status["data"]["kind"], &status["data"]["seq"]), (&json!("mark"), &json!(1)));
    for node in [one, other, third] {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_node_that_is_alone_tells_nobody_anything() {
    let db = database().await;
    let node = Node::with(db.options(), never).await;
    let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);
    alice.send("bob", "just us").await;
    let message = bob.event("message:receive").await;
    bob.ack(&message).await;
    alice.event("message:status").await;
    let text = node.app().context().metrics.render();
    assert!(!text.contains("restante_bus_sent_total{") && !text.contains("restante_bus_degraded_total{"), "{text}");
    assert!(text.contains("restante_live_nodes 1"), "{text}");
    node.stop().await;
}

#[tokio::test]
async fn a_requeued_message_is_received_at_whatever_node_its_recipient_is() {
    let (_db, one, other, pool) = two_nodes().await;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    alice.send("bob", "hard to decode").await;
    let message = bob.event("message:receive").await;
    bob.ask("message:reject", json!({"messageId": message["messageId"], "reason": "cannot decode", "final": true})).await;
    let status: Value = alice.event("message:status").await;
    assert_eq!((&status["status"], &status["reason"]), (&json!("failed"), &json!("cannot decode")));
    let id: uuid::Uuid = message["messageId"].as_str().unwrap().parse().unwrap();
    sqlx::query("select restante_requeue($1, 'bob')").bind(id).execute(&pool).await.unwrap();
    let again = bob.event("message:receive").await;
    assert_eq!((&again["messageId"], &again["inboxSeq"]), (&message["messageId"], &json!(2)));
    one.stop().await;
    other.stop().await;
}
