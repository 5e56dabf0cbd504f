//! Events of a client: it publishes to feeds, to everyone and to listed users, and it follows feeds and leaves them. Pure state in
//! [`Outbox`]; the rest are actions of the actor.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use super::Actor;
use super::actions::HTTP_CALL_MAX;
use restante_client::{Http, Published, Wire, encode};
use restante_judge::history::{Audience, Change, Class, Event, Publication};
use restante_session::domain::FeedId;

/// The feed that every user follows.
const EVERYONE: Uuid = Uuid::from_u128(1);
/// With this many events without an answer the client publishes nothing new.
const OPEN_MAX: usize = 20;
/// Confirmed events that are kept, to be published again.
const CONFIRMED_MAX: usize = 10;
/// Collapse keys that publishers use.
const KEYS: u64 = 4;
/// The type of most events, which nobody mutes.
const USUAL_TYPE: &str = "tell";
/// Types that users mute now and then.
pub(super) const MUTED_TYPES: [&str; 2] = ["whisper", "shout"];

/// A feed of the run.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Its id.
    pub feed: Uuid,
    /// Users that may publish to it.
    pub publishers: Vec<String>,
}

/// An event that has no answer yet.
#[derive(Debug, Clone)]
struct Open {
    publication: Publication,
    /// The time at which it leaves; `None`: it is under way on this connection.
    due: Option<Instant>,
}

/// The events of a client.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    open: Vec<Open>,
    confirmed: VecDeque<Publication>,
}

impl Outbox {
    /// The number of events without an answer.
    pub(super) const fn len(&self) -> usize {
        self.open.len()
    }

    /// Tells whether this event waits for its answer.
    pub(super) fn holds(&self, event: Uuid) -> bool {
        self.open.iter().any(|open| open.publication.event == event)
    }

    /// Events that were under way on the last connection leave again.
    pub(super) fn reconnected(&mut self) {
        self.open.iter_mut().filter(|open| open.due.is_none()).for_each(|open| open.due = Some(Instant::now()));
    }

    /// The event has its answer.
    pub(super) fn settle(&mut self, event: Uuid, is_stored: bool) {
        let Some(place) = self.open.iter().position(|open| open.publication.event == event) else { return };
        let Open { publication, .. } = self.open.remove(place);
        if is_stored {
            self.confirmed.push_back(publication);
        }
        if self.confirmed.len() > CONFIRMED_MAX {
            self.confirmed.pop_front();
        }
    }

    /// The event is to be published again then.
    pub(super) fn postpone(&mut self, event: Uuid, until: Instant) {
        if let Some(open) = self.open.iter_mut().find(|open| open.publication.event == event) {
            open.due = Some(until);
        }
    }

    fn due(&mut self) -> Vec<Publication> {
        let now = Instant::now();
        let due = self.open.iter_mut().filter(|open| open.due.is_some_and(|due| due <= now));
        due.map(|open| {
            open.due = None;
            open.publication.clone()
        })
        .collect()
    }
}

impl Actor {
    /// Draws an event and the users that get it. A user without the right to publish everywhere keeps to its own feeds.
    pub(super) fn publish_something(&mut self) {
        let may_anywhere = self.environment.publishers.contains(&self.user);
        let feeds: Vec<Uuid> = self
            .environment
            .feeds
            .iter()
            .filter(|feed| may_anywhere || feed.publishers.contains(&self.user))
            .map(|feed| feed.feed)
            .collect();
        if self.events.len() >= OPEN_MAX || feeds.is_empty() {
            return;
        }
        let to = match self.rng.between(1, 10) {
            8 if may_anywhere => Audience::Feed(EVERYONE),
            9..=10 if may_anywhere => Audience::Users(self.some_users(6)),
            _ => Audience::Feed(self.rng.one_of(&feeds).copied().unwrap_or(EVERYONE)),
        };
        self.state.made += 1;
        let (event, merges) = (self.rng.uuid(), self.rng.chance(200));
        let collapse_key = match merges {
            true => Some(format!("merged-{}", self.rng.between(1, KEYS / 2))),
            false => self.rng.chance(250).then(|| format!("key-{}", self.rng.between(1, KEYS))),
        };
        let is_mutable = !merges && self.rng.chance(300);
        let event_type = if is_mutable { self.rng.one_of(&MUTED_TYPES).copied() } else { None };
        let mut data = json!({"text": format!("{} tells {}", self.name, self.state.made)});
        if merges {
            (data["n"], data["ids"]) = (json!(1), json!([event]));
        }
        let publication = Publication {
            event,
            event_type: event_type.unwrap_or(USUAL_TYPE).to_owned(),
            class: if self.rng.chance(250) { Class::Alert } else { Class::Event },
            to,
            except: if self.rng.chance(100) { self.some_users(2) } else { Vec::new() },
            ttl_ms: (!merges && self.rng.chance(150)).then(|| i64::try_from(self.rng.between(1_000, 5_000)).unwrap_or(1_000)),
            collapse_key,
            merges,
            data: data.to_string().into(),
        };
        self.events.open.push(Open { publication, due: Some(Instant::now()) });
    }

