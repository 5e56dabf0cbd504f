//! The program as the first process of a container. That process inherits all whose parents have ended, PostgreSQL's among them, and
//! they stay as zombies unless it waits for them. So it does nothing but that: the work is done by the same program in a child.

use std::io;
use std::num::NonZeroU32;
use std::os::unix::process::CommandExt;
use std::process::Command;

use restante_postgres::{pass_on, reap};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Returns whether this process is the first one.
pub fn is_first() -> bool {
    std::process::id() == 1
}

/// Runs this program again in a child, passes signals on to it, and reaps whatever has ended, until the child has ended. Returns the
/// child's exit code; 128 and the signal's number where a signal ended it.
///
/// # Errors
/// When the child cannot be started.
pub fn run() -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before there is a child: its end must not be missed.
        let mut ended = signal(SignalKind::child())?;
        let [mut terminate, mut interrupt, mut quit, mut hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::hangup()].map(signal);
        let child = NonZeroU32::new(child()?).ok_or(io::ErrorKind::NotFound)?;
        loop {
            while let Some(gone) = reap() {
                if gone.pid == child.get() {
                    return Ok(gone.code);
                }
            }
            let passed = tokio::select! {
                _ = ended.recv() => continue,
                () = heard(&mut terminate) => SignalKind::terminate(),
                () = heard(&mut interrupt) => SignalKind::interrupt(),
                () = heard(&mut quit) => SignalKind::quit(),
                () = heard(&mut hangup) => SignalKind::hangup(),
            };
            pass_on(child, passed.as_raw_value());
        }
    })
}

async fn heard(signal: &mut io::Result<Signal>) {
    match signal {
        Ok(signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}

fn child() -> io::Result<u32> {
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    let program = std::env::current_exe()?;
    let mut command = Command::new(&program);
    command.arg0(name.unwrap_or_else(|| program.into())).args(arguments);
    // It is reaped with all others.
    Ok(command.spawn()?.id())
}
