//! The short ways of `restante_accept` and `restante_settle` are the long ways: the same calls, at two databases, one of which is made
//! to take the long way each time, leave the same rows and have the same answers.

use restante::domain::UserId;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, Row};
use uuid::Uuid;

use crate::support::fixtures::{LockHolder, assert_consistent, number, until};
use crate::support::{Database, SOMEBODY_WAITS, database};

/// Five users, 1 to 5, and their chats by number.
const PEOPLE: &str = "
    select count(*) from restante_users('{a,b,c,d,e}');
    insert into chats (id, kind, direct_key) select md5(n::text)::uuid, case when n = 4 then 'direct'::chat_kind else 'group' end, case when n = 4 then '5:5' end
      from generate_series(1, 8) n;
    insert into chat_heads (chat_id, class) select md5(n::text)::uuid, case when n = 5 then 'event'::inbox_class else 'chat' end from generate_series(1, 8) n;
    insert into chat_members (chat_id, user_id) values
      (md5('1')::uuid, 1), (md5('1')::uuid, 2), (md5('2')::uuid, 1), (md5('2')::uuid, 3), (md5('3')::uuid, 1), (md5('3')::uuid, 2), (md5('3')::uuid, 3),
      (md5('4')::uuid, 5), (md5('5')::uuid, 1), (md5('5')::uuid, 2), (md5('6')::uuid, 2), (md5('6')::uuid, 3), (md5('7')::uuid, 2), (md5('7')::uuid, 4);
    insert into marks (chat_id, user_id) select chat_id, user_id from chat_members;
    insert into devices (user_id, device_id) select id, 'phone' from users;
    insert into device_cursors (user_id, device_id, class) select id, 'phone', c.class from users cross join unnest('{chat,event}'::inbox_class[]) c (class)";

/// Everything that is in the tables, save for what says when.
const TABLES: [&str; 7] = [
    "select id, chat_id, seq, sender_id, message_type, content, metadata, expires_at is null from messages",
    "select user_id, class, seq, message_id, status, attempts, ended, delivered_at is null, read_at is null, reason from message_status",
    "select * from inboxes",
    "select * from chat_heads",
    "select chat_id, user_id, step, moves, delivered_seq, read_seq, has_hole from marks",
    "select * from device_cursors",
    "select * from inbox_gaps",
];

/// One database for the short way, one for the long one.
struct Twins {
    databases: [Database; 2],
    connections: [PgConnection; 2],
}

async fn answer(connection: &mut PgConnection, statement: &str) -> String {
    match sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).fetch_all(connection).await {
        Ok(rows) => rows.last().map(|row| row.get::<Option<String>, _>(0).unwrap_or_default()).unwrap_or_default(),
        Err(error) => panic!("{statement}: {error}"),
    }
}

impl Twins {
    async fn new() -> Self {
        let databases = [database().await, database().await];
        let mut connections = [databases[0].options().connect().await.unwrap(), databases[1].options().connect().await.unwrap()];
        for connection in &mut connections {
            sqlx::raw_sql(PEOPLE).execute(connection).await.unwrap();
        }
        Self { databases, connections }
    }

    /// Asks both, and returns what both said.
    async fn same(&mut self, told: &str, [short, long]: [&str; 2]) -> String {
        let [one, other] = &mut self.connections;
        let answers = [answer(one, short).await, answer(other, long).await];
        assert_eq!(answers[0], answers[1], "{told}: {short}");
        let [answer, _] = answers;
        answer
    }

    async fn assert_same_tables(&mut self, told: &str) {
        for table in TABLES {
            let all = format!("select coalesce(string_agg(t::text, E'\\n' order by t::text), '') from ({table}) t");
            self.same(told, [&all, &all]).await;
        }
    }
}

/// A call with one item; what it says, save for when.
fn accept(id: Uuid, chat: &str, sender: i64, rest: &str, skip_held: bool) -> String {
    format!(
        "select row(outcomes, seqs, classes, first_chats, (select array_agg(u.t is null) from unnest(first_times) u (t)), places, recipients, inbox_seqs)::text \
         from restante_accept(array['{id}'::uuid], array['{chat}'::uuid], array[{sender}::bigint], array['text'], array['x'], {rest}, {skip_held})"
    )
}

/// The id of a chat.
fn chat(n: impl std::fmt::Display) -> Uuid {
    let known = [
        "c4ca4238-a0b9-2382-0dcc-509a6f75849b",
        "c81e728d-9d4c-2f63-6f06-7f89cc14862c",
        "eccbc87e-4b5c-e2fe-2830-8fd9f2a7baf3",
        "a87ff679-a2f3-e71d-9181-a67b7542122c",
        "e4da3b7f-bbce-2345-d777-2b0674a318d5",
        "1679091c-5a88-0faf-6fb5-e6087eb1b2dc",
        "8f14e45f-ceea-167a-5a36-dedd4bea2543",
        "c9f0f895-fb98-ab91-59f5-1fd0297e236d",
    ];
    let n: usize = n.to_string().parse().unwrap();
    // The last is of no chat.
    known.get(n - 1).map_or(Uuid::from_u128(9), |id| id.parse().unwrap())
}

