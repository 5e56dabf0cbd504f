//! `restante-lab bench`: an open benchmark, in the product. It starts the service on a fresh database of its own, each in
//! processes of their own, and drives it with many clients over real sockets.
//!
//! A [`testbed`] is what is measured: service, database, and the meter that reads their CPU time. A scenario is one file
//! in [`scenario`]; [`load`] is what scenarios drive the service with; [`figure`] is what comes of them, [`report`]
//! how it is shown.

mod compare;
mod figure;
mod limit;
mod load;
mod naive;
mod numbers;
mod report;
mod results;
mod scenario;
mod sizes;
mod testbed;

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use limit::Batches;
use restante::cli::exit::{Exit, UsageError, words};
use results::Results;
use scenario::{Choice, Scenario};
use sizes::{Sizes, SizesGiven};
use testbed::{Subject, Testbed};

pub const ABOUT: &str = "\
Measure the service on this machine: how much it takes in, how fast it drains, how soon a message is there.

It starts the service with its default settings (only SEND_RATE and EVENT_RATE are lifted, and REQUEST_RATE but for flood) on a fresh PostgreSQL, in a temporary directory with fsync on, and \
removes both afterwards. The clients run in this process, on the same machine, so a rate is that of everything together; beside each rate stand the CPU \
seconds per 1,000 messages of the service, the database and the clients: on a noisy machine those are the figures that hold. Every figure is the median of the repetitions.

Scenarios, with the time that one repetition takes:
  ingest    senders write to users who are away; every message is confirmed (15 s)
  drain     the same, then those users connect and drain what waits, with an ack per message (30 s)
  live      pairs who are online: latency at a fixed rate, then the highest rate end to end (30 s)
  nodes     the same with two nodes, senders at the one and recipients at the other (30 s)
  backlog   one user for whom very much waits: rate and memory must not depend on how much it is (1 min)
  compress  one user for whom messages wait, alone and in batch frames, with and without compression: bytes on the wire, CPU (30 s)
  group     one message to groups of thousands: to members who are away, and to members who are online (1 min)
  idle      clients who are connected and silent: memory for each, CPU for all (1.5 min)
  storm     thousands of clients come back within seconds, while pairs go on talking (1 min)
  pairs     every sender writes to every recipient by name (`to`): chats that are new, that are there, that the service has met (30 s)
  promises  what users ask for: how soon a message is there, 50 waiting messages are drained, an online check is answered (30 s)
  flood     two who talk while a third asks for everything at once, over 20 connections and 20 HTTP callers: quiet, flooded, their ratio (1 min)
  history   drain with few finished rows in the tables, then with millions (5 min, 5 GB of disk)
  held      pairs at the highest rate while somebody keeps a transaction open (35 min)
  retention months at a steady rate, removed after three more, the last of them beside pairs who are online (10 min)
  feed      an event to thousands of followers, most of them away: stored, and with all who are connected (1 min)
  events    pairs who are online, alone and beside 100,000 events that wait for them, then while they drain those (45 s)
  publish   many publishers at once, each with one event after the other, and then the same with messages (15 s)
  seal      the content of a message encrypted and decrypted, by one processor: what encryption at rest adds to its cost (5 s)
  all       all of them; without a name, all but history, held and retention

Where many clients are connected, this process and the service are allowed as many open files as the hard limit says (`ulimit -Hn`); a run that needs more is refused.

How good is that? Two answers, beside the figures of the same run:
  --baseline  the same load on a deliberately naive service: the same schema, a statement for each step, a transaction for each message,
              an update for each ack, nothing written together. Both run in turns; the ratios stand below the table
  --limit     what PostgreSQL alone can do with the same rows in the same batches, without service and sockets; then the same by the
              service's own statements. So one sees what the rows cost, what the promises add, and what the sockets add

Examples:
  restante-lab bench
  restante-lab bench ingest drain --baseline --limit
  restante-lab bench drain --users 200 --messages 500 --repeat 5
  restante-lab bench live --rate 2000 --json live.json
  restante-lab bench flood --repeat 1
  restante-lab bench held --held 30s,1m --held-pairs 50 --repeat 1
  restante-lab bench held --held 30s,1m --held-pairs 50 --repeat 1 --held-by nobody
  restante-lab bench feed --eager --repeat 1
  restante-lab bench compress --text channel.log
  restante-lab bench pairs --senders 20 --recipients 200 --pair-messages 5
  restante-lab bench all --quick --repeat 1 --json -

