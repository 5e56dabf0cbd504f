//! The files that this process may have open. Every connection is one: those of clients, those to the database, the bus and the log.
//!
//! Where there are none left, nothing of that says anything about the other side: a connection to the database that this process cannot
//! make is no database that is away.

use std::io::Error;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The things that this machine or this process may lack for another connection, by error, and their names in the log.
const LACKING: [(Errno, &str); 5] = [
    (Errno::MFILE, "EMFILE: this process may open no more files (ulimit -n, LimitNOFILE)"),
    (Errno::NFILE, "ENFILE: this machine may open no more files (fs.file-max)"),
    (Errno::NOBUFS, "ENOBUFS: this machine has no memory for another connection"),
    (Errno::NOMEM, "ENOMEM: this machine has no memory for another connection"),
    (Errno::ADDRNOTAVAIL, "EADDRNOTAVAIL: this machine has no free port for another connection"),
];

/// Raises the limit of open files as high as the machine's administrator allows (`ulimit -Hn`). Where that fails the limit stays. To be
/// called once, by the process: its children inherit it.
pub fn allow_most() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // The start compares the limit with what it needs, and warns.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Files that this process may have open at the same time.
pub fn allowed() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The name of what this machine or this process lacks, where that is the cause of the error; none where the cause is another.
pub fn lacks(error: &Error) -> Option<&'static str> {
    let code = error.raw_os_error()?;
    LACKING.iter().find(|(errno, _)| errno.raw_os_error() == code).map(|(_, words)| *words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_at_this_end_is_told_from_what_the_other_end_says() {
        for (errno, words) in LACKING {
            assert_eq!(lacks(&Error::from_raw_os_error(errno.raw_os_error())), Some(words));
        }
        for other in [Errno::CONNREFUSED, Errno::CONNRESET, Errno::TIMEDOUT, Errno::HOSTUNREACH, Errno::PIPE] {
            assert_eq!(lacks(&Error::from_raw_os_error(other.raw_os_error())), None);
        }
        assert_eq!(lacks(&Error::other("gone")), None);
    }
}
