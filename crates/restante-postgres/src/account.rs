//! The account that the server runs as. PostgreSQL refuses to run as root, so under root it gets another account. That account must be
//! able to enter the server's directories. Accounts are looked up with `id`, which knows every source of accounts of the machine and
//! not only `/etc/passwd`.

use std::env;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use super::Error;

/// In order of preference, under root.
const NAMES: [&str; 2] = ["postgres", "nobody"];

/// The account that the server runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The default data directory: `/var/lib/restante` for root (the server's account cannot enter a directory in root's home),
/// `$XDG_DATA_HOME/restante` or `~/.local/share/restante` for other users.
pub fn default_data_dir() -> Result<PathBuf, Error> {
    let variable = |name| env::var_os(name).map(PathBuf::from);
    data_dir_of(is_root(), variable("XDG_DATA_HOME"), variable("HOME")).ok_or(Error::NoDataDir)
}

/// A relative `XDG_DATA_HOME` counts as unset (XDG Base Directory Specification).
fn data_dir_of(root: bool, xdg_data_home: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    if root {
        return Some("/var/lib/restante".into());
    }
    let data_home = xdg_data_home.filter(|dir| dir.is_absolute()).or_else(|| Some(home?.join(".local/share")))?;
    Some(data_home.join("restante"))
}

pub(super) fn is_root() -> bool {
    id(&["-u"]) == Some(0)
}

impl Account {
    /// The account to run a new cluster as: none but one's own unless this process is root.
    pub(super) fn for_new_cluster() -> Result<Option<Self>, Error> {
        if !is_root() {
            return Ok(None);
        }
        NAMES.iter().find_map(|name| Self::named(name)).map(Some).ok_or(Error::NoAccount)
    }

    /// The account that owns an existing cluster. The server runs as this account, also when other accounts came later.
    pub(super) fn owning(dir: &Metadata) -> Option<Self> {
        (is_root() && dir.uid() != 0).then(|| Self { uid: dir.uid(), gid: dir.gid() })
    }

    fn named(name: &str) -> Option<Self> {
        let account = Self { uid: id(&["-u", name])?, gid: id(&["-g", name])? };
        (account.uid != 0).then_some(account)
    }

    pub(super) fn may_enter(self, dir: &Metadata) -> bool {
        let bit = if dir.uid() == self.uid {
            0o100
        } else if dir.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        dir.mode() & bit != 0
    }
}

fn id(args: &[&str]) -> Option<u32> {
    let out = Command::new("id").args(args).output().ok()?;
    String::from_utf8(out.stdout).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_does_not_exist_is_none() {
        assert_eq!(Account::named("no-such-account-here"), None);
    }

    #[test]
    fn data_belongs_to_the_system_for_root_and_into_the_home_for_others() {
        let path = |path: &str| Some(PathBuf::from(path));
        assert_eq!(data_dir_of(true, path("/x"), path("/root")), path("/var/lib/restante"));
        assert_eq!(data_dir_of(false, path("/x"), path("/home/ada")), path("/x/restante"));
        assert_eq!(data_dir_of(false, path("relative"), path("/home/ada")), path("/home/ada/.local/share/restante"));
        assert_eq!(data_dir_of(false, None, path("/home/ada")), path("/home/ada/.local/share/restante"));
        assert_eq!(data_dir_of(false, None, None), None);
    }

    #[test]
    fn the_server_never_runs_as_root() {
        assert_eq!(Account::named("root"), None);
        assert!(Account::for_new_cluster().expect("postgres or nobody exists").is_none_or(|account| account.uid != 0));
    }
}
