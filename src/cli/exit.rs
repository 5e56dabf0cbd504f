//! Exit codes: one table, so that scripts can rely on them, and where errors find their code.

use std::io;
use std::process::ExitCode;

use sqlx::migrate::MigrateError;
use sqlx::postgres::PgDatabaseError;

use super::screen::{printable, printable_lines, say};
use restante_client::{ConnectError, Gone, HttpError, RequestError, WireError};

/// The program's exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The program did what was asked.
    Done,
    /// It failed, or an invariant broke.
    Failed,
    /// The command line or a setting is wrong.
    Usage,
    /// The service cannot be reached.
    Unreachable,
    /// The service refused.
    Refused,
    /// Sent; not delivered in time.
    SentOnly,
    /// Delivered; not read in time.
    DeliveredOnly,
}

/// A mistake of the caller; the program ends with [`Exit::Usage`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

impl Exit {
    /// All of them.
    #[cfg(test)]
    pub const ALL: [Self; 7] =
        [Self::Done, Self::Failed, Self::Usage, Self::Unreachable, Self::Refused, Self::SentOnly, Self::DeliveredOnly];

    /// The number a script sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Refused => 4,
            Self::SentOnly => 5,
            Self::DeliveredOnly => 6,
        }
    }

    /// Says why on stderr, and ends so.
    pub fn after(self, why: &str) -> ExitCode {
        if self != Self::Done {
            say(&format!("restante: {}", printable_lines(why)));
        }
        self.into()
    }

    /// The code of an error: that of the first cause that has one.
    pub fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(Self::of_cause).unwrap_or(Self::Failed)
    }

    fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Self> {
        if let Some(ConnectError::Unreachable(_)) = cause.downcast_ref() {
            return Some(Self::Unreachable);
        }
        if let Some(ConnectError::Gone(gone)) = cause.downcast_ref() {
            return Some(Self::of_gone(gone));
        }
        if let Some(RequestError::Lost | RequestError::TimedOut) = cause.downcast_ref() {
            return Some(Self::Unreachable);
        }
        if let Some(gone) = cause.downcast_ref::<Gone>() {
            return Some(Self::of_gone(gone));
        }
        match cause.downcast_ref::<HttpError>() {
            Some(HttpError::Unreachable(_) | HttpError::NotNow { .. }) => return Some(Self::Unreachable),
            Some(HttpError::Refused { .. }) => return Some(Self::Refused),
            Some(HttpError::Rejected { .. } | HttpError::Malformed(_)) => return Some(Self::Failed),
            None => {}
        }
        match cause.downcast_ref::<WireError>() {
            Some(WireError::BadAddress(_)) => return Some(Self::Usage),
            Some(_) => return Some(Self::Unreachable),
            None => {}
        }
        if cause.is::<UsageError>() {
            return Some(Self::Usage);
        }
        // The reader of the output has closed its end (`restante listen | head`).
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe).then_some(Self::Done)
    }

    const fn of_gone(gone: &Gone) -> Self {
        match gone {
            Gone::NotAuthenticated(_) | Gone::Forbidden(_) => Self::Refused,
            Gone::NotTheService(_) => Self::Unreachable,
            Gone::Displaced | Gone::BadFrame(_) | Gone::Closed => Self::Failed,
        }
    }
}

/// An error with its causes, for people; a cause that only repeats what was said is left out. Causes may quote what came from outside:
/// it is made harmless.
pub fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said = String::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let of_database = of_database(error);
        let words = of_database.clone().unwrap_or_else(|| error.to_string());
        if said.is_empty() {
            said = words;
        } else if !said.contains(&words) {
            said = format!("{said}: {words}");
        }
        // The causes of an error of the database repeat it, with lines of its own sources.
        cause = if of_database.is_some() { None } else { error.source() };
    }
    printable_lines(&said)
}

/// The words of PostgreSQL and of the system, where the error is one of a statement, a connection or a migration.
fn of_database(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<sqlx::Error>() {
        return Some(of_statement(error));
    }
    match error.downcast_ref::<MigrateError>() {
        Some(MigrateError::ExecuteMigration(error, version)) => return Some(format!("migration {version}: {}", of_statement(error))),
        Some(MigrateError::Execute(error)) => return Some(of_statement(error)),
        _ => {}
    }
    match error.downcast_ref::<restante_postgres::Error>() {
        Some(restante_postgres::Error::Sql(error)) => Some(of_statement(error)),
        _ => None,
    }
}

fn of_statement(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(refusal) => {
            let said = refusal.try_downcast_ref::<PgDatabaseError>();
            let more = [said.and_then(PgDatabaseError::detail), said.and_then(PgDatabaseError::hint)];
            let more: String = more.into_iter().flatten().map(|words| format!("; {words}")).collect();
            printable(&format!("{} ({}){more}", refusal.message(), refusal.code().unwrap_or_default()))
        }
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::PoolTimedOut => "no connection was free in time".to_owned(),
        error => error.to_string(),
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn cause_is_told_once() {
        let error = anyhow!("refused").context("IO error: refused").context("cannot reach the service");
        assert_eq!(words(error.as_ref()), "cannot reach the service: IO error: refused");
    }

    #[test]
    fn error_finds_its_code_below_its_context() {
        let refused = Err::<(), _>(ConnectError::Gone(Gone::NotAuthenticated("expired".into()))).context("connecting");
        assert_eq!(Exit::of(&refused.unwrap_err()), Exit::Refused);
        assert_eq!(Exit::of(&ConnectError::Unreachable(WireError::Silent).into()), Exit::Unreachable);
        assert_eq!(Exit::of(&HttpError::Refused { status: 403, message: String::new() }.into()), Exit::Refused);
        assert_eq!(Exit::of(&UsageError("no".into()).into()), Exit::Usage);
        assert_eq!(Exit::of(&io::Error::from(io::ErrorKind::BrokenPipe).into()), Exit::Done);
        assert_eq!(Exit::of(&anyhow!("anything else")), Exit::Failed);
    }
}
