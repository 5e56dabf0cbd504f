//! The time of the next try, if there is one. Exponential with jitter, so that a thousand clients of a service that
//! was restarted do not return in the same millisecond; and never where the service has said not to.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use super::WireError;
use restante_session::domain::printable;

/// The service's close codes, as far as a client acts on them.
pub mod close_code {
    /// The service restarts.
    pub const RESTART: u16 = 1012;
    /// A frame it could not read.
    pub const BAD_FRAME: u16 = 4400;
    /// The token is missing, wrong or over.
    pub const NOT_AUTHENTICATED: u16 = 4401;
    /// The token is good and not allowed here.
    pub const FORBIDDEN: u16 = 4403;
    /// A frame above the limit.
    pub const FRAME_TOO_LARGE: u16 = 4413;
    /// No acks, or too slow.
    pub const TOO_SLOW: u16 = 4503;
    /// Another connection of the same device took over.
    pub const DISPLACED: u16 = 4509;
}

/// The reasons why a client does not reconnect by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// The token is missing, wrong or over: with a new one, yes.
    #[error("the service does not accept the token: {}", printable(.0))]
    NotAuthenticated(String),
    /// Not allowed.
    #[error("the service forbids it: {}", printable(.0))]
    Forbidden(String),
    /// Another connection of the same device took over.
    #[error("another connection of the same device took over")]
    Displaced,
    /// The service could not read what this client sent: a fault in the client.
    #[error("the service refused a frame of this client: {}", printable(.0))]
    BadFrame(String),
    /// The server at the address does not speak this protocol.
    #[error("the address does not answer as a Restante service: {}", printable(.0))]
    NotTheService(String),
    /// [`super::Client::close`] was called.
    #[error("the connection was closed by this client")]
    Closed,
}

impl Gone {
    /// The reason when this end of a connection is final; `None`: the client may reconnect.
    pub fn from_end(end: &WireError) -> Option<Self> {
        match end {
            WireError::Closed { code, reason } => match code.unwrap_or_default() {
                close_code::NOT_AUTHENTICATED => Some(Self::NotAuthenticated(reason.clone())),
                close_code::FORBIDDEN => Some(Self::Forbidden(reason.clone())),
                close_code::DISPLACED => Some(Self::Displaced),
                close_code::BAD_FRAME | close_code::FRAME_TOO_LARGE => Some(Self::BadFrame(reason.clone())),
                _ => None,
            },
            WireError::Refused { status, body, .. } => match status {
                401 => Some(Self::NotAuthenticated(body.clone())),
                403 => Some(Self::Forbidden(body.clone())),
                408 | 425 | 429 | 500..=599 => None,
                _ => Some(Self::NotTheService(format!("HTTP {status} {body}"))),
            },
            WireError::BadAddress(text) => Some(Self::NotTheService(text.clone())),
            WireError::Unreachable { .. } | WireError::Broken(_) | WireError::Silent => None,
        }
    }
}

/// The waits between attempts to connect.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    asked: Option<Duration>,
}

impl Backoff {
    /// Begins at `first`, doubles with each failure, ends at `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0, asked: None }
    }

    /// The next wait: a random time between half of the step and the whole of it, or the time that the service asked for.
    pub fn next_wait(&mut self) -> Duration {
        if let Some(asked) = self.asked.take() {
            return asked;
        }
        let step = self.first.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures += 1;
        step / 2 + (step / 2).mul_f64(random_share())
    }

    /// A connection succeeded: the next failure begins anew.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The service said when to return: before its end, or when it refused (it has jittered the time itself).
    pub const fn ask(&mut self, wait: Duration) {
        self.asked = Some(wait);
    }
}

/// 0.0 up to 1.0; not for secrets. The hasher's keys differ for each process and each call.
fn random_share() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 32;
    bits as f64 / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_stay_within_their_step_and_start_anew_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(450));
        for step_ms in [100, 200, 400, 450, 450] {
            let wait = backoff.next_wait().as_millis();
            assert!((step_ms / 2..=step_ms).contains(&wait), "{wait} ms is not within {step_ms}");
        }
        backoff.succeeded();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }

    #[test]
    fn what_the_service_asked_for_is_kept_once() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(20));
        backoff.ask(Duration::from_secs(3));
        assert_eq!(backoff.next_wait(), Duration::from_secs(3));
        assert!(backoff.next_wait() <= Duration::from_millis(10));
    }

    #[test]
    fn client_stays_away_where_the_service_says_so_and_returns_elsewhere() {
        let closed = |code| Gone::from_end(&WireError::Closed { code, reason: "why".into() });
        assert_eq!(closed(Some(4401)), Some(Gone::NotAuthenticated("why".into())));
        assert_eq!(closed(Some(4403)), Some(Gone::Forbidden("why".into())));
        assert_eq!(closed(Some(4509)), Some(Gone::Displaced));
        assert_eq!(closed(Some(4400)), Some(Gone::BadFrame("why".into())));
        for code in [None, Some(1000), Some(1006), Some(1012), Some(4408), Some(4429), Some(4503)] {
            assert_eq!(closed(code), None, "{code:?}");
        }
        let refused = |status| Gone::from_end(&WireError::Refused { status, body: String::new(), retry_after: None });
        assert_eq!((refused(503), refused(429)), (None, None));
        assert!(matches!(refused(401), Some(Gone::NotAuthenticated(_))));
        assert!(matches!(refused(404), Some(Gone::NotTheService(_))));
    }
}
