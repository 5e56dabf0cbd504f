//! An event to a feed: the time to store it, and the time until all followers who are connected have it. Followers who are away must cost
//! nothing, so the same is measured with few and with many of them. With `--eager` the same goes to all of them as listed users, which
//! writes a row for each.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use crate::bench::figure::{Figure, Unit};
use crate::bench::load::{ConnectedClients, Incoming, Numbering, Progress, Socket, User, followed_feed, tidy, users};
use crate::bench::numbers::{median, thousands};
use crate::bench::sizes::Sizes;
use crate::bench::testbed::{Testbed, open_files};

/// The longest time until all followers who are connected have an event.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest time until each listed user has a row.
const EAGER_PATIENCE: Duration = Duration::from_secs(1_800);
/// The pause between two looks at the rows that are missing.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The most users that an event lists.
const LISTED_MAX: usize = 10_000;
/// The figures that are compared between few and many followers.
const STORED: &str = "published → stored";

/// Measures a feed with each number of followers, as many of them connected each time, and then the ratio of the last to the first.
pub async fn feed(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    open_files::ensure_room(u64::from(sizes.followers_there))?;
    let (mut figures, mut stored, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for count in &sizes.followers.0 {
        let mut feed = Feed::make(testbed, sizes, *count, progress).await?;
        let of_this = feed.publish(testbed, sizes, progress).await?;
        stored.extend(of_this.first().map(|figure| figure.value));
        cpu.extend(of_this.iter().find_map(|figure| figure.cost).map(|cost| cost.database));
        figures.extend(of_this);
        if sizes.eager {
            figures.extend(feed.publish_eagerly(testbed, sizes, progress).await?);
        }
    }
    let (few, many) = (sizes.followers.0.first(), sizes.followers.0.last());
    let whom = few.zip(many).map(|(few, many)| format!("{} / {} followers", thousands(u64::from(*many)), thousands(u64::from(*few))));
    for (what, values) in [(STORED, &stored), ("CPU of the database for a delivery", &cpu)] {
        if let (Some(few), Some(many), Some(whom)) = (values.first(), values.last(), &whom)
            && *few > 0.0
        {
            figures.push(Figure::new(format!("{what}: {whom}"), many / few, Unit::Times));
        }
    }
    Ok(figures)
}

/// A feed with its publisher and its followers, some of them connected.
struct Feed {
    id: Uuid,
    publisher: Socket,
    publisher_name: String,
    followers: Vec<User>,
    connected: ConnectedClients,
    there: u64,
    /// The number of followers, and of those who are connected, in words.
    what: String,
    numbering: Numbering,
}

impl Feed {
    async fn make(testbed: &Testbed, sizes: &Sizes, count: u32, progress: &Progress) -> anyhow::Result<Self> {
        let there = sizes.followers_there.min(count);
        ensure!(there > 0, "nobody follows, or nobody is connected: there is nothing to measure");
        progress.begin("making followers", u64::from(count));
        let publisher = users(&testbed.database, "publisher", 1).await?.remove(0);
        let (id, followers) = followed_feed(&testbed.database, &publisher, count, progress).await?;
        tidy(&testbed.database).await?;
        let connected = ConnectedClients::connect(testbed, &followers[..there as usize], progress).await?;
        Ok(Self {
            id,
            publisher: Socket::connect(&testbed.options(&publisher.name)?).await?,
            publisher_name: publisher.name,
            followers,
            connected,
            there: u64::from(there),
            what: format!("{} followers, {} there", thousands(u64::from(count)), thousands(u64::from(there))),
            numbering: Numbering::new(),
        })
    }

    /// Publishes one event after the other. The first figure is the time to store one.
    async fn publish(&mut self, testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
        let events = u64::from(sizes.feed_events);
        progress.begin(&format!("to {}", self.what), events);
        let (mut stored, mut arrived, before) = (Vec::new(), Vec::new(), testbed.meter.read());
        for number in 0..events {
            let (is_stored, is_everywhere) = self.publish_one(number, &sizes.content()).await?;
            stored.push(is_stored);
            arrived.push(is_everywhere);
            progress.advance(1);
        }
        let (deliveries, spent) = (self.there * events, testbed.meter.since(before));
        let rows = rows_of(&testbed.database, self.id).await?;
        ensure!(rows == deliveries, "{deliveries} events came, and the feed has {rows} rows: followers who are away have none");
        let what = &self.what;
        Ok(vec![
            milliseconds(format!("{what}: {STORED}"), &stored),
            milliseconds(format!("{what}: published → last follower there"), &arrived),
            Figure::rate(format!("{what}: deliveries"), deliveries, seconds(&arrived), spent),
        ])
    }

    /// Publishes an event. Returns the time until it was stored, and until each follower who is connected has it.
    async fn publish_one(&mut self, number: u64, content: &str) -> anyhow::Result<(Duration, Duration)> {
        let published = Instant::now();
        let event = json!({"eventId": self.numbering.id(number), "type": "bench", "data": {"text": content}, "to": {"feed": self.id}});
        self.publisher.ask("event:publish", &event);
        self.publisher.flush().await?;
        while !matches!(self.publisher.next().await?, Incoming::Sent) {}
        let stored = published.elapsed();
        let mut last = published;
        let all = async {
            for _ in 0..self.there {
                let arrival = self.connected.next().await?;
                ensure!(arrival.number == number, "event {} came where {number} was due", arrival.number);
                last = last.max(arrival.at);
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, all).await.context("some followers never got an event")??;
        self.connected.ensure_complete()?;
        Ok((stored, last - published))
    }

    /// Publishes the same once to all followers as listed users, and waits until each has a row.
    async fn publish_eagerly(&self, testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
        let rows = self.followers.len() as u64;
        progress.begin(&format!("eagerly to {}", self.what), rows);
        let (began, before) = (Instant::now(), testbed.meter.read());
        for listed in self.followers.chunks(LISTED_MAX) {
            let names: Vec<&str> = listed.iter().map(|user| user.name.as_str()).collect();
            let publish = "select restante_publish($1, 'bench', jsonb_build_object('text', $2), p_to_users => $3)";
            sqlx::query(publish).bind(&self.publisher_name).bind(sizes.content()).bind(&names).execute(&testbed.database).await?;
        }
        let deadline = began + EAGER_PATIENCE;
        loop {
            let left: i64 =
                sqlx::query_scalar("select coalesce(sum(waiting), 0)::bigint from fan_outs").fetch_one(&testbed.database).await?;
            if left == 0 {
                break;
            }
            ensure!(Instant::now() < deadline, "{left} listed users never got a row");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let (took, spent) = (began.elapsed(), testbed.meter.since(before));
        progress.advance(rows);
        let what = &self.what;
        Ok(vec![
            milliseconds(format!("{what}, eager: published → all rows written"), &[took]),
            Figure::rate(format!("{what}, eager: rows written"), rows, took.as_secs_f64(), spent),
        ])
    }
}

/// The rows of this feed's events in inboxes.
async fn rows_of(database: &PgPool, feed: Uuid) -> anyhow::Result<u64> {
    let count = "select count(*) from messages m join message_status s on s.message_id = m.id where m.chat_id = $1";
    let count: i64 = sqlx::query_scalar(count).bind(feed).fetch_one(database).await?;
    Ok(count.try_into()?)
}

fn seconds(times: &[Duration]) -> f64 {
    times.iter().sum::<Duration>().as_secs_f64()
}

fn milliseconds(name: String, times: &[Duration]) -> Figure {
    Figure::new(name, median(times.iter().map(|time| time.as_secs_f64() * 1000.0)), Unit::Milliseconds)
}
