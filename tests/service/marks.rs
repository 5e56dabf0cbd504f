//! A sender that was away is told at connect the marks that moved: each of them, and no other.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use restante::config::Config;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Executor, Row};

use crate::support::{
    Connect, Node, PATIENCE, PrivateServer, Socket, database, direct, fill, group, number, until_true, users, wait_until,
};

fn since(cursor: &Value) -> Connect {
    Connect::user("alice").with("marks", cursor.as_str().unwrap())
}

/// The data of every `message:status` that follows `ready`.
async fn told(socket: &mut Socket) -> Vec<Value> {
    let frames = socket.until_pong().await;
    frames.into_iter().filter(|frame| frame["event"] == "message:status").map(|mut frame| frame["data"].take()).collect()
}

#[tokio::test]
async fn a_sender_that_was_away_is_told_every_mark_that_moved_and_only_the_last_frame_has_the_new_cursor() {
    // Cursors are of transactions of the whole server, and name those of other tests that are open.
    let server = PrivateServer::start().await;
    let node = Node::start(server.database("restante").await).await;
    let mut alice = node.connect("alice").await;
    for name in ["bob", "carol", "dave"] {
        for n in 0..3 {
            alice.send(name, &n.to_string()).await;
        }
    }
    let before = alice.ready["marksCursor"].clone();
    alice.close().await;
    let (mut bob, mut carol) = (node.connect("bob").await, node.connect("carol").await);
    let messages = bob.receive(3).await;
    bob.ack_up_to(3).await;
    bob.ask("message:read", json!({"chatId": messages[0]["chatId"], "seq": 2})).await;
    carol.receive(3).await;
    carol.ack_up_to(2).await;

    let mut alice = node.open(since(&before)).await;
    let frames = told(&mut alice).await;
    let (last, others) = frames.split_last().unwrap();
    assert!(others.iter().all(|frame| frame["marksCursor"] == before), "{frames:?}");
    assert_ne!(last["marksCursor"], before);
    let mut marks: Vec<_> = frames.iter().map(|it| format!("{} {} {} {}", it["userId"], it["status"], it["seq"], it["kind"])).collect();
    marks.sort_unstable();
    assert_eq!(marks, [r#""bob" "delivered" 3 "mark""#, r#""bob" "read" 2 "mark""#, r#""carol" "delivered" 2 "mark""#]);
    // From now on what is told as it happens carries it too.
    carol.ack_up_to(3).await;
    assert_eq!(alice.event("message:status").await["marksCursor"], last["marksCursor"]);
    // Told in the middle and cut: all of it again.
    let mut again = node.open(since(&before)).await;
    assert_eq!(told(&mut again).await.len(), 3);
    // Told to the end: nothing again.
    let (mut cursor, begun) = (last["marksCursor"].clone(), Instant::now());
    while let Some(last) = told(&mut node.open(since(&cursor)).await).await.pop() {
        assert!(begun.elapsed() < PATIENCE, "told again and again: {last}");
        cursor = last["marksCursor"].clone();
    }
    node.stop().await;
}

/// A session that has written in another database of the cluster and does not end its transaction.
async fn forgets_a_transaction(options: &PgConnectOptions) -> PgConnection {
    let mut forgotten = options.clone().database("postgres").connect().await.unwrap();
    forgotten.execute("begin; create temporary table written (x int)").await.unwrap();
    forgotten
}

#[tokio::test]
async fn a_transaction_that_is_forgotten_in_another_database_makes_nobody_be_told_anything_twice() {
    let server = PrivateServer::start().await;
    let options = server.database("restante").await;
    let often = |config: &mut Config| config.look_interval = Duration::from_millis(100);
    let (node, other) = (Node::with(options.clone(), often).await, Node::with(options.clone(), often).await);
    let pool = options.connect().await.unwrap();
    let forgotten = forgets_a_transaction(&options).await;
    // Its number is below all that follow.
    let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);
    let before = alice.ready["marksCursor"].clone();
    let ids: Vec<Value> =
        [alice.send("bob", "one").await, alice.send("bob", "two").await].map(|mut answer| answer["messageId"].take()).into();
    bob.receive(2).await;
    bob.ask("message:reject", json!({"messageId": ids[0], "reason": "cannot decode", "final": true})).await;
    bob.ack_up_to(2).await;
    alice.wait("delivered", |frame| frame["data"]["status"] == "delivered").await;
    // One look tells it to her once more; the looks after it tell nothing.
    let mut frames = told(&mut node.open(since(&before)).await).await;
    assert!(!frames.is_empty());
    let cursor = frames.pop().unwrap()["marksCursor"].take();
    assert!(cursor.as_str().unwrap().contains('.'), "it names the transaction: {cursor}");
    // A mark may move once more after that. Then nothing is left to tell.
    let mut cursor = cursor;
    for looks in 0.. {
        let mut alice = node.open(since(&cursor)).await;
        let Some(mut last) = told(&mut alice).await.pop() else { break };
        assert!(looks < 10, "told again at each connect: {last}");
        cursor = last["marksCursor"].take();
        alice.close().await;
    }
    let mut frames = alice.until_pong().await;
    for _ in 0..20 {
        for looks in [&node, &other] {
            looks.app().context().notifier.check_all();
        }
        frames.extend(alice.until_pong().await);
    }
    let statuses: Vec<String> =
        frames.iter().filter(|frame| frame["event"] == "message:status").map(|frame| frame["data"]["seq"].to_string()).collect();
    assert!(statuses.len() < 10, "told again at each look: {statuses:?}");
    // A later move is told nevertheless, also where the receipt itself was lost.
    let chat = sqlx::query_scalar::<_, uuid::Uuid>("select id from chats where kind <> 'feed'").fetch_one(&mut { pool }).await.unwrap();
    let mut pool = options.connect().await.unwrap();
    let read = "select count(*) from users u, restante_read(array[u.id], array[$1], '{2}', 2000) where u.external_id = 'bob'";
    sqlx::query(read).bind(chat).execute(&mut pool).await.unwrap();
    node.app().context().notifier.check_all();
    alice.wait("read", |frame| frame["data"]["status"] == "read" && frame["data"]["seq"] == 2 && frame["data"]["kind"] == "mark").await;
    forgotten.close().await.unwrap();
    node.stop().await;
    other.stop().await;
}

/// The transaction itself is of this database, and moves marks when it ends at last.
#[tokio::test]
async fn marks_that_a_transaction_moved_which_was_open_for_long_are_told_when_it_ends() {
    let server = PrivateServer::start().await;
    let options = server.database("restante").await;
    let node = Node::start(options.clone()).await;
    let mut alice = node.connect("alice").await;
    let chat: uuid::Uuid = alice.send("bob", "one").await["chatId"].as_str().unwrap().parse().unwrap();
    let mut late = options.connect().await.unwrap();
    late.execute("begin").await.unwrap();
    let read = "select count(*) from users u, restante_read(array[u.id], array[$1], '{1}', 2000) where u.external_id = 'bob'";
    sqlx::query(read).bind(chat).execute(&mut late).await.unwrap();
    let mut other = node.connect("carol").await;
    alice.send("carol", "later").await;
    other.receive(1).await;
    other.ack_up_to(1).await;
    alice.wait("delivered", |frame| frame["data"]["status"] == "delivered").await;
    node.app().context().notifier.check_all();
    alice.until_pong().await;
    alice.until_pong().await;
    let before = node.open(Connect::user("alice")).await.ready["marksCursor"].clone();
    let cursor = told(&mut node.open(since(&before)).await).await.pop().map_or(before, |mut last| last["marksCursor"].take());
    late.execute("commit").await.unwrap();
    let frames = told(&mut node.open(since(&cursor)).await).await;
    assert_eq!(frames.iter().map(|frame| (&frame["userId"], &frame["status"])).collect::<Vec<_>>(), [(&json!("bob"), &json!("read"))]);
    node.app().context().notifier.check_all();
    alice.wait("read", |frame| frame["data"]["status"] == "read").await;
    node.stop().await;
}

#[tokio::test]
async fn operators_see_whose_the_oldest_transaction_of_the_cluster_is() {
    let server = PrivateServer::start().await;
    let options = server.database("restante").await;
    let node = Node::start(options.clone()).await;
    let mut forgotten = forgets_a_transaction(&options).await;
    let process: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut forgotten).await.unwrap();
    let line = format!(r#"restante_oldest_transaction_age_seconds{{database="postgres",role="postgres",process="{process}"}}"#);
    wait_until("the metric names it", || node.app().context().metrics.render().contains(&line)).await;
    // The query of docs/operations.md finds it from any database.
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).unwrap();
    let begin = document.find("select t.* from (").expect("the query is in docs/operations.md");
    let query = document[begin..].split(';').next().unwrap();
    let mut here = options.connect().await.unwrap();
    let found: Vec<Option<i32>> =
        sqlx::query(sqlx::AssertSqlSafe(query.to_owned())).fetch_all(&mut here).await.unwrap().iter().map(|row| row.get("pid")).collect();
    assert!(found.contains(&Some(process)), "{found:?}");
    forgotten.close().await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn messages_that_ended_otherwise_are_named_beside_the_mark_that_passes_them() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 3).await;
    let alice = node.connect("alice").await;
    let before = alice.ready["marksCursor"].clone();
    alice.close().await;
    let mut bob = node.connect("bob").await;
    let messages = bob.receive(3).await;
    let id = &messages[1]["messageId"];
    bob.ask("message:reject", json!({"messageId": id, "reason": "cannot", "final": true})).await;
    bob.ack(&messages[0]).await;
    bob.ack(&messages[2]).await;

    let mut alice = node.open(since(&before)).await;
    let frames = told(&mut alice).await;
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert_eq!((&frames[0]["seq"], &frames[0]["status"]), (&json!(3), &json!("delivered")));
    assert_eq!(frames[0]["except"], json!([{"messageId": id, "status": "failed", "reason": "cannot"}]));
    node.stop().await;
}

