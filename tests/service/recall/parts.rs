//! Recalls in parts: what is held comes later, a job goes on where a node was killed, and each recipient is told once.

use restante::domain::{Class, GapReason, InboxSeq, MessageId, PageRow, RowState, UserId};
use restante::store::{LockTimeout, PageRequest, ReadRequest, Store, TakenBack};
use std::time::Duration;

use super::*;
use crate::support::fixtures::{self, LockHolder, crowd, number};

const NIL: MessageId = MessageId(Uuid::nil());
const HOUR: Duration = Duration::from_secs(3_600);
const ALL: [PageRequest; 3] = [PageRequest::Waiting, PageRequest::Everything, PageRequest::Poll];

/// A message of alice to bob, carol and dora, of whom bob and carol have it. There is no node.
async fn sent(pool: &PgPool) -> (Store, UserId, MessageId) {
    let store = Store::new(pool.clone());
    let chat = group(pool, &["alice", "bob", "carol", "dora"]).await;
    crate::support::fill(pool, chat, "alice", 1).await;
    let acked = "update message_status set status = 'delivered', delivered_at = now() where user_id in (select id from users where external_id in ('bob', 'carol'))";
    sqlx::query(acked).execute(pool).await.unwrap();
    let alice = fixtures::user(&store, "alice").await.user;
    let message: Uuid = sqlx::query_scalar("select id from messages where seq > 0").fetch_one(pool).await.unwrap();
    (store, alice, MessageId(message))
}

/// The recipients for whom it ended, and those who got the notice, as counts.
async fn part(store: &Store, message: MessageId, recipients_max: i32) -> Option<(usize, usize)> {
    let part = tokio::time::timeout(Duration::from_secs(10), store.recall_part(message, recipients_max))
        .await
        .expect("it waits for nobody")
        .unwrap()?;
    Some((part.ended.len(), part.noticed.len()))
}

