//! A settle lane writes a long read, ack or row of rejects in parts: other users are confirmed between them, later jobs of the same user after them.

use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{Either, join_all, select};
use restante::delivery::{Acks, Attempt, AttemptTarget, ReadUpTo};
use restante::domain::{ChatId, ChatSeq, DeviceId, InboxSeq, MessageId, PerClass, Profile, UserId};
use restante::store::{self, StatusRow};
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::fixtures::{LockHolder, acks, assert_consistent, crowd, delivery, group, number, sent, store, text, until, users};
use crate::support::{Database, Node, database, fill};

/// Jobs that fill one transaction of a lane.
const JOBS: usize = 500;

/// Refuses a device's cursor above a row that waits, and a mark above one.
const GUARDS: &str = "
    create function guard_cursor() returns trigger language plpgsql as $$ begin
      if exists (select from message_status s where s.user_id = new.user_id and s.class = new.class and s.seq <= new.acked_seq and s.status = 'sent') then
        raise 'a cursor passes a row that waits';
      end if;
      return null;
    end $$;
    create function guard_mark() returns trigger language plpgsql as $$ begin
      if exists (select from messages m join message_status s on s.message_id = m.id
                  where m.chat_id = new.chat_id and m.seq <= new.delivered_seq and s.user_id = new.user_id and s.status = 'sent') then
        raise 'a mark passes a row that waits';
      end if;
      return null;
    end $$;
    create trigger guard_cursor after update on device_cursors for each row execute function guard_cursor();
    create trigger guard_mark after update on marks for each row execute function guard_mark()";

/// A node with one settle lane, and a chat in which messages of alice wait for bob.
struct Long {
    db: Database,
    pool: PgPool,
    node: Node,
    chat: ChatId,
    messages: i32,
    alice: Arc<Profile>,
    bob: Arc<Profile>,
    carol: Arc<Profile>,
}

impl Long {
    async fn start(messages: i32) -> Self {
        let db = database().await;
        let pool = db.pool(1).await;
        let node = Node::with(db.options(), |config| config.settle_lanes = 1).await;
        let [alice, bob, carol] = users(store(&node), ["alice", "bob", "carol"]).await;
        let chat = group(&pool, &[alice.user, bob.user]).await;
        for _ in 0..messages / 3_000 {
            fill(&pool, chat.0, "alice", 3_000).await;
        }
        let device = "select from restante_open('bob', null, null, 'phone', null, 1001, '{chat,event}')";
        sqlx::raw_sql(device).execute(&pool).await.unwrap();
        sqlx::raw_sql(GUARDS).execute(&pool).await.unwrap();
        Self { db, pool, node, chat, messages, alice, bob, carol }
    }

    fn last(&self) -> ChatSeq {
        ChatSeq(self.messages.into())
    }

    /// Bob reads all of it.
    fn read(&self) -> impl Future<Output = bool> + use<> {
        let last = self.last();
        let read = delivery(&self.node).read(Arc::clone(&self.bob), self.chat, ReadUpTo::Seq(last));
        read.map(move |done| done.is_ok_and(|done| done.up_to == last))
    }

    /// Bob's phone acks these rows, and says that it has come to the end.
    fn ack(&self, rows: Vec<StatusRow>, by_id: Vec<MessageId>) -> impl Future<Output = bool> + use<> {
        let device = DeviceId::try_from("phone".to_owned()).unwrap();
        let (marks, device) =
            (vec![(self.chat, self.last())], Some((device, PerClass { chat: InboxSeq(self.messages.into()), ..PerClass::default() })));
        delivery(&self.node).settle(Acks { user: Arc::clone(&self.bob), rows, by_id, marks, device }).map(|done| done.is_ok())
    }

    /// A message that waits for carol.
    async fn for_carol(&self) -> MessageId {
        let chat = group(&self.pool, &[self.alice.user, self.carol.user]).await;
        sent(delivery(&self.node), text(&self.alice, chat, "hello")).await.message
    }

    /// Fills the transaction that the lane writes first: what is queued from now on goes with a later one.
    fn fill_first_transaction(&self) -> impl Future<Output = ()> + use<> {
        let jobs: Vec<_> = (0..JOBS).map(|_| delivery(&self.node).settle(acks(&self.alice, &[]))).collect();
        join_all(jobs).map(drop)
    }

