//! Users and sessions: a user signs in with a request, and a session is opened for a connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Admission, Purpose, Refusal, Service};
use crate::domain::{DeviceId, ExternalId, Profile};
use crate::store::{MarksCursor, Opening, OpeningRequest, Overview};

/// The time of the database's clock is believed if its answer took no longer than this.
const CLOCK_ANSWER_MAX: Duration = Duration::from_millis(500);

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
        self.ask(&known, "signing in", self.store.sign_in(external, name, picture)).await.map(Arc::new)
    }

    /// Waits for the permit to open a session.
    ///
    /// # Errors
    /// [`Refusal::Crowded`]: too many clients come at once.
    pub async fn admit_opening(&self, user: &ExternalId) -> Result<Admission, Refusal> {
        self.admission.admit_opening(user).await
    }

    /// Whether another opening would be refused at once.
    pub fn is_crowded(&self) -> bool {
        self.admission.is_crowded()
    }

    /// Opens a session: the user with its inboxes, and its device's number. Learns the database's clock.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`], at once where the database is known to be away: a crowd that has waited for it need not ask one by
    /// one. Or [`Refusal::Busy`], or a defect.
    pub async fn open(&self, _permit: &Admission, request: OpeningRequest<'_>) -> Result<Opening, Refusal> {
        if self.health().is_away() {
            return Err(Refusal::Unavailable);
        }
        let asked = Instant::now();
        let opening = self.store.open(request).await.map_err(|cause| Refusal::of(&cause, "opening a session"))?;
        // An answer that was long under way would be taken for a clock that is behind.
        if asked.elapsed() < CLOCK_ANSWER_MAX {
            self.clock.learn(opening.at);
        }
        Ok(opening)
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

    /// Notes that a device's connection has ended.
    ///
    /// # Errors
    /// It could not be noted.
    pub async fn device_seen(&self, user: &Profile, device: &DeviceId) -> Result<(), Refusal> {
        let _admission = self.admission.admit(Purpose::Live, Some(user.external.clone())).await;
        self.store.device_seen(user.user, device).await.map_err(|cause| Refusal::of(&cause, "noting the end of a device's connection"))
    }
}
