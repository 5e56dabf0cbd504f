//! What can go wrong with a statement, by what the caller can do about it.

/// Why a statement did not do what it was to do. Database text stays in the source and never reaches a client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database is away, restarting, full or read-only. Whether the statement was committed is not known.
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
        match &error {
            sqlx::Error::Database(refusal) => match refusal.code().as_deref().unwrap_or_default() {
                "55P03" | "40P01" | "40001" => Self::Held(error),
                "23505" => Self::Taken(error),
                // Class 53: out of disk, memory or connections; 57P: shutting down or starting up; 08: the connection;
                // 25006: demoted to a standby; 57014: cancelled.
                code if ["53", "57P", "08", "25006", "57014"].iter().any(|class| code.starts_with(class)) => Self::Unavailable(error),
                code if ["22", "23", "54"].iter().any(|class| code.starts_with(class)) => Self::Invalid(error),
                _ => Self::Failed(error),
            },
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            _ => Self::Failed(error),
        }
    }
}

impl Error {
    /// Was certainly nothing committed? Otherwise the connection broke in the middle, and it may have been.
    pub fn is_certainly_undone(&self) -> bool {
        match self {
            // 57P01 and 57P02 may reach a connection whose commit has just been written, and so may class 08: with that a pooler
            // tells that its connection to the server is gone.
            Self::Unavailable(sqlx::Error::Database(refusal)) => {
                let code = refusal.code().unwrap_or_default();
                !matches!(&*code, "57P01" | "57P02") && !code.starts_with("08")
            }
            Self::Unavailable(sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed) => true,
            Self::Unavailable(_) => false,
            Self::Held(_) | Self::Taken(_) | Self::Invalid(_) | Self::Failed(_) => true,
        }
    }

    /// May one row that cannot be read be the cause? The database is there and answers.
    pub const fn may_be_of_one_row(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Invalid(_))
    }

    /// Is the database away?
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
