//! The slow look: what waits is found by whoever is connected, whatever hints were lost.

use std::time::Duration;

use restante::config::Config;
use restante::domain::{Class, InboxSeq, UserId};
use restante::store::{Peek, Place, Store};

use crate::support::{Node, database, direct, fill, until_true, users};

/// A row that is delivered waits again: a replica was promoted that had lost the ack's commit.
const LOSE_THE_ACK: &str = "
    begin;
    set local session_replication_role = replica;
    update message_status set status = 'sent', delivered_at = null;
    commit";

/// Broken by a peek that never sees anything wait: it never came again.
#[tokio::test]
async fn a_row_below_the_cursor_that_waits_and_of_which_nobody_tells_is_found() {
    let db = database().await;
    let often = |config: &mut Config| config.look_interval = Duration::from_millis(100);
    let (node, pool) = (Node::with(db.options(), often).await, db.pool(1).await);
    let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);
    alice.send("bob", "lost and found").await;
    let first = bob.event("message:receive").await;
    bob.ack(&first).await;
    until_true(&pool, "select status = 'delivered' from message_status").await;
    sqlx::raw_sql(LOSE_THE_ACK).execute(&pool).await.unwrap();
    let again = bob.event("message:receive").await;
    assert_eq!((&again["messageId"], &again["inboxSeq"]), (&first["messageId"], &first["inboxSeq"]));
    bob.ack(&again).await;
    until_true(&pool, "select status = 'delivered' from message_status").await;
    node.stop().await;
}

#[tokio::test]
async fn a_peek_tells_for_each_place_whether_anything_waits_behind_it() {
    let db = database().await;
    let pool = db.pool(1).await;
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 3).await;
    let ids = users(&pool, &["alice", "bob"]).await;
    let (alice, bob) = (UserId(ids[0]), UserId(ids[1]));
    let place = |user, class, after| Place { user, class, after: InboxSeq(after) };
    let places = [
        place(bob, Class::Chat, 3),
        place(bob, Class::Chat, 2),
        place(UserId(-1), Class::Chat, 0),
        place(bob, Class::Event, 0),
        place(alice, Class::Chat, 0),
        place(bob, Class::Chat, 0),
    ];
    let seen = |last_seq, waits| Some(Peek { last_seq: InboxSeq(last_seq), waits });
    let expected = vec![seen(3, false), seen(3, true), None, seen(0, false), seen(0, false), seen(3, true)];
    assert_eq!(Store::new(pool).peek(&places).await.unwrap(), expected);
}
