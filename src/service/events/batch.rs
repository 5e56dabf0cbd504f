//! The task that writes the events of one publisher, batch by batch: it finds the users that they name, makes those that are new,
//! stores the batch with those of others ([`lane`](super::lane)) or as a transaction of its own, and tells those that it concerns.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::lane::Stored;
use super::queue::{Answer, Next, Queued, Turn};
use super::{Published, Publisher};
use crate::delivery::Refusal;
use crate::domain::{Class, ExternalId, Profile, UserId};
use crate::protocol::publish::{PublishRequest, PublishRight, PublishTarget, Urgency};
use crate::service::Service;
use crate::store::{self, EventOutcome, EventRequest, EventTarget};

impl Service {
    /// Queues these events, and starts the task that writes them where none runs. Those that do not fit are refused `busy`.
    pub(super) fn enqueue(&self, publisher: &Publisher, events: Vec<Queued>) {
        if events.is_empty() {
            return;
        }
        match self.events.put(publisher.profile.user, events) {
            Ok(Next::Nothing) => {}
            Ok(Next::Write(turn)) => {
                let (service, profile) = (self.clone(), publisher.profile.clone());
                self.tasks.spawn(async move { service.write_events(&profile, turn).await });
            }
            Err(events) => {
                events.into_iter().for_each(|event| self.answer(event, Err(Refusal::BUSY)));
            }
        }
    }

    /// Writes until nothing waits.
    async fn write_events(&self, publisher: &Profile, mut turn: Turn) {
        loop {
            let batch = turn.next_batch();
            if batch.is_empty() {
                return;
            }
            self.write_batch(publisher, batch).await;
        }
    }

