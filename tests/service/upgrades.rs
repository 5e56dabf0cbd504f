//! Deploys, cut-overs and a new operating system on an existing schema: the service brings it up to date, waits for it, or refuses it.

use std::time::{Duration, Instant};

use restante::app::{self, App, MigrationLockTimeouts, StartError};
use restante::store::{objects, own_line};
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};

use crate::support::fixtures::number;
use crate::support::{Connect, Log, Node, PrivateServer, config, database, empty_database, secret};

const SHORT: MigrationLockTimeouts = MigrationLockTimeouts { lock: Duration::from_secs(3), table: Duration::from_secs(3) };

async fn run(pool: &PgPool, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
}

async fn texts(pool: &PgPool, question: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(question.to_owned())).fetch_all(pool).await.unwrap()
}

async fn start(options: PgConnectOptions) -> Result<App, StartError> {
    App::start(&config(), app::Database::new(options), Some(&secret().into())).await
}

/// If this fails, a migration is written in a form that `src/store/objects.rs` does not know.
#[tokio::test]
async fn the_objects_that_the_migrations_make_are_those_that_the_schema_has() {
    let db = database().await;
    let made = "\
        select case when c.relkind = 'i' then 'index ' else 'table ' end || c.relname from pg_class c
         where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v', 'i') and c.relname not like '\\_sqlx%'
           and not exists (select from pg_constraint k where k.conindid = c.oid)
        union select 'constraint ' || k.conname from pg_constraint k
         where k.connamespace = 'public'::regnamespace and k.contype not in ('t', 'n') and k.conname not like '\\_sqlx%'
        union select 'trigger ' || t.tgname from pg_trigger t where not t.tgisinternal
        union select 'function ' || p.proname from pg_proc p where p.pronamespace = 'public'::regnamespace
        union select 'type ' || t.typname from pg_type t where t.typnamespace = 'public'::regnamespace and t.typtype in ('e', 'd')";
    let mut made = texts(&db.pool(1).await, made).await;
    made.sort_unstable();
    assert_eq!(objects(app::MIGRATIONS.iter()).into_iter().collect::<Vec<_>>(), made);
}

#[test]
fn the_release_line_of_the_migrations_is_that_of_the_program() {
    let version = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));
    assert_eq!(own_line(&app::MIGRATIONS), version, "a migration that opens a line is named …_line_0_2.sql");
}

async fn note(pool: &PgPool, version: i64, description: &str) {
    let row = format!("insert into _sqlx_migrations values ({version}, '{description}', now(), true, 'x', 1)");
    run(pool, &row).await;
}

#[tokio::test]
async fn a_program_goes_on_with_a_later_schema_of_its_line_and_refuses_that_of_the_next() {
    let db = database().await;
    let own = db.pool(1).await;
    note(&own, 20_990_101_000_000, "a column more").await;
    run(&own, "alter table users add column nickname text").await;
    let node = Node::start(db.options()).await;
    node.connect("alice").await.send("bob", "hello").await;
    node.stop().await;
    app::migrate(&app::Database::new(db.options())).await.unwrap();
    note(&own, 20_990_101_000_001, "line 0 99").await;
    let refused = start(db.options()).await.unwrap_err().to_string();
    assert!(refused.contains("of the release line 0.99, and this program of 0.1: it is older than the database"), "{refused}");
}

/// Takes what a migration waits for, over a connection that says who it is.
async fn holder(options: &PgConnectOptions, statements: &str) -> PgConnection {
    let mut holder = options.clone().application_name("a migration of the application").connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut holder).await.unwrap();
    holder
}

async fn waited_in_vain(options: &PgConnectOptions) -> String {
    let begun = Instant::now();
    let error = app::migrate_within(&app::Database::new(options.clone()), SHORT).await.unwrap_err();
    assert!(matches!(error, StartError::Waited { .. }) && error.may_pass(), "{error:?}");
    assert!(begun.elapsed() >= Duration::from_secs(3));
    error.to_string()
}