JSON, with --json:
  {\"version\", \"database\", \"processors\", \"figures\": [
    {\"scenario\", \"subject\": \"service\" or \"naive\", \"figure\", \"unit\", \"median\", \"values\": [one for each repetition],
     \"cpuSecondsPer1000\": {\"service\", \"database\", \"clients\"}}],
   \"ratios\": with --baseline, \"limits\" and \"shares\": with --limit}
cpuSecondsPer1000 stands where CPU was counted, and is that of 1,000 messages, rows or deliveries, whatever the figure counts. Units are \
1/s, ms, s, ms/s (CPU time in each second), KiB, MiB, %, x (times another figure) and count.";

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scenarios to measure; without a name: all but history, held and retention, which take long
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<Choice>,
    /// Repetitions of each scenario, each time on a fresh database
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Also put a deliberately naive service on the same schema under the same load, in turns with this one, and show the ratios
    #[arg(long, conflicts_with = "url")]
    baseline: bool,
    /// Also measure what PostgreSQL alone can do with the same rows in the same batches, and what part of it the service reaches
    #[arg(long, conflicts_with = "url")]
    limit: bool,
    /// Be that naive service
    #[arg(long, hide = true)]
    naive_service: bool,
    /// Small sizes, to see that everything works; the figures mean little
    #[arg(long)]
    quick: bool,
    /// feed: also publish the same to all followers as listed users, which writes a row for each of them
    #[arg(long)]
    eager: bool,
    /// live, storm, held, events, retention: how long a rate is measured [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = restante::cli::identity::duration)]
    time: Option<Duration>,
    #[command(flatten)]
    sizes: SizesGiven,
    /// Also write all figures, with each repetition, to this file as JSON; `-`: to stdout, instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<String>,
    #[command(flatten)]
    given: testbed::Given,
}

/// Runs the scenarios and shows what came of them.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    if args.naive_service {
        naive::serve().await?;
        return Ok(Exit::Done);
    }
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let results = tokio::select! {
        results = measure(&args) => results?,
        _ = interrupt.recv() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
    };
    report::show(&results, args.json.as_deref())?;
    Ok(Exit::Done)
}

async fn measure(args: &Args) -> anyhow::Result<Results> {
    let sizes = Sizes::of(args);
    testbed::open_files::allow_most();
    let mut results = Results::of_this_machine();
    for scenario in scenarios(args) {
        for repetition in 1..=args.repeat {
            // The subjects take turns within one run, so that other load on the machine meets both.
            for subject in subjects(args, scenario) {
                let label = format!("{} {repetition}/{}, {}", scenario.name(), args.repeat, subject.name());
                once(args, scenario, *subject, &sizes.on(*subject), &label, &mut results).await?;
                if !args.quick {
                    // The database of the last run is being removed: let the disk come to rest.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
    if args.limit {
        results.limits = limit::measure(&sizes, args.quick, args.repeat).await?;
    }
    results.compare();
    Ok(results)
}

/// The scenarios of the command line. Of a running service only one node is known, so those with two nodes are left out.
fn scenarios(args: &Args) -> Vec<Scenario> {
    let mut scenarios = Choice::scenarios(&args.scenarios);
    let is_named = |scenario: &Scenario| args.scenarios.contains(&Choice::One(*scenario));
    scenarios.retain(|scenario| scenario.nodes() == 1 || !args.given.is_given() || is_named(scenario));
    scenarios
}

const fn subjects(args: &Args, scenario: Scenario) -> &'static [Subject] {
    if args.baseline && scenario.has_baseline() { &[Subject::Service, Subject::Naive] } else { &[Subject::Service] }
}

/// One scenario on one subject, on a fresh database.
async fn once(args: &Args, scenario: Scenario, subject: Subject, sizes: &Sizes, label: &str, results: &mut Results) -> anyhow::Result<()> {
    let testbed = Testbed::start(&args.given, subject, scenario.nodes(), scenario.request_rate()).await?;
    results.database = testbed.version().await?;
    let outcome = scenario.run(&testbed, sizes, label).await;
    if args.limit && subject == Subject::Service {
        let batches = testbed.metrics().await.ok().and_then(|text| Batches::of_metrics(&text));
        results.batches.extend(batches.map(|batches| (scenario.name().to_owned(), batches)));
    }
    let said = testbed.remove().await;
    match outcome {
        Ok(figures) => results.add(scenario.name(), subject, figures),
        // A mistake of the caller is none of the service's.
        Err(error) if said.is_empty() || error.is::<UsageError>() => return Err(error).context(label.to_owned()),
        Err(error) => anyhow::bail!("{label}: {}\nWhat the service said last:\n{said}", words(error.as_ref())),
    }
    Ok(())
}
