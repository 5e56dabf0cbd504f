//! The news that wait for the other nodes. Bounded: beyond [`BYTES_MAX`] many news of a kind are replaced by one shorter
//! line; beyond [`NAMES_MAX`] names a single line tells every session to read the database.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::message::{BusMessage, payloads};
use crate::domain::{DeviceId, MessageId, NodeId, PerClass, UserId};

/// Bytes of lines that may wait.
const BYTES_MAX: usize = 1024 * 1024;
/// Users who may wait to be named, per kind of news.
const NAMES_MAX: usize = 10_000;
/// Payloads of one transaction.
const PAYLOADS_MAX: usize = 32;

/// The form in which news were put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// The news wait as they are.
    Whole,
    /// A shorter line replaces the news.
    InShort,
    /// The news are dropped: there was no room, and nothing depends on them.
    Dropped,
    /// There is nobody to tell.
    Alone,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    lines: VecDeque<String>,
    bytes: usize,
    wakes: PerClass<BTreeSet<UserId>>,
    marks: BTreeSet<UserId>,
    echoes: BTreeSet<(UserId, MessageId)>,
    displaced: BTreeMap<(UserId, DeviceId), i64>,
    check_all: bool,
    /// Nodes that came: what was committed before they were known was not told to them.
    newcomers: Vec<NodeId>,
}

/// The next publication.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// These payloads to every node.
    All(Vec<String>),
    /// This payload to nodes that came.
    Newcomers(Vec<NodeId>, String),
    Nothing,
}

impl Queue {
    pub(super) fn put(&mut self, message: &BusMessage) -> Posted {
        if let Some(lines) = message.lines()
            && self.put_lines(lines)
        {
            return Posted::Whole;
        }
        let short = message.in_short();
        if short.is_empty() {
            return self.put_short(message);
        }
        let posted: Vec<Posted> = short.iter().map(|message| self.put_short(message)).collect();
        if posted.contains(&Posted::Dropped) { Posted::Dropped } else { Posted::InShort }
    }

    /// Whatever was under way did not arrive.
    pub(super) fn lost(&mut self) {
        self.check_all = true;
    }

    pub(super) fn greet(&mut self, newcomers: &[NodeId]) {
        self.newcomers.extend_from_slice(newcomers);
    }

    /// Nobody is left to be told.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn next(&mut self) -> Next {
        if !self.newcomers.is_empty() {
            let line = BusMessage::CheckAll.lines().unwrap_or_default().concat();
            return Next::Newcomers(std::mem::take(&mut self.newcomers), line);
        }
        self.write_out();
        let payloads = payloads(&mut self.lines, PAYLOADS_MAX);
        self.bytes = self.lines.iter().map(String::len).sum();
        if payloads.is_empty() { Next::Nothing } else { Next::All(payloads) }
    }

    fn put_lines(&mut self, lines: Vec<String>) -> bool {
        let bytes: usize = lines.iter().map(String::len).sum();
        let fits = self.bytes + bytes <= BYTES_MAX;
        if fits {
            self.bytes += bytes;
            self.lines.extend(lines);
        }
        fits
    }

    fn put_short(&mut self, message: &BusMessage) -> Posted {
        let (names, users): (&mut BTreeSet<UserId>, &[UserId]) = match message {
            BusMessage::Wake(class, users) => (&mut self.wakes[*class], users),
            BusMessage::CheckMarks(users) => (&mut self.marks, users),
            BusMessage::Displaced(user, device, number) => {
                if self.displaced.len() < NAMES_MAX {
                    let known = self.displaced.entry((*user, device.clone())).or_default();
                    *known = (*known).max(*number);
                } else {
                    self.check_all = true;
                }
                return Posted::InShort;
            }
            BusMessage::EchoOf(sender, message) => return put_name(&mut self.echoes, (*sender, *message)),
            BusMessage::CheckAll | BusMessage::Hello | BusMessage::Bye => {
                self.check_all = true;
                return Posted::InShort;
            }
            BusMessage::Offer { .. }
            | BusMessage::Receipt(..)
            | BusMessage::ReadUpTo(..)
            | BusMessage::Notice(..)
            | BusMessage::Watched(..) => {
                return Posted::Dropped;
            }
        };
        if names.len() + users.len() <= NAMES_MAX {
            names.extend(users);
        } else {
            self.check_all = true;
        }
        Posted::InShort
    }

    /// Turns the shortened news into lines, once the lines before them are taken. "Look" replaces all of them.
    fn write_out(&mut self) {
        if std::mem::take(&mut self.check_all) {
            self.wakes.values_mut().for_each(BTreeSet::clear);
            self.marks.clear();
            self.displaced.clear();
            self.lines.extend(BusMessage::CheckAll.lines().unwrap_or_default());
        }
        if self.bytes > BYTES_MAX / 2 {
            return;
        }
        for (class, users) in std::mem::take(&mut self.wakes) {
            let users: Vec<UserId> = users.into_iter().collect();
            self.lines.extend(BusMessage::Wake(class, users).lines().unwrap_or_default());
        }
        let users: Vec<UserId> = std::mem::take(&mut self.marks).into_iter().collect();
        self.lines.extend(BusMessage::CheckMarks(users).lines().unwrap_or_default());
        for (sender, message) in std::mem::take(&mut self.echoes) {
            self.lines.extend(BusMessage::EchoOf(sender, message).lines().unwrap_or_default());
        }
        for ((user, device), number) in std::mem::take(&mut self.displaced) {
            self.lines.extend(BusMessage::Displaced(user, device, number).lines().unwrap_or_default());
        }
    }
}

