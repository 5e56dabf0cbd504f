//! `restante-lab demo`: the whole story on a service of its own, which is gone afterwards. [`service`] is the
//! child process with its database; [`story`] is what happens.

mod service;
mod story;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};

use crate::program::Program;
use restante::cli::exit::{Exit, words};
use service::OwnService;
use story::Story;

pub const ABOUT: &str = "\
See the whole story in half a minute, on a service of its own.

Bob is away. Alice sends him 120 messages. Bob connects and gets them in three pages, acking as he goes, and Alice sees her ticks. In the \
middle of it the service is killed (kill -9) and started again. In the end every message is read, none is lost, and none had its effect \
twice; the command fails if that is not so.

It starts a service with a PostgreSQL of its own in a temporary directory, and removes all of it, also when it is interrupted. PostgreSQL's \
programs must be installed (`apt-get install postgresql`); nothing that runs already is touched.

Examples:
  restante-lab demo
  restante-lab demo --quick";

/// No demo takes longer.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Without the pauses for reading along
    #[arg(long)]
    quick: bool,
    /// Keep the service's data in this directory, which must not exist yet; it is removed as well
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    program: Program,
}

/// Tells the story, and cleans up however it ends.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut service = OwnService::new(args.program.path()?, args.data_dir)?;
    let told = tokio::select! {
        told = tokio::time::timeout(TIME_MAX, Story::new(&mut service, args.quick).tell()) => match told {
            Ok(told) => told,
            Err(_) => Err(anyhow::anyhow!("the story was not over after {} s", TIME_MAX.as_secs())),
        },
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
    };
    let said = service.log();
    service.remove().await?;
    match told {
        Ok(()) => Ok(Exit::Done),
        Err(error) if said.is_empty() => Err(error),
        Err(error) => bail!("{}\nWhat the service said last:\n{said}", words(error.as_ref())),
    }
}
