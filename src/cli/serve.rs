//! Running the service itself, migrating its database, signing tokens.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::{Pin, pin};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::Parser;
use futures_util::FutureExt;
use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::dotenv;
use super::exit::{Exit, UsageError, words};
use super::hints;
use super::host::{Host, known_secret};
use super::screen::print;
use super::waiting;
use crate::app::{self, App, Predecessor};
use crate::auth::TokenSigner;
use crate::config::{Config, ConfigArgs};
use crate::domain::{Clock, ExternalId};
use crate::open_files;
use crate::telemetry::init_logging;

/// Between two tries to start anew.
const START_ANEW_PAUSE: Duration = Duration::from_millis(500);

/// Arguments of `restante serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Milliseconds by which the node's clock is ahead; behind where negative. For `restante-lab torture` and tests: a node whose
    /// clock is off takes tokens that have expired and refuses good ones, so no setting of the environment does this
    #[arg(long, hide = true, default_value_t = 0, allow_negative_numbers = true, value_name = "MS")]
    clock_off_by_ms: i64,
}

impl Args {
    /// The threads that are asked for, if any. Settings that are wrong are reported later, when there is something to report them with.
    pub fn worker_threads(&self) -> Option<usize> {
        let config = self.config.clone().check().ok()?;
        (config.worker_threads > 0).then(|| usize::from(config.worker_threads))
    }
}

impl From<ConfigArgs> for Args {
    fn from(config: ConfigArgs) -> Self {
        Self { config, clock_off_by_ms: 0 }
    }
}

#[derive(Parser)]
struct Environment {
    #[command(flatten)]
    config: ConfigArgs,
}

/// The settings as the environment has them, without a command line.
pub fn settings_of_environment() -> ConfigArgs {
    Environment::parse_from(["restante"]).config
}

/// Runs the service until it is told to stop. Prints `listening on http://ADDRESS` to stdout when it is ready.
pub async fn serve(args: Args) -> anyhow::Result<Exit> {
    let config = checked(args.config)?;
    let clock = Clock::off_by(time::Duration::milliseconds(args.clock_off_by_ms));
    log_as(&config);
    open_files::allow_most();
    // Before anything is started: a signal that comes early must not leave a server behind.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let told_to_stop = async move {
        tokio::select! {
            _ = interrupt.recv() => info!("interrupted: stopping"),
            _ = terminate.recv() => info!("terminated: stopping"),
        }
    };
    let mut told_to_stop = pin!(told_to_stop);
    let Some(host) = started(&config, told_to_stop.as_mut()).await? else { return Ok(Exit::Done) };
    // A panic must not leave a server behind either.
    let served = AssertUnwindSafe(async {
        tokio::select! {
            served = run(clock, config, &host, told_to_stop) => served,
            never = host.keep() => match never {},
        }
    });
    let served = served.catch_unwind().await;
    host.stop().await;
    served.unwrap_or_else(|panic| resume_unwind(panic)).map(|()| Exit::Done)
}

/// Starts what the service needs. None: it was told to stop meanwhile, and nothing runs any more.
async fn started(config: &Config, mut told_to_stop: Pin<&mut impl Future<Output = ()>>) -> anyhow::Result<Option<Host>> {
    let mut starting = pin!(Host::start_for_service(config));
    tokio::select! {
        host = &mut starting => Ok(Some(host?)),
        () = &mut told_to_stop => {
            // A start cannot be interrupted half-way without leaving something behind.
            if let Ok(host) = starting.await {
                host.stop().await;
            }
            Ok(None)
        }
    }
}

fn log_as(config: &Config) {
    init_logging(&config.log_filter, config.log_format);
    if let Some(variables) = restante_postgres::left_behind() {
        warn!(variables, "variables of the environment that are libpq's do not count: DATABASE_URL says where and how to connect");
    }
    for (name, setting) in dotenv::misspelt() {
        warn!(name, setting, "a variable of the environment is no setting, and nearly the name of one: it does not count");
    }
}