#[tokio::test]
async fn accepting_one_message_the_short_way_is_accepting_it_the_long_way() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut twins = Twins::new().await;
    let mut known: Vec<(Uuid, Uuid, i64)> = Vec::new();
    let mut outcomes = std::collections::BTreeMap::<String, u32>::new();
    for call in 0..2_000 {
        let told = format!("call {call} of seed {seed}");
        if random.u8(..) < 10 {
            let (chat, user) = (chat(random.u8(1..8)), random.u8(1..6));
            let leave = format!(
                "update chat_members set left_seq = case when left_seq is null then (select h.last_seq from chat_heads h where h.chat_id = '{chat}') end \
                 where chat_id = '{chat}' and user_id = {user} returning 'moved'"
            );
            twins.same(&told, [&leave, &leave]).await;
        }
        let (mut id, mut to, mut sender) = (Uuid::from_u128(random.u128(..)), chat(random.u8(1..10)), random.i64(1..6));
        match random.u8(0..10) {
            0 => (id, to, sender) = random.choice(&known).copied().unwrap_or((id, to, sender)),
            1 => (id, _, sender) = random.choice(&known).copied().unwrap_or((id, to, sender)),
            2 => (id, to, _) = random.choice(&known).copied().unwrap_or((id, to, sender)),
            _ => {}
        }
        let metadata = random.choice(["null", "'{\"a\": [1]}'"]).unwrap();
        let expires = random.choice(["null", "null", "now() + interval '1 hour'", "now() - interval '1 hour'"]).unwrap();
        let rest = format!("array[{metadata}::text], array[({expires})::timestamptz]");
        let calls = [false, true].map(|skip_held| accept(id, &to.to_string(), sender, &rest, skip_held));
        let said = twins.same(&told, [&calls[0], &calls[1]]).await;
        *outcomes.entry(said.split(['{', '}']).nth(1).unwrap().to_owned()).or_default() += 1;
        known.push((id, to, sender));
        if call % 100 == 0 {
            twins.assert_same_tables(&told).await;
        }
    }
    println!("{outcomes:?}");
    for outcome in ["accepted", "duplicate", "conflict", "not_a_member", "too_late"] {
        assert!(outcomes.get(outcome).is_some_and(|calls| *calls > 20), "{outcomes:?}");
    }
    twins.assert_same_tables(&format!("the end of seed {seed}")).await;
}

