//! The command line: what can be asked for, and what the exit code means. Each command is a file of its own.
//!
//! The behaviour of commands (exit codes, times, colours, sources of settings) is public, because `restante-lab` behaves alike.

mod audit;
mod backend;
mod dead_letters;
mod dotenv;
pub mod exit;
mod first_process;
mod grants;
mod hints;
pub mod host;
pub mod identity;
mod keeper;
mod keys;
mod limits;
mod listen;
mod pages;
mod revocations;
pub mod screen;
mod send;
mod serve;
mod sole;
mod statistics;
mod users;
mod waiting;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use crate::config::ConfigArgs;
use exit::Exit;
pub use serve::settings_of_environment;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it failed, or something that must always hold did not
  2  the command line or a setting is wrong
  3  the service cannot be reached
  4  the service refused: not authenticated, or forbidden
  5  send: stored, but not delivered in time
  6  send: delivered, but not read in time

Settings come from the environment, or from a file `.env` in the working directory.";

/// Keeps messages for users who may be offline, delivers them when they are there, and tells the sender.
#[derive(Debug, Parser)]
#[command(name = "restante", version, about, after_help = EXIT_CODES, after_long_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service. This is what happens when no command is named.
    #[command(long_about = SERVE)]
    Serve(Box<serve::Args>),
    /// Bring the database's schema up to date, and end.
    #[command(long_about = MIGRATE)]
    Migrate(Box<ConfigArgs>),
    /// Print the lines that divide rights in the database among roles.
    #[command(long_about = grants::ABOUT)]
    Grants(grants::Args),
    /// Print a token for a user, and nothing else.
    #[command(long_about = TOKEN)]
    Token(identity::TokenArgs),
    /// Send a message and watch what becomes of it.
    #[command(long_about = send::ABOUT)]
    Send(send::Args),
    /// Show messages as they come, with ticks when they are read.
    #[command(long_about = listen::ABOUT)]
    Listen(listen::Args),
    /// List what failed, put it back, or give it up.
    #[command(long_about = dead_letters::ABOUT)]
    DeadLetters(dead_letters::Args),
    /// Show what operators have done.
    #[command(long_about = audit::ABOUT)]
    Audit(audit::Args),
    /// Revoke tokens before they expire, or list what is revoked.
    #[command(long_about = revocations::ABOUT)]
    Revocations(revocations::Args),
    /// Raise the limits of a user, or list the users whose limits are raised.
    #[command(long_about = limits::ABOUT)]
    Limits(limits::Args),
    /// List the keys that messages are encrypted with, or rotate them.
    #[command(long_about = keys::ABOUT)]
    Keys(keys::Args),
    /// Erase a user.
    #[command(long_about = users::ABOUT)]
    Users(users::Args),
    /// Show what was accepted, and what became of it, in figures.
    #[command(long_about = statistics::ABOUT)]
    Statistics(statistics::Args),
}

const SERVE: &str = "\
Run the service.

Without DATABASE_URL it starts a PostgreSQL of its own, in its data directory; with it, that database is used. \
The schema is brought up to date first. On stdout it says where it listens, in one line; everything else is logged to stderr.

SIGTERM and Ctrl-C stop it: clients are asked to come back, what is under way is finished.

Examples:
  restante
  LISTEN_ADDR=0.0.0.0:8080 DATABASE_URL=postgres://restante@db/restante restante serve";

const MIGRATE: &str = "\
Bring the database's schema up to date, and end.

`restante serve` does the same when it starts; this is for those who keep the two apart. It may be run again at any time, while \
nodes serve: those of the same release line (0.1.x) go on with the new schema. It makes the schema that the search_path names if that is \
missing, and moves up sequences that logical replication has left behind.

It waits 30 s for whoever migrates the same database, and 5 s for a table that somebody uses, then says who that is. A database that is \
not Restante's, is in part only, or is of another release line is refused in one sentence, and nothing is changed.

Examples:
  DATABASE_URL=postgres://owner@db/restante restante migrate
  DATABASE_URL=postgres://owner@db/shop?options=-c%20search_path%3Drestante restante migrate";

