//! One message waits below a thousand that have ended: it gets a new number at the end of the inbox, so that nobody passes all of them
//! again and again.

use restante::domain::{ChatId, MessageId, Profile};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};
use std::sync::Arc;

use crate::support::ledger::{Holder, acks, assert_ledger, delivery, number, store, until, users};
use crate::support::{Connect, Database, Node, database, direct, fill};

const MESSAGES: i64 = 1_200;

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

async fn place(pool: &PgPool) -> i64 {
    number(pool, "select s.seq from message_status s join messages m on m.id = s.message_id where m.seq = 1").await
}

async fn assert_all_is_settled(pool: &PgPool) {
    until(pool, "it is delivered", "select not exists (select from message_status where status = 'sent')").await;
    let exact = format!("select exists (select from marks where delivered_seq = {MESSAGES} and not has_hole and read_seq = 0)");
    until(pool, "the marks are exact", &exact).await;
    assert_ledger(pool).await;
}

#[tokio::test]
async fn it_comes_under_a_new_number_and_the_old_one_is_a_gap() {
    let (_db, node, pool, _, bob) = start().await;
    ack_all_but_the_first(&node, &pool, &bob).await;
    assert_eq!(place(&pool).await, 1);
    let mut phone = node.open(Connect::user("bob").device("phone")).await;
    assert_eq!((&phone.ready["pending"], &phone.ready["settledSeq"]), (&json!(1), &json!(MESSAGES)));
    assert_eq!(number(&pool, "select seq from inbox_gaps where reason = 'requeued'").await, 1);
    assert_ledger(&pool).await;
    let message = phone.event("message:receive").await;
    assert_eq!((&message["inboxSeq"], &message["seq"]), (&json!(MESSAGES + 1), &json!(1)));
    phone.ack(&message).await;
    assert_all_is_settled(&pool).await;
    // Who has lost everything is told of the number that it will not see.
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
    assert_eq!(place(&pool).await, MESSAGES + 1);
    new.cut();
    old.ack(&message).await;
    // Its row stands elsewhere by now: it may come once more, behind what else this session has in flight, and is acked as any message
    // that comes twice.
    if number(&pool, "select count(*) from message_status where status = 'sent'").await > 0 {
        let again = loop {
            let next = old.event("message:receive").await;
            if next["seq"] == 1 {
                break next;
            }
            old.ack(&next).await;
        };
        assert_eq!((&again["messageId"], &again["inboxSeq"]), (&message["messageId"], &json!(MESSAGES + 1)));
        old.ack(&again).await;
    }
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
    assert_eq!(place(&pool).await, MESSAGES + 1);
    assert_eq!(number(&pool, "select count(*) from inbox_gaps").await, 1);
    for socket in [&mut one, &mut two] {
        let message = socket.wait("it", |frame| frame["event"] == "message:receive" && frame["data"]["seq"] == 1).await;
        assert_eq!(message["data"]["inboxSeq"], json!(MESSAGES + 1));
        socket.ack(&message["data"]).await;
    }
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
        let holder = Holder::holds(&db.options(), &held).await;
        let bobs = node.connect("bob").await;
        assert_eq!((&bobs.ready["settledSeq"], place(&pool).await), (&json!(0), 1), "{held}");
        bobs.cut();
        holder.commits().await;
    }
    let advance = format!("select restante_advance_settled({}, 'chat')", bob.user.0);
    assert_eq!(sqlx::query_scalar::<_, i64>(AssertSqlSafe(advance)).fetch_one(&pool).await.unwrap(), MESSAGES);
    assert_eq!(place(&pool).await, MESSAGES + 1);
    assert_ledger(&pool).await;
    node.stop().await;
}
