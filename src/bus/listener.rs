//! LISTEN on PostgreSQL's channel `restante_wake`, where `restante_send()` and `restante_requeue()` notify.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tracing::debug;

use super::Heard;
use crate::domain::UserId;

/// The channel; payload: user numbers, separated by commas.
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
            Ok(Some(notification)) => heard(Heard::Wake(users(notification.payload()))),
            Ok(None) => return None,
            Err(cause) => return Some(cause),
        }
    }
}

/// What cannot be read is left out: anybody may notify.
fn users(payload: &str) -> Vec<UserId> {
    payload.split(',').filter_map(|number| number.trim().parse().ok()).map(UserId).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_read_as_far_as_it_makes_sense() {
        assert_eq!(users("1,22, 3"), [UserId(1), UserId(22), UserId(3)]);
        assert_eq!(users(""), []);
        assert_eq!(users("x,7,99999999999999999999"), [UserId(7)]);
    }
}
