//! A transaction stays open. While its snapshot lives, no dead row can be removed, and every counter that moves leaves dead versions of
//! its row, which later look-ups have to pass.

use std::time::{Duration, Instant};

use sqlx::{PgPool, Postgres, Transaction};

use crate::bench::figure::{Figure, Unit};
use crate::bench::load::{ClosedLoop, Progress, pairs, tidy};
use crate::bench::numbers::thousands;
use crate::bench::sizes::{HeldBy, Sizes};
use crate::bench::testbed::Testbed;

/// The time at the highest rate before the measurement.
const WARM_UP: Duration = Duration::from_secs(2);
/// The tables whose rows change.
const TABLES: [&str; 4] = ["inboxes", "chat_heads", "marks", "message_status"];

/// Runs the scenario with each number of pairs.
pub async fn held(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for pairs in &sizes.held_pairs.0 {
        let of_these = with_pairs(testbed, sizes, *pairs, progress).await?;
        let what = format!("{} pairs", thousands(u64::from(*pairs)));
        figures.extend(of_these.into_iter().map(|figure| Figure { name: format!("{what}, {}", figure.name), ..figure }));
    }
    Ok(figures)
}

/// The closed loop before the transaction is opened, at each mark while it is open, and after its end.
async fn with_pairs(testbed: &Testbed, sizes: &Sizes, count: u32, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let pairs = pairs(testbed, count, progress).await?;
    let mut traffic = ClosedLoop::start(pairs, unfinished(sizes, count), &sizes.content());
    traffic.run(WARM_UP.min(sizes.time), progress).await?;
    let before = traffic.measure("before".to_owned(), sizes.time, testbed, progress).await?;
    let mut figures = vec![before.clone()];

    let open = match sizes.held_by {
        HeldBy::Somebody => Some(open(&testbed.database).await?),
        HeldBy::Nobody => None,
    };
    let since = Instant::now();
    for mark in &sizes.held.0 {
        let when = format!("{} {}", if open.is_some() { "held for" } else { "held by nobody for" }, words(mark.0));
        progress.begin(&format!("until it is {when}"), 100);
        traffic.run(mark.0.saturating_sub(since.elapsed()), progress).await?;
        let rate = traffic.measure(when.clone(), sizes.time, testbed, progress).await?;
        figures.push(rate.clone());
        figures.extend(loss(&when, &before, &rate));
        figures.extend(dead_rows(&testbed.database, &when).await?);
    }
    figures.extend(table_sizes(&testbed.database).await?);
    if let Some(open) = open {
        open.rollback().await?;
    }
    tidy(&testbed.database).await?;
    figures.push(traffic.measure("after its end and a vacuum".to_owned(), sizes.time, testbed, progress).await?);
    traffic.finish().await?;
    Ok(figures)
}

/// Opens a transaction with a snapshot and a transaction id, so that vacuum cannot remove what it may see.
async fn open(database: &PgPool) -> anyhow::Result<Transaction<'static, Postgres>> {
    let mut open = database.begin_with("begin isolation level repeatable read").await?;
    let _: String = sqlx::query_scalar("select pg_current_xact_id()::text").fetch_one(&mut *open).await?;
    Ok(open)
}

/// Messages under way of each pair, so that in all about as many are under way as in the live scenario.
fn unfinished(sizes: &Sizes, pairs: u32) -> u32 {
    (sizes.pairs * sizes.unfinished / pairs.max(1)).max(1)
}

/// The loss: of messages a second, and in CPU time of a message, which is comparable on a machine that others use.
fn loss(when: &str, before: &Figure, now: &Figure) -> Vec<Figure> {
    let mut figures = vec![Figure::new(format!("{when}: lost of the rate"), 100.0 * (1.0 - now.value / before.value), Unit::Percent)];
    if let (Some(before), Some(now)) = (before.cost, now.cost) {
        let more = 100.0 * ((now.service + now.database) / (before.service + before.database) - 1.0);
        figures.push(Figure::new(format!("{when}: more CPU for a message"), more, Unit::Percent));
    }
    figures
}

/// The dead rows that cannot be removed.
async fn dead_rows(database: &PgPool, when: &str) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for table in TABLES {
        let read = "select n_dead_tup from pg_stat_user_tables where relname = $1";
        let dead: i64 = sqlx::query_scalar(read).bind(table).fetch_one(database).await?;
        figures.push(Figure::new(format!("{when}: dead rows of {table}"), dead as f64, Unit::Count));
    }
    Ok(figures)
}

/// The sizes of the tables at the end, with their indexes.
async fn table_sizes(database: &PgPool) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for table in TABLES {
        let bytes: i64 = sqlx::query_scalar("select pg_total_relation_size($1::regclass)").bind(table).fetch_one(database).await?;
        figures.push(Figure::new(format!("at last: size of {table}"), bytes as f64 / f64::from(1 << 20), Unit::Mebibytes));
    }
    Ok(figures)
}

/// `1m`, `90s`, `500ms`.
fn words(time: Duration) -> String {
    match (time.as_millis(), time.as_secs()) {
        (millis, _) if millis % 1000 != 0 => format!("{millis}ms"),
        (_, seconds) if seconds >= 60 && seconds % 60 == 0 => format!("{}m", seconds / 60),
        (_, seconds) => format!("{seconds}s"),
    }
}
