//! No statement works for as long as somebody's backlog is. It looks at a part, and what lies behind is for the next one.
//!
//! Work is counted and not timed: entries of indexes that were read and rows that were written. The database holds inboxes of hundreds
//! of thousands of rows (depth.sql), so whatever walks one of them is found, and the planner is asked before
//! it has looked at them and after.

use restante::domain::{ChatId, ChatSeq, Class, InboxSeq, MessageId, NodeId, PageRow, PerClass, UserId};
use restante::store::{
    self, ExactMark, ExpiryCursor, LockTimeout, OpeningRequest, PLANNING, PageRequest, Place, ReadRequest, SettleBatch, Store,
};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::explain::{Known, run, statements, texts, values};
use crate::support::database;
use crate::support::fixtures::{assert_consistent, number};

/// The most numbers of an inbox that a statement reads …
const WINDOW: i64 = 50_000;
/// … and this is for all the rest of a statement.
const BESIDE: i64 = 25_000;
/// Messages of the chat, and of the inbox of `lagging`.
const DEEP: i64 = 500_000;
/// Numbers of the others.
const TAIL: i64 = 200_000;

/// Statements that count all there is: of an operator, who asks for it. The service itself runs none of them.
const OF_OPERATORS: [&str; 2] = ["delivery_trace", "status_counts"];

/// In a schema of its own: the functions of the other one are counted.
const WORK: &str = "
    create schema watch;
    create function watch.work() returns text language sql as $$
      select sum(pg_stat_get_xact_tuples_returned(c.oid) + pg_stat_get_xact_tuples_inserted(c.oid) + pg_stat_get_xact_tuples_updated(c.oid)
                 + pg_stat_get_xact_tuples_deleted(c.oid))::text
        from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'i')
    $$;
    create function watch.lock() returns void language sql as $$
      select set_config('watch.locked', coalesce(nullif(current_setting('watch.locked', true), ''), watch.work()), true)
    $$;
    create function watch.work_under_lock() returns text language sql as $$
      select (watch.work()::bigint - nullif(current_setting('watch.locked', true), '')::bigint)::text
    $$";

/// Makes the database note how much work was done when a transaction locks its first inbox.
async fn watch_the_lock(connection: &mut PgConnection) {
    let defined = texts(connection, "select pg_get_functiondef('restante_advance_settled'::regproc)").await.remove(0);
    let lock = "  select i.ctid";
    assert_eq!(defined.matches(lock).count(), 1);
    run(connection, &defined.replace(lock, &format!("  perform watch.lock();\n{lock}"))).await;
}

/// A member of the deep chat.
struct Member {
    name: &'static str,
    user: i64,
    /// The number of the chat before its first one.
    joined: i64,
}

fn deep() -> ChatId {
    ChatId("6627415e-807e-e33c-7302-917216e7da68".parse().unwrap())
}

/// The message of this number there.
fn message(n: i64) -> MessageId {
    MessageId(Uuid::from_u128(u128::try_from(n).unwrap()))
}

async fn members(connection: &mut PgConnection) -> Vec<Member> {
    let mut members = Vec::new();
    for (name, joined) in [("waits", DEEP - TAIL), ("overtaken", DEEP - TAIL), ("lagging", 0), ("unread", DEEP - TAIL)] {
        let user = texts(connection, &format!("select id::text from users where is_current and external_id = '{name}'")).await;
        members.push(Member { name, user: user[0].parse().unwrap(), joined });
    }
    members
}

/// The number of the admin of the deep chat, in SQL.
const ALICE: &str = "(select id from users where is_current and external_id = 'alice')";

/// The calls of the schema's functions, each in its most expensive case.
fn calls(member: &Member) -> Vec<String> {
    [of_feeds(member), of_erasing(member), of_chats_and_people(member), of_inboxes(member)].concat()
}

