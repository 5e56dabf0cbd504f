//! Least privilege in the database: each role that `restante grants` gives its rights does what it is for, and is refused everything else.

use std::collections::BTreeSet;
use std::process::Stdio;

use restante::app;
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::support::fixtures::number;
use crate::support::{Database, Node, empty_database};

mod refused;

/// A schema whose rights are divided, and how each role connects to it.
struct Divided {
    db: Database,
    own: PgPool,
    owner: String,
    script: String,
    service: PgConnectOptions,
    application: PgConnectOptions,
    analyst: PgConnectOptions,
}

async fn run(pool: &PgPool, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
}

async fn texts(connection: &mut PgConnection, question: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(question.to_owned())).fetch_all(connection).await.unwrap_or_else(|error| panic!("{question}: {error}"))
}

/// The error code of statements that are refused.
async fn code(connection: &mut PgConnection, statements: &str) -> String {
    let done = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await;
    let error = done.err().unwrap_or_else(|| panic!("it should have been refused: {statements}"));
    error.as_database_error().unwrap_or_else(|| panic!("{statements}: {error}")).code().unwrap_or_default().into_owned()
}

/// The lines that `restante grants` prints.
async fn printed(options: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_restante")).arg("grants").args(options).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// The same database with this search path.
fn within(options: PgConnectOptions, schema: &str) -> PgConnectOptions {
    options.options([("search_path", schema)])
}

impl Divided {
    async fn make(schema: &str) -> Self {
        let db = empty_database("").await;
        let own = db.pool(2).await;
        app::migrate(&app::Database::new(within(db.options(), schema))).await.unwrap();
        // The script makes the owner anew, under a name that is dropped with the database.
        let (owner, _) = db.role().await;
        run(&own, &format!("drop role {owner}")).await;
        let [(service, as_service), (application, as_application), (analyst, as_analyst)] =
            [db.role().await, db.role().await, db.role().await];
        let script =
            printed(&["--schema", schema, "--owner", &owner, "--service", &service, "--application", &application, "--analyst", &analyst])
                .await;
        // Rights that were given by hand go.
        for what in ["tables", "sequences", "functions"] {
            run(&own, &format!("grant all on all {what} in schema {schema} to {service}, {application}, {analyst}")).await;
        }
        run(&own, &script).await;
        let [service, application, analyst] = [as_service, as_application, as_analyst].map(|options| within(options, schema));
        Self { db, own, owner, script, service, application, analyst }
    }

    /// Lets the application's role send as these users.
    async fn allow(&self, senders: &[&str]) {
        let insert = "insert into application_senders select $1, unnest($2::text[])";
        let senders: Vec<String> = senders.iter().map(|sender| (*sender).to_owned()).collect();
        sqlx::query(insert).bind(self.application.get_username()).bind(senders).execute(&self.own).await.unwrap();
    }
}

/// The lines are run as they are printed, by psql, twice.
#[tokio::test]
async fn psql_runs_the_lines_as_they_are_printed_and_again_for_names_of_any_kind() {
    let db = empty_database("").await;
    let own = db.pool(1).await;
    app::migrate(&app::Database::new(within(db.options(), "\"Of 'Its' \"\"Own\"\"\""))).await.unwrap();
    let (owner, _) = db.role().await;
    let (service, _) = db.role().await;
    let (odd, _) = db.role().await;
    let odd_name = format!("{odd} \\'; $restante$ --\"");
    run(&own, &format!("drop role {owner}; alter role {odd} rename to \"{}\"", odd_name.replace('"', "\"\""))).await;
    let schema = "Of 'Its' \"Own\"";
    let lines = printed(&["--schema", schema, "--owner", &owner, "--service", &service, "--application", &odd_name]).await;
    let psql = restante_postgres::program("psql").unwrap();
    // Without what only sqlx understands.
    let url = db.url();
    let (address, parameters) = url.split_once('?').unwrap_or((&url, ""));
    let known = parameters.split('&').filter(|parameter| !parameter.starts_with("statement-cache-capacity"));
    let url = format!("{address}?{}", known.collect::<Vec<_>>().join("&"));
    for _ in 0..2 {
        let mut command = Command::new(&psql);
        command.args(["--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--quiet", "--dbname", &url]);
        let mut running = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = running.stdin.take().unwrap();
        stdin.write_all(lines.as_bytes()).await.unwrap();
        drop(stdin);
        let done = running.wait_with_output().await.unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success() && done.stdout.is_empty(), "{said}");
    }
    let may = format!(
        "select has_function_privilege(r.oid, p.oid, 'execute')::int::bigint from pg_roles r, pg_proc p where r.rolname like '{odd}%' and p.proname = 'restante_send'"
    );
    assert_eq!(number(&own, &may).await, 1);
    run(&own, &format!("alter role \"{}\" rename to {odd}", odd_name.replace('"', "\"\""))).await;
}