#[tokio::test]
async fn what_ended_while_its_members_mark_stood_still_is_told_at_the_next_look_all_the_same() {
    let server = PrivateServer::start().await;
    let db = server.database("restante").await;
    let (node, pool) = (Node::start(db.clone()).await, sqlx::PgPool::connect_with(db).await.unwrap());
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 3).await;
    let alice = node.connect("alice").await;
    let before = alice.ready["marksCursor"].clone();
    alice.close().await;
    let mut bob = node.connect("bob").await;
    let messages = bob.receive(3).await;
    let id = &messages[1]["messageId"];
    bob.ask("message:reject", json!({"messageId": id, "reason": "cannot", "final": true})).await;

    // The first message waits still, so no mark has moved.
    let mut alice = node.open(since(&before)).await;
    let frames = told(&mut alice).await;
    assert_eq!(frames.len(), 1, "{frames:?}");
    let named = &frames[0];
    assert_eq!(named["except"], json!([{"messageId": id, "status": "failed", "reason": "cannot"}]));
    assert_eq!((&named["seq"], &named["userId"]), (&json!(0), &json!("bob")));
    alice.close().await;

    // Now it moves past what has ended. Whoever was told so is told of the mark alone.
    let cursor = named["marksCursor"].clone();
    assert_ne!(cursor, before);
    bob.ack_up_to(3).await;
    let mut alice = node.open(since(&cursor)).await;
    let frames = told(&mut alice).await;
    assert_eq!((frames.len(), &frames[0]["seq"], &frames[0]["status"]), (1, &json!(3), &json!("delivered")));
    assert_eq!(frames[0]["except"], json!([]));
    node.stop().await;
}