#[tokio::test]
async fn migrations_wait_for_others_within_bounds_and_say_for_whom() {
    let db = empty_database("").await;
    let held = "the migrations waited for 3 s for a lock, held by process";
    // Another migrator holds sqlx's lock.
    let mut other = holder(&db.options(), "select 1").await;
    sqlx::migrate::Migrate::lock(&mut other).await.unwrap();
    let told = waited_in_vain(&db.options()).await;
    assert!(told.starts_with(held) && told.contains("(a migration of the application, role "), "{told}");
    assert_eq!(number(&db.pool(1).await, "select count(*) from pg_class where relnamespace = 'public'::regnamespace").await, 0);
    sqlx::migrate::Migrate::unlock(&mut other).await.unwrap();

    sqlx::raw_sql("begin; create table users ()").execute(&mut other).await.unwrap();
    let told = waited_in_vain(&db.options()).await;
    assert!(told.starts_with(held) && told.contains("pg_terminate_backend("), "{told}");
    sqlx::raw_sql("rollback").execute(&mut other).await.unwrap();
    Node::start(db.options()).await.stop().await;
}

#[tokio::test]
async fn a_start_with_nothing_to_do_waits_for_no_migration() {
    let db = database().await;
    let mut other = holder(&db.options(), "select 1").await;
    sqlx::migrate::Migrate::lock(&mut other).await.unwrap();
    Node::start(db.options()).await.stop().await;
}

/// Broken by sequences that stay where logical replication has left them: the first new user would get the number of an old one.
#[tokio::test]
async fn after_a_cut_over_new_users_get_new_numbers_and_no_sequence_goes_back() {
    let db = database().await;
    let own = db.pool(1).await;
    run(&own, "insert into users (id, external_id) overriding system value select n, 'user-' || n from generate_series(1, 40) n").await;
    run(&own, "insert into inboxes (user_id, class) select id, c from users, unnest(enum_range(null::inbox_class)) c").await;
    assert_eq!(number(&own, "select count(*) from users_id_seq where is_called").await, 0);
    let node = Node::start(db.options()).await;
    node.connect("somebody new").await.send("user-7", "hello").await;
    assert_eq!(number(&own, "select id from users where external_id = 'somebody new'").await, 41);
    node.stop().await;
    // Numbers that were given and not used are not given again.
    run(&own, "select setval('users_id_seq', 90)").await;
    app::migrate(&app::Database::new(db.options())).await.unwrap();
    assert_eq!(number(&own, "select last_value from users_id_seq").await, 90);
}

#[tokio::test]
async fn no_index_is_sorted_by_an_order_that_a_new_operating_system_may_change() {
    let db = database().await;
    let sorted = "\
        select c.relname || ' by ' || k.collname from pg_index i join pg_class c on c.oid = i.indexrelid, unnest(i.indcollation::oid[]) o (oid)
          join pg_collation k on k.oid = o.oid
         where c.relnamespace = 'public'::regnamespace and k.collname not in ('C', 'POSIX')
        union
        select c.relname || ' by ' || k.collname from pg_class c
          join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid and d.refclassid = 'pg_collation'::regclass
          join pg_collation k on k.oid = d.refobjid
         where c.relnamespace = 'public'::regnamespace and c.relkind = 'i' and k.collname not in ('C', 'POSIX')";
    assert_eq!(texts(&db.pool(1).await, sorted).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_order_that_has_changed_is_refused_where_an_index_depends_on_it_and_mended_as_it_says() {
    let server = PrivateServer::start().await;
    let postgres = server.database_without_schema("postgres").await;
    let made = "create database shop template template0 encoding 'UTF8' locale_provider icu icu_locale 'en-US'";
    sqlx::raw_sql(made).execute(&mut postgres.connect().await.unwrap()).await.unwrap();
    let options = server.database("shop").await;
    let own = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect_with(options.clone()).await.unwrap();
    let log = Log::of_this_thread();
    run(&own, "update pg_database set datcollversion = '1.2' where datname = 'shop'").await;
    start(options.clone()).await.unwrap().stop().await;
    let warned = log.take().into_iter().any(|line| line.message.contains("the order of text has changed under the database"));
    assert!(warned, "nothing of ours depends on it");
    run(&own, "create index \"by Name\" on users (display_name); create index by_title on chats (title collate \"de-x-icu\")").await;
    run(&own, "update pg_collation set collversion = '1.2' where collname = 'de-x-icu'").await;
    for _ in 0..2 {
        let refused = start(options.clone()).await.unwrap_err().to_string();
        let (first, statements) = refused.split_once('\n').unwrap();
        assert!(first.contains("was of version 1.2"), "{refused}");
        for statement in statements.lines() {
            run(&own, statement).await;
        }
    }
    start(options.clone()).await.unwrap().stop().await;
    Node::start(options).await.open(Connect::user("ann")).await;
}
