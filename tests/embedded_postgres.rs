//! The embedded server: how it starts, is shared, survives and ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::{fs, thread};

use restante_postgres::{Embedded, Error, LastOut, ServerOptions, Started, Throwaway, ThrowawayDir};
use sqlx::{ConnectOptions, Connection};
use support::{blocking, kill, wait_until};

async fn start(dir: &ThrowawayDir) -> Embedded {
    start_in(dir.path()).await.unwrap()
}

async fn start_in(root: &Path) -> Result<Embedded, Error> {
    let root = root.to_path_buf();
    blocking(move || Embedded::start(&root, &ServerOptions::disposable())).await
}

async fn setting(server: &Embedded, name: &str) -> String {
    let mut connection = server.options("postgres").connect().await.unwrap();
    sqlx::query_scalar("select current_setting($1)").bind(name).fetch_one(&mut connection).await.unwrap()
}

fn pid_file(dir: &ThrowawayDir) -> PathBuf {
    dir.path().join("postgres/data/postmaster.pid")
}

#[tokio::test]
async fn a_fresh_server_loses_nothing_and_listens_on_its_socket_only() {
    let dir = ThrowawayDir::new().unwrap();
    let root = dir.path().to_path_buf();
    let server = blocking(move || Embedded::start(&root, &ServerOptions::default()).unwrap()).await;
    assert_eq!(server.started(), Started::Fresh);
    let expected = [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("data_checksums", "on"),
        ("max_connections", "200"),
        ("listen_addresses", ""),
    ];
    for (name, value) in expected {
        assert_eq!(setting(&server, name).await, value, "{name}");
    }
    let home = fs::metadata(dir.path().join("postgres")).unwrap();
    assert_eq!(home.permissions().mode() & 0o777, 0o700, "nobody else can reach the socket");
}

/// Broken by PostgreSQL's own settings: the words stand in the statement, in its parameters and in the row that is refused.
#[tokio::test]
async fn the_log_of_the_server_holds_nothing_of_a_statement_that_fails() {
    let dir = ThrowawayDir::new().unwrap();
    let server = start(&dir).await;
    let mut connection = server.options("postgres").connect().await.unwrap();
    sqlx::raw_sql("create table said (words text check (length(words) < 5))").execute(&mut connection).await.unwrap();
    sqlx::query("insert into said values ($1)").bind("planted as a parameter").execute(&mut connection).await.unwrap_err();
    sqlx::raw_sql("insert into said values ('planted in a statement')").execute(&mut connection).await.unwrap_err();
    sqlx::raw_sql("do $$ begin raise log 'the end'; end $$").execute(&mut connection).await.unwrap();
    let log = || fs::read_to_string(dir.path().join("postgres/server.log")).unwrap();
    wait_until("everything is written", || log().contains("the end")).await;
    assert!(log().contains("violates check constraint") && !log().contains("planted"), "{}", log());
}

#[tokio::test]
async fn a_stopped_server_starts_again_with_its_data() {
    let dir = ThrowawayDir::new().unwrap();
    let server = start(&dir).await;
    server.ensure_database("kept").await.unwrap();
    blocking(move || server.stop().unwrap()).await;
    let server = start(&dir).await;
    assert_eq!(server.started(), Started::Warm);
    server.options("kept").connect().await.unwrap();
}

#[tokio::test]
async fn stopping_a_stopped_server_is_no_error() {
    let dir = ThrowawayDir::new().unwrap();
    let server = start(&dir).await;
    blocking(move || server.stop().and_then(|()| server.stop())).await.unwrap();
}

#[tokio::test]
async fn a_running_server_is_adopted() {
    let dir = ThrowawayDir::new().unwrap();
    let first = start(&dir).await;
    let second = start(&dir).await;
    assert_eq!(second.started(), Started::Adopted);
    assert!(first.pid().is_some());
    assert_eq!(first.pid(), second.pid());
}

#[tokio::test]
async fn of_those_that_start_at_once_one_starts_and_the_others_adopt() {
    let dir = ThrowawayDir::new().unwrap();
    let servers: Vec<Embedded> = blocking_together(3, || Embedded::start(dir.path(), &ServerOptions::disposable()).unwrap());
    assert_eq!(servers.iter().filter(|server| server.started() == Started::Fresh).count(), 1);
    assert_eq!(servers.iter().filter(|server| server.started() == Started::Adopted).count(), 2);
    assert_eq!(servers.iter().map(Embedded::pid).collect::<HashSet<_>>().len(), 1);
}