fn put_name<T: Ord>(names: &mut BTreeSet<T>, name: T) -> Posted {
    if names.len() >= NAMES_MAX && !names.contains(&name) {
        return Posted::Dropped;
    }
    names.insert(name);
    Posted::InShort
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ChatId, ChatKind, ChatSeq, Class, ExternalId};
    use crate::protocol::event::{Encoded, Notice};

    fn told(queue: &mut Queue) -> Vec<BusMessage> {
        let mut told = Vec::new();
        while let Next::All(payloads) = queue.next() {
            assert!(payloads.len() <= PAYLOADS_MAX);
            told.extend(payloads.iter().flat_map(|payload| payload.lines()).map(|line| BusMessage::read(line).unwrap()));
        }
        told
    }

    fn notice(bytes: usize) -> BusMessage {
        let user = ExternalId::try_from("anna".to_owned()).unwrap();
        let title = Some("x".repeat(bytes));
        BusMessage::Notice(
            vec![UserId(1)],
            Encoded::new(Notice::Added { chat: ChatId::generate(), kind: ChatKind::Group, title, joined_seq: ChatSeq(1), by: user }),
        )
    }

    fn fill(queue: &mut Queue) {
        for bytes in [5_000, 100, 0] {
            while queue.put(&notice(bytes)) == Posted::Whole {}
        }
        while queue.put(&BusMessage::CheckMarks(vec![UserId(1)])) == Posted::Whole {}
    }

    #[test]
    fn what_is_put_is_told_in_its_order_and_then_nothing_is() {
        let mut queue = Queue::default();
        for user in 0..5_000 {
            assert_eq!(queue.put(&BusMessage::Wake(Class::Chat, vec![UserId(user)])), Posted::Whole);
        }
        let order: Vec<i64> = told(&mut queue)
            .into_iter()
            .map(|message| match message {
                BusMessage::Wake(Class::Chat, users) => users[0].0,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(order, (0..5_000).collect::<Vec<_>>());
        assert_eq!(queue.next(), Next::Nothing);
    }

    #[test]
    fn a_full_queue_tells_in_fewer_words_and_many_wakes_of_a_user_become_one() {
        let mut queue = Queue::default();
        fill(&mut queue);
        let full = queue.bytes;
        for _ in 0..10_000 {
            assert_eq!(queue.put(&BusMessage::Wake(Class::Event, vec![UserId(7)])), Posted::InShort);
        }
        let device = DeviceId::try_from("phone".to_owned()).unwrap();
        for number in [3, 9, 4] {
            assert_eq!(queue.put(&BusMessage::Displaced(UserId(1), device.clone(), number)), Posted::InShort);
        }
        assert_eq!(queue.put(&BusMessage::ReadUpTo(UserId(1), ChatId::generate(), ChatSeq(7))), Posted::InShort, "as a check of the marks");
        let message = MessageId::generate();
        for _ in 0..3 {
            assert_eq!(queue.put(&BusMessage::EchoOf(UserId(1), message)), Posted::InShort);
        }
        assert_eq!(queue.put(&notice(5_000)), Posted::Dropped, "it is kept nowhere, and nothing depends on it");
        assert!(queue.bytes == full && full <= BYTES_MAX);
        let short: Vec<BusMessage> =
            told(&mut queue).into_iter().filter(|message| !matches!(message, BusMessage::Notice(..) | BusMessage::CheckMarks(_))).collect();
        assert!(
            matches!(
                &short[..],
                [BusMessage::Wake(Class::Event, users), BusMessage::EchoOf(..), BusMessage::Displaced(_, _, 9)]
                    if *users == [UserId(7)]
            ),
            "{short:?}"
        );
    }

    #[test]
    fn too_many_names_become_a_check_for_everybody() {
        let mut queue = Queue::default();
        fill(&mut queue);
        for user in 0..100_000 {
            queue.put(&BusMessage::Wake(Class::Chat, vec![UserId(user)]));
        }
        assert!(queue.wakes.chat.len() <= NAMES_MAX);
        let short: Vec<BusMessage> =
            told(&mut queue).into_iter().filter(|message| !matches!(message, BusMessage::Notice(..) | BusMessage::CheckMarks(_))).collect();
        assert!(matches!(short[..], [BusMessage::CheckAll]), "{} message", short.len());
    }

    #[test]
    fn what_was_lost_under_way_is_a_check_for_everybody() {
        let mut queue = Queue::default();
        queue.lost();
        assert!(matches!(told(&mut queue)[..], [BusMessage::CheckAll]));
    }

    #[test]
    fn nodes_that_came_are_told_first_and_alone() {
        let mut queue = Queue::default();
        let node = NodeId::generate();
        queue.put(&notice(1));
        queue.greet(&[node]);
        let Next::Newcomers(nodes, payload) = queue.next() else { panic!("not greeted") };
        assert_eq!(nodes, [node]);
        assert!(matches!(BusMessage::read(&payload), Some(BusMessage::CheckAll)));
        assert_eq!(told(&mut queue).len(), 1);
    }
}
