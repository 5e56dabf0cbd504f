//! The refusals of each role: every table, every function but its own, other senders, and whatever a session could put in the way of a
//! function that runs with the owner's rights.

use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, PgPool};

use super::{Divided, code, run, texts};
use crate::support::fixtures::number;

/// Each relation, and one of its columns behind a dot.
const TABLES: &str = "select c.relname || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum = 2
                       where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v') order by 1";
/// Calls without arguments. A strict function is not called for those, by whomever.
const FUNCTIONS: &str = "select format('%I(%s)', p.proname, (select string_agg('null::' || t.oid::regtype, ', ' order by t.n) from unnest(p.proargtypes) with ordinality t (oid, n)))
                           from pg_proc p where p.pronamespace = 'public'::regnamespace and not p.proisstrict order by 1";

/// The direct chat of alice and bob.
pub(super) async fn direct_chat(pool: &PgPool) -> String {
    run(pool, "select from restante_users('{alice,bob}')").await;
    sqlx::query_scalar("select restante_direct_chat(1, 2)::text").fetch_one(pool).await.unwrap()
}

/// Statements for each way to use a table, reading first.
fn uses(table: &str, column: &str) -> [String; 5] {
    [
        format!("select 1 from {table}"),
        format!("insert into {table} default values"),
        format!("update {table} set {column} = default"),
        format!("delete from {table}"),
        format!("truncate {table}"),
    ]
}

/// Every use of every relation is refused, but reading those that `may_read` names.
async fn no_table_but(role: &mut PgConnection, own: &mut PgConnection, may_read: &[&str]) {
    let tables = texts(own, TABLES).await;
    assert!(tables.len() > 35, "{tables:?}");
    for (table, column) in tables.iter().map(|name| name.split_once('.').unwrap()) {
        let writes = "select has_table_privilege(current_user, $1, 'insert, update, delete, truncate, references, trigger') or has_any_column_privilege(current_user, $1, 'insert, update, references')";
        assert!(!sqlx::query_scalar::<_, bool>(writes).bind(table).fetch_one(&mut *role).await.unwrap(), "{table}");
        let reads = sqlx::query_scalar::<_, bool>("select has_any_column_privilege(current_user, $1, 'select')");
        assert_eq!(reads.bind(table).fetch_one(&mut *role).await.unwrap(), may_read.contains(&table), "{table}");
        for statement in uses(table, column).iter().skip(usize::from(may_read.contains(&table))) {
            // A view cannot be truncated by anybody.
            let is_no_table = statement.starts_with("truncate analyst_");
            assert_eq!(code(role, statement).await, if is_no_table { "42809" } else { "42501" }, "{statement}");
        }
    }
    let sequences = "select count(*) from pg_class q where q.relkind = 'S' and q.relnamespace = 'public'::regnamespace and case when q.relkind = 'S' then has_sequence_privilege(q.oid, 'usage, select, update') end";
    assert_eq!(texts(role, &sequences.replace("count(*)", "count(*)::text")).await, ["0"]);
}

/// Every function is refused but these. Those that are, are refused before they look at an argument.
async fn no_function_but(role: &mut PgConnection, own: &mut PgConnection, may_call: &[&str]) {
    let functions = texts(own, FUNCTIONS).await;
    assert!(functions.len() > 80, "{functions:?}");
    for call in functions.iter().filter(|call| !may_call.contains(&call.split('(').next().unwrap())) {
        assert_eq!(code(role, &format!("select {call}")).await, "42501", "{call}");
    }
    let may = "select p.proname::text from pg_proc p where p.pronamespace = 'public'::regnamespace and has_function_privilege(p.oid, 'execute') order by 1";
    assert_eq!(texts(role, may).await, may_call);
}

/// The statements by which a role that is not the owner would change the schema: each is refused.
async fn changes_nothing(role: &mut PgConnection, owner: &str) {
    for statement in [
        "create table public.mine (n int)".to_owned(),
        "create view public.mine as select 1".to_owned(),
        "create function public.octet_length(text) returns int language sql as 'select 0'".to_owned(),
        "create or replace function public.restante_check_sender(regproc, text) returns void language sql as ''".to_owned(),
        "alter function public.restante_check_sender security definer".to_owned(),
        "drop function public.restante_check_sender".to_owned(),
        "alter table public.messages disable trigger all".to_owned(),
        "create trigger t after insert on public.outgoing execute function public.accept_outgoing()".to_owned(),
        "create rule r as on insert to public.outgoing do instead nothing".to_owned(),
        "comment on table public.messages is 'x'".to_owned(),
        "alter schema public rename to other".to_owned(),
        format!("set role {owner}"),
        format!("set session authorization {owner}"),
        "set session_replication_role = replica".to_owned(),
    ] {
        assert_eq!(code(role, &statement).await, "42501", "{statement}");
    }
}

