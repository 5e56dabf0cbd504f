//! Judges what was received: each client gets its own messages, in order and as they were sent; a message comes again only for a
//! reason; a device's inbox numbers have no hole.

use std::collections::HashMap;

use uuid::Uuid;

use super::findings::{Findings, Rule};
use super::history::Event;
use super::index::Index;
use super::trace::{Delivery, Repetition, Stream, Trace};

pub(super) fn judge(index: &Index<'_>, findings: &mut Findings) {
    for trace in &index.traces {
        let mut order = Order::default();
        for (stream, delivery) in &trace.deliveries {
            let Event::Received { message, chat, seq, .. } = delivery.event else { continue };
            contents(index, trace, delivery, findings);
            repetition(index, trace, stream, delivery, findings);
            if delivery.repetition != Repetition::First || index.is_requeued(*message, &trace.history.user) {
                continue;
            }
            if let Some(last) = order.breach(stream, trace.began(delivery.connection), delivery, *chat, *seq) {
                let name = || name(trace, stream, delivery);
                findings.add(Rule::Order, || format!("{} received number {seq} of chat {chat} after {last}", name()));
            }
        }
        holes(trace, findings);
        objections(trace, findings);
    }
}

/// The highest number that was received first of each chat: on each connection, and on each stream in the course of time.
#[derive(Debug, Default)]
pub(super) struct Order<'a> {
    by_stream: HashMap<(&'a Stream, Uuid), Vec<Peak>>,
    by_connection: HashMap<(u32, Uuid), i64>,
}

/// From record `at` on, `seq` is the highest number.
#[derive(Debug, Clone, Copy)]
struct Peak {
    at: usize,
    seq: i64,
}

impl<'a> Order<'a> {
    /// The higher number that was received before this one. A connection is held against its own deliveries, and against those that
    /// its stream had when the connection began. It is not held against another connection that is open beside it: a client may
    /// have acked the deliveries of the one before the other read its page, so either may come late.
    pub(super) fn breach(&mut self, stream: &'a Stream, began: usize, delivery: &Delivery<'_>, chat: Uuid, seq: i64) -> Option<i64> {
        let peaks = self.by_stream.entry((stream, chat)).or_default();
        let earlier = peaks.partition_point(|peak| peak.at < began).checked_sub(1).map_or(0, |last| peaks[last].seq);
        if peaks.last().is_none_or(|peak| peak.seq < seq) {
            peaks.push(Peak { at: delivery.at, seq });
        }
        let own = self.by_connection.entry((delivery.connection, chat)).or_default();
        let before = earlier.max(*own);
        *own = (*own).max(seq);
        (seq < before).then_some(before)
    }
}

pub(super) fn name(trace: &Trace<'_>, stream: &Stream, delivery: &Delivery<'_>) -> String {
    let at = trace.history.records[delivery.at].at_ms;
    let device = stream.as_deref().unwrap_or("no device");
    format!("{} ({device}, connection {}, at {at} ms)", trace.history.client, delivery.connection)
}

fn contents(index: &Index<'_>, trace: &Trace<'_>, delivery: &Delivery<'_>, findings: &mut Findings) {
    let Event::Received { message, chat, seq, class, inbox_seq, sender, content, .. } = delivery.event else { return };
    let (user, client) = (&trace.history.user, &trace.history.client);
    let (Some(stored), Some(row)) = (index.message(*message), index.row(*message, user)) else {
        if index.is_row_purged(*chat, user, *seq) {
            return;
        }
        findings.add(Rule::NotTheirs, || format!("{client} received {message}, for which {user} has no row"));
        return;
    };
    if stored.sender == *user || !index.was_member(stored.chat, user, stored.seq) {
        findings.add(Rule::NotTheirs, || format!("{client} received number {seq} of chat {chat} from {sender}"));
    }
    // Of a message that was recalled, or is sealed, only its sender has the text.
    let text = if stored.is_recalled || stored.is_sealed { index.contents.get(message).copied() } else { Some(stored.content.as_str()) };
    let is_same = (stored.chat, stored.seq, row.class) == (*chat, *seq, *class) && *stored.sender == **sender && text == Some(content);
    // A requeue moves the row to a higher number of its inbox.
    let is_there = row.seq.is_none_or(|seq| seq == *inbox_seq || (index.is_requeued(*message, user) && *inbox_seq < seq));
    if !is_same || !is_there {
        findings.add(Rule::Altered, || format!("{client} received {:?}, stored are {stored:?} and {row:?}", delivery.event));
    }
}

fn repetition(index: &Index<'_>, trace: &Trace<'_>, stream: &Stream, delivery: &Delivery<'_>, findings: &mut Findings) {
    let Event::Received { message, chat, seq, attempt, .. } = delivery.event else { return };
    if index.is_requeued(*message, &trace.history.user) {
        return;
    }
    let why = match delivery.repetition {
        Repetition::AckedBefore => "although its ack was confirmed before this connection began",
        Repetition::SameConnection => "on the same connection, as the same attempt, not rejected, and too soon",
        // A client without a device gets only messages that wait, and a message that is read does not wait.
        Repetition::Explained | Repetition::First if stream.is_none() && trace.had_read(delivery.connection, *chat, *seq) => {
            "although it was read, and that was confirmed, before this connection began"
        }
        Repetition::Explained | Repetition::First => return,
    };
    findings.add(Rule::Duplicate, || format!("{} got {message} (number {seq}, attempt {attempt}) {why}", name(trace, stream, delivery)));
}

pub(super) fn holes(trace: &Trace<'_>, findings: &mut Findings) {
    for (stream, state) in trace.streams.iter().filter(|(stream, _)| stream.is_some()) {
        for number in state.holes() {
            let device = stream.as_deref().unwrap_or_default();
            findings.add(Rule::DeviceHole, || {
                format!("{} ({device}) never got number {number} of its inbox {:?}", trace.history.client, trace.class)
            });
        }
    }
}

fn objections(trace: &Trace<'_>, findings: &mut Findings) {
    let client = &trace.history.client;
    for record in &trace.history.records {
        if let Event::Objection { words } = &record.event {
            findings.add(Rule::Objection, || format!("{client} (connection {}, at {} ms): {words}", record.connection, record.at_ms));
        }
    }
}
