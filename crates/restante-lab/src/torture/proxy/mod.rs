//! A proxy between two that talk over a stream, TCP or a Unix socket, that can do to them what networks do: cut, stall,
//! leave half of a connection open, delay, go slow. In front of PostgreSQL it can also say that the disk is full.

mod postgres;
mod pump;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// One end of a connection.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}
type Stream = Box<dyn Duplex>;

/// Where the proxy leads to.
#[derive(Debug, Clone)]
enum Target {
    /// A node.
    Tcp(SocketAddr),
    /// PostgreSQL, wherever it is now.
    Postgres(watch::Receiver<PathBuf>),
}

/// What it does to all that passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Nothing.
    Fair,
    /// Nothing passes, and nobody is told.
    Stalled,
    /// Each piece comes so many milliseconds later.
    Delayed(u64),
    /// So many bytes in a second.
    Slow(u64),
    /// Whatever PostgreSQL is to write, its disk is full.
    DiskFull,
}

/// Which end of a connection is dropped while the other one stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Whoever connected believes that all is well.
    Server,
    /// The server believes that its client is there.
    Client,
}

/// What connections are told beside the weather.
#[derive(Debug, Clone)]
struct Signals {
    cut: CancellationToken,
    half: watch::Sender<Option<Half>>,
}

/// A running proxy; ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    weather: watch::Sender<Weather>,
    signals: Arc<Mutex<Signals>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// In front of a node, on a port of its own.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn tcp(target: SocketAddr) -> std::io::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let proxy = Self::start(Target::Tcp(target), move |hub| async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                hub.serve(Box::new(stream));
            }
        });
        Ok((proxy, addr))
    }

    /// In front of PostgreSQL, as a socket at `path`. Connections lead to the socket that `target` names when they are made.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn unix(path: &std::path::Path, target: watch::Receiver<PathBuf>) -> std::io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        Ok(Self::start(Target::Postgres(target), move |hub| async move {
            while let Ok((stream, _)) = listener.accept().await {
                hub.serve(Box::new(stream));
            }
        }))
    }

    fn start<F: Future<Output = ()> + Send + 'static>(target: Target, accept: impl FnOnce(Hub) -> F) -> Self {
        let weather = watch::Sender::new(Weather::Fair);
        let signals = Arc::new(Mutex::new(Signals { cut: CancellationToken::new(), half: watch::Sender::new(None) }));
        let hub = Hub { weather: weather.subscribe(), target, signals: Arc::clone(&signals) };
        Self { weather, signals, task: tokio::spawn(accept(hub)) }
    }

    /// Sets the weather.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.signals().cut.cancel();
        self.renew();
    }

    /// Drops one end of each connection, and holds the other until [`Self::mend`].
    pub fn halve(&self, half: Half) {
        self.signals().half.send_replace(Some(half));
    }

    /// Ends what was held by [`Self::halve`].
    pub fn mend(&self) {
        self.cut();
    }

    /// Loses each connection without a word: whoever made it believes that all is well, and nothing mends it. Later ones work.
    pub fn lose(&self) {
        self.halve(Half::Server);
        self.renew();
    }

    fn signals(&self) -> Signals {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections that begin from here on know nothing of what was done to those before.
    fn renew(&self) {
        let fresh = Signals { cut: CancellationToken::new(), half: watch::Sender::new(None) };
        *self.signals.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.signals().cut.cancel();
    }
}

/// What a connection needs of its proxy.
#[derive(Clone)]
struct Hub {
    weather: watch::Receiver<Weather>,
    target: Target,
    signals: Arc<Mutex<Signals>>,
}

impl Hub {
    fn serve(&self, client: Stream) {
        let signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (weather, target) = (self.weather.clone(), self.target.clone());
        tokio::spawn(async move {
            let cut = signals.cut.clone();
            cut.run_until_cancelled(pump::connect_and_run(client, target, weather, signals.half.subscribe())).await;
        });
    }
}

impl Target {
    async fn connect(&self) -> std::io::Result<Stream> {
        Ok(match self {
            Self::Tcp(addr) => {
                let stream = TcpStream::connect(addr).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Self::Postgres(path) => {
                let path = path.borrow().clone();
                Box::new(UnixStream::connect(path).await?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    /// An echo behind a proxy, and a connection to it.
    async fn echo() -> (Proxy, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        let (proxy, addr) = Proxy::tcp(addr).await.unwrap();
        let mut stream = TcpStream::connect(addr).await.unwrap();
        assert_eq!(said(&mut stream, b"hello").await.unwrap(), b"hello");
        (proxy, stream)
    }

    async fn said(stream: &mut TcpStream, words: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(words).await?;
        let mut heard = vec![0; words.len()];
        stream.read_exact(&mut heard).await?;
        Ok(heard)
    }

    const A_MOMENT: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn cut_ends_the_connections_that_are_there_and_no_later_one() {
        let (proxy, mut stream) = echo().await;
        proxy.cut();
        assert!(matches!(stream.read(&mut [0; 8]).await, Ok(0) | Err(_)));
        let (_other, mut later) = echo().await;
        assert_eq!(said(&mut later, b"x").await.unwrap(), b"x");
    }

    #[tokio::test]
    async fn nothing_passes_while_it_is_stalled_and_all_of_it_afterwards() {
        let (proxy, mut stream) = echo().await;
        proxy.set(Weather::Stalled);
        assert!(timeout(A_MOMENT, said(&mut stream, b"wait")).await.is_err());
        proxy.set(Weather::Fair);
        let mut heard = [0; 4];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"wait");
    }

    #[tokio::test]
    async fn half_of_a_connection_stays_open_and_silent_until_it_is_mended() {
        let (proxy, mut stream) = echo().await;
        proxy.halve(Half::Server);
        assert!(timeout(A_MOMENT, said(&mut stream, b"anybody?")).await.is_err());
        proxy.mend();
        assert!(matches!(timeout(Duration::from_secs(5), stream.read(&mut [0; 8])).await.unwrap(), Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn what_was_lost_says_nothing_any_more_and_a_later_connection_works() {
        let (proxy, mut stream) = echo().await;
        proxy.lose();
        proxy.mend();
        assert!(timeout(A_MOMENT, said(&mut stream, b"anybody?")).await.is_err());
        let mut later = TcpStream::connect(stream.peer_addr().unwrap()).await.unwrap();
        assert_eq!(said(&mut later, b"hello").await.unwrap(), b"hello");
    }

    #[tokio::test]
    async fn delay_and_slowness_lose_nothing() {
        let (proxy, mut stream) = echo().await;
        for weather in [Weather::Delayed(20), Weather::Slow(100_000)] {
            proxy.set(weather);
            let words = vec![b'x'; 20_000];
            assert_eq!(said(&mut stream, &words).await.unwrap(), words);
        }
    }
}
