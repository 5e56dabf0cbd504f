//! Plays one log: makes the chat, gives every person a task, and tells them in the log's order what to do.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::checker::{self, Accepted, Numbering, Recipient};
use super::findings::{Findings, Rule};
use super::log::{Log, PersonNo, What};
use super::person::{All, Order, Part, Person};
use super::progress;
use super::stage::Stage;
use super::statuses::{self, Statuses, insist};
use restante::cli::exit::words;
use restante::cli::identity::token_for;
use restante_client::{AckStyle, Http, Options};
use restante_session::domain::limits::IDS_MAX;
use restante_session::domain::{ChatId, ChatSeq, Status};

/// How fast the log is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As fast as the window allows.
    Free,
    /// So many times as fast as it happened.
    Speed(f64),
    /// So many messages in a second.
    Rate(f64),
}

/// How a log is played.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The service.
    pub url: String,
    /// The device that every person names.
    pub device: Option<String>,
    /// Unacked messages each person allows; `None`: the service's default.
    pub window: Option<u16>,
    /// Pages in one frame.
    pub batch: bool,
    /// How acks are written.
    pub ack_style: AckStyle,
    /// The pace.
    pub pace: Pace,
    /// How far a message may be ahead of the oldest unconfirmed one.
    pub ahead_max: usize,
    /// Messages of one person that may be unconfirmed.
    pub unconfirmed_max: usize,
    /// So long without any progress is a failure.
    pub patience: Duration,
    /// Where to look for the final statuses; `None`: the status API.
    pub database_url: Option<String>,
    /// What stands before each nick, so that a log can be played again.
    pub run: String,
}

/// What came of it.
#[derive(Debug)]
pub struct Played {
    /// What was accepted.
    pub accepted: Vec<Accepted>,
    /// What everybody saw.
    pub parts: Vec<Part>,
    /// What broke.
    pub findings: Findings,
    /// As the database has them.
    pub statuses: Statuses,
    /// From the first message said to the last confirmed.
    pub sending: Duration,
    /// From the first message said until everybody had everything.
    pub delivering: Duration,
}

/// Plays the log and judges what happened.
pub async fn play(title: &str, log: &Log, setting: &Setting) -> anyhow::Result<Played> {
    let names: Vec<String> = log.people.iter().map(|person| format!("{}{}", setting.run, person.nick)).collect();
    let tokens = names.iter().map(|name| token_for(name)).collect::<anyhow::Result<Vec<_>>>()?;
    let http = Http::new(&setting.url)?;
    let chat = make_chat(&http, title, &names, &tokens[0], setting.patience).await.context("cannot make the chat")?;
    let stage = Arc::new(Stage::new(chat, log));
    let others = names.len().saturating_sub(1) as u64;
    let bar = progress::bar(title, stage.messages() as u64 * (1 + others));
    let (parts, sending, delivering) = tokio::select! {
        played = perform(log, setting, &stage, &names, &tokens) => played?,
        () = async { progress::watch(&stage, &bar, setting.patience).await; std::future::pending().await } => unreachable!("it never ends"),
    };
    bar.finish_and_clear();
    let accepted = stage.accepted();
    let statuses = match &setting.database_url {
        Some(url) => statuses::from_database(url, chat).await,
        // Where the service is gone for good, nobody waits for it once more.
        None if stage.failure.get().is_some() => Err(anyhow!("the replay ended early")),
        None => statuses::from_service(&http, &stage, &accepted, &tokens, setting.patience).await,
    };
    let findings = judge(&stage, &accepted, &parts, statuses.as_ref());
    let statuses = statuses.unwrap_or_default();
    Ok(Played { accepted, parts, findings, statuses, sending, delivering })
}