/// The calls of the functions that accept, change chats and what users are to one another, and of operators.
fn of_chats_and_people(&Member { name, user, joined }: &Member) -> Vec<String> {
    let (chat, first, last, alice) = (deep(), message(joined + 1), message(DEEP), ALICE);
    let dead = |of: &str| format!("select restante_dead_letters({of}, 'epoch', 'x', 'infinity', '{}', 0, 50)", Uuid::nil());
    vec![
        format!(
            "select restante_accept(array[gen_random_uuid()], array['{chat}']::uuid[], array[{user}], array['text'], array['x'], array[null], array[null]::timestamptz[])"
        ),
        format!(
            "select restante_add_members('{chat}', {alice}, array[{user}, (select id from users where is_current and external_id = 'late')], 5000)"
        ),
        format!("select restante_add_members('{chat}', {alice}, array[{user}], 5000)"),
        format!("select restante_add_named_members('{chat}', {alice}, array['{name}', 'quite new'], true, 5000)"),
        format!("select restante_why_not_add('{chat}', {alice}, array[{user}], 1, 5000, true), restante_strangers(array[{user}], {alice})"),
        format!("select restante_advance_settled({user}, 'chat')"),
        format!("select restante_attempt(array[{user}], '{{chat}}', array[1], '{{x}}', '{{true}}', 5)"),
        format!("select restante_attempt(array[{user}], '{{chat}}', array[{}], '{{x}}', '{{true}}', 5)", DEEP - joined),
        format!("insert into marks_behind (chat_id, user_id) values ('{chat}', {user}); select restante_catch_up_marks(4)"),
        format!("select restante_create_group(gen_random_uuid(), {user}, null, array[{user}])"),
        dead(&format!("'{name}', null, null")),
        dead(&format!("null, '{name}', '{first}'")),
        format!("select restante_direct_chat({user}, {user})"),
        format!("select restante_put_block({user}, {alice}, 10000), restante_take_block_back({user}, {alice})"),
        format!("select restante_reopen_chat('{chat}', {user}, {alice}), restante_told_mark(2, 2, 1)"),
        format!(
            "select restante_block('{name}', 'alice'), restante_unblock('{name}', 'alice'), restante_has_blocked(array[{user}], {user}), restante_are_contacts({user}, {user})"
        ),
        format!(
            "select restante_request_contact('{name}', 'alice'), restante_accept_contact('alice', '{name}'), restante_remove_contact('{name}', 'alice')"
        ),
        format!(
            "select restante_request_contact('alice', '{name}'), restante_decline_contact('{name}', 'alice'), restante_change_contact('{name}', 'alice', 'request')"
        ),
        format!(
            "select restante_why_not_invite('{chat}', {alice}, array[{user}]), restante_put_invitations('{chat}', {alice}, array[{user}]), restante_put_members('{chat}', '{{}}', 1, 1)"
        ),
        format!(
            "select restante_turn_down_invitation({user}, '{chat}'), restante_invitations_left({alice}), restante_invited_beside('{chat}', array[{alice}], 5000)"
        ),
        format!(
            "delete from invitations; select restante_put_invitations('{chat}', {alice}, array[{user}]), restante_take_invitation({user}, '{chat}', 5000)"
        ),
        format!(
            "select restante_put_invitations('{chat}', {alice}, array[{user}]), restante_end_invitations('{chat}', array[{user}]), restante_end_invitations(null, array[{user}], {alice})"
        ),
        "do $$ begin perform restante_invite(gen_random_uuid(), 'alice', '{}'); exception when insufficient_privilege then end $$"
            .to_owned(),
        "do $$ begin perform restante_accept_invitation('alice', gen_random_uuid()); exception when no_data_found then end $$".to_owned(),
        "do $$ begin perform restante_decline_invitation('alice', gen_random_uuid()); exception when no_data_found then end $$".to_owned(),
        format!("select restante_two_users('{name}', 'alice', 'x'), restante_people_changed(array[{user}], '{chat}')"),
        format!("select restante_discard('{first}', '{name}')"),
        format!("select restante_discard('{last}', '{name}')"),
        format!("select restante_give_up('{last}', '{name}', 'x'), restante_return_to_inbox('{last}', '{name}')"),
        format!("select restante_check_sender('restante_send', '{name}')"),
    ]
}

