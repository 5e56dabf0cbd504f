//! Settings of a session do not divert the functions of the schema: neither temporary tables, nor a search path, nor an isolation level
//! in which a statement after a lock sees the rows from before it. The functions are found in the catalogues, so a new one is tested too.

use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, PgPool};

use crate::support::database;
use crate::support::fixtures::{assert_consistent, number};

async fn texts(connection: &mut PgConnection, question: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(question.to_owned())).fetch_all(connection).await.unwrap_or_else(|error| panic!("{question}: {error}"))
}

async fn run(connection: &mut PgConnection, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
}

/// A function with a body of standard SQL looks for nothing: its names were bound when it was made.
#[tokio::test]
async fn every_function_looks_in_its_own_schema_and_in_temporary_ones_last() {
    let db = database().await;
    let mut connection = db.options().connect().await.unwrap();
    let elsewhere = "select proname || ': ' || coalesce(proconfig::text, 'no settings') from pg_proc
                      where pronamespace = 'public'::regnamespace and prosqlbody is null
                        and not coalesce(proconfig @> array['search_path=' || quote_ident('public') || ', pg_temp'], false)";
    assert_eq!(texts(&mut connection, elsewhere).await, Vec::<String>::new());
    assert!(texts(&mut connection, "select proname::text from pg_proc where pronamespace = 'public'::regnamespace").await.len() > 30);
}

/// Each of our tables as a temporary one, and once more in a schema that the search path names first; there also operators that raise
/// instead of comparing, and functions of PostgreSQL's names that do.
const DIVERSIONS: &str = "
    create schema diverted;
    do $$
    declare
      v_table text;
      v_type  text;
    begin
      for v_table in select c.relname from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' loop
        execute format('create temporary table %I (like public.%1$I including all)', v_table);
        execute format('create table diverted.%I (like public.%1$I including all)', v_table);
      end loop;
      foreach v_type in array array['uuid', 'bigint', 'text', 'timestamptz', 'public.delivery_status', 'public.inbox_class', 'xid8'] loop
        execute format('create function diverted.compares(%1$s, %1$s) returns boolean language plpgsql as $f$ begin raise ''diverted''; end $f$', v_type);
        execute format('create operator diverted.= (leftarg = %1$s, rightarg = %1$s, function = diverted.compares)', v_type);
        execute format('create operator diverted.> (leftarg = %1$s, rightarg = %1$s, function = diverted.compares)', v_type);
      end loop;
    end $$;
    create function diverted.clock_timestamp() returns timestamptz language plpgsql as $f$ begin raise 'diverted'; end $f$;
    create function diverted.pg_current_xact_id() returns xid8 language plpgsql as $f$ begin raise 'diverted'; end $f$;
    create function diverted.restante_wake(bigint[]) returns void language plpgsql as $f$ begin raise 'diverted'; end $f$;
    create function diverted.restante_accept(uuid[], uuid[], bigint[], text[], text[], text[], timestamptz[]) returns void language plpgsql as $f$ begin raise 'diverted'; end $f$;
    set search_path = pg_temp, diverted, pg_catalog, public";

