//! The errors of statements, by the caller's possible reaction.

use crate::open_files;

/// The reason why a statement failed. Text of the database stays in the source and never reaches a client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// All connections that this node has, or may have, are in use, or it lacks a file, a port or memory for another. Nothing was asked
    /// of the database, and nothing is said of it.
    #[error("no connection to the database is free")]
    Busy(#[source] sqlx::Error),
    /// The database is away, restarting, full, read-only, or lets this role in no more. Whether the statement was committed is not known.
    #[error("the database does not answer")]
    Unavailable(#[source] sqlx::Error),
    /// Somebody else holds a lock that this needs, or two writers met head-on. Nothing was written; try again.
    #[error("somebody else holds what this needs")]
    Held(#[source] sqlx::Error),
    /// A unique value was there already. Nothing was written; a repetition will see it.
    #[error("a unique value was there already")]
    Taken(#[source] sqlx::Error),
    /// PostgreSQL refuses a value. Nothing was written, and a repetition would fail the same way.
    #[error("the database refuses a value")]
    Invalid(#[source] sqlx::Error),
    /// Anything else: a defect. Nothing was written.
    #[error("a statement failed")]
    Failed(#[source] sqlx::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match Kind::of(&error) {
            Kind::Busy => Self::Busy(error),
            Kind::Unavailable => Self::Unavailable(error),
            Kind::Held => Self::Held(error),
            Kind::Taken => Self::Taken(error),
            Kind::Invalid => Self::Invalid(error),
            Kind::Failed => Self::Failed(error),
        }
    }
}

/// The variant of [`Error`] that an error of sqlx becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Busy,
    Unavailable,
    Held,
    Taken,
    Invalid,
    Failed,
}

impl Kind {
    fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(refusal) => match refusal.code().as_deref().unwrap_or_default() {
                "55P03" | "40P01" | "40001" => Self::Held,
                "23505" => Self::Taken,
                code if AWAY.iter().any(|(class, _)| code.starts_with(class)) => Self::Unavailable,
                code if ["22", "23", "54"].iter().any(|class| code.starts_with(class)) => Self::Invalid,
                _ => Self::Failed,
            },
            // It says nothing of the database: this end cannot make a connection.
            sqlx::Error::Io(cause) if open_files::lacks(cause).is_some() => Self::Busy,
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Self::Unavailable
            }
            sqlx::Error::PoolTimedOut => Self::Busy,
            _ => Self::Failed,
        }
    }
}

/// An error of a statement, as the store or as sqlx has it.
pub trait Failure: From<sqlx::Error> {
    /// The reason why the database is away, in words for the log; none where the error does not say that it is away.
    fn outage(&self) -> Option<String>;

    /// Returns whether only new connections can tell that the database is back: those there are do not have the fault.
    fn is_of_new_connections(&self) -> bool;
}

impl Failure for sqlx::Error {
    fn outage(&self) -> Option<String> {
        (Kind::of(self) == Kind::Unavailable).then(|| reason(self))
    }

    fn is_of_new_connections(&self) -> bool {
        self.as_database_error().and_then(|refusal| refusal.code()).is_some_and(|code| code == MISSING_FILE)
    }
}

impl Failure for Error {
    fn outage(&self) -> Option<String> {
        self.is_away().then(|| self.reason())
    }

    fn is_of_new_connections(&self) -> bool {
        matches!(self, Self::Unavailable(cause) if cause.is_of_new_connections())
    }
}

/// A new backend finds a library of the server no more. Those that have loaded it go on.
const MISSING_FILE: &str = "58P01";

/// Codes with which PostgreSQL says that it is not there for this node, or their beginnings, and what each means. The first
/// that fits counts.
const AWAY: [(&str, &str); 18] = [
    ("53100", "its disk is full"),
    ("53200", "it is out of memory"),
    ("53300", "it takes no more connections"),
    ("53", "it lacks something"),
    ("57P01", "it has ended the connection"),
    ("57P03", "it is starting, stopping or recovering"),
    ("57P04", "the database is dropped"),
    ("57P05", "idle_session_timeout has ended the connection"),
    ("57P", "it is stopping, or was killed"),
    ("57014", "a statement was cancelled"),
    ("08", "the connection is broken"),
    ("25006", "it is read-only: a standby, or made so"),
    ("25P03", "idle_in_transaction_session_timeout has ended the connection"),
    ("25P04", "transaction_timeout has ended the connection"),
    ("28", "it refuses the role or its password, which belong into DATABASE_URL"),
    (MISSING_FILE, "it cannot find a file of its own, as after an upgrade of its programs: it has to be restarted"),
    ("3D000", "there is no such database"),
    ("55000", "it lets nobody into this database"),
];

impl Error {
    /// Returns whether nothing was committed for certain. If not, the connection broke in the middle, and the statement may be committed.
    pub fn is_certainly_undone(&self) -> bool {
        match self {
            // 57P01 and 57P02 may reach a connection whose commit has just been written, and so may class 08: with that a pooler
            // tells that its connection to the server is gone.
            Self::Unavailable(sqlx::Error::Database(refusal)) => {
                let code = refusal.code().unwrap_or_default();
                !matches!(&*code, "57P01" | "57P02") && !code.starts_with("08")
            }
            Self::Unavailable(sqlx::Error::PoolClosed) => true,
            Self::Unavailable(_) => false,
            Self::Busy(_) | Self::Held(_) | Self::Taken(_) | Self::Invalid(_) | Self::Failed(_) => true,
        }
    }

    /// Returns whether a value was there already that this constraint lets be there once.
    pub fn is_taken(&self, constraint: &str) -> bool {
        matches!(self, Self::Taken(sqlx::Error::Database(refusal)) if refusal.constraint() == Some(constraint))
    }

    /// Returns whether the cause may be one row that cannot be read. The database is there and answers.
    pub const fn may_be_of_one_row(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Invalid(_))
    }

    /// Returns whether the statement could not run for now: the database is away, or no connection is free.
    pub const fn could_not_run(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Busy(_))
    }

    /// Returns whether the database is away.
    pub const fn is_away(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// The reason, in words for the log. The only text from outside is that of errors of the system and of PostgreSQL.
    pub fn reason(&self) -> String {
        match self {
            Self::Unavailable(cause) | Self::Busy(cause) | Self::Held(cause) => reason(cause),
            Self::Taken(_) | Self::Invalid(_) | Self::Failed(_) => self.to_string(),
        }
    }
}

fn reason(cause: &sqlx::Error) -> String {
    match cause {
        sqlx::Error::Database(refusal) => {
            let code = refusal.code().unwrap_or_default();
            let known = AWAY.iter().find(|(class, _)| code.starts_with(class));
            format!("{} ({code})", known.map_or("it refuses", |(_, words)| *words))
        }
        sqlx::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_pool_is_no_database_that_is_away() {
        let busy = Error::from(sqlx::Error::PoolTimedOut);
        assert!(busy.could_not_run() && !busy.is_away() && busy.is_certainly_undone());
        let no_file = Error::from(sqlx::Error::Io(std::io::Error::from_raw_os_error(24)));
        assert!(no_file.could_not_run() && !no_file.is_away() && no_file.is_certainly_undone(), "EMFILE is of this end");
        let away = Error::from(sqlx::Error::PoolClosed);
        assert!(away.could_not_run() && away.is_away());
    }

    #[test]
    fn the_first_code_that_fits_is_the_most_exact() {
        for (n, (code, _)) in AWAY.iter().enumerate() {
            assert!(AWAY[..n].iter().all(|(before, _)| !code.starts_with(before)), "{code} is never told");
        }
    }
}
