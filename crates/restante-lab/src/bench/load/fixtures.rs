//! Users and chats, made in the database in a few statements. No scenario measures this.

use anyhow::ensure;
use sqlx::PgPool;
use uuid::Uuid;

use super::Progress;

/// Followers that are made in one transaction.
const FOLLOWERS_AT_ONCE: u32 = 10_000;

/// A user.
#[derive(Debug, Clone)]
pub struct User {
    /// Its external id.
    pub name: String,
    /// Its number in the database.
    pub id: i64,
}

/// Makes `count` users whose names begin with `part`. A name is used once in the life of a database.
pub async fn users(database: &PgPool, part: &str, count: u32) -> anyhow::Result<Vec<User>> {
    let run = Uuid::now_v7().simple().to_string();
    let names: Vec<String> = (0..count).map(|n| format!("{part}-{}-{n}", &run[20..])).collect();
    let mut made: Vec<(String, i64)> =
        sqlx::query_as("select external_id, id from restante_users($1)").bind(&names).fetch_all(database).await?;
    // Sorted by their numbers, which is another order than that of their names.
    made.sort_by_key(|(_, id)| *id);
    Ok(made.into_iter().map(|(name, id)| User { name, id }).collect())
}

/// Makes a direct chat for each pair, in their order.
pub async fn direct_chats(database: &PgPool, pairs: &[(i64, i64)]) -> anyhow::Result<Vec<Uuid>> {
    let (ones, others): (Vec<i64>, Vec<i64>) = pairs.iter().copied().unzip();
    let made = "select restante_direct_chat(p.one, p.other) from unnest($1::bigint[], $2::bigint[]) with ordinality p (one, other, n) order by p.n";
    Ok(sqlx::query_scalar(made).bind(&ones).bind(&others).fetch_all(database).await?)
}

/// Makes a group of this admin and these members.
pub async fn group_chat(database: &PgPool, admin: &User, members: &[User]) -> anyhow::Result<Uuid> {
    let (chat, members): (Uuid, Vec<i64>) = (Uuid::now_v7(), members.iter().map(|member| member.id).collect());
    let make = "select restante_create_group($1, $2, null, $3)";
    sqlx::query(make).bind(chat).bind(admin.id).bind(&members).execute(database).await?;
    Ok(chat)
}

/// Makes a feed of this publisher and `count` users who follow it. Returns its id, and them.
pub async fn followed_feed(database: &PgPool, publisher: &User, count: u32, progress: &Progress) -> anyhow::Result<(Uuid, Vec<User>)> {
    let feed: Uuid = sqlx::query_scalar("select restante_make_feed($1)").bind(&publisher.name).fetch_one(database).await?;
    let mut followers = Vec::new();
    while followers.len() < count as usize {
        let part = (count - u32::try_from(followers.len())?).min(FOLLOWERS_AT_ONCE);
        let made = users(database, "follower", part).await?;
        let names: Vec<&str> = made.iter().map(|user| user.name.as_str()).collect();
        sqlx::query("select restante_follow($1, $2)").bind(feed).bind(&names).execute(database).await?;
        followers.extend(made);
        progress.advance(u64::from(part));
    }
    Ok((feed, followers))
}

/// Senders, and users who are away. Each of these has a direct chat with one of the senders, in turn.
#[derive(Debug)]
pub struct Crowd {
    /// The senders.
    pub senders: Vec<User>,
    /// The users who are away.
    pub recipients: Vec<User>,
    /// The chat of each recipient.
    pub chats: Vec<Uuid>,
}

impl Crowd {
    /// Makes the users and the chats.
    pub async fn make(database: &PgPool, senders: u32, recipients: u32) -> anyhow::Result<Self> {
        ensure!(senders > 0 && recipients > 0, "without a sender or a recipient there is nothing to measure");
        let senders = users(database, "sender", senders).await?;
        let recipients = users(database, "recipient", recipients).await?;
        let pairs: Vec<_> = recipients.iter().zip(senders.iter().cycle()).map(|(to, from)| (from.id, to.id)).collect();
        let chats = direct_chats(database, &pairs).await?;
        Ok(Self { senders, recipients, chats })
    }

    /// Each chat with its sender.
    pub fn letters(&self) -> impl Iterator<Item = (Uuid, i64)> + Clone {
        self.chats.iter().copied().zip(self.senders.iter().map(|sender| sender.id).cycle())
    }
}