const TOKEN: &str = "\
Print a token for a user, and nothing else, so that it can be put into a variable.

It is signed with JWT_SECRET, or with the secret that a service with its own PostgreSQL keeps in its data directory. \
Whoever has the secret can be anybody: this is for trying things out and for operators.

Examples:
  restante token alice
  restante token carol --scope admin
  restante token shop --scope events:write
  curl -H \"Authorization: Bearer $(restante token alice)\" http://127.0.0.1:8080/v1/chats";

/// Runs the command of the command line. `main` calls it once.
pub fn main() -> ExitCode {
    if first_process::is_first() {
        return match first_process::run() {
            Ok(code) => code.into(),
            Err(error) => Exit::Failed.after(&format!("cannot start: {error}")),
        };
    }
    if let Err(why) = read_environment() {
        return Exit::Usage.after(&why);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(words) => return printed(&words),
    };
    // Without a command: `serve`, with its settings from the environment.
    let command = cli.command.unwrap_or_else(|| Command::Serve(Box::new(serve::settings_of_environment().into())));
    let runtime = match runtime(&command) {
        Ok(runtime) => runtime,
        Err(error) => return Exit::Failed.after(&format!("cannot start: {error}")),
    };
    match runtime.block_on(run(command)) {
        Ok(exit) => exit.into(),
        Err(error) => Exit::of(&error).after(&exit::words(error.as_ref())),
    }
}

/// Prints what the command line asks for (`--help`), or what is wrong with it.
fn printed(words: &clap::Error) -> ExitCode {
    match words.print() {
        Err(error) if !words.use_stderr() => Exit::Failed.after(&format!("cannot write to stdout: {error}")),
        _ => ExitCode::from(u8::try_from(words.exit_code()).unwrap_or(Exit::Usage.code())),
    }
}

/// Makes the runtime, with a thread for each processor unless a setting says how many.
fn runtime(command: &Command) -> std::io::Result<Runtime> {
    let mut runtime = Builder::new_multi_thread();
    if let Command::Serve(args) = command
        && let Some(threads) = args.worker_threads()
    {
        runtime.worker_threads(threads);
    }
    runtime.enable_all().build()
}

/// Takes the settings of a file `.env` into the environment, and leaves libpq's variables. Called first, by each program that
/// runs here: it may begin the program again. An error is a sentence.
pub fn read_environment() -> Result<(), String> {
    leave_libpq_variables().and_then(|()| read_dotenv())
}

/// Starts the program again without libpq's variables. They are meant for `psql` and would override the service's own settings.
fn leave_libpq_variables() -> Result<(), String> {
    let variables = restante_postgres::libpq_variables();
    if variables.is_empty() {
        return Ok(());
    }
    let error = restante_postgres::begin_again_without(&variables);
    Err(format!("cannot start without {}, so unset them: {error}", named(&variables)))
}

fn read_dotenv() -> Result<(), String> {
    dotenv::read()?;
    let variables = restante_postgres::libpq_variables();
    let why = || {
        format!(
            "the file .env sets {}, which are no settings of the service: DATABASE_URL says where and how to connect",
            named(&variables)
        )
    };
    if variables.is_empty() { Ok(()) } else { Err(why()) }
}

fn named(variables: &[OsString]) -> String {
    variables.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>().join(", ")
}

async fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Serve(args) => serve::serve(*args).await,
        Command::Migrate(config) => serve::migrate(*config).await,
        Command::Grants(args) => grants::run(args),
        Command::Token(args) => identity::print_token(&args),
        Command::Send(args) => send::run(args).await,
        Command::Listen(args) => listen::run(args).await,
        Command::DeadLetters(args) => dead_letters::run(args).await,
        Command::Audit(args) => audit::run(args).await,
        Command::Revocations(args) => revocations::run(args).await,
        Command::Limits(args) => limits::run(args).await,
        Command::Keys(args) => keys::run(args).await,
        Command::Users(args) => users::run(args).await,
        Command::Statistics(args) => statistics::run(args).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_is_serve() {
        assert!(Cli::try_parse_from(["restante"]).unwrap().command.is_none());
    }

    #[test]
    fn a_value_may_begin_with_a_hyphen_and_an_option_stays_one() {
        let lines: [&[&str]; 9] = [
            &["send", "--user", "-100123", "--to", "-5", "--message-type", "-x", "--wait", "sent", "-hello"],
            &["send", "-u", "-100123", "--to", "--", "--", "--wait"],
            &["send", "--user=-100123", "--to=-5", "-", "--timeout", "1s"],
            &["listen", "--user", "-100123", "--device", "-d", "--read"],
            &["token", "-100123", "--scope", "-s", "--ttl", "1h"],
            &["token", "--ttl", "1h", "-a b"],
            &["dead-letters", "list", "--sender", "-1", "--recipient", "-2", "--reason", "-r", "--json"],
            &["dead-letters", "discard", "--sender", "-1", "--words", "- no"],
            &["serve", "--jwt-secret", "-secret", "--send-rate", "-1"],
        ];
        for line in lines {
            Cli::try_parse_from([&["restante"], line].concat()).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        }
        let Some(Command::Token(args)) = Cli::try_parse_from(["restante", "token", "-100123"]).unwrap().command else { panic!() };
        assert!(format!("{args:?}").contains("\"-100123\""), "{args:?}");
        for line in
            [&["token", "--nonsense", "alice"][..], &["listen", "--nonsense"], &["token", "--scope"], &["send", "--user", "a", "--to", "b"]]
        {
            assert!(Cli::try_parse_from([&["restante"], line].concat()).is_err(), "{line:?}");
        }
    }

    /// Each text that an option or an argument takes may begin with a hyphen: users, devices and words are what strangers call them.
    #[test]
    fn no_option_that_takes_any_text_refuses_a_hyphen() {
        // These have a form that no hyphen begins.
        let of_a_form = [
            "url",
            "chat",
            "timeout",
            "ttl",
            "since",
            "wait",
            "limit",
            "confirm",
            "count",
            "window",
            "message",
            "from",
            "until",
            "by",
            "event",
            "expires_at",
            "factor",
        ];
        let mut commands: Vec<clap::Command> = vec![Cli::command()];
        let mut seen = 0;
        while let Some(command) = commands.pop() {
            for argument in command.get_arguments().filter(|argument| argument.get_action().takes_values()) {
                seen += 1;
                let name = argument.get_id().as_str();
                let takes = argument.is_allow_hyphen_values_set() || argument.is_allow_negative_numbers_set();
                let is_one_of_few = !argument.get_possible_values().is_empty();
                assert!(takes || is_one_of_few || of_a_form.contains(&name), "{} {name}", command.get_name());
            }
            commands.extend(command.get_subcommands().cloned());
        }
        assert!(seen > 40, "{seen}");
    }

    #[test]
    fn the_service_gets_the_threads_that_are_asked_for() {
        let workers = |line: &[&str]| runtime(&Cli::try_parse_from(line).unwrap().command.unwrap()).unwrap().metrics().num_workers();
        assert_eq!(workers(&["restante", "serve", "--worker-threads", "3"]), 3);
        assert_eq!(workers(&["restante", "serve", "--worker-threads", "5"]), 5);
        let of_its_own = workers(&["restante", "serve", "--worker-threads", "0"]);
        assert_eq!(of_its_own, std::thread::available_parallelism().unwrap().get());
    }

    #[test]
    fn every_command_explains_itself_with_an_example() {
        for command in Cli::command().get_subcommands() {
            let about = command.get_long_about().map(ToString::to_string).unwrap_or_default();
            assert!(about.contains("Example"), "{} has no example", command.get_name());
            assert!(about.contains(&format!("restante {}", command.get_name())), "{}: the example is another's", command.get_name());
        }
    }

    #[test]
    fn all_exit_codes_are_documented() {
        for exit in Exit::ALL {
            assert!(EXIT_CODES.contains(&format!("\n  {}  ", exit.code())), "{exit:?}");
        }
    }
}
