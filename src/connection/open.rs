//! From a known user to the task that runs its session: admission, opening, `ready`.

use futures_util::StreamExt;
use tracing::{Instrument, info_span};

use super::closing::refuse;
use super::outbox::Outbox;
use super::socket::Socket;
use super::{Shared, task};
use crate::auth::Identity;
use crate::delivery::Refusal;
use crate::driver::{self, ConnectOptions, Driver, Opened, Outgoing};
use crate::protocol::Fault;
use crate::protocol::client::FrameId;
use crate::protocol::codec::JsonFrames;
use crate::protocol::event::ServerEvent;
use crate::service::Admission;

/// A first frame `authenticate` that waits for its answer, with its id if it has one.
pub(super) type AnswerTo = Option<Option<FrameId>>;

/// Opens a session and starts the task that runs it.
pub(super) async fn run(shared: Shared, socket: Socket, identity: Identity, options: ConnectOptions, answer_to: AnswerTo) {
    let admitted = tokio::select! {
        permit = shared.context.service.admit_opening(&identity.external) => permit.map_err(Refusal::to_one_of_a_crowd),
        () = shared.shutdown.begun() => Err(shared.shutdown.refusal()),
    };
    let opened = match admitted {
        // Boxed, so that a connection that waits for its permit takes little room.
        Ok(permit) => Box::pin(open(permit, &shared, &identity, options)).await,
        Err(fault) => Err(fault),
    };
    match opened {
        Ok(opened) => {
            let span = info_span!("session", session.id = %opened.client.session, user.id = %opened.client.profile.external);
            let tasks = shared.context.tasks.clone();
            // A task of its own: what opening needed would otherwise be kept as long as the connection lives, and
            // idle connections are most of a node's memory.
            tasks.spawn(begin(shared, socket, &identity, opened, answer_to).instrument(span));
        }
        Err(fault) => Box::pin(refuse(&shared.context.metrics, socket, answer_to.as_ref().and_then(Option::as_ref), &fault)).await,
    }
}

async fn open(permit: Admission, shared: &Shared, identity: &Identity, options: ConnectOptions) -> Result<Opened, Fault> {
    driver::open(&permit, &shared.context, identity, options).await
}

/// Everything up to the loop, and the loop itself as a future.
fn begin(
    shared: Shared,
    socket: Socket,
    identity: &Identity,
    opened: Opened,
    answer_to: AnswerTo,
) -> impl Future<Output = ()> + Send + use<> {
    let mut outbox = Outbox::new(JsonFrames { is_batched: opened.client.options.is_batched });
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