/// The calls of the functions that open, settle, read and remove.
fn of_inboxes(&Member { name, user, joined }: &Member) -> Vec<String> {
    let (chat, first, last, nil, alice) = (deep(), message(joined + 1), message(DEEP), Uuid::nil(), ALICE);
    let settle = |rows: &str, exact: &str| {
        format!(
            "select restante_settle(array_fill({user}::bigint, array[cardinality({rows})]), array_fill('chat'::inbox_class, array[cardinality({rows})]), {rows}, \
             array[{user}], array['{chat}']::uuid[], array[{}], {exact}, array[{user}], array['device-1'], array['chat']::inbox_class[], array[1])",
            joined + 1
        )
    };
    vec![
        format!(
            "insert into departures (user_id, chat_id, after_seq, up_to_seq) values ({user}, '{chat}', {joined}, {DEEP}); select restante_end_departures(1000)"
        ),
        format!("select restante_exact_marks(array['{chat}']::uuid[], array[{user}], true)"),
        format!("select restante_expire('epoch', '{nil}', now(), 500, 2000)"),
        format!("select restante_history({user}, '{chat}', 0, null, 50)"),
        format!("select restante_history({user}, '{chat}', null, {DEEP}, 50)"),
        format!("select restante_lock_marks(array['{chat}']::uuid[], array[{user}])"),
        "select restante_needs_read_committed(), restante_presence_lock(), restante_wake_channel(), restante_first_id(now())".to_owned(),
        format!("select restante_wake(array[{user}]), restante_check_marks(array[{user}])"),
        "select restante_bus_keys(), restante_beat('{nil}', 8000)".replace("{nil}", &nil.to_string()),
        "select restante_is_alive(n, now()) from nodes n".to_owned(),
        "select restante_is_leased(j, now()) from jobs j".to_owned(),
        format!("select restante_open('{name}', null, null, null, null, 1001, '{{chat,alert,event}}')"),
        format!("select restante_open('{name}', null, null, null, null, 1001, '{{chat,chat}}')"),
        format!("select restante_open('{name}', null, null, 'device-1', null, 1001, '{{chat,alert,event}}')"),
        format!("select restante_open('{name}', null, null, 'new', '{{0}}', 1001, '{{chat,alert,event}}')"),
        format!(
            "select restante_attempt(array[{user}], '{{chat}}', array[1], '{{x}}', '{{true}}', 5), restante_put_back('{first}', '{name}')"
        ),
        format!(
            "select restante_attempt(array[{user}], '{{chat}}', array[1], '{{x}}', '{{true}}', 5); do $$ begin perform restante_requeue('{first}', '{name}'); exception when others then null; end $$"
        ),
        format!("select restante_note_recount('{chat}', 51, 50)"),
        format!("select restante_recall('{last}', 'alice', null); select count(*) from restante_recall_part('{last}', '{nil}', 500)"),
        format!("select restante_new_device({user}, 'newer', null, 50)"),
        format!("select restante_new_device({user}, 'newer', null, 1)"),
        "select restante_purge_devices(0, '', 0, 5000)".to_owned(),
        format!("select restante_overtaken(w.seqs, w.chats, {DEEP}) from restante_waiting_rows({user}, 'chat', 0, {TAIL}) w"),
        format!("select restante_read(array[{user}], array['{chat}']::uuid[], array[{DEEP}], 2000)"),
        format!("select restante_remove_members('{chat}', {user}, array[{user}])"),
        format!("select restante_remove_members('{chat}', {alice}, array(select id from users))"),
        format!("select restante_send('{chat}', '{name}', 'x'); set constraints all immediate"),
        settle("array[1]::bigint[]", "'{}', '{}'"),
        settle("array[1, 2]::bigint[]", &format!("array[{user}], array['{chat}']::uuid[]")),
        format!("select restante_users(array['{name}', 'new'])"),
    ]
}

