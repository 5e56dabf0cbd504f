//! Judges encryption at rest: everything can be read, every row names a key that is there, and nothing stands as plain text. That the
//! content is the one that was sent is judged with the envelopes.

use super::Evidence;
use super::findings::{Findings, Rule};
use super::history::{Event, Record};

/// The reason of a gap in place of a message that cannot be decrypted.
const GAP: &str = "unreadable";

pub(super) fn judge(evidence: &Evidence, findings: &mut Findings) {
    for history in &evidence.histories {
        for Record { at_ms, event, .. } in &history.records {
            match event {
                Event::Unreadable { id, class } => {
                    findings
                        .add(Rule::Unreadable, || format!("{} got {id} of {class:?} without its content at {at_ms} ms", history.client));
                }
                Event::Gap { class, from, to, reason } | Event::FeedGap { class, seq: from, to_feed_seq: to, reason, .. }
                    if reason == GAP =>
                {
                    findings.add(Rule::Unreadable, || format!("{} was told that {from} to {to} of {class:?} is {reason}", history.client));
                }
                _ => {}
            }
        }
    }
    for id in &evidence.snapshot.keyless {
        findings.add(Rule::Unreadable, || format!("{id} is under a data key that is not there"));
    }
    for id in &evidence.snapshot.in_plain {
        findings.add(Rule::Plain, || format!("{id} stands as plain text"));
    }
}
