//! The messages that wait for the other nodes. They are bounded: beyond [`BYTES_MAX`] many messages of a kind are replaced by a shorter
//! one, and of notices, which are kept nowhere else, the last one of each subject waits. Beyond [`NAMES_MAX`] names a single line tells
//! every session to check the database.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::message::{BusMessage, payloads};
use crate::domain::{ChatId, DeviceId, MessageId, NodeId, PerClass, UserId};
use crate::protocol::event::{Encoded, Notice, NoticeSubject};

/// Bytes of lines that may wait.
const BYTES_MAX: usize = 1024 * 1024;
/// Users who may wait to be named, per kind of message.
const NAMES_MAX: usize = 10_000;
/// Payloads of one transaction.
const PAYLOADS_MAX: usize = 32;

/// The form in which a message was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// It waits as it is.
    Whole,
    /// Something shorter, or the last of several states, waits in its place.
    InShort,
    /// It is dropped: there was no room.
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
    preferences: BTreeSet<UserId>,
    echoes: BTreeSet<(UserId, MessageId)>,
    displaced: BTreeMap<(UserId, DeviceId), i64>,
    /// Streams of feeds that have moved. A stream that moves often is told once.
    streams: BTreeSet<ChatId>,
    /// Notices that did not fit. As long as there are some, later ones are put here too: the last one of a subject counts.
    notices: BTreeMap<(NoticeSubject, UserId), Encoded<Notice>>,
    /// The same for those who watch a user.
    watched: BTreeMap<UserId, Encoded<Notice>>,
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
        if let BusMessage::FeedsMoved(streams) = message {
            return self.put_streams(streams);
        }
        if !self.waits_behind_others(message)
            && let Some(lines) = message.lines()
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

    /// These payloads may not have arrived. The database has what they told, except notices: those are told again.
    pub(super) fn lost(&mut self, payloads: &[String]) {
        self.check_all = true;
        for line in payloads.iter().flat_map(|payload| payload.lines()) {
            if let Some(BusMessage::Notice(users, notice)) = BusMessage::read(line) {
                for user in users {
                    self.keep_notice(user, &notice, Keep::UnlessThereIsALaterOne);
                }
            }
        }
    }

    /// Other nodes have come, and know nothing of what was told before.
    pub(super) fn greet(&mut self, newcomers: &[NodeId]) {
        self.newcomers.extend_from_slice(newcomers);
    }

    /// No other node is left, so the queue is emptied.
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

    /// Streams are never put as lines: many that move, or one that moves often, would fill the queue.
    fn put_streams(&mut self, streams: &[ChatId]) -> Posted {
        if self.streams.len() + streams.len() > NAMES_MAX {
            self.check_all = true;
            return Posted::InShort;
        }
        self.streams.extend(streams);
        Posted::Whole
    }

    fn put_short(&mut self, message: &BusMessage) -> Posted {
        let (names, users): (&mut BTreeSet<UserId>, &[UserId]) = match message {
            BusMessage::Wake(class, users) => (&mut self.wakes[*class], users),
            BusMessage::CheckMarks(users) => (&mut self.marks, users),
            BusMessage::PreferencesChanged(users) => (&mut self.preferences, users),
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
            BusMessage::FeedsMoved(streams) => return self.put_streams(streams),
            BusMessage::PeopleChanged(..) | BusMessage::MaySee(_) | BusMessage::CheckAll | BusMessage::Hello | BusMessage::Bye => {
                self.check_all = true;
                return Posted::InShort;
            }
            BusMessage::Notice(users, notice) => {
                let dropped = users.iter().filter(|user| !self.keep_notice(**user, notice, Keep::Last)).count();
                return if dropped == 0 { Posted::InShort } else { Posted::Dropped };
            }
            BusMessage::Watched(user, notice) => {
                if self.watched.len() < NAMES_MAX || self.watched.contains_key(user) {
                    self.watched.insert(*user, notice.clone());
                } else {
                    self.check_all = true;
                }
                return Posted::InShort;
            }
            // A telling that is lost costs a user nothing.
            BusMessage::Spent(_) => return Posted::Dropped,
            // Something shorter was put in their place.
            BusMessage::Offer { .. } | BusMessage::Receipt(..) | BusMessage::ReadUpTo(..) | BusMessage::Answered(..) => {
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

    /// Returns whether later states of the same subjects may wait already.
    fn waits_behind_others(&self, message: &BusMessage) -> bool {
        match message {
            BusMessage::Notice(..) => !self.notices.is_empty(),
            BusMessage::Watched(..) => !self.watched.is_empty(),
            _ => false,
        }
    }

    /// False: there was no room. Sessions check the database then; a client takes a user who types for idle after a while.
    fn keep_notice(&mut self, user: UserId, notice: &Encoded<Notice>, keep: Keep) -> bool {
        let key = (notice.subject(), user);
        let (is_known, is_full) = (self.notices.contains_key(&key), self.notices.len() >= NAMES_MAX);
        match keep {
            Keep::UnlessThereIsALaterOne if is_known => return true,
            Keep::Last | Keep::UnlessThereIsALaterOne => {}
        }
        if is_full && !is_known {
            self.check_all = true;
            return false;
        }
        self.notices.insert(key, notice.clone());
        true
    }

    /// Turns what waits in a shorter form into lines, once the lines before it are taken. A check of everything replaces what the database
    /// has.
    fn write_out(&mut self) {
        if std::mem::take(&mut self.check_all) {
            self.wakes.values_mut().for_each(BTreeSet::clear);
            self.marks.clear();
            self.preferences.clear();
            self.displaced.clear();
            self.streams.clear();
            self.lines.extend(BusMessage::CheckAll.lines().unwrap_or_default());
        }
        if self.bytes > BYTES_MAX / 2 {
            return;
        }
        for (class, users) in std::mem::take(&mut self.wakes) {
            let users: Vec<UserId> = users.into_iter().collect();
            self.lines.extend(BusMessage::Wake(class, users).lines().unwrap_or_default());
        }
        let streams: Vec<ChatId> = std::mem::take(&mut self.streams).into_iter().collect();
        self.lines.extend(BusMessage::FeedsMoved(streams).lines().unwrap_or_default());
        let users: Vec<UserId> = std::mem::take(&mut self.marks).into_iter().collect();
        self.lines.extend(BusMessage::CheckMarks(users).lines().unwrap_or_default());
        let users: Vec<UserId> = std::mem::take(&mut self.preferences).into_iter().collect();
        self.lines.extend(BusMessage::PreferencesChanged(users).lines().unwrap_or_default());
        for (sender, message) in std::mem::take(&mut self.echoes) {
            self.lines.extend(BusMessage::EchoOf(sender, message).lines().unwrap_or_default());
        }
        self.write_notices();
        for ((user, device), number) in std::mem::take(&mut self.displaced) {
            self.lines.extend(BusMessage::Displaced(user, device, number).lines().unwrap_or_default());
        }
    }

    /// Users who are told the same share lines.
    fn write_notices(&mut self) {
        let mut told: Vec<(Vec<UserId>, Encoded<Notice>)> = Vec::new();
        for ((_, user), notice) in std::mem::take(&mut self.notices) {
            match told.last_mut() {
                Some((users, same)) if **same == *notice => users.push(user),
                Some(_) | None => told.push((vec![user], notice)),
            }
        }
        for (users, notice) in told {
            self.lines.extend(BusMessage::Notice(users, notice).lines().unwrap_or_default());
        }
        for (user, notice) in std::mem::take(&mut self.watched) {
            self.lines.extend(BusMessage::Watched(user, notice).lines().unwrap_or_default());
        }
    }
}

/// The notice that counts where one of the same subject waits.
#[derive(Debug, Clone, Copy)]
enum Keep {
    /// This one.
    Last,
    /// The one that waits.
    UnlessThereIsALaterOne,
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
    fn a_stream_that_moves_often_is_told_once_and_too_many_streams_are_a_check_for_everybody() {
        let mut queue = Queue::default();
        let streams = [ChatId::generate(), ChatId::generate()];
        for _ in 0..100_000 {
            assert_eq!(queue.put(&BusMessage::FeedsMoved(streams.to_vec())), Posted::Whole);
        }
        let told_of = told(&mut queue);
        let [BusMessage::FeedsMoved(moved)] = &told_of[..] else { panic!("{told_of:?}") };
        assert!(moved.len() == 2 && streams.iter().all(|stream| moved.contains(stream)));

        let many: Vec<ChatId> = (0..NAMES_MAX).map(|_| ChatId::generate()).collect();
        for stream in &many {
            queue.put(&BusMessage::FeedsMoved(vec![*stream]));
        }
        let named = told(&mut queue).into_iter().map(|message| match message {
            BusMessage::FeedsMoved(streams) => streams.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(named.sum::<usize>(), NAMES_MAX);
        for stream in many.iter().chain(&streams) {
            queue.put(&BusMessage::FeedsMoved(vec![*stream]));
        }
        assert!(matches!(told(&mut queue)[..], [BusMessage::CheckAll]));
    }

    #[test]
    fn what_was_lost_under_way_is_a_check_for_everybody_and_notices_are_told_again() {
        let mut queue = Queue::default();
        let (chat, ben) = (ChatId::generate(), ExternalId::try_from("ben".to_owned()).unwrap());
        let says = |typing| BusMessage::Notice(vec![UserId(1)], Encoded::new(Notice::Typing { chat, user: ben.clone(), typing }));
        let other = notice(1);
        for message in [&other, &says(true), &BusMessage::Wake(Class::Chat, vec![UserId(1)])] {
            queue.put(message);
        }
        let Next::All(payloads) = queue.next() else { panic!("nothing to tell") };
        queue.put(&says(false));
        let Next::All(later) = queue.next() else { panic!("nothing to tell") };
        queue.lost(&later);
        queue.lost(&payloads);
        let told: Vec<String> = told(&mut queue).iter().map(|message| format!("{message:?}")).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told.contains(&format!("{other:?}")) && told.contains(&format!("{:?}", says(false))), "the later one counts: {told:?}");
        assert!(told.contains(&format!("{:?}", BusMessage::CheckAll)));
    }

    /// Everything that others are told in a moment and that the database does not tell them. Broken by dropping what does not fit.
    #[test]
    fn of_notices_that_do_not_fit_the_last_one_of_each_subject_is_told() {
        let mut queue = Queue::default();
        fill(&mut queue);
        let (chat, ben) = (ChatId::generate(), ExternalId::try_from("ben".to_owned()).unwrap());
        let at = time::OffsetDateTime::UNIX_EPOCH;
        let to = |notice| BusMessage::Notice(vec![UserId(1), UserId(2)], Encoded::new(notice));
        let said = [
            to(Notice::Typing { chat, user: ben.clone(), typing: true }),
            to(Notice::Typing { chat, user: ben.clone(), typing: false }),
            to(Notice::Added { chat, kind: ChatKind::Group, title: None, joined_seq: ChatSeq(1), by: ben.clone() }),
            to(Notice::Removed { chat, left_seq: ChatSeq(2), by: ben.clone() }),
            BusMessage::Watched(UserId(2), Encoded::new(Notice::Online { user: ben.clone(), at })),
            BusMessage::Watched(UserId(2), Encoded::new(Notice::Offline { user: ben, last_seen: at })),
        ];
        for message in &said {
            assert_eq!(queue.put(message), Posted::InShort, "{message:?}");
        }
        let told: Vec<String> = told(&mut queue).iter().map(|message| format!("{message:?}")).collect();
        for (n, message) in said.iter().enumerate() {
            assert_eq!(told.contains(&format!("{message:?}")), n % 2 == 1, "{message:?}");
        }
    }

    #[test]
    fn only_so_many_notices_wait_and_beyond_them_everybody_checks() {
        let mut queue = Queue::default();
        fill(&mut queue);
        for user in 0..100_000 {
            let (id, at) = (ExternalId::try_from(format!("user-{user}")).unwrap(), time::OffsetDateTime::UNIX_EPOCH);
            queue.put(&BusMessage::Watched(UserId(user), Encoded::new(Notice::Online { user: id, at })));
            queue.put(&notice(1));
        }
        assert!(queue.watched.len() <= NAMES_MAX && queue.notices.len() <= NAMES_MAX);
        assert!(told(&mut queue).iter().any(|message| matches!(message, BusMessage::CheckAll)));
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
