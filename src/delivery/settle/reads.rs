//! The reads of one transaction. It marks a bounded number of rows, which they share: of a long read it writes a part.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::job::{Job, ReadJob};
use crate::delivery::Refusal;
use crate::delivery::item::{ReadDone, ReadUpTo};
use crate::delivery::link::Link;
use crate::delivery::receipts::Receipts;
use crate::domain::{ChatSeq, Profile, SessionId, UserId};
use crate::store::{self, Error, LockTimeout, NamedMessage, ReadRequest, ReadRows};

/// Reads that are written together.
#[derive(Debug)]
pub(super) struct ReadBatch {
    jobs: Vec<ReadJob>,
    /// Rows that they mark together: of a long read a part.
    rows_max: usize,
}

/// The numbers of messages up to which is read; none where the reader may not see such a message. A message that a stranger to the chat
/// names is missing.
type Found = HashMap<NamedMessage, Option<ChatSeq>>;

/// The result of a commit.
#[derive(Debug, Default)]
pub(super) struct Read {
    found: Found,
    /// A request that is missing is that of a user who never was a member.
    done: BTreeMap<ReadRequest, ReadRows>,
}

impl Read {
    /// Rows that were marked; of a read that goes on as many as it may mark: it may have looked at others.
    pub(super) fn rows(&self, rows_max: usize) -> usize {
        if self.done.values().any(|rows| rows.more) { rows_max } else { self.done.values().map(|rows| rows.rows.len()).sum() }
    }

    /// The time that the server took for it.
    pub(super) fn took(&self) -> Duration {
        self.done.values().map(|rows| rows.took).max().unwrap_or_default()
    }
}

impl ReadJob {
    /// The message that this job names; none where it names a number.
    fn named(&self) -> Option<NamedMessage> {
        match self.up_to {
            ReadUpTo::Seq(_) => None,
            ReadUpTo::Message(message) => Some(NamedMessage { user: self.user.user, chat: self.chat, message }),
        }
    }

    /// The request of this job.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]: the message it names is not one of the chat, or came after its user had left. [`Refusal::NotAMember`].
    fn request(&self, found: &Found) -> Result<ReadRequest, Refusal> {
        let up_to = match (self.up_to, self.named()) {
            (ReadUpTo::Seq(seq), _) => seq,
            (_, named) => named.and_then(|named| found.get(&named)).ok_or(Refusal::NotAMember)?.ok_or(Refusal::NotFound)?,
        };
        Ok(ReadRequest { user: self.user.user, chat: self.chat, up_to })
    }

    /// Its part is committed: the rest of it, or the reply if there is none.
    fn go_on(self, read: &Read) -> Option<Job> {
        let outcome = match self.request(&read.found) {
            Err(refusal) => Err(refusal),
            Ok(request) => match read.done.get(&request) {
                None => Err(Refusal::NotAMember),
                Some(rows) if rows.more => {
                    return Some(Job::Read(Self { up_to: ReadUpTo::Seq(request.up_to), is_begun: true, ..self }));
                }
                Some(rows) => Ok(ReadDone { up_to: rows.up_to }),
            },
        };
        // The asker may be gone.
        let _ = self.reply.send(outcome);
        None
    }
}

impl ReadBatch {
    pub(super) const fn new(jobs: Vec<ReadJob>, rows_max: usize) -> Self {
        Self { jobs, rows_max }
    }

    /// Rows that they mark together at most.
    pub(super) const fn rows_max(&self) -> usize {
        self.rows_max
    }

    pub(super) const fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Marks a part of what they ask for.
    ///
    /// # Errors
    /// Those of the statements. Nothing is marked then, or that is not known.
    pub(super) async fn run(&self, link: &mut Link, lock_timeout: LockTimeout) -> Result<Read, Error> {
        let line = link.get().await?;
        let named = self.named();
        let found = match named.is_empty() {
            true => HashMap::new(),
            false => line.stall_detector.answer(store::seqs_of_messages(line.connection, &named)).await?,
        };
        let requests = self.prepare(&found);
        if requests.is_empty() {
            return Ok(Read { found, ..Read::default() });
        }
        let rows_max = i32::try_from(self.rows_max).unwrap_or(i32::MAX);
        let reading = store::read(line.connection, &requests, rows_max, lock_timeout);
        let mut rows = line.stall_detector.answer(reading).await?;
        let done = requests.into_iter().enumerate().filter_map(|(place, request)| Some((request, rows.remove(&place)?)));
        Ok(Read { done: done.collect(), found })
    }

    /// The messages whose numbers are to be found first.
    fn named(&self) -> Vec<NamedMessage> {
        self.jobs.iter().filter_map(ReadJob::named).collect()
    }

    /// The requests of all jobs, each once.
    fn prepare(&self, found: &Found) -> Vec<ReadRequest> {
        let requests: BTreeSet<ReadRequest> = self.jobs.iter().filter_map(|job| job.request(found).ok()).collect();
        requests.into_iter().collect()
    }