/// The calls of applications, operators and the service, in an order in which each of them does something. `$user`, `$chat` and
/// `$message` are made by the first three.
const CALLS: [&str; 61] = [
    "begin; select restante_send('$chat', 'alice', 'first', p_message_id => '$message'); commit",
    "begin; select restante_send('$chat', 'alice', n::text) from pg_catalog.generate_series(1, 5) n; savepoint s; select restante_send('$chat', 'alice', 'late'); rollback to s; commit",
    "select restante_open('bob', 'Bob', null, 'phone', '{0}', 100, '{chat,alert,event}')",
    "select restante_purge_devices(0, '', 1000, 10)",
    "select restante_settle('{$user}', '{chat}', '{2}', '{$user}', '{$chat}', '{0}', '{$user}', '{$chat}', '{$user}', '{phone}', '{chat}', '{1}')",
    "select restante_settle('{$user}', '{chat}', '{3}', '{$user}', '{$chat}', '{0}', '{}', '{}', '{}', '{}', '{}', '{}')",
    "select restante_attempt('{$user}', '{chat}', '{1}', '{no}', '{true}', 5)",
    "select restante_dead_letters(null, 'bob', null, 'epoch', 'n', 'infinity', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 9000000000000000000, 50)",
    "select restante_requeue('$message', 'bob')",
    "select restante_discard('$message', 'bob')",
    "select delivery_trace('$message')",
    "select restante_read('{$user}', '{$chat}', '{4}', 100)",
    "select restante_advance_settled($user, 'chat')",
    "select restante_history($user, '$chat', 0, null, 50), restante_history($user, '$chat', null, 5, 50)",
    "select restante_users('{dora}')",
    "select restante_create_group('00000000-0000-0000-0000-00000000000b', $user, 'ours', '{}')",
    "select restante_add_members('00000000-0000-0000-0000-00000000000b', $user, array[(select id from public.users where external_id operator(pg_catalog.=) 'dora')], 10)",
    "begin; select restante_send('00000000-0000-0000-0000-00000000000b', 'bob', 'to dora'); commit",
    "select restante_remove_members('00000000-0000-0000-0000-00000000000b', $user, '{$user}')",
    "insert into public.departures (user_id, chat_id, after_seq, up_to_seq) values ($user, '$chat', 0, 0); select restante_end_departures(10)",
    "insert into public.marks_behind (chat_id, user_id) values ('$chat', $user); select restante_catch_up_marks(4)",
    "update public.messages set expires_at = pg_catalog.now() where seq operator(pg_catalog.=) 6; select restante_expire('epoch', '00000000-0000-0000-0000-000000000000', 'infinity', 10, 10)",
    "select restante_beat('00000000-0000-0000-0000-00000000000a', 8000)",
    "select restante_arrive('00000000-0000-0000-0000-00000000000a', '{$user}')",
    "select restante_depart('00000000-0000-0000-0000-00000000000a', '{$user}', '{10}')",
    "select restante_arrive('00000000-0000-0000-0000-00000000000a', '{$user}')",
    "select restante_leave('00000000-0000-0000-0000-00000000000a', 0)",
    "select restante_reap(10)",
    "select restante_acquire_job('expire', '00000000-0000-0000-0000-00000000000a', 8000), restante_acquire_job('a new one', '00000000-0000-0000-0000-00000000000a', 8000)",
    "select restante_advance_job('expire', '00000000-0000-0000-0000-00000000000a', 1, 'here', 8000)",
    "select restante_release_job('a new one', '00000000-0000-0000-0000-00000000000a', 1)",
    "begin; select restante_make_feed('alice', 'news', null, '00000000-0000-0000-0000-0000000000fe'), restante_follow('00000000-0000-0000-0000-0000000000fe', '{bob}'); commit",
    "begin; select restante_publish('alice', 'new_post', '{}', p_feed => '00000000-0000-0000-0000-0000000000fe'), restante_publish('alice', 'hello', '{}', '{bob}', p_collapse_key => 'key', p_merge => '{\"n\": \"count\"}'); commit",
    "select restante_set_preferences('bob', '{like}', '{$chat}')",
    "select restante_revoke('bob', 'phone', null, 'stolen')",
    "select restante_set_limit('bob', 5), restante_set_limit('alice', 5), restante_set_limit('alice', 1)",
    "insert into public.accounts (name, password_hash) values ('erna', '$argon2id$x'); select restante_log_in('erna', '$argon2id$x', null, '00000000-0000-0000-0000-0000000000a1', '00000000-0000-0000-0000-0000000000f1', sha256('1'), '1 hour', '2 hours', 10, '1 minute'), restante_log_in('erna', '$argon2id$x', '$argon2id$y', '00000000-0000-0000-0000-0000000000a2', '00000000-0000-0000-0000-0000000000f2', sha256('2'), '1 hour', '2 hours', 1, '1 minute')",
    "select restante_refresh_login('00000000-0000-0000-0000-0000000000f2', sha256('2'), sha256('3'), '1 hour', '0', '1 minute'), restante_change_password('erna', '$argon2id$y', '$argon2id$z', '00000000-0000-0000-0000-0000000000a2', '1 minute')",
    "select restante_log_in('erna', '$argon2id$z', null, '00000000-0000-0000-0000-0000000000a3', '00000000-0000-0000-0000-0000000000f3', sha256('1'), '1 hour', '2 hours', 10, '1 minute'), restante_log_out(null, '00000000-0000-0000-0000-0000000000f3', '1 minute')",
    "insert into public.accounts (name, password_hash) values ('fred', '$argon2id$x'), ('spare', '$argon2id$y'); select restante_end_all_logins('fred'), restante_replace_password('fred', 'spare')",
    "select restante_take($user, 'event', 50, 1000)",
    "begin; select restante_publish('alice', 'new_post', '{}', p_feed => '00000000-0000-0000-0000-0000000000fe'); commit",
    "select restante_take_together('00000000-0000-0000-0000-0000000000fe', array[$user]::pg_catalog.int8[], 8, 1000)",
    "select restante_fan_out(0, 'chat', 10, 1000)",
    "select restante_cap_events(9223372036854775807, 0, 100, 10, 10)",
    "select restante_unfollow('00000000-0000-0000-0000-0000000000fe', '{bob}')",
    "select restante_recall((select id from public.messages where chat_id operator(pg_catalog.=) '$chat' and seq operator(pg_catalog.=) 2), 'alice')",
    "select restante_recall_part(null, '00000000-0000-0000-0000-000000000000', 10)",
    "select restante_block('alice', 'dora'), restante_unblock('alice', 'dora'), restante_block('bob', 'dora')",
    "select restante_invite('00000000-0000-0000-0000-00000000000b', 'dora', '{alice}'), restante_decline_invitation('alice', '00000000-0000-0000-0000-00000000000b')",
    "update public.invitations set declined_at = null; select restante_accept_invitation('alice', '00000000-0000-0000-0000-00000000000b')",
    "select restante_request_contact('alice', 'dora'), restante_accept_contact('dora', 'alice'), restante_request_contact('alice', 'bob'), restante_decline_contact('bob', 'alice')",
    "select restante_ask_may_send($user, '$chat', null)",
    "select restante_count_journal('-infinity', 500, 5000, 50)",
    "select restante_purge_statistics(90, 10)",
    "select restante_erase_user('dora', true), restante_leave_direct(3, '00000000-0000-0000-0000-00000000000b')",
    "update public.erasures set chat_id = '00000000-0000-0000-0000-00000000000b'; select restante_erase_messages(3, '00000000-0000-0000-0000-00000000000b', 10)",
    "update public.erasures set stage = 'events', chat_id = '00000000-0000-0000-0000-000000000000'; select restante_erase_events(3, 1000)",
    "select restante_erase_inbox(3, 10); select restante_erase_inbox(3, 10); select restante_erase_inbox(3, 10); select restante_erase_inbox(3, 10)",
    "update public.erasures set stage = 'people'; select restante_end_erasure_round(3); select restante_pass_on_name(3, 10)",
    "update public.erasures set stage = 'people'; select restante_end_erasure_round(3)",
];

