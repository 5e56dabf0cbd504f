//! Revocations, for operators; and the task that keeps those that count in memory and closes connections that live on a revoked token.
//!
//! Revoking a user, or a login, ends logins of accounts, in the same transaction. A node hears of a revocation when it is committed, from the database. Should it not, it finds it by its own read, every few seconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tracing::{debug, info};

use super::sessions::CLOCK_ANSWER_MAX;
use super::{Refusal, Service};
use crate::auth::{REVOCATIONS_MAX, Revocations};
use crate::domain::{Clock, ExternalId, Revocation, Revoked};
use crate::hub::Hub;
use crate::notifier::Notifier;
use crate::protocol::Code;
use crate::store::{self, NewRevocation, RevocationPlace, Snapshot, Store, WrittenPlace, page_of};
use crate::telemetry::Metrics;

/// The interval between a node's own reads.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// The interval after a read that failed. With the time that a read waits for a connection it is shorter than what was read counts as new.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Between two reads that are asked for: anybody who may connect to the database may ask.
const PAUSE: Duration = Duration::from_millis(100);
/// A client that finds too many logins that have ended comes back after this time.
const ENDED_LOGINS_PAUSE: Duration = Duration::from_secs(30);
/// Rows of one read.
const ROWS_AT_ONCE: u16 = 1_000;
/// A request waits so long for a read, where the last one is too old.
const KNOWLEDGE_WAIT_MAX: Duration = Duration::from_secs(5);
/// A client that waited in vain comes back after this time.
const KNOWLEDGE_PAUSE: Duration = Duration::from_secs(1);

/// A revocation that an operator asks for.
#[derive(Debug, Clone)]
pub struct RevokeRequest {
    /// The tokens that it concerns.
    pub revoked: Revoked,
    /// The operator's words.
    pub reason: Option<String>,
    /// The time at which the tokens have expired; none: when tokens that are issued now have.
    pub expires_at: Option<OffsetDateTime>,
}

/// A part of the list, from the newest to the oldest.
#[derive(Debug)]
pub struct RevocationList {
    /// The revocations.
    pub revocations: Vec<Revocation>,
    /// More follow below this place; none: these were the last.
    pub next: Option<RevocationPlace>,
}

impl Service {
    /// Revokes tokens, and ends the logins that go with them. Connections of this node that live on them are closing when it returns; other nodes are told with the commit.
    ///
    /// # Errors
    /// [`Refusal::RevocationsTooMany`], [`Refusal::TooLate`]: `expires_at` has passed; [`Refusal::Invalid`], [`Refusal::Busy`],
    /// [`Refusal::Unavailable`], or a defect.
    pub async fn revoke(&self, admin: &ExternalId, request: RevokeRequest) -> Result<Revocation, Refusal> {
        self.check_room_for_revocations()?;
        if request.expires_at.is_some_and(|end| end <= self.clock.now()) {
            return Err(Refusal::TooLate);
        }
        let RevokeRequest { revoked, reason, expires_at } = request;
        let new = NewRevocation { revoked, reason, expires_at, operator: Some(self.operator(admin)) };
        let done = self.ask(admin, "revoking tokens", self.store.revoke(new)).await?;
        self.take_revocation(&done);
        info!(admin.id = %admin, action = "revoke", kind = kind(&done.revoked), "revocations");
        Ok(done)
    }

    /// Waits until this node knows of all revocations but those of the last seconds. A node that was stopped for a while does not, when it goes
    /// on. While the database is away nothing is waited for: nothing can be stored then either.
    ///
    /// # Errors
    /// [`Refusal::Busy`]: they could not be read in time, although the database is there.
    pub async fn know_revocations(&self) -> Result<(), Refusal> {
        if self.knows_revocations() {
            return Ok(());
        }
        tokio::time::timeout(KNOWLEDGE_WAIT_MAX, self.revocations.kept.known()).await.map_err(|_| Refusal::Busy(KNOWLEDGE_PAUSE))
    }

    /// Returns whether [`Self::know_revocations`] would not wait.
    pub fn knows_revocations(&self) -> bool {
        self.revocations.kept.are_known() || self.health().is_away()
    }

    /// A node keeps all revocations that count in memory, so there is a bound. Logins that clients have ended have another one.
    ///
    /// # Errors
    /// [`Refusal::RevocationsTooMany`]: operators have made as many as a node keeps.
    pub(super) fn check_room_for_revocations(&self) -> Result<(), Refusal> {
        if self.revocations.kept.by_operators() >= REVOCATIONS_MAX { Err(Refusal::RevocationsTooMany) } else { Ok(()) }
    }

