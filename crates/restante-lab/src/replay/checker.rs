//! Judges what was seen. Pure: it knows no socket and believes nobody, neither the service nor the client's
//! own de-duplication; it gets every sighting as it came from the wire.

use std::collections::BTreeMap;

use super::findings::{Findings, Rule};
use super::log::PersonNo;
use restante_session::domain::{ChatSeq, InboxSeq};

/// A message's place among the messages of its log.
pub type MessageNo = usize;

/// Does the recipient check inbox numbers? Only a device can: without one, numbers may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// A device.
    Checked,
    /// None.
    Unchecked,
}

/// An envelope on the wire.
#[derive(Debug, Clone, Copy)]
pub struct Sighting {
    /// Which message; none that was sent here: `None`.
    pub message: Option<MessageNo>,
    /// Its number in the chat.
    pub seq: ChatSeq,
    /// Its number in the inbox.
    pub inbox: InboxSeq,
    /// The attempt it says it is.
    pub attempt: u16,
    /// The recipient's how manieth connection.
    pub connection: u32,
}

/// Was it there before?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// No.
    First,
    /// Yes.
    Again,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    seq: ChatSeq,
    connection: u32,
}

/// What one recipient has seen.
#[derive(Debug)]
pub struct Recipient {
    name: String,
    numbering: Numbering,
    seen: Vec<Option<Seen>>,
    last_seq: ChatSeq,
    last_inbox: InboxSeq,
    announced: Vec<(InboxSeq, InboxSeq)>,
    /// First sights.
    pub deliveries: u64,
    /// Envelopes that came as a further attempt, or again.
    pub redeliveries: u64,
    /// Envelopes that had been seen before.
    pub duplicates: u64,
    /// What broke here.
    pub findings: Findings,
}

impl Recipient {
    /// One who has seen nothing yet, of a log with so many messages.
    pub fn new(name: String, numbering: Numbering, messages: usize) -> Self {
        Self {
            name,
            numbering,
            seen: vec![None; messages],
            last_seq: ChatSeq(0),
            last_inbox: InboxSeq(0),
            announced: Vec::new(),
            deliveries: 0,
            redeliveries: 0,
            duplicates: 0,
            findings: Findings::default(),
        }
    }

    /// The recipient's name, as it stands in findings.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// An envelope came.
    pub fn sees(&mut self, sighting: Sighting) -> Sight {
        let Some(message) = sighting.message else {
            let name = &self.name;
            self.findings.add(Rule::Stranger, || format!("{name} received number {} of the chat, which nobody sent", sighting.seq));
            return Sight::First;
        };
        let before = self.seen[message];
        if before.is_some() || sighting.attempt > 1 {
            self.redeliveries += 1;
        }
        match before {
            None => self.sees_first(message, sighting),
            Some(before) => self.sees_again(message, before, sighting),
        }
    }

    /// These inbox numbers will not come.
    pub fn is_told_gap(&mut self, from: InboxSeq, to: InboxSeq) {
        self.announced.push((from, to));
    }

    fn sees_first(&mut self, message: MessageNo, sighting: Sighting) -> Sight {
        let Sighting { seq, inbox, connection, .. } = sighting;
        self.seen[message] = Some(Seen { seq, connection });
        self.deliveries += 1;
        let (name, last_seq, last_inbox) = (&self.name, self.last_seq, self.last_inbox);
        if seq <= last_seq {
            self.findings.add(Rule::Order, || format!("{name} saw number {seq} of the chat after {last_seq}"));
        }
        if self.numbering == Numbering::Checked {
            if let Some(missing) = (last_inbox.0 + 1..inbox.0).map(InboxSeq).find(|number| !self.is_announced(*number)) {
                self.findings
                    .add(Rule::InboxGap, || format!("{name} saw inbox number {inbox} after {last_inbox}, and {missing} was not announced"));
            }
            if inbox <= last_inbox {
                self.findings.add(Rule::Order, || format!("{name} saw inbox number {inbox} after {last_inbox}"));
            }
        }
        self.last_seq = last_seq.max(seq);
        self.last_inbox = last_inbox.max(inbox);
        Sight::First
    }

    fn sees_again(&mut self, message: MessageNo, before: Seen, sighting: Sighting) -> Sight {
        self.duplicates += 1;
        let name = &self.name;
        if before.seq != sighting.seq {
            self.findings.add(Rule::TwoNumbers, || format!("{name} saw message {message} as number {} and {}", before.seq, sighting.seq));
        }
        if before.connection == sighting.connection && sighting.attempt <= 1 {
            self.findings.add(Rule::Duplicate, || format!("{name} saw number {} twice on one connection, as attempt 1", sighting.seq));
        }
        self.seen[message] = Some(Seen { connection: sighting.connection, ..before });
        Sight::Again
    }

