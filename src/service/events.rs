//! Events: publishing them, and looking at how far one has got.
//!
//! The token says what its publisher may do, save whether it is a publisher of a feed: that the store says. Whoever
//! may not publish is refused before anything is asked of the database. `queue` keeps what waits and cuts it into batches, `batch` writes them, and
//! `lane` makes one transaction of the small ones of many publishers.

mod batch;
mod lane;
mod queue;

use std::collections::HashMap;
use std::sync::Arc;

use time::OffsetDateTime;
use tokio::sync::oneshot;

pub(super) use lane::PublishLane;
pub(super) use queue::PublishQueue;

use super::may::{Act, Relation, Role, may};
use super::{Refusal, Service};
use crate::domain::{FeedId, MessageId, Profile};
use crate::protocol::publish::{PublishRequest, PublishRight, PublishTarget};
use crate::store::EventProgress;
use queue::{Answer, Queued};

/// The user that publishes, and what its token allows.
#[derive(Debug, Clone)]
pub struct Publisher {
    /// The user.
    pub profile: Arc<Profile>,
    /// The role that its token gives.
    pub role: Role,
}

/// An event that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// When it was accepted, by the database's clock.
    pub created_at: OffsetDateTime,
    /// It had been accepted before: this is the first result again.
    pub is_duplicate: bool,
}

/// The outcome of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publication {
    /// Its id, also where the service has chosen it.
    pub event: MessageId,
    /// Its outcome.
    pub outcome: Result<Published, Refusal>,
}

/// The way of one event through a request.
enum Way {
    /// It was refused at once.
    Refused(Refusal),
    /// It waits to be written.
    Queued(oneshot::Receiver<Answer>),
    /// An earlier event of the request, the one at this place, has the same id.
    Repeated(usize),
}

impl Service {
    /// Publishes events, each whole or not at all, in the order of these calls. The future ends when all of them are answered, in their
    /// order; they are published also where nobody waits for that. With the id of an event of the same publisher an event is a duplicate.
    ///
    /// Each outcome may be refused: [`Refusal::NotAPublisher`] or [`Refusal::NeedsEventsScope`], [`Refusal::RateLimited`],
    /// [`Refusal::NotFound`]: no such feed, [`Refusal::Conflict`], [`Refusal::Busy`], [`Refusal::Unavailable`] (what was stored then is not
    /// known: repeat with the same id), or a defect.
    pub fn publish(&self, publisher: &Publisher, requests: Vec<PublishRequest>) -> impl Future<Output = Vec<Publication>> + Send + use<> {
        let ways = self.queue_events(publisher, requests);
        async move {
            let mut answered: Vec<Publication> = Vec::with_capacity(ways.len());
            for (event, way) in ways {
                let outcome = match way {
                    Way::Refused(refusal) => Err(refusal),
                    // The task that writes has ended without a word.
                    Way::Queued(answer) => answer.await.unwrap_or(Err(Refusal::Unavailable)),
                    Way::Repeated(first) => answered[first].outcome.map(|first| Published { is_duplicate: true, ..first }),
                };
                answered.push(Publication { event, outcome });
            }
            answered
        }
    }

    /// The progress of an event, for its publisher and for tokens that may publish anywhere.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn event(&self, caller: &Publisher, event: MessageId) -> Result<EventProgress, Refusal> {
        let found = self.ask(&caller.profile.external, "reading how far an event has got", self.store.event(event)).await?;
        let progress = found.ok_or(Refusal::NotFound)?;
        let is_theirs = progress.publisher == caller.profile.user;
        may(caller.role, Act::SeeProgress, if is_theirs { Relation::Publisher } else { Relation::Stranger })?;
        Ok(progress)
    }

    /// Judges each event by what is known without the database, and queues the rest. The task that writes is started where none runs.
    fn queue_events(&self, publisher: &Publisher, requests: Vec<PublishRequest>) -> Vec<(MessageId, Way)> {
        let mut places: HashMap<MessageId, usize> = HashMap::with_capacity(requests.len());
        let (mut ways, mut queued) = (Vec::with_capacity(requests.len()), Vec::new());
        for (place, request) in requests.into_iter().enumerate() {
            let event = request.event_id.unwrap_or_else(|| MessageId::generate_by(&self.clock));
            let first = *places.entry(event).or_insert(place);
            if first < place {
                ways.push((event, Way::Repeated(first)));
                continue;
            }
            let way = match self.may_publish(publisher, &request) {
                Err(refusal) => {
                    self.count_event(&Err(refusal));
                    Way::Refused(refusal)
                }
                Ok(()) => {
                    let (answer, answered) = oneshot::channel();
                    queued.push(Queued { event, request, right: publisher.role.publish_right(), answer });
                    Way::Queued(answered)
                }
            };
            ways.push((event, way));
        }
        self.enqueue(publisher, queued);
        ways
    }

    /// Counts an event by its outcome.
    fn count_event(&self, outcome: &Answer) {
        let outcome = match outcome {
            Ok(published) if published.is_duplicate => "duplicate",
            Ok(_) => "published",
            Err(refusal) => refusal.code().as_str(),
        };
        self.metrics.events_published.of(outcome).inc();
    }

    /// The right that the token gives, and the rate of those whose token says nothing. The event is counted.
    fn may_publish(&self, publisher: &Publisher, request: &PublishRequest) -> Result<(), Refusal> {
        let act = match &request.target {
            PublishTarget::Feed(FeedId::DIRECT) => return Err(Refusal::NotFound),
            PublishTarget::Feed(_) => Act::PublishToFeed,
            PublishTarget::Users(_) | PublishTarget::Everyone => Act::PublishToUsers,
        };
        may(publisher.role, act, Relation::Unknown)?;
        match publisher.role.publish_right() {
            PublishRight::Anywhere => Ok(()),
            PublishRight::OwnFeeds => self.delivery.limits().check_event(publisher.profile.user),
        }
    }
}
