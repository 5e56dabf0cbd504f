//! From a known user to the task that runs its session: admission, opening, `ready`.

use futures_util::StreamExt;
use tracing::{Instrument, info_span};

use super::closing::refuse;
use super::outbox::Outbox;
use super::socket::Frames;
use super::{Shared, task};
use crate::auth::Identity;
use crate::delivery::Refusal;
use crate::driver::{self, ConnectOptions, Driver, Opened, Outgoing};
use crate::protocol::Fault;
use crate::protocol::client::FrameId;
use crate::protocol::dialect::Dialect;
use crate::protocol::event::ServerEvent;
use crate::service::Admission;

/// A first frame `authenticate` that waits for its answer, with its id if it has one.
pub type AnswerTo = Option<Option<FrameId>>;

/// A client that is known, and how its connection speaks.
#[derive(Debug)]
pub struct Entrant<D> {
    /// The user, by its token.
    pub identity: Identity,
    /// The options that it sent.
    pub options: ConnectOptions,
    /// The language of its connection.
    pub dialect: D,
    /// The frame that brought the token, if it waits for an answer.
    pub answer_to: AnswerTo,
}

/// Opens a session and starts the task that runs it.
pub async fn run<D: Dialect>(shared: Shared, socket: impl Frames, entrant: Entrant<D>) {
    let Entrant { identity, options, dialect, answer_to } = entrant;
    match admit(&shared, &identity, options).await {
        Ok(opened) => start(shared, socket, dialect, &identity, opened, answer_to),
        Err(fault) => {
            let reply_to = answer_to.as_ref().and_then(Option::as_ref);
            Box::pin(refuse(&shared.context.metrics, socket, dialect, reply_to, &fault)).await;
        }
    }
}

/// Opens a session, once it is the client's turn. Must not be dropped before its end: the session may be registered by then.
///
/// # Errors
/// The node stops, or those of [`driver::open`].
pub async fn admit(shared: &Shared, identity: &Identity, options: ConnectOptions) -> Result<Opened, Fault> {
    let permit = tokio::select! {
        permit = shared.context.service.admit_opening(&identity.external) => permit.map_err(Refusal::to_one_of_a_crowd)?,
        () = shared.shutdown.begun() => return Err(shared.shutdown.refusal()),
    };
    // Boxed, so that a connection that waits for its permit takes little room.
    Box::pin(open(permit, shared, identity, options)).await
}

/// Starts the task that runs the session. It is a task of its own: what opening needed would otherwise be kept as long as the connection
/// lives, and idle connections are most of a node's memory.
pub fn start<D: Dialect>(shared: Shared, socket: impl Frames, dialect: D, identity: &Identity, opened: Opened, answer_to: AnswerTo) {
    let span = info_span!("session", session.id = %opened.client.session, user.id = %opened.client.profile.external);
    let tasks = shared.context.tasks.clone();
    tasks.spawn(begin(shared, socket, dialect, identity, opened, answer_to).instrument(span));
}

async fn open(permit: Admission, shared: &Shared, identity: &Identity, options: ConnectOptions) -> Result<Opened, Fault> {
    driver::open(&permit, &shared.context, shared.client, identity, options).await
}

/// Everything up to the loop, and the loop itself as a future.
fn begin<D: Dialect, S: Frames>(
    shared: Shared,
    socket: S,
    dialect: D,
    identity: &Identity,
    opened: Opened,
    answer_to: AnswerTo,
) -> impl Future<Output = ()> + Send + use<D, S> {
    let mut outbox = Outbox::new(dialect);
    if let Some(id) = answer_to {
        let taken = ServerEvent::Authenticated { user: identity.external.clone(), expires_at: identity.expires_at };
        outbox.event(id.as_ref(), &taken);
    }
    let (session, emits_alone) = (opened.client.session, opened.emits_alone());
    let (driver, notes) = Driver::begin(shared.context.clone(), opened, outbox, identity.expires_at);
    // Split here: the halves are small, and the future of the loop keeps what it is given twice.
    let (sink, incoming) = socket.split();
    task::run(shared, session, emits_alone, driver, sink, incoming, notes)
}
