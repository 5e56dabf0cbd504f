//! The children of a process that is the first of its container or namespace. PostgreSQL's processes become its children when their own
//! parents end, and stay as zombies unless it waits for them. It knows nothing of what they do.

use std::num::NonZeroU32;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

/// A child that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedChild {
    /// Its process id.
    pub pid: u32,
    /// Its exit code; 128 and the signal's number where a signal ended it, as shells have it.
    pub code: u8,
}

/// Takes one child that has ended; none: no child has ended since. Never waits. It takes whatever child there is, so a program that
/// calls it must wait for its children in no other way.
pub fn reap() -> Option<EndedChild> {
    loop {
        let (pid, status) = wait(WaitOptions::NOHANG).ok()??;
        let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
        if let Some(code) = code {
            return Some(EndedChild { pid: pid.as_raw_nonzero().get().unsigned_abs(), code: u8::try_from(code).unwrap_or(u8::MAX) });
        }
    }
}

/// Sends a signal by its number to a process. A process that has gone, or a number that is no signal, is no error.
pub fn pass_on(pid: NonZeroU32, signal: i32) {
    let pid = i32::try_from(pid.get()).ok().and_then(Pid::from_raw);
    if let (Some(pid), Some(signal)) = (pid, Signal::from_named_raw(signal)) {
        let _ = kill_process(pid, signal);
    }
}
