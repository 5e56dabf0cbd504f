//! The service's program, which the lab starts: the one beside this program, or the one that an option names.

use std::path::{Path, PathBuf};

use anyhow::Context;
use restante::cli::exit::UsageError;

const NAME: &str = "restante";

/// The option that names the service's program.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Program {
    /// Start this program as the service, such as one of another version (default: `restante` beside this program)
    #[arg(long, env = "RESTANTE_PROGRAM", value_name = "FILE")]
    program: Option<PathBuf>,
}

impl Program {
    /// The path of the program.
    ///
    /// # Errors
    /// When there is no such program. The error says how to build it.
    pub fn path(&self) -> anyhow::Result<PathBuf> {
        match &self.program {
            Some(named) => Ok(found(named)?),
            None => Ok(found(&this()?.with_file_name(NAME))?),
        }
    }
}

/// This very program, for what it starts of itself.
pub fn this() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot find this program")
}

fn found(program: &Path) -> Result<PathBuf, UsageError> {
    let why =
        || format!("there is no program {}: build the service with `cargo build --release`, or name it with --program", program.display());
    program.canonicalize().ok().filter(|program| program.is_file()).ok_or_else(|| UsageError(why()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_that_is_not_there_is_told_with_what_builds_it() {
        let folder = tempfile::tempdir().unwrap();
        let named = |path: PathBuf| Program { program: Some(path) }.path();
        let error = named(folder.path().join("restante")).unwrap_err().to_string();
        assert!(error.contains("cargo build --release") && error.contains("--program"), "{error}");
        assert!(named(folder.path().to_owned()).is_err(), "a directory is no program");
        std::fs::write(folder.path().join("restante"), "").unwrap();
        assert!(named(folder.path().join("restante")).is_ok());
    }
}
