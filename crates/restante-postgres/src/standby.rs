//! A second server that follows the first one (streaming replication, "High Availability" in PostgreSQL's manual) and can take its
//! place. It is for failovers on one machine; the service itself runs one server.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::postmaster::{Postmaster, end_of, remove_dir_if_there};
use super::{Embedded, Error, ServerOptions, layout};

/// A process that was killed is gone after a moment.
const GONE_MAX: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Embedded {
    /// Copies `primary` into `root` and starts the copy as its standby. A cluster that was in `root` is replaced. `name` is the standby's
    /// name in `synchronous_standby_names`. Blocks for a second or more.
    ///
    /// `extra` should be the options of the primary: a standby refuses some settings that are lower.
    ///
    /// # Errors
    /// When the copy cannot be made, or does not start.
    pub fn start_standby(root: &Path, primary: &Self, name: &str, extra: &ServerOptions) -> Result<Self, Error> {
        let root = layout::make_root(root)?;
        let starting = layout::start_lock(&root)?;
        let layout = layout::Layout::prepare(root.clone())?;
        let copy = Postmaster { layout, bin_dir: primary.postmaster.bin_dir.clone() };
        // A copy before this one may have been left starting.
        copy.stop()?;
        copy.discard_cluster()?;
        copy.copy_of(&primary.postmaster, name)?;
        drop(starting);
        Self::start(&root, extra)
    }

    /// Makes a primary of a standby. Blocks until it takes writes.
    pub fn promote(&self) -> Result<(), Error> {
        self.postmaster.pg_ctl(&["-w", "promote"])
    }

    /// All processes of the server that are there. Where there is no `/proc` that cannot be said, which is an error.
    pub fn processes(&self) -> Result<Vec<u32>, Error> {
        let data = &self.postmaster.layout.data;
        let data = fs::canonicalize(data).map_err(Error::at(data))?;
        let proc = Path::new("/proc");
        let all = fs::read_dir(proc).map_err(Error::at(proc))?.flatten();
        let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        // A zombie works nowhere.
        Ok(ids.filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)).collect())
    }

    /// Kills the server with everything that belongs to it: afterwards nothing of it answers or writes. What an operator's
    /// fencing does before another server takes over.
    pub fn fence(&self) -> Result<(), Error> {
        let until = Instant::now() + GONE_MAX;
        loop {
            let processes = self.processes()?;
            if processes.is_empty() {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(self.postmaster.stuck());
            }
            for pid in processes {
                if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                    // It may have gone meanwhile.
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Postmaster {
    /// Removes a cluster that no server runs on, and the block of shared memory that one which was killed has left: its
    /// number is the last in the seventh line of `postmaster.pid` (`miscadmin.h`, LOCK_FILE_LINE_SHMEM_KEY).
    fn discard_cluster(&self) -> Result<(), Error> {
        let left = fs::read_to_string(self.pid_path()).ok();
        if let Some(block) = left.as_deref().and_then(|text| text.lines().nth(6)?.split_whitespace().nth(1)) {
            // Best effort: where there is no `ipcrm`, 56 bytes stay until the machine restarts.
            let _ = self.command("ipcrm".as_ref()).args(["-m", block]).output();
        }
        for path in [self.layout.socket(), self.layout.socket_lock()] {
            let _ = fs::remove_file(path);
        }
        remove_dir_if_there(&self.layout.data)
    }

    /// It is not needed to run a server, so it may be missing where only those programs are linked to.
    fn copying_program(&self) -> PathBuf {
        const NAME: &str = "pg_basebackup";
        let origin = fs::canonicalize(self.bin_dir.join("postgres")).ok();
        let beside_origin = origin.and_then(|postgres| Some(postgres.parent()?.join(NAME))).filter(|program| program.exists());
        Some(self.bin_dir.join(NAME)).filter(|program| program.exists()).or(beside_origin).unwrap_or_else(|| NAME.into())
    }

    fn copy_of(&self, primary: &Self, name: &str) -> Result<(), Error> {
        let (data, data_new) = (&self.layout.data, &self.layout.data_new);
        remove_dir_if_there(data_new)?;
        let from = format!(
            "host='{}' port={} user={} application_name={name}",
            primary.layout.socket_dir.display(),
            super::PORT,
            super::SUPERUSER
        );
        let mut copying = self.command(self.copying_program().as_os_str());
        copying.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync", "-d", &from, "-D"]).arg(data_new);
        let out = copying.output().map_err(Error::at(Path::new(copying.get_program())))?;
        if !out.status.success() {
            // The log that tells more is the primary's.
            let said = format!("{}{}", String::from_utf8_lossy(&out.stderr), end_of(&primary.layout.log));
            return Err(Error::Tool { tool: "pg_basebackup", said, log: primary.layout.log.clone() });
        }
        fs::rename(data_new, data).map_err(Error::at(data))
    }
}
