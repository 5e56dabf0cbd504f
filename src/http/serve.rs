//! The listener: takes connections, no more than are allowed, and gives each to the routes until it ends, becomes a
//! WebSocket, or uses up its time. It knows of requests only that one has come.
//!
//! A client that connects and sends nothing, or one byte at a time, occupies one connection for a limited time and little memory.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;
use tracing::debug;

use super::layers::REQUEST_TIME_MAX;
use crate::protocol::{Code, Fault};
use crate::telemetry::Metrics;

/// The time for which a connection without a complete request is kept. It is longer than the time of usual proxies.
const KEPT_ALIVE_MAX: Duration = Duration::from_secs(75);
/// Then a connection that is no WebSocket ends with the answer that is under way: a client that does not read answers
/// cannot hold its place for ever.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(600);

/// Limits of connections.
#[derive(Debug, Clone, Copy)]
pub struct ServeSettings {
    /// Connections at the same time, WebSockets included.
    pub connections_max: usize,
    /// Time from connecting to the end of the first request's head.
    pub head_timeout: Duration,
}

/// Serves until `stop`, and then what is under way.
pub async fn serve(mut listener: TcpListener, router: Router, settings: ServeSettings, metrics: Arc<Metrics>, stop: CancellationToken) {
    // Finished once, and not for each connection.
    let router: Router = router.with_state(());
    let places = Arc::new(Semaphore::new(settings.connections_max.min(Semaphore::MAX_PERMITS)));
    let connections = TaskTracker::new();
    while let Some((stream, _)) = stop.run_until_cancelled(Listener::accept(&mut listener)).await {
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                // Frames are small and follow one another: Nagle's algorithm would hold each back until the one before it is
                // acked, up to 40 ms later.
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(%error, "a connection keeps Nagle's algorithm");
                }
                connections.spawn(connection(Placed { stream, _place: place }, router.clone(), settings.head_timeout, stop.clone()));
            }
            Err(_) => {
                metrics.connections_refused.inc();
                refuse(&stream);
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// A connection up to its end, or until it is a WebSocket: then another task has it.
async fn connection(placed: Placed, router: Router, head_timeout: Duration, stop: CancellationToken) {
    let begun = Instant::now();
    let heard = Arc::new(Notify::new());
    let service = service_fn({
        let heard = Arc::clone(&heard);
        move |request: hyper::Request<Incoming>| {
            heard.notify_one();
            router.clone().call(request.map(Body::new))
        }
    });
    let mut protocol = http1::Builder::new();
    // A client may close its half when it has sent its request (RFC 9112 section 9.6): it is answered, and what it asked for is done.
    protocol.timer(TokioTimer::new()).header_read_timeout(KEPT_ALIVE_MAX).half_close(true);
    let mut served = pin!(protocol.serve_connection(TokioIo::new(placed), service).with_upgrades());
    let mut ends = begun + head_timeout;
    let (mut has_spoken, mut takes_leave) = (false, false);
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
                ends = begun + CONNECTION_TIME_MAX;
            }
            () = sleep_until(ends) => {
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
    _place: OwnedSemaphorePermit,
}

impl Placed {
    fn stream(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().stream)
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

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
