//! Simulated months at a steady rate, each removed when it is old: tables must stop growing, and pairs who are online must not notice.

use std::time::{Duration, Instant};

use anyhow::ensure;
use hdrhistogram::Histogram;
use restante::jobs::PurgePace;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

use crate::bench::figure::{Figure, Unit};
use crate::bench::load::{Crowd, OpenLoop, OpenLoopResult, Pair, Progress, Schedule, accept_all, pairs, quantiles, tidy};
use crate::bench::sizes::Sizes;
use crate::bench::testbed::Testbed;

/// Days of a month, and those for which rows are kept.
const MONTH_DAYS: u32 = 30;
const KEPT_DAYS: u32 = 90;
/// The figure that is compared.
const THERE: &str = "sent → recipient";
/// The two conditions that are compared.
const WITHOUT: &str = "without";
const BESIDE: &str = "beside it";
/// Turns of each.
const TURNS: u32 = 6;

/// Month after month is written, acked and removed after three more. The last removal runs beside pairs who are online.
pub async fn retention(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    ensure!(sizes.months > KEPT_DAYS / MONTH_DAYS, "so few months are all kept: there is nothing to measure");
    let crowd = Crowd::make(&testbed.database, sizes.senders, sizes.users).await?;
    let database = testbed.database.clone();
    let mut figures = Vec::new();
    let (_unpaced, purging) = watch::channel(Purging::Unpaced);
    for month in 1..=sizes.months {
        progress.begin(&format!("month {month}"), sizes.total());
        // The months are made in the past, so the present of each lies before now.
        let ago = (sizes.months - month) * MONTH_DAYS;
        write(&testbed.database, &crowd, sizes, ago, progress).await?;
        if month < sizes.months {
            purge(&database, i32::try_from(KEPT_DAYS + ago)?, purging.clone()).await?;
            figures.extend(table_sizes(&testbed.database, month).await?);
        }
    }
    tidy(&testbed.database).await?;
    let (turns, per_second) = in_turns(testbed, sizes, progress).await?;
    figures.extend(turns);
    figures.push(Figure::new("removed in a second, with pauses", per_second, Unit::Count));
    figures.extend(table_sizes(&testbed.database, sizes.months).await?);
    Ok(figures)
}

/// Pairs talk without the removal and beside it, in turns: what a machine does besides changes from minute to minute. Returns how soon
/// messages are there, and what was removed in a second.
async fn in_turns(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<(Vec<Figure>, f64)> {
    let turn = sizes.time / TURNS;
    // A service is slower in its first seconds, and what is compared later would look better for it.
    let (mut online, warm) = live(pairs(testbed, sizes.pairs, progress).await?, "warming up", turn, sizes, progress).await?;
    let (mut without, mut beside) = (warm.clone(), warm);
    without.reset();
    beside.reset();
    let (turns, purging) = watch::channel(Purging::Held);
    let (database, days) = (testbed.database.clone(), i32::try_from(KEPT_DAYS)?);
    let purge = tokio::spawn(async move { purge(&database, days, purging).await });
    for _ in 0..TURNS {
        for (purging, when, latencies) in [(Purging::Held, WITHOUT, &mut without), (Purging::Paced, BESIDE, &mut beside)] {
            turns.send_replace(purging);
            let (pairs, of_turn) = live(online, when, turn, sizes, progress).await?;
            latencies.add(&of_turn)?;
            online = pairs;
        }
    }
    turns.send_replace(Purging::Unpaced);
    let per_second = purge.await??;
    let mut figures = Vec::new();
    for (when, latencies) in [(WITHOUT, &without), (BESIDE, &beside)] {
        figures.extend(quantiles(&format!("{when}: {THERE}"), latencies));
    }
    let ratio = 100.0 * beside.value_at_quantile(0.99) as f64 / without.value_at_quantile(0.99) as f64;
    figures.push(Figure::new(format!("{THERE}, p99: {BESIDE} / {WITHOUT}"), ratio, Unit::Percent));
    Ok((figures, per_second))
}

/// The messages of a month, all acked, accepted so many days ago.
async fn write(database: &PgPool, crowd: &Crowd, sizes: &Sizes, days_ago: u32, progress: &Progress) -> anyhow::Result<()> {
    for _ in 0..sizes.messages {
        accept_all(database, crowd.letters(), &[sizes.content()], progress).await?;
    }
    let acked =
        "update message_status set status = 'delivered', delivered_at = clock_timestamp() - $1 * interval '1 day' where status = 'sent'";
    let accepted =
        "update messages set created_at = created_at - $1 * interval '1 day' where created_at > clock_timestamp() - interval '12 hours'";
    let marked =
        "update marks k set delivered_seq = h.last_seq from chat_heads h where h.chat_id = k.chat_id and k.delivered_seq < h.last_seq";
    let days = i32::try_from(days_ago)?;
    for aged in [acked, accepted] {
        sqlx::query(aged).bind(days).execute(database).await?;
    }
    sqlx::query(marked).execute(database).await?;
    Ok(())
}

/// The pace of a purge after a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purging {
    /// Not at all.
    Held,
    /// After the pause of a job that is not late.
    Paced,
    /// At once.
    Unpaced,
}

