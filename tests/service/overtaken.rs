//! Messages wait below a thousand that have ended: they get new numbers at the end of the inbox, so that nobody passes all of them
//! again and again. They do not where a later message of their chat would then be seen before them.

use restante::domain::{ChatId, MessageId, Profile};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions, PgPool};
use std::sync::Arc;

use crate::support::fixtures::{LockHolder, acks, assert_consistent, delivery, number, store, until, users};
use crate::support::{Connect, Database, Node, SOMEBODY_WAITS, database, direct, fill};

const MESSAGES: i64 = 1_200;
const ADVANCE: &str = "select restante_advance_settled((select id from users where external_id = 'bob'), 'chat')";

/// A node, a chat of alice and bob, and so many messages for bob.
async fn start() -> (Database, Node, PgPool, ChatId, Arc<Profile>) {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(2).await);
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", i32::try_from(MESSAGES).unwrap()).await;
    let [bob] = users(store(&node), ["bob"]).await;
    (db, node, pool, ChatId(chat), bob)
}

/// Acks by their ids all that wait, save for the first.
async fn ack_all_but_the_first(node: &Node, pool: &PgPool, bob: &Arc<Profile>) {
    let ids = "select id from messages where seq > 1 and exists (select from message_status s where s.message_id = id and s.status = 'sent') order by seq";
    let ids: Vec<MessageId> = sqlx::query_scalar::<_, uuid::Uuid>(ids).fetch_all(pool).await.unwrap().into_iter().map(MessageId).collect();
    let (some, rest) = ids.split_at(50);
    let (status, answer) = node.api("bob").post("/v1/inbox/ack", json!({"messageIds": some})).await;
    assert_eq!(status, 200, "{answer}");
    delivery(node).settle(acks(bob, rest)).await.unwrap();
}

/// Where the one message of this sender lies in its recipient's inbox.
async fn place(pool: &PgPool, sender: &str) -> i64 {
    let place = format!(
        "select s.seq from message_status s join messages m on m.id = s.message_id \
         where m.seq = 1 and m.sender_id = (select id from users where external_id = '{sender}')"
    );
    number(pool, &place).await
}

/// Messages for bob, in the order of his inbox: so many of each chat, and whether they have ended.
async fn inbox(pool: &PgPool, parts: &[(&str, i32, bool)]) {
    for (sender, count, has_ended) in parts {
        let chat = direct(pool, sender, "bob").await;
        fill(pool, chat, sender, *count).await;
        if *has_ended {
            let ended = "update message_status s set status = 'delivered', delivered_at = now() from messages m where m.id = s.message_id and m.chat_id = $1";
            sqlx::query(ended).bind(chat).execute(pool).await.unwrap();
            let marked =
                "update marks set delivered_seq = $2 where chat_id = $1 and user_id = (select id from users where external_id = 'bob')";
            sqlx::query(marked).bind(chat).bind(i64::from(*count)).execute(pool).await.unwrap();
        }
    }
}

/// The rows that wait for bob in the order of his inbox: number there, sender, number in the chat.
async fn waiting(pool: &PgPool) -> Vec<String> {
    let waiting = "select s.seq || ' ' || u.external_id || ' ' || m.seq from message_status s join messages m on m.id = s.message_id
                   join users u on u.id = m.sender_id where s.status = 'sent' order by s.seq";
    sqlx::query_scalar(waiting).fetch_all(pool).await.unwrap()
}

/// Bob connects, and acks what comes, in this order.
async fn assert_comes(node: &Node, pool: &PgPool, expected: &[&str]) {
    let mut bobs = node.connect("bob").await;
    let messages = bobs.receive(expected.len()).await;
    let told = |message: &Value| format!("{} {} {}", message["inboxSeq"], message["senderId"].as_str().unwrap(), message["seq"]);
    assert_eq!(messages.iter().map(told).collect::<Vec<_>>(), expected);
    for message in &messages {
        bobs.ack(message).await;
    }
    assert_eq!(waiting(pool).await, [""; 0]);
}

async fn assert_all_is_settled(pool: &PgPool) {
    until(pool, "it is delivered", "select not exists (select from message_status where status = 'sent')").await;
    let exact = format!("select exists (select from marks where delivered_seq = {MESSAGES} and not has_hole and read_seq = 0)");
    until(pool, "the marks are exact", &exact).await;
    assert_consistent(pool).await;
}