    fn is_announced(&self, number: InboxSeq) -> bool {
        self.announced.iter().any(|(from, to)| (*from..=*to).contains(&number))
    }
}

/// Was it refused for now at least once?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// No.
    Straight,
    /// Yes: what was said after it may have been accepted before it.
    Postponed,
}

/// A message that the service has confirmed.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    /// Which.
    pub message: MessageNo,
    /// Who sent it.
    pub speaker: PersonNo,
    /// The number it was given.
    pub seq: ChatSeq,
    /// How it got there.
    pub course: Course,
}

/// Holds what was accepted, in the log's order, against what each person of the chat has seen.
pub fn judge(accepted: &[Accepted], recipients: &[&Recipient]) -> Findings {
    let mut findings = Findings::default();
    recipients.iter().for_each(|recipient| findings.merge(&recipient.findings));
    judge_chat_numbers(accepted, &mut findings);
    judge_speakers(accepted, &mut findings);
    for message in accepted {
        for (person, recipient) in recipients.iter().enumerate() {
            judge_sight(message, person, recipient, &mut findings);
        }
    }
    findings
}

fn judge_sight(message: &Accepted, person: PersonNo, recipient: &Recipient, findings: &mut Findings) {
    let (name, seq) = (&recipient.name, message.seq);
    match recipient.seen[message.message] {
        Some(_) if person == message.speaker => findings.add(Rule::Own, || format!("{name} received their own number {seq}")),
        Some(seen) if seen.seq != seq => {
            findings.add(Rule::TwoNumbers, || format!("number {seq} by its sender's confirmation is {} to {name}", seen.seq));
        }
        None if person != message.speaker => findings.add(Rule::Loss, || format!("{name} never saw number {seq}")),
        Some(_) | None => {}
    }
}

fn judge_chat_numbers(accepted: &[Accepted], findings: &mut Findings) {
    let mut numbers: Vec<ChatSeq> = accepted.iter().map(|message| message.seq).collect();
    numbers.sort_unstable();
    let mut last = ChatSeq(0);
    for number in numbers {
        if number == last {
            findings.add(Rule::TwoNumbers, || format!("number {number} of the chat was given to two messages"));
        } else if number.0 != last.0 + 1 {
            findings.add(Rule::ChatGap, || format!("number {number} of the chat follows {last}"));
        }
        last = number;
    }
}

