//! Restante in the application's own database: in a schema of its own, beside tables of the same names, or not at all.

use restante::app::{self, App, StartError};
use restante::store::Unfit;
use serde_json::json;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions};

use crate::support::fixtures::{number, store, until, users};
use crate::support::{Connect, Database, Log, Node, config, database, empty_database, secret};

/// The tables of an application that uses sqlx, as its migrations leave them.
const APPLICATION: &str = "\
create table users (id serial primary key, email text not null);
create table messages (id serial primary key, body text);
create table _sqlx_migrations (version bigint primary key, description text not null, installed_on timestamptz not null default now(),
  success boolean not null, checksum bytea not null, execution_time bigint not null);
insert into _sqlx_migrations values (20250101000000, 'users', now(), true, 'x', 1);";

/// Everything that is in the database, by schema.
const ALL: &str = "\
select count(*) from (
  select relnamespace from pg_class union all select pronamespace from pg_proc union all select typnamespace from pg_type
  union all select oid from pg_namespace) a";

async fn pool(options: &PgConnectOptions) -> PgPool {
    PgPoolOptions::new().max_connections(4).connect_with(options.clone()).await.unwrap()
}

/// The same database with this search path, as `?options=-c%20search_path%3D…` says it.
fn within(options: &PgConnectOptions, search_path: &str) -> PgConnectOptions {
    options.clone().options([("search_path", search_path)])
}

async fn run(pool: &PgPool, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
}

async fn refused(options: PgConnectOptions) -> StartError {
    App::start(&config(), app::Database::new(options), Some(&secret().into())).await.expect_err("it should have refused")
}

/// Refuses to start and to migrate, and leaves the database as it was. Returns what it says.
async fn refused_untouched(db: &Database, options: &PgConnectOptions) -> String {
    let pool = db.pool(1).await;
    let before = number(&pool, ALL).await;
    let refusal = refused(options.clone()).await;
    assert!(matches!(refusal, StartError::Unfit(_)), "{refusal:?}");
    let again = app::migrate(&app::Database::new(options.clone())).await.unwrap_err();
    assert_eq!(again.to_string(), refusal.to_string());
    assert_eq!(number(&pool, ALL).await, before, "{refusal}");
    assert_eq!(number(&pool, "select count(*) from pg_locks l join pg_database d on d.oid = l.database where l.locktype = 'advisory' and d.datname = current_database()").await, 0);
    pool.close().await;
    refusal.to_string()
}

/// Of each schema, how many tables and functions it has.
async fn sizes(pool: &PgPool, schema: &str) -> [i64; 2] {
    let count = |what: &str| format!("select count(*) from {what} = '{schema}'::regnamespace");
    let tables = number(pool, &count("pg_class where relkind = 'r' and relnamespace")).await;
    [tables, number(pool, &count("pg_proc where pronamespace")).await]
}

#[tokio::test]
async fn in_the_applications_database_everything_is_in_the_schema_that_the_address_names() {
    let db = empty_database("").await;
    let own = db.pool(2).await;
    run(&own, APPLICATION).await;
    let options = within(&db.options(), "restante");
    let node = Node::start(options.clone()).await;
    assert_eq!(sizes(&own, "public").await, [3, 0], "the application's three tables, and nothing of ours");
    assert_eq!(number(&own, "select count(*) from _sqlx_migrations").await, 1);
    assert_eq!(number(&pool(&options).await, "select count(*) from _sqlx_migrations").await, app::MIGRATIONS.iter().count() as i64);

    // The application's session has its own search path, and calls us by our full name in its own transaction.
    let mut alice = node.connect("alice").await;
    let mut bob = node.connect("bob").await;
    let chat = alice.send("bob", "from a client").await["chatId"].as_str().unwrap().to_owned();
    assert_eq!(bob.event("message:receive").await["content"], "from a client");
    let send = format!(
        "insert into messages (body) values ('an order'); select restante.restante_send('{chat}', 'alice', 'from the application')"
    );
    run(&own, &send).await;
    let message = bob.event("message:receive").await;
    assert_eq!(message["content"], "from the application");
    bob.ack(&message).await;
    alice.wait("delivered", |frame| frame["event"] == "message:status" && frame["data"]["seq"] == 2).await;
    let trace =
        format!("select count(*) from restante.delivery_trace('{}') where status = 'delivered'", message["messageId"].as_str().unwrap());
    until(&own, "it is delivered", &format!("select ({trace}) = 1")).await;
    node.stop().await;
    Node::start(options).await.stop().await;
}

