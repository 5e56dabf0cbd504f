//! Messages that were read long ago, made in bulk. Rows and counters are as sends, acks and reads would have left them.

use anyhow::ensure;
use sqlx::PgPool;
use tokio::try_join;
use uuid::Uuid;

use super::{Crowd, Progress};

/// Rows in one transaction, about.
const CHUNK: usize = 20_000;

/// A part of a crowd, as columns for a statement.
#[derive(Default)]
struct Part {
    chats: Vec<Uuid>,
    senders: Vec<i64>,
    recipients: Vec<i64>,
}

/// Gives each chat of this new crowd `each` messages that are read. No client may be connected.
pub async fn fill_history(database: &PgPool, crowd: &Crowd, each: u32, content: &str, progress: &Progress) -> anyhow::Result<()> {
    let (mut one, mut other) = (Part::default(), Part::default());
    for (place, ((chat, sender), recipient)) in crowd.letters().zip(&crowd.recipients).enumerate() {
        let part = if place % 2 == 0 { &mut one } else { &mut other };
        part.chats.push(chat);
        part.senders.push(sender);
        part.recipients.push(recipient.id);
    }
    // Two at once, so that both processors of a small machine have work.
    try_join!(one.fill(database, each, content, progress), other.fill(database, each, content, progress))?;
    Ok(())
}

impl Part {
    async fn fill(&self, database: &PgPool, each: u32, content: &str, progress: &Progress) -> anyhow::Result<()> {
        let step = u32::try_from(CHUNK / self.chats.len().max(1))?.max(1);
        let mut last = 0;
        while last < each && !self.chats.is_empty() {
            let first = last + 1;
            last = (last + step).min(each);
            self.insert(database, i64::from(first), i64::from(last), content).await?;
            progress.advance(u64::from(last - first + 1) * self.chats.len() as u64);
        }
        self.count_up(database, i64::from(each)).await
    }

    /// Inserts messages with these numbers into every chat. Ids grow with time, as clients' ids do: random ids would make another index.
    async fn insert(&self, database: &PgPool, first: i64, last: i64, content: &str) -> anyhow::Result<()> {
        let insert = "
            with made as (
              insert into messages (id, chat_id, seq, sender_id, content, created_at)
                select (lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0')
                        || '7' || substr(gen_random_uuid()::text, 16))::uuid,
                       c.chat, s.seq, c.sender, $6, clock_timestamp()
                  from generate_series($4, $5) s (seq) cross join unnest($1, $2) c (chat, sender)
                returning id, chat_id, seq, created_at
            )
            insert into message_status (user_id, class, seq, message_id, status, delivered_at, read_at)
              select c.recipient, 'chat', made.seq, made.id, 'read', made.created_at, made.created_at
                from made join unnest($1, $3) c (chat, recipient) on c.chat = made.chat_id";
        let insert = sqlx::query(insert).bind(&self.chats).bind(&self.senders).bind(&self.recipients).bind(first).bind(last);
        let rows = insert.bind(content).execute(database).await?.rows_affected();
        let wanted = u64::try_from(last - first + 1)? * self.chats.len() as u64;
        ensure!(rows == wanted, "{rows} of {wanted} finished rows were made");
        Ok(())
    }

    /// Sets numbers and marks to their values after all of that was sent and read.
    async fn count_up(&self, database: &PgPool, last: i64) -> anyhow::Result<()> {
        let counted = [
            "update chat_heads set last_seq = $3, step = $3 >> 4 where chat_id = any ($1) and $2::bigint[] is not null",
            "update inboxes set last_seq = $3, settled_seq = $3, step = $3 >> 4 where user_id = any ($2) and class = 'chat' and $1::uuid[] is not null",
            "update marks set delivered_seq = $3, read_seq = $3, marked_xid = pg_current_xact_id()
              where chat_id = any ($1) and user_id = any ($2)",
        ];
        for update in counted {
            sqlx::query(update).bind(&self.chats).bind(&self.recipients).bind(last).execute(database).await?;
        }
        Ok(())
    }
}
