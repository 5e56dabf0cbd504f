//! The rules in words, and what broke them: a count for each rule and its first cases.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident $name:literal $words:literal;)*) => {
        /// A rule that a run must keep.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Rule { $(#[doc = $words] $rule,)* }

        impl Rule {
            /// All rules, in the order in which a report lists them.
            pub const ALL: &[Self] = &[$(Self::$rule,)*];

            /// The rule's name in reports, in kebab case.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$rule => $name,)* }
            }

            /// The rule as one sentence.
            pub const fn words(self) -> &'static str {
                match self { $(Self::$rule => $words,)* }
            }
        }
    };
}

rules! {
    Lost "lost" "A message that was confirmed to its sender is in the database, in that chat, under that number.";
    Unsent "unsent" "A message in the database was sent by that sender, to that chat, with that content.";
    TwoAnswers "two-answers" "The same id again is answered with the same chat, number and time.";
    NotDuplicate "not-duplicate" "Once a send was confirmed, every later answer to its id says that it is a duplicate.";
    SenderOrder "sender-order" "Messages that a connection sent once, and that were not refused for now, are numbered in the order in which it sent them.";
    Refused "refused" "In a run that expects it, every send is confirmed.";
    MissingRow "missing-row" "Every member at a message's number, except its sender, has exactly one row for it.";
    ForeignRow "foreign-row" "Nobody else has a row for it.";
    Waiting "waiting" "At the end no row waits, except those of a user who never came back.";
    NotReceived "not-received" "A row that has not failed or expired was received by a client of its recipient, except of a user who never came back.";
    Unread "unread" "In a run that expects it, every row is read at the end.";
    EndedWithoutCause "ended-without-cause" "failed was rejected, or skipped as often as allowed; expired had its time, or its recipient left.";
    Unacked "unacked" "A row that is delivered or read was acked or read by a client of its recipient.";
    ChatGap "chat-gap" "A chat's numbers run from 1 to its last without a hole.";
    InboxGap "inbox-gap" "An inbox's numbers, rows and named gaps together, run from 1 to its last without a hole.";
    SettledAhead "settled-ahead" "Nothing waits at or below an inbox's settled number.";
    MarkAhead "mark-ahead" "Nothing that is not delivered, or not read, is at or below a member's mark.";
    Inconsistent "inconsistent" "The tables agree with one another: heads, marks, inboxes, cursors and endings.";
    Order "order" "A device, or a client without one, first receives a chat in the order of its numbers; requeued messages are excepted.";
    NotTheirs "not-theirs" "Nobody receives a message that was not addressed to them: their own, or one of a chat they were not in at that number.";
    Altered "altered" "An envelope has its sender's content and the numbers of the database.";
    Duplicate "duplicate" "A message comes again only for a reason: not acked, rejected, or behind the device's cursor.";
    DeviceHole "device-hole" "Every number of its inbox comes to a device or is named as a gap.";
    EventLost "event-lost" "An event that was confirmed to its publisher is stored as it was published, and its id is always answered alike.";
    EventUnsent "event-unsent" "A stored event was published by that user, with that data, to these users.";
    EventMissing "event-missing" "Each event of a feed is a row of each follower, or lies in a gap of its inbox; each listed user has a row.";
    EventTwice "event-twice" "An event is one row of a user, or lies in one gap, and not both.";
    EventForeign "event-foreign" "Nobody gets an event from before it followed or after it left, of its own, that excepts it, or that does not list it.";
    EventOrder "event-order" "A device, or a client without one, first receives a feed in the order of its numbers; requeued events are excepted.";
    EventGap "event-gap" "A gap of a feed counts the events in it that were for its user, and is told as it is stored.";
    Collapsed "collapsed" "Where an event was superseded, a newer one of its collapse key stands.";
    Merged "merged" "An event that merges has the data of each event whose place it took, once, and the same data each time.";
    Muted "muted" "An event of a type that its user had muted before is no row.";
    Purged "purged" "A row that is removed had ended.";
    RecallLost "recall-lost" "A recall that was answered stands, and each answer to it has the same time; what nobody recalled is not recalled.";
    Reshown "reshown" "A message that was recalled reaches nobody on a connection that began after the answer, or after the connection was told.";
    Notice "notice" "Who has a message that was recalled has one notice behind it, which comes; nobody else has one.";
    Blocked "blocked" "Of two users of whom one blocks the other no direct message is accepted, and what waited from the one who is blocked ended with the block and reaches nobody later.";
    BlockTold "block-told" "Nobody is told of being blocked: no status gives that reason, what a block has ended is named by no receipt but a mark that passes it, and only who has blocked hears of such gaps.";
    Stranger "stranger" "Where only contacts may write to one another, no direct message between two that are none is accepted.";
    RefusedUnblocked "refused-unblocked" "A direct message is refused only where one of the two may block the other, or they may be no contacts and have to be; never one that was confirmed before.";
    Revoked "revoked" "Where a revocation was answered, its tokens open no session and are served nothing once the stated time is over.";
    TokenRefused "token-refused" "A token that nobody revoked is not refused.";
    Unreadable "unreadable" "Nothing comes without its content because it cannot be decrypted, and every row names a data key that is there.";
    Plain "plain" "Where encryption is on no message or event stands as plain text at the end.";
    Lie "lie" "A sender is told only the truth: nothing before the recipient has done it, and nothing that the end contradicts.";
    Backward "backward" "After one end a sender is told no other end, and after read by name it is not told delivered on the same connection.";
    Untold "untold" "A sender that is connected at the end knows the status of each of its messages.";
    Stuck "stuck" "At the end every client connects, drains and gets its answers.";
    Objection "objection" "The service never objects to a client that keeps the protocol, and sends nothing that the protocol does not have.";
    Died "died" "A node ends only when it is made to.";
}