    /// It is committed: tells senders, replies to the jobs that are finished, and returns the rests of the others.
    pub(super) fn answer(self, read: &Read, receipts: &Receipts) -> Vec<Job> {
        let members: HashMap<UserId, &Profile> = self.jobs.iter().map(|job| (job.user.user, &*job.user)).collect();
        for (request, rows) in &read.done {
            if let Some(member) = members.get(&request.user) {
                receipts.read(member, request.chat, rows, self.origin(request, &read.found));
            }
        }
        self.jobs.into_iter().filter_map(|job| job.go_on(read)).collect()
    }

    /// The session that asked for this; none where several did, or no session.
    fn origin(&self, request: &ReadRequest, found: &Found) -> Option<SessionId> {
        let mut origins = self.jobs.iter().filter(|job| job.request(found).is_ok_and(|asked| asked == *request)).map(|job| job.origin);
        let first = origins.next().flatten();
        first.filter(|_| origins.all(|origin| origin == first))
    }

    pub(super) fn into_jobs(self) -> Vec<Job> {
        self.jobs.into_iter().map(Job::Read).collect()
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::delivery::settle::job::samples::{CHAT, message, read_job};
    use crate::domain::MessageId;
    use crate::store::ReadRow;

    fn request(user: i64, up_to: i64) -> ReadRequest {
        ReadRequest { user: UserId(user), chat: CHAT, up_to: ChatSeq(up_to) }
    }

    fn named(user: i64, message: MessageId) -> NamedMessage {
        NamedMessage { user: UserId(user), chat: CHAT, message }
    }

    /// A read that has marked one row, up to this number.
    fn rows(up_to: i64, more: bool) -> ReadRows {
        let row = ReadRow { message: message(up_to), chat_seq: ChatSeq(up_to), sender: UserId(7), ended: None };
        ReadRows { rows: vec![row], at: OffsetDateTime::UNIX_EPOCH, up_to: ChatSeq(up_to), more, advanced: true, took: Duration::ZERO }
    }

    #[test]
    fn what_is_read_twice_is_asked_for_once_and_what_is_not_found_is_not_asked_for() {
        let up_to = [ReadUpTo::Seq(ChatSeq(4)), ReadUpTo::Message(message(4)), ReadUpTo::Message(message(9)), ReadUpTo::Seq(ChatSeq(2))];
        let batch = ReadBatch::new(up_to.into_iter().map(|up_to| read_job(1, up_to).0).collect(), 5_000);
        assert_eq!(batch.named(), [named(1, message(4)), named(1, message(9))]);
        let found = HashMap::from([(named(1, message(4)), Some(ChatSeq(4))), (named(1, message(9)), None)]);
        assert_eq!(batch.prepare(&found), [request(1, 2), request(1, 4)]);
    }

    #[test]
    fn the_session_that_reads_alone_is_known_and_several_are_not() {
        let sessions = [SessionId::generate(), SessionId::generate()];
        let job = |user, origin| ReadJob { origin, ..read_job(user, ReadUpTo::Seq(ChatSeq(4))).0 };
        let [one, other] = sessions.map(Some);
        let batch =
            ReadBatch::new(vec![job(1, one), job(1, one), job(2, one), job(2, other), job(3, other), job(3, None), job(4, None)], 2_000);
        let origins = [1, 2, 3, 4].map(|user| batch.origin(&request(user, 4), &HashMap::new()));
        assert_eq!(origins, [one, None, None, None]);
    }

    #[test]
    fn a_read_is_answered_when_nothing_is_left_of_it_and_each_part_is_told_once() {
        let asked = [
            (1, ReadUpTo::Seq(ChatSeq(4))),
            (1, ReadUpTo::Message(message(4))),
            (2, ReadUpTo::Message(message(4))),
            (3, ReadUpTo::Seq(ChatSeq(4))),
            (1, ReadUpTo::Message(message(9))),
            (3, ReadUpTo::Message(message(4))),
        ];
        let (jobs, mut answers): (Vec<_>, Vec<_>) = asked.into_iter().map(|(user, up_to)| read_job(user, up_to)).unzip();
        let four = |user| (named(user, message(4)), Some(ChatSeq(4)));
        let found = HashMap::from([four(1), four(2), (named(1, message(9)), None)]);
        let done = BTreeMap::from([(request(1, 4), rows(4, false)), (request(2, 4), rows(2, true))]);
        let receipts = Receipts::unheard();
        let rest = ReadBatch::new(jobs, 5_000).answer(&Read { found, done }, &receipts);
        assert_eq!(receipts.told("read"), 2);
        let [Job::Read(rest)] = &*rest else { panic!("one is left: {rest:?}") };
        assert_eq!((rest.user.user, rest.up_to, rest.is_begun), (UserId(2), ReadUpTo::Seq(ChatSeq(4)), true));
        assert!(answers.remove(2).try_recv().is_err(), "it is answered before all of it is read");
        let answers: Vec<_> = answers.into_iter().map(|mut answer| answer.try_recv().unwrap()).collect();
        let done = Ok(ReadDone { up_to: ChatSeq(4) });
        assert_eq!(answers, [done, done, Err(Refusal::NotAMember), Err(Refusal::NotFound), Err(Refusal::NotAMember)]);
    }
}
