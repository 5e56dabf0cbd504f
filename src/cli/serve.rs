//! What the command line needs of the service itself: running it, migrating, signing tokens.
//!
//! PLACEHOLDER until the service is merged: the three functions keep their signatures, their bodies go.

use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;

use super::exit::{Exit, UsageError};

/// Runs the service until it is told to stop. Prints `listening on http://ADDRESS` to stdout when it is ready.
pub async fn serve() -> anyhow::Result<Exit> {
    bail!("this build has no service yet")
}

/// Brings the schema up to date.
pub async fn migrate() -> anyhow::Result<Exit> {
    bail!("this build has no service yet")
}

/// A token for this user: with `JWT_SECRET`, or the secret the embedded mode keeps in its data directory.
pub fn sign_token(user: &str, ttl: Duration) -> anyhow::Result<String> {
    #[derive(Serialize)]
    struct Claims<'a> {
        sub: &'a str,
        exp: u64,
    }
    let secret = std::env::var("JWT_SECRET").map_err(|_| UsageError("set JWT_SECRET to the service's secret, or give a --token".into()))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock stands before 1970")?;
    let claims = Claims { sub: user, exp: (now + ttl).as_secs() };
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes()))?)
}