/// One node after the other, each as long as the database is the one it began with, until it is told to stop.
async fn run(clock: Clock, mut config: Config, host: &Host, told_to_stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let mut told_to_stop = pin!(told_to_stop);
    let secret = host.secret_if_needed(&config)?.cloned();
    let say = |words: &str| info!("{words}");
    let starting = async {
        waiting::reach(&host.database, |words| warn!("{words}")).await?;
        let started = App::start_by(clock, &config, host.database.clone(), secret.as_ref());
        anyhow::Ok(waiting::watched(&host.database, "its schema is looked at, and brought up to date", started, say).await?)
    };
    let mut app = tokio::select! {
        () = &mut told_to_stop => return Ok(()),
        started = starting => started?,
    };
    if let Err(error) = announce(&app, host, secret.as_ref().filter(|_| !config.accounts)) {
        app.stop().await;
        return Err(error);
    }
    // Its successors listen where it does.
    config.listen_addr = app.addr();
    loop {
        let is_told = tokio::select! {
            () = &mut told_to_stop => true,
            () = app.epoch_over() => false,
            never = host.pass_signals(app.store()) => match never {},
        };
        if !is_told {
            warn!("the database is another one, or was restored or promoted: clients are sent away, and this node starts anew");
        }
        let predecessor = app.predecessor();
        if is_told {
            host.let_successor_in();
        }
        app.stop().await;
        if is_told {
            return Ok(());
        }
        app = tokio::select! {
            () = &mut told_to_stop => return Ok(()),
            started = start_anew(&predecessor, &config, host) => started?,
        };
    }
}

/// Tries until the database answers: a restore or a promotion may not be finished.
async fn start_anew(predecessor: &Predecessor, config: &Config, host: &Host) -> anyhow::Result<App> {
    loop {
        match App::start_anew(predecessor, config, host.database.clone(), host.secret_if_needed(config)?).await {
            Err(error) if error.may_pass() => warn!(cause = words(&error), "the node could not be started anew; once more"),
            started => return Ok(started?),
        }
        tokio::time::sleep(START_ANEW_PAUSE).await;
    }
}

/// Brings the schema up to date.
pub async fn migrate(args: ConfigArgs) -> anyhow::Result<Exit> {
    let config = checked(args)?;
    log_as(&config);
    let host = Host::start(&config).await?;
    let migrated = async {
        waiting::reach(&host.database, |words| warn!("{words}")).await?;
        let say = |words: &str| info!("{words}");
        anyhow::Ok(waiting::watched(&host.database, "its schema is brought up to date", app::migrate(&host.database), say).await?)
    };
    let migrated = migrated.await;
    host.stop().await;
    migrated?;
    print(&format!("the schema is up to date: {} migrations", app::MIGRATIONS.iter().count()))?;
    Ok(Exit::Done)
}

/// A token for this user: with `JWT_SECRET`, or the secret the embedded mode keeps in its data directory.
pub fn sign_token(user: &str, scope: Option<&str>, ttl: Duration) -> anyhow::Result<String> {
    let config = checked(settings_of_environment())?;
    let user = ExternalId::try_from(user.to_owned()).map_err(|error| UsageError(error.to_string()))?;
    let ttl = ttl.try_into().context("the token would be good for too long")?;
    Ok(TokenSigner::new(&known_secret(&config)?).sign(&user, scope, ttl, SystemTime::now().into()))
}

/// The settings of these arguments, or everything that is wrong with them.
pub fn checked(args: ConfigArgs) -> anyhow::Result<Config> {
    Ok(args.check().map_err(|error| UsageError(error.to_string()))?)
}

/// Says where the service is, at once, so that a reader gets all of it. With the embedded server it is somebody's first look, so
/// tokens are printed too; beside a database of one's own, or accounts, whose names they may be, they would be credentials in a log.
fn announce(app: &App, host: &Host, secret: Option<&SecretString>) -> anyhow::Result<()> {
    let addr = app.addr();
    let mut lines = vec![format!("listening on http://{addr}")];
    if let Some(((_, root), secret)) = host.embedded.as_ref().zip(secret) {
        lines.extend(hints::first_steps(addr, root, secret)?);
    }
    // A service whose words nobody hears is stopped like any that fails, also where the reader has closed its end.
    print(&lines.join("\n")).map_err(|error| anyhow::anyhow!("{error}"))
}