    fn some_users(&mut self, most: u64) -> Vec<String> {
        let count = self.rng.between(1, most);
        let mut users: Vec<String> = (0..count).filter_map(|_| self.rng.one_of(&self.environment.users).cloned()).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// Publishes an event again that was confirmed, with the same id.
    pub(super) fn publish_again(&mut self, wire: &mut Wire) {
        let place = self.rng.index(self.events.confirmed.len());
        if let Some(again) = self.events.confirmed.get(place).cloned() {
            self.put_event_on_the_wire(&again, wire);
        }
    }

    /// Publishes the events that are due.
    pub(super) fn publish_what_is_due(&mut self, wire: &mut Wire) {
        for publication in self.events.due() {
            self.put_event_on_the_wire(&publication, wire);
        }
    }

    fn put_event_on_the_wire(&mut self, publication: &Publication, wire: &mut Wire) {
        self.recorder.note(self.connection, Event::PublishAttempted(publication.clone()));
        let Publication { event, event_type, class, to, except, ttl_ms, collapse_key, merges, data } = publication;
        let to = match to {
            Audience::Feed(EVERYONE) => json!({"everyone": true}),
            Audience::Feed(feed) => json!({"feed": feed}),
            Audience::Users(users) => json!({"users": users}),
        };
        let data: Value = serde_json::from_str(data).unwrap_or_default();
        let mut frame = json!({"eventId": event, "type": event_type, "data": data, "to": to, "urgent": *class == Class::Alert});
        for (name, value) in [("except", json!(except)), ("ttlMs", json!(ttl_ms)), ("collapseKey", json!(collapse_key))] {
            if value != Value::Null && value != json!([]) {
                frame[name] = value;
            }
        }
        if *merges {
            frame["merge"] = json!({"n": "sum", "ids": "union", "times": "count"});
        }
        wire.queue(encode("event:publish", Some(&event.to_string()), &frame));
    }

    /// The service has stored an event.
    pub(super) fn published(&mut self, connection: u32, published: Published) {
        let Published { event_id, created_at, duplicate } = published;
        self.recorder.note(connection, Event::PublishConfirmed { event: event_id.0, created_at, duplicate });
        self.events.settle(event_id.0, true);
    }

    /// The service has refused an event, for now or for good.
    pub(super) fn event_refused(&mut self, connection: u32, event: Uuid, code: &str, again_in: Option<Duration>) {
        self.recorder.note(connection, Event::PublishRefused { event, code: code.to_owned(), is_final: again_in.is_none() });
        match again_in {
            Some(pause) => self.events.postpone(event, Instant::now() + pause),
            None => self.events.settle(event, false),
        }
    }

    /// The user follows a feed, or leaves it. The call runs in the background, because it may take long.
    pub(super) fn change_a_following(&mut self) {
        let Some(feed) = self.rng.one_of(&self.environment.feeds).map(|feed| feed.feed) else { return };
        let change = if self.rng.chance(650) { Change::Join } else { Change::Leave };
        let ask = self.state.number();
        self.recorder.note(self.connection, Event::FollowAsked { ask, feed, change });
        let (token, url) = self.any_node();
        self.http_calls.spawn(async move {
            let call = async {
                let http = Http::new(&url)?;
                match change {
                    Change::Join => http.follow(&token, FeedId(feed)).await?,
                    Change::Leave => http.unfollow(&token, FeedId(feed)).await?,
                }
                anyhow::Ok(())
            };
            match tokio::time::timeout(HTTP_CALL_MAX, call).await {
                Ok(Ok(())) => Event::FollowAnswered { ask, is_done: true, answer: "done".to_owned() },
                Ok(Err(error)) => Event::FollowAnswered { ask, is_done: false, answer: error.to_string() },
                Err(_) => Event::FollowAnswered { ask, is_done: false, answer: "no answer".to_owned() },
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_was_under_way_leaves_again_and_one_that_is_stored_may_be_repeated() {
        let publication = Publication {
            event: Uuid::from_u128(7),
            event_type: USUAL_TYPE.to_owned(),
            class: Class::Event,
            to: Audience::Feed(EVERYONE),
            except: Vec::new(),
            ttl_ms: None,
            collapse_key: None,
            merges: false,
            data: "null".into(),
        };
        let mut events = Outbox::default();
        events.open.push(Open { publication, due: Some(Instant::now()) });
        assert_eq!((events.due().len(), events.due().len()), (1, 0));
        events.reconnected();
        assert_eq!(events.due().len(), 1);
        events.settle(Uuid::from_u128(7), true);
        assert_eq!((events.len(), events.confirmed.len()), (0, 1));
    }
}
