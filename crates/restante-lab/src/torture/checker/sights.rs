//! What was received: in order, by those it was for, as it was sent, again only for a reason, and for devices without a hole.

use std::collections::HashMap;

use uuid::Uuid;

use super::super::history::What;
use super::walk::{Repetition, Sight, Stream, Walk};
use super::{Book, Findings, Rule};

pub(super) fn judge(book: &Book<'_>, findings: &mut Findings) {
    for walk in &book.walks {
        let mut order = Order::default();
        for (stream, sight) in &walk.sights {
            let What::Received { message, chat, seq, .. } = sight.what else { continue };
            contents(book, walk, sight, findings);
            repetition(book, walk, stream, sight, findings);
            if sight.repetition != Repetition::First || book.is_requeued(*message, &walk.history.user) {
                continue;
            }
            if let Some(last) = order.breach(stream, walk.began(sight.connection), sight, *chat, *seq) {
                findings.add(Rule::Order, || format!("{} saw number {seq} of chat {chat} after {last}", name(walk, stream, sight)));
            }
        }
        holes(walk, findings);
        objections(walk, findings);
    }
}

/// The highest number that was seen first of each chat: on each connection, and on each stream in the course of time.
#[derive(Debug, Default)]
struct Order<'a> {
    by_stream: HashMap<(&'a Stream, Uuid), Vec<Peak>>,
    by_connection: HashMap<(u32, Uuid), i64>,
}

/// From this record on the highest number is this one.
#[derive(Debug, Clone, Copy)]
struct Peak {
    at: usize,
    seq: i64,
}

impl<'a> Order<'a> {
    /// The number that must not have been seen before this one. A connection is held against what it has given itself, and
    /// against what the stream had seen when it began. Not against another that is open beside it: what the one was given,
    /// somebody may have acked before the other read its page, and either may come late.
    fn breach(&mut self, stream: &'a Stream, began: usize, sight: &Sight<'_>, chat: Uuid, seq: i64) -> Option<i64> {
        let peaks = self.by_stream.entry((stream, chat)).or_default();
        let earlier = peaks.partition_point(|peak| peak.at < began).checked_sub(1).map_or(0, |last| peaks[last].seq);
        if peaks.last().is_none_or(|peak| peak.seq < seq) {
            peaks.push(Peak { at: sight.at, seq });
        }
        let own = self.by_connection.entry((sight.connection, chat)).or_default();
        let before = earlier.max(*own);
        *own = (*own).max(seq);
        (seq < before).then_some(before)
    }
}

fn name(walk: &Walk<'_>, stream: &Stream, sight: &Sight<'_>) -> String {
    let at = walk.history.records[sight.at].at_ms;
    let device = stream.as_deref().unwrap_or("no device");
    format!("{} ({device}, connection {}, at {at} ms)", walk.history.client, sight.connection)
}

fn contents(book: &Book<'_>, walk: &Walk<'_>, sight: &Sight<'_>, findings: &mut Findings) {
    let What::Received { message, chat, seq, class, inbox_seq, sender, content, .. } = sight.what else { return };
    let user = &walk.history.user;
    let (Some(stored), Some(row)) = (book.message(*message), book.row(*message, user)) else {
        findings.add(Rule::NotTheirs, || format!("{} received {message}, for which {user} has no row", walk.history.client));
        return;
    };
    if stored.sender == *user || !book.was_member(stored.chat, user, stored.seq) {
        findings.add(Rule::NotTheirs, || format!("{} received number {seq} of chat {chat} from {sender}", walk.history.client));
    }
    let is_same = (stored.chat, stored.seq, row.class) == (*chat, *seq, *class) && stored.sender == *sender && stored.content == *content;
    // A requeue moves the row to another number of its inbox.
    let is_there = row.seq == *inbox_seq || (book.is_requeued(*message, user) && *inbox_seq < row.seq);
    if !is_same || !is_there {
        findings.add(Rule::Altered, || format!("{} received {:?}, stored are {stored:?} and {row:?}", walk.history.client, sight.what));
    }
}

fn repetition(book: &Book<'_>, walk: &Walk<'_>, stream: &Stream, sight: &Sight<'_>, findings: &mut Findings) {
    let What::Received { message, chat, seq, attempt, .. } = sight.what else { return };
    if book.is_requeued(*message, &walk.history.user) {
        return;
    }
    let why = match sight.repetition {
        Repetition::AckedBefore => "although its ack was confirmed before this connection began",
        Repetition::SameConnection => "on the same connection, as the same attempt, not rejected, and too soon",
        // Without a device only what waits is given, and what is read does not wait.
        Repetition::Explained | Repetition::First if stream.is_none() && walk.had_read(sight.connection, *chat, *seq) => {
            "although it was read, and that was confirmed, before this connection began"
        }
        Repetition::Explained | Repetition::First => return,
    };
    findings.add(Rule::Duplicate, || format!("{} got {message} (number {seq}, attempt {attempt}) {why}", name(walk, stream, sight)));
}

fn holes(walk: &Walk<'_>, findings: &mut Findings) {
    for (stream, seen) in walk.streams.iter().filter(|(stream, _)| stream.is_some()) {
        for number in seen.holes() {
            let device = stream.as_deref().unwrap_or_default();
            findings.add(Rule::DeviceHole, || format!("{} ({device}) never got inbox number {number}", walk.history.client));
        }
    }
}

fn objections(walk: &Walk<'_>, findings: &mut Findings) {
    for record in &walk.history.records {
        if let What::Objection { words } = &record.what {
            let connection = record.connection;
            findings.add(Rule::Objection, || format!("{} (connection {connection}, at {} ms): {words}", walk.history.client, record.at_ms));
        }
    }
}
