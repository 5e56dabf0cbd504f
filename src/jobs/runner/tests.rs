//! The runner by tokio's clock, with a job that needs no lease and a database that is never asked. How leases pass from node to node
//! is tested with a database, in `tests/service/jobs.rs`.

use std::collections::VecDeque;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::sync::mpsc;

use super::*;

const INTERVAL: Duration = Duration::from_secs(10);

/// A job that follows a script, pass after pass. After the script each pass succeeds and has no rows.
struct Told {
    script: VecDeque<store::Result<(usize, Rest)>>,
    /// Time from one pass to the end of it.
    takes: Duration,
    begun: mpsc::UnboundedSender<Instant>,
}

impl Job for Told {
    fn name(&self) -> &'static str {
        "told"
    }

    fn interval(&self) -> Duration {
        INTERVAL
    }

    fn done_by(&self) -> DoneBy {
        DoneBy::AnyNode
    }

    async fn pass(&mut self, cursor: &str) -> store::Result<Passed> {
        assert_eq!(cursor, "", "without a lease there is no cursor");
        self.begun.send(Instant::now()).unwrap();
        sleep(self.takes).await;
        let (rows, rest) = self.script.pop_front().unwrap_or(Ok((0, Rest::Nothing)))?;
        Ok(Passed { rows, rest, cursor: None })
    }
}

fn refused() -> store::Error {
    store::Error::from(sqlx::Error::PoolTimedOut)
}

struct Running {
    metrics: Arc<Metrics>,
    begun: mpsc::UnboundedReceiver<Instant>,
    start: Instant,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(takes: Duration, script: impl IntoIterator<Item = store::Result<(usize, Rest)>>) -> Self {
        let (metrics, stop) = (Arc::<Metrics>::default(), CancellationToken::new());
        let store = Store::connect_lazily(PgPoolOptions::new(), PgConnectOptions::new());
        let (tell, begun) = mpsc::unbounded_channel();
        let job = Told { script: script.into_iter().collect(), takes, begun: tell };
        let node = JobNode::new(store, NodeId(uuid::Uuid::nil()), Arc::clone(&metrics));
        let task = tokio::spawn(Runner::new(job, node).run(stop.clone()));
        Self { metrics, begun, start: Instant::now(), stop, task }
    }

    /// When the next passes began, in seconds from the start.
    async fn passes(&mut self, count: usize) -> Vec<u64> {
        let mut begun = Vec::new();
        for _ in 0..count {
            let next = timeout(Duration::from_secs(3_600), self.begun.recv()).await.expect("a pass begins");
            begun.push((next.unwrap() - self.start).as_secs());
        }
        begun
    }

    fn counted(&self, outcome: Outcome) -> u64 {
        self.metrics.job_passes.of_all(["told", outcome.as_str()]).get()
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_page_is_followed_at_once_and_the_last_one_after_the_interval() {
    let mut running = Running::start(Duration::from_secs(1), [Ok((500, Rest::More)), Ok((500, Rest::More)), Ok((3, Rest::Nothing))]);
    assert_eq!(running.passes(5).await, [0, 1, 2, 12, 22]);
    assert_eq!((running.counted(Outcome::More), running.counted(Outcome::Done)), (2, 2));
    assert_eq!(running.metrics.job_rows.of("told").get(), 1_003);
    let rendered = running.metrics.render();
    assert!(rendered.contains(r#"restante_job_pass_duration_seconds_count{job="told"} 4"#), "{rendered}");
    assert!(!rendered.contains("restante_job_held{"), "it takes no lease");
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_takes_longer_than_the_interval_is_followed_at_once() {
    let mut running = Running::start(INTERVAL * 2, []);
    assert_eq!(running.passes(3).await, [0, 20, 40]);
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_fails_is_made_again_after_the_interval_and_its_age_is_seen() {
    let mut running = Running::start(Duration::from_secs(1), (0..10).map(|_| Err(refused())));
    assert_eq!(running.passes(10).await, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
    assert_eq!(running.metrics.job_success_age.of("told").get(), Duration::from_secs(90));
    assert_eq!(running.passes(2).await, [100, 110]);
    assert_eq!(running.metrics.job_success_age.of("told").get(), Duration::from_secs(9));
    assert_eq!((running.counted(Outcome::Failed), running.counted(Outcome::Done)), (10, 1));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_fails_for_long_is_told_of_once_and_again_after_it_has_recovered() {
    let (mut failures, start) = (Failures::default(), Instant::now());
    let told =
        |failures: &mut Failures| (0..200).filter(|second| failures.failed(start + Duration::from_secs(*second))).collect::<Vec<_>>();
    assert_eq!(told(&mut failures), [60]);
    assert!(failures.recovered());
    assert!(!failures.recovered(), "nobody was told of anything since");
    assert_eq!(told(&mut failures), [60]);
    let mut short = Failures::default();
    assert!(!short.failed(start) && !short.recovered());
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_the_pass_that_is_under_way_and_not_for_one_that_hangs() {
    for (takes, waited) in [(STOP_PATIENCE / 2, STOP_PATIENCE / 2), (INTERVAL, STOP_PATIENCE)] {
        let mut running = Running::start(takes, [Ok((1, Rest::More))]);
        running.passes(1).await;
        running.stop.cancel();
        running.task.await.unwrap();
        assert_eq!(running.start.elapsed(), waited);
        assert_eq!(running.metrics.job_rows.of("told").get(), u64::from(takes < STOP_PATIENCE));
        assert!(running.begun.recv().await.is_none(), "no pass follows");
    }
}