/// A sender without a cursor, as after a failover, when no cursor is good any more.
#[tokio::test]
async fn a_sender_without_a_cursor_is_told_what_ended_also_where_no_mark_has_moved() {
    let server = PrivateServer::start().await;
    let db = server.database("restante").await;
    let (node, pool) = (Node::start(db.clone()).await, sqlx::PgPool::connect_with(db).await.unwrap());
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 2).await;
    let mut bob = node.connect("bob").await;
    let messages = bob.receive(2).await;
    let id = &messages[1]["messageId"];
    bob.ask("message:reject", json!({"messageId": id, "reason": "cannot", "final": true})).await;

    let frames = told(&mut node.connect("alice").await).await;
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert_eq!(frames[0]["except"], json!([{"messageId": id, "status": "failed", "reason": "cannot"}]));
    node.stop().await;
}

/// In one transaction, and as much as is told at once, or more.
#[tokio::test]
async fn a_sender_that_was_away_is_told_of_everything_that_ended_however_much_it_is() {
    for (waiting, parts) in [(1_000, vec![0, 1_000]), (2_500, vec![1_000, 1_000, 0, 500])] {
        is_told_of_everything(waiting, &parts).await;
    }
}

async fn is_told_of_everything(waiting: usize, parts: &[usize]) {
    let server = PrivateServer::start().await;
    let db = server.database("restante").await;
    let (node, pool) = (Node::start(db.clone()).await, sqlx::PgPool::connect_with(db).await.unwrap());
    let chat = group(&pool, &["alice", "bob", "carol"]).await;
    let alice = node.connect("alice").await;
    let before = alice.ready["marksCursor"].clone();
    alice.close().await;
    fill(&pool, chat, "alice", i32::try_from(waiting).unwrap()).await;
    node.connect("carol").await.ask("message:read", json!({"chatId": chat, "seq": waiting})).await;
    let (status, _) = node.api("bob").delete(&format!("/v1/chats/{chat}/members"), json!({"userIds": ["bob"]})).await;
    assert_eq!(status, 200);
    // A thousand ends with the membership, the rest a moment later.
    until_true(&pool, &format!("select count(*) = {waiting} from endings")).await;

    // Left in the middle, it is all told again.
    node.open(since(&before)).await.event("message:status").await;
    let mut alice = node.open(since(&before)).await;
    let mut frames: Vec<Value> = Vec::new();
    while frames.last().is_none_or(|frame| frame["marksCursor"] == before) {
        frames.push(alice.event("message:status").await);
    }
    let named = |frame: &Value| frame["except"].as_array().unwrap().len();
    assert_eq!(frames.iter().map(named).collect::<Vec<_>>(), parts, "only the last has the new cursor");
    let ids = frames.iter().flat_map(|frame| frame["except"].as_array().unwrap()).map(|it| it["messageId"].as_str().unwrap());
    assert_eq!(ids.collect::<HashSet<_>>().len(), waiting);
    let mark = &frames[parts.len() - 2];
    assert_eq!((&mark["userId"], &mark["status"], &mark["seq"]), (&json!("carol"), &json!("read"), &json!(waiting)));
    assert!(told(&mut alice).await.is_empty());
    assert!(told(&mut node.open(since(&frames[parts.len() - 1]["marksCursor"])).await).await.is_empty(), "nothing again");
    node.stop().await;
}