#[tokio::test]
async fn it_comes_under_a_new_number_and_the_old_one_is_a_gap() {
    let (_db, node, pool, _, bob) = start().await;
    ack_all_but_the_first(&node, &pool, &bob).await;
    assert_eq!(place(&pool, "alice").await, 1);
    let mut phone = node.open(Connect::user("bob").device("phone")).await;
    assert_eq!((&phone.ready["pending"], &phone.ready["settledSeq"]), (&json!(1), &json!(MESSAGES)));
    assert_eq!(number(&pool, "select seq from inbox_gaps where reason = 'requeued'").await, 1);
    assert_consistent(&pool).await;
    let message = phone.event("message:receive").await;
    assert_eq!((&message["inboxSeq"], &message["seq"]), (&json!(MESSAGES + 1), &json!(1)));
    phone.ack(&message).await;
    assert_all_is_settled(&pool).await;
    // A device that has lost everything is told of the number that will not come.
    let epoch = phone.ready["epoch"].as_str().unwrap().to_owned();
    let mut again = node.open(Connect::user("bob").with("epoch", epoch).with("since", 0)).await;
    let gap = again.event("queue:gap").await;
    assert_eq!((&gap["fromSeq"], &gap["toSeq"], &gap["reason"]), (&json!(1), &json!(1), &json!("requeued")));
    node.stop().await;
}

#[tokio::test]
async fn a_session_that_has_it_in_flight_under_the_old_number_settles_it_by_its_id() {
    let (db, node, pool, _, bob) = start().await;
    let mut old = node.connect("bob").await;
    let message = old.event("message:receive").await;
    assert_eq!(message["inboxSeq"], 1);
    ack_all_but_the_first(&node, &pool, &bob).await;
    let other = Node::start(db.options()).await;
    let new = other.connect("bob").await;
    assert_eq!(place(&pool, "alice").await, MESSAGES + 1);
    new.cut();
    old.ack(&message).await;
    // Its row stands elsewhere by now. What was acked is delivered once it is confirmed, and does not come again.
    assert_eq!(number(&pool, "select count(*) from message_status where status = 'sent'").await, 0);
    let comes = old.until_pong().await.into_iter().filter(|frame| frame["event"] == "message:receive" && frame["data"]["seq"] == 1);
    assert_eq!(comes.count(), 0);
    assert_all_is_settled(&pool).await;
    other.stop().await;
    node.stop().await;
}

#[tokio::test]
async fn openings_at_two_nodes_at_once_move_it_once() {
    let (db, node, pool, _, bob) = start().await;
    ack_all_but_the_first(&node, &pool, &bob).await;
    let other = Node::start(db.options()).await;
    let (mut one, mut two) = tokio::join!(node.connect("bob"), other.connect("bob"));
    assert_eq!(place(&pool, "alice").await, MESSAGES + 1);
    assert_eq!(number(&pool, "select count(*) from inbox_gaps").await, 1);
    let mut came = Vec::new();
    for socket in [&mut one, &mut two] {
        let message = socket.wait("it", |frame| frame["event"] == "message:receive" && frame["data"]["seq"] == 1).await;
        assert_eq!(message["data"]["inboxSeq"], json!(MESSAGES + 1));
        came.push(message);
    }
    // Both have it before one acks it: after that it comes to no session that reads its first page later.
    one.ack(&came[0]["data"]).await;
    two.ack(&came[1]["data"]).await;
    assert_all_is_settled(&pool).await;
    other.stop().await;
    node.stop().await;
}