#[tokio::test]
async fn two_schemas_of_one_database_neither_hear_nor_block_one_another() {
    let db = empty_database("").await;
    let (first, second) = (within(&db.options(), "one"), within(&db.options(), "\"Another One\""));
    let (one, other) = (Node::start(first.clone()).await, Node::start(second.clone()).await);
    assert_ne!(one.app().context().epoch.as_str(), other.app().context().epoch.as_str());
    assert!(one.app().context().notifier.is_alone() && other.app().context().notifier.is_alone());
    let channels = ["one", "\"Another One\""].map(|schema| format!("select {schema}.restante_wake_channel()"));
    let own = db.pool(2).await;
    let mut names = Vec::new();
    for channel in channels {
        names.push(sqlx::query_scalar::<_, String>(AssertSqlSafe(channel)).fetch_one(&own).await.unwrap());
    }
    assert_ne!(names[0], names[1]);
    // Users of the same number in both: what wakes one must not be told to the other.
    let [_, bob] = users(store(&one), ["alice", "bob"]).await;
    let [_, other_bob] = users(store(&other), ["alice", "bob"]).await;
    assert_eq!(bob.user, other_bob.user);
    let mut listener = sqlx::postgres::PgListener::connect_with(&own).await.unwrap();
    listener.listen_all(names.iter().map(String::as_str)).await.unwrap();
    run(&own, &format!("select one.restante_wake(array[{}])", bob.user.0)).await;
    assert_eq!(listener.recv().await.unwrap().channel(), names[0]);

    // Presence is changed under a lock of the schema's, which the other's is free of.
    let mut holder = db.options().connect().await.unwrap();
    sqlx::raw_sql("begin; select one.restante_presence_lock()").execute(&mut holder).await.unwrap();
    let mut ann = other.open(Connect::user("ann")).await;
    ann.send("bob", "hello").await;
    until(&own, "she is online", "select exists (select from \"Another One\".presence_leases)").await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn the_applications_tables_and_its_record_of_migrations_are_refused_and_left_as_they_are() {
    let db = empty_database("").await;
    let own = db.pool(1).await;
    run(&own, APPLICATION).await;
    let told = refused_untouched(&db, &db.options()).await;
    assert!(told.contains("it has a migration 20250101000000") && told.contains("search_path%3Drestante"), "{told}");
    run(&own, "drop table _sqlx_migrations").await;
    let told = refused_untouched(&db, &db.options()).await;
    assert!(told.starts_with("the schema public has a table messages that is not Restante's"), "{told}");
    run(&own, "drop table messages, users; create view users as select 1").await;
    let told = refused_untouched(&db, &db.options()).await;
    assert!(told.contains("table users"), "what has the name of a table of ours is in its way: {told}");
}

#[tokio::test]
async fn tables_that_are_not_ours_and_have_other_names_are_in_nobodys_way() {
    let db = empty_database("").await;
    run(&db.pool(1).await, "create table orders (id bigint); create function total() returns int language sql as 'select 1'").await;
    Node::start(db.options()).await.stop().await;
}

#[tokio::test]
async fn a_role_without_rights_is_told_the_statement_that_gives_them() {
    let db = empty_database("").await;
    let (role, options) = db.role().await;
    let own = db.pool(1).await;
    let options = within(&options, "restante");
    let told = refused_untouched(&db, &options).await;
    let remedy = format!("create schema restante authorization {role}");
    assert!(told.ends_with(&format!("`{remedy}`")), "{told}");
    run(&own, &remedy).await;
    Node::start(options.clone()).await.stop().await;
    run(&own, &format!("alter schema restante owner to current_user; revoke all on schema restante from {role}")).await;
    let told = refused_untouched(&db, &options).await;
    let remedy = format!("grant usage, create on schema restante to {role}");
    assert!(told.ends_with(&format!("`{remedy}`")), "{told}");
    // Serving needs no right to make anything.
    run(&own, &format!("grant usage on schema restante to {role}")).await;
    Node::start(options).await.stop().await;
}

/// The grants of docs/operations.md for the role that serves. The role makes no table, and has the schema as a setting, as behind a
/// pooler.
#[tokio::test]
async fn a_role_that_only_serves_needs_what_is_documented_and_no_more() {
    let db = empty_database("").await;
    let (role, options) = db.role().await;
    let own = db.pool(1).await;
    app::migrate(&app::Database::new(within(&db.options(), "restante"))).await.unwrap();
    let document = include_str!("../../docs/operations.md").split("**Two roles**").nth(1).unwrap();
    let grants = document
        .split("```")
        .nth(1)
        .unwrap()
        .trim_start_matches("sql")
        .replace(" public ", " restante ")
        .replace(" app;", &format!(" {role};"));
    run(&own, &format!("set search_path = restante; {grants}; set search_path = public")).await;
    run(&own, &format!("alter role {role} in database {} set search_path = restante", db.name())).await;
    let log = Log::of_this_thread();
    let node = Node::start(options).await;
    let mut bob = node.connect("bob").await;
    let chat = node.connect("alice").await.send("bob", "hello").await["chatId"].as_str().unwrap().to_owned();
    let first = bob.event("message:receive").await;
    run(&own, &format!("set role {role}; select restante.restante_send('{chat}', 'alice', 'from SQL'); reset role")).await;
    assert_eq!(bob.event("message:receive").await["content"], "from SQL");
    bob.ask("message:reject", json!({"messageId": first["messageId"], "reason": "cannot", "final": true})).await;
    node.stop().await;
    let warned: Vec<_> = log.take().into_iter().filter(|line| line.message.contains("not compared with its column")).collect();
    assert!(warned.is_empty(), "{warned:?}");
}

/// `sqlx migrate run`, in whatever version: it knows nothing of schemas but the search path of its connection.
#[tokio::test]
async fn what_a_plain_client_has_migrated_is_taken_as_it_is() {
    let migrations = Migrator::new(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))).await.unwrap();
    for search_path in ["public", "restante, public", "\"Of Its Own\""] {
        let db = empty_database("").await;
        let own = db.pool(1).await;
        if search_path != "public" {
            run(&own, &format!("{APPLICATION} create schema {}", search_path.trim_end_matches(", public"))).await;
        }
        let options = within(&db.options(), search_path);
        migrations.run(&mut options.connect().await.unwrap()).await.unwrap();
        let node = Node::start(options).await;
        node.connect("alice").await.send("bob", "hello").await;
        node.stop().await;
        // Names of the application's come later in the path of none of our functions.
        let strays = "select count(*) from pg_proc p join pg_namespace n on n.oid = p.pronamespace, unnest(p.proconfig) c \
                      where n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema' and c like 'search_path=%' \
                      and c <> 'search_path=' || quote_ident(n.nspname) || ', pg_temp'";
        assert_eq!(number(&own, strays).await, 0, "{search_path}");
    }
}

