//! From an open transport to a known user: the client enters the namespace with its token, or brings it in an event `authenticate`. Then its
//! session is opened as that of any client.

use axum::extract::ws::{Message, Utf8Bytes};
use futures_util::{SinkExt, StreamExt};
use secrecy::SecretString;
use tokio::time::timeout;

use crate::auth::same_token;
use crate::connection::{self, ConnectQuery, Entrant, Frames, Shared, fault_of};
use crate::driver::ConnectOptions;
use crate::protocol::client::{FrameError, FrameId, refuse_binary};
use crate::protocol::fields::whole_number;
use crate::protocol::socketio::{Auth, First, SocketIo};
use crate::protocol::{Code, Fault};

/// The first request of a client, read.
#[derive(Debug)]
pub(super) struct Knock {
    /// The token of the header or of the query.
    pub(super) token: Option<SecretString>,
    /// The options of the query, unchecked.
    pub(super) query: ConnectQuery,
    /// The dialect of its connection.
    pub(super) dialect: SocketIo,
}

/// The reason for which a client is not let in. None: it has left.
type NotIn = Option<FrameError>;

/// Lets the client in, and runs its session.
pub(super) async fn enter(shared: Shared, mut socket: impl Frames, knock: Knock) {
    let Knock { token, query, mut dialect } = knock;
    match Box::pin(entrant(&shared, &mut socket, token, query, &mut dialect)).await {
        Ok((identity, options, id)) => {
            dialect.set_window(options.window);
            connection::run(shared, socket, Entrant { identity, options, dialect, answer_to: Some(id) }).await;
        }
        Err(Some(FrameError { id, fault })) => connection::refuse(&shared.context.metrics, socket, dialect, id.as_ref(), &fault).await,
        Err(None) => shared.context.metrics.connection_closed(None),
    }
}

async fn entrant(
    shared: &Shared,
    socket: &mut impl Frames,
    token: Option<SecretString>,
    query: ConnectQuery,
    dialect: &mut SocketIo,
) -> Result<(crate::auth::Identity, ConnectOptions, Option<FrameId>), NotIn> {
    let refused = |fault| Some(FrameError { id: None, fault });
    let auth = in_time(shared, connect(socket)).await?;
    let token = same_token(auth.token.as_ref(), token.as_ref()).map_err(|error| refused(error.into()))?;
    let options = options(query, auth).map_err(refused)?;
    if let Some(token) = token {
        let identity = shared.verify(&token).await.map_err(refused)?;
        return Ok((identity, options, None));
    }
    let inside = dialect.enter();
    let (id, token) = in_time(shared, authenticate(socket, inside)).await?;
    match shared.verify(&token).await {
        Ok(identity) => Ok((identity, options, id)),
        Err(fault) => Err(Some(FrameError { id, fault })),
    }
}

/// Gives a client its time for one step.
async fn in_time<T>(shared: &Shared, step: impl Future<Output = Result<T, NotIn>>) -> Result<T, NotIn> {
    let fault = tokio::select! {
        done = timeout(shared.settings.auth_timeout, step) => match done {
            Ok(done) => return done,
            Err(_) => Fault::plain(Code::AuthenticationTimeout),
        },
        () = shared.shutdown.begun() => Fault::plain(Code::Restart),
    };
    Err(Some(FrameError { id: None, fault }))
}

/// Waits until the client enters the namespace.
async fn connect(socket: &mut impl Frames) -> Result<Auth, NotIn> {
    loop {
        match next(socket).await? {
            First::Connect(auth) => return Ok(*auth),
            First::Elsewhere(answer) => put(socket, answer).await?,
            First::Alive => {}
            First::Leave => return Err(None),
            First::Authenticate(id, _) => {
                let fault = Fault::new(Code::BadFrame, "enter the namespace first");
                return Err(Some(FrameError { id, fault }));
            }
        }
    }
}

/// Lets the client in, and waits until it brings its token.
async fn authenticate(socket: &mut impl Frames, inside: Utf8Bytes) -> Result<(Option<FrameId>, SecretString), NotIn> {
    put(socket, inside).await?;
    loop {
        match next(socket).await? {
            First::Authenticate(id, token) => return Ok((id, token)),
            First::Elsewhere(answer) => put(socket, answer).await?,
            First::Connect(_) | First::Alive => {}
            First::Leave => return Err(None),
        }
    }
}

async fn next(socket: &mut impl Frames) -> Result<First, NotIn> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return First::parse(&text).map_err(Some),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Binary(_))) => return Err(Some(refuse_binary())),
            Some(Err(error)) => return Err(fault_of(&error).map(|fault| FrameError { id: None, fault })),
            Some(Ok(Message::Close(_))) | None => {
                connection::answer_close(socket).await;
                return Err(None);
            }
        }
    }
}

async fn put(socket: &mut impl Frames, text: Utf8Bytes) -> Result<(), NotIn> {
    socket.send(Message::Text(text)).await.map_err(|_| None)
}

/// The options of the query, and before them those of `auth`.
fn options(query: ConnectQuery, auth: Auth) -> Result<ConnectOptions, Fault> {
    let window = auth
        .window
        .map(|text| whole_number(&text).and_then(|n| u16::try_from(n).ok()).ok_or_else(|| Fault::invalid("window must be 1 to 500")));
    let resume = if auth.since.is_some() { (auth.epoch, auth.since) } else { (auth.epoch.or(query.epoch), query.since) };
    ConnectOptions::try_from(ConnectQuery {
        token: None,
        device: auth.device.or(query.device),
        window: window.transpose()?.or(query.window),
        batch: None,
        epoch: resume.0,
        since: resume.1,
        marks: auth.marks.or(query.marks),
    })
}
