//! The errors of the embedded server. An operator sees each message alone, so it names the file or directory, and says what helps where
//! something helps.

use std::io;
use std::path::{Path, PathBuf};

/// SQLSTATEs of a backend that cannot load a library, or their beginnings: a file is missing (58P01), does not fit the server
/// (XX000) or lacks a function (42883).
const UNFIT: [&str; 3] = ["58", "XX", "42883"];

/// Tells whether a backend could not load a file of the server.
pub(super) fn is_unfit(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|refusal| refusal.code()).unwrap_or_default();
    UNFIT.iter().any(|class| code.starts_with(class))
}

/// The reason that the embedded server could not be started, stopped or asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No server binaries of a major version that the schema can use.
    #[error(
        "no PostgreSQL {} or newer found ({searched}): apt-get install postgresql, or set DATABASE_URL",
        super::installation::MAJOR_MIN
    )]
    NotFound {
        /// The places where it was looked for.
        searched: String,
    },
    /// The data directory needs binaries of its own major version.
    #[error("{} was made by PostgreSQL {have}, but only {found} is installed: install postgresql-{have}, or set DATA_DIR to a new directory", data.display())]
    Version {
        /// The cluster.
        data: PathBuf,
        /// Its major version.
        have: u32,
        /// The major versions that were found.
        found: String,
    },
    /// PostgreSQL refuses to run as root and there is no other account to run it as.
    #[error("PostgreSQL does not run as root, and this machine has neither an account \"postgres\" nor \"nobody\" to run it as")]
    NoAccount,
    /// PostgreSQL runs as another account than root, and that account cannot enter a directory on the way.
    #[error("PostgreSQL does not run as root, and the account it runs as cannot enter {}: choose another DATA_DIR", dir.display())]
    Unreachable {
        /// The first directory that is closed to it.
        dir: PathBuf,
    },
    /// Neither `XDG_DATA_HOME` nor `HOME` says where data belongs.
    #[error("neither XDG_DATA_HOME nor HOME is set: set DATA_DIR")]
    NoDataDir,
    /// A directory for the socket that somebody else controls, who could answer in the server's place.
    #[error("{} is not a directory of the embedded server's own: remove it", dir.display())]
    ForeignSocketDir {
        /// The directory.
        dir: PathBuf,
    },
    /// One of PostgreSQL's programs failed.
    #[error("{tool} failed, see {}: {said}", log.display())]
    Tool {
        /// The program.
        tool: &'static str,
        /// The program's output, then the end of the server's log.
        said: String,
        /// The server's log.
        log: PathBuf,
    },
    /// A server that neither becomes ready nor goes away.
    #[error("PostgreSQL is neither ready nor gone after {seconds} s, see {}", log.display())]
    Stuck {
        /// The time that it was waited for, in seconds.
        seconds: u64,
        /// The server's log.
        log: PathBuf,
    },
    /// The cluster of a server that ran is not there any more.
    #[error("{} is no cluster any more, and no new one is made in its place: restore it, then start the service again", data.display())]
    Vanished {
        /// The cluster.
        data: PathBuf,
    },
    /// The file system.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The server answered with an error, or not at all.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

impl Error {
    /// For `map_err`: the file system's answer with the path it was about.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }
}
