//! No statement reads a whole table of a filled database, neither with a plan for its values nor with a general one, nor with a plan from
//! the time when the database was empty.

mod calls;
mod values;

use restante::store::PLANNING;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, Row};

use self::calls::{direct_chats, lanes, use_everything};
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
