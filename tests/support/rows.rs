//! Rows that tests write into the database themselves, and reads of the database.

use std::time::{Duration, Instant};

use sqlx::postgres::PgPool;
use uuid::Uuid;

/// Tells whether a transaction waits for a lock in this database. Other databases of the server belong to other tests.
pub const SOMEBODY_WAITS: &str =
    "select count(*) > 0 from pg_locks where not granted and pid in (select pid from pg_stat_activity where datname = current_database())";

/// A row of somebody's inbox.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Row {
    /// Its number.
    pub seq: i64,
    /// `sent`, `delivered`, …
    pub status: String,
    /// Attempts counted.
    pub attempts: i16,
    /// The reason of its end.
    pub reason: Option<String>,
}

/// Makes a group; the first member is its admin. Users are made on first sight.
pub async fn group(pool: &PgPool, members: &[&str]) -> Uuid {
    let chat = Uuid::now_v7();
    let ids = users(pool, members).await;
    sqlx::query("select restante_create_group($1, $2, null, $3)").bind(chat).bind(ids[0]).bind(&ids).execute(pool).await.unwrap();
    chat
}

/// The direct chat of two users, made if it is missing.
pub async fn direct(pool: &PgPool, one: &str, other: &str) -> Uuid {
    let ids = users(pool, &[one, other]).await;
    sqlx::query_scalar("select restante_direct_chat($1, $2)").bind(ids[0]).bind(ids[1]).fetch_one(pool).await.unwrap()
}

/// The numbers of users, in the order asked for.
pub async fn users(pool: &PgPool, names: &[&str]) -> Vec<i64> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    // One statement would join the tables as they were before the users were made.
    sqlx::query("select from restante_users($1)").bind(&names).execute(pool).await.unwrap();
    let found = "select u.id from unnest($1::text[]) with ordinality n (name, ord) join users u on u.external_id = n.name order by n.ord";
    sqlx::query_scalar(found).bind(&names).fetch_all(pool).await.unwrap()
}

/// Accepts `count` messages at once, as a lane would: `1`, `2`, … Nobody is woken.
pub async fn fill(pool: &PgPool, chat: Uuid, sender: &str, count: i32) {
    let sender = users(pool, &[sender]).await[0];
    let accepted: i64 = sqlx::query_scalar(
        "select cardinality(array_positions(outcomes, 'accepted'))::bigint from restante_accept(
           (select array_agg(gen_random_uuid()) from generate_series(1, $3)), array_fill($1::uuid, array[$3]), array_fill($2::bigint, array[$3]),
           array_fill('text'::text, array[$3]), (select array_agg(n::text order by n) from generate_series(1, $3) n),
           array_fill(null::text, array[$3]), array_fill(null::timestamptz, array[$3]))",
    )
    .bind(chat)
    .bind(sender)
    .bind(count)
    .fetch_one(pool)
    .await
    .unwrap();
    assert_eq!(accepted, i64::from(count));
}

/// A user's chat inbox.
pub async fn rows(pool: &PgPool, user: &str) -> Vec<Row> {
    let rows = "select s.seq, s.status::text, s.attempts, s.reason from message_status s join users u on u.id = s.user_id
                where u.external_id = $1 and s.class = 'chat' order by s.seq";
    sqlx::query_as(rows).bind(user).fetch_all(pool).await.unwrap()
}

/// The statuses of a user's chat inbox, by number.
pub async fn statuses(pool: &PgPool, user: &str) -> Vec<String> {
    rows(pool, user).await.into_iter().map(|row| row.status).collect()
}

/// The number that a statement without parameters returns.
pub async fn number(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// Looks again and again at what another process gives no signal of, until the question is answered with true.
pub async fn until_true(pool: &PgPool, sql: &str) {
    let begun = Instant::now();
    while !sqlx::query_scalar::<_, bool>(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(pool).await.unwrap() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain until {sql}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
