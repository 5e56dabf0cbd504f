//! The database as the judge sees it: read in the end, in one snapshot, by statements of its own. Who was in which chat
//! at which number is gone by then (whoever rejoins loses their old numbers), so a trigger of the judge's notes it.

use std::collections::{HashMap, HashSet};

use anyhow::Context;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::super::history::{Class, Status};

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its chat.
    pub chat: Uuid,
    /// Its number there.
    pub seq: i64,
    /// Who sent it.
    pub sender: String,
    /// What it says.
    pub content: String,
    /// Its time is over.
    pub is_over: bool,
}

/// A message for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The recipient.
    pub user: String,
    /// The inbox.
    pub class: Class,
    /// Its number there.
    pub seq: i64,
    /// The message.
    pub message: Uuid,
    /// What became of it.
    pub status: Status,
    /// Attempts that were counted.
    pub attempts: i16,
    /// Why it ended.
    pub reason: String,
    /// How many of its sender's rows failed or expired after it did, or in the same transaction.
    pub ended_later: i64,
}

/// An inbox's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbox {
    /// Whose.
    pub user: String,
    /// Which.
    pub class: Class,
    /// The last number given.
    pub last_seq: i64,
    /// Up to here nothing waits.
    pub settled_seq: i64,
}

/// A member as it is now, with its marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The chat.
    pub chat: Uuid,
    /// Who.
    pub user: String,
    /// Messages above this are for it.
    pub joined: i64,
    /// Messages above this are not; none: it is in the chat.
    pub left: Option<i64>,
    /// Nothing up to here waits.
    pub delivered: i64,
    /// Everything up to here is read.
    pub read: i64,
}

/// A time that somebody spent in a chat, in its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stint {
    /// The chat.
    pub chat: Uuid,
    /// Who.
    pub user: String,
    /// From above this number …
    pub joined: i64,
    /// … up to this one; none: for good.
    pub left: Option<i64>,
}

/// What the database holds.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// The last number of each chat.
    pub chats: HashMap<Uuid, i64>,
    /// All messages.
    pub messages: HashMap<Uuid, Message>,
    /// All rows.
    pub rows: Vec<Row>,
    /// All inboxes.
    pub inboxes: Vec<Inbox>,
    /// Numbers that are named as gaps.
    pub gaps: HashSet<(String, Class, i64)>,
    /// All members.
    pub members: Vec<Member>,
    /// All times that anybody spent in a chat.
    pub stints: Vec<Stint>,
}

const WATCH: &str = "
create schema torture;
create table torture.membership (n bigint generated always as identity primary key, chat_id uuid, user_id bigint, joined_seq bigint, left_seq bigint);
create function torture.note_membership() returns trigger language plpgsql as $$
begin
  insert into torture.membership (chat_id, user_id, joined_seq, left_seq) values (new.chat_id, new.user_id, new.joined_seq, new.left_seq);
  return null;
end $$;
create trigger joining_is_noted after insert on chat_members for each row execute function torture.note_membership();
create trigger leaving_is_noted after update on chat_members for each row
  when (old.joined_seq <> new.joined_seq or old.left_seq is distinct from new.left_seq) execute function torture.note_membership();";

/// Sets the trigger up that notes who is in which chat. Once, before the first chat is made.
///
/// # Errors
/// When the database refuses.
pub async fn watch_members(database: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::raw_sql(WATCH).execute(database).await.context("cannot watch the members")?;
    Ok(())
}

/// Reads all of it.
///
/// # Errors
/// When the database does not answer.
pub async fn read(database: &mut PgConnection) -> anyhow::Result<Ledger> {
    sqlx::raw_sql("begin isolation level repeatable read read only").execute(&mut *database).await?;
    let ledger = Ledger {
        chats: all(database, "select chat_id, last_seq from chat_heads", |row| Ok((row.try_get(0)?, row.try_get(1)?))).await?,
        messages: all(database, MESSAGES, message).await?,
        rows: all(database, ROWS, status_row).await?,
        inboxes: all(database, INBOXES, inbox).await?,
        gaps: all(database, GAPS, |row| Ok((row.try_get(0)?, class(row, 1)?, row.try_get(2)?))).await?,
        members: all(database, MEMBERS, member).await?,
        stints: all(database, STINTS, stint).await?,
    };
    sqlx::raw_sql("commit").execute(database).await?;
    Ok(ledger)
}