    /// The same for logins that have ended: an end is never refused, so no login begins while too many count.
    ///
    /// # Errors
    /// [`Refusal::Busy`]: as many count as a node keeps, for the life of an access token at most.
    pub(super) fn check_room_for_ended_logins(&self) -> Result<(), Refusal> {
        let is_full = self.revocations.kept.ended_logins() >= self.revocations.ended_logins_max;
        if is_full { Err(Refusal::Busy(ENDED_LOGINS_PAUSE)) } else { Ok(()) }
    }

    /// A revocation that was just made counts here before the next read.
    pub(super) fn take_revocation(&self, revocation: &Revocation) {
        self.revocations.take([revocation]);
    }

    /// Revocations that count, from the newest on, or below a place in the list, at most `limit`.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn revocations(&self, admin: &ExternalId, below: Option<RevocationPlace>, limit: u16) -> Result<RevocationList, Refusal> {
        let below = below.unwrap_or(RevocationPlace::LAST);
        let found = self.ask(admin, "listing revocations", self.store.revocations(below, limit + 1)).await?;
        let (revocations, next) = page_of(found, limit, RevocationPlace::of);
        info!(admin.id = %admin, items = revocations.len(), action = "list", "revocations");
        Ok(RevocationList { revocations, next })
    }
}

/// The words of logs: never a token's id.
const fn kind(revoked: &Revoked) -> &'static str {
    match revoked {
        Revoked::User(_) => "user",
        Revoked::Device(..) => "device",
        Revoked::Token(_) => "token",
        Revoked::Login(_) => "login",
    }
}

/// The revocations of a node, with what is to be done when there are more.
#[derive(Debug, Clone)]
pub struct RevocationWatch {
    /// Those that count.
    pub kept: Revocations,
    /// Logins that have ended and count at once; beyond that none begins.
    pub ended_logins_max: usize,
    /// The sessions of this node.
    pub hub: Arc<Hub>,
    /// The metrics of this node.
    pub metrics: Arc<Metrics>,
}

impl RevocationWatch {
    /// Takes revocations in, and closes connections that live on a token that is revoked now.
    pub(super) fn take<'a>(&self, revocations: impl IntoIterator<Item = &'a Revocation>) {
        let mut is_new = false;
        for revocation in revocations {
            is_new |= self.kept.put(revocation);
        }
        if is_new {
            let closed = self.hub.close_tokens(Code::TokenRevoked, |token, device| self.kept.concern(token, device));
            debug!(closed, "tokens were revoked");
        }
        self.count();
    }

    fn count(&self) {
        for (by, count) in [("operators", self.kept.by_operators()), ("logins", self.kept.ended_logins())] {
            self.metrics.revocations.of(by).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Reads all that count, and the time by which they are compared with tokens, before the first token is verified.
    ///
    /// # Errors
    /// Those of [`Store::revocations_since`].
    pub async fn load(&self, store: &Store, clock: &Clock) -> store::Result<Snapshot> {
        let asked = Instant::now();
        let of_database = store.clock().await?;
        if asked.elapsed() < CLOCK_ANSWER_MAX {
            clock.learn(of_database);
        }
        self.read_on(store, &Snapshot::of_nothing()).await
    }

    /// Reads what is new whenever the node hears of something, and every few seconds, until it is dropped. `seen`: what was read so far.
    pub async fn follow(self, store: Store, notifier: Notifier, clock: Clock, mut seen: Snapshot) {
        let mut interval = LOOK_INTERVAL;
        loop {
            tokio::select! {
                () = notifier.revocations_moved() => {}
                () = self.kept.wanted() => {}
                () = tokio::time::sleep(interval) => {}
            }
            self.kept.go_on();
            interval = LOOK_INTERVAL;
            match self.read_on(&store, &seen).await {
                Ok(now) => seen = now,
                Err(error) if error.is_away() => {
                    self.kept.outdate();
                    store.health().back().await;
                }
                // As when all connections are in use for a while.
                Err(cause) => {
                    self.kept.go_on();
                    interval = RETRY_INTERVAL;
                    debug!(?cause, "revocations could not be read; once more");
                }
            }
            self.kept.forget_expired(clock.now());
            self.count();
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Reads all that was written by transactions that were not over for the snapshot before. Returns the one of now.
    async fn read_on(&self, store: &Store, before: &Snapshot) -> store::Result<Snapshot> {
        let (asked, now) = (Instant::now(), store.snapshot().await?);
        let mut place = WrittenPlace::first();
        loop {
            let page = store.revocations_since(before, &place, ROWS_AT_ONCE).await?;
            self.take(&page.revocations);
            let Some(next) = page.next else { break };
            place = next;
        }
        self.kept.read_at(asked);
        Ok(now)
    }
}
