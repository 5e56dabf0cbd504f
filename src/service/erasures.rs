//! Erasing of users, for operators. What needs no time is done when it is answered; the rest is the job's. Each act leaves a line in the log.

use tracing::info;

use super::{Refusal, Service};
use crate::domain::ExternalId;
use crate::store::{ErasedContent, Erasing, Erasure};

impl Service {
    /// Erases a user. Its profile is gone and its tokens are worth nothing when this returns: on this node now, on others within moments.
    /// Repeated while it is under way it goes on. Once the name has passed on, it erases the user that has it then.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::RevocationsTooMany`], [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn erase_user(&self, admin: &ExternalId, user: &ExternalId, content: ErasedContent) -> Result<Erasure, Refusal> {
        self.check_room_for_revocations()?;
        let operator = self.operator(admin);
        let erasing = self.store.erase_user(user, content, Some(&operator));
        let erasing = self.ask(admin, "erasing a user", erasing).await?;
        let is_there = matches!(erasing, Erasing::Begun(_));
        info!(admin.id = %admin, user.id = %user, is_there, action = "erase", "users");
        let Erasing::Begun(revocation) = erasing else { return Err(Refusal::NotFound) };
        self.take_revocation(&revocation);
        self.erasure_of(admin, user).await
    }

    /// The last erasure of a user, and how far it is.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]: the user was never erased. [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn erasure(&self, admin: &ExternalId, user: &ExternalId) -> Result<Erasure, Refusal> {
        let erasure = self.erasure_of(admin, user).await;
        info!(admin.id = %admin, user.id = %user, is_there = erasure.is_ok(), action = "look at an erasure", "users");
        erasure
    }

    async fn erasure_of(&self, admin: &ExternalId, user: &ExternalId) -> Result<Erasure, Refusal> {
        self.ask(admin, "looking at an erasure", self.store.erasure(user)).await?.ok_or(Refusal::NotFound)
    }
}