#[tokio::test]
async fn a_sender_that_was_away_is_told_what_ended_because_its_recipient_left() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let chat = group(&pool, &["alice", "bob", "carol"]).await;
    let alice = node.connect("alice").await;
    let before = alice.ready["marksCursor"].clone();
    alice.close().await;
    fill(&pool, chat, "alice", 1).await;
    let (status, _) = node.api("bob").delete(&format!("/v1/chats/{chat}/members"), json!({"userIds": ["bob"]})).await;
    assert_eq!(status, 200);

    let mut alice = node.open(since(&before)).await;
    let frames = told(&mut alice).await;
    assert_eq!(frames.len(), 1, "{frames:?}");
    let except = &frames[0]["except"][0];
    assert_eq!((&except["status"], &except["reason"], &frames[0]["userId"]), (&json!("expired"), &json!("left"), &json!("bob")));
    node.stop().await;
}

#[tokio::test]
async fn a_member_who_joins_says_nothing_of_what_was_said_before() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let chat = group(&pool, &["alice", "bob"]).await;
    fill(&pool, chat, "alice", 2).await;
    let alice = node.connect("alice").await;
    let before = alice.ready["marksCursor"].clone();
    alice.close().await;
    let (status, _) = node.api("alice").post(&format!("/v1/chats/{chat}/members"), json!({"userIds": ["carol"]})).await;
    assert_eq!(status, 200);

    // Carol's marks begin where she has joined.
    let mut alice = node.open(since(&before)).await;
    assert_eq!(told(&mut alice).await, Vec::<Value>::new());
    fill(&pool, chat, "alice", 1).await;
    let mut carol = node.connect("carol").await;
    carol.receive(1).await;
    carol.ack_up_to(1).await;
    assert_eq!(alice.event("message:status").await["seq"], 3);
    let mut again = node.open(since(&before)).await;
    let frames = told(&mut again).await;
    assert_eq!((frames.len(), &frames[0]["userId"], &frames[0]["seq"]), (1, &json!("carol"), &json!(3)));
    node.stop().await;
}

