//! Many connections need many open files, here and in the service, which inherits this process's limit.

use anyhow::ensure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bench::figure::thousands;
use restante::cli::exit::UsageError;

/// Besides connections: the database's, the log, whatever else a process has open.
const OTHERS: u64 = 200;

/// As many as the machine's administrator allows. To be called before anything is started that shall have them too.
pub fn allow_most() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If it is refused, `ensure_room` finds it out for those who need it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Is there room for so many connections?
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
