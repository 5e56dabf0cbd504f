//! LISTEN on PostgreSQL's channel `restante_wake`, where `restante_send()`, `restante_requeue()` and `restante_discard()`
//! notify.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tracing::debug;

use super::Heard;
use crate::domain::UserId;

/// The channel; payload: user numbers, separated by commas, with an `m` before those for whom marks moved.
const CHANNEL: &str = "restante_wake";
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Listens until it is dropped, through lost connections.
pub async fn listen(pool: PgPool, mut heard: impl FnMut(Heard)) {
    let mut pause = FIRST_PAUSE;
    loop {
        let cause = match listener(&pool).await {
            Ok(mut listener) => {
                // Listening anew: what was notified since the last connection went is not known.
                heard(Heard::Missed);
                pause = FIRST_PAUSE;
                follow(&mut listener, &mut heard).await
            }
            Err(cause) => Some(cause),
        };
        debug!(?cause, "the connection that listens is lost");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn listener(pool: &PgPool) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Until the connection is lost: `try_recv` says so (`None`), where `recv` would quietly make another.
async fn follow(listener: &mut PgListener, heard: &mut impl FnMut(Heard)) -> Option<sqlx::Error> {
    loop {
        match listener.try_recv().await {
            Ok(Some(notification)) => {
                let [waits, marks] = told(notification.payload());
                heard(Heard::Wake(waits));
                heard(Heard::Marks(marks));
            }
            Ok(None) => return None,
            Err(cause) => return Some(cause),
        }
    }
}

/// For whom something waits, and for whom marks moved. What cannot be read is left out: anybody may notify.
fn told(payload: &str) -> [Vec<UserId>; 2] {
    let (marks, waits): (Vec<&str>, Vec<&str>) = payload.split(',').map(str::trim).partition(|item| item.starts_with('m'));
    let users = |items: Vec<&str>| items.iter().filter_map(|item| item.trim_start_matches('m').parse().ok()).map(UserId).collect();
    [users(waits), users(marks)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_read_as_far_as_it_makes_sense() {
        assert_eq!(told("1,22, 3"), [vec![UserId(1), UserId(22), UserId(3)], vec![]]);
        assert_eq!(told("m4,1, m55"), [vec![UserId(1)], vec![UserId(4), UserId(55)]]);
        assert_eq!(told(""), [vec![], vec![]]);
        assert_eq!(told("x,7,mx,99999999999999999999"), [vec![UserId(7)], vec![]]);
    }
}