fn blocking_together<T: Send>(n: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    let together = Barrier::new(n);
    let one = || {
        together.wait();
        work()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..n).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[tokio::test]
async fn a_killed_postmaster_with_its_pid_file_left_is_started_again() {
    let dir = ThrowawayDir::new().unwrap();
    let server = start(&dir).await;
    server.ensure_database("kept").await.unwrap();
    kill("-KILL", server.pid().unwrap());
    assert!(pid_file(&dir).exists());
    let server = start(&dir).await;
    assert_eq!(server.started(), Started::Warm);
    server.options("kept").connect().await.unwrap();
}

/// After a reboot the number in the pid file is somebody else's.
#[tokio::test]
async fn a_pid_file_with_the_number_of_a_strangers_process_is_no_hindrance() {
    let dir = ThrowawayDir::new().unwrap();
    let server = start(&dir).await;
    kill("-KILL", server.pid().unwrap());
    wait_until("the postmaster is gone", || server.pid().is_none()).await;
    let owner = fs::metadata(pid_file(&dir)).unwrap();
    let mut stranger = Command::new("sleep");
    if fs::metadata(dir.path()).unwrap().uid() == 0 {
        stranger.uid(owner.uid()).gid(owner.gid());
    }
    let mut stranger = stranger.arg("60").current_dir("/").spawn().unwrap();
    for lock_file in [pid_file(&dir), dir.path().join("postgres/.s.PGSQL.5432.lock")] {
        let text = fs::read_to_string(&lock_file).unwrap();
        let (_, rest) = text.split_once('\n').unwrap();
        fs::write(&lock_file, format!("{}\n{rest}", stranger.id())).unwrap();
    }

    let started = start_in(dir.path()).await;
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger was there all the time");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert_eq!(started.unwrap().started(), Started::Warm);
}

#[tokio::test]
async fn half_an_initdb_is_begun_anew() {
    let dir = ThrowawayDir::new().unwrap();
    let half = dir.path().join("postgres/data.new");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("PG_VERSION"), "15\n").unwrap();
    assert_eq!(start(&dir).await.started(), Started::Fresh);
    assert!(!half.exists());
}

#[tokio::test]
async fn a_data_directory_too_deep_for_a_socket_gets_a_short_one() {
    let dir = ThrowawayDir::new().unwrap();
    let root = dir.path().join("d".repeat(100));
    let server = start_in(&root).await.unwrap();
    assert_eq!(setting(&server, "listen_addresses").await, "");
    let socket_dir = server.options("postgres").get_socket().unwrap().clone();
    assert!(socket_dir.starts_with("/tmp"), "{}", socket_dir.display());
    assert_eq!(fs::metadata(&socket_dir).unwrap().permissions().mode() & 0o777, 0o700);
    blocking(move || server.stop().unwrap()).await;
    fs::set_permissions(&socket_dir, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(start_in(&root).await, Err(Error::ForeignSocketDir { .. })), "anybody could answer there");
    fs::remove_dir(&socket_dir).unwrap();
}

#[test]
fn missing_binaries_are_told_in_one_line_that_helps() {
    let dir = ThrowawayDir::new().unwrap();
    let error = Embedded::start(dir.path(), &ServerOptions::disposable().binaries_in("/nonexistent")).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }));
    let line = error.to_string();
    assert!(!line.contains('\n') && line.contains("apt-get install postgresql, or set DATABASE_URL"), "{line}");
}

#[test]
fn a_cluster_of_another_major_version_is_left_alone() {
    let dir = ThrowawayDir::new().unwrap();
    let data = dir.path().join("postgres/data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "9\n").unwrap();
    let error = Embedded::start(dir.path(), &ServerOptions::disposable()).unwrap_err();
    assert!(matches!(error, Error::Version { have: 9, .. }), "{error}");
    assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
}

#[test]
fn a_failed_start_names_the_log_and_quotes_it() {
    let dir = ThrowawayDir::new().unwrap();
    let error = Embedded::start(dir.path(), &ServerOptions::disposable().set("shared_buffers", "nonsense")).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("postgres/server.log") && text.contains("invalid value for parameter \"shared_buffers\""), "{text}");
}

