//! Makes the cluster and starts and stops its postmaster, with PostgreSQL's own programs. Everything here blocks
//! and happens under the start lock; what the postmaster says of itself is read from `postmaster.pid` and its
//! socket, never from `pg_ctl status`, which believes a dead one.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::installation::{self, Installation};
use super::layout::Layout;
use super::options::{Durability, ServerOptions};
use super::{Error, SUPERUSER, environment};

/// Recovery after a crash may take minutes; a postmaster that dies is noticed at once.
const START_SECONDS_MAX: u64 = 300;
/// The backends of a postmaster that was killed go away by themselves, and the next one will not start before.
const LEFTOVERS_LINGER: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The time for a checkpoint at a fast stop, and for an immediate stop after it.
const STOP_FAST_MAX: Duration = Duration::from_secs(60);
const STOP_IMMEDIATE_MAX: Duration = Duration::from_secs(10);
const LOOK_FOR_THE_END: Duration = Duration::from_millis(20);
/// The log is set aside at a start when it has grown over this.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Lines of the log that an error quotes.
const LOG_LINES_QUOTED: usize = 10;

/// Tells how [`Embedded::start`](super::Embedded::start) got its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// The cluster was made.
    Fresh,
    /// The cluster was there and its server was started.
    Warm,
    /// The server was running already.
    Adopted,
}

/// The state of a postmaster, as its files and processes show it.
enum State {
    /// It takes connections.
    Ready,
    /// It lives and is starting, recovering or stopping.
    Busy,
    /// There is none. `postmaster.pid` may exist all the same.
    Gone,
}

/// One cluster's postmaster, running or not.
#[derive(Debug)]
pub(super) struct Postmaster {
    pub(super) layout: Layout,
    pub(super) bin_dir: PathBuf,
}

impl Postmaster {
    pub(super) fn of(layout: Layout, options: &ServerOptions) -> Result<Self, Error> {
        let Installation { bin_dir, .. } = installation::find(options.bin_dir(), &layout.data)?;
        Ok(Self { layout, bin_dir })
    }

    /// Makes the cluster where there is none, and returns when the server takes connections.
    pub(super) fn start(&self, options: &ServerOptions) -> Result<Started, Error> {
        let fresh = installation::major_of_cluster(&self.layout.data).is_none();
        if fresh {
            self.make_cluster(options.durability())?;
        }
        match self.start_or_adopt(options)? {
            Started::Warm if fresh => Ok(Started::Fresh),
            started => Ok(started),
        }
    }

    /// The process id of a postmaster that runs.
    pub(super) fn pid(&self) -> Option<u32> {
        match self.state() {
            State::Ready | State::Busy => Some(self.pid_file()?.pid),
            State::Gone => None,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.state(), State::Ready)
    }

    /// Tells cheaply whether the postmaster's process is there, without a connection.
    pub(super) fn lives(&self) -> bool {
        if Path::new("/proc/self").exists() {
            self.pid_file().is_some_and(|file| works_in(file.pid, &self.layout.data))
        } else {
            self.is_ready()
        }
    }

    /// Stops a server that runs; clients are disconnected and nothing committed is lost. It needs none of PostgreSQL's programs: an
    /// upgrade may have replaced or removed them. The signals are those of `pg_ctl stop`: fast, then immediate.
    pub(super) fn stop(&self) -> Result<(), Error> {
        for (signal, patience) in [(Signal::INT, STOP_FAST_MAX), (Signal::QUIT, STOP_IMMEDIATE_MAX)] {
            let until = Instant::now() + patience;
            if let State::Gone = self.state() {
                return Ok(());
            }
            if let Some(pid) = self.pid_file().and_then(|file| Pid::from_raw(i32::try_from(file.pid).ok()?)) {
                // It may have gone meanwhile.
                let _ = kill_process(pid, signal);
            }
            while Instant::now() < until {
                if self.has_ended() {
                    return Ok(());
                }
                std::thread::sleep(LOOK_FOR_THE_END);
            }
        }
        Err(Error::Stuck { seconds: (STOP_FAST_MAX + STOP_IMMEDIATE_MAX).as_secs(), log: self.layout.log.clone() })
    }

