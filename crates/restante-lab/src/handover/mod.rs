//! `restante-lab handover`: users connect exactly while events are published. What falls between the last page and the first wake would
//! be lost, and what lies in both would come twice. No session looks for itself during a run, so nothing is found late.
//!
//! [`service`] is the node that is started, [`round`] one crowd of connects, and [`findings`] what was wrong in them.

mod findings;
mod round;
mod service;

use std::time::Instant;

use crate::program::Program;
use findings::Findings;
use restante::cli::exit::Exit;
use round::Crowd;
use service::Service;

pub const ABOUT: &str = "\
Let users connect while events are published, thousands of times, and see whether any event is missed or comes twice.

It starts a service with a PostgreSQL of its own, both in a temporary directory. In each round a crowd of users connects, half of them with \
a device, while events are published to a feed that all of them follow and to everyone. Then each of them has to get all of it, in \
order and once. Sessions look for themselves once an hour only, so an event that no page and no wake brought is missed.

Exit code 0: everything came once. 1: something was missed, came twice or in the wrong order.

Examples:
  restante-lab handover
  restante-lab handover --connects 1000 --seed 7 --json -";

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of connects
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connects: u32,
    /// Users that connect at a time
    #[arg(long, default_value_t = 40, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=500))]
    users: u16,
    /// All random choices follow from this number (default: one that is drawn, and told)
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Write the verdict to this file; `-`: to stdout, instead of the text
    #[arg(long, value_name = "FILE")]
    json: Option<String>,
    #[command(flatten)]
    program: Program,
}

/// Runs the command, and removes the service however the run ends.
///
/// # Errors
/// When the service does not start, or a call to it fails.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let seed = args.seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 >> 44);
    eprintln!("seed {seed}: {} connects, {} at a time", args.connects, args.users);
    let service = Service::start(&args.program.path()?).await?;
    let findings = connects(&args, seed, &service).await;
    let log = service.log();
    service.remove().await?;
    let findings = findings?;
    match args.json.as_deref() {
        Some("-") => println!("{}", serde_json::to_string_pretty(&findings.json(seed))?),
        Some(file) => std::fs::write(file, serde_json::to_string_pretty(&findings.json(seed))?)?,
        None => println!("{}", findings.text(seed)),
    }
    if findings.is_empty() {
        return Ok(Exit::Done);
    }
    eprintln!("{log}");
    Ok(Exit::Failed)
}

async fn connects(args: &Args, seed: u64, service: &Service) -> anyhow::Result<Findings> {
    let began = Instant::now();
    let mut crowd = Crowd::assemble(service, usize::from(args.users), seed).await?;
    let mut findings = Findings::default();
    while findings.connects < args.connects && findings.is_empty() {
        crowd.round(&mut findings).await?;
    }
    findings.seconds = began.elapsed().as_secs_f64();
    Ok(findings)
}
