//! `restante-lab torture`: several nodes on one PostgreSQL, clients that do everything that clients do, and faults that a seed draws.
//! At the end the judge decides whether anything was lost, doubled, reordered, or told wrongly. In the manner of Jepsen, on one
//! machine, with one command.
//!
//! [`plan`] draws the faults, [`faults`] does them to the [`testbed`] and its proxies ([`proxy`]), or in SQL ([`acts`]); [`outcome`] counts what came of
//! them. [`actor`] is a client, which writes its history for the judge. [`conductor`] is the whole run.

mod actor;
mod acts;
mod conductor;
mod faults;
mod outcome;
mod plan;
mod proxy;
mod report;
mod rng;
mod testbed;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::program::Program;
use conductor::RunConfig;
use plan::Kind;
use report::Verdict;
use restante::cli::exit::{Exit, UsageError, words as words_of};
pub(crate) use rng::Rng;
use testbed::{Features, StandbyMode, Testbed};

pub const ABOUT: &str = "\
Break everything that can break, and see whether the promise holds.

It starts several nodes on a PostgreSQL of its own, all of it in a temporary directory, with a proxy on every way between clients and nodes \
and between nodes and PostgreSQL. Clients send (to groups and to each other, with ids of their own, and the same id again), ack by id and by \
number, reject, read, come back, change devices and nodes, join and leave, block one another, and revoke their tokens. Meanwhile faults come as the seed draws them: nodes and PostgreSQL \
are killed, stopped and restarted, connections are cut, stalled and left half open, the disk is full. In the end everything is mended, every \
client comes back once more, and a judge that shares nothing with the service decides over what the clients saw and what the database holds.

The same seed draws the same people, actions and faults; how they fall between one another is up to the machine. Exit code 0: everything \
held. 1: something broke, and the output says what, with the seed; or a fault of the standby failed, and there is no verdict. What is judged, and how to read it: docs/torture.md.

Examples:
  restante-lab torture
  restante-lab torture --seed 7 --minutes 30
  restante-lab torture --faults node-kill,pg-kill,db-half-open --json verdict.json
  restante-lab torture --minutes 0.5 --history histories/";

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// All random choices follow from this number (default: one that is drawn, and told)
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Time during which faults come; the end takes up to a few minutes more
    #[arg(long, default_value_t = 1.0, value_name = "M", value_parser = minutes)]
    minutes: f64,
    /// Number of nodes
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// Number of clients; every third user has two
    #[arg(long, default_value_t = 24, value_name = "N", value_parser = clap::value_parser!(u16).range(2..=500))]
    clients: u16,
    /// Milliseconds between two actions of a client, on average
    #[arg(long, default_value_t = 250, value_name = "MS", value_parser = clap::value_parser!(u64).range(50..=60_000))]
    pace: u64,
    /// Only these kinds of faults, separated by commas; `none`: no fault at all (default: all; `list` shows them)
    #[arg(long, value_name = "KINDS")]
    faults: Option<String>,
    /// PostgreSQL gets a standby that has every commit before it is confirmed; faults promote it, stop it, kill it
    #[arg(long)]
    standby: bool,
    /// The standby lags, and is promoted all the same: confirmed messages are lost, and the verdict has to say so
    #[arg(long, hide = true, requires = "standby")]
    asynchronous: bool,
    /// Messages and events are encrypted at rest; faults rotate data keys and change master keys
    #[arg(long)]
    encryption: bool,
    /// Only contacts may write to one another; clients remove one another and become contacts again
    #[arg(long)]
    contacts: bool,
    /// Write the verdict, with faults, counts and timeline, to this file; `-`: to stdout, instead of the text
    #[arg(long, value_name = "FILE")]
    json: Option<String>,
    /// Write every client's history into this directory, a file of JSON lines each
    #[arg(long, value_name = "DIR")]
    history: Option<PathBuf>,
    #[command(flatten)]
    program: Program,
}

fn minutes(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number| (0.05..=1440.0).contains(number)).ok_or_else(|| "must be a number from 0.05 to 1440".to_owned())
}

/// Runs the command, and removes the testbed however the run ends.
///
/// # Errors
/// When the run cannot be done, or has no verdict.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    if args.faults.as_deref() == Some("list") {
        Kind::ALL.iter().for_each(|kind| println!("{:<20} {}", kind.name(), kind.words()));
        return Ok(Exit::Done);
    }
    let setting = setting(&args)?;
    eprintln!("seed {}: {} faults in {} s", setting.seed, setting.plan.len(), setting.time.as_secs_f64());
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        exit = torture(&args, &setting) => exit,
        _ = interrupt.recv() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
    }
}