    async fn write_batch(&self, publisher: &Profile, batch: Vec<Queued>) {
        let known = match self.find_named(publisher, &batch).await {
            Ok(known) => known,
            Err(refusal) => return batch.into_iter().for_each(|event| self.answer(event, Err(refusal))),
        };
        let requests: Arc<[EventRequest]> = batch.iter().map(|event| request_of(event, &known)).collect();
        let outcomes = match self.publish_lane.store(publisher.user, &requests).await {
            Stored::Outcomes(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Stored::Refused(refusal) => requests.iter().map(|_| Err(refusal)).collect(),
            Stored::Alone => self.store_alone(publisher, &requests).await,
        };
        for ((event, request), outcome) in batch.into_iter().zip(requests.iter()).zip(outcomes) {
            let told = outcome.and_then(|outcome| self.accepted(request, outcome));
            self.answer(event, told);
        }
    }

    /// The numbers of the users that these events name. Those in `to` that are new are made: only a publisher that may publish to them
    /// comes here with any.
    async fn find_named(&self, publisher: &Profile, batch: &[Queued]) -> Result<HashMap<ExternalId, UserId>, Refusal> {
        const WHAT: &str = "finding the users that events name";
        let names: HashSet<&ExternalId> = batch.iter().flat_map(|event| named(&event.request)).collect();
        if names.is_empty() {
            return Ok(HashMap::new());
        }
        let names: Vec<ExternalId> = names.into_iter().cloned().collect();
        // Publishing has a rate of its own, and is not counted against a budget.
        let found = self.try_asking(&publisher.external, self.store.known_users(&names)).await?;
        let mut known = found.map_err(|cause| Refusal::of(&cause, WHAT))?;
        let wanted: HashSet<&ExternalId> = batch.iter().flat_map(|event| recipients(&event.request)).collect();
        let unknown: Vec<ExternalId> = wanted.into_iter().filter(|name| !known.contains_key(*name)).cloned().collect();
        known.extend(self.make_users(publisher, &unknown).await?);
        Ok(known)
    }

    /// Stores these events without those of others, as one transaction where nothing is wrong with any. An error of one is pinned on it: the batch is halved
    /// until it is alone.
    async fn store_alone(&self, publisher: &Profile, requests: &[EventRequest]) -> Vec<Result<EventOutcome, Refusal>> {
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut parts: Vec<Range<usize>> = std::iter::once(0..requests.len()).collect();
        while let Some(part) = parts.pop() {
            let publishing = self.store.publish(publisher.user, &requests[part.clone()]);
            match self.try_asking(&publisher.external, publishing).await {
                Ok(Ok(stored)) => outcomes.extend(stored.into_iter().map(Ok)),
                Ok(Err(cause)) if part.len() > 1 && is_of_one(&cause) => {
                    let middle = part.start + part.len() / 2;
                    parts.extend([middle..part.end, part.start..middle]);
                }
                Ok(Err(cause)) => outcomes.extend(part.map(|_| Err(Refusal::of(&cause, "publishing events")))),
                Err(refusal) => outcomes.extend(part.map(|_| Err(refusal))),
            }
        }
        outcomes
    }

    /// The caller may be gone: then nobody is answered.
    fn answer(&self, event: Queued, told: Answer) {
        self.count_event(&told);
        let _ = event.answer.send(told);
    }

    /// Wakes those for whom an event waits that has just been stored.
    fn accepted(&self, request: &EventRequest, outcome: EventOutcome) -> Answer {
        match outcome {
            EventOutcome::Accepted { created_at, woken, stream, superseded } => {
                let class = if request.urgent { Class::Alert } else { Class::Event };
                self.notifier.wake_each(woken, class);
                superseded.into_iter().for_each(|user| self.notifier.rows_ended(user));
                stream.into_iter().for_each(|stream| self.notifier.feed_moved(stream));
                Ok(Published { created_at, is_duplicate: false })
            }
            EventOutcome::Duplicate { created_at } => Ok(Published { created_at, is_duplicate: true }),
            EventOutcome::Conflict => Err(Refusal::Conflict),
            EventOutcome::NotFound => Err(Refusal::NotFound),
            EventOutcome::Forbidden => Err(Refusal::NotAPublisher),
            EventOutcome::TooLate => Err(Refusal::TooLate),
        }
    }
}

/// Returns whether one event of many may have caused it, and others would be stored without that one.
const fn is_of_one(cause: &store::Error) -> bool {
    matches!(cause, store::Error::Invalid(_) | store::Error::Held(_))
}

fn named(request: &PublishRequest) -> impl Iterator<Item = &ExternalId> {
    listed(request).iter().chain(&request.except)
}

fn listed(request: &PublishRequest) -> &[ExternalId] {
    match &request.target {
        PublishTarget::Users(users) => users,
        PublishTarget::Feed(_) | PublishTarget::Everyone => &[],
    }
}

/// The users that are listed and not excepted.
fn recipients(request: &PublishRequest) -> impl Iterator<Item = &ExternalId> {
    let except: HashSet<&ExternalId> = request.except.iter().collect();
    listed(request).iter().filter(move |user| !except.contains(user))
}

/// The event as the store takes it. A user that is excepted and not known has nothing to be kept from.
fn request_of(event: &Queued, known: &HashMap<ExternalId, UserId>) -> EventRequest {
    let request = &event.request;
    let number = |name: &ExternalId| known.get(name).copied();
    let (to, except) = match &request.target {
        PublishTarget::Users(_) => (EventTarget::Users(recipients(request).filter_map(number).collect()), Vec::new()),
        PublishTarget::Feed(feed) => (EventTarget::Feed(*feed), request.except.iter().filter_map(number).collect()),
        PublishTarget::Everyone => (EventTarget::Everyone, request.except.iter().filter_map(number).collect()),
    };
    EventRequest {
        id: event.event,
        event_type: request.event_type.clone(),
        data: request.data.as_ref().map(|data| data.get().to_owned()),
        to,
        except,
        ttl: request.ttl,
        collapse_key: request.collapse_key.clone(),
        merge: request.merge.clone(),
        urgent: request.urgency == Urgency::Urgent,
        may_publish_anywhere: event.right == PublishRight::Anywhere,
    }
}
