//! The listener: takes connections, no more than are allowed, and gives each to the routes until it ends, becomes a
//! WebSocket, or uses up its time. It knows of requests only that one has come, and of answers only whether one goes on without an end.
//!
//! A client that connects and sends nothing, or one byte at a time, occupies one connection for a limited time and little memory.

use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;
use tracing::{debug, warn};

use super::address::Peer;
use super::layers::REQUEST_TIME_MAX;
use super::silent::{Silence, Silent};
use crate::event_stream::Wire;
use crate::open_files;
use crate::protocol::{Code, Fault};
use crate::telemetry::Metrics;

/// The time for which a connection without a complete request is kept. It is longer than the time of usual proxies.
const KEPT_ALIVE_MAX: Duration = Duration::from_secs(75);
/// Then a connection that is no WebSocket ends with the answer that is under way: a client that does not read answers
/// cannot hold its place for ever. A stream has its own bound on what its client does not read.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(600);
/// A client's system that acks nothing of what was written for this time is gone (TCP_USER_TIMEOUT, RFC 5482).
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNACKED_TIME_MAX: Duration = Duration::from_secs(60);

/// Between two tries to take a client's connection where this end cannot.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A silent connection that is sent away has left by then.
const LEAVING_TIME_MAX: Duration = Duration::from_millis(100);

/// Limits of connections.
#[derive(Debug, Clone, Copy)]
pub struct ServeSettings {
    /// Connections at the same time, WebSockets included.
    pub connections_max: usize,
    /// Time from connecting to the end of the first request's head.
    pub head_timeout: Duration,
}

/// Serves until `stop`, and then what is under way.
pub async fn serve(listener: TcpListener, router: Router, settings: ServeSettings, metrics: Arc<Metrics>, stop: CancellationToken) {
    // Finished once, and not for each connection.
    let router: Router = router.with_state(());
    let places = Places::new(settings.connections_max);
    let connections = TaskTracker::new();
    while let Some(stream) = stop.run_until_cancelled(accept(&listener)).await {
        match places.take().await {
            Some(place) => {
                let (placed, silence) = (Placed { stream, wire: Wire::default(), _place: place }, places.silent.enter());
                connections.spawn(connection(placed, silence, router.clone(), settings.head_timeout, stop.clone()));
            }
            None => {
                metrics.connections_refused.inc();
                refuse(&stream);
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// The next client. Where this end can take none for now, the log says why, once for each time, and it is tried again.
async fn accept(listener: &TcpListener) -> TcpStream {
    let mut is_said = false;
    loop {
        let error = match listener.accept().await {
            Ok((stream, _)) => {
                prepare(&stream);
                return stream;
            }
            // Of one client that has gone by now.
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) =>
            {
                continue;
            }
            Err(error) => error,
        };
        if !std::mem::replace(&mut is_said, true) {
            let lacks = open_files::lacks(&error).unwrap_or("the cause");
            warn!(%error, lacks, "no connection of a client can be taken at this end: those that are there go on");
        }
        sleep(ACCEPT_PAUSE).await;
    }
}

/// Sets the options of a client's socket. It is served without them, too.
fn prepare(stream: &TcpStream) {
    // Frames are small and follow one another: Nagle's algorithm would hold each back until the one before it is acked, up to 40 ms later.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a connection keeps Nagle's algorithm");
    }
    if let Err(error) = bound_unacked(stream) {
        debug!(%error, "a connection without its client ends when TCP gives it up");
    }
}

/// A client whose network is away says no word, and nothing comes back for what is written to it. Each event stream writes a comment now and
/// then, so this bound ends it, where TCP alone would repeat the comment for a quarter of an hour.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn bound_unacked(stream: &TcpStream) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_tcp_user_timeout(stream, u32::try_from(UNACKED_TIME_MAX.as_millis()).unwrap_or(u32::MAX))?)
}

/// Other systems have no such option: TCP gives a connection up after its own time.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn bound_unacked(_stream: &TcpStream) -> io::Result<()> {
    Ok(())
}

/// The places of clients.
struct Places {
    free: Arc<Semaphore>,
    silent: Silent,
}

impl Places {
    fn new(connections_max: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS))), silent: Silent::default() }
    }

    /// A free place, or that of the client that has been silent for longest. None: all are taken by clients that ask for something, or
    /// have only just come.
    async fn take(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(place);
        }
        if !self.silent.send_oldest_away() {
            return None;
        }
        timeout(LEAVING_TIME_MAX, Arc::clone(&self.free).acquire_owned()).await.ok()?.ok()
    }
}

