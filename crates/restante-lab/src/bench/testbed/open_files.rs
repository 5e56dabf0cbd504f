//! The limit of open files. Many connections need many, here and in the service, which inherits this process's limit.

use anyhow::ensure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bench::numbers::thousands;
use restante::cli::exit::UsageError;

/// Open files beside the clients' connections: those to the database, the log, and others.
const OTHERS: u64 = 200;

/// Sets the limit as high as the machine's administrator allows. To be called before a process is started that needs it too.
pub fn allow_most() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If this fails, `ensure_room` refuses the scenarios that need it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Fails when the machine has no room for this many connections.
pub fn ensure_room(connections: u64) -> anyhow::Result<()> {
    let (needed, allowed) = (connections + OTHERS, getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX));
    let words = || {
        let (connections, needed, allowed) = (thousands(connections), thousands(needed), thousands(allowed));
        UsageError(format!(
            "{connections} connections need {needed} open files and this machine allows {allowed} (`ulimit -Hn`): raise that, or measure fewer"
        ))
    };
    ensure!(needed <= allowed, words());
    Ok(())
}