/// The calls of an erasure, each at its stage.
fn of_erasing(Member { name, user, .. }: &Member) -> Vec<String> {
    let (chat, alice) = (deep(), "(select id from users where is_current and external_id = 'alice')");
    let at = |user: &str, stage: &str| {
        format!("insert into erasures (user_id, empties, stage, chat_id) values ({user}, true, '{stage}', '{chat}')")
    };
    let user = user.to_string();
    vec![
        format!("select restante_erase_user('{name}', true), restante_leave_direct({user}, '{chat}'), restante_forget_profile({user})"),
        format!("{}; select restante_erase_messages({alice}, '{chat}', 25)", at(alice, "chats")),
        format!("{}; update erasures set chat_id = '{}'; select restante_erase_events({alice}, 1000)", at(alice, "events"), Uuid::nil()),
        format!("{}; select restante_erase_inbox({user}, 500)", at(&user, "inbox")),
        format!("{}; select restante_pass_on_name({user}, 1000)", at(&user, "name")),
        format!("select restante_lock_users(array[{user}, {alice}]), restante_move_blocks({user}, {alice}, array[{user}])"),
        format!("select restante_recipient('{}', '{name}')", message(1).0),
        format!("{}; select restante_end_erasure_round({user})", at(&user, "people")),
        format!("select restante_forget_errors(array['{}']::uuid[], null)", message(1).0),
    ]
}

/// The calls of the functions of feeds. What they do in an inbox of events they do in that of chat, which is deep.
fn of_feeds(Member { name, user, .. }: &Member) -> Vec<String> {
    let nil = Uuid::nil();
    vec![
        format!("select restante_has_untaken({user}, 'event'), restante_count_untaken({user}, 'event', 1001)"),
        format!("select restante_take({user}, 'event', 50, 1000)"),
        format!("select restante_take_together('00000000-0000-0000-0000-000000000001', array[{user}], 8, 1000)"),
        format!("select restante_excess({user}, 'event', 0, 1000000, 1000), restante_excess({user}, 'chat', 0, {DEEP}, 1000)"),
        format!("select restante_cap({user}, 'chat', 0, {DEEP}, 2000, 1000)"),
        format!("select restante_is_superseded({user}, '00000000-0000-0000-0000-000000000001', 'key', 0, 100000)"),
        format!(
            "select restante_collapse(array[{user}]::bigint[], array['chat']::inbox_class[], array[restante_collapse_id('{nil}', 'key')], array[{DEEP}]::bigint[], array[{DEEP}]::bigint[])"
        ),
        format!(
            "select restante_note_merged(array[{user}]::bigint[], array['chat']::inbox_class[], array[restante_collapse_id('{nil}', 'key')], array[{DEEP}]::bigint[], array[{DEEP}]::bigint[], array[0]::bigint[])"
        ),
        "select restante_check_merge('{\"n\": \"count\"}', 'key', '{\"n\": 1}')".to_owned(),
        format!("select restante_living_rows({user}, 'chat', 0, {DEEP}, 2000)"),
        format!("select restante_make_room({user}, 'chat', 1000)"),
        format!(
            "insert into fan_out_recipients (user_id, class, seq, message_id) select {user}, 'chat', n, md5('event' || n)::uuid from generate_series(1, 2000) n; insert into fan_outs (message_id, recipients, waiting) select md5('event' || n)::uuid, 1, 1 from generate_series(1, 2000) n; select restante_fan_out(0, 'chat', 500, 1000)"
        ),
        format!("select restante_finished_at(s, now()) from message_status s where s.user_id = {user} and s.seq = 1"),
        format!("select restante_make_feed('{name}', p_feed => '{nil}'), restante_follow('{nil}', '{{alice}}')"),
        format!(
            "select restante_new_feed('{nil}', {user}, null, '{{}}', 500), restante_add_followers('{nil}', array[{user}], 500), restante_set_publishers('{nil}', {user}, true, '{{}}', '{{}}', 500)"
        ),
        format!("select restante_remove_followers('{nil}', array[{user}]), restante_unfollow('{nil}', '{{}}')")
            .replace(&nil.to_string(), "00000000-0000-0000-0000-000000000002"),
        format!(
            "select restante_publish('{name}', 'x', null, (select array_agg(external_id) from users)), restante_publish('{name}', 'x', null); set constraints all immediate"
        ),
        "select restante_publish_batch('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', 500, 1000, '{}')"
            .to_owned(),
        format!("select restante_cap_rows('{}', 0, 2000), restante_first_waiting('{}', 0, 2000)", message(1).0, message(2).0),
        "select restante_cap_events(9223372036854775807, 0, 10, 1000, 2000)".to_owned(),
        format!("select restante_put_preferences({user}, '{{like}}', '{{}}'), restante_set_preferences('{name}', '{{}}', '{{}}')"),
        format!("select restante_revoke('{name}', 'phone', null, 'stolen')"),
        "insert into accounts (name, password_hash) values ('erna', '$argon2id$x'); \
         insert into account_logins (id, name, family, secret_hash, renewed_at, begun_at, ends_at, expires_at) \
           select md5('login' || n)::uuid, 'erna', gen_random_uuid(), sha256('x'), now(), now(), now(), now() from generate_series(1, 10) n; \
         select restante_revoke(null, null, md5('login1')::uuid::text), restante_revoke('erna'), restante_end_logins('erna', null)"
            .to_owned(),
        format!("select restante_set_limit('{name}', 5)"),
        "insert into accounts (name, password_hash) values ('erna', '$argon2id$x'); \
         insert into account_logins (id, name, family, secret_hash, renewed_at, begun_at, ends_at, expires_at) \
           select gen_random_uuid(), 'erna', gen_random_uuid(), sha256('x'), now(), now(), now(), now() from generate_series(1, 10); \
         select restante_log_in('erna', '$argon2id$x', null, gen_random_uuid(), md5('f')::uuid, sha256('1'), '1 hour', '2 hours', 10, '1 minute'), \
           restante_refresh_login(md5('f')::uuid, sha256('1'), sha256('2'), '1 hour', '0', '1 minute')".to_owned(),
        "insert into accounts (name, password_hash) values ('erna', '$argon2id$x'); \
         select restante_change_password('erna', '$argon2id$x', '$argon2id$y', null, '1 minute'), restante_log_out('erna', null, '1 minute'), \
           restante_revoke_logins('erna', array[md5('f')::uuid], '1 minute')".to_owned(),
        "insert into accounts (name, password_hash) values ('erna', '$argon2id$x'), ('spare', '$argon2id$y'); \
         select restante_end_all_logins('erna'), restante_replace_password('erna', 'spare')".to_owned(),
        "insert into statistics_journal (at, kind, messages, recipients) select now(), 'accepted', array[md5('m' || n)::uuid], '{1}' from generate_series(1, 2000) n; select restante_count_journal('-infinity', 500, 5000, 50)".to_owned(),
        "select restante_purge_statistics(90, 1000), restante_add_counts('{1}', '{2}'), restante_spread('{1}', '{2}', 3)".to_owned(),
        "select restante_admit_plain_text(), restante_make_data_key('k', 'm', '', null), restante_rotate_keys(); \
         select restante_note_plain(array(select md5(n::text)::uuid from generate_series(1, 1000) n))".to_owned(),
        format!("select restante_wake_followers(array['{nil}']::uuid[]), restante_accept_outgoing()"),
    ]
}

