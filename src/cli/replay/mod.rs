//! x
mod checker;
mod log;
use super::exit::Exit;
pub const ABOUT: &str = "Example restante replay";
/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}
pub async fn run(_: Args) -> anyhow::Result<Exit> {
    Ok(Exit::Done)
}