fn judge_speakers(accepted: &[Accepted], findings: &mut Findings) {
    let mut last: BTreeMap<PersonNo, ChatSeq> = BTreeMap::new();
    for message in accepted.iter().filter(|message| message.course == Course::Straight) {
        let before = last.entry(message.speaker).or_default();
        if message.seq < *before {
            findings.add(Rule::SpeakerOrder, || format!("person {} said number {} after {before}", message.speaker, message.seq));
        }
        *before = (*before).max(message.seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Person 0 sent messages 0 to 2 as numbers 1 to 3; person 1 receives.
    fn accepted() -> Vec<Accepted> {
        (0..3).map(|n| Accepted { message: n, speaker: 0, seq: ChatSeq(n as i64 + 1), course: Course::Straight }).collect()
    }

    fn recipient() -> Recipient {
        Recipient::new("bob".into(), Numbering::Checked, 3)
    }

    fn sight(message: MessageNo) -> Sighting {
        let number = message as i64 + 1;
        Sighting { message: Some(message), seq: ChatSeq(number), inbox: InboxSeq(number), attempt: 1, connection: 1 }
    }

    fn found(accepted: &[Accepted], bob: Recipient) -> Vec<(Rule, u64)> {
        let alice = Recipient::new("alice".into(), Numbering::Checked, 3);
        judge(accepted, &[&alice, &bob]).iter().map(|(rule, count, _)| (rule, count)).collect()
    }

    fn after(sightings: &[Sighting]) -> Recipient {
        let mut bob = recipient();
        for sighting in sightings {
            bob.sees(*sighting);
        }
        bob
    }

    #[test]
    fn good_history_is_good() {
        let bob = after(&[sight(0), sight(1), sight(2)]);
        assert_eq!((bob.deliveries, bob.redeliveries, bob.duplicates), (3, 0, 0));
        assert_eq!(found(&accepted(), bob), []);
    }

    #[test]
    fn message_never_seen_is_a_loss() {
        assert_eq!(found(&accepted(), after(&[sight(0), sight(1)])), [(Rule::Loss, 1)]);
    }

    #[test]
    fn later_message_seen_first_is_out_of_order() {
        let mut late = [sight(0), sight(2), sight(1)];
        (late[1].inbox, late[2].inbox) = (InboxSeq(2), InboxSeq(3)); // the inbox numbers are in order
        assert_eq!(found(&accepted(), after(&late)), [(Rule::Order, 1)]);
    }

    #[test]
    fn redelivery_is_counted_and_is_no_violation() {
        let again = Sighting { connection: 2, ..sight(1) };
        let retried = Sighting { attempt: 2, ..sight(2) };
        let bob = after(&[sight(0), sight(1), again, sight(2), retried]);
        assert_eq!((bob.deliveries, bob.redeliveries, bob.duplicates), (3, 2, 2));
        assert_eq!(found(&accepted(), bob), []);
    }

    #[test]
    fn second_sight_on_one_connection_as_the_first_attempt_is_unexplained() {
        assert_eq!(found(&accepted(), after(&[sight(0), sight(0), sight(1), sight(2)])), [(Rule::Duplicate, 1)]);
    }

    #[test]
    fn missing_inbox_number_is_a_gap_unless_it_was_announced() {
        let jump = Sighting { inbox: InboxSeq(5), ..sight(2) };
        assert_eq!(found(&accepted(), after(&[sight(0), sight(1), jump])), [(Rule::InboxGap, 1)]);
        let mut bob = recipient();
        bob.sees(sight(0));
        bob.sees(sight(1));
        bob.is_told_gap(InboxSeq(3), InboxSeq(4));
        bob.sees(jump);
        assert_eq!(found(&accepted(), bob), []);
    }

    #[test]
    fn inbox_that_does_not_begin_with_one_is_a_gap() {
        let shifted = |n| Sighting { inbox: InboxSeq(n as i64 + 2), ..sight(n) };
        assert_eq!(found(&accepted(), after(&[shifted(0), shifted(1), shifted(2)])), [(Rule::InboxGap, 1)]);
    }

    #[test]
    fn without_a_device_missing_inbox_numbers_mean_nothing() {
        let mut bob = Recipient::new("bob".into(), Numbering::Unchecked, 3);
        for n in 0..3 {
            bob.sees(Sighting { inbox: InboxSeq(n as i64 * 2 + 7), ..sight(n) });
        }
        assert_eq!(found(&accepted(), bob), []);
    }

    #[test]
    fn hole_in_the_chats_numbers_is_a_gap() {
        let mut accepted = accepted();
        accepted[2].seq = ChatSeq(4);
        let last = Sighting { seq: ChatSeq(4), ..sight(2) };
        assert_eq!(found(&accepted, after(&[sight(0), sight(1), last])), [(Rule::ChatGap, 1)]);
    }

    #[test]
    fn message_with_two_numbers_is_found_wherever_they_differ() {
        let other = Sighting { seq: ChatSeq(9), ..sight(2) };
        assert_eq!(found(&accepted(), after(&[sight(0), sight(1), other])), [(Rule::TwoNumbers, 1)]);
        let again = Sighting { seq: ChatSeq(9), connection: 2, ..sight(2) };
        assert_eq!(found(&accepted(), after(&[sight(0), sight(1), sight(2), again])), [(Rule::TwoNumbers, 1)]);
        let mut accepted = accepted();
        accepted[2].seq = ChatSeq(2);
        let twin = Sighting { seq: ChatSeq(2), ..sight(2) };
        assert!(found(&accepted, after(&[sight(0), sight(1), twin])).contains(&(Rule::TwoNumbers, 1)));
    }

    #[test]
    fn message_nobody_sent_is_a_stranger() {
        let stranger = Sighting { message: None, ..sight(0) };
        assert_eq!(found(&accepted(), after(&[sight(0), sight(1), sight(2), stranger])), [(Rule::Stranger, 1)]);
    }

    #[test]
    fn own_message_received_is_found() {
        let mut alice = recipient();
        alice.sees(sight(1));
        let findings = judge(&accepted(), &[&alice, &after(&[sight(0), sight(1), sight(2)])]);
        assert_eq!(findings.count(Rule::Own), 1);
    }

    #[test]
    fn speakers_messages_numbered_otherwise_are_found_unless_one_was_postponed() {
        let mut accepted = accepted();
        (accepted[0].seq, accepted[1].seq) = (ChatSeq(2), ChatSeq(1));
        let bob = || {
            let (first, second) = (Sighting { seq: ChatSeq(1), ..sight(1) }, Sighting { seq: ChatSeq(2), ..sight(0) });
            after(&[Sighting { inbox: InboxSeq(1), ..first }, Sighting { inbox: InboxSeq(2), ..second }, sight(2)])
        };
        assert_eq!(found(&accepted, bob()), [(Rule::SpeakerOrder, 1)]);
        accepted[0].course = Course::Postponed;
        assert_eq!(found(&accepted, bob()), []);
    }
}
