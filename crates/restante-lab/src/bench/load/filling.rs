//! Makes messages that wait without the service, by the function with which it accepts, so that tables and counters are as it leaves
//! them. No scenario measures this.

use anyhow::ensure;
use sqlx::PgPool;
use uuid::Uuid;

use super::{Numbering, Progress};
use restante::store::{self, AcceptBatch, AcceptOutcome, LockTimeout};

/// The most messages that the service accepts in one batch.
const BATCH_MAX: usize = 500;

/// Accepts a message for each chat and sender, in this order, each with the next one of the contents.
pub async fn accept_all(
    database: &PgPool,
    letters: impl Iterator<Item = (Uuid, i64)>,
    contents: &[String],
    progress: &Progress,
) -> anyhow::Result<()> {
    let numbering = Numbering::new();
    let mut letters = (0..).zip(letters).peekable();
    while letters.peek().is_some() {
        let batch: Vec<(u64, (Uuid, i64))> = letters.by_ref().take(BATCH_MAX).collect();
        let first = batch.first().map_or(0, |(number, _)| *number);
        let ids: Vec<Uuid> = batch.iter().map(|(number, _)| numbering.id(*number)).collect();
        let (chats, senders): (Vec<Uuid>, Vec<i64>) = batch.into_iter().map(|(_, letter)| letter).unzip();
        let count = ids.len() as u64;
        let of_batch = batch_contents(contents, first, ids.len());
        accept(database, AcceptBatch { contents: of_batch, ..texts(ids, chats, senders, "") }).await?;
        progress.advance(count);
    }
    Ok(())
}

/// The contents of `count` messages, the first of which has this number.
fn batch_contents(contents: &[String], first: u64, count: usize) -> Vec<String> {
    contents.iter().cycle().skip(first as usize % contents.len().max(1)).take(count).cloned().collect()
}

async fn accept(database: &PgPool, batch: AcceptBatch) -> anyhow::Result<()> {
    let count = batch.ids.len();
    let rows = store::accept(&mut *database.acquire().await?, &batch, false, LockTimeout::OfConnection).await?;
    let accepted = rows.iter().filter(|row| row.outcome == AcceptOutcome::Accepted).count();
    ensure!(accepted == count, "{accepted} of {count} messages were accepted");
    Ok(())
}

/// A batch of text messages with the same content.
pub fn texts(ids: Vec<Uuid>, chats: Vec<Uuid>, senders: Vec<i64>, content: &str) -> AcceptBatch {
    let count = ids.len();
    AcceptBatch {
        ids,
        chats,
        senders,
        types: vec!["text".to_owned(); count],
        contents: vec![content.to_owned(); count],
        metadata: vec![None; count],
        expires: vec![None; count],
        ..AcceptBatch::default()
    }
}

/// Vacuums and analyzes the tables. Autovacuum would do it some time after they were filled, in the middle of a measurement.
pub async fn tidy(database: &PgPool) -> anyhow::Result<()> {
    for table in ["users", "inboxes", "chats", "chat_heads", "chat_members", "marks", "messages", "message_status", "followers"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("vacuum (analyze) {table}"))).execute(database).await?;
    }
    Ok(())
}
