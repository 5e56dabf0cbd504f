//! Plays one log: makes the chat, gives every person a task, sends them their commands in the log's order, and lets the judge decide.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::log::{Action, Log, PersonNo};
use super::person::{Command, Person, PersonReport, Setup, Target};
use super::state::ReplayState;
use super::{progress, rows, verdict};
use restante::cli::exit::words;
use restante::cli::identity::token_for;
use restante_client::{AckStyle, Http, Options};
use restante_judge::Findings;
use restante_session::domain::limits::IDS_MAX;
use restante_session::domain::{ChatId, ChatSeq};
use rows::{Statuses, insist};

/// The speed at which the log is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Throttle {
    /// As fast as the service confirms.
    Free,
    /// This many times as fast as it happened.
    Speed(f64),
    /// This many messages in a second.
    Rate(f64),
}

/// The configuration of a replay.
#[derive(Debug, Clone)]
pub struct RunConfig {
    /// The address of the service.
    pub url: String,
    /// The device that every person names.
    pub device: Option<String>,
    /// Unacked messages that each person allows; `None`: the service's default.
    pub window: Option<u16>,
    /// Ask for pages in one frame.
    pub batch: bool,
    /// The form of the acks.
    pub ack_style: AckStyle,
    /// The speed.
    pub throttle: Throttle,
    /// Number of messages that a message may be ahead of the oldest unconfirmed one.
    pub ahead_max: usize,
    /// Number of messages of one person that may be unconfirmed.
    pub unconfirmed_max: usize,
    /// A replay without progress for this time fails.
    pub patience: Duration,
    /// The database to read the rows from; `None`: ask the status API.
    pub database_url: Option<String>,
    /// The prefix of each user's name, so that a log can be played again.
    pub run: String,
}

/// A replay that has ended.
#[derive(Debug)]
pub struct Played {
    /// Number of messages that were accepted.
    pub accepted: u64,
    /// The persons' reports, by their numbers. Their histories are empty, since the judge has them.
    pub reports: Vec<PersonReport>,
    /// The rules that broke.
    pub findings: Findings,
    /// The statuses of all rows.
    pub statuses: Statuses,
    /// From the first message said to the last confirmed.
    pub sending: Duration,
    /// From the first message said until everybody had everything.
    pub delivering: Duration,
}

/// Plays the log and judges the run.
///
/// # Errors
/// When the chat cannot be made or a person's task fails.
pub async fn play(title: &str, log: &Log, config: &RunConfig) -> anyhow::Result<Played> {
    let names: Vec<String> = log.people.iter().map(|person| format!("{}{}", config.run, person.nick)).collect();
    let tokens = names.iter().map(|name| token_for(name)).collect::<anyhow::Result<Vec<_>>>()?;
    let http = Http::new(&config.url)?;
    let chat = make_chat(&http, title, &names, &tokens[0], config.patience).await.context("cannot make the chat")?;
    let state = Arc::new(ReplayState::new(chat, log, names.iter().map(|name| name.as_str().into()).collect(), Instant::now().into_std()));
    let others = names.len().saturating_sub(1) as u64;
    let bar = progress::bar(title, state.messages() as u64 * (1 + others));
    let (mut reports, sending, delivering) = tokio::select! {
        played = perform(log, config, &state, &tokens) => played?,
        () = async { progress::watch(&state, &bar, config.patience).await; std::future::pending().await } => unreachable!("it never ends"),
    };
    bar.finish_and_clear();
    let accepted = state.accepted();
    let read = match &config.database_url {
        Some(url) => rows::from_database(url, chat).await,
        // A service that is gone for good is not waited for once more.
        None if state.failure.get().is_some() => Err(anyhow!("the replay ended early")),
        None => rows::from_service(&http, &state, &accepted, &tokens, config.patience).await,
    };
    let (statuses, snapshot, unknown) = match read {
        Ok(snapshot) => (Statuses::of(&snapshot.rows), snapshot, None),
        Err(error) => (Statuses::default(), rows::without_statuses(&state, &accepted), Some(words(error.as_ref()))),
    };
    let histories = reports.iter_mut().map(|report| std::mem::take(&mut report.history)).collect();
    let findings = verdict::of(&state, histories, snapshot, unknown);
    Ok(Played { accepted: accepted.len() as u64, reports, findings, statuses, sending, delivering })
}

