//! Simulated months at a steady rate, each removed when it is old: tables must stop growing, and pairs who are online must not notice.

use std::time::{Duration, Instant};

use anyhow::ensure;
use restante::jobs::PurgePace;
use sqlx::PgPool;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
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

/// Month after month is written, acked and removed after three more. The last removal runs beside pairs who are online.
pub async fn retention(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    ensure!(sizes.months > KEPT_DAYS / MONTH_DAYS, "so few months are all kept: there is nothing to measure");
    let crowd = Crowd::make(&testbed.database, sizes.senders, sizes.users).await?;
    let database = testbed.database.clone();
    let mut figures = Vec::new();
    let without_pauses = CancellationToken::new();
    without_pauses.cancel();
    for month in 1..=sizes.months {
        progress.begin(&format!("month {month}"), sizes.total());
        // The months are made in the past, so the present of each lies before now.
        let ago = (sizes.months - month) * MONTH_DAYS;
        write(&testbed.database, &crowd, sizes, ago, progress).await?;
        if month < sizes.months {
            purge(&database, i32::try_from(KEPT_DAYS + ago)?, &without_pauses).await?;
            figures.extend(table_sizes(&testbed.database, month).await?);
        }
    }
    tidy(&testbed.database).await?;
    // A service is slower in its first seconds, and what is compared later would look better for it.
    let (_, online) = live(pairs(testbed, sizes.pairs, progress).await?, "warming up", sizes, progress).await?;
    let (before, online) = live(online, "without", sizes, progress).await?;
    let (days, measured) = (i32::try_from(KEPT_DAYS)?, CancellationToken::new());
    let until_measured = measured.clone();
    let purging = tokio::spawn(async move { purge(&database, days, &until_measured).await });
    let (beside, _) = live(online, "beside it", sizes, progress).await?;
    measured.cancel();
    let per_second = purging.await??;
    let ratio = 100.0 * beside[1].value / before[1].value;
    figures.extend(before.into_iter().chain(beside));
    figures.push(Figure::new(format!("{THERE}, p99: beside it / without"), ratio, Unit::Percent));
    figures.push(Figure::new("removed in a second, with pauses", per_second, Unit::Count));
    figures.extend(table_sizes(&testbed.database, sizes.months).await?);
    Ok(figures)
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

/// Purges all inboxes and chats, at the pace of a job that is not late until the token is cancelled, and then without pauses. Returns the
/// rows and messages that went in a second with pauses.
async fn purge(database: &PgPool, days: i32, without_pauses: &CancellationToken) -> anyhow::Result<f64> {
    let mut passes = Passes { pace: PurgePace::default(), began: Instant::now(), gone: 0, per_second: 0.0 };
    let inboxes = "select rows_gone, next_user, next_class::text from restante_purge_inboxes($1, $2, $3::text::inbox_class, $4, $5)";
    let mut inbox = Some((0_i64, "chat".to_owned()));
    while let Some((user, class)) = inbox {
        let began = Instant::now();
        let asked = sqlx::query_as(inboxes).bind(days).bind(user).bind(class).bind(PurgePace::PLACES).bind(passes.pace.rows());
        let (rows, next_user, next_class): (i32, Option<i64>, Option<String>) = asked.fetch_one(database).await?;
        inbox = next_user.zip(next_class);
        passes.end(began, rows, without_pauses).await;
    }
    let chats = "select messages_gone, next_chat from restante_purge_chats($1, $2, $3, $4)";
    let mut chat = Some(Uuid::nil());
    while let Some(after) = chat {
        let began = Instant::now();
        let asked = sqlx::query_as(chats).bind(days).bind(after).bind(PurgePace::PLACES).bind(passes.pace.rows());
        let (messages, next): (i32, Option<Uuid>) = asked.fetch_one(database).await?;
        chat = next;
        passes.end(began, messages, without_pauses).await;
    }
    Ok(passes.per_second)
}

/// The passes of a purge, and what went so far.
struct Passes {
    pace: PurgePace,
    began: Instant,
    gone: i32,
    per_second: f64,
}

impl Passes {
    /// A pass has ended that removed so many. Pauses as the job does.
    async fn end(&mut self, began: Instant, gone: i32, without_pauses: &CancellationToken) {
        self.gone += gone;
        let pause = self.pace.after(began.elapsed(), Duration::ZERO);
        if without_pauses.run_until_cancelled(sleep(pause)).await.is_some() {
            self.per_second = f64::from(self.gone) / self.began.elapsed().as_secs_f64();
        }
    }
}

/// Pairs send at a fixed rate. Returns how soon messages are there, and the pairs.
async fn live(pairs: Vec<Pair>, when: &str, sizes: &Sizes, progress: &Progress) -> anyhow::Result<(Vec<Figure>, Vec<Pair>)> {
    progress.begin(when, (f64::from(sizes.storm_rate) * sizes.time.as_secs_f64()) as u64);
    let schedule = Schedule { rate: sizes.storm_rate, longest: sizes.time };
    let OpenLoopResult { pairs, latencies, .. } = OpenLoop::start(pairs, schedule, &sizes.content(), Some(progress))?.finish().await?;
    let figures = quantiles(THERE, &latencies.there);
    Ok((figures.into_iter().map(|figure| Figure { name: format!("{when}: {}", figure.name), ..figure }).collect(), pairs))
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
