//! A secret that the service makes for itself once and keeps in its data directory, for whoever sets none.
//! It knows nothing of what the secret signs.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

/// Random bytes in a secret: as many as HMAC-SHA256 yields (RFC 7518, 3.2).
const BYTES: usize = 32;

/// The reason that there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// Somebody has cut or emptied the file.
    #[error("{} holds fewer than {} characters: remove it to have a new secret made, which invalidates what the old one signed", path.display(), BYTES * 2)]
    TooShort {
        /// The file.
        path: PathBuf,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
}

/// The secret in the file `name` of the directory `root`, made now if there is none: 64 hexadecimal digits, for
/// the owner alone (0600). However many processes ask at once, all get the same one.
pub fn load_or_make(root: &Path, name: &str) -> Result<SecretString, Error> {
    let path = root.join(name);
    if !path.exists() {
        make(root, &path)?;
    }
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    let secret = text.trim();
    if secret.len() < BYTES * 2 {
        return Err(Error::TooShort { path });
    }
    Ok(secret.to_owned().into())
}

/// Under another name first, so that nobody reads half a secret; then linked to its own, which only one can do.
fn make(root: &Path, path: &Path) -> Result<(), Error> {
    let draft = root.join(format!(".draft-{}", &random_hex()?[..16]));
    write_private(&draft, &random_hex()?).map_err(at(&draft))?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft).map_err(at(&draft))?;
    match linked {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(at(path)(e)),
        _ => File::open(root).and_then(|dir| dir.sync_all()).map_err(at(root)),
    }
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

fn random_hex() -> Result<String, Error> {
    let mut bytes = [0; BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::NoRandomness)?;
    Ok(bytes.iter().fold(String::with_capacity(BYTES * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // a String takes everything
        hex
    }))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn the_secret_is_made_once_and_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_make(dir.path(), "key").unwrap();
        let second = load_or_make(dir.path(), "key").unwrap();
        assert_eq!(first.expose_secret(), second.expose_secret());
        assert_eq!(first.expose_secret().len(), 64);
        assert_eq!(fs::metadata(dir.path().join("key")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn all_who_ask_at_once_get_the_same_secret() {
        let dir = tempfile::tempdir().unwrap();
        let start = std::sync::Barrier::new(16);
        let secrets: std::collections::HashSet<String> = std::thread::scope(|scope| {
            let ask = || {
                start.wait();
                load_or_make(dir.path(), "key").unwrap().expose_secret().to_owned()
            };
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(secrets.len(), 1);
    }

    #[test]
    fn an_emptied_file_is_told_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("key"), "\n").unwrap();
        assert!(matches!(load_or_make(dir.path(), "key"), Err(Error::TooShort { .. })));
    }
}
