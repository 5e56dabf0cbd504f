//! Reads a [`Snapshot`] from PostgreSQL, by statements that share nothing with the service's own.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::columns::{class, status_row};
use super::{Inbox, Member, MemberInterval, Message, Notice, Snapshot};

const WATCH: &str = "
create schema judge;
create table judge.membership (n bigint generated always as identity primary key, chat_id uuid, user_id bigint, joined_seq bigint, left_seq bigint);
create function judge.note_membership() returns trigger language plpgsql as $$
begin
  insert into judge.membership (chat_id, user_id, joined_seq, left_seq) values (new.chat_id, new.user_id, new.joined_seq, new.left_seq);
  return null;
end $$;
create trigger joining_is_noted after insert on chat_members for each row execute function judge.note_membership();
create trigger leaving_is_noted after update on chat_members for each row
  when (old.joined_seq <> new.joined_seq or old.left_seq is distinct from new.left_seq) execute function judge.note_membership();";
/// A user that leaves a feed and follows it again has new numbers, too. What is removed leaves nothing behind.
const WATCH_FEEDS: &str = "
create table judge.left_feeds (user_id bigint, feed_id uuid, class text, followed_seq bigint, cursor_seq bigint);
create table judge.removed (user_id bigint, class text, seq bigint, message_id uuid, status text, attempts smallint, ended text);
create table judge.removed_gaps (user_id bigint, class text, seq bigint, reason text, feed_id uuid, from_feed_seq bigint, to_feed_seq bigint, count bigint);
create function judge.note_leaving() returns trigger language plpgsql as $$
begin
  insert into judge.left_feeds values (old.user_id, old.feed_id, old.class::text, old.followed_seq, old.cursor_seq);
  return null;
end $$;
create function judge.note_removal() returns trigger language plpgsql as $$
begin
  insert into judge.removed values (old.user_id, old.class::text, old.seq, old.message_id, old.status::text, old.attempts, old.ended::text);
  return null;
end $$;
create function judge.note_removed_gap() returns trigger language plpgsql as $$
begin
  insert into judge.removed_gaps
    values (old.user_id, old.class::text, old.seq, old.reason::text, old.feed_id, old.from_feed_seq, old.to_feed_seq, old.count);
  return null;
end $$;
create trigger leaving_a_feed_is_noted after delete on followers for each row execute function judge.note_leaving();
create trigger a_removal_is_noted after delete on message_status for each row execute function judge.note_removal();
create trigger a_removed_gap_is_noted after delete on inbox_gaps for each row execute function judge.note_removed_gap();";

const CHATS: &str =
    "select chat_id, last_seq from chat_heads where ($1 is null or chat_id = $1) and chat_id not in (select chat_id from feeds)";
const PURGED: &str = "select id, purged_seq from chats where ($1 is null or id = $1) and kind <> 'feed'";
const MESSAGES: &str = "select m.id, m.chat_id, m.seq, u.external_id, coalesce(m.content, ''), coalesce(m.expires_at <= clock_timestamp(), false),
         m.recalled_at is not null, m.key_id is not null
  from messages m join users u on u.id = m.sender_id where m.seq > 0 and ($1 is null or m.chat_id = $1) and m.chat_id not in (select chat_id from feeds)";
const ROWS: &str = "select u.external_id, s.class::text, s.seq, s.message_id, s.status::text, s.attempts, coalesce(s.reason, ''),
         coalesce(e.later, 0)
  from message_status s join users u on u.id = s.user_id
  left join (select message_id, user_id, count(*) over (partition by sender_id order by ended_xid desc) - 1 as later from endings) e
    on e.message_id = s.message_id and e.user_id = s.user_id
  where ($1 is null or s.message_id in (select id from messages where chat_id = $1))
    and not exists (select from messages m left join feeds f on f.chat_id = m.chat_id where m.id = s.message_id and (f.chat_id is not null or m.seq < 0))";
const KEYLESS: &str = "select m.id from messages m
  where m.key_id is not null and not exists (select from data_keys k where k.id = m.key_id) and ($1 is null or m.chat_id = $1)";
const IN_PLAIN: &str = "select m.id from messages m where (select e.is_on from encryption e) and m.key_id is null and m.seq > 0
  and (m.content is not null or m.metadata is not null) and ($1 is null or m.chat_id = $1)";
const NOTICES: &str = "select u.external_id, s.class::text, s.seq, s.message_id, s.status::text, s.attempts, coalesce(s.reason, ''), 0::bigint, n.content::uuid
  from message_status s join users u on u.id = s.user_id join messages n on n.id = s.message_id
  where n.seq < 0 and ($1 is null or n.chat_id = $1)";
const INBOXES: &str =
    "select u.external_id, i.class::text, i.last_seq, i.settled_seq, i.purged_seq from inboxes i join users u on u.id = i.user_id
  where ($1 is null or i.user_id in (select user_id from chat_members where chat_id = $1))";
const GAPS: &str = "select u.external_id, g.class::text, g.seq from inbox_gaps g join users u on u.id = g.user_id
  where $1 is null or g.user_id in (select user_id from chat_members where chat_id = $1)";
const MEMBERS: &str = "select m.chat_id, u.external_id, m.joined_seq, m.left_seq, k.delivered_seq, k.read_seq, k.purged_seq
  from chat_members m join users u on u.id = m.user_id join marks k on k.chat_id = m.chat_id and k.user_id = m.user_id
  where $1 is null or m.chat_id = $1";
