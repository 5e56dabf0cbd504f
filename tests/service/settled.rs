//! `settled_seq` never overtakes a row that waits: such a row would be behind every drain, and never emitted again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use restante::domain::{Class, NodeId, PerClass, Profile, UserId};
use restante::store::{Inbox, OpeningRequest, PageRequest, Store};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgPool};

use crate::support::fixtures::{LockHolder, acks, assert_consistent, delivery, group, number, sent, store, text, until, users};
use crate::support::{Database, Node, SOMEBODY_WAITS, database};

/// The rule in one statement, as one would write it first: the row it waits for is read anew, its sub-select is not.
const NAIVE: &str = "
    create function naive_advance_settled(p_user bigint) returns bigint language sql as $$
      update inboxes i
         set settled_seq = greatest(i.settled_seq, coalesce(
           (select min(s.seq) - 1 from message_status s
             where s.user_id = p_user and s.class = 'chat' and s.seq > i.settled_seq and s.status = 'sent'),
           i.last_seq))
       where i.user_id = p_user and i.class = 'chat'
      returning i.settled_seq
    $$";

/// Two users and a message of theirs that is being accepted: bob's inbox is locked and numbered, nothing is committed.
async fn accepting(db: &Database, pool: &PgPool) -> (LockHolder, UserId) {
    let [alice, bob] = users(&Store::new(pool.clone()), ["alice", "bob"]).await;
    let chat = group(pool, &[alice.user, bob.user]).await;
    let accept = format!(
        "select outcomes[1] from restante_accept(array[gen_random_uuid()], array['{chat}'::uuid], array[{}::bigint], array['text'], array['hello'], array[null::text], array[null::timestamptz])",
        alice.user.0
    );
    (LockHolder::holds(&db.options(), &accept).await, bob.user)
}

fn spawn(options: &PgConnectOptions, statement: String) -> tokio::task::JoinHandle<Option<i64>> {
    // A statement that must not wait fails then, instead of stopping the test.
    let options = options.clone().options([("lock_timeout", "5s")]);
    tokio::spawn(async move {
        let mut connection = options.connect().await.unwrap();
        sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut connection).await.unwrap()
    })
}

#[tokio::test]
async fn advancing_in_one_statement_overtakes_a_row_that_commits_meanwhile() {
    let db = database().await;
    let pool = db.pool(2).await;
    sqlx::raw_sql(NAIVE).execute(&pool).await.unwrap();
    let (accept, bob) = accepting(&db, &pool).await;
    let advancing = spawn(&db.options(), format!("select naive_advance_settled({})", bob.0));
    until(&pool, "it waits for the inbox", SOMEBODY_WAITS).await;
    accept.commits().await;
    assert_eq!(advancing.await.unwrap(), Some(1));
    assert_eq!(
        number(
            &pool,
            "select count(*) from message_status s join inboxes i using (user_id, class) where s.status = 'sent' and s.seq <= i.settled_seq"
        )
        .await,
        1
    );
    let drain = Store::new(pool).page(PageRequest::Poll, bob, Class::Chat, restante::domain::InboxSeq(1), 50).await.unwrap();
    assert!(drain.rows.is_empty(), "the message is lost: this is what must never happen");
}

#[tokio::test]
async fn advancing_and_opening_beside_an_accept_that_is_not_committed_leave_its_row_waiting() {
    let db = database().await;
    let pool = db.pool(2).await;
    let (accept, bob) = accepting(&db, &pool).await;
    // Neither waits: where somebody has the inbox the old value is true still.
    let advanced = spawn(&db.options(), format!("select restante_advance_settled({}, 'chat')", bob.0)).await.unwrap();
    let opened = spawn(
        &db.options(),
        "select settled_seq from restante_open('bob', null, null, 'phone', null, 1001, '{chat,alert,event}') where class = 'chat'"
            .to_owned(),
    )
    .await
    .unwrap();
    assert_eq!((advanced, opened), (Some(0), Some(0)));
    accept.commits().await;
    let after = spawn(&db.options(), format!("select restante_advance_settled({}, 'chat')", bob.0)).await.unwrap();
    assert_eq!(after, Some(0), "it waits");
    spawn(
        &db.options(),
        "select settled_seq from restante_open('bob', null, null, 'tablet', null, 1001, '{chat,alert,event}') where class = 'chat'"
            .to_owned(),
    )
    .await
    .unwrap();
    assert_eq!(
        number(&pool, "select count(*) from device_cursors where class = 'chat' and acked_seq = 0").await,
        2,
        "new devices get it, of before and after"
    );
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn opening_writes_nothing_where_the_first_row_behind_settled_seq_waits() {
    let db = database().await;
    let pool = db.pool(1).await;
    let (accept, bob) = accepting(&db, &pool).await;
    accept.commits().await;
    let open = "select settled_seq from restante_open('bob', null, null, null, null, 1001, '{chat,alert,event}') where class = 'chat'";
    let mut transaction = pool.begin().await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i64>(open).fetch_one(&mut *transaction).await.unwrap(), 0);
    let written = "select pg_current_xact_id_if_assigned()::text";
    assert_eq!(sqlx::query_scalar::<_, Option<String>>(written).fetch_one(&mut *transaction).await.unwrap(), None);
    transaction.commit().await.unwrap();
    let ack = format!("update message_status set status = 'delivered', delivered_at = now() where user_id = {}", bob.0);
    sqlx::raw_sql(AssertSqlSafe(ack)).execute(&pool).await.unwrap();
    assert_eq!(number(&pool, open).await, 1, "where it can move, it moves");
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn only_the_advance_itself_does_not_wait_for_the_disk() {
    let db = database().await;
    let pool = db.pool(1).await;
    let (accept, bob) = accepting(&db, &pool).await;
    accept.commits().await;
    Store::new(pool.clone()).advance_settled(&[Inbox { user: bob, class: Class::Chat }]).await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, String>("show synchronous_commit").fetch_one(&pool).await.unwrap(), "on");
}

