//! The lab's program for its tests. It starts the service's program, which is another package's: cargo does not build that for these
//! tests, so it is built here when it is missing or older than its sources.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The sources of the service's program.
const SOURCES: [&str; 6] = ["Cargo.lock", "build.rs", "src", "migrations", "crates/restante-session/src", "crates/restante-client/src"];

/// A command of the lab, which will start the service's program of this build, or the one that `RESTANTE_PROGRAM` names.
pub fn lab(args: &[&str]) -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_restante-lab"));
    if std::env::var_os("RESTANTE_PROGRAM").is_none() {
        command.env("RESTANTE_PROGRAM", PROGRAM.get_or_init(service));
    }
    command.args(args).current_dir(std::env::temp_dir());
    command
}

/// The service's program beside the lab's. Builds it where that is needed.
fn service() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_restante-lab")).parent().unwrap();
    let program = folder.join("restante");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let newest = SOURCES.iter().filter_map(|source| changed(&root.join(source))).max();
    if changed(&program).is_none() || changed(&program) < newest {
        build(&root, folder);
    }
    program
}

/// Both packages, because cargo then resolves features as for these tests and builds no dependency a second time.
fn build(root: &Path, folder: &Path) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "-p", "restante", "-p", "restante-lab", "--bin", "restante"]).current_dir(root);
    cargo.arg("--target-dir").arg(folder.parent().unwrap());
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "cannot build the service's program: cargo build --bin restante");
}

/// The time of the last change of a file, or of the newest file in a folder. `None` when there is none.
fn changed(path: &Path) -> Option<SystemTime> {
    if path.is_dir() {
        return std::fs::read_dir(path).ok()?.filter_map(|entry| changed(&entry.ok()?.path())).max();
    }
    path.metadata().ok()?.modified().ok()
}
