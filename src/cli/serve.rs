//! What the command line needs of the service itself: running it, migrating, signing tokens.
//!
//! PLACEHOLDER: [`serve`] and [`migrate`] are to be filled in with the service; they keep their signatures.

use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use clap::Parser;

use super::exit::{Exit, UsageError};
use crate::auth::TokenVerifier;
use crate::config::{Config, ConfigArgs};
use crate::domain::ExternalId;
use crate::{postgres, secret};

/// Where the embedded mode keeps the secret, in its data directory.
const SECRET_FILE: &str = "jwt-secret";

#[derive(Parser)]
struct Environment {
    #[command(flatten)]
    config: ConfigArgs,
}

/// The settings as the environment has them, without a command line.
pub fn settings_of_environment() -> ConfigArgs {
    Environment::parse_from(["restante"]).config
}

/// Runs the service until it is told to stop. Prints `listening on http://ADDRESS` to stdout when it is ready.
pub async fn serve(_args: ConfigArgs) -> anyhow::Result<Exit> {
    bail!("this build has no service yet")
}

/// Brings the schema up to date.
pub async fn migrate(_args: ConfigArgs) -> anyhow::Result<Exit> {
    bail!("this build has no service yet")
}

/// A token for this user: with `JWT_SECRET`, or the secret the embedded mode keeps in its data directory.
pub fn sign_token(user: &str, ttl: Duration) -> anyhow::Result<String> {
    let config = settings_of_environment().check().map_err(|error| UsageError(error.to_string()))?;
    let user = ExternalId::try_from(user.to_owned()).map_err(|error| UsageError(error.to_string()))?;
    let ttl = ttl.try_into().context("the token would be good for too long")?;
    Ok(signer(&config)?.mint(&user, ttl, SystemTime::now().into()))
}

fn signer(config: &Config) -> anyhow::Result<TokenVerifier> {
    if let Some(secret) = config.jwt_secret().map_err(|error| UsageError(error.to_string()))? {
        return Ok(TokenVerifier::new(secret));
    }
    let root = config.data_dir.clone().map_or_else(postgres::default_data_dir, Ok)?;
    if !root.join(SECRET_FILE).exists() {
        let why = format!("no secret in {}: start the service once, or set JWT_SECRET, or give a --token", root.display());
        return Err(UsageError(why).into());
    }
    Ok(TokenVerifier::new(&secret::load_or_make(&root, SECRET_FILE)?))
}
