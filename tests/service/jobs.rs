//! Jobs that one node does for all: one lease, taken over from a node that dies or hangs, a cursor that goes on, and what the
//! service's own jobs make of it.

use std::sync::Arc;
use std::time::Duration;

use restante::domain::NodeId;
use restante::jobs::{DoneBy, Job, JobNode, LeaseTimes, Passed, Rest, Runner};
use restante::store::{self, Store};
use restante::telemetry::Metrics;
use serde_json::json;
use sqlx::PgPool;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::nodes::two_nodes;
use crate::support::{Node, PATIENCE, database, direct, group, number, until_true, wait_until};

const SHORT: LeaseTimes = LeaseTimes { length: Duration::from_secs(1), look_interval: Duration::from_millis(50) };
/// A lease that does not run out within a test.
const LONG: LeaseTimes = LeaseTimes { length: Duration::from_secs(600), look_interval: Duration::from_millis(50) };

/// Counts: a pass takes one permit, and the cursor is how many passes there were. It fails once there are no more permits to come.
struct Counting {
    permits: Arc<Semaphore>,
    begun: mpsc::UnboundedSender<u64>,
}

impl Job for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(10)
    }

    fn done_by(&self) -> DoneBy {
        DoneBy::OneNode
    }

    async fn pass(&mut self, cursor: &str) -> store::Result<Passed> {
        let count: u64 = if cursor.is_empty() { 0 } else { cursor.parse().unwrap() };
        self.begun.send(count).unwrap();
        self.permits.acquire().await.map_err(|_| store::Error::from(sqlx::Error::PoolTimedOut))?.forget();
        Ok(Passed { rows: 1, rest: Rest::Nothing, cursor: Some((count + 1).to_string()) })
    }
}

