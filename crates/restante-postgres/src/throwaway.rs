//! A server in a directory of its own that is removed with its owner, also when the owner is killed: for tests and for short runs. A
//! killed process cannot clean up, so a watchdog does it: a shell that waits on a pipe that only the owner holds open.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Embedded, Error, ServerOptions, layout};

/// Makes the directory, so that it never exists without a watchdog, and waits for its owner to close the pipe.
/// SIGQUIT is PostgreSQL's immediate shutdown, which ends with its pid file. An owner that was killed may have left
/// an `initdb` or a starting server at work, so then the directory is removed until it stays away.
const WATCHDOG: &str = r#"
trap '' HUP INT PIPE TERM
mkdir -m "$2" "$1" || exit
echo made
looks=10
read -r _ && looks=1
pid_file=$1/postgres/data/postmaster.pid
while [ "$looks" -gt 0 ]; do
    looks=$((looks - 1))
    if read -r pid <"$pid_file"; then
        kill -QUIT "$pid"
        tries=0
        while [ -e "$pid_file" ] && [ "$tries" -lt 100 ]; do
            sleep 0.05
            tries=$((tries + 1))
        done
        kill -KILL "$pid"
    fi
    rm -rf "$1"
    [ "$looks" -eq 0 ] || sleep 0.1
done
"#;

/// One for each server that a process has at once, and for those that another one of its number has left.
const NAMES_MAX: u32 = 1_000;

/// A temporary directory for an embedded server. Both end with this value or with this process.
#[derive(Debug)]
pub struct ThrowawayDir {
    path: PathBuf,
    watchdog: Child,
}

/// An embedded server in a [`ThrowawayDir`].
#[derive(Debug)]
pub struct Throwaway {
    server: Embedded,
    dir: ThrowawayDir,
}

impl Throwaway {
    /// Makes and starts the server. Blocks for about a second.
    pub fn start(options: &ServerOptions) -> Result<Self, Error> {
        let dir = ThrowawayDir::new()?;
        let server = Embedded::start(dir.path(), options)?;
        Ok(Self { server, dir })
    }

    /// The server.
    pub fn server(&self) -> &Embedded {
        &self.server
    }

    /// Starts the server again after it was stopped or has died. Blocks.
    pub fn start_again(&mut self, options: &ServerOptions) -> Result<(), Error> {
        self.server = Embedded::start(self.dir.path(), options)?;
        Ok(())
    }
}

impl ThrowawayDir {
    /// Makes a new directory, in which [`Embedded::start`] may then be called any number of times.
    pub fn new() -> Result<Self, Error> {
        for n in 0..NAMES_MAX {
            let path = std::env::temp_dir().join(format!("restante-{}-{n}", std::process::id()));
            let mut watchdog = watchdog_of(&path)?;
            if has_made_it(&mut watchdog) {
                return Ok(Self { path, watchdog });
            }
            let _ = watchdog.wait(); // the name was taken
        }
        Err(Error::at(&std::env::temp_dir())(io::ErrorKind::AlreadyExists.into()))
    }

    /// The root to start the server in.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ThrowawayDir {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.watchdog.stdin.take() {
            let _ = pipe.write_all(b"done\n"); // a killed process does not write this
        }
        let _ = self.watchdog.wait(); // nobody is left to be told
    }
}

fn watchdog_of(path: &Path) -> Result<Child, Error> {
    Command::new("sh")
        .args(["-c", WATCHDOG, "restante-watchdog"])
        .arg(path)
        .arg(format!("{:o}", layout::root_mode()))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped()) // not ours: the reader of our output would wait for the watchdog too
        .stderr(Stdio::null())
        .process_group(0) // else an interrupt from the terminal would reach it
        .spawn()
        .map_err(Error::at(Path::new("sh")))
}

fn has_made_it(watchdog: &mut Child) -> bool {
    let mut line = String::new();
    watchdog.stdout.take().is_some_and(|out| BufReader::new(out).read_line(&mut line).is_ok_and(|bytes| bytes > 0))
}