#[tokio::test]
async fn everything_that_migrations_make_belongs_to_an_owner_that_cannot_log_in() {
    let divided = Divided::make("restante").await;
    let Divided { own, owner, .. } = &divided;
    let others = format!(
        "select count(*) from (
           select c.relname, c.relowner as owner from pg_class c where c.relnamespace = 'restante'::regnamespace
           union all select p.proname, p.proowner from pg_proc p where p.pronamespace = 'restante'::regnamespace
           union all select t.typname, t.typowner from pg_type t where t.typnamespace = 'restante'::regnamespace) o
          where o.owner <> '{owner}'::regrole"
    );
    assert_eq!(number(own, &others).await, 0);
    assert_eq!(number(own, &format!("select count(*) from pg_roles where rolname = '{owner}' and not rolcanlogin")).await, 1);
    let definers = "select count(*) from pg_proc p where p.pronamespace = 'restante'::regnamespace and p.prosecdef
                      and p.proconfig @> array['search_path=restante, pg_temp']";
    assert_eq!(number(own, definers).await, 5);
    let for_everybody = "select count(*) from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                          where p.pronamespace = 'restante'::regnamespace and a.grantee = 0";
    assert_eq!(number(own, for_everybody).await, 0);
}

/// The lines for the service are those of docs/operations.md for a role that serves, and name each table.
#[tokio::test]
async fn the_rights_of_the_service_are_those_that_are_documented_and_name_every_table() {
    let rights = |text: &str, role: &str| -> BTreeSet<(String, String)> {
        let code = text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
        let statements: Vec<String> = code.split(';').map(str::to_owned).collect();
        let grants = statements.into_iter().filter_map(|statement| {
            let (rights, rest) = statement.trim().strip_prefix("grant ")?.split_once(" on ")?;
            let (tables, to) = rest.trim().trim_start_matches("table").rsplit_once(" to ")?;
            (to.trim_matches('"') == role && !tables.contains("schema ") && rights != "execute")
                .then(|| (rights.to_owned(), tables.replace("\"public\".", "").replace('"', "")))
        });
        grants
            .flat_map(|(rights, tables)| {
                let pairs = tables.split(',').map(|table| table.trim().to_owned()).collect::<Vec<_>>();
                rights
                    .split(',')
                    .map(|right| right.trim().to_owned())
                    .flat_map(move |right| pairs.clone().into_iter().map(move |table| (right.clone(), table)))
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    let script = printed(&["--owner", "o", "--service", "app"]).await;
    let document = include_str!("../../docs/operations.md").split("**Two roles**").nth(1).unwrap().split("```").nth(1).unwrap();
    let (printed, documented) = (rights(&script, "app"), rights(document, "app"));
    assert!(printed.len() > 80, "{printed:?}");
    assert_eq!(printed, documented);
    let own = empty_database("").await;
    app::migrate(&app::Database::new(own.options())).await.unwrap();
    let mut connection = own.options().connect().await.unwrap();
    let tables = "select c.relname::text from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname <> 'application_senders'";
    for table in texts(&mut connection, tables).await {
        assert!(printed.contains(&("select".to_owned(), table.clone())), "src/cli/grants/service.rs says nothing of {table}");
    }
}

#[tokio::test]
async fn a_service_an_application_and_an_analyst_each_do_what_they_are_for() {
    let divided = Divided::make("restante").await;
    // Run again it changes nothing that a node or an application would notice.
    let node = Node::start(divided.service.clone()).await;
    run(&divided.own, &divided.script).await;
    let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);
    let chat = alice.send("bob", "from a client").await["chatId"].as_str().unwrap().to_owned();
    let first = bob.event("message:receive").await;
    bob.ask("message:reject", json!({"messageId": first["messageId"], "reason": "cannot", "final": true})).await;
    let items = json!({"items": [{"messageId": first["messageId"], "userId": "bob"}]});
    let (_, answer) = node.admin().post("/v1/admin/dead-letters/requeue", items).await;
    assert_eq!(answer["results"][0]["outcome"], "requeued");
    let again = bob.event("message:receive").await;
    bob.ack(&again).await;

    let insert = format!("insert into restante.application_senders values ('{}', 'alice')", divided.application.get_username());
    run(&divided.own, &insert).await;
    let mut application = divided.application.connect().await.unwrap();
    let send = format!("select restante_send('{chat}', 'alice', 'from the application')::text");
    let sent = texts(&mut application, &send).await.remove(0);
    let message = bob.event("message:receive").await;
    assert_eq!((&message["messageId"], &message["content"]), (&json!(sent), &json!("from the application")));
    bob.ack(&message).await;
    let publish = "select restante_publish('alice', 'new_order', '{\"n\": 1}', array['bob'])::text";
    let published = texts(&mut application, publish).await.remove(0);
    assert_eq!(bob.event("event:receive").await["eventId"], json!(published));
    texts(&mut application, &format!("select restante_recall('{sent}', 'alice')::text")).await;
    let notice = bob.wait("the recall", |frame| frame["data"]["recallId"].is_string()).await;
    assert_eq!(notice["data"]["messageId"], json!(sent));

    let mut analyst = divided.analyst.connect().await.unwrap();
    let seen = "select count(*)::text from analyst_messages m join analyst_users u on u.id = m.sender_id join analyst_deliveries d on d.message_id = m.id
                 where u.external_id = 'alice' and m.message_type in ('text', 'new_order') and d.status <> 'sent'";
    assert_eq!(texts(&mut analyst, seen).await, ["2"], "what was sent and acked; nobody has acked the event");
    texts(&mut analyst, "select count(*)::text from statistics union all select count(*)::text from event_statistics").await;
    node.stop().await;
}

/// The deferred triggers run as the session's role when it commits, so they need the owner's rights of their own.
#[tokio::test]
async fn what_an_application_has_asked_for_is_accepted_at_its_commit_and_gone_with_its_rollback() {
    let divided = Divided::make("public").await;
    divided.allow(&["alice"]).await;
    let mut application = divided.application.connect().await.unwrap();
    let chat = refused::direct_chat(&divided.own).await;
    let asks = format!("select restante_send('{chat}', 'alice', 'one'), restante_publish('alice', 'e', null, array['bob'])");
    for (end, messages) in [("rollback", 0), ("commit", 2)] {
        sqlx::raw_sql(AssertSqlSafe(format!("begin; {asks}; {end}"))).execute(&mut application).await.unwrap();
        assert_eq!(number(&divided.own, "select count(*) from messages").await, messages, "{end}");
        assert_eq!(number(&divided.own, "select count(*) from message_status").await, messages, "{end}");
    }
    assert_eq!(number(&divided.own, "select count(*) from outgoing").await, 0);
}

#[tokio::test]
async fn set_role_makes_nobody_another_sender() {
    let divided = Divided::make("public").await;
    let (other, _) = divided.db.role().await;
    let chat = refused::direct_chat(&divided.own).await;
    // A role that may call the function, and that may send as bob when it logs in itself.
    run(
        &divided.own,
        &format!(
            "grant execute on function restante_send to {other}; grant {other} to {}; insert into application_senders values ('{other}', 'bob')",
            divided.application.get_username()
        ),
    )
    .await;
    divided.allow(&["alice"]).await;
    let mut application = divided.application.connect().await.unwrap();
    let send = |sender: &str| format!("set role {other}; select restante_send('{chat}', '{sender}', 'x')");
    assert_eq!(code(&mut application, &send("bob")).await, "42501", "the role that has logged in is asked about");
    sqlx::raw_sql(AssertSqlSafe(send("alice"))).execute(&mut application).await.unwrap();
    assert_eq!(number(&divided.own, "select count(*) from messages").await, 1);
}

#[tokio::test]
async fn an_empty_sender_stands_for_every_user_and_a_superuser_is_not_asked() {
    let divided = Divided::make("public").await;
    let chat = refused::direct_chat(&divided.own).await;
    let send = |sender: &str| format!("select restante_send('{chat}', '{sender}', 'x')");
    let mut application = divided.application.connect().await.unwrap();
    assert_eq!(code(&mut application, &send("alice")).await, "42501", "no row: it may send as nobody");
    divided.allow(&[""]).await;
    for sender in ["alice", "bob"] {
        sqlx::raw_sql(AssertSqlSafe(send(sender))).execute(&mut application).await.unwrap();
    }
    run(&divided.own, "delete from application_senders").await;
    assert_eq!(code(&mut application, &send("alice")).await, "42501");
    run(&divided.own, &send("bob")).await;
    assert_eq!(number(&divided.own, "select count(*) from messages").await, 3);
}

/// A later version migrates as the owner, whom a member of it becomes with its address or by a setting of its role.
#[tokio::test]
async fn a_member_of_the_owner_migrates_and_the_nodes_have_rights_on_what_is_new() {
    let divided = Divided::make("restante").await;
    let (migrator, options) = divided.db.role().await;
    run(&divided.own, &format!("grant {} to {migrator}", divided.owner)).await;
    let options = options.options([("role", divided.owner.as_str()), ("search_path", "restante")]);
    app::migrate(&app::Database::new(options.clone())).await.unwrap();
    let mut connection = options.connect().await.unwrap();
    let new = "create table added (n bigint generated always as identity); create function restante_added() returns int language sql as 'select 1'";
    sqlx::raw_sql(AssertSqlSafe(new.to_owned())).execute(&mut connection).await.unwrap();
    let mut service = divided.service.connect().await.unwrap();
    sqlx::raw_sql("insert into added default values; select restante_added(); delete from added").execute(&mut service).await.unwrap();
    let mut application = divided.application.connect().await.unwrap();
    assert_eq!(code(&mut application, "select restante_added()").await, "42501");
}

#[tokio::test]
async fn roles_from_which_no_right_can_be_taken_are_refused_and_nothing_is_changed() {
    let db = empty_database("").await;
    let own = db.pool(1).await;
    app::migrate(&app::Database::new(db.options())).await.unwrap();
    let names = [db.role().await.0, db.role().await.0, db.role().await.0];
    let [owner, service, application] = names.each_ref().map(String::as_str);
    run(&own, &format!("drop role {owner}")).await;
    let script = printed(&["--owner", owner, "--service", service, "--application", application]).await;
    for (makes, undoes, why) in [
        (format!("alter role {service} superuser"), format!("alter role {service} nosuperuser"), "is a superuser, or may make roles"),
        (
            format!("alter role {application} createrole"),
            format!("alter role {application} nocreaterole"),
            "is a superuser, or may make roles",
        ),
        (format!("grant {service} to {application}"), format!("revoke {service} from {application}"), "is a member of"),
        (
            format!("grant pg_read_all_data to {application}"),
            format!("revoke pg_read_all_data from {application}"),
            "is a member of pg_read_all_data",
        ),
        (format!("create role {owner} login"), format!("drop role {owner}"), "may log in"),
        (format!("create role {owner}; grant {owner} to {service}"), format!("drop role {owner}"), "is a member of"),
        (
            "alter table jobs rename to tasks".to_owned(),
            "alter table tasks rename to jobs".to_owned(),
            "has no jobs: run `restante migrate` first",
        ),
    ] {
        run(&own, &makes).await;
        let refused = sqlx::raw_sql(AssertSqlSafe(script.clone())).execute(&own).await.expect_err(&makes).to_string();
        assert!(refused.contains(why), "{makes}: {refused}");
        run(&own, &format!("rollback; {undoes}")).await;
    }
    assert_eq!(number(&own, "select count(*) from pg_proc where prosecdef and pronamespace = 'public'::regnamespace").await, 0);
    run(&own, &script).await;
    assert_eq!(number(&own, "select count(*) from pg_proc where prosecdef and pronamespace = 'public'::regnamespace").await, 5);
}

/// In a database that the service's role has made for itself, schema and database go to the owner too.
#[tokio::test]
async fn a_role_that_owned_everything_keeps_what_it_needs_to_serve_and_no_more() {
    let db = empty_database("").await;
    let (service, options) = db.role().await;
    let (owner, _) = db.role().await;
    let own = db.pool(1).await;
    run(&own, &format!("drop role {owner}; alter database {} owner to {service}", db.name())).await;
    app::migrate(&app::Database::new(options.clone())).await.unwrap();
    run(&own, &printed(&["--owner", &owner, "--service", &service]).await).await;
    let mut connection = options.connect().await.unwrap();
    for statement in [
        "create table public.mine ()",
        "drop table messages",
        "truncate messages",
        "create schema mine",
        "alter table users add column x int",
    ] {
        assert_eq!(code(&mut connection, statement).await, "42501", "{statement}");
    }
    let node = Node::start(options).await;
    node.connect("alice").await.send("bob", "hello").await;
    node.stop().await;
}
