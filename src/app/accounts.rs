//! The accounts of a node: from the settings to what the service takes.

use secrecy::SecretString;

use super::StartError;
use crate::auth::{HashCost, TokenSigner};
use crate::config::{Config, for_half_the_processors};
use crate::service::{AccountSettings, Accounts, LoginTimes};

/// The accounts, where they are on. `secret`: their tokens are signed with it.
///
/// # Errors
/// There is no such secret, or tokens come from an issuer too: a name could then belong to two people.
pub(super) fn accounts(config: &Config, secret: Option<&SecretString>) -> Result<Option<Accounts>, StartError> {
    if !config.accounts {
        return Ok(None);
    }
    let secret = secret.filter(|_| !config.has_other_keys()).ok_or(StartError::AccountsNeedTheSecret)?;
    let settings = AccountSettings {
        cost: HashCost { memory_kib: config.password_memory_kib, passes: config.password_passes },
        hashes_at_once: for_half_the_processors(config.password_hashes_at_once),
        password_chars_min: usize::from(config.password_chars_min),
        times: LoginTimes {
            idle: config.refresh_token_lifetime,
            lifetime: config.login_lifetime_max,
            grace: config.refresh_grace,
            access: config.access_token.min(config.token_lifetime_max),
            logins_max: config.logins_per_account_max,
        },
        signer: TokenSigner::new(secret),
        issuer: config.jwt_issuer.first().cloned(),
        audience: config.jwt_audience.first().cloned(),
        leeway: config.jwt_leeway.try_into().unwrap_or(time::Duration::MAX),
    };
    Ok(Some(Accounts::new(settings)?))
}
