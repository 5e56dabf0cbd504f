//! The statements of the naive service, in their simplest form. Each uses a key of the schema.

use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use super::frames::{Envelope, Letter};

/// A message that was stored.
pub struct Stored {
    /// Its number in the chat.
    pub seq: i64,
    /// The time.
    pub created_at: OffsetDateTime,
    /// The recipients, each with the number in its inbox.
    pub recipients: Vec<(i64, i64)>,
}

/// A row that an ack moved, for the receipt.
#[derive(sqlx::FromRow)]
pub struct Acked {
    /// The sender, who is told.
    pub sender_id: i64,
    /// The chat.
    pub chat_id: Uuid,
    /// The message's number there.
    pub seq: i64,
    /// The time.
    pub delivered_at: OffsetDateTime,
}

/// The user's number; the user is made when it is new.
pub async fn sign_in(pool: &PgPool, external: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar("select id from restante_users(array[$1])").bind(external).fetch_one(pool).await
}

/// Stores a message, a statement a step. `None`: the sender is no member.
pub async fn store(pool: &PgPool, sender: i64, letter: &Letter) -> sqlx::Result<Option<Stored>> {
    let mut transaction = pool.begin().await?;
    let member = "select true from chat_members where chat_id = $1 and user_id = $2 and left_seq is null";
    let is_member: Option<bool> = sqlx::query_scalar(member).bind(letter.chat_id).bind(sender).fetch_optional(&mut *transaction).await?;
    if is_member.is_none() {
        return Ok(None);
    }
    let number = "update chat_heads set last_seq = last_seq + 1 where chat_id = $1 returning last_seq";
    let seq: i64 = sqlx::query_scalar(number).bind(letter.chat_id).fetch_one(&mut *transaction).await?;
    let message = "insert into messages (id, chat_id, seq, sender_id, content, created_at) values ($1, $2, $3, $4, $5, clock_timestamp())
                   returning created_at";
    let message = sqlx::query_scalar(message).bind(letter.message_id).bind(letter.chat_id).bind(seq).bind(sender).bind(&letter.content);
    let created_at = message.fetch_one(&mut *transaction).await?;
    // In the order of the users, so that sends to two chats of the same members do not deadlock.
    let others = "select user_id from chat_members where chat_id = $1 and user_id <> $2 and left_seq is null order by user_id";
    let others: Vec<i64> = sqlx::query_scalar(others).bind(letter.chat_id).bind(sender).fetch_all(&mut *transaction).await?;
    let mut recipients = Vec::with_capacity(others.len());
    for user in others {
        let number = "update inboxes set last_seq = last_seq + 1 where user_id = $1 and class = 'chat' returning last_seq";
        let inbox_seq: i64 = sqlx::query_scalar(number).bind(user).fetch_one(&mut *transaction).await?;
        let row = "insert into message_status (user_id, class, seq, message_id) values ($1, 'chat', $2, $3)";
        sqlx::query(row).bind(user).bind(inbox_seq).bind(letter.message_id).execute(&mut *transaction).await?;
        recipients.push((user, inbox_seq));
    }
    transaction.commit().await?;
    Ok(Some(Stored { seq, created_at, recipients }))
}

/// The next rows that wait behind this number.
pub async fn page(pool: &PgPool, user: i64, after: i64, rows: i64) -> sqlx::Result<Vec<Envelope>> {
    let page = "select 'chat' as class, s.seq as inbox_seq, s.attempts + 1 as attempt, m.id as message_id, m.chat_id, m.seq,
                       u.external_id as sender_id, m.content, m.message_type, m.metadata, m.created_at,
                       u.display_name as name, u.avatar_url as profile_picture
                from message_status s join messages m on m.id = s.message_id join users u on u.id = m.sender_id
                where s.user_id = $1 and s.class = 'chat' and s.seq > $2 and s.status = 'sent'
                order by s.seq limit $3";
    sqlx::query_as(page).bind(user).bind(after).bind(rows).fetch_all(pool).await
}

/// An ack. `None`: the row did not wait any more.
pub async fn deliver(pool: &PgPool, user: i64, message: Uuid) -> sqlx::Result<Option<Acked>> {
    let deliver = "update message_status s set status = 'delivered', delivered_at = clock_timestamp()
                   from messages m
                   where s.message_id = $1 and s.user_id = $2 and s.status = 'sent' and m.id = s.message_id
                   returning m.sender_id, m.chat_id, m.seq, s.delivered_at";
    sqlx::query_as(deliver).bind(message).bind(user).fetch_optional(pool).await
}
