//! The environment variables of libpq, which tell PostgreSQL's programs where and how to connect (`PGHOST`, `PGOPTIONS`, `PGSSLMODE` …;
//! "Environment Variables" in libpq's manual). They are meant for `psql`, and sqlx reads them as well.
//!
//! The service connects to an address, or to the server that it has started. So these variables reach none of the server's programs, and
//! a program that connects removes them first.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{env, io};

/// The variables of libpq and of the server's programs that change the target of a connection, or its properties. Those that begin with
/// `PGSSL` and `PGOAUTH` count too.
const VARIABLES: [&str; 34] = [
    "PGAPPNAME",
    "PGCHANNELBINDING",
    "PGCLIENTENCODING",
    "PGCONNECT_TIMEOUT",
    "PGCTLTIMEOUT",
    "PGDATA",
    "PGDATABASE",
    "PGDATESTYLE",
    "PGGEQO",
    "PGGSSDELEGATION",
    "PGGSSENCMODE",
    "PGGSSLIB",
    "PGHOST",
    "PGHOSTADDR",
    "PGKRBSRVNAME",
    "PGLOADBALANCEHOSTS",
    "PGLOCALEDIR",
    "PGMAXPROTOCOLVERSION",
    "PGMINPROTOCOLVERSION",
    "PGOPTIONS",
    "PGPASSFILE",
    "PGPASSWORD",
    "PGPORT",
    "PGREALM",
    "PGREQUIREAUTH",
    "PGREQUIREPEER",
    "PGREQUIRESSL",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGSYSCONFDIR",
    "PGTARGETSESSIONATTRS",
    "PGTTY",
    "PGTZ",
    "PGUSER",
];

/// The variable in which a program that has started again finds the names of the variables that it has removed.
const LEFT_BEHIND: &str = "RESTANTE_LEFT_BEHIND";

/// The libpq variables that this process was given.
pub fn libpq_variables() -> Vec<OsString> {
    env::vars_os().map(|(name, _)| name).filter(|name| is_libpq(name)).collect()
}

/// The names of the libpq variables that this program had before it started again; `None` when it had none.
pub fn left_behind() -> Option<String> {
    env::var(LEFT_BEHIND).ok().filter(|names| !names.is_empty())
}

/// Runs this program from its beginning, in this very process, without these variables. Returns only if that cannot be done.
///
/// A running process cannot take a variable out of its environment safely: another thread may be reading there.
pub fn begin_again_without(variables: &[OsString]) -> io::Error {
    let mut arguments = env::args_os();
    let name = arguments.next();
    let program = match env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let mut command = Command::new(&program);
    command.arg0(name.unwrap_or_else(|| program.into())).args(arguments);
    let names: Vec<_> = variables.iter().map(|name| name.to_string_lossy()).collect();
    without(&mut command, variables).env(LEFT_BEHIND, names.join(", ")).exec()
}

pub(super) fn without<'c>(command: &'c mut Command, variables: &[OsString]) -> &'c mut Command {
    variables.iter().fold(command, |command, name| command.env_remove(name))
}

/// Returns whether a variable of this name is one of libpq's.
pub fn is_libpq_variable(name: &str) -> bool {
    is_libpq(OsStr::new(name))
}

fn is_libpq(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    VARIABLES.contains(&&*name) || ["PGSSL", "PGOAUTH"].iter().any(|family| name.starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_libpq_are_told_from_our_own() {
        for name in ["PGHOST", "PGOPTIONS", "PGSSLROOTCERT", "PGCONNECT_TIMEOUT", "PGDATA"] {
            assert!(is_libpq(OsStr::new(name)), "{name}");
        }
        for name in ["PG", "PG_BIN_DIR", "PGBOUNCER", "PATH", "DATABASE_URL", "pghost", "XPGHOST"] {
            assert!(!is_libpq(OsStr::new(name)), "{name}");
        }
    }
}