#[tokio::test]
async fn what_somebody_works_on_is_left_where_it_is() {
    let (db, node, pool, chat, bob) = start().await;
    ack_all_but_the_first(&node, &pool, &bob).await;
    for held in [
        format!("select from message_status where user_id = {} and seq = 1 for update", bob.user.0),
        format!("select from marks where chat_id = '{chat}' and user_id = {} for update", bob.user.0),
    ] {
        let holder = LockHolder::holds(&db.options(), &held).await;
        let bobs = node.connect("bob").await;
        assert_eq!((&bobs.ready["settledSeq"], place(&pool, "alice").await), (&json!(0), 1), "{held}");
        bobs.cut();
        holder.commits().await;
    }
    let advance = format!("select restante_advance_settled({}, 'chat')", bob.user.0);
    assert_eq!(sqlx::query_scalar::<_, i64>(AssertSqlSafe(advance)).fetch_one(&pool).await.unwrap(), MESSAGES);
    assert_eq!(place(&pool, "alice").await, MESSAGES + 1);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn nothing_of_a_chat_moves_behind_a_later_message_of_it_that_waits() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(2).await);
    inbox(&pool, &[("alice", 1, false), ("carol", 1_100, true), ("alice", 1, false)]).await;
    assert_comes(&node, &pool, &["1 alice 1", "1102 alice 2"]).await;
    assert_eq!(number(&pool, "select count(*) from inbox_gaps").await, 0);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn what_waits_of_several_chats_moves_together_and_in_order() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(2).await);
    inbox(&pool, &[("alice", 1, false), ("dave", 1, false), ("alice", 1, false), ("dave", 1, false), ("carol", 1_100, true)]).await;
    inbox(&pool, &[("erin", 1, false)]).await;
    // One of them is worked on: none moves, since those before it in its chat would come after it.
    let holder = LockHolder::holds(&db.options(), "select from message_status where seq = 3 for update").await;
    node.connect("bob").await.cut();
    assert_eq!(waiting(&pool).await, ["1 alice 1", "2 dave 1", "3 alice 2", "4 dave 2", "1105 erin 1"]);
    holder.commits().await;
    assert_comes(&node, &pool, &["1105 erin 1", "1106 alice 1", "1107 dave 1", "1108 alice 2", "1109 dave 2"]).await;
    assert_eq!(number(&pool, "select count(*) from inbox_gaps where seq <= 4 and reason = 'requeued'").await, 4);
    until(&pool, "the marks are exact", "select not exists (select from marks where has_hole)").await;
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn nothing_moves_where_more_than_fifty_wait() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(2).await);
    inbox(&pool, &[("alice", 1, false), ("carol", 1_100, true), ("dave", 50, false)]).await;
    assert_eq!(number(&pool, ADVANCE).await, 0);
    assert_eq!((waiting(&pool).await.len(), place(&pool, "alice").await), (51, 1));
    sqlx::query("update message_status set status = 'delivered', delivered_at = now() where seq = 1102").execute(&pool).await.unwrap();
    node.connect("bob").await.cut();
    assert_eq!((waiting(&pool).await.len(), place(&pool, "alice").await), (50, 1_152));
    assert_consistent(&pool).await;
    node.stop().await;
}

/// The inbox is looked at without its lock first. What comes meanwhile counts.
#[tokio::test]
async fn a_later_message_of_its_chat_that_comes_while_the_inbox_is_looked_at_keeps_it_where_it_is() {
    let db = database().await;
    let pool = db.pool(2).await;
    inbox(&pool, &[("alice", 1, false), ("carol", 1_100, true)]).await;
    let defined =
        sqlx::query_scalar::<_, String>("select pg_get_functiondef('restante_advance_settled'::regproc)").fetch_one(&pool).await.unwrap();
    let lock = "  select i.ctid";
    assert_eq!(defined.matches(lock).count(), 1);
    let slow = defined.replace(lock, &format!("  perform pg_advisory_xact_lock(1);\n{lock}"));
    sqlx::raw_sql(AssertSqlSafe(slow)).execute(&pool).await.unwrap();
    let holder = LockHolder::holds(&db.options(), "select pg_advisory_xact_lock(1)").await;
    let options = db.options();
    let advancing = tokio::spawn(async move {
        let mut connection = options.connect().await.unwrap();
        sqlx::query_scalar::<_, i64>(ADVANCE).fetch_one(&mut connection).await.unwrap()
    });
    until(&pool, "it has looked", SOMEBODY_WAITS).await;
    inbox(&pool, &[("alice", 1, false)]).await;
    holder.commits().await;
    assert_eq!(advancing.await.unwrap(), 0);
    assert_eq!(waiting(&pool).await, ["1 alice 1", "1102 alice 2"]);
    assert_consistent(&pool).await;
}
