//! The client that is being let in, by its address: how often it may come, and bring a token that is worth nothing, before it is known who it is.

use std::net::IpAddr;

use secrecy::SecretString;

use super::Shared;
use crate::auth::Identity;
use crate::delivery::Refusal;
use crate::driver::commands;
use crate::protocol::Fault;

impl Shared {
    /// The same for a client at this address.
    #[must_use]
    pub fn of_client(self, address: IpAddr) -> Self {
        Self { client: Some(address.into()), ..self }
    }

    /// The identity of a token that a session may live on.
    ///
    /// # Errors
    /// The token is not valid, its key cannot be looked up now, or its scope opens no session. `busy`: too many came from this address that were
    /// not valid; this one was not looked at.
    pub async fn verify(&self, token: &SecretString) -> Result<Identity, Fault> {
        self.context.service.know_revocations().await?;
        commands::verify(&self.context, self.client, token).await.map_err(for_a_connection)?
    }

    /// Counts a client that comes.
    ///
    /// # Errors
    /// `busy`: too many came from its address.
    pub(super) fn count_handshake(&self) -> Result<(), Fault> {
        let Some(address) = self.client else { return Ok(()) };
        self.context.service.limits().check_handshake(address).map_err(for_a_connection)
    }
}

/// A connection that is not opened is told `busy`, whatever is used up: then each client comes back after the time that it is told.
fn for_a_connection(refusal: Refusal) -> Fault {
    match refusal {
        Refusal::RateLimited(wait) => Refusal::Busy(wait).into(),
        refusal => refusal.into(),
    }
}