/// Runs a statement and undoes it. Returns the rows and buffers that it read, and the part that it read while it held the lock of an
/// inbox. A statement that does not end in time (all others take less than a second) counts as more than any bound.
async fn work(connection: &mut PgConnection, statement: &str) -> [i64; 2] {
    run(connection, "begin; set local statement_timeout = '10s'").await;
    let before = texts(connection, "select watch.work()").await.remove(0);
    let ended = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut *connection).await;
    let work = match ended.map_err(store::Error::from) {
        Ok(_) => {
            let under_lock = texts(connection, "select coalesce(watch.work_under_lock(), '0')").await.remove(0).parse().unwrap();
            let after = texts(connection, "select watch.work()").await.remove(0).parse::<i64>().unwrap();
            [after - before.parse::<i64>().unwrap(), under_lock]
        }
        Err(error) if error.could_not_run() => [i64::MAX; 2],
        Err(error) => panic!("{statement}: {error:?}"),
    };
    run(connection, "rollback").await;
    work
}

/// The bound of a statement. Renumbering reads up to 200,000 numbers without a lock. Opening counts the rows that wait, and those that
/// a device is to get.
fn bound(statement: &str) -> i64 {
    let is = |name: &str| statement.contains(&format!("restante_{name}(")) || statement.starts_with(&format!("execute {name}"));
    let windows = match () {
        () if is("open") => 7,
        () if is("advance_settled") => 5,
        () if is("waiting_rows") => 4,
        // It moves the inbox as well, and counts what waits there.
        () if is("make_room") || is("fan_out") => 7,
        () => 1,
    };
    windows * WINDOW + BESIDE
}

