//! The one service of a data directory. A second one would be a second node on a database for which there can be one, so it is
//! refused. A service that was killed holds nothing any more, and one that stops lets its successor in.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::exit::UsageError;

/// The file that the service holds locked. It names the process.
const FILE: &str = "service.lock";
/// A process that was killed is gone after a moment.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The right to be the service of a data directory, until it is dropped. The end of the process ends it too.
#[derive(Debug)]
pub struct Sole(#[expect(dead_code, reason = "it holds the lock")] File);

impl Sole {
    /// Takes the right. Waits for a moment where another process has it.
    ///
    /// # Errors
    /// [`UsageError`]: another service runs in this directory. Else the error of the file system, with the file.
    pub async fn of(root: &Path) -> anyhow::Result<Self> {
        let path = root.join(FILE);
        let at = |error: io::Error| anyhow::anyhow!("DATA_DIR cannot be used: {}: {error}", path.display());
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(at)?;
        let until = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < until => sleep(LOOK_AGAIN).await,
                Err(TryLockError::WouldBlock) => return Err(refused(root, &mut file).into()),
                Err(TryLockError::Error(error)) => return Err(at(error)),
            }
        }
        // Only for the words of a refusal.
        let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Self(file))
    }
}

fn refused(root: &Path, file: &mut File) -> UsageError {
    let mut process = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut process));
    let process = process.trim().parse::<u32>().ok().filter(|_| read.is_ok());
    let process = process.map_or_else(String::new, |process| format!(" (process {process})"));
    let root: PathBuf = root.to_owned();
    UsageError(format!(
        "another service{process} runs with DATA_DIR {}, and there can be one: stop it, or set another DATA_DIR, or DATABASE_URL for several nodes",
        root.display()
    ))
}