async fn make_chat(http: &Http, title: &str, names: &[String], token: &str, patience: Duration) -> anyhow::Result<ChatId> {
    http.chats(token).await?; // a service that is not there, or does not want us, is told of at once
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
    setting: &Setting,
    stage: &Arc<Stage>,
    names: &[String],
    tokens: &[String],
) -> anyhow::Result<(Vec<Part>, Duration, Duration)> {
    let mut tasks = JoinSet::new();
    let mut orders = Vec::with_capacity(names.len());
    for (person, name) in names.iter().enumerate() {
        let (order, taken) = unbounded_channel();
        let numbering = if setting.device.is_some() { Numbering::Checked } else { Numbering::Unchecked };
        let recipient = Recipient::new(name.clone(), numbering, stage.messages());
        let player = Person::new(options(setting, &tokens[person])?, stage.clone(), taken, setting.unconfirmed_max, recipient);
        tasks.spawn(async move { (person, player.play().await) });
        if log.people[person].starts_online {
            let _ = order.send(Order::Connect);
        }
        orders.push(order);
    }
    let begun = Instant::now();
    tokio::select! {
        () = stage.stop.cancelled() => {}
        () = direct(log, setting, stage, &orders) => {}
    }
    let sending = begun.elapsed();
    finish(stage, &orders);
    let mut parts: Vec<Option<Part>> = names.iter().map(|_| None).collect();
    while let Some(ended) = tasks.join_next().await {
        let (person, part) = ended.context("a person's task broke")?;
        parts[person] = Some(part);
    }
    let parts: Option<Vec<Part>> = parts.into_iter().collect();
    Ok((parts.ok_or_else(|| anyhow!("a person's task is missing"))?, sending, begun.elapsed()))
}

fn options(setting: &Setting, token: &str) -> anyhow::Result<Options> {
    let mut options = Options::new(&setting.url, token)?;
    options.device.clone_from(&setting.device);
    options.window = setting.window;
    options.batch = setting.batch;
    options.ack_style = setting.ack_style;
    Ok(options)
}

/// Tells everybody what to do, in the log's order, until everything that was said is settled.
async fn direct(log: &Log, setting: &Setting, stage: &Stage, orders: &[UnboundedSender<Order>]) {
    let begun = Instant::now();
    let seconds = log.seconds();
    let mut number = 0;
    for (step, second) in log.steps.iter().zip(seconds) {
        let due = match setting.pace {
            Pace::Free => None,
            Pace::Speed(speed) => Some(second / speed),
            Pace::Rate(rate) => Some(number as f64 / rate),
        };
        if let Some(due) = due {
            sleep_until(begun + Duration::from_secs_f64(due)).await;
        }
        let order = match step.what {
            What::Joins => Order::Connect,
            What::Leaves => Order::Disconnect,
            What::Says(_) | What::Acts(_) => {
                stage.enter(number, setting.ahead_max).await;
                number += 1;
                Order::Say(number - 1)
            }
        };
        // A task that has ended has said why to the stage, which is being cancelled.
        let _ = orders[step.person].send(order);
    }
    stage.all_settled().await;
}

fn finish(stage: &Stage, orders: &[UnboundedSender<Order>]) {
    let accepted = stage.accepted();
    let last_seq = accepted.iter().map(|message| message.seq).max().unwrap_or(ChatSeq(0));
    let mut own = vec![0_u64; orders.len()];
    accepted.iter().for_each(|message| own[message.speaker] += 1);
    for (person, order) in orders.iter().enumerate() {
        let messages = accepted.len() as u64 - own[person as PersonNo];
        let _ = order.send(Order::Finish(All { messages, last_seq }));
    }
}

fn judge(stage: &Stage, accepted: &[Accepted], parts: &[Part], statuses: Result<&Statuses, &anyhow::Error>) -> Findings {
    let recipients: Vec<&Recipient> = parts.iter().map(|part| &part.recipient).collect();
    let mut findings = checker::judge(accepted, &recipients);
    for refusal in stage.unaccepted() {
        findings.add(Rule::Refused, || refusal);
    }
    let rows = accepted.len() as u64 * recipients.len().saturating_sub(1) as u64;
    match statuses {
        Ok(statuses) => {
            let unread = rows.abs_diff(statuses.all()) + statuses.all() - statuses.count(Status::Read);
            findings.add_many(Rule::Unread, unread, || format!("of {rows} rows: {}", statuses.words()));
        }
        Err(error) => findings.add_many(Rule::Unread, rows, || format!("the final statuses are not known: {}", words(error.as_ref()))),
    }
    if let Some(why) = stage.failure.get() {
        findings.add(Rule::Early, || why.clone());
    }
    findings
}