/// The work while the lock on an inbox is held: to move the inbox, and to count the rows that a device is to get.
const BOUND_UNDER_LOCK: i64 = 2 * WINDOW + BESIDE;

/// Everything that works for longer than it may.
async fn excesses(connection: &mut PgConnection, told: &str) -> Vec<String> {
    let mut found = Vec::new();
    let members = members(connection).await;
    let users: Vec<String> = members.iter().map(|member| member.user.to_string()).collect();
    let together = format!("execute advance_settled ('{{{}}}', '{{{}}}')", users.join(","), vec!["chat"; users.len()].join(","));
    for member in members {
        let known = Known {
            user: member.user,
            name: member.name,
            chat: deep().to_string(),
            messages: [message(member.joined + 1), message(DEEP)].map(|id| id.to_string()),
        };
        let values = values(&known);
        let kept = statements().into_iter().filter(|(name, _)| !OF_OPERATORS.contains(&name.as_str()));
        let kept = kept.map(|(name, _)| match values[name.as_str()].as_str() {
            "" => format!("execute {name}"),
            values => format!("execute {name} ({values})"),
        });
        for statement in kept.chain(calls(&member)).chain([together.clone()]) {
            let [work, under_lock] = work(connection, &statement).await;
            if work > bound(&statement) || under_lock > BOUND_UNDER_LOCK {
                found.push(format!("{told}, {}: {work}, {under_lock} of it under the lock of an inbox, for {statement}", member.name));
            }
        }
    }
    found
}

/// Each function is called above, by a statement of the service, or by PostgreSQL (triggers).
async fn assert_all_are_called(connection: &mut PgConnection) {
    let member = Member { name: "waits", user: 1, joined: 0 };
    let all = statements().into_iter().map(|(_, text)| text).chain(calls(&member)).collect::<String>();
    let functions = "select proname::text from pg_proc where pronamespace = 'public'::regnamespace and prorettype <> 'trigger'::regtype";
    for function in texts(connection, functions).await {
        let is_called = all.contains(&format!("{function}(")) || OF_OPERATORS.contains(&function.as_str());
        assert!(is_called, "{function}: say in `calls` how it is called at its hardest");
    }
}