/// A connection up to its end, or until it is a WebSocket: then another task has it.
async fn connection(placed: Placed, silence: Silence, router: Router, head_timeout: Duration, stop: CancellationToken) {
    let begun = Instant::now();
    let (heard, wire) = (Arc::new(Notify::new()), placed.wire.clone());
    let peer = placed.stream.peer_addr().map_or(Peer::GONE, |peer| Peer(peer.ip()));
    let service = service_fn({
        let (heard, wire) = (Arc::clone(&heard), wire.clone());
        move |mut request: hyper::Request<Incoming>| {
            heard.notify_one();
            request.extensions_mut().insert(wire.clone());
            request.extensions_mut().insert(peer);
            router.clone().call(request.map(Body::new))
        }
    });
    let mut protocol = http1::Builder::new();
    // A client may close its half when it has sent its request (RFC 9112 section 9.6): it is answered, and what it asked for is done.
    protocol.timer(TokioTimer::new()).header_read_timeout(KEPT_ALIVE_MAX).half_close(true);
    let mut served = pin!(protocol.serve_connection(TokioIo::new(placed), service).with_upgrades());
    let mut ends = begun + head_timeout;
    let (mut has_spoken, mut takes_leave) = (false, false);
    let mut silence = Some(silence);
    loop {
        tokio::select! {
            served = served.as_mut() => {
                if let Err(error) = served {
                    debug!(%error, "a connection ended");
                }
                return;
            }
            () = heard.notified(), if !has_spoken => {
                has_spoken = true;
                silence = None;
                ends = begun + CONNECTION_TIME_MAX;
            }
            () = sent_away(silence.as_ref()) => return,
            () = wire.is_cut() => return,
            () = sleep_until(ends) => {
                if wire.is_streaming() {
                    ends = Instant::now() + CONNECTION_TIME_MAX;
                    continue;
                }
                if !has_spoken || takes_leave {
                    return;
                }
                takes_leave = true;
                ends = Instant::now() + 2 * REQUEST_TIME_MAX;
                served.as_mut().graceful_shutdown();
            }
            () = stop.cancelled(), if !takes_leave => {
                takes_leave = true;
                has_spoken = true;
                ends = Instant::now() + 2 * REQUEST_TIME_MAX;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Ends when a connection that is silent is to leave; never for one that has spoken.
async fn sent_away(silence: Option<&Silence>) {
    match silence {
        Some(silence) => silence.sent_away().await,
        None => std::future::pending().await,
    }
}

/// Says that there is no place, as far as that is possible at once: nobody waits for this client.
fn refuse(stream: &TcpStream) {
    // Closing a socket with unread bytes resets it, and the reset may overtake the answer.
    let _ = stream.try_read(&mut [0; 2048]);
    let fault = Fault::new(Code::Unavailable, "this node has as many connections as it may").retry_after_ms(5_000);
    let body = json!({ "error": fault }).to_string();
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 5\r\nconnection: close";
    let _ = stream.try_write(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes());
}

/// A stream that holds its place for as long as it lives, through the upgrade too.
struct Placed {
    stream: TcpStream,
    wire: Wire,
    _place: OwnedSemaphorePermit,
}

impl Placed {
    fn stream(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().stream)
    }

    /// Looks whether the client of a stream has left. Nobody reads while an answer is under way, so its end would be noticed only when
    /// something is written, and by then be a message that nobody gets.
    fn watch(&self, cx: &mut Context<'_>) {
        if !self.wire.is_streaming() {
            return;
        }
        let mut byte = [0; 1];
        match self.stream.poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
            Poll::Ready(Ok(0) | Err(_)) => self.wire.client_left(),
            // The next request, which has its turn after the stream.
            Poll::Ready(Ok(_)) | Poll::Pending => {}
        }
    }
}

impl AsyncRead for Placed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, bytes)
    }

    /// Called whenever the connection has been woken.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch(cx);
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::Extension;
    use axum::routing::get;
    use bytes::Bytes;
    use futures_util::stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// An answer whose second piece comes after a quarter of an hour. Where it is an event stream it says so.
    fn quarter_of_an_hour(is_event_stream: bool) -> Router {
        let answer = move |Extension(wire): Extension<Wire>| async move {
            if is_event_stream {
                let _ = wire.begin();
            }
            let pieces = stream::unfold(0, |piece| async move {
                if piece > 0 {
                    sleep(Duration::from_secs(900)).await;
                }
                (piece < 2).then_some((Ok::<_, io::Error>(Bytes::from_static(b"piece")), piece + 1))
            });
            Body::from_stream(Box::pin(pieces))
        };
        Router::new().route("/", get(answer))
    }

    /// The bytes that a client gets of it.
    async fn got(router: Router) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let settings = ServeSettings { connections_max: 1, head_timeout: Duration::from_secs(5) };
        let served = tokio::spawn(serve(listener, router, settings, Arc::new(Metrics::default()), stop.clone()));
        let mut client = TcpStream::connect(addr).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut text = Vec::new();
        let _ = client.read_to_end(&mut text).await;
        stop.cancel();
        served.await.unwrap();
        String::from_utf8(text).unwrap()
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[tokio::test]
    async fn what_a_client_that_has_vanished_does_not_ack_is_given_up_within_a_bound() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stream = accept(&listener).await;
        assert_eq!(rustix::net::sockopt::tcp_user_timeout(&stream).unwrap(), 60_000);
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_stream_may_last_and_no_other_answer_does() {
        assert_eq!(got(quarter_of_an_hour(true)).await.matches("piece").count(), 2);
        assert_eq!(got(quarter_of_an_hour(false)).await.matches("piece").count(), 1);
    }
}
