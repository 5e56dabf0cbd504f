//! Finds PostgreSQL's server binaries on the machine. Debian keeps them out of `PATH`, in a directory for each
//! major version, and so do others; and a cluster can only be run by the major version that made it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Error;

/// The schema needs `create database … strategy`, `merge` and friends of 15.
pub(super) const MAJOR_MIN: u32 = 15;

/// `(parent, prefix of the directory's name)` of installations that hold a `bin`.
const PARENTS: [(&str, &str); 5] = [
    ("/usr/lib/postgresql", ""),
    ("/usr", "pgsql-"),
    ("/usr/local", "pgsql"),
    ("/opt/homebrew/opt", "postgresql"),
    ("/usr/local/opt", "postgresql"),
];

/// The programs that make and run a cluster.
const PROGRAMS: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// One directory of binaries and their major version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Installation {
    pub(super) major: u32,
    pub(super) bin_dir: PathBuf,
}

/// The installation for the cluster in `data`: of its own major version, or the newest for a new one.
/// `bin_dir` (or else the variable `PG_BIN_DIR`) names the one directory to look in.
pub(super) fn find(bin_dir: Option<&Path>, data: &Path) -> Result<Installation, Error> {
    let only = bin_dir.map(Path::to_path_buf).or_else(|| env::var_os("PG_BIN_DIR").map(PathBuf::from));
    let mut found: Vec<Installation> = match &only {
        Some(dir) => installation_in(dir.clone()).into_iter().collect(),
        None => usual_dirs().into_iter().filter_map(installation_in).filter(|i| i.major >= MAJOR_MIN).collect(),
    };
    found.sort_by_key(|i| std::cmp::Reverse(i.major));
    if found.is_empty() {
        return Err(Error::NotFound { searched: searched(only.as_deref()) });
    }
    let Some(have) = major_of_cluster(data) else { return Ok(found.swap_remove(0)) };
    match found.iter().find(|i| i.major == have) {
        Some(installation) => Ok(installation.clone()),
        None => Err(Error::Version { data: data.to_path_buf(), have, found: majors(&found) }),
    }
}

/// The major version that made the cluster; none where there is no cluster.
pub(super) fn major_of_cluster(data: &Path) -> Option<u32> {
    fs::read_to_string(data.join("PG_VERSION")).ok()?.trim().parse().ok()
}

fn usual_dirs() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = env::var_os("PATH").iter().flat_map(env::split_paths).collect();
    for (parent, prefix) in PARENTS {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        dirs.extend(entries.filter(|e| e.file_name().to_string_lossy().starts_with(prefix)).map(|e| e.path().join("bin")));
    }
    dirs
}

/// The path is made absolute, as the programs run in another directory than this process.
fn installation_in(dir: PathBuf) -> Option<Installation> {
    let dir = std::path::absolute(dir).ok()?;
    if !PROGRAMS.iter().all(|program| dir.join(program).is_file()) {
        return None;
    }
    let out = Command::new(dir.join("postgres")).arg("--version").output().ok()?;
    let major = major_in(&String::from_utf8_lossy(&out.stdout))?;
    Some(Installation { major, bin_dir: dir })
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-1)`, `postgres (PostgreSQL) 19beta1`
fn major_in(version: &str) -> Option<u32> {
    let word = version.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    word.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn searched(only: Option<&Path>) -> String {
    match only {
        Some(dir) => format!("looked in PG_BIN_DIR={} only", dir.display()),
        None => format!("looked in PATH, {}", PARENTS.map(|(parent, prefix)| format!("{parent}/{prefix}*/bin")).join(", ")),
    }
}

fn majors(found: &[Installation]) -> String {
    let mut majors: Vec<u32> = found.iter().map(|i| i.major).collect();
    majors.dedup();
    majors.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_postgres_says() {
        assert_eq!(major_in("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major_in("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(major_in("postgres (PostgreSQL)\n"), None);
    }

    #[test]
    fn missing_binaries_are_told_in_one_line_that_helps() {
        let error = find(Some(Path::new("/nonexistent")), Path::new("/nonexistent")).expect_err("there is nothing there").to_string();
        assert!(!error.contains('\n'), "{error}");
        assert!(error.contains("apt-get install postgresql") && error.contains("DATABASE_URL"), "{error}");
    }
}
