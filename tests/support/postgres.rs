//! Databases for tests. One server serves a whole test process, an embedded one that ends with the process or the
//! one that `DATABASE_URL` names; the migrations are applied once, to a template, and each test gets a copy of it. On a
//! server of `DATABASE_URL` nothing stays behind: what a test makes goes with it, and the rest with the process ([`Run`]).
//! A test that stops or kills PostgreSQL takes a [`PrivateServer`].

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use restante_postgres::{ServerOptions, Throwaway};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::OnceCell;

use super::run::{Run, clear, execute};

/// Names the run to clear after, in the environment of the process that does it.
const CLEARS_AFTER: &str = "RESTANTE_TEST_CLEARS_AFTER";
/// The test that such a process runs; every test binary has it.
const CLEARER: &str = "support::postgres::a_run_that_has_ended_leaves_no_database_behind";

static SERVER: OnceCell<Server> = OnceCell::const_new();
static NUMBER: AtomicU32 = AtomicU32::new(1);

/// Statics are never dropped: all of this ends with the process.
struct Server {
    run: Run,
    template: String,
    _embedded: Option<Throwaway>,
    _clearer: Option<Child>,
}

/// A database of one's own, dropped with this handle, and so are its roles.
pub struct Database {
    name: String,
    admin: PgConnectOptions,
    roles: Mutex<Vec<String>>,
}

/// Makes a database with all migrations applied and nothing in it.
pub async fn database() -> Database {
    let server = SERVER.get_or_init(Server::start).await;
    Database::make(&server.run, &format!("template {}", server.template)).await
}

/// Makes a database with nothing in it, and with these words behind `create database …`.
pub async fn empty_database(how: &str) -> Database {
    Database::make(&SERVER.get_or_init(Server::start).await.run, how).await
}

impl Database {
    async fn make(run: &Run, how: &str) -> Self {
        let name = run.named(NUMBER.fetch_add(1, Ordering::Relaxed));
        run.execute(&format!("create database {name} {how}")).await.unwrap();
        Self { name, admin: run.admin().clone(), roles: Mutex::default() }
    }

    /// Options to connect to it.
    pub fn options(&self) -> PgConnectOptions {
        self.admin.clone().database(&self.name)
    }

    /// The same as the value of `DATABASE_URL`.
    pub fn url(&self) -> String {
        self.options().to_url_lossy().to_string()
    }

    /// A pool of at most `connections`.
    pub async fn pool(&self, connections: u32) -> PgPool {
        PgPoolOptions::new().max_connections(connections).connect_with(self.options()).await.unwrap()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes a role that may log in and nothing else. Returns its name and how it connects.
    pub async fn role(&self) -> (String, PgConnectOptions) {
        let run = &SERVER.get().expect("a database of it is there").run;
        let name = run.named(format_args!("role_{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        run.execute(&format!("create role {name} login password 'of a test'")).await.unwrap();
        self.roles.lock().unwrap().push(name.clone());
        let options = self.options().username(&name).password("of a test");
        (name, options)
    }
}

impl Drop for Database {
    /// Best effort, and in a runtime of its own: the test's may be the one that waits here.
    fn drop(&mut self) {
        let (admin, roles) = (self.admin.clone(), std::mem::take(&mut *self.roles.lock().unwrap()));
        let database = format!("drop database if exists {} with (force)", self.name);
        let statements: Vec<String> =
            std::iter::once(database).chain(roles.iter().map(|role| format!("drop role if exists {role}"))).collect();
        let dropping = std::thread::spawn(move || -> std::io::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            for statement in statements {
                runtime.block_on(execute(&admin, &statement)).map_err(std::io::Error::other)?;
            }
            Ok(())
        });
        let _ = dropping.join();
    }
}

impl Server {
    async fn start() -> Self {
        let (admin, embedded) = match std::env::var("DATABASE_URL") {
            Ok(url) if !url.is_empty() => (url.parse().expect("DATABASE_URL is a URL"), None),
            _ => {
                let server = blocking(throwaway).await;
                (server.server().options("postgres"), Some(server))
            }
        };
        let run = Run::begin(&admin).await.unwrap();
        let clearer = embedded.is_none().then(|| clearer(&run));
        let template = run.named("template");
        run.execute(&format!("create database {template} encoding 'UTF8' template template0")).await.unwrap();
        migrate(&admin.database(&template), &migrations().await).await;
        Self { run, template, _embedded: embedded, _clearer: clearer }
    }
}

/// A process that clears up when this one has ended, killed or not: it waits for the end of a pipe that only this one holds open.
fn clearer(run: &Run) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", CLEARER])
        .env(CLEARS_AFTER, run.name())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Else an interrupt from the terminal would reach it.
        .process_group(0)
        .spawn()
        .unwrap()
}

/// In a run of tests it has nothing to do; see [`clearer`].
#[test]
fn a_run_that_has_ended_leaves_no_database_behind() {
    let (Ok(run), Ok(url)) = (std::env::var(CLEARS_AFTER), std::env::var("DATABASE_URL")) else { return };
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    let admin: PgConnectOptions = url.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // Its sessions have a moment to notice that their client is gone.
        for _ in 0..600 {
            let mut connection = admin.connect().await.unwrap();
            let lives = "select exists (select from pg_stat_activity where application_name = $1)";
            if !sqlx::query_scalar::<_, bool>(lives).bind(&run).fetch_one(&mut connection).await.unwrap() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        clear(&admin).await.unwrap();
    });
}

