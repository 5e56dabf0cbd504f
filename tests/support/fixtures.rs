//! Users, chats and sends to test with, and the check of the whole database after a test.

use std::sync::Arc;

use restante::delivery::{Accepted, Acks, Chain, Delivery, Refusal, SendItem};
use restante::domain::{ChatId, ExternalId, MessageId, Profile, UserId};
use restante::store::Store;
use restante_judge::snapshot::inconsistencies;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, PgPool};
use uuid::Uuid;

use super::Node;

/// A user as the lanes know it, made if it is new.
pub async fn user(store: &Store, name: &str) -> Arc<Profile> {
    let name = ExternalId::try_from(name.to_owned()).unwrap();
    Arc::new(store.sign_in(name, None, None).await.unwrap().profile)
}

/// Users of these names.
pub async fn users<const N: usize>(store: &Store, names: [&str; N]) -> [Arc<Profile>; N] {
    let mut made = Vec::with_capacity(N);
    for name in names {
        made.push(user(store, name).await);
    }
    made.try_into().unwrap()
}

/// A group of these users.
pub async fn group(pool: &PgPool, members: &[UserId]) -> ChatId {
    let chat = ChatId::generate();
    let members: Vec<i64> = members.iter().map(|user| user.0).collect();
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("insert into chats (id, kind) values ($1, 'group')").bind(chat.0).execute(&mut *transaction).await.unwrap();
    sqlx::query("insert into chat_heads (chat_id) values ($1)").bind(chat.0).execute(&mut *transaction).await.unwrap();
    for table in ["chat_members", "marks"] {
        let add = format!("insert into {table} (chat_id, user_id) select $1, unnest($2::bigint[])");
        sqlx::query(AssertSqlSafe(add)).bind(chat.0).bind(&members).execute(&mut *transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
    chat
}

/// `n` users and a group of all of them and `also`, made at once.
pub async fn crowd(pool: &PgPool, n: i32, also: &[UserId]) -> ChatId {
    let made = "select id from restante_users((select array_agg('crowd-' || i) from generate_series(1, $1) i))";
    let ids: Vec<i64> = sqlx::query_scalar(made).bind(n).fetch_all(pool).await.unwrap();
    let members: Vec<UserId> = ids.into_iter().map(UserId).chain(also.iter().copied()).collect();
    group(pool, &members).await
}

/// A text of this sender to this chat, with an id of its own.
pub fn text(sender: &Arc<Profile>, chat: ChatId, content: impl Into<String>) -> SendItem {
    SendItem {
        id: MessageId::generate(),
        sender: Arc::clone(sender),
        origin: None,
        chat,
        message_type: "text".to_owned(),
        content: content.into(),
        metadata: None,
        expires_at: None,
        chain: Chain::default(),
    }
}

/// Acks of messages by their ids.
pub fn acks(user: &Arc<Profile>, messages: &[MessageId]) -> Acks {
    Acks { user: Arc::clone(user), rows: Vec::new(), by_id: messages.to_vec(), marks: Vec::new(), device: None }
}

/// Sends it and waits for its commit.
pub async fn sent(delivery: &Delivery, item: SendItem) -> Accepted {
    delivery.send(item).await.unwrap()
}

/// The lanes of a node.
pub fn delivery(node: &Node) -> &Delivery {
    node.app().delivery()
}

/// The store of a node.
pub fn store(node: &Node) -> &Store {
    node.app().store()
}

/// Somebody else with `psql` and an open transaction.
pub struct LockHolder {
    connection: PgConnection,
}

impl LockHolder {
    /// Begins a transaction and runs these statements in it.
    pub async fn holds(options: &PgConnectOptions, statements: &str) -> Self {
        let mut connection = options.connect().await.unwrap();
        let begin = format!("begin; {statements}");
        sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut connection).await.unwrap();
        Self { connection }
    }

    /// One more statement in the transaction.
    pub async fn run(&mut self, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut self.connection).await.unwrap();
    }

    /// Ends the transaction.
    pub async fn commits(mut self) {
        self.run("commit").await;
    }
}

/// `select … for update` on a chat.
pub fn lock_chat(chat: ChatId) -> String {
    format!("select from chat_heads where chat_id = '{chat}' for update")
}

/// `select … for update` on a user's chat inbox.
pub fn lock_inbox(user: UserId) -> String {
    format!("select from inboxes where user_id = {} and class = 'chat' for update", user.0)
}

/// The error code of a refusal that must have come.
pub fn refusal(answer: Result<Accepted, Refusal>) -> Refusal {
    answer.expect_err("it should have been refused")
}

/// Panics if tables do not agree with one another. It may be called at any moment, whatever is under way.
pub async fn assert_consistent(pool: &PgPool) {
    let found = inconsistencies(pool).await.unwrap();
    assert_eq!(found, Vec::<String>::new());
}

/// A count or sum.
pub async fn number(pool: &PgPool, statement: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_one(pool).await.unwrap()
}

/// Waits until a query says true. Panics after the usual patience.
pub async fn until(pool: &PgPool, what: &str, question: &str) {
    let begun = std::time::Instant::now();
    while !sqlx::query_scalar::<_, bool>(AssertSqlSafe(question.to_owned())).fetch_one(pool).await.unwrap() {
        assert!(begun.elapsed() < super::PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Waits until this is so, and lets other tasks run meanwhile. Panics after the usual patience.
pub async fn until_so(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < super::PATIENCE, "waited in vain until {what}");
        tokio::task::yield_now().await;
    }
}

/// An id as SQL.
pub fn quoted(id: Uuid) -> String {
    format!("'{id}'")
}