    /// Bob's rows, in the order of the chat.
    async fn rows(&self) -> Vec<StatusRow> {
        let ids = "select id from messages where chat_id = $1 order by seq";
        let ids: Vec<uuid::Uuid> = sqlx::query_scalar(ids).bind(self.chat.0).fetch_all(&self.pool).await.unwrap();
        let named: Vec<_> = ids.into_iter().map(|id| (self.bob.user, MessageId(id))).collect();
        store::locate(&mut self.pool.acquire().await.unwrap(), &named).await.unwrap()
    }

    async fn number_of_bob(&self, of: &str) -> i64 {
        number(&self.pool, &format!("select {of} where user_id = {}", self.bob.user.0)).await
    }

    async fn cursor(&self) -> i64 {
        self.number_of_bob("max(acked_seq) from device_cursors").await
    }
}

#[tokio::test]
async fn another_user_is_confirmed_before_a_long_read_ends() {
    let long = Long::start(12_000).await;
    let hello = long.for_carol().await;
    let read = pin!(long.read());
    let first = long.fill_first_transaction();
    let acked = pin!(delivery(&long.node).settle(acks(&long.carol, &[hello])));
    let Either::Right((acked, read)) = select(read, acked).await else { panic!("carol waits until bob's read ends") };
    acked.unwrap();
    assert_consistent(&long.pool).await;
    assert!(read.await);
    first.await;
    assert_eq!(long.number_of_bob("count(*) filter (where status = 'read') from message_status").await, 12_000);
    assert_consistent(&long.pool).await;
    long.node.stop().await;
}

#[tokio::test]
async fn a_later_ack_of_the_same_user_is_committed_behind_its_long_read() {
    let long = Long::start(12_000).await;
    let read = pin!(long.read());
    let first = long.fill_first_transaction();
    let acked = pin!(long.ack(Vec::new(), Vec::new()));
    let Either::Left((read, acked)) = select(read, acked).await else { panic!("the ack overtakes the read") };
    assert!(read);
    assert!(acked.await, "the device's cursor passes rows that are not settled");
    first.await;
    assert_eq!(long.cursor().await, 12_000);
    assert_consistent(&long.pool).await;
    long.node.stop().await;
}

#[tokio::test]
async fn another_user_is_confirmed_before_a_long_ack_ends_and_its_marks_and_cursor_pass_nothing_that_waits() {
    let long = Long::start(12_000).await;
    let hello = long.for_carol().await;
    let mut rows = long.rows().await;
    // Some of the first ones by their ids, which are settled last.
    let by_id = rows.drain(..2_000).map(|row| row.message).collect();
    let bobs = pin!(long.ack(rows, by_id));
    let later = pin!(long.ack(Vec::new(), Vec::new()));
    let carols = pin!(delivery(&long.node).settle(acks(&long.carol, &[hello])));
    let Either::Right((acked, bobs)) = select(select(bobs, later), carols).await else { panic!("carol waits until bob's ack ends") };
    acked.unwrap();
    assert_consistent(&long.pool).await;
    // The last part takes the later one along.
    let Either::Left((is_settled, later)) = bobs.await else { panic!("the later ack overtakes the long one") };
    assert!(is_settled && later.await);
    assert_eq!(long.number_of_bob("count(*) filter (where status = 'delivered') from message_status").await, 12_000);
    // A mark moves on by 5,000 messages at once; a job does the rest.
    while store(&long.node).catch_up_marks(1).await.unwrap() {}
    assert_eq!(long.number_of_bob("max(delivered_seq) from marks").await, 12_000);
    assert_eq!(long.number_of_bob("count(*) filter (where has_hole) from marks").await, 0);
    assert_eq!(long.cursor().await, 12_000);
    assert_consistent(&long.pool).await;
    long.node.stop().await;
}

#[tokio::test]
async fn a_stop_writes_all_parts_of_what_was_queued() {
    let long = Long::start(12_000).await;
    let rows = long.rows().await;
    let (acked, read) = (long.ack(rows, Vec::new()), long.read());
    let Long { node, pool, .. } = long;
    node.stop().await;
    assert_eq!((acked.now_or_never(), read.now_or_never()), (Some(true), Some(true)));
    assert_eq!(number(&pool, "select count(*) from message_status where status = 'read'").await, 12_000);
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn a_part_is_repeated_when_the_connection_dies_and_while_somebody_holds_its_rows() {
    let long = Long::start(6_000).await;
    let lock = format!("select from message_status where user_id = {} and class = 'chat' and seq = 5000 for update", long.bob.user.0);
    let holder = LockHolder::holds(&long.db.options(), &lock).await;
    let read = tokio::spawn(long.read());
    until(&long.pool, "a part is read", "select max(read_seq) >= 500 from marks").await;
    let hello = long.for_carol().await;
    delivery(&long.node).settle(acks(&long.carol, &[hello])).await.unwrap();
    let killed = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                   where datname = current_database() and pid <> pg_backend_pid() and query ~ 'restante_(settle|read)'";
    assert_eq!(number(&long.pool, killed).await, 1);
    assert!(!read.is_finished());
    holder.commits().await;
    assert!(read.await.unwrap());
    assert_eq!(number(&long.pool, "select count(*) from message_status where status = 'read'").await, 6_000);
    assert_consistent(&long.pool).await;
    long.node.stop().await;
}

/// A row takes this long to be settled, as on a slow disk; whatever the machine, 500 of them take half a second.
const SLOW: &str = "
    create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.001); return null; end $$;
    create trigger slow after update on message_status for each row execute function slow()";

