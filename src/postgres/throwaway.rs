//! A server in a directory of its own that goes away with its owner, however that ends: for tests, and for
//! whatever needs a database for a minute. A process that is killed cannot clean up after itself, so a watchdog
//! does, a shell that waits on a pipe which only the owner holds open.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Embedded, Error, ServerOptions, layout};

/// Reads until the owner is gone; SIGQUIT is PostgreSQL's immediate shutdown, which ends with its pid file.
const WATCHDOG: &str = r#"
trap '' HUP INT TERM
read -r _
pid_file=$1/postgres/data/postmaster.pid
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
"#;

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
        let path = new_dir()?;
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "restante-watchdog"])
            .arg(&path)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null()) // else whoever reads our output would wait for the watchdog as well
            .stderr(Stdio::null())
            .process_group(0) // else an interrupt from the terminal would reach it
            .spawn()
            .map_err(Error::at(Path::new("sh")))?;
        Ok(Self { path, watchdog })
    }

    /// The root to start the server in.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ThrowawayDir {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait(); // nobody is left to be told
    }
}

fn new_dir() -> Result<PathBuf, Error> {
    for n in 0.. {
        let dir = std::env::temp_dir().join(format!("restante-{}-{n}", std::process::id()));
        match fs::create_dir(&dir) {
            Ok(()) => {
                fs::set_permissions(&dir, Permissions::from_mode(layout::root_mode())).map_err(Error::at(&dir))?;
                return Ok(dir);
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::at(&dir)(e)),
        }
    }
    unreachable!("some number is free")
}
