//! The keys of tokens: from the settings to a verifier, and the tasks that keep the keys as their places have them.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::StartError;
use crate::auth::{Key, KeyFile, KeyRing, KeyServer, Revocations, ServerLimits, TokenRules, TokenVerifier};
use crate::config::Config;
use crate::telemetry::Metrics;

/// The verifier of a node, and the places of its keys.
pub(super) struct TokenKeys {
    pub(super) verifier: TokenVerifier,
    file: Option<KeyFile>,
    server: Option<(KeyServer, ServerLimits)>,
}

impl TokenKeys {
    /// Reads the keys that are at hand. The server of keys is not asked yet: a node starts without it.
    ///
    /// # Errors
    /// The file of keys cannot be used, or there is no way to the server.
    pub(super) fn open(config: &Config, secret: Option<&SecretString>) -> Result<Self, StartError> {
        let secrets = secret.into_iter().chain(&config.jwt_secret_previous);
        let secrets = secrets.map(|secret| Key::of_secret(secret.expose_secret().as_bytes())).collect();
        let limits = ServerLimits { pause: config.jwks_pause, keep: config.jwks_keep };
        let ring = KeyRing::new(secrets, config.jwks_url.as_ref().map(|_| limits));
        let file = config.jwt_keys_file.as_ref().map(|path| KeyFile::open(path, &ring)).transpose()?;
        let server = config.jwks_url.clone().map(KeyServer::new).transpose().map_err(StartError::KeyServer)?;
        if config.jwks_url.as_ref().is_some_and(|url| url.scheme() == "http") {
            warn!("JWKS_URL is http: anybody who can change its answers on their way can be anybody");
        }
        let rules = TokenRules {
            issuers: config.jwt_issuer.clone(),
            audiences: config.jwt_audience.clone(),
            leeway: config.jwt_leeway.try_into().unwrap_or(time::Duration::MAX),
            lifetime_max: config.token_lifetime_max.try_into().ok(),
        };
        Ok(Self { verifier: TokenVerifier::with(ring, rules, Revocations::default()), file, server: server.map(|server| (server, limits)) })
    }

    /// Starts to keep the keys, until `stop` is cancelled. Returns the verifier.
    pub(super) fn start(self, metrics: &Arc<Metrics>, tasks: &TaskTracker, stop: &CancellationToken) -> TokenVerifier {
        let ring = self.verifier.keys();
        if let Some(file) = self.file {
            tasks.spawn(stop.clone().run_until_cancelled_owned(file.follow(ring.clone())));
        }
        if let Some((server, limits)) = self.server {
            tasks.spawn(stop.clone().run_until_cancelled_owned(server.keep(ring.clone(), limits, Arc::clone(metrics))));
        }
        self.verifier
    }
}