const MESSAGES: &str = "select m.id, m.chat_id, m.seq, u.external_id, m.content, coalesce(m.expires_at <= clock_timestamp(), false)
  from messages m join users u on u.id = m.sender_id";
const ROWS: &str = "select u.external_id, s.class::text, s.seq, s.message_id, s.status::text, s.attempts, coalesce(s.reason, ''),
         coalesce(e.later, 0)
  from message_status s join users u on u.id = s.user_id
  left join (select message_id, user_id, count(*) over (partition by sender_id order by ended_xid desc) - 1 as later from endings) e
    on e.message_id = s.message_id and e.user_id = s.user_id";
const INBOXES: &str = "select u.external_id, i.class::text, i.last_seq, i.settled_seq from inboxes i join users u on u.id = i.user_id";
const GAPS: &str = "select u.external_id, g.class::text, g.seq from inbox_gaps g join users u on u.id = g.user_id";
const MEMBERS: &str = "select m.chat_id, u.external_id, m.joined_seq, m.left_seq, k.delivered_seq, k.read_seq
  from chat_members m join users u on u.id = m.user_id join marks k on k.chat_id = m.chat_id and k.user_id = m.user_id";
const STINTS: &str = "select distinct on (m.chat_id, m.user_id, m.joined_seq) m.chat_id, u.external_id, m.joined_seq, m.left_seq
  from torture.membership m join users u on u.id = m.user_id order by m.chat_id, m.user_id, m.joined_seq, m.n desc";

async fn all<T, C: FromIterator<T>>(
    database: &mut PgConnection,
    statement: &'static str,
    of: impl Fn(&PgRow) -> anyhow::Result<T>,
) -> anyhow::Result<C> {
    let rows = sqlx::query(statement).fetch_all(database).await.with_context(|| statement.to_owned())?;
    rows.iter().map(of).collect()
}

fn message(row: &PgRow) -> anyhow::Result<(Uuid, Message)> {
    let message = Message {
        chat: row.try_get(1)?,
        seq: row.try_get(2)?,
        sender: row.try_get(3)?,
        content: row.try_get(4)?,
        is_over: row.try_get(5)?,
    };
    Ok((row.try_get(0)?, message))
}

fn status_row(row: &PgRow) -> anyhow::Result<Row> {
    Ok(Row {
        user: row.try_get(0)?,
        class: class(row, 1)?,
        seq: row.try_get(2)?,
        message: row.try_get(3)?,
        status: serde_json::from_value(row.try_get::<String, _>(4)?.into())?,
        attempts: row.try_get(5)?,
        reason: row.try_get(6)?,
        ended_later: row.try_get(7)?,
    })
}

fn inbox(row: &PgRow) -> anyhow::Result<Inbox> {
    Ok(Inbox { user: row.try_get(0)?, class: class(row, 1)?, last_seq: row.try_get(2)?, settled_seq: row.try_get(3)? })
}

fn member(row: &PgRow) -> anyhow::Result<Member> {
    Ok(Member {
        chat: row.try_get(0)?,
        user: row.try_get(1)?,
        joined: row.try_get(2)?,
        left: row.try_get(3)?,
        delivered: row.try_get(4)?,
        read: row.try_get(5)?,
    })
}

fn stint(row: &PgRow) -> anyhow::Result<Stint> {
    Ok(Stint { chat: row.try_get(0)?, user: row.try_get(1)?, joined: row.try_get(2)?, left: row.try_get(3)? })
}

fn class(row: &PgRow, column: usize) -> anyhow::Result<Class> {
    Ok(serde_json::from_value(row.try_get::<String, _>(column)?.into())?)
}