#[tokio::test]
async fn a_search_path_that_goes_on_to_where_the_tables_are_makes_none_before_them() {
    let db = database().await;
    let own = db.pool(1).await;
    let (role, options) = db.role().await;
    run(&own, &format!("create schema authorization {role}; grant all on all tables in schema public to {role}")).await;
    // Its default search path is "$user", public.
    let told = refused_untouched(&db, &options).await;
    assert!(told.contains(&format!("begins with the schema {role}")) && told.contains("goes on to public, where it is"), "{told}");
    let told = refused_untouched(&db, &within(&db.options(), "restante,public")).await;
    assert!(told.contains("begins with the schema restante,") && !told.contains("create schema"), "{told}");
    let told = refused_untouched(&db, &within(&db.options(), "\"\"")).await;
    assert!(told.contains("names no schema"), "{told}");
    Node::start(within(&db.options(), "\"$user\",public")).await.stop().await;
}

#[tokio::test]
async fn two_ways_to_the_database_that_see_different_schemas_are_refused_with_the_line_that_helps() {
    let db = empty_database("").await;
    let direct = within(&db.options(), "restante");
    app::migrate(&app::Database::new(direct.clone())).await.unwrap();
    let database = app::Database { options: db.options(), direct };
    let refusal = App::start(&config(), database, Some(&secret().into())).await.unwrap_err();
    assert!(matches!(refusal, StartError::TwoSchemas { .. }), "{refusal:?}");
    let line = refusal.to_string().lines().last().unwrap().trim().to_owned();
    assert!(line.contains(&format!("in database {} set search_path = restante;", db.name())), "{line}");
    assert!(refusal.to_string().contains("see the schema public, and those of DATABASE_DIRECT_URL restante"), "{refusal}");
}

#[tokio::test]
async fn a_schema_that_was_renamed_is_refused_since_its_functions_look_for_their_tables_where_they_were() {
    let db = empty_database("").await;
    app::migrate(&app::Database::new(within(&db.options(), "restante"))).await.unwrap();
    run(&db.pool(1).await, "alter schema restante rename to messaging").await;
    let told = refused_untouched(&db, &within(&db.options(), "messaging")).await;
    assert!(told.contains("has search_path=restante, pg_temp), as when a schema was renamed"), "{told}");
}

#[tokio::test]
async fn a_database_in_another_encoding_is_refused() {
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let db = empty_database(&format!("encoding '{encoding}' lc_collate 'C' lc_ctype 'C' template template0")).await;
        let told = refused_untouched(&db, &db.options()).await;
        assert!(told.starts_with(&format!("the database {} has the encoding {encoding}", db.name())), "{told}");
    }
}

/// A restore that is not finished: `pg_restore` makes functions, tables, rows, and at last keys.
#[tokio::test]
async fn a_schema_that_is_restored_in_part_is_refused_and_left_to_the_restore() {
    let db = database().await;
    let own = db.pool(1).await;
    run(&own, "alter table chat_members drop constraint members_are_users").await;
    let told = refused_untouched(&db, &db.options()).await;
    assert!(told.contains("is not whole (constraint members_are_users is missing)"), "{told}");
    run(&own, "truncate _sqlx_migrations").await;
    let told = refused_untouched(&db, &db.options()).await;
    assert!(told.contains("the record of what was applied is missing"), "{told}");
    run(&own, "drop table _sqlx_migrations").await;
    assert!(matches!(refused(db.options()).await, StartError::Unfit(Unfit::Half { .. })));
    assert_eq!(number(&own, "select count(*) from pg_class where relname = '_sqlx_migrations'").await, 0);
}