/// The rows that the calls must have made in the schema's own tables.
const LANDED: [(&str, i64); 26] = [
    ("select count(*) from public.users", 4),
    ("select count(*) from public.messages", 11),
    ("select count(*) from public.message_status", 11),
    ("select count(*) from public.message_status where user_id = 2 and status >= 'delivered' and delivered_at is not null", 3),
    ("select count(*) from public.inbox_gaps", 1),
    ("select count(*) from public.endings where ended = 'discarded'", 1),
    ("select count(*) from public.endings where ended = 'expired'", 1),
    ("select count(*) from public.chat_members where left_seq is not null", 2),
    ("select count(*) from public.device_cursors", 3),
    ("select count(*) from public.last_seen", 1),
    ("select count(*) from public.preferences", 1),
    ("select count(*) from public.blocks", 1),
    ("select count(*) from public.contacts", 2),
    ("select count(*) from public.chat_members where chat_id = '00000000-0000-0000-0000-00000000000b' and left_seq is null", 1),
    ("select count(*) from public.invitations", 0),
    ("select count(*) from public.revocations", 4),
    ("select count(*) from public.erasures where round = 2 and done_at is not null", 1),
    ("select count(*) from public.endings where ended = 'left' and user_id = 3", 1),
    ("select count(*) from public.user_limits", 1),
    ("select count(*) from public.accounts where password_hash = '$argon2id$z'", 1),
    ("select count(*) from public.accounts where name = 'fred' and password_hash = '$argon2id$y'", 1),
    ("select count(*) from public.account_logins where secret_hash = sha256('3')", 1),
    ("select sum(accepted)::bigint from public.statistics", 11),
    ("select count(*) from public.nodes", 0),
    ("select count(*) from public.jobs where name = 'expire' and cursor = 'here' and holder is not null", 1),
    ("select count(*) from public.jobs where name = 'a new one' and lease_no = 1 and holder is null", 1),
];

