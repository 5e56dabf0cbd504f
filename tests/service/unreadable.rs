//! A row that cannot be read costs that row only: its number comes as a gap, everything behind it comes, over a socket, over HTTP and in
//! the chat's history, and an operator is told.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::support::{Connect, Database, Log, Node, database, direct, fill, number};

/// The defects of the messages, by number. The functions of the schema never make them.
const DEFECTS: [(i64, &str); 8] = [
    (2, "update messages set metadata = (repeat('[', 200) || repeat(']', 200))::jsonb where seq = 2"),
    (3, "update messages set created_at = 'infinity' where seq = 3"),
    (4, "update messages set created_at = '10000-01-01 00:00+00' where seq = 4"),
    (5, "update messages set created_at = '-infinity' where seq = 5"),
    (6, "update messages set content = null where seq = 6"),
    (7, "update messages set sender_id = 0 where seq = 7"),
    // Its value is stored beside the table, and what is there is gone.
    (
        8,
        "alter table messages alter content set storage external;
         update messages set content = repeat('x', 30000) where seq = 8;
         begin;
         set local allow_system_table_mods = on;
         update pg_class set relkind = 'r' where oid = (select reltoastrelid from pg_class where oid = 'messages'::regclass);
         do $$ begin execute 'truncate ' || (select reltoastrelid::regclass from pg_class where oid = 'messages'::regclass); end $$;
         update pg_class set relkind = 't' where oid = (select reltoastrelid from pg_class where oid = 'messages'::regclass);
         commit",
    ),
    (9, "delete from messages where seq = 9"),
];
const MESSAGES: i64 = 14;

/// Times that never come are no time at all: such messages can be read.
const NEVER: &str = "update messages set expires_at = case seq when 11 then 'infinity'::timestamptz when 12 then '10000-01-01 00:00+00' else '-infinity' end
                      where seq in (11, 12, 13)";

async fn start() -> (Database, Node, PgPool, Uuid) {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", i32::try_from(MESSAGES).unwrap()).await;
    for (_, defect) in DEFECTS.iter().copied().chain([(0, NEVER)]) {
        sqlx::raw_sql(AssertSqlSafe(defect.to_owned())).execute(&pool).await.unwrap_or_else(|error| panic!("{defect}: {error}"));
    }
    (db, node, pool, chat)
}

fn numbers(messages: &Value, field: &str) -> Vec<i64> {
    messages.as_array().unwrap().iter().map(|message| message[field].as_i64().unwrap()).collect()
}

fn readable() -> Vec<i64> {
    (1..=MESSAGES).filter(|n| DEFECTS.iter().all(|(seq, _)| seq != n)).collect()
}

/// The number of unreadable rows that pages have found.
async fn counted(node: &Node) -> u64 {
    let (_, metrics) = node.api("bob").get("/metrics").await;
    let line = metrics.as_str().unwrap().lines().find_map(|line| line.strip_prefix("restante_unreadable_rows_total ")).unwrap();
    line.trim().parse().unwrap()
}

#[tokio::test]
async fn what_cannot_be_read_comes_as_a_gap_and_everything_behind_it_comes() {
    let (_db, node, pool, _) = start().await;
    let log = Log::of_this_thread();
    for device in [None, Some("phone")] {
        let connect = Connect::user("bob");
        let mut bob = node.open(device.map_or(connect.clone(), |device| connect.device(device))).await;
        let last = bob.wait("the last", |frame| frame["data"]["inboxSeq"] == json!(MESSAGES)).await;
        let mut frames = bob.until_pong().await;
        frames.push(last);
        let of = |event: &str| frames.iter().filter(|frame| frame["event"] == event).map(|frame| frame["data"].clone()).collect::<Value>();
        assert_eq!(numbers(&of("message:receive"), "inboxSeq"), readable(), "{device:?}");
        let gaps: Vec<_> = of("queue:gap")
            .as_array()
            .unwrap()
            .iter()
            .map(|gap| [gap["fromSeq"].clone(), gap["toSeq"].clone(), gap["reason"].clone()])
            .collect();
        // The last message is gone altogether.
        assert_eq!(gaps, [[json!(2), json!(8), json!("unreadable")], [json!(9), json!(9), json!("purged")]], "{device:?}");
        bob.cut();
    }
    let lines: Vec<_> = log.take().into_iter().filter(|line| line.message == "a message cannot be read").collect();
    let named: BTreeSet<_> = lines
        .iter()
        .map(|line| line.fields.split("message.id=").nth(1).unwrap_or_default().split(')').next().unwrap().to_owned())
        .collect();
    assert_eq!(named.len(), 7, "{lines:?}");
    assert!(named.iter().all(|id| id.starts_with("Some(")), "{named:?}");
    assert!(counted(&node).await >= 2 * 7);
    assert_eq!(
        number(&pool, "select count(*) from message_status where status = 'sent'").await,
        MESSAGES,
        "it waits for somebody who mends it"
    );
    node.stop().await;
}

#[tokio::test]
async fn over_http_the_inbox_and_the_history_leave_out_what_cannot_be_read() {
    let (_db, node, pool, chat) = start().await;
    let (bob, alice) = (node.api("bob"), node.api("alice"));
    let (status, inbox) = bob.get("/v1/inbox?limit=100").await;
    assert_eq!((status, numbers(&inbox["messages"], "inboxSeq")), (200, readable()), "{inbox}");
    assert!(counted(&node).await >= 7);
    for path in ["", "?after=0", "?before=100"] {
        let (status, page) = alice.get(&format!("/v1/chats/{chat}/messages{path}")).await;
        assert_eq!((status, numbers(&page["messages"], "seq"), &page["more"]), (200, readable(), &json!(false)), "{path}: {page}");
    }
    // Pages as small as can be, from both ends: each has a number to go on from.
    let (mut seen, mut after) = (Vec::new(), 0);
    for _ in 0..MESSAGES {
        let (_, page) = alice.get(&format!("/v1/chats/{chat}/messages?limit=1&after={after}")).await;
        seen.extend(numbers(&page["messages"], "seq"));
        after = seen[seen.len() - 1];
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(seen, readable());
    let (_, page) = alice.get(&format!("/v1/chats/{chat}/messages?limit=2&before=10")).await;
    assert_eq!((numbers(&page["messages"], "seq"), &page["more"]), (vec![1], &json!(false)), "{page}");
    // A repeated send finds the first result, whatever time is written there.
    let id: Uuid = sqlx::query_scalar("select id from messages where seq = 3").fetch_one(&pool).await.unwrap();
    let mut socket = node.connect("alice").await;
    let again = socket.ask("message:send", json!({"messageId": id, "chatId": chat, "content": "again"})).await;
    assert_eq!((&again["event"], &again["data"]["duplicate"]), (&json!("message:sent"), &json!(true)), "{again}");
    socket.send("bob", "and goes on").await;
    node.stop().await;
}