    /// A postmaster removes its pid file at the very end.
    fn has_ended(&self) -> bool {
        match self.pid_file() {
            None => true,
            Some(file) => Path::new("/proc/self").exists() && !works_in(file.pid, &self.layout.data),
        }
    }

    /// `initdb` into a side directory that is renamed when it is done: one that was killed halfway through leaves
    /// nothing that looks like a cluster.
    fn make_cluster(&self, durability: Durability) -> Result<(), Error> {
        let Layout { data, data_new, .. } = &self.layout;
        remove_dir_if_there(data_new)?;
        let mut args = vec!["-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"];
        if durability == Durability::Disposable {
            args.push("--no-sync");
        }
        self.run("initdb", self.program("initdb").arg("-D").arg(data_new).args(args))?;
        fs::rename(data_new, data).map_err(Error::at(data))?;
        let home = data.parent().unwrap_or(data);
        File::open(home).and_then(|dir| dir.sync_all()).map_err(Error::at(home))
    }

    pub(super) fn start_or_adopt(&self, options: &ServerOptions) -> Result<Started, Error> {
        let begun = Instant::now();
        let patience = if self.pid_path().exists() { LEFTOVERS_LINGER } else { Duration::ZERO };
        loop {
            match self.state() {
                State::Ready => return Ok(Started::Adopted),
                State::Busy if begun.elapsed().as_secs() >= START_SECONDS_MAX => return Err(self.stuck()),
                State::Busy => {}
                State::Gone => match self.start_new(options) {
                    Ok(()) => return Ok(Started::Warm),
                    Err(e) if begun.elapsed() >= patience && matches!(self.state(), State::Gone) => return Err(e),
                    Err(_) => {}
                },
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn start_new(&self, options: &ServerOptions) -> Result<(), Error> {
        self.disown_lock_files()?;
        self.set_big_log_aside()?;
        let seconds = START_SECONDS_MAX.to_string();
        let settings = self.command_line(options);
        self.pg_ctl(&["-w", "-s", "-t", &seconds, "-l", &self.layout.log.to_string_lossy(), "-o", &settings, "start"])
    }

    fn state(&self) -> State {
        match self.pid_file() {
            Some(file) if file.status == "ready" && UnixStream::connect(self.layout.socket()).is_ok() => State::Ready,
            Some(file) if works_in(file.pid, &self.layout.data) => State::Busy,
            _ => State::Gone,
        }
    }

    /// The number of a dead postmaster may belong to another process by now, after a reboot most of all, or to its
    /// own remains that nobody has reaped; PostgreSQL would take either for a running postmaster. So its lock files
    /// get a number that no process can have. They are not removed: by the other lines PostgreSQL finds out whether
    /// backends of the dead one still use the shared memory.
    fn disown_lock_files(&self) -> Result<(), Error> {
        let files: Vec<PathBuf> = [self.pid_path(), self.layout.socket_lock()].into_iter().filter(|path| path.exists()).collect();
        if files.is_empty() || !Path::new("/proc/self").exists() {
            return Ok(());
        }
        let mut sed = self.command(OsStr::new("sed"));
        self.run("sed", sed.args(["-s", "-i", &format!("1s/.*/{}/", i32::MAX)]).args(files))
    }

    fn set_big_log_aside(&self) -> Result<(), Error> {
        let log = &self.layout.log;
        if fs::metadata(log).is_ok_and(|meta| meta.len() > LOG_BYTES_MAX) {
            fs::rename(log, log.with_extension("log.old")).map_err(Error::at(log))?;
        }
        Ok(())
    }

    fn pid_file(&self) -> Option<PidFile> {
        PidFile::parse(&fs::read_to_string(self.pid_path()).ok()?)
    }

    pub(super) fn pid_path(&self) -> PathBuf {
        self.layout.data.join("postmaster.pid")
    }

    /// The arguments after `postgres -D …`. `pg_ctl` gives them to a shell.
    fn command_line(&self, options: &ServerOptions) -> String {
        let socket_dir = format!("\"{}\"", self.layout.socket_dir.to_string_lossy().replace('"', "\"\""));
        let mut words = vec![format!("-c unix_socket_directories={}", shell_quoted(&socket_dir))];
        words.extend(options.settings().iter().map(|(name, value)| format!("-c {name}={}", shell_quoted(value))));
        words.join(" ")
    }

    pub(super) fn pg_ctl(&self, args: &[&str]) -> Result<(), Error> {
        self.run("pg_ctl", self.program("pg_ctl").arg("-D").arg(&self.layout.data).args(args))
    }

    pub(super) fn program(&self, name: &str) -> Command {
        self.command(self.bin_dir.join(name).as_os_str())
    }

    /// A command that runs as the server's account, in a directory that this account can be in, and that is not
    /// led to another server by this process's environment. An interrupt from the terminal does not reach it: it would end `initdb`
    /// half-way, where the service stops in order.
    pub(super) fn command(&self, program: &OsStr) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").env("LC_ALL", "C").stdin(Stdio::null()).process_group(0);
        environment::without(&mut command, &environment::libpq_variables());
        if let Some(account) = self.layout.account {
            command.uid(account.uid).gid(account.gid); // under root this drops the supplementary groups too
        }
        command
    }

    fn run(&self, tool: &'static str, command: &mut Command) -> Result<(), Error> {
        let out = command.output().map_err(Error::at(Path::new(command.get_program())))?;
        if out.status.success() {
            return Ok(());
        }
        let said = format!("{}{}", String::from_utf8_lossy(&out.stderr), end_of(&self.layout.log));
        Err(Error::Tool { tool, said, log: self.layout.log.clone() })
    }

    pub(super) fn stuck(&self) -> Error {
        Error::Stuck { seconds: START_SECONDS_MAX, log: self.layout.log.clone() }
    }
}

/// The lines of `postmaster.pid` that matter here: the first and the eighth (`miscadmin.h`, LOCK_FILE_LINE_*).
struct PidFile {
    pid: u32,
    status: String,
}

impl PidFile {
    fn parse(text: &str) -> Option<Self> {
        let pid = text.lines().next()?.trim().parse().ok()?;
        let status = text.lines().nth(7).unwrap_or_default().trim().to_owned();
        Some(Self { pid, status })
    }
}

/// Tells whether the process is a postmaster of this cluster: its working directory is the data directory. Where that cannot be read
/// (no `/proc`, not permitted), the answer is left to PostgreSQL.
fn works_in(pid: u32, data: &Path) -> bool {
    match fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(cwd) => fs::canonicalize(data).is_ok_and(|data| data == cwd),
        Err(e) => e.kind() == io::ErrorKind::PermissionDenied,
    }
}

pub(super) fn remove_dir_if_there(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::at(dir)(e)),
        _ => Ok(()),
    }
}

fn shell_quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

pub(super) fn end_of(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_QUOTED)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_is_read_by_line() {
        let file = PidFile::parse("4711\n/data\n1790000000\n5432\n/sock\n\n  5 6\nready   \n").expect("it has a first line");
        assert_eq!((file.pid, file.status.as_str()), (4711, "ready"));
        let young = PidFile::parse("4711\n/data\n").expect("it has a first line");
        assert_eq!(young.status, "");
        assert!(PidFile::parse("").is_none());
    }

    #[test]
    fn a_quoted_word_reaches_the_shell_whole() {
        let word = r#"it's "quoted" $HOME \ `"#;
        let out = Command::new("sh").args(["-c", &format!("printf %s {}", shell_quoted(word))]).output().expect("sh runs");
        assert_eq!(String::from_utf8_lossy(&out.stdout), word);
    }
}
