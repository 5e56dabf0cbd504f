//! Rounds: a crowd connects while a burst of events is published. A round ends when every user has got all of the burst, and has acked
//! it: nothing that is published later can make good what the round has missed.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::{join_all, try_join};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::findings::{Breach, Findings};
use super::service::Service;
use crate::torture::Rng;
use restante_client::{Event, FeedEvent, Frame, Http, Options, Wire, encode};
use restante_session::domain::FeedId;

/// The time in which all events of a round have to come. A session that nothing wakes looks for itself once an hour.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most events of a burst.
const BURST_MAX: u64 = 6;
/// The feed that every user follows.
const EVERYONE: Uuid = Uuid::from_u128(1);

/// Users, and one who publishes.
pub struct Crowd {
    users: Vec<User>,
    publisher: Wire,
    feed: Uuid,
    rng: Rng,
    /// Events that were published so far, by feed.
    published: BTreeMap<Uuid, i64>,
}

/// A user that comes and goes.
struct User {
    name: String,
    options: Options,
    rng: Rng,
    /// The highest number of each feed that came.
    highest: BTreeMap<Uuid, i64>,
    seen: HashSet<Uuid>,
}

impl Crowd {
    /// Makes a feed that all users follow.
    ///
    /// # Errors
    /// When the service refuses, or does not answer.
    pub async fn assemble(service: &Service, count: usize, seed: u64) -> anyhow::Result<Self> {
        let (http, mut rng) = (Http::new(&service.url())?, Rng::new(seed, "handover"));
        let (token, feed) = (service.publisher_token("publisher")?, rng.uuid());
        http.make_feed(&token, FeedId(feed), &[]).await?;
        let mut users = Vec::new();
        for n in 0..count {
            let name = format!("user-{n}");
            let token = service.token(&name)?;
            http.follow(&token, FeedId(feed)).await?;
            let mut options = Options::new(&service.url(), token)?;
            options.device = n.is_multiple_of(2).then(|| "phone".to_owned());
            options.batch = n.is_multiple_of(3);
            users.push(User { options, rng: Rng::new(seed, &name), name, highest: BTreeMap::new(), seen: HashSet::new() });
        }
        let publisher = Wire::connect(&Options::new(&service.url(), token)?).await?;
        Ok(Self { users, publisher, feed, rng, published: BTreeMap::new() })
    }

    /// One round.
    ///
    /// # Errors
    /// When an event is not published.
    pub async fn round(&mut self, findings: &mut Findings) -> anyhow::Result<()> {
        let burst = self.rng.between(1, BURST_MAX);
        let (done, all) = watch::channel(None);
        let Self { users, publisher, feed, rng, published } = self;
        let publish = async {
            for _ in 0..burst {
                sleep(rng.pause_ms(0, 6)).await;
                let of = if rng.chance(500) { *feed } else { EVERYONE };
                publish(publisher, of, rng.uuid()).await?;
                *published.entry(of).or_default() += 1;
            }
            done.send_replace(Some(published.clone()));
            anyhow::Ok(())
        };
        let connects = async { anyhow::Ok(join_all(users.iter_mut().map(|user| user.visit(all.clone()))).await) };
        let ((), visits) = try_join(publish, connects).await?;
        findings.events += u32::try_from(burst)?;
        for breach in visits {
            findings.connects += 1;
            if let Some((breach, case)) = breach {
                findings.add(breach, case);
            }
        }
        Ok(())
    }
}

async fn publish(wire: &mut Wire, to: Uuid, event: Uuid) -> anyhow::Result<()> {
    let to = if to == EVERYONE { json!({"everyone": true}) } else { json!({"feed": to}) };
    wire.queue(encode("event:publish", Some("publish"), &json!({"eventId": event, "type": "race", "to": to})));
    timeout(PATIENCE, async {
        loop {
            match Frame::parse(&wire.next().await?).event {
                Event::Published(_) => return Ok(()),
                Event::Error(error) => bail!("an event was not published: {} ({})", error.message, error.code),
                _ => {}
            }
        }
    })
    .await
    .context("the service did not answer")?
}

impl User {
    /// Connects, takes what was published, and leaves. Returns what was wrong.
    async fn visit(&mut self, all: watch::Receiver<Option<BTreeMap<Uuid, i64>>>) -> Option<(Breach, String)> {
        sleep(self.rng.pause_ms(0, 30)).await;
        let mut wire = match Wire::connect(&self.options).await {
            Ok(wire) => wire,
            Err(error) => return Some((Breach::Connect, format!("{}: {error}", self.name))),
        };
        let wrong = match timeout(PATIENCE, self.take(&mut wire, all.clone())).await {
            Ok(Ok(wrong)) => wrong,
            Ok(Err(error)) => Some((Breach::Connect, format!("{}: {error:#}", self.name))),
            Err(_) => {
                let wanted = all.borrow().clone();
                Some((Breach::Missed, format!("{} has {:?} of {wanted:?}", self.name, self.highest)))
            }
        };
        wire.close().await;
        wrong
    }

    /// Takes events until it has all that were published, and its acks are committed.
    async fn take(
        &mut self,
        wire: &mut Wire,
        mut all: watch::Receiver<Option<BTreeMap<Uuid, i64>>>,
    ) -> anyhow::Result<Option<(Breach, String)>> {
        let mut to_ack = Vec::new();
        loop {
            let wanted = all.borrow_and_update().clone();
            if wanted.is_some_and(|wanted| wanted.iter().all(|(feed, last)| self.highest.get(feed).is_some_and(|seq| seq >= last))) {
                break;
            }
            let frame = tokio::select! {
                frame = wire.next() => frame?,
                changed = all.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => bail!("the publisher has gone"),
                },
            };
            for event in events(&frame)? {
                to_ack.push(event.event_id.0);
                if let Some(wrong) = self.note(&event) {
                    return Ok(Some(wrong));
                }
            }
        }
        wire.queue(encode("message:delivered", Some("acks"), &json!({"messageIds": to_ack})));
        loop {
            let frame = wire.next().await?;
            if matches!(Frame::parse(&frame).event, Event::Acked) {
                return Ok(None);
            }
            if let Some(event) = events(&frame)?.first() {
                return Ok(Some((Breach::Twice, format!("{} got {} after all had come", self.name, event.event_id.0))));
            }
        }
    }

    fn note(&mut self, event: &FeedEvent) -> Option<(Breach, String)> {
        let (Some(feed), Some(seq)) = (event.feed_id, event.feed_seq) else { return None };
        if !self.seen.insert(event.event_id.0) {
            return Some((Breach::Twice, format!("{} got number {} of feed {feed} again", self.name, seq.0)));
        }
        let before = self.highest.insert(feed.0, seq.0).unwrap_or_default();
        (seq.0 != before + 1).then(|| {
            let breach = if seq.0 > before { Breach::Missed } else { Breach::Order };
            (breach, format!("{} got number {} of feed {feed} after {before}", self.name, seq.0))
        })
    }
}

fn events(frame: &str) -> anyhow::Result<Vec<FeedEvent>> {
    Ok(match Frame::parse(frame).event {
        Event::FeedEvent(event) => vec![*event],
        Event::FeedEvents(events) => events,
        Event::Gap(gap) => bail!("numbers {} to {} will never come: {}", gap.from_seq, gap.to_seq, gap.reason),
        Event::Error(error) => bail!("{} ({})", error.message, error.code),
        Event::Malformed { text, error } => bail!("{error}: {text}"),
        _ => Vec::new(),
    })
}