/// A node that does nothing but count.
struct Counter {
    permits: Arc<Semaphore>,
    begun: mpsc::UnboundedReceiver<u64>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Counter {
    fn start(pool: &PgPool, times: LeaseTimes, permits: usize) -> Self {
        let (metrics, stop, permits) = (Arc::<Metrics>::default(), CancellationToken::new(), Arc::new(Semaphore::new(permits)));
        let (tell, begun) = mpsc::unbounded_channel();
        let node = JobNode::new(Store::new(pool.clone()), NodeId(Uuid::now_v7()), Arc::clone(&metrics)).with_times(times);
        let job = Counting { permits: Arc::clone(&permits), begun: tell };
        Self { permits, begun, metrics, task: tokio::spawn(Runner::new(job, node).run(stop.clone())), stop }
    }

    /// The cursor with which the next pass begins.
    async fn begins(&mut self) -> u64 {
        timeout(PATIENCE, self.begun.recv()).await.expect("a pass begins").unwrap()
    }

    fn passes(&self, outcome: &'static str) -> u64 {
        self.metrics.job_passes.of_all(["counting", outcome]).get()
    }

    fn holds(&self) -> bool {
        self.metrics.job_held.of("counting").get() == 1
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

async fn cursor(pool: &PgPool) -> u64 {
    let cursor: String = sqlx::query_scalar("select cursor from jobs where name = 'counting'").fetch_one(pool).await.unwrap();
    cursor.parse().unwrap()
}

const LEASE_NO: &str = "select lease_no from jobs where name = 'counting'";

#[tokio::test]
async fn one_node_has_the_job_and_when_it_dies_another_goes_on_at_the_cursor_that_is_stored() {
    let db = database().await;
    let pool = db.pool(4).await;
    let mut one = Counter::start(&pool, SHORT, Semaphore::MAX_PERMITS);
    assert_eq!(one.begins().await, 0);
    let mut other = Counter::start(&pool, SHORT, Semaphore::MAX_PERMITS);
    // For longer than a lease lasts it renews its own, and the other one looks.
    let began: time::OffsetDateTime = sqlx::query_scalar("select clock_timestamp()").fetch_one(&pool).await.unwrap();
    until_true(
        &pool,
        &format!("select coalesce(passed_at > '{began}'::timestamptz + interval '1500 ms', false) from jobs where name = 'counting'"),
    )
    .await;
    assert!(one.holds() && !other.holds());
    assert!(other.begun.try_recv().is_err(), "one does the job");
    assert_eq!(number(&pool, LEASE_NO).await, 1);
    assert!(other.metrics.job_success_age.of("counting").get() < Duration::from_secs(1), "a pass of any node counts");

    one.task.abort();
    one.task.await.unwrap_err();
    let stored = cursor(&pool).await;
    let goes_on = other.begins().await;
    assert!(stored > 10 && (stored..=stored + 1).contains(&goes_on), "stored {stored}, goes on at {goes_on}");
    assert!(other.holds());
    assert_eq!(number(&pool, LEASE_NO).await, 2);
    other.stop().await;
}

#[tokio::test]
async fn a_node_that_hangs_in_a_pass_loses_the_job_and_its_cursor_is_refused_when_it_ends() {
    let db = database().await;
    let pool = db.pool(4).await;
    let mut late = Counter::start(&pool, SHORT, 0);
    assert_eq!(late.begins().await, 0);
    let mut next = Counter::start(&pool, SHORT, 3);
    for count in 0..4 {
        assert_eq!(next.begins().await, count);
    }
    assert_eq!(cursor(&pool).await, 3);
    late.permits.add_permits(1);
    wait_until("the late pass is refused", || late.passes("fenced") == 1).await;
    assert_eq!(cursor(&pool).await, 3, "the late pass would have stored 1");
    assert!(!late.holds());
    assert_eq!(late.passes("done"), 0);
    // Now it is the other one that hangs.
    assert_eq!(late.begins().await, 3, "it forgets how far it had got itself");
    assert_eq!(number(&pool, LEASE_NO).await, 3);
    late.permits.add_permits(Semaphore::MAX_PERMITS / 2);
    next.permits.add_permits(Semaphore::MAX_PERMITS / 2);
    wait_until("the next one is refused in turn", || next.passes("fenced") == 1).await;
    late.stop().await;
    next.stop().await;
}

#[tokio::test]
async fn a_node_that_stops_gives_the_job_back_and_another_goes_on_at_once() {
    let db = database().await;
    let pool = db.pool(4).await;
    let mut one = Counter::start(&pool, LONG, 5);
    let mut other = Counter::start(&pool, LONG, 1);
    // Either may ask first.
    let first = tokio::select! { _ = one.begins() => true, _ = other.begins() => false };
    let (mut holder, mut waiting) = if first { (one, other) } else { (other, one) };
    let enough = 10;
    holder.permits.add_permits(enough);
    while holder.begins().await < 3 {}
    assert!(waiting.begun.try_recv().is_err());
    let metrics = Arc::clone(&holder.metrics);
    holder.stop().await;
    assert_eq!(metrics.job_held.of("counting").get(), 0);
    // The lease would last for longer than anybody waits here.
    assert!(waiting.begins().await >= 3);
    waiting.stop().await;
    assert_eq!(number(&pool, "select count(*) from jobs where name = 'counting' and holder is null and leased_until is null").await, 1);
}

#[tokio::test]
async fn a_node_whose_passes_fail_for_as_long_as_a_lease_lasts_leaves_the_job_to_another() {
    let db = database().await;
    let pool = db.pool(4).await;
    let mut one = Counter::start(&pool, SHORT, 3);
    while one.begins().await < 3 {}
    let mut other = Counter::start(&pool, SHORT, Semaphore::MAX_PERMITS);
    one.permits.close();
    assert_eq!(other.begins().await, 3, "it goes on where the last pass that succeeded ended");
    assert!(one.passes("failed") > 1, "it was tried again first");
    wait_until("the job stays where it succeeds", || other.passes("done") > 100).await;
    assert!(other.holds() && !one.holds());
    assert_eq!(number(&pool, LEASE_NO).await, 2);
    // Alone again, it does not give up.
    other.stop().await;
    let failed = one.passes("failed");
    wait_until("it is tried", || one.passes("failed") > failed).await;
    one.stop().await;
}

#[tokio::test]
async fn of_two_nodes_that_ask_for_a_job_at_once_one_gets_it_a_new_one_too() {
    let db = database().await;
    let pool = db.pool(2).await;
    let store = Store::new(pool.clone());
    let nodes = [NodeId(Uuid::now_v7()), NodeId(Uuid::now_v7())];
    for round in 0..20 {
        let name = format!("job {round}");
        let ask = |node| store.acquire_job(&name, node, Duration::from_secs(60));
        let (one, other) = tokio::join!(ask(nodes[0]), ask(nodes[1]));
        let (one, other) = (one.unwrap().lease, other.unwrap().lease);
        assert!(one.is_some() != other.is_some(), "{one:?} {other:?}");
        let (lease, holder, loser) = one.map_or_else(|| (other.clone().unwrap(), nodes[1], nodes[0]), |lease| (lease, nodes[0], nodes[1]));
        assert_eq!((lease.number, lease.cursor.as_str()), (1, ""));
        let again = ask(holder).await.unwrap();
        assert_eq!((again.lease, again.passed_ago), (Some(lease.clone()), None), "a renewal is no new lease");
        assert!(!store.advance_job(&name, loser, &lease, Duration::from_secs(60)).await.unwrap(), "the number alone is not enough");
        assert!(store.release_job(&name, holder, lease.number).await.unwrap());
        assert!(!store.advance_job(&name, holder, &lease, Duration::from_secs(60)).await.unwrap(), "it has given it back");
    }
}

#[tokio::test]
async fn a_lease_from_before_the_clock_was_set_back_is_not_believed() {
    let db = database().await;
    let pool = db.pool(1).await;
    let store = Store::new(pool.clone());
    let (one, other) = (NodeId(Uuid::now_v7()), NodeId(Uuid::now_v7()));
    let length = Duration::from_secs(60);
    store.acquire_job("expire", one, length).await.unwrap().lease.unwrap();
    assert_eq!(store.acquire_job("expire", other, length).await.unwrap().lease, None);
    let ahead = "update jobs set renewed_at = renewed_at + interval '1 hour', leased_until = leased_until + interval '1 hour' where name = 'expire'";
    sqlx::query(ahead).execute(&pool).await.unwrap();
    assert_eq!(store.acquire_job("expire", other, length).await.unwrap().lease.unwrap().number, 2);
}

#[tokio::test]
async fn what_expires_in_a_crowd_ends_in_passes_of_a_page_each_and_the_cursor_follows() {
    let db = database().await;
    let pool = db.pool(2).await;
    let chat = group(&pool, &["alice", "bob"]).await;
    for _ in 0..2 {
        let send = "select restante_send($1, 'alice', n::text) from generate_series(1, 600) n";
        sqlx::query(send).bind(chat).execute(&pool).await.unwrap();
    }
    sqlx::query("update messages set expires_at = clock_timestamp()").execute(&pool).await.unwrap();
    let node = Node::start(db.options()).await;
    until_true(&pool, "select count(*) = 1200 from message_status where status = 'expired'").await;
    let at_once = "select max(rows) from (select count(*) as rows from message_status group by xmin::text) x";
    assert_eq!(number(&pool, at_once).await, 500);
    let metrics = &node.app().context().metrics;
    wait_until("the sweep ends", || metrics.job_passes.of_all(["expire", "done"]).get() > 0).await;
    assert_eq!(metrics.job_passes.of_all(["expire", "more"]).get(), 3);
    assert_eq!(metrics.job_rows.of("expire").get(), 1_200);
    until_true(
        &pool,
        "select cursor::timestamptz between clock_timestamp() - interval '3 min' and clock_timestamp() from jobs where name = 'expire'",
    )
    .await;
    node.stop().await;
    assert_eq!(number(&pool, "select count(*) from jobs where holder is not null").await, 0, "a stop gives every job back");
}

#[tokio::test]
async fn with_two_nodes_what_expires_is_told_once_also_after_the_node_that_does_it_has_stopped() {
    let (_db, one, other, pool) = two_nodes().await;
    direct(&pool, "alice", "bob").await;
    let held = |node: &Node| node.app().context().metrics.job_held.of("expire").get();
    wait_until("a node has the job", || held(&one) + held(&other) == 1).await;
    let (holder, next) = if held(&one) == 1 { (one, other) } else { (other, one) };
    let mut alice = next.connect("alice").await;
    let expires = async |alice: &mut crate::support::Socket| {
        let answer = alice.send("bob", "too late").await;
        sqlx::query("update messages set expires_at = clock_timestamp() where id = $1::uuid")
            .bind(answer["messageId"].as_str().unwrap())
            .execute(&pool)
            .await
            .unwrap();
        let told = alice.event("message:status").await;
        assert_eq!((&told["status"], &told["messageIds"]), (&json!("expired"), &json!([answer["messageId"]])));
    };
    expires(&mut alice).await;
    holder.stop().await;
    expires(&mut alice).await;
    assert_eq!(held(&next), 1);
    let passes = &next.app().context().metrics.job_passes;
    let before = passes.of_all(["expire", "done"]).get();
    wait_until("two more sweeps", || passes.of_all(["expire", "done"]).get() >= before + 2).await;
    let more = alice.until_pong().await;
    assert!(more.iter().all(|frame| frame["event"] != "message:status"), "{more:?}");
    assert_eq!(number(&pool, "select count(*) from endings where ended = 'expired'").await, 2);
    next.stop().await;
}