#[tokio::test]
async fn a_mark_whose_transaction_began_before_a_look_and_committed_after_it_is_told_at_the_next() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(2).await);
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 1).await;
    let alice = node.connect("alice").await;
    let before = alice.ready["marksCursor"].clone();
    alice.close().await;

    let mut slow = db.options().connect().await.unwrap();
    let mut moving = slow.begin().await.unwrap();
    let mark = "update marks set delivered_seq = 1, marked_xid = pg_current_xact_id() where user_id = $1";
    sqlx::query(mark).bind(users(&pool, &["bob"]).await[0]).execute(&mut *moving).await.unwrap();
    // Others begin and commit meanwhile: the newest transaction is not the oldest that is open.
    fill(&pool, direct(&pool, "carol", "dave").await, "carol", 1).await;
    let mut looks = node.open(since(&before)).await;
    assert_eq!(told(&mut looks).await, Vec::<Value>::new());
    let cursor = looks.ready["marksCursor"].clone();
    looks.close().await;
    moving.commit().await.unwrap();

    let mut alice = node.open(since(&cursor)).await;
    let frames = told(&mut alice).await;
    assert_eq!((frames.len(), &frames[0]["userId"], &frames[0]["seq"]), (1, &json!("bob"), &json!(1)));
    node.stop().await;
}

#[tokio::test]
async fn a_group_of_more_than_fifty_reports_counts() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let names: Vec<String> = (0..51).map(|n| format!("member-{n}")).collect();
    let members: Vec<&str> = std::iter::once("alice").chain(names.iter().map(String::as_str)).collect();
    let chat = group(&pool, &members).await;
    let mut alice = node.connect("alice").await;
    let before = alice.ready["marksCursor"].clone();
    let sent = alice.ask("message:send", json!({"chatId": chat, "content": "all"})).await["data"].take();
    for name in &names[..2] {
        let mut member = node.connect(name).await;
        let message = member.event("message:receive").await;
        member.ack(&message).await;
        member.close().await;
    }
    let counts = |delivered: i64, read: i64| {
        json!({"chatId": chat, "messageId": sent["messageId"], "seq": 1, "deliveredCount": delivered,
        "readCount": read, "memberCount": 51, "kind": "counts"})
    };
    let without_cursor = |mut frame: Value| {
        assert!(frame.as_object_mut().unwrap().remove("marksCursor").is_some());
        frame
    };
    let mut live = without_cursor(alice.event("message:status").await);
    while live != counts(2, 0) {
        assert_eq!(live, counts(1, 0), "counts only, and only upwards");
        live = without_cursor(alice.event("message:status").await);
    }
    alice.close().await;
    let mut member = node.connect(&names[2]).await;
    assert_eq!(member.ask("message:read", json!({"chatId": chat, "seq": 1})).await["event"], "message:read:ok");
    let mut alice = node.open(since(&before)).await;
    assert_eq!(told(&mut alice).await.into_iter().map(without_cursor).collect::<Vec<_>>(), [counts(3, 1)]);
    assert_eq!(number(&pool, "select count(*) from message_status where status = 'sent'").await, 48);
    node.stop().await;
}

