//! A proxy in front of PostgreSQL that can stall: connections then stay open and carry nothing, as when a cable is
//! pulled; connections made later work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

/// The port is a part of the socket's name only.
const PORT: u16 = 5432;

/// A running proxy; it ends with this handle.
pub struct StallingProxy {
    folder: TempDir,
    /// Connections made before this many stalls carry nothing.
    stalls: Arc<watch::Sender<u32>>,
    /// Connections that were made so far.
    made: watch::Receiver<u32>,
    /// Of those that are made, so many carry something.
    carried: Arc<AtomicU32>,
    accepting: tokio::task::JoinHandle<()>,
}

impl StallingProxy {
    /// Starts a proxy in front of the server of these options.
    pub fn start(to: &PgConnectOptions) -> Self {
        let folder = TempDir::new().unwrap();
        let listener = UnixListener::bind(folder.path().join(format!(".s.PGSQL.{PORT}"))).unwrap();
        let (stalls, to) = (Arc::new(watch::channel(0).0), to.clone());
        let changes = Arc::clone(&stalls);
        let (making, made) = watch::channel(0);
        let carried = Arc::new(AtomicU32::new(u32::MAX));
        let carrying = Arc::clone(&carried);
        let accepting = tokio::spawn(async move {
            let mut silent = Vec::new();
            while let Ok((client, _)) = listener.accept().await {
                making.send_modify(|made| *made += 1);
                if *making.borrow() > carrying.load(Ordering::Relaxed) {
                    silent.push(client);
                } else {
                    tokio::spawn(carry(client, to.clone(), changes.subscribe()));
                }
            }
        });
        Self { folder, stalls, made, carried, accepting }
    }

    /// The same database, through the proxy.
    pub fn options(&self, of: &PgConnectOptions) -> PgConnectOptions {
        of.clone().socket(self.folder.path()).port(PORT)
    }

    /// Waits until so many connections were made, of all that ever were. Panics after some time.
    pub async fn until_made(&self, connections: u32) {
        let mut made = self.made.clone();
        let wait = tokio::time::timeout(2 * super::PATIENCE, made.wait_for(|made| *made >= connections));
        wait.await.expect("more connections are made").unwrap();
    }

    /// From now on only this many connections pass bytes on; later ones pass none.
    pub fn carry_only(&self, connections: u32) {
        self.carried.store(connections, Ordering::Relaxed);
    }

    /// From now on the connections there are carry nothing.
    pub fn stall(&self) {
        self.stalls.send_modify(|stalls| *stalls += 1);
    }
}

impl Drop for StallingProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn carry(mut client: UnixStream, to: PgConnectOptions, mut stalls: watch::Receiver<u32>) {
    let mut server: Box<dyn Stream> = match to.get_socket() {
        Some(folder) => Box::new(UnixStream::connect(folder.join(format!(".s.PGSQL.{}", to.get_port()))).await.unwrap()),
        None => Box::new(TcpStream::connect((to.get_host(), to.get_port())).await.unwrap()),
    };
    stalls.mark_unchanged();
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        // Both streams stay open.
        Ok(()) = stalls.changed() => std::future::pending::<()>().await,
    }
}
