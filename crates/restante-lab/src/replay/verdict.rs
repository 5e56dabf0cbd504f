//! Makes the judge's evidence of a replay. In a replay every line must be accepted, and every person must read every message of the
//! others.

use std::collections::BTreeSet;

use super::state::ReplayState;
use restante_judge::{Evidence, Findings, History, Rule, Snapshot, judge};

/// The service's default. A repetition that comes later than this on one connection is a redelivery, also without a counted attempt.
const ACK_TIMEOUT_MS: u64 = 30_000;

/// Rules that a replay cannot decide. A person ends as soon as it has read everything, so it may miss receipts. A row that waits or
/// has ended otherwise is `unread` here.
const EXEMPT: [Rule; 3] = [Rule::Untold, Rule::Waiting, Rule::EndedWithoutCause];

/// Holds the persons' histories against the rows. `unknown` says why the rows' statuses are not known.
pub fn of(state: &ReplayState, histories: Vec<History>, snapshot: Snapshot, unknown: Option<String>) -> Findings {
    let stuck = state.failure.get().cloned().into_iter().chain(unknown.map(|why| format!("the final statuses are not known: {why}")));
    judge(&Evidence {
        histories,
        snapshot,
        stuck: stuck.collect(),
        ack_timeout_ms: ACK_TIMEOUT_MS,
        exempt: BTreeSet::from(EXEMPT),
        ..Evidence::default()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::super::log::Log;
    use super::super::person::Person;
    use super::super::rows;
    use super::super::state::SendOutcome;
    use super::*;
    use restante_client::{Envelope, Event, Frame};
    use restante_session::domain::{ChatId, ChatSeq};

    /// Ann says two lines to Bob, who gets those that `bob` names as (line, chat number, inbox number), and reads.
    fn broken(bob: &[(usize, i64, i64)]) -> Vec<Rule> {
        let log = Log::parse("[01:00] <ann> one\n[01:00] <ann> two\n=== bob [x]  has left #c");
        let state = Arc::new(ReplayState::new(ChatId::generate(), &log, vec!["ann".into(), "bob".into()], Instant::now()));
        let (mut ann, mut reader) = (Person::for_test(&state, 0), Person::for_test(&state, 1));
        for number in 0..2 {
            let seq = number + 1;
            ann.note_send(usize::try_from(number).unwrap());
            ann.note_stored(&sent(&state, seq));
            state.settle(usize::try_from(number).unwrap(), SendOutcome::Accepted(ChatSeq(seq)));
        }
        for (line, seq, inbox_seq) in bob {
            reader.sees(&envelope(&state, *line, *seq, *inbox_seq));
        }
        reader.note_read(ChatSeq(2));
        let accepted = state.accepted();
        let mut snapshot = rows::without_statuses(&state, &accepted);
        snapshot.rows.iter_mut().for_each(|row| row.status = restante_judge::Status::Read);
        let histories = vec![ann.into_report().history, reader.into_report().history];
        of(&state, histories, snapshot, None).iter().map(|(rule, _, _)| rule).collect()
    }

    fn sent(state: &ReplayState, seq: i64) -> restante_client::Sent {
        let message = state.id(usize::try_from(seq - 1).unwrap());
        let data = serde_json::json!({"messageId": message, "chatId": state.chat, "seq": seq, "createdAt": "t", "duplicate": false});
        serde_json::from_value(data).unwrap()
    }

    fn envelope(state: &ReplayState, line: usize, seq: i64, inbox_seq: i64) -> Envelope {
        let text = serde_json::json!({"event": "message:receive", "data": {"messageId": state.id(line), "chatId": state.chat, "seq": seq,
            "inboxSeq": inbox_seq, "senderId": "ann", "content": state.content(line).to_string(), "messageType": "text", "createdAt": "",
            "attempt": 1}});
        let Event::Receive(envelope) = Frame::parse(&text.to_string()).event else { panic!() };
        *envelope
    }

    #[test]
    fn replay_in_which_everything_came_and_was_read_held() {
        assert_eq!(broken(&[(0, 1, 1), (1, 2, 2)]), []);
    }

    #[test]
    fn what_breaks_is_found_from_the_persons_own_records() {
        assert_eq!(broken(&[(0, 1, 1)]), [Rule::NotReceived]);
        assert_eq!(broken(&[(1, 2, 1), (0, 1, 2)]), [Rule::Order]);
        assert_eq!(broken(&[(0, 1, 1), (0, 1, 1), (1, 2, 2)]), [Rule::Duplicate]);
        assert_eq!(broken(&[(0, 1, 1), (1, 2, 3)]), [Rule::DeviceHole]);
        assert_eq!(broken(&[(0, 1, 1), (1, 9, 2)]), [Rule::Altered]);
    }

    #[test]
    fn replay_that_ended_early_or_without_statuses_is_broken() {
        let state = ReplayState::new(ChatId::generate(), &Log::parse("[01:00] <a> 1"), vec!["a".into()], Instant::now());
        let rules = |unknown: Option<&str>| {
            let findings = of(&state, Vec::new(), Snapshot::default(), unknown.map(str::to_owned));
            findings.iter().map(|(rule, count, _)| (rule, count)).collect::<Vec<_>>()
        };
        assert_eq!(rules(Some("no answer")), [(Rule::Stuck, 1)]);
        state.fail("nothing has moved".into());
        assert_eq!(rules(None), [(Rule::Stuck, 1)]);
        assert_eq!(rules(Some("it ended early")), [(Rule::Stuck, 2)]);
    }
}
