//! The master keys of a node: from the settings, or what a command prints. One of the two, and none where encryption is off.
//!
//! A command has ten seconds and four KiB. Nothing of what it prints is ever logged.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::config::Config;
use crate::encryption::{BadMasterKeys, EncryptionMode, MasterKeys};
use crate::store::{KeyRing, KeyTimes};

const COMMAND_TIME_MAX: Duration = Duration::from_secs(10);
const TEXT_BYTES_MAX: u64 = 4_096;

/// The reason for which a node has no master keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No source is set.
    #[error("ENCRYPTION is on, and no master key is set: set ENCRYPTION_KEY, ENCRYPTION_KEY_FILE or ENCRYPTION_KEY_COMMAND")]
    None,
    /// More than one source is set.
    #[error("only one of ENCRYPTION_KEY (or its file) and ENCRYPTION_KEY_COMMAND may be set")]
    Several,
    /// The command cannot be run.
    #[error("the command of ENCRYPTION_KEY_COMMAND cannot be run")]
    Command(#[source] std::io::Error),
    /// The command has not ended in time.
    #[error("the command of ENCRYPTION_KEY_COMMAND has not ended within {} s", COMMAND_TIME_MAX.as_secs())]
    TooSlow,
    /// The command has failed.
    #[error("the command of ENCRYPTION_KEY_COMMAND has failed: {0}")]
    Failed(ExitStatus),
    /// The text holds no master keys. It is not shown.
    #[error("the text of {0} {1}")]
    Bad(&'static str, BadMasterKeys),
}

impl KeyError {
    /// Returns whether the source may give the keys later.
    pub(super) const fn may_pass(&self) -> bool {
        match self {
            Self::Command(_) | Self::TooSlow | Self::Failed(_) => true,
            Self::None | Self::Several | Self::Bad(..) => false,
        }
    }
}

/// An empty ring with the master keys of the settings.
pub(super) async fn key_ring(config: &Config) -> Result<KeyRing, KeyError> {
    let mode = config.encryption;
    if mode == EncryptionMode::Off {
        return Ok(KeyRing::off());
    }
    Ok(KeyRing::new(mode, Some(master_keys(config).await?), KeyTimes::default()))
}

async fn master_keys(config: &Config) -> Result<MasterKeys, KeyError> {
    let (source, text) = match (&config.encryption_key, &config.encryption_key_command) {
        (Some(key), None) => ("ENCRYPTION_KEY", key.expose_secret().to_owned()),
        (None, Some(command)) => ("ENCRYPTION_KEY_COMMAND", of_command(command).await?),
        (None, None) => return Err(KeyError::None),
        (Some(_), Some(_)) => return Err(KeyError::Several),
    };
    MasterKeys::parse(&text).map_err(|bad| KeyError::Bad(source, bad))
}

/// The text that the command prints. The command is killed where it takes too long; processes that it has started are its own affair.
async fn of_command(command: &str) -> Result<String, KeyError> {
    let run = async {
        let mut child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(KeyError::Command)?;
        let mut text = String::new();
        if let Some(printed) = child.stdout.take() {
            printed.take(TEXT_BYTES_MAX).read_to_string(&mut text).await.map_err(KeyError::Command)?;
        }
        let status = child.wait().await.map_err(KeyError::Command)?;
        if status.success() { Ok(text) } else { Err(KeyError::Failed(status)) }
    };
    timeout(COMMAND_TIME_MAX, run).await.unwrap_or(Err(KeyError::TooSlow))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::ConfigArgs;

    #[derive(clap::Parser)]
    struct Given {
        #[command(flatten)]
        config: ConfigArgs,
    }

    const KEY: &str = "a1a2a3a4a5a6a7a8a9a0a1a2a3a4a5a6a7a8a9a0a1a2a3a4a5a6a7a8a9a0a1a2";

    fn config(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = ConfigArgs::default().check().unwrap();
        config.encryption = EncryptionMode::On;
        change(&mut config);
        config
    }

    #[tokio::test]
    async fn master_keys_come_from_the_settings_a_file_or_a_command() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{KEY}\n")).unwrap();
        let here = key_ring_id(config(|config| config.encryption_key = Some(KEY.into()))).await;
        let named = ["restante", "--encryption", "on", "--encryption-key-file", file.path().to_str().unwrap()];
        assert_eq!(key_ring_id(Given::parse_from(named).config.check().unwrap()).await, here);
        let command = format!("echo {KEY}");
        assert_eq!(key_ring_id(config(|config| config.encryption_key_command = Some(command))).await, here);
    }

    async fn key_ring_id(config: Config) -> String {
        key_ring(&config).await.unwrap().masters().unwrap().current_id().to_owned()
    }

    #[tokio::test]
    async fn a_source_that_is_wrong_is_named_and_its_text_never_shown() {
        let words = |change: fn(&mut Config)| async move { key_ring(&config(change)).await.unwrap_err().to_string() };
        assert!(words(|_| {}).await.contains("no master key is set"));
        assert!(
            words(|config| (config.encryption_key, config.encryption_key_command) = (Some(KEY.into()), Some("true".into())))
                .await
                .contains("only one of")
        );
        assert!(words(|config| config.encryption_key_command = Some("echo hush; exit 3".into())).await.contains("exit status: 3"));
        let shown = words(|config| config.encryption_key_command = Some("echo hush".into())).await;
        assert!(shown.starts_with("the text of ENCRYPTION_KEY_COMMAND must be keys of 32 bytes") && !shown.contains("hush"), "{shown}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_does_not_end_is_not_waited_for() {
        let hangs = config(|config| config.encryption_key_command = Some("exec sleep 600".to_owned()));
        assert!(matches!(key_ring(&hangs).await.unwrap_err(), KeyError::TooSlow));
    }
}