async fn make_chat(http: &Http, title: &str, names: &[String], token: &str, patience: Duration) -> anyhow::Result<ChatId> {
    http.chats(token).await?; // fails at once when the service is not there, or refuses the token
    let mut pages = names[1..].chunks(IDS_MAX);
    let first = pages.next().unwrap_or_default();
    let chat = insist(patience, || http.create_group(token, title, first)).await?;
    for page in pages {
        insist(patience, || http.add_members(token, chat, page)).await?;
    }
    Ok(chat)
}

async fn perform(
    log: &Log,
    config: &RunConfig,
    state: &Arc<ReplayState>,
    tokens: &[String],
) -> anyhow::Result<(Vec<PersonReport>, Duration, Duration)> {
    let mut tasks = JoinSet::new();
    let mut senders = Vec::with_capacity(tokens.len());
    for (person, token) in tokens.iter().enumerate() {
        let (sender, commands) = unbounded_channel();
        let setup = Setup { options: options(config, token)?, person, commands, unconfirmed_max: config.unconfirmed_max };
        let player = Person::new(setup, Arc::clone(state));
        tasks.spawn(async move { (person, player.play().await) });
        if log.people[person].starts_online {
            let _ = sender.send(Command::Connect);
        }
        senders.push(sender);
    }
    let begun = Instant::now();
    tokio::select! {
        () = state.stop.cancelled() => {}
        () = direct(log, config, state, &senders) => {}
    }
    let sending = begun.elapsed();
    finish(state, &senders);
    let mut reports: Vec<Option<PersonReport>> = tokens.iter().map(|_| None).collect();
    while let Some(ended) = tasks.join_next().await {
        let (person, report) = ended.context("a person's task broke")?;
        reports[person] = Some(report);
    }
    let reports: Option<Vec<PersonReport>> = reports.into_iter().collect();
    Ok((reports.ok_or_else(|| anyhow!("a person's task is missing"))?, sending, begun.elapsed()))
}

fn options(config: &RunConfig, token: &str) -> anyhow::Result<Options> {
    let mut options = Options::new(&config.url, token)?;
    options.device.clone_from(&config.device);
    options.window = config.window;
    options.batch = config.batch;
    options.ack_style = config.ack_style;
    Ok(options)
}

/// Sends everybody their commands in the log's order, until every send has an outcome.
async fn direct(log: &Log, config: &RunConfig, state: &ReplayState, commands: &[UnboundedSender<Command>]) {
    let begun = Instant::now();
    let seconds = log.seconds();
    let mut number = 0;
    for (step, second) in log.steps.iter().zip(seconds) {
        let due = match config.throttle {
            Throttle::Free => None,
            Throttle::Speed(speed) => Some(second / speed),
            Throttle::Rate(rate) => Some(number as f64 / rate),
        };
        if let Some(due) = due {
            sleep_until(begun + Duration::from_secs_f64(due)).await;
        }
        let command = match step.action {
            Action::Joins => Command::Connect,
            Action::Leaves => Command::Disconnect,
            Action::Says(_) | Action::Acts(_) => {
                state.enter(number, config.ahead_max).await;
                number += 1;
                Command::Say(number - 1)
            }
        };
        // A task that has ended made the replay fail before, so the command is not needed.
        let _ = commands[step.person].send(command);
    }
    state.all_settled().await;
}

fn finish(state: &ReplayState, commands: &[UnboundedSender<Command>]) {
    let accepted = state.accepted();
    let last_seq = accepted.iter().map(|message| message.seq).max().unwrap_or(ChatSeq(0));
    let mut own = vec![0_u64; commands.len()];
    accepted.iter().for_each(|message| own[message.speaker] += 1);
    for (person, command) in commands.iter().enumerate() {
        let messages = accepted.len() as u64 - own[person as PersonNo];
        let _ = command.send(Command::Finish(Target { messages, last_seq }));
    }
}
