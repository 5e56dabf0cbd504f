//! Wakes of those who follow a feed: at every node, whoever publishes, and only where something was published.

use serde_json::json;
use sqlx::PgPool;

use super::{assert_consistent, feed, publish, publish_many, start};
use crate::support::{Connect, Node, Socket, until_true, users};

/// Nodes at which no session finds an event by looking for itself while a test runs.
async fn quiet_nodes<const N: usize>(db: &crate::support::Database) -> [Node; N] {
    let mut nodes = Vec::new();
    for _ in 0..N {
        nodes.push(Node::with(db.options(), |config| config.look_interval = std::time::Duration::from_secs(3_600)).await);
    }
    nodes.try_into().unwrap_or_else(|_| unreachable!("as many as asked for"))
}

/// Sessions that were told something at this node, because a feed has moved: by a wake, or by an offer.
fn told(node: &Node) -> u64 {
    let wakes = &node.app().context().metrics.wakes;
    wakes.of("feed").get() + wakes.of("offer").get()
}

/// Tells every node that this stream has moved, as anybody can.
async fn say(pool: &PgPool, what: &str) {
    sqlx::query("select pg_notify(restante_wake_channel(), $1)").bind(what).execute(pool).await.unwrap();
}

async fn event_type(socket: &mut Socket) -> String {
    socket.event("event:receive").await["type"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn who_follows_a_feed_hears_of_it_at_every_node_and_who_does_not_is_left_alone() {
    let db = crate::support::database().await;
    let [one, other] = quiet_nodes(&db).await;
    let feed = feed(&one, &["anna", "ben"]).await;
    let mut sockets = [one.connect("anna").await, other.connect("ben").await];
    let (mut stranger, mut device) = (other.connect("cleo").await, other.open(Connect::user("anna").device("phone")).await);
    publish(&one, json!({"feed": feed}), "first", json!({})).await;
    for socket in sockets.iter_mut().chain([&mut device]) {
        assert_eq!(event_type(socket).await, "first");
    }
    publish(&other, json!({"feed": feed}), "second", json!({"urgent": true})).await;
    for socket in sockets.iter_mut().chain([&mut device]) {
        assert_eq!(event_type(socket).await, "second");
    }
    publish(&one, json!({"everyone": true}), "third", json!({})).await;
    for socket in sockets.iter_mut().chain([&mut device, &mut stranger]) {
        assert_eq!(event_type(socket).await, "third");
    }
    publish(&one, json!({"users": ["cleo", "ben"]}), "fourth", json!({})).await;
    assert_eq!(event_type(&mut stranger).await, "fourth");
    assert_eq!(event_type(&mut sockets[1]).await, "fourth");
    assert!(stranger.until_pong().await.iter().all(|frame| frame["event"] != "event:receive"));
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn what_sql_publishes_wakes_followers_at_every_node_at_the_commit() {
    let (db, first, pool) = start().await;
    first.stop().await;
    let [one, other] = quiet_nodes(&db).await;
    let feed = feed(&one, &["anna", "ben"]).await;
    let mut sockets = [one.connect("anna").await, other.connect("ben").await];
    let mut transaction = pool.begin().await.unwrap();
    let publish = "select restante_publish('shop', 'from_sql', '[1]', p_feed => $1)";
    sqlx::query(publish).bind(uuid::Uuid::parse_str(&feed).unwrap()).execute(&mut *transaction).await.unwrap();
    sqlx::query("select restante_publish('shop', 'to_ben', null, array['ben'])").execute(&mut *transaction).await.unwrap();
    for socket in &mut sockets {
        assert!(socket.until_pong().await.iter().all(|frame| frame["event"] != "event:receive"), "it is not committed");
    }
    transaction.commit().await.unwrap();
    assert_eq!(event_type(&mut sockets[0]).await, "from_sql");
    let mut of_ben = [event_type(&mut sockets[1]).await, event_type(&mut sockets[1]).await];
    of_ben.sort();
    assert_eq!(of_ben, ["from_sql", "to_ben"]);
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn whatever_is_said_on_the_channel_wakes_nobody_unless_a_stream_has_moved() {
    const EVERYONE: &str = "00000000-0000-0000-0000-000000000001";
    let (db, first, pool) = start().await;
    first.stop().await;
    let [node] = quiet_nodes(&db).await;
    users(&pool, &["ben"]).await;
    let mut ben = node.connect("ben").await;
    publish_many(&pool, 1, false).await;
    assert_eq!(event_type(&mut ben).await, "tick");
    assert_eq!(told(&node), 1);
    for n in 0..500 {
        say(&pool, &format!("feed {EVERYONE}, feed {}, feed x, feed, 7x, feed {EVERYONE} {n}", uuid::Uuid::now_v7())).await;
    }
    // An event that is published after all of them is heard after all of them.
    publish_many(&pool, 1, true).await;
    assert_eq!(event_type(&mut ben).await, "tick");
    publish_many(&pool, 1, false).await;
    assert_eq!(event_type(&mut ben).await, "tick");
    assert_eq!(told(&node), 3, "one hint for each time that a stream has moved");
    node.stop().await;
}

#[tokio::test]
async fn many_events_at_once_come_each_once_and_in_the_order_of_their_feed() {
    let (db, first, pool) = start().await;
    first.stop().await;
    let [one, other] = quiet_nodes(&db).await;
    users(&pool, &["anna", "ben"]).await;
    let mut sockets = [one.connect("anna").await, other.connect("ben").await];
    for _ in 0..10 {
        publish_many(&pool, 30, false).await;
    }
    for socket in &mut sockets {
        for n in 1..=300 {
            let event = socket.event("event:receive").await;
            assert_eq!((&event["inboxSeq"], &event["feedSeq"]), (&json!(n), &json!(n)));
            socket.tell("message:delivered", json!({"upTo": n, "class": "event"})).await;
        }
    }
    until_true(&pool, "select count(*) = 600 from message_status where status = 'delivered'").await;
    one.stop().await;
    other.stop().await;
}

/// Broken by waking them all: each read a page of its own.
#[tokio::test]
async fn an_event_is_offered_to_those_who_are_live_without_a_page_and_a_page_has_it_for_the_others() {
    let (db, first, pool) = start().await;
    first.stop().await;
    let [one, other] = quiet_nodes(&db).await;
    let feed = feed(&one, &["anna", "ben", "cleo"]).await;
    let mut sockets = [one.connect("anna").await, one.connect("ben").await, other.connect("anna").await];
    let mut full = one.open(Connect::user("cleo").with("window", 1)).await;
    let pages = |node: &Node| node.app().context().metrics.page_reads.of("event").get();
    publish(&one, json!({"feed": feed}), "first", json!({})).await;
    for socket in sockets.iter_mut().chain([&mut full]) {
        assert_eq!(event_type(socket).await, "first");
    }
    let before = pages(&one);
    publish(&one, json!({"feed": feed}), "second", json!({})).await;
    for socket in &mut sockets {
        let event = socket.event("event:receive").await;
        assert_eq!((&event["type"], &event["inboxSeq"], &event["feedSeq"]), (&json!("second"), &json!(2), &json!(2)));
    }
    // The window of one is full: it is emitted when there is room, and not before.
    assert!(full.until_pong().await.iter().all(|frame| frame["event"] != "event:receive"));
    full.ask("message:delivered", json!({"upTo": 1, "class": "event"})).await;
    assert_eq!(event_type(&mut full).await, "second");
    assert!(pages(&one) <= before + 1, "of four sessions one has read a page");
    assert_consistent(&pool).await;
    one.stop().await;
    other.stop().await;
}

/// Broken by telling one stream after the other to its end, whatever its class.
#[tokio::test]
async fn an_alert_does_not_wait_until_an_event_is_told_to_all_who_follow_its_feed() {
    let (db, first, pool) = start().await;
    first.stop().await;
    let [node] = quiet_nodes(&db).await;
    let feed = feed(&node, &["anna", "ben"]).await;
    let (mut anna, mut ben) = (node.connect("anna").await, node.connect("ben").await);
    publish(&node, json!({"feed": feed}), "first", json!({})).await;
    for socket in [&mut anna, &mut ben] {
        assert_eq!(event_type(socket).await, "first");
    }
    // The row that the second event is going to be for somebody is there, and it is not known if it stays.
    let mut holder = pool.begin().await.unwrap();
    let next = "insert into message_status (user_id, class, seq, message_id)
                select user_id, class, seq + 1, gen_random_uuid() from message_status where class = 'event' order by user_id limit 1";
    sqlx::query(next).execute(&mut *holder).await.unwrap();
    publish(&node, json!({"feed": feed}), "second", json!({})).await;
    const WAITS: &str = "select count(*) = 1 from pg_stat_activity
                         where datname = current_database() and wait_event_type = 'Lock' and query like '%restante_take_together(%'";
    until_true(&pool, WAITS).await;
    publish(&node, json!({"feed": feed}), "alarm", json!({"urgent": true})).await;
    for socket in [&mut anna, &mut ben] {
        assert_eq!(event_type(socket).await, "alarm");
    }
    assert!(sqlx::query_scalar::<_, bool>(WAITS).fetch_one(&pool).await.unwrap(), "the event is held all the time");
    holder.rollback().await.unwrap();
    for socket in [&mut anna, &mut ben] {
        assert_eq!(event_type(socket).await, "second");
    }
    assert_consistent(&pool).await;
    node.stop().await;
}