#[tokio::test]
async fn an_application_calls_three_functions_as_its_senders_and_nothing_else() {
    let divided = Divided::make("public").await;
    let chat = direct_chat(&divided.own).await;
    divided.allow(&["alice"]).await;
    let mut own = divided.db.options().connect().await.unwrap();
    let mut application = divided.application.connect().await.unwrap();
    no_table_but(&mut application, &mut own, &[]).await;
    no_function_but(&mut application, &mut own, &["restante_publish", "restante_recall", "restante_send"]).await;
    changes_nothing(&mut application, &divided.owner).await;
    run(&divided.own, &format!("select restante_send('{chat}', 'bob', 'of bob', p_message_id => '00000000-0000-0000-0000-0000000000b0')"))
        .await;
    for forged in [
        format!("select restante_send('{chat}', 'bob', 'forged')"),
        format!("select restante_send('{chat}', null, 'forged')"),
        format!("select restante_send('{chat}', '', 'forged')"),
        "select restante_publish('bob', 'forged', null)".to_owned(),
        "select restante_publish('somebody new', 'forged', null)".to_owned(),
        "select restante_recall('00000000-0000-0000-0000-0000000000b0', 'bob')".to_owned(),
        "select restante_recall('00000000-0000-0000-0000-0000000000b0', 'alice')".to_owned(),
        format!("select restante_send('{chat}', 'alice', 'x', p_message_id => '00000000-0000-0000-0000-0000000000b0')"),
    ] {
        assert!(["42501", "23505"].contains(&code(&mut application, &forged).await.as_str()), "{forged}");
    }
    // As anybody, it is still no owner.
    divided.allow(&[""]).await;
    no_table_but(&mut application, &mut own, &[]).await;
    assert_eq!(number(&divided.own, "select count(*) from messages").await, 1);
    assert_eq!(number(&divided.own, "select count(*) from users").await, 2);
}

/// Temporary tables, functions, operators and types under the names that functions use.
const IN_THE_WAY: &str = "
    create temporary table application_senders (role_name text, sender text);
    insert into application_senders values (session_user, 'bob'), (session_user, '');
    create temporary table outgoing (xid xid8, place int, message_id uuid, chat_id uuid, sender_id bigint, message_type text, content text, metadata jsonb, expires_at timestamptz);
    create temporary table users (id bigint, external_id text);
    create temporary table chat_members (chat_id uuid, user_id bigint, left_seq bigint);
    create temporary table messages (id uuid, content text);
    create temporary table pg_proc (oid oid, prosecdef boolean);
    create function pg_temp.restante_check_sender(regproc, text) returns void language sql as '';
    create function pg_temp.restante_needs_read_committed() returns void language plpgsql as $f$ begin raise 'diverted'; end $f$;
    create function pg_temp.pg_has_role(name, name, text) returns boolean language sql as 'select true';
    create function pg_temp.octet_length(text) returns int language sql as 'select 0';
    create function pg_temp.equal(text, text) returns boolean language sql as 'select true';
    create operator pg_temp.= (leftarg = text, rightarg = text, function = pg_temp.equal);
    set search_path = pg_temp, pg_catalog, public;
    set transform_null_equals = on; set standard_conforming_strings = off; set row_security = off; set check_function_bodies = off;";

#[tokio::test]
async fn what_an_application_puts_in_the_way_of_a_function_neither_widens_nor_diverts_it() {
    let divided = Divided::make("public").await;
    let chat = direct_chat(&divided.own).await;
    divided.allow(&["alice"]).await;
    let mut application = divided.application.connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(IN_THE_WAY.to_owned())).execute(&mut application).await.unwrap();
    for forged in [
        format!("select public.restante_send('{chat}', 'bob', 'forged')"),
        "select public.restante_publish('bob', 'forged', null)".to_owned(),
    ] {
        assert_eq!(code(&mut application, &forged).await, "42501", "{forged}");
    }
    let send = format!("begin; select public.restante_send('{chat}', 'alice', 'sent'); commit");
    sqlx::raw_sql(AssertSqlSafe(send)).execute(&mut application).await.unwrap();
    assert_eq!(number(&divided.own, "select count(*) from messages where content = 'sent'").await, 1);
    assert_eq!(texts(&mut application, "select count(*)::text from pg_temp.outgoing").await, ["0"]);
    // The functions of triggers are no way in: neither called, nor put on a table of one's own.
    assert_eq!(code(&mut application, "select public.accept_outgoing()").await, "42501");
    for function in ["accept_outgoing", "publish_outgoing", "guard_the_status", "follow_everyone"] {
        let trigger = format!("create trigger t after insert on pg_temp.outgoing for each row execute function public.{function}()");
        assert_eq!(code(&mut application, &trigger).await, "42501", "{function}");
    }
}

