//! Databases for tests. One server serves a whole test process, an embedded one that ends with the process or the
//! one that `DATABASE_URL` names; the migrations are applied once, to a template, and each test gets a copy of it.
//! A test that stops or kills PostgreSQL takes a [`PrivateServer`].

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use restante::postgres::{ServerOptions, Throwaway};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// Guards the making of the template between test processes that share the server of `DATABASE_URL`.
const TEMPLATE_LOCK: i64 = 0x7265_7374_616e_7465;

static SERVER: OnceCell<Server> = OnceCell::const_new();

struct Server {
    admin: PgConnectOptions,
    template: String,
    /// Statics are never dropped: the embedded server ends with the process.
    _embedded: Option<Throwaway>,
}

/// A migrated database of one's own, dropped with this handle.
pub struct Database {
    name: String,
    admin: PgConnectOptions,
}

/// Makes a database with all migrations applied and nothing in it.
pub async fn database() -> Database {
    let server = SERVER.get_or_init(Server::start).await;
    let name = format!("restante_test_{}", Uuid::now_v7().simple());
    execute(&server.admin, &format!("create database {name} template {}", server.template)).await.unwrap();
    Database { name, admin: server.admin.clone() }
}

impl Database {
    /// How to connect to it.
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
}

impl Drop for Database {
    /// Best effort, and in a runtime of its own: the test's may be the one that waits here.
    fn drop(&mut self) {
        let admin = self.admin.clone();
        let statement = format!("drop database if exists {} with (force)", self.name);
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(execute(&admin, &statement)).map_err(std::io::Error::other)
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
        let template = ensure_template(&admin).await;
        Self { admin, template, _embedded: embedded }
    }
}

/// The template's name carries a hash of the migrations, so a changed migration never meets an old template.
/// It is made under another name, so a killed test run never leaves half of one.
async fn ensure_template(admin: &PgConnectOptions) -> String {
    let migrations = migrations().await;
    let name = format!("restante_template_{:016x}", hash_of(&migrations));
    let mut guard = admin.connect().await.unwrap();
    sqlx::query("select pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut guard).await.unwrap();
    let exists = "select exists (select from pg_database where datname = $1)";
    let there: bool = sqlx::query_scalar(exists).bind(&name).fetch_one(&mut guard).await.unwrap();
    if !there {
        let draft = format!("{name}_draft");
        execute(admin, &format!("drop database if exists {draft} with (force)")).await.unwrap();
        execute(admin, &format!("create database {draft}")).await.unwrap();
        migrate(&admin.clone().database(&draft), &migrations).await;
        execute(admin, &format!("alter database {draft} rename to {name}")).await.unwrap();
    }
    guard.close().await.unwrap();
    name
}

async fn migrations() -> Migrator {
    Migrator::new(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))).await.unwrap()
}

fn hash_of(migrations: &Migrator) -> u64 {
    let mut hasher = DefaultHasher::new();
    migrations.iter().for_each(|migration| (migration.version, &migration.checksum).hash(&mut hasher));
    hasher.finish()
}

async fn migrate(options: &PgConnectOptions, migrations: &Migrator) {
    let mut connection = PgConnection::connect_with(options).await.unwrap();
    migrations.run(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn execute(options: &PgConnectOptions, statement: &str) -> sqlx::Result<()> {
    let mut connection = options.connect().await?;
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
    connection.close().await
}

/// A server for one test, to be ended and started again at will. It ends with the test in any case.
pub struct PrivateServer {
    server: Throwaway,
}

/// How PostgreSQL ends.
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
