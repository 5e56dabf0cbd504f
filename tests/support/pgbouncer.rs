//! PgBouncer in front of a server of the test's own: found by `PGBOUNCER` or on `PATH`, 1.21 or newer.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

use super::wait_until;

/// The port is only a part of its socket's name.
const PORT: u16 = 6432;

/// A pooler in transaction mode that ends with this handle.
pub struct PgBouncer {
    process: Child,
    folder: TempDir,
    server: PgConnectOptions,
}

impl PgBouncer {
    /// In front of this server, with so many connections to it for each role and database, and more lines of `pgbouncer.ini`.
    pub async fn start(server: &PgConnectOptions, pool_size: u32, more: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let sockets = server.get_socket().expect("the server is one of the test's own").clone();
        // As the account of the server: it refuses to be root, and nobody else may enter the folder of the sockets.
        let owner = fs::metadata(&sockets).unwrap();
        chown(folder.path(), Some(owner.uid()), Some(owner.gid())).unwrap();
        let config = format!(
            "[databases]\n* = host={sockets} port={port}\n[pgbouncer]\nlisten_addr =\nlisten_port = {PORT}\nunix_socket_dir = {folder}\n\
             auth_type = trust\nauth_file = {folder}/users\nadmin_users = postgres\nlogfile = {folder}/log\npool_mode = transaction\n\
             default_pool_size = {pool_size}\nmax_client_conn = 500\nignore_startup_parameters = extra_float_digits, options\n\
             server_login_retry = 1\nquery_wait_timeout = 10\n{more}\n",
            sockets = sockets.display(),
            port = server.get_port(),
            folder = folder.path().display(),
        );
        fs::write(folder.path().join("pgbouncer.ini"), config).unwrap();
        fs::write(folder.path().join("users"), "\"postgres\" \"\"\n\"app\" \"\"\n").unwrap();
        let process = run(folder.path(), owner.uid());
        let started = Self { process, folder, server: server.clone() };
        started.answers().await;
        started
    }

    /// Options to connect to the server's database through it, as the role `app`.
    pub fn options(&self) -> PgConnectOptions {
        self.server.clone().socket(self.folder.path()).port(PORT).username("app")
    }

    /// Kills it and starts it again: all connections through it break.
    pub async fn restart(&mut self) {
        self.end();
        self.process = run(self.folder.path(), fs::metadata(self.folder.path()).unwrap().uid());
        self.answers().await;
    }

    /// Kills it.
    pub fn end(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Says this on its console.
    pub async fn console(&self, command: &'static str) {
        let mut console = self.options().username("postgres").database("pgbouncer").connect().await.unwrap();
        sqlx::raw_sql(command).execute(&mut console).await.unwrap();
        console.close().await.unwrap();
    }

    async fn answers(&self) {
        let socket = self.folder.path().join(format!(".s.PGSQL.{PORT}"));
        wait_until("PgBouncer answers", || std::os::unix::net::UnixStream::connect(&socket).is_ok()).await;
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(folder: &Path, uid: u32) -> Child {
    let program = std::env::var_os("PGBOUNCER").filter(|program| !program.is_empty()).unwrap_or_else(|| "pgbouncer".into());
    let mut command = Command::new(program);
    let account = |of: &[&str]| {
        let said = Command::new("id").args(of).output().unwrap().stdout;
        String::from_utf8(said).unwrap().trim().to_owned()
    };
    if account(&["-u"]) == "0" {
        command.args(["-u", &account(&["-nu", &uid.to_string()])]);
    }
    command.arg("-q").arg(folder.join("pgbouncer.ini")).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("no PgBouncer ({error}): set PGBOUNCER to the program, 1.21 or newer"))
}