#[test]
fn under_root_a_directory_that_the_server_cannot_enter_is_told() {
    let dir = ThrowawayDir::new().unwrap();
    if fs::metadata(dir.path()).unwrap().uid() != 0 {
        return; // the server runs as ourselves
    }
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let error = Embedded::start(&closed.join("root"), &ServerOptions::disposable()).unwrap_err();
    assert!(matches!(&error, Error::Unreachable { dir } if *dir == closed), "{error}");
}

#[tokio::test]
async fn a_database_that_all_make_at_once_is_made_once() {
    let dir = ThrowawayDir::new().unwrap();
    let server = start(&dir).await;
    for round in 0..5 {
        let name = format!("round \"{round}\"");
        let all = futures_util::future::join_all((0..8).map(|_| server.ensure_database(&name))).await;
        assert!(all.iter().all(Result::is_ok), "{all:?}");
        server.options(&name).connect().await.unwrap();
    }
}

/// In any other encoding a row may hold bytes that no client can read.
#[tokio::test]
async fn databases_are_utf8_whatever_the_template_of_the_cluster_has_become() {
    let dir = ThrowawayDir::new().unwrap();
    let server = start(&dir).await;
    let mut admin = server.options("postgres").connect().await.unwrap();
    for statement in [
        "alter database template1 is_template false",
        "drop database template1",
        "create database template1 template template0 encoding 'SQL_ASCII' is_template true",
    ] {
        sqlx::raw_sql(statement).execute(&mut admin).await.unwrap();
    }
    server.ensure_database("made").await.unwrap();
    let encoding: String = sqlx::query_scalar("select pg_encoding_to_char(encoding)::text from pg_database where datname = 'made'")
        .fetch_one(&mut admin)
        .await
        .unwrap();
    assert_eq!(encoding, "UTF8");
}

#[tokio::test]
async fn the_last_one_out_stops_the_server() {
    let dir = ThrowawayDir::new().unwrap();
    let (first, second) = (start(&dir).await, start(&dir).await);
    let pid = first.pid();
    assert_eq!(first.stop_if_unused().await.unwrap(), LastOut::InUse);
    assert_eq!(second.pid(), pid, "it has no connection at the moment and still relies on the server");
    assert_eq!(second.stop_if_unused().await.unwrap(), LastOut::Stopped);
    assert!(!pid_file(&dir).exists());
}

#[tokio::test]
async fn a_server_with_a_client_that_nobody_knows_is_left_running() {
    let dir = ThrowawayDir::new().unwrap();
    let server = start(&dir).await;
    let mut psql = server.options("postgres").connect().await.unwrap();
    assert_eq!(server.stop_if_unused().await.unwrap(), LastOut::InUse);
    psql.ping().await.unwrap();
}

/// A backend notices only after its statement that its client has gone. So a process that closes its pool and stops the server may still
/// see its own backends.
#[tokio::test]
async fn a_backend_that_outlives_its_client_for_a_moment_does_not_keep_the_server() {
    let dir = ThrowawayDir::new().unwrap();
    let server = start(&dir).await;
    let mut gone = server.options("postgres").connect().await.unwrap();
    let mut witness = server.options("postgres").connect().await.unwrap();
    let asleep = "select exists (select from pg_stat_activity where query = 'select pg_sleep(0.3)' and state = 'active')";
    tokio::select! {
        _ = sqlx::raw_sql("select pg_sleep(0.3)").execute(&mut gone) => panic!("it sleeps longer than it takes to see it"),
        () = async { while !sqlx::query_scalar::<_, bool>(asleep).fetch_one(&mut witness).await.unwrap() {} } => {}
    }
    drop(gone);
    witness.close().await.unwrap();
    assert_eq!(server.stop_if_unused().await.unwrap(), LastOut::Stopped);
}

