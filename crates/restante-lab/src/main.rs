//! `restante-lab`: measures the service, breaks it, drives it with real logs, and shows it. Each command is a folder of
//! its own. The service is a program that is started ([`program`], [`service_process`]); it is known by its protocol and
//! its schema.

mod bench;
mod demo;
mod handover;
mod program;
mod replay;
mod service_process;
mod token;
mod torture;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use restante::cli::exit::{Exit, words};
use restante::cli::read_environment;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it failed, or something that must always hold did not
  2  the command line or a setting is wrong, or there is no service to start
  3  the service cannot be reached
  4  the service refused: not authenticated, or forbidden

Settings come from the environment, or from a file `.env` in the working directory.";

/// Measures Restante, breaks it, drives it with real logs, and shows it.
#[derive(Debug, Parser)]
#[command(name = "restante-lab", version, about, after_help = EXIT_CODES, after_long_help = EXIT_CODES, disable_help_subcommand = true)]
struct Lab {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Drive a running service with real chat logs, and check that nothing is lost.
    #[command(long_about = replay::ABOUT)]
    Replay(replay::Args),
    /// See the whole story in half a minute, on a service of its own.
    #[command(long_about = demo::ABOUT)]
    Demo(demo::Args),
    /// Measure the service on this machine.
    #[command(long_about = bench::ABOUT)]
    Bench(Box<bench::Args>),
    /// Break everything that can break, and see whether the promise holds.
    #[command(long_about = torture::ABOUT)]
    Torture(torture::Args),
    /// Let users connect while events are published, and see whether any event is missed or comes twice.
    #[command(long_about = handover::ABOUT)]
    Handover(handover::Args),
}

fn main() -> ExitCode {
    if let Err(why) = read_environment() {
        return after(Exit::Usage, &why);
    }
    let lab = Lab::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return after(Exit::Failed, &format!("cannot start: {error}")),
    };
    match runtime.block_on(run(lab.command)) {
        Ok(exit) => exit.into(),
        Err(error) => after(Exit::of(&error), &words(error.as_ref())),
    }
}

async fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Replay(args) => replay::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Bench(args) => bench::run(*args).await,
        Command::Torture(args) => torture::run(args).await,
        Command::Handover(args) => handover::run(args).await,
    }
}

/// Says why on stderr, and ends so.
fn after(exit: Exit, why: &str) -> ExitCode {
    if exit != Exit::Done {
        eprintln!("restante-lab: {why}");
    }
    exit.into()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_well_formed() {
        Lab::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself_with_an_example() {
        for command in Lab::command().get_subcommands() {
            let about = command.get_long_about().map(ToString::to_string).unwrap_or_default();
            assert!(about.contains("Example"), "{} has no example", command.get_name());
            assert!(about.contains(&format!("restante-lab {}", command.get_name())), "{}: the example is another's", command.get_name());
        }
    }

    #[test]
    fn exit_codes_that_can_come_are_documented() {
        for exit in [Exit::Done, Exit::Failed, Exit::Usage, Exit::Unreachable, Exit::Refused] {
            assert!(EXIT_CODES.contains(&format!("\n  {}  ", exit.code())), "{exit:?}");
        }
    }
}