#[tokio::test]
async fn an_analyst_reads_views_and_figures_and_no_word_of_what_people_say() {
    const WORD: &str = "nightingale";
    let divided = Divided::make("public").await;
    let chat = direct_chat(&divided.own).await;
    let planted = format!(
        "update users set display_name = '{WORD}', avatar_url = '{WORD}'; update chats set title = '{WORD}';
         select restante_send('{chat}', 'alice', '{WORD}', p_metadata => '{{\"{WORD}\": \"{WORD}\"}}', p_message_id => '00000000-0000-0000-0000-0000000000a0');
         select restante_publish('alice', 'e', '{{\"{WORD}\": \"{WORD}\"}}', array['bob'], p_collapse_key => '{WORD}');
         select restante_make_feed('alice', '{WORD}')"
    );
    run(&divided.own, &planted).await;
    run(&divided.own, &format!("select restante_attempt('{{2}}', '{{chat}}', '{{1}}', '{{{WORD}}}', '{{true}}', 5)")).await;
    run(&divided.own, &format!("select restante_discard('00000000-0000-0000-0000-0000000000a0', 'bob', '{WORD}')")).await;
    let mut own = divided.db.options().connect().await.unwrap();
    let mut analyst = divided.analyst.connect().await.unwrap();
    let may_read =
        ["analyst_chats", "analyst_deliveries", "analyst_members", "analyst_messages", "analyst_users", "event_statistics", "statistics"];
    no_table_but(&mut analyst, &mut own, &may_read).await;
    no_function_but(&mut analyst, &mut own, &[]).await;
    changes_nothing(&mut analyst, &divided.owner).await;
    for relation in may_read {
        let words = format!("select count(*)::text from {relation} x where x::text like '%{WORD}%'");
        assert_eq!(texts(&mut analyst, &words).await, ["0"], "{relation}");
    }
    assert_eq!(
        texts(&mut analyst, "select status::text || ' ' || ended from analyst_deliveries where class = 'chat'").await,
        ["failed discarded"]
    );
    // PostgreSQL knows the most frequent values of columns.
    run(&divided.own, "analyze").await;
    assert_eq!(
        texts(&mut analyst, "select count(*)::text from pg_stats where schemaname = 'public' and tablename !~ 'statistics$'").await,
        ["0"]
    );
}

#[tokio::test]
async fn the_service_changes_no_schema_forges_nobody_in_sql_and_rewrites_nothing_that_was_noted() {
    let divided = Divided::make("public").await;
    let chat = direct_chat(&divided.own).await;
    let mut own = divided.db.options().connect().await.unwrap();
    let mut service = divided.service.connect().await.unwrap();
    changes_nothing(&mut service, &divided.owner).await;
    for name in texts(&mut own, TABLES).await {
        let (table, _) = name.split_once('.').unwrap();
        assert_eq!(
            code(&mut service, &format!("truncate {table}")).await,
            if table.starts_with("analyst_") { "42809" } else { "42501" },
            "{table}"
        );
    }
    sqlx::raw_sql("select restante_audit('test', '{}', 'done')").execute(&mut service).await.unwrap();
    for statement in [
        format!("select restante_send('{chat}', 'alice', 'forged')"),
        "select restante_publish('alice', 'forged', null)".to_owned(),
        format!("insert into application_senders values ('{}', '')", divided.service.get_username()),
        "select * from application_senders".to_owned(),
        "update audit set actor = 'nobody'".to_owned(),
        "delete from audit".to_owned(),
        "update bus_keys set secret = ''".to_owned(),
        "delete from users".to_owned(),
        "update _sqlx_migrations set checksum = ''".to_owned(),
    ] {
        assert_eq!(code(&mut service, &statement).await, "42501", "{statement}");
    }
    // A row says truly when it was written, by which role and from where, whatever the statement says.
    let forged = "insert into audit (actor, action, target, outcome, role_name, at, address) values ('carol', 'test', '{}', 'done', 'postgres', '2020-01-01', '192.0.2.1')";
    sqlx::raw_sql(forged).execute(&mut service).await.unwrap();
    let truly = "select (role_name = session_user and at > now() - interval '1 hour' and address is not distinct from inet_client_addr())::text from audit where actor = 'carol'";
    assert_eq!(texts(&mut service, truly).await, ["true"]);
    for to in ["1000", "9223372036854775807"] {
        assert_eq!(code(&mut service, &format!("select setval('audit_id_seq', {to})")).await, "42501");
    }
    for id in ["1", "1000000", "currval('audit_id_seq') + 1"] {
        let chosen = format!(
            "insert into audit (id, actor, action, target, outcome) overriding system value values ({id}, 'carol', 'test', '{{}}', 'done')"
        );
        assert_eq!(code(&mut service, &chosen).await, "23000", "{id}");
    }
}
