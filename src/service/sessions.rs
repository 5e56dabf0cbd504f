//! Users and sessions: a user signs in with a request, and a session is opened for a connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Admission, Purpose, Refusal, Service};
use crate::domain::{DeviceId, ExternalId, NodeId, Profile};
use crate::store::{self, MarksCursor, Opening, OpeningRequest, Overview};

/// The time of the database's clock is believed if its answer took no longer than this.
pub(super) const CLOCK_ANSWER_MAX: Duration = Duration::from_millis(500);

/// The points that it costs to open a session.
const OPENING_POINTS: u32 = 3;

/// The user of a token, as the token describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignIn {
    /// The user.
    pub external: ExternalId,
    /// The name that the token brings.
    pub name: Option<String>,
    /// The picture that the token brings.
    pub picture: Option<String>,
}

impl Service {
    /// The profile of a user, which is made on first sight, with the name and picture that the token brings. May be repeated.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn sign_in(&self, user: SignIn) -> Result<Arc<Profile>, Refusal> {
        let SignIn { external, name, picture } = user;
        let known = external.clone();
        let signed_in = self.ask(&known, "signing in", self.store.sign_in(external, name, picture)).await?;
        self.metrics.named_users_come.inc_by(signed_in.is_first.into());
        Ok(Arc::new(signed_in.profile))
    }

    /// Waits for the permit to open a session.
    ///
    /// # Errors
    /// [`Refusal::Crowded`]: too many clients come at once, or this user has asked for too much.
    pub async fn admit_opening(&self, user: &ExternalId) -> Result<Admission, Refusal> {
        self.pay(user, OPENING_POINTS, "opening").await.map_err(|_| Refusal::Crowded)?;
        self.bounds.admission.admit_opening(user).await
    }

    /// Returns whether another opening would be refused at once.
    pub fn is_crowded(&self) -> bool {
        self.bounds.admission.is_crowded()
    }

    /// Opens a session: the user with its inboxes, and its device's number. Learns the database's clock.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`], at once where the database is known to be away: a crowd that has waited for it need not ask one by
    /// one. [`Refusal::TooManyDevices`], [`Refusal::Busy`], or a defect.
    pub async fn open(&self, _permit: &Admission, request: OpeningRequest<'_>) -> Result<Opening, Refusal> {
        if self.health().is_away() {
            return Err(Refusal::Unavailable);
        }
        let failed = |cause: store::Error| Refusal::of(&cause, "opening a session");
        let mut asked = Instant::now();
        let mut opened = self.store.open(request).await.map_err(failed)?;
        if opened.is_none() {
            self.free_devices(request.external).await.map_err(failed)?;
            asked = Instant::now();
            opened = self.store.open(request).await.map_err(failed)?;
        }
        let opening = opened.ok_or(Refusal::TooManyDevices)?;
        self.metrics.named_users_come.inc_by(opening.is_first.into());
        // An answer that was long under way would be taken for a clock that is behind.
        if asked.elapsed() < CLOCK_ANSWER_MAX {
            self.clock.learn(opening.at);
        }
        Ok(opening)
    }

    /// Devices of a user that are noted as connected to this node and are not: their ends could not be noted.
    async fn free_devices(&self, external: &ExternalId) -> store::Result<()> {
        let known = self.store.known_users(std::slice::from_ref(external)).await?;
        match known.get(external) {
            Some(user) => self.store.free_devices(*user, self.notifier.node(), &self.hub.devices(*user)).await,
            None => Ok(()),
        }
    }

    /// The node that sessions are opened at.
    pub fn node(&self) -> NodeId {
        self.notifier.node()
    }

    /// The first overview of a session that is being opened. To be asked for once the session is registered: what commits
    /// later is then offered.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn first_overview(
        &self,
        _permit: &Admission,
        user: &Profile,
        since: Option<&MarksCursor>,
        device: Option<&DeviceId>,
    ) -> Result<Overview, Refusal> {
        let read = self.store.overview(user.user, since, None, device).await;
        read.map_err(|cause| Refusal::of(&cause, "opening a session"))
    }

    /// Notes that the connection of this number of a device has ended.
    ///
    /// # Errors
    /// It could not be noted.
    pub async fn device_seen(&self, user: &Profile, device: &DeviceId, session_no: i64) -> Result<(), Refusal> {
        let _admission = self.bounds.admission.admit(Purpose::Live, Some(user.external.clone())).await;
        let noted = self.store.device_seen(user.user, device, session_no).await;
        noted.map_err(|cause| Refusal::of(&cause, "noting the end of a device's connection"))
    }
}
