//! A proxy on a stream, TCP or a Unix socket, that does what networks do: it cuts connections, stalls them, leaves half of one open,
//! delays it, or makes it slow. In front of PostgreSQL it can also answer that the disk is full.

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

/// The server behind the proxy.
#[derive(Debug, Clone)]
enum Target {
    /// A node.
    Tcp(SocketAddr),
    /// PostgreSQL, at the socket that the channel names now.
    Postgres(watch::Receiver<PathBuf>),
}

/// A state of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkState {
    /// Everything passes at once.
    Normal,
    /// Nothing passes, and connections stay open.
    Stalled,
    /// Each piece comes this many milliseconds later.
    Delayed(u64),
    /// This many bytes pass in a second.
    Slow(u64),
    /// Statements that write are answered as PostgreSQL does when its disk is full.
    DiskFull,
}

/// The end of a connection that is dropped while the other one stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// The server's end is dropped, and the client does not notice.
    Server,
    /// The client's end is dropped, and the server does not notice.
    Client,
}

/// Signals to connections, beside the state of the network.
#[derive(Debug, Clone)]
struct Signals {
    cut: CancellationToken,
    half: watch::Sender<Option<Half>>,
}

/// A running proxy; ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    network: watch::Sender<NetworkState>,
    signals: Arc<Mutex<Signals>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy in front of a node, on a port of its own.
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

    /// A proxy in front of PostgreSQL, as a socket at `path`. A connection leads to the socket that `target` names when it is made.
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
        let network = watch::Sender::new(NetworkState::Normal);
        let signals = Arc::new(Mutex::new(Signals { cut: CancellationToken::new(), half: watch::Sender::new(None) }));
        let hub = Hub { network: network.subscribe(), target, signals: Arc::clone(&signals) };
        Self { network, signals, task: tokio::spawn(accept(hub)) }
    }

    /// Sets the state of the network.
    pub fn set(&self, network: NetworkState) {
        self.network.send_replace(network);
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

    /// Ends the connections that [`Self::halve`] holds.
    pub fn mend(&self) {
        self.cut();
    }

    /// Drops the server's end of each connection for good: the client does not notice, and [`Self::mend`] does not end it. Later
    /// connections work.
    pub fn lose(&self) {
        self.halve(Half::Server);
        self.renew();
    }

    fn signals(&self) -> Signals {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives later connections fresh signals.
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

/// The part of a proxy that its connections need.
#[derive(Clone)]
struct Hub {
    network: watch::Receiver<NetworkState>,
    target: Target,
    signals: Arc<Mutex<Signals>>,
}

impl Hub {
    fn serve(&self, client: Stream) {
        let signals = self.signals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (network, target) = (self.network.clone(), self.target.clone());
        tokio::spawn(async move {
            let cut = signals.cut.clone();
            cut.run_until_cancelled(pump::connect_and_run(client, target, network, signals.half.subscribe())).await;
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
        proxy.set(NetworkState::Stalled);
        assert!(timeout(A_MOMENT, said(&mut stream, b"wait")).await.is_err());
        proxy.set(NetworkState::Normal);
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
        for network in [NetworkState::Delayed(20), NetworkState::Slow(100_000)] {
            proxy.set(network);
            let words = vec![b'x'; 20_000];
            assert_eq!(said(&mut stream, &words).await.unwrap(), words);
        }
    }
}
