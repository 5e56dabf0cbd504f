//! No statement reads a whole table of a filled database, neither with a plan for its values nor with a general one, nor with a plan from
//! the time when the database was empty.

mod values;

use restante::store::PLANNING;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, Row};

pub use self::values::values;
use crate::support::{Database, Log, database};

/// The values that statements are called with: a user with a large inbox, and its chats.
pub struct Known {
    pub user: i64,
    pub name: &'static str,
    pub chat: String,
    pub messages: [String; 2],
}

pub async fn run(connection: &mut PgConnection, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(connection).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

pub async fn texts(connection: &mut PgConnection, statement: &str) -> Vec<String> {
    let rows = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).fetch_all(connection).await;
    rows.unwrap_or_else(|error| panic!("{statement}: {error}")).into_iter().map(|row| row.get(0)).collect()
}

async fn fill(connection: &mut PgConnection) {
    run(connection, include_str!("fill.sql")).await;
}

/// PostgreSQL makes no statistics of its own accord: each test says which there are.
async fn without_autovacuum(connection: &mut PgConnection) {
    let off = "do $$ declare v_table regclass; begin \
                 for v_table in select oid from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' loop \
                   execute format('alter table %s set (autovacuum_enabled = off)', v_table); \
                 end loop; \
               end $$";
    run(connection, off).await;
}

async fn known(connection: &mut PgConnection) -> Known {
    let user = "select id::text from users where is_current and external_id = 'user-36'";
    let chat = "select cm.chat_id::text from chat_members cm join users u on u.id = cm.user_id join chat_heads c on c.chat_id = cm.chat_id \
                where u.is_current and u.external_id = 'user-36' and c.last_seq > 0 order by 1 limit 1";
    let (user, chat) = (texts(connection, user).await.remove(0), texts(connection, chat).await.remove(0));
    let messages = format!(
        "select s.message_id::text from message_status s join messages m on m.id = s.message_id where s.user_id = {user} and m.chat_id = '{chat}' and s.status = 'sent' order by m.seq limit 2"
    );
    let messages = texts(connection, &messages).await.try_into().unwrap();
    Known { user: user.parse().unwrap(), name: "user-36", chat, messages }
}

/// The statements of the service, by name.
pub fn statements() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/sql");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let name = |path: &std::path::Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    files.into_iter().map(|path| (name(&path), std::fs::read_to_string(path).unwrap())).collect()
}

/// The lines of a plan that read a whole table of ours, or a whole index, which is no better, or all of many rows to sort them
/// for the first few (a bitmap).
fn scans(plan: &str) -> Vec<&str> {
    let lines: Vec<&str> = plan.lines().collect();
    let reads_all = |(n, line): &(usize, &&str)| {
        let details = || lines[n + 1..].iter().take_while(|line| !line.contains("->"));
        let is_index = ["Index Scan using ", "Index Only Scan using ", "Bitmap Index Scan on "].iter().any(|scan| line.contains(scan));
        line.contains("Seq Scan on ")
            || line.contains("Bitmap Heap Scan on ")
            || (is_index && !details().any(|line| line.contains("Index Cond:")))
    };
    let ours = lines.iter().enumerate().filter(|(_, line)| !line.contains(" on pg_") && !line.contains(" using pg_"));
    ours.filter(reads_all).map(|(_, line)| line.trim()).collect()
}

