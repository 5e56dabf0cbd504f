//! Keeps the service's own PostgreSQL running for as long as the service runs. A server that has died, or whose new backends cannot load
//! their libraries after an upgrade, is started again, with a back-off. It knows nothing of what the server stores: connections that
//! break meanwhile are an outage like any other to the node.

use std::convert::Infallible;
use std::time::Duration;

use restante_postgres::{Condition, Embedded};
use tokio::sync::Notify;
use tokio::time::{Instant, interval, sleep};
use tracing::{info, warn};

/// Between two looks at the server's process, which cost next to nothing.
const LOOK_AT_PROCESS: Duration = Duration::from_millis(200);
/// Between two looks over a new connection.
const LOOK_CLOSELY: Duration = Duration::from_secs(10);
/// Between two looks at a server that is starting or stopping.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A server that has run for this long has not died of its last start.
const STEADY: Duration = Duration::from_secs(60);

/// The waiting times between restarts. The first one comes at once.
#[derive(Debug, Default)]
struct Backoff {
    restarts: u32,
    last: Option<Instant>,
}

impl Backoff {
    /// The time to wait before a restart that is due now.
    fn next_wait(&mut self, now: Instant) -> Duration {
        if self.last.is_some_and(|last| now.duration_since(last) > STEADY + LONGEST_PAUSE) {
            self.restarts = 0;
        }
        let wait = self.restarts.checked_sub(1).map_or(Duration::ZERO, |n| FIRST_PAUSE.saturating_mul(1 << n.min(10)).min(LONGEST_PAUSE));
        self.restarts += 1;
        self.last = Some(now);
        wait
    }
}

/// The signals between the keeper and the node.
#[derive(Debug, Default)]
pub struct Signals {
    /// The node has found that its database is away.
    pub look: Notify,
    /// The server is unfit, which connections from before do not show.
    pub unfit: Notify,
}

/// Looks at the server until it is dropped, and at once where the node asks for it. Restarts it where that is needed.
pub async fn keep(server: &Embedded, signals: &Signals) -> Infallible {
    let mut backoff = Backoff::default();
    loop {
        match server.look().await {
            Condition::Fit => quiet(server, &signals.look).await,
            Condition::Unclear(_) => sleep(LOOK_AGAIN).await,
            condition @ (Condition::Gone | Condition::Unfit { .. }) => {
                if let Condition::Unfit { .. } = condition {
                    signals.unfit.notify_one();
                }
                let wait = backoff.next_wait(Instant::now());
                restart(server, &condition, wait).await;
            }
        }
    }
}

/// Waits until there is a reason to look closely.
async fn quiet(server: &Embedded, look: &Notify) {
    let mut process = interval(LOOK_AT_PROCESS);
    let gone = async {
        while server.lives() {
            process.tick().await;
        }
    };
    tokio::select! {
        () = gone => {}
        () = look.notified() => {}
        () = sleep(LOOK_CLOSELY) => {}
    }
}

async fn restart(server: &Embedded, condition: &Condition, wait: Duration) {
    warn!(
        reason = reason(condition),
        wait_ms = wait.as_millis(),
        log = %server.log_file().display(),
        "the service's own PostgreSQL is restarted: until then sends are refused, acks wait"
    );
    sleep(wait).await;
    match server.revive(condition).await {
        Ok(_) => info!("the service's own PostgreSQL runs again"),
        Err(error) => warn!(%error, "the service's own PostgreSQL could not be restarted; it is tried again"),
    }
}

/// Starts a server again that was adopted and turns out to be unfit: it was left by a service that was killed.
///
/// # Errors
/// When it cannot be started.
pub async fn mend(server: &Embedded) -> Result<(), restante_postgres::Error> {
    let condition = server.look().await;
    if let Condition::Unfit { .. } = condition {
        warn!(reason = reason(&condition), "the service's own PostgreSQL is restarted");
        server.revive(&condition).await?;
    }
    Ok(())
}

fn reason(condition: &Condition) -> String {
    match condition {
        Condition::Gone => "it has ended: it was killed, or stopped by somebody else".to_owned(),
        Condition::Unfit { said, .. } => format!("its new backends cannot work, as after an upgrade of its programs: {said}"),
        Condition::Fit | Condition::Unclear(_) => "nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_restart_comes_at_once_and_each_later_one_waits_longer_until_the_server_is_steady() {
        let (mut backoff, mut now) = (Backoff::default(), Instant::now());
        let waits_ms: Vec<u128> = (0..9).map(|_| backoff.next_wait(now).as_millis()).collect();
        assert_eq!(waits_ms, [0, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        now += STEADY + LONGEST_PAUSE + Duration::from_secs(1);
        assert_eq!(backoff.next_wait(now), Duration::ZERO);
    }
}
