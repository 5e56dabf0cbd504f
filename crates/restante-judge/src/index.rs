//! The evidence of a run with ways to look things up in it.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use super::Evidence;
use super::history::{Class, Event, Status};
use super::policies::Policies;
use super::snapshot::{MemberInterval, Message, Row, Snapshot};
use super::trace::Trace;

/// The evidence and its look-up tables.
pub(super) struct Index<'a> {
    /// The evidence itself.
    pub(super) evidence: &'a Evidence,
    /// One trace a history, in the same order: its chat inbox.
    pub(super) traces: Vec<Trace<'a>>,
    /// The same for the inboxes of alerts and of events, one after the other.
    pub(super) event_traces: [Vec<Trace<'a>>; 2],
    /// The messages of each chat by their numbers.
    pub(super) by_chat: HashMap<Uuid, Vec<(Uuid, &'a Message)>>,
    /// Everybody who ever was in a chat.
    pub(super) people: HashMap<Uuid, BTreeSet<&'a str>>,
    /// The content of each message as it was sent.
    pub(super) contents: HashMap<Uuid, &'a str>,
    /// When a user first tried to send a message, in milliseconds of the run.
    pub(super) first_sent: HashMap<(Uuid, &'a str), u64>,
    /// The rules of who may write to whom, as far as the histories say.
    pub(super) policies: Policies<'a>,
    rows: HashMap<(Uuid, &'a str), &'a Row>,
    purged_rows: HashMap<(Uuid, &'a str), i64>,
    intervals: HashMap<(Uuid, &'a str), Vec<&'a MemberInterval>>,
    by_user: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Index<'a> {
    pub(super) fn of(evidence: &'a Evidence) -> Self {
        let Snapshot { rows, intervals, messages, members, .. } = &evidence.snapshot;
        let traces = |class| evidence.histories.iter().map(|history| Trace::of(history, class, evidence.ack_timeout_ms)).collect();
        let mut index = Self {
            evidence,
            traces: traces(Class::Chat),
            event_traces: [traces(Class::Alert), traces(Class::Event)],
            by_chat: HashMap::new(),
            people: HashMap::new(),
            contents: HashMap::new(),
            first_sent: HashMap::new(),
            policies: Policies::of(evidence),
            rows: rows.iter().map(|row| ((row.message, row.user.as_str()), row)).collect(),
            purged_rows: members.iter().map(|member| ((member.chat, member.user.as_str()), member.purged)).collect(),
            intervals: HashMap::new(),
            by_user: HashMap::new(),
        };
        for (place, history) in evidence.histories.iter().enumerate() {
            index.by_user.entry(&history.user).or_default().push(place);
            for record in &history.records {
                if let Event::SendAttempted { message, content, .. } = &record.event {
                    index.contents.insert(*message, content);
                    let first = index.first_sent.entry((*message, &history.user)).or_insert(record.at_ms);
                    *first = record.at_ms.min(*first);
                }
            }
        }
        for interval in intervals {
            index.intervals.entry((interval.chat, &interval.user)).or_default().push(interval);
            index.people.entry(interval.chat).or_default().insert(&interval.user);
        }
        for (id, message) in messages {
            index.by_chat.entry(message.chat).or_default().push((*id, message));
        }
        index.by_chat.values_mut().for_each(|messages| messages.sort_by_key(|(_, message)| message.seq));
        index
    }

    /// Tells whether this message of a chat was removed.
    pub(super) fn is_purged(&self, chat: Uuid, seq: i64) -> bool {
        self.evidence.snapshot.purged.get(&chat).is_some_and(|purged| seq <= *purged)
    }

    /// Tells whether the user's row for this message of a chat was removed.
    pub(super) fn is_row_purged(&self, chat: Uuid, user: &str, seq: i64) -> bool {
        self.purged_rows.get(&(chat, user)).is_some_and(|purged| seq <= *purged)
    }

    /// Tells whether the user's row for a message was removed, with the message or before it. Of a message that was removed only its
    /// sender's confirmation says which one it was.
    pub(super) fn is_row_of_purged(&self, message: Uuid, user: &str) -> bool {
        if let Some(stored) = self.message(message) {
            return self.is_row_purged(stored.chat, user, stored.seq);
        }
        let mut records = self.evidence.histories.iter().flat_map(|history| &history.records);
        records.any(|record| {
            matches!(&record.event, Event::SendConfirmed { message: id, chat, seq, .. } if *id == message && self.is_purged(*chat, *seq))
        })
    }

    pub(super) fn message(&self, id: Uuid) -> Option<&'a Message> {
        self.evidence.snapshot.messages.get(&id)
    }

    pub(super) fn row(&self, message: Uuid, user: &str) -> Option<&'a Row> {
        self.rows.get(&(message, user)).copied()
    }

    /// The traces of a user's clients.
    pub(super) fn traces_of<'b>(&'b self, user: &str) -> impl Iterator<Item = &'b Trace<'a>> + Clone + use<'a, 'b> {
        self.places_of(user).iter().map(|place| &self.traces[*place])
    }

    /// The same of the inbox of alerts or of events.
    pub(super) fn event_traces_of<'b>(&'b self, user: &str, class: Class) -> impl Iterator<Item = &'b Trace<'a>> + Clone + use<'a, 'b> {
        let traces = &self.event_traces[usize::from(class == Class::Event)];
        self.places_of(user).iter().map(move |place| &traces[*place])
    }

    /// The users that have clients.
    pub(super) fn users(&self) -> impl Iterator<Item = &'a str> {
        self.by_user.keys().copied()
    }

    fn places_of(&self, user: &str) -> &[usize] {
        self.by_user.get(user).map_or(&[][..], Vec::as_slice)
    }

    /// Tells whether the user was in the chat at this number.
    pub(super) fn was_member(&self, chat: Uuid, user: &str, seq: i64) -> bool {
        let intervals = self.intervals.get(&(chat, user));
        intervals
            .is_some_and(|intervals| intervals.iter().any(|interval| seq > interval.joined && interval.left.is_none_or(|left| seq <= left)))
    }

    /// Tells whether the user was in the chat at this number and left it later.
    pub(super) fn left_after(&self, chat: Uuid, user: &str, seq: i64) -> bool {
        let intervals = self.intervals.get(&(chat, user));
        intervals.is_some_and(|intervals| {
            intervals.iter().any(|interval| seq > interval.joined && interval.left.is_some_and(|left| seq <= left))
        })
    }

    /// When a client of the user first asked for this status, in milliseconds of the run.
    pub(super) fn asked_at(&self, message: Uuid, stored: &Message, user: &str, status: Status) -> Option<u64> {
        let times = self.traces_of(user).flat_map(|trace| {
            let acked = if status == Status::Delivered { trace.actions.acked.get(&message).copied() } else { None };
            acked.into_iter().chain(trace.actions.read_at(stored.chat, stored.seq))
        });
        times.min()
    }

    pub(super) fn is_requeued(&self, message: Uuid, user: &str) -> bool {
        self.evidence.requeued.contains(&(message, user.to_owned()))
    }
}