const WATCHED: &str = "select distinct on (m.chat_id, m.user_id, m.joined_seq) m.chat_id, u.external_id, m.joined_seq, m.left_seq
  from judge.membership m join users u on u.id = m.user_id where $1 is null or m.chat_id = $1
  order by m.chat_id, m.user_id, m.joined_seq, m.n desc";
const MEMBERS_NOW: &str = "select m.chat_id, u.external_id, m.joined_seq, m.left_seq
  from chat_members m join users u on u.id = m.user_id where $1 is null or m.chat_id = $1";

/// Sets up the triggers that write memberships and removals down. To be called once, before the first chat is made.
///
/// # Errors
/// When the database refuses.
pub async fn watch_members(database: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql(WATCH).execute(&mut *database).await?;
    sqlx::raw_sql(WATCH_FEEDS).execute(database).await?;
    Ok(())
}

/// Reads the whole database, with the sentences of [`inconsistencies`]. Where [`watch_members`] was not called, the members of
/// now count as all members that ever were.
///
/// # Errors
/// When the database does not answer, or holds a value that the judge does not know.
pub async fn read(database: &mut PgConnection) -> sqlx::Result<Snapshot> {
    begin(database).await?;
    let mut snapshot = parts(database, None).await?;
    snapshot.feeds = super::feeds::read(database).await?;
    snapshot.inconsistencies = inconsistencies(&mut *database).await?;
    sqlx::raw_sql("commit").execute(database).await?;
    Ok(snapshot)
}

/// Reads one chat and its members' inboxes. Right only where these users have no other chat.
///
/// # Errors
/// As [`read`].
pub async fn read_chat(database: &mut PgConnection, chat: Uuid) -> sqlx::Result<Snapshot> {
    begin(database).await?;
    let snapshot = parts(database, Some(chat)).await?;
    sqlx::raw_sql("commit").execute(database).await?;
    Ok(snapshot)
}

/// Says as sentences which tables do not agree with one another. It may be asked at any moment, whatever is under way: one
/// statement is one snapshot.
///
/// # Errors
/// When the database does not answer.
pub async fn inconsistencies<'c>(database: impl sqlx::PgExecutor<'c>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(include_str!("../consistency.sql")).fetch_all(database).await
}

async fn begin(database: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("begin isolation level repeatable read read only").execute(database).await?;
    Ok(())
}

async fn parts(database: &mut PgConnection, chat: Option<Uuid>) -> sqlx::Result<Snapshot> {
    let is_watched: bool = sqlx::query_scalar("select to_regclass('judge.membership') is not null").fetch_one(&mut *database).await?;
    let intervals = if is_watched { WATCHED } else { MEMBERS_NOW };
    Ok(Snapshot {
        chats: all(database, CHATS, chat, |row| Ok((row.try_get(0)?, row.try_get(1)?))).await?,
        purged: all(database, PURGED, chat, |row| Ok((row.try_get(0)?, row.try_get(1)?))).await?,
        messages: all(database, MESSAGES, chat, message).await?,
        rows: all(database, ROWS, chat, status_row).await?,
        notices: all(database, NOTICES, chat, |row| Ok(Notice { row: status_row(row)?, of: row.try_get(8)? })).await?,
        inboxes: all(database, INBOXES, chat, inbox).await?,
        gaps: all(database, GAPS, chat, |row| Ok((row.try_get(0)?, class(row, 1)?, row.try_get(2)?))).await?,
        members: all(database, MEMBERS, chat, member).await?,
        intervals: all(database, intervals, chat, interval).await?,
        feeds: super::Feeds::default(),
        keyless: all(database, KEYLESS, chat, |row| row.try_get(0)).await?,
        in_plain: all(database, IN_PLAIN, chat, |row| row.try_get(0)).await?,
        inconsistencies: Vec::new(),
    })
}

async fn all<T, C: FromIterator<T>>(
    database: &mut PgConnection,
    statement: &'static str,
    chat: Option<Uuid>,
    of: impl Fn(&PgRow) -> sqlx::Result<T>,
) -> sqlx::Result<C> {
    let rows = sqlx::query(statement).bind(chat).fetch_all(database).await?;
    rows.iter().map(of).collect()
}

fn message(row: &PgRow) -> sqlx::Result<(Uuid, Message)> {
    let message = Message {
        chat: row.try_get(1)?,
        seq: row.try_get(2)?,
        sender: row.try_get(3)?,
        content: row.try_get(4)?,
        is_over: row.try_get(5)?,
        is_recalled: row.try_get(6)?,
        is_sealed: row.try_get(7)?,
    };
    Ok((row.try_get(0)?, message))
}

fn inbox(row: &PgRow) -> sqlx::Result<Inbox> {
    Ok(Inbox {
        user: row.try_get(0)?,
        class: class(row, 1)?,
        last_seq: row.try_get(2)?,
        settled_seq: row.try_get(3)?,
        purged_seq: row.try_get(4)?,
    })
}

fn member(row: &PgRow) -> sqlx::Result<Member> {
    Ok(Member {
        chat: row.try_get(0)?,
        user: row.try_get(1)?,
        joined: row.try_get(2)?,
        left: row.try_get(3)?,
        delivered: row.try_get(4)?,
        read: row.try_get(5)?,
        purged: row.try_get(6)?,
    })
}

fn interval(row: &PgRow) -> sqlx::Result<MemberInterval> {
    Ok(MemberInterval { chat: row.try_get(0)?, user: row.try_get(1)?, joined: row.try_get(2)?, left: row.try_get(3)? })
}