/// The same race with a version that waits for the lock, in two statements: what the function relies on.
#[tokio::test]
async fn a_lock_in_an_earlier_statement_makes_the_later_one_see_what_committed_meanwhile() {
    let db = database().await;
    let pool = db.pool(2).await;
    let patient: String = definition(&pool)
        .await
        .replace("for no key update skip locked", "for no key update")
        .replace("restante_advance_settled", "patient_advance_settled");
    sqlx::raw_sql(AssertSqlSafe(patient)).execute(&pool).await.unwrap();
    let (accept, bob) = accepting(&db, &pool).await;
    let advancing = spawn(&db.options(), format!("select patient_advance_settled({}, 'chat')", bob.0));
    until(&pool, "it waits for the inbox", SOMEBODY_WAITS).await;
    accept.commits().await;
    assert_eq!(advancing.await.unwrap(), Some(0));
    assert_consistent(&pool).await;
}

/// The definition of the function as the database has it.
async fn definition(pool: &PgPool) -> String {
    sqlx::query_scalar("select pg_get_functiondef('restante_advance_settled'::regproc)").fetch_one(pool).await.unwrap()
}

fn opening(user: &Profile) -> OpeningRequest<'_> {
    OpeningRequest {
        external: &user.external,
        name: None,
        picture: None,
        device: None,
        node: NodeId::generate(),
        since: PerClass::default(),
        pending_max: 10,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn settled_seq_overtakes_nothing_while_messages_are_sent_acked_and_inboxes_opened() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let db = database().await;
    let pool = db.pool(6).await;
    let node = Node::start(db.options()).await;
    let people = users(store(&node), ["alice", "bob", "carol", "dave"]).await;
    let members: Vec<UserId> = people.iter().map(|user| user.user).collect();
    let chat = group(&pool, &members).await;
    let stop = Arc::new(AtomicBool::new(false));
    let advancing: Vec<_> = (0..4_u64)
        .map(|n| {
            let (store, stop, people) = (store(&node).clone(), Arc::clone(&stop), people.clone());
            let mut random = fastrand::Rng::with_seed(seed ^ n);
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let user = &people[random.usize(..people.len())];
                    match random.bool() {
                        true => drop(store.open(opening(user)).await.unwrap().unwrap()),
                        false => drop(store.advance_settled(&[Inbox { user: user.user, class: Class::Chat }]).await.unwrap()),
                    }
                }
            })
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..60 {
        let sends =
            (0..random.usize(1..20)).map(|n| delivery(&node).send(text(&people[random.usize(..people.len())], chat, n.to_string())));
        let sends: Vec<_> = sends.collect();
        let messages: Vec<_> = join_all(sends).await.into_iter().map(|answer| answer.unwrap().message).collect();
        for user in &people {
            let some: Vec<_> = messages.iter().copied().filter(|_| random.u8(..) < 240).collect();
            delivery(&node).settle(acks(user, &some)).await.unwrap();
        }
        assert_consistent(&pool).await;
    }
    stop.store(true, Ordering::Relaxed);
    for done in join_all(advancing).await {
        done.unwrap();
    }
    // At rest it is exact: just before the first row that waits.
    for user in &members {
        let settled = store(&node).advance_settled(&[Inbox { user: *user, class: Class::Chat }]).await.unwrap()[0].unwrap();
        let first = format!(
            "select coalesce(min(seq) filter (where status = 'sent') - 1, max(seq)) from message_status where user_id = {}",
            user.0
        );
        assert_eq!(settled.0, number(&pool, &first).await);
    }
    sent(delivery(&node), text(&people[0], chat, "last")).await;
    assert_consistent(&pool).await;
    node.stop().await;
}