/// The cases that are kept of each rule.
const CASES_MAX: usize = 5;

/// The rules that a run broke.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings(BTreeMap<Rule, (u64, Vec<String>)>);

impl Findings {
    /// Counts one more breach. `case` is called only while fewer than five cases of the rule are kept.
    pub fn add(&mut self, rule: Rule, case: impl FnOnce() -> String) {
        let (count, cases) = self.0.entry(rule).or_default();
        *count += 1;
        if cases.len() < CASES_MAX {
            cases.push(case());
        }
    }

    /// True when every rule held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of times that the rule was broken.
    pub fn count(&self, rule: Rule) -> u64 {
        self.0.get(&rule).map_or(0, |(count, _)| *count)
    }

    /// Adds the findings of another run.
    pub fn merge(&mut self, other: &Self) {
        for (rule, (count, cases)) in &other.0 {
            let (sum, kept) = self.0.entry(*rule).or_default();
            *sum += count;
            kept.extend(cases.iter().take(CASES_MAX.saturating_sub(kept.len())).cloned());
        }
    }

    /// The rules that were broken, each with its count and its first cases.
    pub fn iter(&self) -> impl Iterator<Item = (Rule, u64, &[String])> {
        self.0.iter().map(|(rule, (count, cases))| (*rule, *count, cases.as_slice()))
    }

    /// Forgets what broke these rules.
    pub(super) fn drop_rules(&mut self, exempt: &BTreeSet<Rule>) {
        self.0.retain(|rule, _| !exempt.contains(rule));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_keep_a_few_cases_and_count_all() {
        let mut findings = Findings::default();
        for n in 0..9 {
            findings.add(Rule::Lost, || n.to_string());
        }
        let mut all = Findings::default();
        all.merge(&findings);
        all.merge(&findings);
        assert_eq!(all.count(Rule::Lost), 18);
        let kept = ["0", "1", "2", "3", "4"].map(str::to_owned);
        assert_eq!(all.iter().next(), Some((Rule::Lost, 18, kept.as_slice())));
    }

    #[test]
    fn an_exempt_rule_is_forgotten_and_the_others_are_kept() {
        let mut findings = Findings::default();
        findings.add(Rule::Unread, || "a".into());
        findings.add(Rule::Lost, || "b".into());
        findings.drop_rules(&BTreeSet::from([Rule::Unread]));
        assert_eq!(findings.iter().map(|(rule, _, _)| rule).collect::<Vec<_>>(), [Rule::Lost]);
    }
}