async fn migrations() -> Migrator {
    Migrator::new(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))).await.unwrap()
}

async fn migrate(options: &PgConnectOptions, migrations: &Migrator) {
    let mut connection = PgConnection::connect_with(options).await.unwrap();
    migrations.run(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// A server for one test, to be ended and started again at will. It ends with the test in any case.
pub struct PrivateServer {
    server: Throwaway,
}

/// A way to end PostgreSQL.
#[derive(Debug, Clone, Copy)]
pub enum Ending {
    /// As at a planned restart: clients are told and disconnected, everything is written.
    Fast,
    /// As at a planned restart in a hurry: clients are told, recovery at the next start.
    Immediate,
    /// Only the postmaster is killed (SIGKILL); its backends notice and go.
    Killed,
}

impl PrivateServer {
    /// Makes and starts the server.
    pub async fn start() -> Self {
        Self { server: blocking(throwaway).await }
    }

    /// The same with settings of its own.
    pub async fn with(options: ServerOptions) -> Self {
        Self { server: blocking(move || Throwaway::start(&options).unwrap_or_else(|e| panic!("{e}"))).await }
    }

    /// Makes the database `name` with all migrations applied.
    pub async fn database(&self, name: &str) -> PgConnectOptions {
        let options = self.database_without_schema(name).await;
        migrate(&options, &migrations().await).await;
        options
    }

    /// Makes the database `name` with nothing in it.
    pub async fn database_without_schema(&self, name: &str) -> PgConnectOptions {
        self.server.server().ensure_database(name).await.unwrap();
        self.server.server().options(name)
    }

    /// The log of the server.
    pub fn log_file(&self) -> std::path::PathBuf {
        self.server.server().log_file().to_owned()
    }

    /// Ends the server; returns when the postmaster is gone.
    pub async fn end(&self, how: Ending) {
        let server = self.server.server();
        kill(
            match how {
                Ending::Fast => "-INT",
                Ending::Immediate => "-QUIT",
                Ending::Killed => "-KILL",
            },
            server.pid().expect("the server runs"),
        );
        wait_until("PostgreSQL has ended", || server.pid().is_none()).await;
    }

    /// Starts it again on the same data and the same socket.
    pub async fn start_again(self) -> Self {
        let mut server = self.server;
        blocking(move || {
            server.start_again(&ServerOptions::disposable()).unwrap();
            Self { server }
        })
        .await
    }
}

/// Without PostgreSQL's binaries every test ends here, so what it says must be the line that helps.
fn throwaway() -> Throwaway {
    Throwaway::start(&ServerOptions::disposable()).unwrap_or_else(|e| panic!("{e}"))
}

/// Sends a signal with the program `kill`, since this crate forbids the unsafe call.
pub fn kill(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success(), "no process {pid}");
}

/// Looks again and again at what another process does and gives no signal of. Panics after 30 s.
pub async fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs what blocks on a thread of its own.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
}
