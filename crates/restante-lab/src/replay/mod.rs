//! `restante-lab replay`: drives a running service with real chat logs over real sockets, and lets the judge decide over the run.
//! [`log`] reads a log, [`person`] is a client in a task, [`driver`] sends the commands, [`rows`] reads the rows at the end,
//! [`verdict`] gives the evidence to the judge, and [`mod@report`] shows the figures.

mod deliveries;
mod driver;
mod log;
mod person;
mod progress;
mod records;
mod report;
mod rows;
mod state;
mod verdict;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use uuid::Uuid;

use driver::{RunConfig, Throttle};
use log::Log;
use report::Figures;
use restante::cli::exit::{Exit, UsageError};
use restante::cli::identity::{Service, duration};
use restante_client::AckStyle;

pub const ABOUT: &str = "\
Drive a running service with real chat logs over real sockets, and check that nothing is lost.

Every nick of a log is a user who connects and disconnects as the log says, every line is a message to one group of all of them. At the end \
every member connects, gets what is missing, and reads it. Then a table says what happened, and the command fails if anything broke: a \
message lost, out of order or numbered with a gap, a message that came twice without reason, a status that is not `read`.

The service may be killed and restarted meanwhile, as often as you like, and so may PostgreSQL: that is what this is for. Lines are \
`[hh:mm] <nick> text`, `=== nick [user@host]  has joined #channel`, `=== nick [user@host]  has left #channel`, `=== old is now known as new`, \
and `=== nick text` for an action; others are counted and skipped. Whoever speaks without having joined was there from the start.

The users are new ones at each run. Tokens for them are made with the service's secret (see `restante token --help`). A service with \
SEND_RATE=50, the default, slows the most talkative down; start it with SEND_RATE=0 for full speed.

Examples:
  restante-lab replay channel.log
  restante-lab replay --rate 20 --window 200 monday.log tuesday.log
  restante-lab replay --json --database-url \"$DATABASE_URL\" *.log > figures.json";

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    service: Service,
    /// The logs, played one after another
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
    /// This many times as fast as it happened (default: as fast as the service confirms)
    #[arg(long, value_name = "N", value_parser = positive, conflicts_with = "rate")]
    speed: Option<f64>,
    /// This many messages in a second
    #[arg(long, value_name = "N", value_parser = positive)]
    rate: Option<f64>,
    /// Unacked messages that each member allows (1 to 500)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=500))]
    window: Option<u16>,
    /// Ask for pages in one frame
    #[arg(long)]
    batch: bool,
    /// The form of acks
    #[arg(long, value_enum, default_value_t = Ack::UpTo, value_name = "STYLE")]
    ack: Ack,
    /// The device that every member names
    #[arg(long, default_value = "replay", value_name = "NAME", conflicts_with = "no_device")]
    device: String,
    /// Name no device: inbox numbers are not checked then
    #[arg(long)]
    no_device: bool,
    /// Lines that a line may be ahead of the oldest unconfirmed one
    #[arg(long, default_value_t = 200, value_name = "LINES", value_parser = at_least_one)]
    ahead: usize,
    /// Lines of one speaker that may be unconfirmed
    #[arg(long, default_value_t = 64, value_name = "LINES", value_parser = at_least_one)]
    unconfirmed: usize,
    /// Leave out those who never say anything
    #[arg(long)]
    speakers_only: bool,
    /// A replay without progress for this time fails
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = duration)]
    stall: Duration,
    /// Look into this database for the final statuses (default: ask the status API)
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ack {
    /// Up to the last number of a burst
    UpTo,
    /// Each message by its id
    Ids,
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number: &f64| *number > 0.0 && number.is_finite()).ok_or_else(|| "must be a number above 0".to_owned())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "must be a whole number above 0".to_owned())
}

/// Plays the logs one after another, and shows the figures and the verdict.
///
/// # Errors
/// When a log cannot be read, or a replay cannot be done.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let logs = args.logs.iter().map(|path| read(path, args.speakers_only)).collect::<anyhow::Result<Vec<_>>>()?;
    let run = Uuid::new_v4().simple().to_string();
    let mut figures = Vec::new();
    let mut cut_short = None;
    for (number, (title, log)) in logs.iter().enumerate() {
        match driver::play(title, log, &config(&args, &format!("{}-{number}-", &run[..8]))).await {
            Ok(played) => figures.push(Figures::of(title, log, played)),
            Err(error) if figures.is_empty() => return Err(error.context(title.clone())),
            Err(error) => {
                cut_short = Some(error.context(title.clone()));
                break;
            }
        }
    }
    report(&args, &figures)?;
    match cut_short {
        Some(error) => Err(error),
        None if figures.iter().all(Figures::holds) => Ok(Exit::Done),
        None => Ok(Exit::Failed),
    }
}

fn report(args: &Args, figures: &[Figures]) -> anyhow::Result<()> {
    if args.json {
        println!("{}", serde_json::to_string_pretty(figures)?);
        eprintln!("{}", report::verdict(figures));
    } else {
        println!("{}\n{}", report::table(figures), report::verdict(figures));
    }
    Ok(())
}

fn read(path: &Path, is_without_silent: bool) -> anyhow::Result<(String, Log)> {
    let bytes = std::fs::read(path).map_err(|error| UsageError(format!("cannot read {}: {error}", path.display())))?;
    let log = Log::parse(&String::from_utf8_lossy(&bytes));
    let log = if is_without_silent { log.speakers_only() } else { log };
    if log.people.len() < 2 {
        let found = format!("{} lines, {} skipped", log.lines, log.skipped);
        return Err(UsageError(format!("{} is no log of a channel: fewer than two people appear in it ({found})", path.display())).into());
    }
    let title = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok((title, log))
}

fn config(args: &Args, run: &str) -> RunConfig {
    RunConfig {
        url: args.service.url.clone(),
        device: (!args.no_device).then(|| args.device.clone()),
        window: args.window,
        batch: args.batch,
        ack_style: match args.ack {
            Ack::UpTo => AckStyle::UpTo,
            Ack::Ids => AckStyle::Ids,
        },
        throttle: match (args.speed, args.rate) {
            (Some(speed), _) => Throttle::Speed(speed),
            (None, Some(rate)) => Throttle::Rate(rate),
            (None, None) => Throttle::Free,
        },
        ahead_max: args.ahead,
        unconfirmed_max: args.unconfirmed,
        patience: args.stall,
        database_url: args.database_url.clone(),
        run: run.to_owned(),
    }
}
