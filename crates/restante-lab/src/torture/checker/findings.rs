//! What must hold, in words, and what did not: a count per rule and the first cases.

use std::collections::BTreeMap;

use serde::Serialize;

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident $name:literal $words:literal;)*) => {
        /// What must hold.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Rule { $(#[doc = $words] $rule,)* }

        impl Rule {
            /// All of them, in the order in which they are told.
            #[cfg(test)]
            pub const ALL: &[Self] = &[$(Self::$rule,)*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$rule => $name,)* }
            }

            /// What it says.
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
    MissingRow "missing-row" "Whoever was a member at a message's number, save its sender, has exactly one row for it.";
    ForeignRow "foreign-row" "Nobody else has a row for it.";
    Waiting "waiting" "In the end no row waits, save those of a user who never came back.";
    EndedWithoutCause "ended-without-cause" "failed was rejected, or skipped as often as allowed; expired had its time, or its recipient left.";
    Unacked "unacked" "What is delivered or read was acked or read by a client of its recipient.";
    ChatGap "chat-gap" "A chat's numbers run from 1 to its last without a hole.";
    InboxGap "inbox-gap" "An inbox's numbers, rows and named gaps together, run from 1 to its last without a hole.";
    SettledAhead "settled-ahead" "Nothing waits at or below an inbox's settled number.";
    MarkAhead "mark-ahead" "Nothing that is not delivered, or not read, stands at or below a member's mark.";
    Order "order" "A device, or a client without one, first sees a chat in the order of its numbers; requeued messages excepted.";
    NotTheirs "not-theirs" "Nobody receives what was not addressed to them: their own, or of a chat they were not in at that number.";
    Altered "altered" "An envelope says what its sender said, under the numbers of the database.";
    Duplicate "duplicate" "A message comes again only where that is explained: not acked, rejected, or behind the device's cursor.";
    DeviceHole "device-hole" "Every number of its inbox comes to a device or is named as a gap.";
    Lie "lie" "A sender is told nothing that is not so: not before the recipient has done it, and in the end still.";
    Backward "backward" "What has ended is told no other end, and what was told by name as read is not told as delivered on the same connection.";
    Untold "untold" "A sender that is there in the end knows what became of each of its messages.";
    Stuck "stuck" "In the end every client connects, drains and gets its answers.";
    Objection "objection" "The service never objects to a client that keeps the protocol, and says nothing the protocol does not know.";
    Died "died" "A node ends only when it is made to.";
}

/// Cases that are kept of each rule.
const CASES_MAX: usize = 5;

/// What broke.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings(BTreeMap<Rule, (u64, Vec<String>)>);

impl Findings {
    /// One more.
    pub fn add(&mut self, rule: Rule, case: impl FnOnce() -> String) {
        let (count, cases) = self.0.entry(rule).or_default();
        *count += 1;
        if cases.len() < CASES_MAX {
            cases.push(case());
        }
    }

    /// Everything held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Rule, count and cases of what broke.
    pub fn iter(&self) -> impl Iterator<Item = (Rule, u64, &[String])> {
        self.0.iter().map(|(rule, (count, cases))| (*rule, *count, cases.as_slice()))
    }
}