async fn all_landed(pool: &PgPool) {
    for (question, expected) in LANDED {
        assert_eq!(number(pool, question).await, expected, "{question}");
    }
    assert_consistent(pool).await;
}

#[tokio::test]
async fn what_a_session_puts_in_the_way_of_a_function_gets_nothing_of_what_it_writes() {
    let db = database().await;
    let pool = db.pool(1).await;
    let mut connection = db.options().connect().await.unwrap();
    run(&mut connection, DIVERSIONS).await;
    texts(&mut connection, "select id::text from restante_users('{alice,bob}')").await;
    let chat = texts(&mut connection, "select restante_direct_chat(1, 2)::text").await.remove(0);
    let message = uuid::Uuid::now_v7().to_string();
    for call in CALLS {
        run(&mut connection, &call.replace("$user", "2").replace("$chat", &chat).replace("$message", &message)).await;
    }
    let rows = "select sum((xpath('/row/n/text()', query_to_xml(pg_catalog.format('select count(*) as n from %I.%I', n.nspname, c.relname), false, true, '')))[1]::text::bigint)::text
                  from pg_class c join pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
                 where c.relkind operator(pg_catalog.=) 'r' and (n.nspname operator(pg_catalog.=) 'diverted' or c.relpersistence operator(pg_catalog.=) 't')";
    assert_eq!(texts(&mut connection, rows).await, ["0"], "something has landed in a table of the session");
    all_landed(&pool).await;
}

/// Functions that lock or update and need not ask, and why.
const NEED_NOT_ASK: [(&str, &str); 14] = [
    ("guard_the_status", "a trigger: it reads the row that was updated"),
    ("restante_lock_marks", "called by those that ask, and reads nothing"),
    ("restante_exact_marks", "called by those that ask"),
    ("restante_note_recount", "called by those that ask, and reads nothing"),
    ("restante_open", "reads without a lock; restante_advance_settled asks"),
    ("restante_new_device", "a device it cannot see is a conflict, which ends such a transaction"),
    ("restante_beat", "a heartbeat has a row of its own"),
    ("restante_leave", "its row is its own too"),
    ("restante_users", "locks nothing: a user it cannot see is a conflict, which ends such a transaction"),
    ("restante_cap", "called by those that ask"),
    ("restante_collapse", "called by those that ask"),
    ("restante_note_merged", "called by those that ask"),
    ("restante_cap_rows", "called by those that ask"),
    ("restante_presence_lock", "called by those that ask, and reads nothing"),
];

#[tokio::test]
async fn every_function_that_reads_after_a_lock_refuses_a_transaction_with_one_snapshot() {
    let db = database().await;
    let mut connection = db.options().connect().await.unwrap();
    // Without arguments: what asks does so first.
    let locking = "select p.proname::text, pg_catalog.format('%I(%s)', p.proname, (select string_agg('null::' || t.oid::regtype, ', ' order by t.n) from unnest(p.proargtypes) with ordinality t (oid, n)))
                     from pg_proc p
                    where p.pronamespace = 'public'::regnamespace and p.provolatile = 'v' and p.prosrc ~ '(for update|for no key update|\\mupdate \\w+ \\w+ set|\\mupdate \\w+ \\w+\\s+set|on conflict)'
                    order by 1";
    let functions: Vec<(String, String)> = sqlx::query_as(locking).fetch_all(&mut connection).await.unwrap();
    let asking: Vec<_> = functions.iter().filter(|(name, _)| NEED_NOT_ASK.iter().all(|(known, _)| known != name)).collect();
    assert!(asking.len() > 12, "{asking:?}");
    for (name, why) in NEED_NOT_ASK {
        assert!(functions.iter().any(|(known, _)| known == name), "{name} ({why}) need not be named");
    }
    for level in ["repeatable read", "serializable"] {
        for (name, call) in &asking {
            run(&mut connection, &format!("begin isolation level {level}")).await;
            let said = sqlx::raw_sql(AssertSqlSafe(format!("select {call}"))).execute(&mut connection).await;
            let code = said.err().and_then(|error| error.into_database_error()).map(|error| error.code().unwrap_or_default().into_owned());
            assert_eq!(code.as_deref(), Some("25000"), "{name} in {level}: it locks and then reads, so it must ask for read committed");
            run(&mut connection, "rollback").await;
        }
    }
}
