//! The options of an embedded server: its binaries, its durability, and any setting of PostgreSQL. They are on the server's command
//! line, so they override `postgresql.conf`.

use std::path::{Path, PathBuf};

/// The options of a server.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    bin_dir: Option<PathBuf>,
    durability: Durability,
    settings: Vec<(String, String)>,
}

/// The durability: the data that a crash of the machine may lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Durability {
    /// Nothing that was committed.
    #[default]
    Kept,
    /// Everything: for a server that is thrown away. A crash of the server alone still costs nothing.
    Disposable,
}

/// The settings of a server whose data stays. PostgreSQL's defaults are for very small machines: it would make a checkpoint for each
/// gigabyte of WAL, and write every page in full after each checkpoint. The server takes memory as it uses it. After a crash it
/// replays up to two gigabytes of WAL, which takes some ten seconds.
const LASTING: [(&str, &str); 5] =
    [("fsync", "on"), ("shared_buffers", "512MB"), ("min_wal_size", "256MB"), ("max_wal_size", "2GB"), ("checkpoint_timeout", "15min")];

/// Statements hold what people say, and so does the row of one that is refused: none of it comes into the log of the server.
const QUIET: [(&str, &str); 4] = [
    ("log_min_error_statement", "panic"),
    ("log_error_verbosity", "terse"),
    ("log_parameter_max_length", "0"),
    ("log_parameter_max_length_on_error", "0"),
];

impl ServerOptions {
    /// For a server whose data need not outlive the machine's next crash.
    pub fn disposable() -> Self {
        Self { durability: Durability::Disposable, ..Self::default() }
    }

    /// Takes the server's binaries from `dir` and nowhere else; otherwise `PG_BIN_DIR` and the usual places count.
    pub fn binaries_in(mut self, dir: impl Into<PathBuf>) -> Self {
        self.bin_dir = Some(dir.into());
        self
    }

    /// Adds a setting of `postgresql.conf`. The later one of the same name counts.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn bin_dir(&self) -> Option<&Path> {
        self.bin_dir.as_deref()
    }

    pub(super) fn durability(&self) -> Durability {
        self.durability
    }

    /// All that the server is started with, in the order in which it counts.
    pub(super) fn settings(&self) -> Vec<(&str, &str)> {
        let mut all = vec![("listen_addresses", ""), ("unix_socket_permissions", "0700"), ("max_connections", "200"), ("timezone", "UTC")];
        all.extend(QUIET);
        match self.durability {
            Durability::Kept => all.extend(LASTING),
            Durability::Disposable => all.extend([("fsync", "off"), ("full_page_writes", "off")]),
        }
        all.extend(self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        all
    }
}