/// Purges all inboxes and chats. Returns the rows and messages that went in a second with pauses.
async fn purge(database: &PgPool, days: i32, purging: watch::Receiver<Purging>) -> anyhow::Result<f64> {
    let mut passes = Passes { pace: PurgePace::default(), purging, paced: Duration::ZERO, gone: 0 };
    passes.go_on().await;
    let inboxes = "select rows_gone, next_user, next_class::text from restante_purge_inboxes($1, $2, $3::text::inbox_class, $4, $5)";
    let mut inbox = Some((0_i64, "chat".to_owned()));
    while let Some((user, class)) = inbox {
        let began = Instant::now();
        let asked = sqlx::query_as(inboxes).bind(days).bind(user).bind(class).bind(PurgePace::PLACES).bind(passes.pace.rows());
        let (rows, next_user, next_class): (i32, Option<i64>, Option<String>) = asked.fetch_one(database).await?;
        inbox = next_user.zip(next_class);
        passes.end(began, rows).await;
    }
    let chats = "select messages_gone, next_chat from restante_purge_chats($1, $2, $3, $4)";
    let mut chat = Some(Uuid::nil());
    while let Some(after) = chat {
        let began = Instant::now();
        let asked = sqlx::query_as(chats).bind(days).bind(after).bind(PurgePace::PLACES).bind(passes.pace.rows());
        let (messages, next): (i32, Option<Uuid>) = asked.fetch_one(database).await?;
        chat = next;
        passes.end(began, messages).await;
    }
    Ok(f64::from(passes.gone) / passes.paced.as_secs_f64().max(f64::EPSILON))
}

/// The passes of a purge, what went in those with pauses, and the time that they took.
struct Passes {
    pace: PurgePace,
    purging: watch::Receiver<Purging>,
    paced: Duration,
    gone: i32,
}

impl Passes {
    /// A pass has ended that removed so many. Pauses as the job does, and waits while the purge is held.
    async fn end(&mut self, began: Instant, gone: i32) {
        if *self.purging.borrow() == Purging::Unpaced {
            return;
        }
        let pause = self.pace.after(began.elapsed(), Duration::ZERO);
        if timeout(pause, self.purging.wait_for(|purging| *purging == Purging::Unpaced)).await.is_err() {
            self.gone += gone;
            self.paced += began.elapsed();
        }
        self.go_on().await;
    }

    /// Waits while the purge is held. One whose measurement has failed goes on.
    async fn go_on(&mut self) {
        let _ = self.purging.wait_for(|purging| *purging != Purging::Held).await;
    }
}

/// Pairs send at a fixed rate for a turn. Returns the pairs, and how soon messages were there.
async fn live(
    pairs: Vec<Pair>,
    when: &str,
    turn: Duration,
    sizes: &Sizes,
    progress: &Progress,
) -> anyhow::Result<(Vec<Pair>, Histogram<u64>)> {
    progress.begin(when, (f64::from(sizes.storm_rate) * turn.as_secs_f64()) as u64);
    let schedule = Schedule { rate: sizes.storm_rate, longest: turn };
    let OpenLoopResult { pairs, latencies, .. } = OpenLoop::start(pairs, schedule, &sizes.content(), Some(progress))?.finish().await?;
    Ok((pairs, latencies.there))
}

/// The rows and the size of the two large tables, after a vacuum.
async fn table_sizes(database: &PgPool, month: u32) -> anyhow::Result<Vec<Figure>> {
    tidy(database).await?;
    let mut figures = Vec::new();
    for table in ["messages", "message_status"] {
        let rows = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
        let rows: i64 = sqlx::query_scalar(rows).fetch_one(database).await?;
        let bytes: i64 = sqlx::query_scalar("select pg_total_relation_size($1::regclass)").bind(table).fetch_one(database).await?;
        figures.push(Figure::new(format!("month {month}: rows of {table}"), rows as f64, Unit::Count));
        figures.push(Figure::new(format!("month {month}: size of {table}"), bytes as f64 / f64::from(1 << 20), Unit::Mebibytes));
    }
    Ok(figures)
}