#[tokio::test]
async fn no_statement_works_for_as_long_as_somebodys_backlog_is() {
    let db = database().await;
    let mut connection = db.options().connect().await.unwrap();
    run(&mut connection, include_str!("depth.sql")).await;
    run(&mut connection, WORK).await;
    watch_the_lock(&mut connection).await;
    assert_all_are_called(&mut connection).await;
    let mut found = Vec::new();
    for (told, tell) in [("never looked at", "select 1"), ("analyzed", "analyze")] {
        run(&mut connection, tell).await;
        let mut planned = db.options().options(PLANNING).connect().await.unwrap();
        for (name, text) in statements() {
            run(&mut planned, &format!("prepare {name} as {text}")).await;
        }
        found.extend(excesses(&mut planned, told).await);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    to_the_end(&db.pool(2).await).await;
}

/// Each call goes on where the one before has stopped, until nothing is left to do.
async fn to_the_end(pool: &PgPool) {
    let store = Store::new(pool.clone());
    let mut connection = pool.acquire().await.unwrap();
    let [_, overtaken, lagging, unread] = members(&mut connection).await.try_into().unwrap_or_else(|_| unreachable!());
    a_page_reaches_the_row_that_waits(&store, UserId(lagging.user)).await;
    opening_brings_settled_seq_to_it(&store, "lagging", [DEEP - 1, DEEP]).await;
    opening_brings_settled_seq_to_it(&store, "overtaken", [TAIL, TAIL + 1]).await;
    assert_eq!(
        number(pool, &format!("select seq from message_status where user_id = {} and status = 'sent'", overtaken.user)).await,
        TAIL + 1
    );
    marks_catch_up(&store, &mut connection, UserId(lagging.user)).await;
    reads_go_on(&mut connection, UserId(unread.user)).await;
    the_sweep_ends_all(&store).await;
    while store.catch_up_marks(4).await.unwrap() {}
    let marks = |user: i64| format!("select delivered_seq from marks where user_id = {user} and not has_hole");
    assert_eq!(number(pool, &marks(lagging.user)).await, DEEP);
    assert_eq!(number(pool, "select count(*) from marks_behind").await, 0);
    drop(connection);
    assert_consistent(pool).await;
}

async fn a_page_reaches_the_row_that_waits(store: &Store, user: UserId) {
    for request in [PageRequest::Waiting, PageRequest::Poll] {
        let page = store.page(request, user, Class::Chat, InboxSeq(0), 50).await.unwrap();
        assert!(matches!(&page.rows[..], [PageRow::Envelope(envelope)] if envelope.inbox_seq.0 == DEEP), "{request:?}");
        assert!(page.is_last);
    }
    let everything = store.page(PageRequest::Everything, user, Class::Chat, InboxSeq(0), 50).await.unwrap();
    assert_eq!(everything.rows.len(), 50);
    let place = Place { user, class: Class::Chat, after: InboxSeq(0) };
    assert!(store.peek(&[place]).await.unwrap()[0].unwrap().waits);
}

/// Each opening a part, until it is exact.
async fn opening_brings_settled_seq_to_it(store: &Store, name: &str, [settled, last]: [i64; 2]) {
    let external = name.to_owned().try_into().unwrap();
    for opening in 1.. {
        let request = OpeningRequest {
            external: &external,
            name: None,
            picture: None,
            device: None,
            node: NodeId::generate(),
            since: PerClass::default(),
            pending_max: 1_001,
        };
        let start = store.open(request).await.unwrap().unwrap().inboxes.chat;
        if start.settled_seq.0 == settled {
            assert_eq!(start.last_seq.0, last, "{name}");
            break;
        }
        assert!(opening <= DEEP / WINDOW, "{name}: settled up to {}", start.settled_seq);
    }
}

/// The last row is acked, by its id as over HTTP: marks have all the others before them.
async fn marks_catch_up(store: &Store, connection: &mut PgConnection, user: UserId) {
    let rows = store::locate(connection, &[(user, message(DEEP))]).await.unwrap();
    let batch = SettleBatch { rows, exact: vec![ExactMark { user, chat: deep() }], ..SettleBatch::default() };
    store::settle(connection, &batch, LockTimeout::OfConnection).await.unwrap();
    let mut parts = 0;
    while store.catch_up_marks(4).await.unwrap() {
        parts += 1;
    }
    assert!(parts >= DEEP / 5_000 - 2, "{parts} parts");
}

async fn reads_go_on(connection: &mut PgConnection, user: UserId) {
    let up_to = DEEP - TAIL + 20_000;
    let mut read = 0;
    for part in 1.. {
        let request = [ReadRequest { user, chat: deep(), up_to: ChatSeq(up_to) }];
        let done = store::read(connection, &request, 2_000, LockTimeout::OfConnection).await.unwrap().remove(&0).unwrap();
        read += done.rows.len();
        assert_eq!(done.up_to.0, DEEP - TAIL + i64::try_from(read).unwrap());
        if !done.more {
            break;
        }
        assert!(part < 20, "up to {}", done.up_to);
    }
    assert_eq!(read, 20_000);
}

async fn the_sweep_ends_all(store: &Store) {
    let (mut cursor, horizon) = (ExpiryCursor::at(OffsetDateTime::UNIX_EPOCH), store.clock().await.unwrap());
    let mut ended = 0;
    // A row that is one too many for a page is left for a later pass.
    for pass in 0.. {
        let (mut held, mut pages) = (None, 0);
        loop {
            let page = store.expire(cursor, horizon, 500, 2_000).await.unwrap();
            (held, pages) = (held.or(page.held), pages + 1);
            ended += page.rows.len();
            let Some(next) = page.next else { break };
            cursor = next;
        }
        let Some(held) = held else { break };
        cursor = ExpiryCursor::at(held - time::Duration::MICROSECOND);
        assert!(pass < 150, "{ended} rows have ended after {pass} passes");
    }
    assert_eq!(ended, 20_000 + 100 * 2_000);
}