#[tokio::test]
async fn of_two_connections_that_store_one_id_the_second_finds_what_the_first_has_committed() {
    let db = database().await;
    let pool = db.pool(2).await;
    sqlx::raw_sql(PEOPLE).execute(&pool).await.unwrap();
    let nothing_else = "array[null::text], array[null::timestamptz]";
    let cases = [
        // The second's chat, and its way; what it is told after a commit of the first, and after its rollback.
        (1, false, ["duplicate", "accepted"]),
        (2, false, ["duplicate", "accepted"]),
        (2, true, ["23505", "accepted"]),
    ];
    for first_is_long in [false, true] {
        for (other, is_long, expected) in cases {
            for (end, expected) in ["commit", "rollback"].into_iter().zip(expected) {
                let id = Uuid::now_v7();
                let first = accept(id, &chat(1).to_string(), 1, nothing_else, first_is_long);
                let mut holder = LockHolder::holds(&db.options(), &first).await;
                let options = db.options();
                let second =
                    accept(id, &chat(other).to_string(), 1, nothing_else, is_long).replace("select row", "select outcomes[1]--\n, row");
                let second = tokio::spawn(async move {
                    let mut connection = options.connect().await.unwrap();
                    let said = sqlx::query_scalar::<_, String>(AssertSqlSafe(second)).fetch_one(&mut connection).await;
                    said.unwrap_or_else(|error| error.as_database_error().unwrap().code().unwrap().into_owned())
                });
                until(&pool, "it waits for the first", SOMEBODY_WAITS).await;
                holder.run(end).await;
                assert_eq!(second.await.unwrap(), expected, "long: {first_is_long}, {is_long}; chat {other}, {end}");
            }
        }
    }
    assert_consistent(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbox_into_which_two_connections_accept_at_once_is_numbered_without_a_hole() {
    let db = database().await;
    let pool = db.pool(2).await;
    sqlx::raw_sql(PEOPLE).execute(&pool).await.unwrap();
    // All to user 2, whose inbox goes through a dozen steps meanwhile.
    let senders = [(1, 1, false), (6, 3, false), (7, 4, false), (3, 1, true)].map(|(to, sender, is_long)| {
        let options = db.options();
        tokio::spawn(async move {
            let mut connection = options.connect().await.unwrap();
            for _ in 0..100 {
                let call = accept(Uuid::now_v7(), &chat(to).to_string(), sender, "array[null::text], array[null::timestamptz]", is_long);
                answer(&mut connection, &call).await;
            }
        })
    });
    for sender in senders {
        sender.await.unwrap();
    }
    let stored = number(&pool, "select count(*) from message_status where user_id = 2").await;
    assert!(stored >= 300, "the long one skips what is held");
    assert_eq!(number(&pool, "select last_seq from inboxes where user_id = 2 and class = 'chat'").await, stored);
    assert_consistent(&pool).await;
}

/// The calls of an ack, as it is and with a row beside it that is not there.
fn settle(user: UserId, seq: i64, mark: Option<(Uuid, i64)>, device: Option<i64>) -> [String; 2] {
    [false, true].map(|is_long| {
        let beside = if is_long { ", 0" } else { "" };
        let classes = if is_long { "{chat,chat}" } else { "{chat}" };
        let mark = match mark {
            Some((chat, mark)) => format!("array[{user}]::bigint[], array['{chat}']::uuid[], array[{mark}]::bigint[]", user = user.0),
            None => "'{}', '{}', '{}'".to_owned(),
        };
        let device = match device {
            Some(acked) => format!("array[{}]::bigint[], array['phone'], '{{chat}}', array[{acked}]::bigint[]", user.0),
            None => "'{}', '{}', '{}', '{}'".to_owned(),
        };
        format!(
            "select coalesce(moved::text, '-') from restante_settle(array[{}{beside}]::bigint[], '{classes}', array[{seq}{beside}]::bigint[], {mark}, '{{}}', '{{}}', {device})",
            user.0
        )
    })
}

/// Another statement that changes rows and marks meanwhile.
fn happening(random: &mut fastrand::Rng, user: UserId, seq: i64) -> String {
    let row = format!("user_id = {} and class = 'chat' and seq = {seq}", user.0);
    match random.u8(0..6) {
        0 => accept(
            Uuid::from_u128(random.u128(..)),
            &chat(random.choice([1, 3, 6, 7]).unwrap()).to_string(),
            random.i64(1..5),
            "array[null::text], array[null::timestamptz]",
            false,
        ),
        1 => format!(
            "select count(*)::text from restante_attempt(array[{}]::bigint[], '{{chat}}', array[{seq}]::bigint[], '{{x}}', '{{true}}', 5)",
            user.0
        ),
        2 => format!("update message_status set status = 'expired', ended = 'expired' where {row} and status = 'sent' returning 'expired'"),
        // One, since of several nobody says which is put back first.
        3 => format!(
            "select (restante_put_back(q.message_id, q.external_id)).outcome from (select s.message_id, u.external_id from message_status s \
             join users u on u.id = s.user_id where s.user_id = {} and s.status = 'failed' and s.seq <= {seq} order by s.seq limit 1) q",
            user.0
        ),
        4 => format!(
            "select string_agg(r.up_to::text, ' ' order by r.up_to) from restante_read(array[{}]::bigint[], array['{}']::uuid[], array[{}]::bigint[], 100) r",
            user.0,
            chat(random.choice([1, 3, 6, 7]).unwrap()),
            random.i64(0..40)
        ),
        _ => format!("select restante_advance_settled({}, 'chat')::text", user.0),
    }
}

#[tokio::test]
async fn settling_one_ack_the_short_way_is_settling_it_the_long_way() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut twins = Twins::new().await;
    let mut moved = 0;
    for call in 0..3_000 {
        let told = format!("call {call} of seed {seed}");
        let (user, seq) = (UserId(random.i64(1..5)), random.i64(1..2 + call / 20));
        let event = happening(&mut random, user, seq);
        twins.same(&told, [&event, &event]).await;
        let mark = random.bool().then(|| (chat(random.u8(1..8)), random.i64(0..2 + call / 20)));
        let device = random.bool().then(|| random.i64(0..2 + call / 10));
        let [short, long] = settle(user, seq, mark, device);
        let xmax = "select pg_snapshot_xmax(pg_current_snapshot())::text";
        let before = [answer(&mut twins.connections[0], xmax).await, answer(&mut twins.connections[1], xmax).await];
        moved += u32::from(twins.same(&told, [&short, &long]).await == "{1}");
        let marked = before.map(|xid| {
            format!(
                "select string_agg(chat_id || ' ' || user_id, ' ' order by chat_id, user_id) from marks where marked_xid >= '{xid}'::xid8"
            )
        });
        twins.same(&told, [&marked[0], &marked[1]]).await;
        if call % 20 == 0 {
            twins.assert_same_tables(&told).await;
        }
    }
    assert!(moved > 100, "{moved} rows were settled");
    twins.assert_same_tables(&format!("the end of seed {seed}")).await;
    for database in &twins.databases {
        let pool = database.pool(1).await;
        assert!(number(&pool, "select count(*) from marks where has_hole").await > 0);
        assert!(number(&pool, "select count(*) from inbox_gaps").await > 0, "some were put back");
    }
}
