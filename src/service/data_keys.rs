//! Data keys, for operators: a list, and a rotation. Each act leaves a line in the log.

use tracing::info;

use super::{Refusal, Service};
use crate::domain::ExternalId;
use crate::store::{StoredKey, SweepState};

impl Service {
    /// The state of sweeps, and all data keys, newest first.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn data_keys(&self, admin: &ExternalId) -> Result<(SweepState, Vec<StoredKey>), Refusal> {
        let read = async { Ok((self.store.sweep_state().await?, self.store.stored_keys().await?)) };
        let (state, keys) = self.ask(admin, "listing data keys", read).await?;
        info!(admin.id = %admin, items = keys.len(), action = "list", "data keys");
        Ok((state, keys))
    }

    /// Asks for a new data key and for a sweep that brings every message under it. Returns the number of the sweep. None: encryption is off.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect; then it may have been asked for.
    pub async fn rotate_keys(&self, admin: &ExternalId) -> Result<Option<i64>, Refusal> {
        let operator = self.operator(admin);
        let sweep = self.ask(admin, "rotating data keys", self.store.rotate_keys(Some(&operator))).await?;
        info!(admin.id = %admin, sweep, action = "rotate", "data keys");
        Ok(sweep)
    }
}
