//! The first minutes: a database that does not answer, commands before there is a schema, hints that are copied, mistakes in what is typed.
//! Each is told in a sentence that says what is wrong and what to do.

use std::fs;
use std::process::Stdio;

use restante_postgres::ThrowawayDir;
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

use crate::program::{Service, ended, postmaster, restante, said};
use crate::support::{PATIENCE, empty_database, secret, token, wait_until};

/// `FATAL` as a server says it before it lets anybody in.
fn refusal(code: &str, words: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C{code}\0M{words}\0\0");
    let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
    [b"E", length.as_slice(), fields.as_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_is_named_at_once_and_then_its_own_reason_told() {
    for command in [&["serve"][..], &["migrate"], &["dead-letters", "list"]] {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let url = format!("postgres://ada:hush@127.0.0.1:{port}/shop?sslmode=disable");
        let mut child = restante(&[("DATABASE_URL", &url), ("JWT_SECRET", secret())]).args(command).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = timeout(PATIENCE, log.next_line()).await.unwrap().unwrap().unwrap();
        let place = format!("the database shop at 127.0.0.1:{port} as ada");
        assert!(line.contains(&format!("waiting for {place}")) && !line.contains("hush"), "{line}");
        // It has waited: only now somebody answers.
        let (mut connection, _) = timeout(PATIENCE, silent.accept()).await.unwrap().unwrap();
        assert!(connection.read(&mut [0; 1024]).await.unwrap() > 0);
        connection.write_all(&refusal("57P03", "the database system is starting up")).await.unwrap();
        let line = timeout(PATIENCE, log.next_line()).await.unwrap().unwrap().unwrap();
        assert_eq!(line, format!("restante: cannot reach {place}: the database system is starting up (57P03)"));
        assert_eq!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().code(), Some(1));
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_told_with_its_address() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let url = format!("postgres://ada:hush@127.0.0.1:{port}/shop");
    for command in [&["serve"][..], &["migrate"], &["dead-letters", "list"]] {
        let output = ended(restante(&[("DATABASE_URL", &url), ("JWT_SECRET", secret())]).args(command)).await;
        let words = said(&output);
        let place = format!("restante: cannot reach the database shop at 127.0.0.1:{port} as ada: Connection refused");
        assert!(words.starts_with(&place) && words.lines().count() == 1, "{words}");
    }
}

#[tokio::test]
async fn a_migration_that_fails_is_told_with_the_words_of_the_server_and_not_with_lines_of_its_sources() {
    let db = empty_database("encoding 'UTF8' template template0").await;
    let mut admin = db.options().connect().await.unwrap();
    let refuse = "create function refuse() returns event_trigger language plpgsql as $$ begin raise exception 'no functions today' \
                  using hint = 'come back tomorrow'; end $$; \
                  create event trigger refuses on ddl_command_start when tag in ('CREATE FUNCTION') execute function refuse()";
    sqlx::raw_sql(refuse).execute(&mut admin).await.unwrap();
    let output = ended(restante(&[("DATABASE_URL", db.url().as_str()), ("JWT_SECRET", secret())]).arg("migrate")).await;
    let words = said(&output);
    let last = words.lines().last().unwrap();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(last.starts_with("restante: the migrations failed: migration 2026"), "{words}");
    assert!(last.ends_with("no functions today (P0001); come back tomorrow") && !words.contains("at line"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_needs_the_schema_says_what_makes_it_and_that_works_as_it_is_printed() {
    let dir = ThrowawayDir::new().unwrap();
    let own = [("DATA_DIR", dir.path().to_str().unwrap())];
    let list = async || ended(restante(&own).args(["dead-letters", "list"])).await;
    let output = list().await;
    assert!(said(&output).contains("there is no database here") && output.status.code() == Some(2), "{output:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "a look makes no database");

    let root = dir.path().to_owned();
    let made = move || restante_postgres::Embedded::start(&root, &restante_postgres::ServerOptions::disposable()).unwrap().stop().unwrap();
    crate::support::blocking(made).await;
    let output = list().await;
    let words = said(&output);
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert_eq!(postmaster(dir.path()), None, "nothing is left running");
    let run = words.split('`').nth(1).unwrap_or_else(|| panic!("{words}"));
    let migrated = Command::new("sh").args(["-c", run]).envs(own).env_remove("DATABASE_URL").current_dir("/").output().await.unwrap();
    assert!(migrated.status.success(), "{run}: {migrated:?}");
    let output = list().await;
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    let output = ended(restante(&own).args(["dead-letters", "requeue", "--all"])).await;
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && words.contains("nothing is to be done") && !words.contains("--confirm"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_prints_works_as_it_is_printed() {
    let dir = ThrowawayDir::new().unwrap();
    let mut service = Service::start(&dir, &[("LISTEN_ADDR", "localhost:0")]).await;
    let line = service.logs("listening").await;
    assert!(!line.contains('\u{1b}'), "a file is no terminal: {line}");
    let mut commands = Vec::new();
    while commands.len() < 2 {
        let line = timeout(PATIENCE, service.stdout.next_line()).await.unwrap().unwrap().unwrap();
        commands.extend(line.contains("--token").then_some(line));
    }
    // Another terminal, which knows nothing of the first one.
    let shell = |line: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {}", line.trim())]).env_clear().current_dir("/").kill_on_drop(true);
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        shell
    };
    let mut listen = shell(&commands[0]).spawn().unwrap();
    let sent = ended(&mut shell(&format!("{} --wait delivered", commands[1].trim()))).await;
    assert!(sent.status.success(), "{sent:?}");
    let mut shown = BufReader::new(listen.stdout.take().unwrap()).lines();
    let line = timeout(PATIENCE, shown.next_line()).await.unwrap().unwrap().unwrap();
    assert!(line.contains("hello"), "{line}");
    listen.kill().await.unwrap();

    let socket = format!("ws://{}/ws", service.addr);
    for url in [socket.as_str(), socket.trim_start_matches("ws://").trim_end_matches("/ws")] {
        let sent = ["send", "--user", "alice", "--to", "bob", "--wait", "sent", "--url", url, "again"];
        let output = ended(restante(&[("JWT_SECRET", secret())]).args(sent)).await;
        assert!(output.status.success(), "{url}: {output:?}");
    }
    let about: Value = reqwest::get(format!("http://{}/", service.addr)).await.unwrap().json().await.unwrap();
    assert_eq!([&about["service"], &about["websocket"], &about["http"]], [&json!("restante"), &json!("/ws"), &json!("/v1")]);
    let inbox = format!("http://{}/v1/inbox?limit=many", service.addr);
    let answer = reqwest::Client::new().get(inbox).bearer_auth(token("bob")).send().await.unwrap().json::<Value>().await.unwrap();
    let words = answer["error"]["message"].as_str().unwrap();
    assert!(words.contains("limit") && words.starts_with("the query after the `?` cannot be read: "), "{answer}");

    let tls = format!("https://{}", service.addr);
    for (args, code, expected) in [
        (["listen", "--url", &tls], 3, "the service itself speaks no TLS"),
        (["listen", "--url", "http://127.0.0.1:1"], 3, "cannot reach the service at http://127.0.0.1:1: "),
        (["listen", "--device", &"d".repeat(70)], 2, "a device id must be 1 to 64 characters"),
    ] {
        let output = ended(restante(&[("JWT_SECRET", secret())]).args(args).args(["--user", "bob"])).await;
        let words = said(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {words}");
        assert!(words.contains(expected), "{args:?}: {words}");
    }
    assert_eq!(service.stopped("-TERM").await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_of_the_first_start_ends_it_in_order_and_quotes_no_sql() {
    let dir = ThrowawayDir::new().unwrap();
    let mut command = restante(&[("DATA_DIR", dir.path().to_str().unwrap()), ("JWT_SECRET", secret()), ("LISTEN_ADDR", "127.0.0.1:0")]);
    let child = command.arg("serve").process_group(0).spawn().unwrap();
    let made = dir.path().join("postgres/data.new/PG_VERSION");
    wait_until("initdb is at work", || made.exists()).await;
    // As a terminal does it: to all of the group.
    let group = format!("-{}", child.id().unwrap());
    assert!(Command::new("kill").args(["-INT", "--", &group]).status().await.unwrap().success());
    let output = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let words = said(&output);
    assert_eq!((output.status.code(), postmaster(dir.path())), (Some(0), None), "{words}");
    assert!(words.lines().count() <= 3 && words.contains("interrupted: stopping"), "{words}");
}

#[tokio::test]
async fn a_data_directory_that_is_none_is_told_as_the_setting_that_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("afile");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let output = ended(restante(&[("DATA_DIR", path.to_str().unwrap())]).arg("serve")).await;
        let words = said(&output);
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(words.starts_with(&format!("restante: DATA_DIR {} cannot be used: ", path.display())), "{words}");
    }
}