/// The ways in which bob acks two messages, the second one first, so that no connection of his acks both in turn.
#[derive(Debug, Clone, Copy)]
enum OutOfTurn {
    /// On one connection the second, on the next the first: which then is all there is to see.
    OneAfterTheOther,
    /// On two connections that both hold both, each one of them.
    SideBySide,
    /// The second on a connection of a device that gets the first, settled long ago, once more and does not ack it.
    SettledBefore,
    /// The second over HTTP.
    WithoutASocket,
}

async fn acks_out_of_turn(node: &Node, how: OutOfTurn) {
    let by_id = |socket: &Value| json!({"messageIds": [socket["messageId"]]});
    match how {
        OutOfTurn::OneAfterTheOther => {
            let mut bob = node.connect("bob").await;
            let messages = bob.receive(2).await;
            bob.ask("message:delivered", by_id(&messages[1])).await;
            bob.close().await;
            let mut bob = node.connect("bob").await;
            let messages = bob.receive(1).await;
            bob.ask("message:delivered", by_id(&messages[0])).await;
        }
        OutOfTurn::SideBySide => {
            let (mut one, mut other) = (node.connect("bob").await, node.connect("bob").await);
            let messages = one.receive(2).await;
            other.receive(2).await;
            one.ask("message:delivered", by_id(&messages[1])).await;
            other.ask("message:delivered", by_id(&messages[0])).await;
        }
        OutOfTurn::SettledBefore => {
            // The device is known from before both.
            let mut phone = node.open(Connect::user("bob").device("phone")).await;
            phone.receive(2).await;
            phone.close().await;
            let mut bob = node.connect("bob").await;
            let messages = bob.receive(2).await;
            bob.ask("message:delivered", by_id(&messages[0])).await;
            let mut phone = node.open(Connect::user("bob").device("phone")).await;
            phone.receive(2).await;
            phone.ask("message:delivered", by_id(&messages[1])).await;
        }
        OutOfTurn::WithoutASocket => {
            let (_, inbox) = node.api("bob").get("/v1/inbox").await;
            let (status, _) = node.api("bob").post("/v1/inbox/ack", by_id(&inbox["messages"][1])).await;
            assert_eq!(status, 200);
            let mut bob = node.connect("bob").await;
            let messages = bob.receive(1).await;
            bob.ask("message:delivered", by_id(&messages[0])).await;
        }
    }
}

/// Broken by a mark that is taken from a session although the session acked above something that it holds.
#[tokio::test]
async fn the_mark_passes_what_was_acked_out_of_turn_once_what_was_skipped_is_acked_whoever_acks_it() {
    use OutOfTurn::*;
    for how in [OneAfterTheOther, SideBySide, SettledBefore, WithoutASocket] {
        let db = database().await;
        let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
        let chat = direct(&pool, "alice", "bob").await;
        fill(&pool, chat, "alice", 2).await;
        acks_out_of_turn(&node, how).await;
        let frames = told(&mut node.connect("alice").await).await;
        let marks: Vec<_> = frames.iter().map(|frame| (&frame["seq"], &frame["status"], &frame["kind"])).collect();
        assert_eq!(marks, [(&json!(2), &json!("delivered"), &json!("mark"))], "{how:?}");
        node.stop().await;
    }
}