async fn torture(args: &Args, setting: &RunConfig) -> anyhow::Result<Exit> {
    let testbed = Arc::new(Testbed::start(&args.program.path()?, setting.nodes, setting.features).await?);
    let run = conductor::run(setting, &testbed).await;
    if let Ok(testbed) = Arc::try_unwrap(testbed) {
        testbed.remove().await;
    }
    let run = run?;
    let findings = restante_judge::judge(&run.evidence);
    match args.json.as_deref() {
        Some("-") => println!("{}", serde_json::to_string_pretty(&report::json(setting, &run, &findings))?),
        Some(file) => {
            std::fs::write(file, serde_json::to_string_pretty(&report::json(setting, &run, &findings))?)
                .with_context(|| file.to_owned())?;
            println!("{}", report::text(setting, &run, &findings));
        }
        None => println!("{}", report::text(setting, &run, &findings)),
    }
    match Verdict::of(&run, &findings) {
        Verdict::Held => Ok(Exit::Done),
        Verdict::Broken => Ok(Exit::Failed),
        Verdict::None(why) => anyhow::bail!("no verdict: {why}"),
    }
}

fn setting(args: &Args) -> anyhow::Result<RunConfig> {
    let seed = args.seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 >> 44);
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    let standby = match (args.standby, args.asynchronous) {
        (false, _) => StandbyMode::None,
        (true, false) => StandbyMode::Synchronous,
        (true, true) => StandbyMode::Asynchronous,
    };
    let kinds = kinds(args.faults.as_deref(), standby, args.encryption)?;
    let nodes = usize::from(args.nodes);
    if let Some(folder) = &args.history {
        std::fs::create_dir_all(folder).map_err(|error| UsageError(format!("{}: {error}", folder.display())))?;
    }
    Ok(RunConfig {
        seed,
        time,
        nodes,
        clients: usize::from(args.clients),
        pace_ms: args.pace,
        features: Features { standby, encryption: args.encryption, contacts: args.contacts },
        plan: plan::draw(seed, time, nodes, &kinds),
        histories: args.history.clone(),
    })
}

fn kinds(names: Option<&str>, standby: StandbyMode, encryption: bool) -> Result<Vec<Kind>, UsageError> {
    let lacks = |kind: Kind| match kind {
        _ if kind.needs_standby() && standby == StandbyMode::None => Some("--standby"),
        _ if kind.needs_encryption() && !encryption => Some("--encryption"),
        _ => None,
    };
    match names {
        None => Ok(Kind::ALL.iter().copied().filter(|kind| lacks(*kind).is_none()).collect()),
        Some("none") => Ok(Vec::new()),
        Some(names) => names.split(',').map(|name| kind(name.trim()).and_then(|kind| possible(kind, lacks(kind)))).collect(),
    }
}

fn kind(name: &str) -> Result<Kind, UsageError> {
    Kind::named(name).ok_or_else(|| UsageError(format!("{name:?} is no kind of fault; `restante-lab torture --faults list` shows them")))
}

fn possible(kind: Kind, lacks: Option<&str>) -> Result<Kind, UsageError> {
    lacks.map_or(Ok(kind), |option| Err(UsageError(format!("{} takes {option}", kind.name()))))
}

/// The error with its causes, in words.
fn words(error: &restante_client::WireError) -> String {
    words_of(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_chosen_by_name_and_unknown_or_impossible_ones_are_refused() {
        let (without, with) = (StandbyMode::None, StandbyMode::Synchronous);
        assert_eq!(kinds(Some("cut, pg-kill"), without, false).unwrap(), [Kind::Cut, Kind::PostmasterKill]);
        assert_eq!(kinds(None, with, true).unwrap(), Kind::ALL);
        assert!(kinds(None, without, true).unwrap().iter().all(|kind| !kind.needs_standby()));
        assert!(kinds(None, with, false).unwrap().iter().all(|kind| !kind.needs_encryption()));
        assert!(kinds(Some("none"), with, true).unwrap().is_empty());
        assert!(kinds(Some("flood"), with, true).is_err());
        assert_eq!(kinds(Some("promote,rotate"), with, true).unwrap(), [Kind::Promote, Kind::Rotate]);
        assert!(kinds(Some("cut,promote"), without, true).unwrap_err().to_string().contains("--standby"));
        assert!(kinds(Some("rotate"), with, false).unwrap_err().to_string().contains("--encryption"));
    }
}
