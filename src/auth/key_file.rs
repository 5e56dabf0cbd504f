//! Keys from a file: a JWK set that the operator keeps, read at the start and again when it changes. The text is compared, not the time of the
//! file: a file that is put in the place of another may be as old as that one.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{info, warn};

use super::key::Origin;
use super::key_ring::KeyRing;
use super::key_set::{NoSet, ReadSet, SET_BYTES_MAX};

/// Between two looks at the file.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The reason for which the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the file system.
        source: std::io::Error,
    },
    /// It is no set of keys.
    #[error("{}: {why}", path.display())]
    NoSet {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: NoSet,
    },
    /// No key of it can be used.
    #[error("{} has no key that can be used", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// A file of keys, with the text that was read last.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    text: String,
}

impl KeyFile {
    /// Reads the file, and puts its keys into the ring.
    ///
    /// # Errors
    /// It cannot be read, is no set, or has no key that can be used.
    pub fn open(path: &Path, ring: &KeyRing) -> Result<Self, FileError> {
        let text = read(path)?;
        put(path, &text, ring)?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// Reads the file again when it changes, until it is dropped. A text that cannot be used leaves the keys as they are.
    pub async fn follow(mut self, ring: KeyRing) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let path = self.path.clone();
            let Ok(found) = tokio::task::spawn_blocking(move || read(&path)).await else { continue };
            // A file that cannot be read may be under way from one text to the next. It is told once.
            let text = found.unwrap_or_default();
            if text == self.text {
                continue;
            }
            match put(&self.path, &text, &ring) {
                Ok(keys) => info!(keys, "the file of keys has changed"),
                Err(cause) => warn!(%cause, "the file of keys has changed, and cannot be used: the keys that were read before count on"),
            }
            self.text = text;
        }
    }
}

fn read(path: &Path) -> Result<String, FileError> {
    let failed = |source| FileError::Unreadable { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    // A byte more than may be: the length tells.
    file.take(SET_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

fn put(path: &Path, text: &str, ring: &KeyRing) -> Result<usize, FileError> {
    let ReadSet { keys, refused } = ReadSet::parse(text, Origin::File).map_err(|why| FileError::NoSet { path: path.to_owned(), why })?;
    for (place, why) in refused {
        warn!(place, %why, "a key of the file of keys is not used");
    }
    if keys.is_empty() {
        return Err(FileError::Empty { path: path.to_owned() });
    }
    let count = keys.len();
    ring.put_file(keys);
    Ok(count)
}