/// Each of them alone would lead a connection elsewhere, or break it.
const LIBPQ: [(&str, &str); 14] = [
    ("PGHOST", "nowhere.invalid"),
    ("PGHOSTADDR", "192.0.2.1"),
    ("PGPORT", "1"),
    ("PGUSER", "nobody"),
    ("PGPASSWORD", "wrong"),
    ("PGPASSFILE", "/nowhere"),
    ("PGDATABASE", "another"),
    ("PGOPTIONS", "-c no_such_setting=1"),
    ("PGSERVICE", "nowhere"),
    ("PGAPPNAME", "another"),
    ("PGSSLMODE", "verify-full"),
    ("PGSSLROOTCERT", "/nowhere"),
    ("PGDATA", "/nowhere"),
    ("PGCONNECT_TIMEOUT", "nothing"),
];

fn restante(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restante"));
    command.env_remove("DATABASE_URL").envs(settings.iter().copied()).current_dir(std::env::temp_dir());
    command
}

fn migrated(mut command: Command) -> String {
    let output = command.arg("migrate").output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    assert!(text.contains("the schema is up to date"), "{text}");
    text
}

#[tokio::test]
async fn variables_of_libpq_reach_neither_the_server_nor_its_programs_nor_a_connection() {
    let dir = ThrowawayDir::new().unwrap();
    let root = dir.path().to_str().unwrap().to_owned();
    let told = blocking(move || migrated(restante(&[LIBPQ.as_slice(), &[("DATA_DIR", &root)]].concat()))).await;
    let named = told.lines().find(|line| line.contains("do not count")).unwrap();
    assert!(LIBPQ.iter().all(|(name, _)| named.contains(name)), "{named}");

    let server = start(&dir).await;
    server.ensure_database("elsewhere").await.unwrap();
    let url = server.options("elsewhere").to_url_lossy().to_string();
    blocking(move || {
        migrated(restante(&[LIBPQ.as_slice(), &[("DATABASE_URL", &url), ("JWT_SECRET", "any that has 32 bytes, or some more")]].concat()))
    })
    .await;
    let mut connection = server.options("elsewhere").connect().await.unwrap();
    let there: bool = sqlx::query_scalar("select to_regclass('messages') is not null").fetch_one(&mut connection).await.unwrap();
    assert!(there, "the address says where");
}

#[test]
fn a_file_of_settings_that_sets_a_variable_of_libpq_or_cannot_be_read_is_refused_by_name() {
    let folder = tempfile::TempDir::new().unwrap();
    for (line, expected) in [
        ("PGOPTIONS='-c hush=1'", "the file .env sets PGOPTIONS"),
        ("DATABASE_URL=postgres://ada:hush hush@db/a", "line 1 of the file .env cannot be read: write NAME=value"),
        ("DATABASE_URL='postgres://ada:hush?hush@db/a'", "DATABASE_URL cannot be taken apart: percent-encode the password"),
        ("DATABASE_URL='postgres://ada@db/a?sslkey=/nowhere/key.pem'", "/nowhere/key.pem: No such file"),
    ] {
        fs::write(folder.path().join(".env"), line).unwrap();
        let output = restante(&[]).arg("migrate").current_dir(folder.path()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(expected) && !text.contains("hush") && text.lines().count() == 1, "{text}");
    }
}

/// Ends as a test process may: without a chance to clean up.
#[tokio::test]
async fn a_killed_process_leaves_no_throwaway_server_behind() {
    const CHILD: &str = "RESTANTE_TEST_KEEPS_A_SERVER";
    if std::env::var_os(CHILD).is_some() {
        let server = blocking(|| Throwaway::start(&ServerOptions::disposable()).unwrap()).await;
        println!("\nsocket={}", server.server().options("postgres").get_socket().unwrap().display());
        return std::future::pending().await;
    }
    let this = "a_killed_process_leaves_no_throwaway_server_behind";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([this, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let home = PathBuf::from(lines.find_map(|line| line.strip_prefix("socket=").map(str::to_owned)).unwrap());
    assert!(home.join(".s.PGSQL.5432").exists());
    let pid = fs::read_to_string(home.join("data/postmaster.pid")).unwrap().lines().next().unwrap().to_owned();
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the directory is removed", || !home.parent().unwrap().exists()).await;
    let cwd = format!("/proc/{pid}/cwd");
    assert!(fs::read_link(cwd).is_err(), "the postmaster is gone");
}