#[tokio::test]
async fn what_somebody_holds_comes_later_and_the_rest_at_once() {
    let db = database().await;
    let pool = db.pool(2).await;
    let (store, alice, message) = sent(&pool).await;
    let of = |user: &str| format!("(select id from users where external_id = '{user}')");
    assert!(matches!(store.take_back(message, alice, HOUR).await.unwrap(), TakenBack::Recalled { .. }));
    let held = [
        format!("select from inboxes where user_id = {} for update", of("bob")),
        format!("select from marks where user_id = {} for update", of("dora")),
    ];
    let holder = LockHolder::holds(&db.options(), &held.join("; ")).await;
    assert_eq!(part(&store, message, 500).await, Some((0, 1)), "carol");
    assert_eq!(part(&store, message, 500).await, Some((0, 0)));
    holder.commits().await;
    let holder = LockHolder::holds(&db.options(), &format!("select from message_status where user_id = {} for update", of("dora"))).await;
    assert_eq!(part(&store, message, 500).await, Some((0, 1)), "bob");
    holder.commits().await;
    assert_eq!(part(&store, message, 500).await, Some((1, 0)), "dora");
    assert_eq!(part(&store, message, 500).await, None, "nothing is left");
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn two_that_go_on_with_a_recall_at_once_tell_each_recipient_once() {
    let db = database().await;
    let pool = db.pool(4).await;
    let (store, alice, message) = sent(&pool).await;
    store.take_back(message, alice, HOUR).await.unwrap();
    // Parts of one recipient each, from several nodes.
    let goes_on = async || {
        while number(&pool, "select count(*) from recalls").await > 0 {
            store.next_recall_part(NIL, 1).await.unwrap();
        }
    };
    tokio::join!(goes_on(), goes_on(), goes_on());
    assert_eq!(number(&pool, "select count(*) from message_status where message_id in (select id from messages where seq < 0)").await, 2);
    assert_consistent(&pool).await;
}

/// Broken by looking for what is held in a statement of its own, after the one that looks who has the message: acks that were committed
/// between the two belonged to neither.
#[tokio::test]
async fn recipients_who_get_the_message_at_any_moment_of_a_part_get_the_notice() {
    const MEMBERS: i32 = 400;
    let db = database().await;
    let pool = db.pool(4).await;
    let store = Store::new(pool.clone());
    let alice = fixtures::user(&store, "alice").await.user;
    let chat = crowd(&pool, MEMBERS, &[alice]).await;
    crate::support::fill(&pool, chat.0, "alice", 12).await;
    let messages: Vec<Uuid> = sqlx::query_scalar("select id from messages order by seq").fetch_all(&pool).await.unwrap();
    for (moment, message) in (0..).zip(messages) {
        store.take_back(MessageId(message), alice, HOUR).await.unwrap();
        let mut acks = pool.begin().await.unwrap();
        let acked = "update message_status set status = 'delivered', delivered_at = now() where message_id = $1";
        sqlx::query(acked).bind(message).execute(&mut *acks).await.unwrap();
        // The moments differ, and whatever they are, nobody is left out.
        let commit = async {
            tokio::time::sleep(Duration::from_millis(2 * moment)).await;
            acks.commit().await.unwrap();
        };
        let (_, first) = tokio::join!(commit, part(&store, MessageId(message), MEMBERS + 1));
        let mut noticed = first.expect("the recall is there").1;
        while let Some((_, more)) = part(&store, MessageId(message), MEMBERS + 1).await {
            noticed += more;
        }
        assert_eq!(noticed, usize::try_from(MEMBERS).unwrap(), "acked after {moment} moments");
    }
}

#[tokio::test]
async fn a_job_goes_on_with_a_recall_whose_node_was_killed_and_senders_and_recipients_are_told() {
    let (_db, node, pool) = start().await;
    let alice = crate::support::users(&pool, &["alice"]).await[0];
    let chat = crowd(&pool, 1_200, &[UserId(alice)]).await;
    let mut reader = node.connect("crowd-1200").await;
    let mut sender = node.connect("alice").await;
    let message = sender.ask("message:send", json!({"chatId": chat, "content": "x"})).await["data"].clone();
    let came = reader.receive(1).await.remove(0);
    reader.ack(&came).await;
    // As a node that was killed behind the commit leaves it.
    let taken = sqlx::query_scalar::<_, String>("select outcome from restante_take_back($1, $2, '1 hour')");
    assert_eq!(taken.bind(id_of(&message)).bind(alice).fetch_one(&pool).await.unwrap(), "recalled");
    assert_eq!(reader.event("message:recalled").await["messageId"], message["messageId"]);
    assert_eq!(sender.event("message:recalled").await["messageId"], message["messageId"]);
    all_done(&pool).await;
    let ended = "select count(*) from message_status where ended = 'recalled'";
    assert_eq!(number(&pool, ended).await, 1_199);
    node.stop().await;
}

#[tokio::test]
async fn a_page_shows_nothing_of_a_recall_that_has_not_come_to_its_reader() {
    let db = database().await;
    let pool = db.pool(2).await;
    let (store, alice, message) = sent(&pool).await;
    store.take_back(message, alice, HOUR).await.unwrap();
    // Bob has acked it, and dora has not got it. The content is gone, so a row that were shown would come as one that cannot be read.
    let gap = PageRow::Gap { from: InboxSeq(1), to: InboxSeq(1), reason: GapReason::Recalled, feed: None };
    for (user, shown) in [("bob", vec![PageRequest::Everything]), ("dora", ALL.to_vec())] {
        let id = fixtures::user(&store, user).await.user;
        for request in ALL {
            let page = store.page(request, id, Class::Chat, InboxSeq(0), 50).await.unwrap();
            let expected = if shown.contains(&request) { vec![gap.clone()] } else { Vec::new() };
            assert_eq!(format!("{:?}", page.rows), format!("{expected:?}"), "{user} {request:?}");
        }
        let states = store.row_states(id, Class::Chat, &[InboxSeq(1)]).await.unwrap();
        assert!(matches!(states[..], [(InboxSeq(1), RowState::Ended(GapReason::Recalled))]), "{user} {states:?}");
    }
}

#[tokio::test]
async fn neither_a_read_nor_an_ack_beyond_a_recall_that_has_not_come_to_its_reader_makes_it_delivered() {
    let db = database().await;
    let pool = db.pool(2).await;
    let (store, alice, message) = sent(&pool).await;
    store.take_back(message, alice, HOUR).await.unwrap();
    let dora = fixtures::user(&store, "dora").await.user;
    let waiting =
        store.waiting_up_to(dora, restante::domain::Class::Chat, restante::domain::InboxSeq(0), restante::domain::InboxSeq(1), 50);
    assert_eq!(waiting.await.unwrap().messages, vec![]);
    let chat: Uuid = sqlx::query_scalar("select chat_id from messages where seq > 0").fetch_one(&pool).await.unwrap();
    let request = ReadRequest { user: dora, chat: restante::domain::ChatId(chat), up_to: restante::domain::ChatSeq(1) };
    let mut connection = pool.acquire().await.unwrap();
    let done = restante::store::read(&mut connection, &[request], 50, LockTimeout::OfConnection).await.unwrap();
    assert_eq!(done[&0].rows.iter().map(|row| row.ended.as_deref()).collect::<Vec<_>>(), [Some("recalled")]);
    assert_eq!(part(&store, message, 500).await, Some((0, 2)), "those who have it are told");
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn a_requeue_under_way_is_waited_for_and_what_it_puts_back_ends() {
    let db = database().await;
    let pool = db.pool(4).await;
    let (store, alice, message) = sent(&pool).await;
    sqlx::query(
        "select restante_attempt(array[user_id], '{chat}', array[seq], '{no}', '{true}', 5) from message_status where status = 'sent'",
    )
    .execute(&pool)
    .await
    .unwrap();
    let mut operator = LockHolder::holds(&db.options(), &format!("select restante_requeue('{}', 'dora')", message.0)).await;
    let recall = tokio::spawn({
        let store = store.clone();
        async move { store.take_back(message, alice, HOUR).await }
    });
    until_true(&pool, crate::support::SOMEBODY_WAITS).await;
    operator.run("select 1").await;
    operator.commits().await;
    assert!(matches!(recall.await.unwrap().unwrap(), TakenBack::Recalled { .. }));
    assert_eq!(part(&store, message, 500).await, Some((1, 2)));
    let refused = sqlx::query_scalar::<_, String>("select outcome from restante_put_back($1, 'dora')")
        .bind(message.0)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(refused, "recalled");
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn an_application_recalls_inside_its_own_transaction_and_nothing_happens_where_it_rolls_back() {
    let (_db, node, pool) = start().await;
    let (mut alice, mut bob) = (node.connect("alice").await, node.open(Connect::user("bob").with("window", 1)).await);
    let (first, second) = (alice.send("bob", "first").await, alice.send("bob", "second").await);
    bob.receive(1).await;
    for end in ["rollback", "commit"] {
        let mut connection = pool.acquire().await.unwrap();
        sqlx::raw_sql("begin").execute(&mut *connection).await.unwrap();
        sqlx::query("select restante_recall($1, 'alice')").bind(id_of(&first)).execute(&mut *connection).await.unwrap();
        sqlx::raw_sql(end).execute(&mut *connection).await.unwrap();
        let is_recalled = number(&pool, "select count(*) from messages where recalled_at is not null").await;
        assert_eq!(is_recalled, i64::from(end == "commit"));
    }
    let told = alice.event("message:status").await;
    assert_eq!((&told["status"], &told["reason"]), (&json!("expired"), &json!("recalled")));
    assert_eq!(bob.receive(1).await[0]["messageId"], second["messageId"], "its place is free");
    all_done(&pool).await;
    node.stop().await;
}
