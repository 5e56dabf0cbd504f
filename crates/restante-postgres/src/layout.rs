//! The directories of the embedded server. The root belongs to the service. PostgreSQL writes only under `postgres/`, which its account
//! owns. Two files beside it are locked and never read: `start.lock` while a process starts or stops the server, and `in-use.lock` while
//! a process uses it.

use std::fs::{self, File, Metadata, Permissions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::account::{self, Account};
use super::{Error, PORT};

/// The bytes of a path that `sockaddr_un` holds on every system that PostgreSQL runs on, without the terminating NUL.
const SOCKET_PATH_BYTES_MAX: usize = 103;

/// The paths of one embedded server and the account they belong to.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
    /// None: this process's own.
    pub(super) account: Option<Account>,
    pub(super) data: PathBuf,
    /// The directory in which `initdb` works until it is done.
    pub(super) data_new: PathBuf,
    pub(super) log: PathBuf,
    pub(super) socket_dir: PathBuf,
}

impl Layout {
    /// Makes the directories that are missing and checks that the server's account can enter them.
    /// Under the start lock of the same `root`: a half-made directory would be taken for somebody else's.
    pub(super) fn prepare(root: PathBuf) -> Result<Self, Error> {
        let home = root.join("postgres");
        let account = match fs::metadata(&home).ok().and_then(|there| Account::owning(&there)) {
            Some(owner) => Some(owner),
            None => Account::for_new_cluster()?,
        };
        if let Some(account) = account {
            check_way(&root, account)?;
        }
        make_home(&home, account)?;
        let socket_dir = socket_dir(&home, account)?;
        let data = home.join("data");
        Ok(Self { root, account, data, data_new: home.join("data.new"), log: home.join("server.log"), socket_dir })
    }

    /// See [`start_lock`].
    pub(super) fn start_lock(&self) -> Result<File, Error> {
        start_lock(&self.root)
    }

    /// Says that this process uses the server. Taken under the start lock.
    pub(super) fn claim(&self) -> Result<File, Error> {
        let (path, file) = lock_file(&self.root, "in-use.lock")?;
        file.lock_shared().map_err(Error::at(&path))?;
        Ok(file)
    }

    /// Tells whether a process has a claim. The answer is right while the caller holds the start lock.
    pub(super) fn is_claimed(&self) -> Result<bool, Error> {
        let (path, file) = lock_file(&self.root, "in-use.lock")?;
        match file.try_lock() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(e)) => Err(Error::at(&path)(e)),
        }
    }

    pub(super) fn socket(&self) -> PathBuf {
        socket_in(&self.socket_dir)
    }

    /// The lock file that PostgreSQL keeps beside its socket.
    pub(super) fn socket_lock(&self) -> PathBuf {
        self.socket_dir.join(format!(".s.PGSQL.{PORT}.lock"))
    }
}

/// Makes the root where it is missing. Under root others must be able to pass through; what they find there is
/// private by itself.
pub(super) fn make_root(root: &Path) -> Result<PathBuf, Error> {
    let root = std::path::absolute(root).map_err(Error::at(root))?;
    if !root.is_dir() {
        fs::create_dir_all(&root).map_err(Error::at(&root))?;
        fs::set_permissions(&root, Permissions::from_mode(root_mode())).map_err(Error::at(&root))?;
    }
    Ok(root)
}

pub(super) fn root_mode() -> u32 {
    if account::is_root() { 0o755 } else { 0o700 }
}

/// Waits until nobody else starts or stops the server of `root`. Held until dropped; a process that dies lets go.
pub(super) fn start_lock(root: &Path) -> Result<File, Error> {
    let (path, file) = lock_file(root, "start.lock")?;
    file.lock().map_err(Error::at(&path))?;
    Ok(file)
}

fn lock_file(root: &Path, name: &str) -> Result<(PathBuf, File), Error> {
    let path = root.join(name);
    let file = File::create(&path).map_err(Error::at(&path))?;
    Ok((path, file))
}

fn check_way(root: &Path, account: Account) -> Result<(), Error> {
    let closed = |dir: &&Path| fs::metadata(dir).is_ok_and(|meta| !account.may_enter(&meta));
    match root.ancestors().filter(closed).last() {
        Some(dir) => Err(Error::Unreachable { dir: dir.to_path_buf() }),
        None => Ok(()),
    }
}

/// The server's directory, for its account alone. Repeated on an existing one, so that a process that was killed
/// halfway through leaves nothing wrong behind.
fn make_home(home: &Path, account: Option<Account>) -> Result<(), Error> {
    if !home.is_dir() {
        fs::create_dir(home).map_err(Error::at(home))?;
    }
    own_alone(home, account)
}

fn own_alone(dir: &Path, account: Option<Account>) -> Result<(), Error> {
    fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(Error::at(dir))?;
    match account {
        Some(Account { uid, gid }) => chown(dir, Some(uid), Some(gid)).map_err(Error::at(dir)),
        None => Ok(()),
    }
}

/// The server's own directory, unless a socket's path there were longer than the system can hold: then a short
/// one in `/tmp`, always the same for the same server, that nobody else may have made.
fn socket_dir(home: &Path, account: Option<Account>) -> Result<PathBuf, Error> {
    if socket_in(home).as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return Ok(home.to_path_buf());
    }
    let dir = Path::new("/tmp").join(format!("restante-{:016x}", fnv1a(home.as_os_str().as_bytes())));
    match fs::create_dir(&dir) {
        Ok(()) => own_alone(&dir, account)?,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(Error::at(&dir)(e)),
    }
    let found = |path: &Path| fs::symlink_metadata(path).map_err(Error::at(path));
    if is_private_like(&found(&dir)?, &found(home)?) { Ok(dir) } else { Err(Error::ForeignSocketDir { dir }) }
}

fn is_private_like(dir: &Metadata, home: &Metadata) -> bool {
    dir.is_dir() && dir.uid() == home.uid() && dir.mode() & 0o077 == 0
}

fn socket_in(dir: &Path) -> PathBuf {
    dir.join(format!(".s.PGSQL.{PORT}"))
}

/// Stable over versions of the compiler, as the standard library's hasher is not: two versions of the service
/// must find the same socket.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
