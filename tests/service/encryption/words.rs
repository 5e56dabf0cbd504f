//! Words that are planted in messages, metadata and events, and looked for wherever the service or PostgreSQL writes something down.

use std::path::{Path, PathBuf};
use std::process::Command;

use restante_postgres::ServerOptions;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool};

use super::sealing;
use crate::support::{Connect, Log, Node, PrivateServer, blocking, until_true};

/// In each planted word, and nowhere else in the world.
const ROOT: &str = "zyzzyvaquark";

fn shows(bytes: &[u8]) -> bool {
    let hex = ROOT.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    [ROOT.as_bytes(), hex.as_bytes()].iter().any(|word| bytes.windows(word.len()).any(|window| window == *word))
}

/// Says and publishes planted words, in every way that stores them; some of it waits, some is delivered, some has failed.
async fn plant(node: &Node) -> Value {
    let mut alice = node.connect("alice").await;
    let mut bob = node.connect("bob").await;
    let word = |n: u32| format!("{ROOT}-{n}");
    let failing = alice.ask("message:send", json!({"to": "bob", "content": word(1), "metadata": {"note": word(2)}})).await["data"].take();
    let message = bob.event("message:receive").await;
    assert_eq!(message["content"], word(1));
    bob.ask("message:reject", json!({"messageId": message["messageId"], "reason": "cannot decode", "final": true})).await;
    alice.send("bob", &word(3)).await;
    let delivered = bob.event("message:receive").await;
    bob.ack(&delivered).await;
    bob.close().await;
    alice.send("carl", &word(4)).await;
    // Several at once: the other way through the function that accepts.
    for n in 5..15 {
        alice.ask_later("message:send", json!({"to": "carl", "content": word(n), "metadata": [word(n)]})).await;
    }
    alice.until_pong().await;
    let recalled = alice.send("carl", &word(20)).await;
    alice.ask("message:recall", json!({"messageId": recalled["messageId"]})).await;
    let shop = node.publisher("shop");
    for to in [json!({"users": ["bob", "carl"]}), json!({"everyone": true})] {
        let event = json!({"type": "like", "data": {"text": word(30)}, "to": to, "collapseKey": "k", "merge": {"text": "union"}});
        assert_eq!(shop.post("/v1/events", event).await.0, 200);
    }
    let mut carl = node.open(Connect::user("carl").device("phone")).await;
    assert_eq!(carl.event("message:receive").await["content"], word(4));
    carl.close().await;
    failing
}

/// Each row of each table and view, as text.
pub async fn tables(pool: &PgPool) -> Vec<(String, String)> {
    let names: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'v') order by 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(names.len() > 30, "{names:?}");
    let mut rows = Vec::new();
    for name in names {
        let texts: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("select t::text from {name} t"))).fetch_all(pool).await.unwrap();
        rows.extend(texts.into_iter().map(|text| (name.clone(), text)));
    }
    rows
}

async fn dump(pool: &PgPool, options: &PgConnectOptions) -> Vec<u8> {
    let programs: String = sqlx::query_scalar("select setting from pg_config where name = 'BINDIR'").fetch_one(pool).await.unwrap();
    let socket = options.get_socket().unwrap().to_str().unwrap().to_owned();
    let (user, database) = (options.get_username().to_owned(), options.get_database().unwrap().to_owned());
    blocking(move || {
        let program = PathBuf::from(programs).join("pg_dump");
        let dumped = Command::new(program).args(["--host", &socket, "--username", &user, "--dbname", &database]).output().unwrap();
        assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
        dumped.stdout
    })
    .await
}

/// The files of a folder, with the folders in it.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // Files of the running server come and go.
        if path.is_dir() { found.extend(files(&path)) } else { found.extend(std::fs::read(&path).ok().map(|bytes| (path, bytes))) }
    }
    found
}

/// Broken by data of events that is stored beside its sealed form, by a message alone that is stored plain, and by a log line with a frame.
#[tokio::test]
async fn no_dump_no_table_no_wal_no_log_and_no_dead_letter_shows_what_was_said() {
    let options = ServerOptions::disposable().set("log_statement", "all").set("log_min_duration_statement", "0");
    let server = PrivateServer::with(options).await;
    let options = server.database("restante").await;
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options.clone()).await.unwrap();
    let log = Log::of_this_thread();
    let node = Node::with(options.clone(), sealing).await;
    let failing = plant(&node).await;
    until_true(&pool, "select sweeps_done = sweeps_wanted from encryption").await;

    for (table, row) in tables(&pool).await {
        assert!(!shows(row.as_bytes()), "{table}: {row}");
    }
    let traced = format!("select t::text from delivery_trace('{}') t", failing["messageId"].as_str().unwrap());
    for row in sqlx::query_scalar::<_, String>(AssertSqlSafe(traced)).fetch_all(&pool).await.unwrap() {
        assert!(!shows(row.as_bytes()), "{row}");
    }
    assert!(!shows(&dump(&pool, &options).await));
    for path in ["/v1/admin/dead-letters".to_owned(), format!("/v1/admin/dead-letters/{}", failing["messageId"].as_str().unwrap())] {
        let (status, body) = node.admin().get(&path).await;
        assert!(status == 200 && !shows(body.to_string().as_bytes()), "{path}: {body}");
        assert!(body.to_string().contains("cannot decode"), "{body}");
    }
    node.stop().await;
    for line in log.take().iter().filter(|line| line.target.starts_with("restante") || line.target.starts_with("sqlx")) {
        assert!(!shows(line.message.as_bytes()) && !shows(line.fields.as_bytes()), "{line:?}");
    }
    // All that the server has: WAL, tables, statistics, and its own log, in which every statement stands with its values.
    sqlx::raw_sql("checkpoint; select pg_switch_wal()").execute(&pool).await.unwrap();
    let data: String = sqlx::query_scalar("select current_setting('data_directory')").fetch_one(&pool).await.unwrap();
    let (log_file, found) = (server.log_file(), blocking(move || files(Path::new(&data))).await);
    let wal = found.iter().filter(|(path, _)| path.components().any(|part| part.as_os_str() == "pg_wal"));
    assert!(wal.map(|(_, bytes)| bytes.len()).sum::<usize>() >= 16 << 20, "the WAL is there");
    let log_text = std::fs::read(log_file).unwrap();
    assert!(String::from_utf8_lossy(&log_text).contains("restante_accept"), "the server logs statements");
    for (path, bytes) in found.into_iter().chain([(PathBuf::from("the log"), log_text)]) {
        assert!(!shows(&bytes), "{}", path.display());
    }
}