#[tokio::test]
async fn no_statement_scans_a_table_whether_planned_for_its_values_or_for_any() {
    let db = database().await;
    let mut connection = db.options().options(PLANNING).connect().await.unwrap();
    fill(&mut connection).await;
    run(&mut connection, "analyze").await;
    let known = known(&mut connection).await;
    let values = values(&known);
    let mut found = Vec::new();
    for (name, text) in statements() {
        let values = values
            .get(name.as_str())
            .unwrap_or_else(|| panic!("src/store/sql/{name}.sql: say in explain/values.rs which values it is called with"));
        let call = if values.is_empty() { String::new() } else { format!("({values})") };
        run(&mut connection, &format!("prepare {name} as {text}")).await;
        for mode in ["force_custom_plan", "force_generic_plan"] {
            run(&mut connection, &format!("set plan_cache_mode = {mode}")).await;
            let plan = texts(&mut connection, &format!("explain execute {name}{call}")).await.join("\n");
            found.extend(scans(&plan).into_iter().map(|scan| format!("{name}, {mode}: {scan}")));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// A database of which statistics say that it has pages and no rows: everything in it was taken back.
async fn rolled_back(connection: &mut PgConnection) {
    run(connection, "begin").await;
    small(connection, 100).await;
    run(connection, "rollback").await;
}

/// The statements as a connection of the service keeps them: planned while the database was empty, used once it is full.
#[tokio::test]
async fn no_statement_that_the_service_kept_from_when_the_database_was_empty_scans_it_once_it_is_full() {
    let mut found = Vec::new();
    for had_rows in [false, true] {
        let db = database().await;
        let mut connection = db.options().options(PLANNING).connect().await.unwrap();
        without_autovacuum(&mut connection).await;
        if had_rows {
            rolled_back(&mut connection).await;
        }
        run(&mut connection, "analyze").await;
        let nobody = Known {
            user: 1,
            name: "user-36",
            chat: uuid::Uuid::nil().to_string(),
            messages: [(); 2].map(|()| uuid::Uuid::nil().to_string()),
        };
        let calls = |known: &Known| -> Vec<(String, String)> {
            let values = values(known);
            let call = |name: &String| match &values[name.as_str()] {
                values if values.is_empty() => name.clone(),
                values => format!("{name}({values})"),
            };
            statements().into_iter().map(|(name, _)| (name.clone(), call(&name))).collect()
        };
        for (name, text) in statements() {
            run(&mut connection, &format!("prepare {name} as {text}")).await;
        }
        for (_, call) in calls(&nobody) {
            texts(&mut connection, &format!("explain execute {call}")).await;
        }
        // Its own statements are not to be judged, and join many rows.
        let mut other = db.options().options([("enable_nestloop", "off")]).connect().await.unwrap();
        fill(&mut other).await;
        for (name, call) in calls(&known(&mut other).await) {
            let plan = texts(&mut connection, &format!("explain execute {call}")).await.join("\n");
            found.extend(scans(&plan).into_iter().map(|scan| format!("{name}, had rows: {had_rows}: {scan}\n{plan}")));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_statement_says_why_it_is_there_and_which_index_it_uses_and_is_used() {
    let sources = sources(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store"));
    for (name, text) in statements() {
        let head = text.lines().next().unwrap_or_default();
        let says = head.strip_prefix(&format!("-- {name}: ")).and_then(|rest| rest.split_once("; "));
        assert!(says.is_some_and(|(why, index)| why.len() > 10 && index.len() > 5), "{name}.sql begins with {head:?}");
        let statement = text.lines().filter(|line| !line.trim_start().starts_with("--"));
        assert_eq!(statement.filter(|line| line.contains(';')).count(), 0, "{name}.sql holds one statement");
        assert!(sources.contains(&format!("\"src/store/sql/{name}.sql\"")), "{name}.sql is not used");
    }
}

fn sources(folder: &str) -> String {
    let rust = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "rs"));
    rust.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// The notices of the server to this thread's connections: with auto_explain, the plans of statements inside functions.
fn notices(log: &Log) -> Vec<String> {
    let of_server = log.take().into_iter().filter(|line| line.target == "sqlx::postgres::notice");
    of_server.map(|line| line.message).collect()
}

/// The calls of the lanes.
fn lanes(known: &Known) -> [String; 4] {
    let Known { user, chat, messages: [one, _], .. } = known;
    let accept = |skip_held: bool| {
        format!(
            "select count(*) from restante_accept(array[gen_random_uuid(), gen_random_uuid(), '{one}'], array['{chat}', '{chat}', '{chat}']::uuid[], \
             array[{user}, {user}, {user}], array['text', 'text', 'text'], array['x', 'y', 'z'], array[null, null, null], array[null, null, null]::timestamptz[], {skip_held})"
        )
    };
    let rows = format!(
        "(select array_agg(q.user_id) as users, array_agg(q.class) as classes, array_agg(q.seq) as seqs \
          from (select user_id, class, seq from message_status where user_id = {user} and class = 'chat' and status = 'sent' order by seq limit 5) q) r"
    );
    let attempt = format!(
        "select count(*) from {rows}, restante_attempt(r.users, r.classes, r.seqs, array_fill('x'::text, array[5]), array_fill(false, array[5]), 5)"
    );
    let settle = format!(
        "select count(*) from {rows}, restante_settle(r.users, r.classes, r.seqs, array[{user}]::bigint[], array['{chat}']::uuid[], array[0]::bigint[], array[{user}]::bigint[], array['{chat}']::uuid[], array[{user}]::bigint[], array['device-1'], array['chat']::inbox_class[], array[1]::bigint[])"
    );
    [accept(false), accept(true), attempt, settle]
}

/// Direct chats that are there and such that are made, with users who are new and with nobody.
/// A call about an invitation of a user `u` to a chat `c` by the known one, `i`.
fn invitation(Known { user, chat, .. }: &Known, call: &str) -> String {
    format!(
        "select {call} from users u, users i, chats c where u.is_current and u.external_id = 'user-35' and i.id = {user} and c.id = '{chat}'"
    )
}

fn direct_chats(Known { user, .. }: &Known) -> String {
    format!(
        "select count(*) from restante_direct_chats(array[{user}, {user}, {user}, {user}], \
         array['user-35', 'user-' || random(), 'nobody', 'user-36'], array[true, true, false, true])"
    )
}

/// The calls of feeds: one that is new, with a follower, and what is left to be written.
fn feeds(Known { user, name, .. }: &Known) -> Vec<String> {
    let feed = "0fffffff-0000-0000-0000-000000000001";
    let keyed = format!(
        "select restante_publish('{name}', 'x', '{{}}', array['user-40', 'user-50'], p_collapse_key => 'key', p_urgent => true, p_merge => '{{\"n\": \"count\"}}') from generate_series(1, 2)"
    );
    vec![
        format!("select restante_make_feed('{name}', 'title', array['user-35'], '{feed}')"),
        format!("select restante_set_publishers('{feed}', {user}, false, array[{user}], array[7]::bigint[], 500)"),
        format!("select restante_follow('{feed}', array['user-40', 'user-41'])"),
        format!(
            "select restante_publish('{name}', 'x', '{{}}', p_feed => '{feed}', p_except => array['user-41'], p_collapse_key => 'key', p_merge => '{{\"n\": \"count\"}}')"
        ),
        format!(
            "select restante_publish('{name}', 'x', '{{}}'), restante_publish('{name}', 'x', '{{}}', array['user-40', 'user-41', 'user-50'])"
        ),
        "set constraints all immediate".to_owned(),
        format!("set constraints all deferred; {keyed}; set constraints all immediate"),
        format!("set constraints all deferred; {keyed}; set constraints all immediate"),
        format!("select count(*) from restante_count_untaken({user}, 'event', 1001)"),
        format!("select users from restante_take_together('00000000-0000-0000-0000-000000000001', array[{user}, 7], 8, 1000)"),
        "select numbers from users u, restante_take(u.id, 'event', 50, 1000) where u.is_current and u.external_id = 'user-40'".to_owned(),
        format!("select numbers from restante_take({user}, 'event', 50, 1)"),
        format!("select numbers from restante_take({user}, 'event', 50, 1000)"),
        format!("select restante_make_room({user}, 'event', 1)"),
        "select rows_done from restante_fan_out(0, 'chat', 500, 1000)".to_owned(),
        format!("select restante_unfollow('{feed}', array['user-40'])"),
        "select restante_purge_inboxes(0, 0, 'chat', 500, 1000)".to_owned(),
        "select restante_purge_listed_events('event', 0, 1000)".to_owned(),
        "select restante_purge_chats(0, '00000000-0000-0000-0000-000000000000', 100000, 1000)".to_owned(),
    ]
}

/// The calls of an erasure, one stage after the other.
fn of_erasing(Known { user, name, chat, .. }: &Known) -> Vec<String> {
    let at = |stage: &str, chat: &str| {
        let moved = "on conflict (user_id) do update set stage = excluded.stage, chat_id = excluded.chat_id";
        format!("insert into erasures (user_id, empties, stage, chat_id) values ({user}, true, '{stage}', '{chat}') {moved}")
    };
    let nil = uuid::Uuid::nil().to_string();
    vec![
        format!("select outcome from restante_erase_user('{name}', true)"),
        format!("select restante_leave_direct({user}, '{chat}')"),
        at("chats", chat),
        format!("select restante_erase_messages({user}, '{chat}', 25)"),
        at("events", &nil),
        format!("select restante_erase_events({user}, 1000)"),
        at("inbox", &nil),
        format!("select count(*) from restante_erase_inbox({user}, 500)"),
        at("name", &nil),
        format!("select restante_pass_on_name({user}, 1000)"),
        at("people", &nil),
        format!("select restante_end_erasure_round({user})"),
    ]
}

/// The calls of a node: its life, its users, and its jobs.
fn of_nodes(Known { user, .. }: &Known) -> Vec<String> {
    vec![
        "select count(*) from restante_beat('00000000-0000-0000-0000-00000000000a', 8000)".to_owned(),
        format!("select count(*) from restante_arrive('00000000-0000-0000-0000-00000000000a', array[{user}]::bigint[])"),
        format!(
            "select count(*) from restante_depart('00000000-0000-0000-0000-00000000000a', array[{user}]::bigint[], array[2500]::bigint[])"
        ),
        "select restante_leave('00000000-0000-0000-0000-00000000000a', 0)".to_owned(),
        "select count(*) from restante_reap(1000)".to_owned(),
        "select count(*) from restante_acquire_job('expire', '00000000-0000-0000-0000-00000000000a', 8000)".to_owned(),
        "select count(*) from restante_acquire_job('a new one', '00000000-0000-0000-0000-00000000000a', 8000)".to_owned(),
        "select restante_advance_job('expire', '00000000-0000-0000-0000-00000000000a', 1, 'x', 8000)".to_owned(),
        "select restante_release_job('expire', '00000000-0000-0000-0000-00000000000a', 1)".to_owned(),
    ]
}

/// The calls of users and operators before those of the lanes.
fn before_lanes(known: &Known) -> Vec<String> {
    let Known { user, chat, messages: [_, two], .. } = known;
    let dead_letters = |of: &str| {
        format!(
            "select count(*) from restante_dead_letters({of}, 'epoch', 'x', 'infinity', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 9000000000000000000, 50)"
        )
    };
    vec![
        format!(
            "select count(*) from users u, restante_open(u.external_id, 'name', null, 'device-1', '{{1,1,1}}', 1001, '{{chat,alert,event}}') where u.id = {user}"
        ),
        format!("select restante_discard('{two}', (select external_id from users where id = {user}))"),
        format!("select restante_discard('{two}', (select external_id from users where id = {user}))"),
        format!("update endings set discarded_at = null where message_id = '{two}' and user_id = {user}"),
        dead_letters("null, null, null"),
        dead_letters(&format!("null, (select external_id from users where id = {user}), null")),
        dead_letters(&format!(
            "(select external_id from users where id = (select sender_id from messages where id = '{two}')), null, null"
        )),
        dead_letters(&format!("null, null, '{two}'")),
        format!("select restante_requeue('{two}', (select external_id from users where id = {user}))"),
        format!("select restante_advance_settled({user}, 'chat')"),
        "select count(*) from restante_users(array['user-36', 'user-' || random()])".to_owned(),
        format!("select restante_direct_chat({user}, {user})"),
        format!("insert into marks_behind (chat_id, user_id) values ('{chat}', {user})"),
        "select restante_catch_up_marks(4)".to_owned(),
        format!("insert into departures (user_id, chat_id, after_seq, up_to_seq) values ({user}, '{chat}', 0, 0)"),
        "select count(*) from restante_end_departures(1000)".to_owned(),
        direct_chats(known),
        format!(
            "select restante_strangers(array[{user}, 7], {user}), restante_invitations_left({user}), restante_invited_beside('{chat}', array[{user}], 5000)"
        ),
        invitation(known, "restante_why_not_invite(c.id, i.id, array[u.id])"),
        invitation(known, "restante_put_invitations(c.id, i.id, array[u.id])"),
        invitation(known, "restante_turn_down_invitation(u.id, c.id), restante_end_invitations(null, array[u.id], i.id)"),
        invitation(known, "restante_put_invitations(c.id, i.id, array[u.id])"),
        invitation(known, "restante_take_invitation(u.id, c.id, 5000)"),
        invitation(known, "restante_end_invitations(c.id, array[u.id])"),
        format!("select count(*) from users u, restante_put_block({user}, u.id, 10000) where u.is_current and u.external_id = 'user-35'"),
        direct_chats(known),
        format!("select count(*) from users u, restante_take_block_back({user}, u.id) where u.is_current and u.external_id = 'user-35'"),
        "select restante_block('one', 'another'), restante_unblock('one', 'another')".to_owned(),
        "select restante_request_contact('one', 'user-35'), restante_accept_contact('user-35', 'one')".to_owned(),
        "select restante_request_contact('one', 'another'), restante_decline_contact('another', 'one')".to_owned(),
        format!(
            "select outcomes from restante_accept(array[gen_random_uuid()], array[restante_direct_chat({user}, (select id from users where is_current and external_id = 'user-35'))], \
             array[{user}], array['text'], array['x'], array[null], array[null]::timestamptz[], false, array['contacts'])"
        ),
        format!("select restante_ask_may_send({user}, '{chat}', null), restante_ask_may_send({user}, null, 'user-35')"),
        "select restante_remove_contact('one', 'user-35')".to_owned(),
        format!("select count(*) from restante_add_named_members('{chat}', {user}, array['user-36', 'user-' || random()], true, 5000)"),
    ]
}

/// The calls of what follows: reads, ends, recalls, and what is removed.
fn after_lanes(known: &Known) -> Vec<String> {
    let Known { user, chat, messages: [one, two], .. } = known;
    let recall = |message: &String| {
        let sender = format!("select external_id from users where id = (select sender_id from messages where id = '{message}')");
        format!("select restante_recall('{message}', ({sender}), null)")
    };
    vec![
        format!("select count(*) from restante_read(array[{user}]::bigint[], array['{chat}']::uuid[], array[20]::bigint[], 2000)"),
        format!("select count(*) from restante_read(array[{user}]::bigint[], array['{chat}']::uuid[], array[1000000]::bigint[], 2000)"),
        format!("select count(*) from delivery_trace('{one}')"),
        "select count(*) from restante_expire('epoch', '00000000-0000-0000-0000-000000000000', now() + interval '3 hours', 500, 2000)"
            .to_owned(),
        format!("select restante_send('{chat}', (select external_id from users where id = {user}), 'from SQL') from generate_series(1, 3)"),
        "set constraints all immediate".to_owned(),
        recall(one),
        recall(two),
        "select count(*) from restante_recall_part(null, '00000000-0000-0000-0000-000000000000', 500)".to_owned(),
        format!("select count(*) from restante_recall_part('{two}', '00000000-0000-0000-0000-000000000000', 500)"),
        "select count(*) from restante_purge_inboxes(0, 0, 'chat', 500, 1000)".to_owned(),
        format!(
            "insert into messages (id, chat_id, seq, sender_id, content, created_at) \
             select gen_random_uuid(), md5('direct 7')::uuid, 1, {user}, 'alone', 'epoch'"
        ),
        "select count(*) from restante_purge_chats(0, '00000000-0000-0000-0000-000000000000', 100000, 1000)".to_owned(),
        "select count(*) from restante_purge_listed_events('event', 0, 1000)".to_owned(),
        "select count(*) from restante_purge_last_seen(0, 0, 1000)".to_owned(),
        format!(
            "select count(*) from restante_accept(array['01000000-0000-7000-8000-000000000001']::uuid[], array['{chat}']::uuid[], array[{user}], \
             array['text'], array['x'], array[null], array[null]::timestamptz[])"
        ),
    ]
}

/// Calls each function of the schema that the service or an operator calls, once. The calls are rolled back, except those that have to
/// be committed.
async fn use_everything(connection: &mut PgConnection, known: &Known) {
    run(connection, "begin").await;
    for step in feeds(known) {
        run(connection, &step).await;
    }
    run(connection, "rollback").await;
    run(connection, "begin").await;
    for step in
        before_lanes(known).into_iter().chain(lanes(known)).chain(after_lanes(known)).chain(of_erasing(known)).chain(of_nodes(known))
    {
        run(connection, &step).await;
    }
    run(connection, "rollback").await;
}

/// The scans in the plans that were told since the last look, with the statements they belong to.
fn scans_of(notices: Vec<String>) -> Vec<String> {
    // The rows to settle are chosen by a statement of the test's own.
    let of_ours = |plan: &&String| plan.contains("Query Text:") && !plan.contains("array_agg(q.user_id) as users");
    let found = notices.iter().filter(of_ours).flat_map(|plan| scans(plan).into_iter().map(move |scan| format!("{scan}\n{plan}")));
    found.collect()
}

/// Functions that settle lock rows by updating them, so in the order of a join: a sorted unnest on the outer side of a nested loop, and
/// the table by key on the inner one. Which plans of such updates are anything else, and how many there are.
fn unordered_updates(notices: &[String]) -> (String, usize) {
    let ours: Vec<&String> = notices.iter().filter(|plan| plan.contains("array[u.user_id]") && plan.contains("Update on ")).collect();
    let is_ordered = |plan: &str| {
        let steps = || plan.lines().skip_while(|line| !line.contains("Update on ")).skip(1).filter(|line| line.trim().starts_with("->"));
        let depth = |line: &str| line.len() - line.trim_start().len();
        let Some((join, outer)) = steps().next().zip(steps().nth(1)) else { return false };
        let mut sides = steps().skip(1).filter(|line| depth(line) == depth(outer));
        let is_sorted = steps().skip(2).take_while(|line| depth(line) > depth(outer)).any(|line| line.contains("->  Sort"));
        let inner = sides.nth(1).unwrap_or_default();
        join.contains("->  Nested Loop") && outer.contains("Subquery Scan on u") && is_sorted && inner.contains("->  Index Scan using ")
    };
    (ours.iter().filter(|plan| !is_ordered(plan)).map(|plan| plan.as_str()).collect(), ours.len())
}

/// Those of settling: three of one batch, one of attempts, two of each of the two reads; one of what ends for members that left, and one of
/// what ends with a block.
const ORDERED_UPDATES: usize = 10;

async fn explaining(db: &Database) -> PgConnection {
    let mut connection = db.options().connect().await.unwrap();
    run(&mut connection, "load 'auto_explain'").await;
    connection
}

const TELL: &str = "set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on; set client_min_messages = log";

#[tokio::test]
async fn no_statement_inside_a_function_scans_a_table() {
    let log = Log::of_this_thread();
    let db = database().await;
    let mut connection = explaining(&db).await;
    fill(&mut connection).await;
    run(&mut connection, "analyze").await;
    let known = known(&mut connection).await;
    notices(&log);
    run(&mut connection, TELL).await;
    use_everything(&mut connection, &known).await;
    let told = notices(&log);
    assert!(told.len() > 50, "auto_explain has told {} plans", told.len());
    assert_eq!(unordered_updates(&told), (String::new(), ORDERED_UPDATES));
    let found = scans_of(told);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// As when statistics are old, or were never made: a row for every thousand pages.
const THOUGHT_TINY: &str =
    "update pg_class set relpages = 1000, reltuples = 1 where relnamespace = 'public'::regnamespace and relkind in ('r', 'i')";

/// The planner then thinks it cheaper to walk a whole index than to look two rows up, if only the statement lets it.
#[tokio::test]
async fn accepting_and_direct_chats_look_rows_up_by_key_and_settling_locks_in_order_however_few_rows_the_planner_believes_in() {
    let log = Log::of_this_thread();
    let db = database().await;
    let mut connection = explaining(&db).await;
    fill(&mut connection).await;
    let known = known(&mut connection).await;
    let [accept, accept_skipping, _, settle] = lanes(&known);
    run(&mut connection, THOUGHT_TINY).await;
    run(&mut connection, TELL).await;
    notices(&log);
    run(&mut connection, &accept).await;
    run(&mut connection, &accept_skipping).await;
    run(&mut connection, &direct_chats(&known)).await;
    let told = notices(&log);
    assert!(told.len() > 10, "auto_explain has told {} plans", told.len());
    let found = scans_of(told);
    assert!(found.is_empty(), "{}", found.join("\n"));
    run(&mut connection, &settle).await;
    assert_eq!(unordered_updates(&notices(&log)), (String::new(), 3));
}

/// A small database, whose second user is returned.
async fn small(connection: &mut PgConnection, chats: i32) -> Known {
    let filled = format!(
        "insert into chats (id, kind) select md5('small' || n)::uuid, 'group' from generate_series(1, {chats}) n; \
         insert into chat_heads (chat_id) select id from chats where kind = 'group'; \
         insert into chat_members (chat_id, user_id) select c.id, u.id from chats c, restante_users(array['first', 'second']) u where c.kind = 'group'; \
         insert into marks (chat_id, user_id) select chat_id, user_id from chat_members; \
         select restante_send(md5('small1')::uuid, 'first', 'x') from generate_series(1, 2); \
         set constraints all immediate"
    );
    run(connection, &filled).await;
    let user = texts(connection, "select id::text from users where is_current and external_id = 'second'").await.remove(0).parse().unwrap();
    let messages = texts(connection, "select id::text from messages order by seq").await.try_into().unwrap();
    Known { user, name: "second", chat: texts(connection, "select md5('small1')::uuid::text").await.remove(0), messages }
}

#[tokio::test]
async fn plans_kept_from_when_the_database_was_empty_do_not_scan_it_once_it_is_full() {
    // Planned for tables whose size was known, and for such as were never looked at: PostgreSQL guesses differently. After some calls
    // tables have pages whose rows are gone: that is what PostgreSQL finds that makes statistics of its own accord.
    let mut found = Vec::new();
    for (chats, at_first, later) in
        [(1, "analyze", ""), (1, "", ""), (1_000, "", ""), (1, "", "analyze"), (1_000, "", "analyze"), (1, "", "vacuum analyze")]
    {
        let log = Log::of_this_thread();
        let db = database().await;
        let mut connection = explaining(&db).await;
        without_autovacuum(&mut connection).await;
        let tiny = small(&mut connection, chats).await;
        run(&mut connection, at_first).await;
        // Kept from the first time on, as it would be from the sixth.
        run(&mut connection, "set plan_cache_mode = force_generic_plan").await;
        for statistics in ["", later, ""] {
            run(&mut connection, statistics).await;
            for _ in 0..3 {
                use_everything(&mut connection, &tiny).await;
            }
        }
        // Filled by somebody else, and not analyzed: nothing tells the kept plans.
        fill(&mut db.options().connect().await.unwrap()).await;
        let known = known(&mut db.options().connect().await.unwrap()).await;
        notices(&log);
        run(&mut connection, TELL).await;
        use_everything(&mut connection, &known).await;
        let told = notices(&log);
        assert_eq!(unordered_updates(&told), (String::new(), ORDERED_UPDATES), "{chats} chats, {at_first}, {later}");
        found.extend(scans_of(told).into_iter().map(|scan| format!("{chats} chats, {at_first}, {later}: {scan}")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
