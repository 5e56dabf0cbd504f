//! The settings of encryption at rest. Which keys are read from where is up to the start of a node.

use secrecy::SecretString;

use crate::encryption::{EncryptionMode, MasterKeys};

/// Off, read or on.
pub(super) fn encryption_mode(text: &str) -> Result<EncryptionMode, String> {
    EncryptionMode::parse(text.trim()).ok_or_else(|| "must be off, read or on".to_owned())
}

/// Master keys, checked now and never shown.
pub(super) fn master_keys(text: &str) -> Result<Option<SecretString>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    MasterKeys::parse(text).map(|_| Some(text.into())).map_err(|bad| bad.to_string())
}

/// A command line for the shell.
pub(super) fn key_command(text: &str) -> Result<Option<String>, String> {
    Ok((!text.is_empty()).then(|| text.to_owned()))
}