/// Carol acks one message after the other until `long` is done. Returns how many of them were confirmed meanwhile.
async fn confirmed_beside(of: &Long, long: impl Future<Output = ()>) -> usize {
    let mut long = pin!(long);
    let mut confirmed = 0;
    loop {
        let acked = pin!(delivery(&of.node).settle(acks(&of.carol, &[])));
        match select(&mut long, acked).await {
            Either::Left(_) => return confirmed,
            Either::Right((acked, _)) => acked.unwrap(),
        }
        confirmed += 1;
    }
}

/// The bound is one of time as well as of rows: of 3,000 slow rows no part holds more than what was found to fit.
#[tokio::test]
async fn rows_that_take_long_make_smaller_parts_of_a_read_of_an_ack_and_of_rejects() {
    for kind in ["read", "ack", "rejects"] {
        let long = Long::start(3_000).await;
        sqlx::raw_sql(SLOW).execute(&long.pool).await.unwrap();
        let rows = long.rows().await;
        let confirmed = match kind {
            "read" => confirmed_beside(&long, long.read().map(|read| assert!(read))).await,
            "ack" => confirmed_beside(&long, long.ack(rows, Vec::new()).map(|acked| assert!(acked))).await,
            _ => confirmed_beside(&long, rejected(&long, rows)).await,
        };
        assert!(confirmed >= 20, "{kind}: {confirmed} others in all that time");
        assert_consistent(&long.pool).await;
        long.node.stop().await;
    }
}

/// Bob rejects each of these messages, all at once.
async fn rejected(of: &Long, rows: Vec<StatusRow>) {
    let rejects = rows.into_iter().map(|row| {
        let attempt = Attempt { user: Arc::clone(&of.bob), target: AttemptTarget::Row(row), reason: "crash".to_owned(), is_final: false };
        delivery(&of.node).count_attempt(attempt)
    });
    assert!(join_all(rejects.collect::<Vec<_>>()).await.iter().all(Result::is_ok));
}

/// Others wait for the locks of a transaction that computes marks. Broken by looking at 20,000 messages of all, or at 50 of each.
#[tokio::test]
async fn marks_that_have_far_to_go_move_past_so_many_messages_at_once_however_many_members_they_are_of() {
    for (members, messages) in [(4, 3_000), (200, 60)] {
        let db = database().await;
        let pool = db.pool(1).await;
        let alice = crate::support::users(&pool, &["alice"]).await[0];
        let chat = crowd(&pool, members, &[UserId(alice)]).await;
        fill(&pool, chat.0, "alice", messages).await;
        let acked = "update message_status set status = 'delivered', delivered_at = clock_timestamp()";
        sqlx::raw_sql(acked).execute(&pool).await.unwrap();
        let exact = format!(
            "select restante_exact_marks(array_fill('{chat}'::uuid, array[{members}]), array_agg(user_id)) from message_status where seq = 1"
        );
        let passed = "select sum(delivered_seq)::bigint from marks";
        sqlx::query(AssertSqlSafe(exact)).execute(&pool).await.unwrap();
        let mut before = number(&pool, passed).await;
        assert!((1..=5_000).contains(&before), "{before}");
        assert_eq!(number(&pool, "select count(*) from marks_behind").await, i64::from(members), "the rest is left to a job");
        let store = store::Store::new(pool.clone());
        while store.catch_up_marks(4).await.unwrap() {
            let after = number(&pool, passed).await;
            assert!(after - before <= 5_000, "{}", after - before);
            before = after;
        }
        assert_eq!(before, i64::from(members) * i64::from(messages));
        assert_consistent(&pool).await;
    }
}
