//! The acks of one transaction: rows, the marks that follow from them, and the cursors of devices.
//!
//! A job with more rows than a transaction may hold is written in parts. What a session proposes is true once all
//! rows of its job are settled, so it goes with the last part; the marks of earlier parts are computed from the rows.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use time::OffsetDateTime;

use super::job::Try;
use super::job::{AckJob, Job};
use crate::delivery::item::Acks;
use crate::delivery::link::{Line, Link};
use crate::delivery::receipts::Receipts;
use crate::domain::{ChatId, ChatSeq, Class, DeviceId, ExternalId, InboxSeq, MessageId, Status, UserId};
use crate::store::{self, AckedRows, DeviceCursor, Error, ExactMark, LockTimeout, MarkProposal, SettleBatch, StatusRow};

/// Acks that are written together.
#[derive(Debug)]
pub(super) struct AckBatch {
    jobs: Vec<AckJob>,
    /// Rows of a job that one transaction settles at most.
    rows_max: usize,
    /// The time that the server took for the rows.
    pub(super) took: Duration,
    /// Commits whose receipts are not told yet.
    settled: Vec<Settled>,
}

/// The rows that one commit has moved.
#[derive(Debug)]
struct Settled {
    rows: Vec<StatusRow>,
    at: OffsetDateTime,
}

/// The rows of a job that one transaction settles.
#[derive(Debug)]
struct Part<'a> {
    acks: &'a Acks,
    rows: &'a [StatusRow],
    by_id: &'a [MessageId],
    is_last: bool,
}

impl AckJob {
    fn part(&self, rows_max: usize) -> Part<'_> {
        let rows = &self.acks.rows[..self.acks.rows.len().min(rows_max)];
        let by_id = &self.acks.by_id[..self.acks.by_id.len().min(rows_max - rows.len())];
        Part { acks: &self.acks, rows, by_id, is_last: rows.len() + by_id.len() == self.rows() }
    }

    /// Its part is committed: the rest of it, or the reply if there is none.
    fn go_on(mut self, rows_max: usize) -> Option<Job> {
        let Part { rows, by_id, is_last, .. } = self.part(rows_max);
        let (rows, by_id) = (rows.len(), by_id.len());
        if is_last {
            // The asker may be gone.
            let _ = self.reply.send(Ok(()));
            return None;
        }
        self.acks.rows.drain(..rows);
        self.acks.by_id.drain(..by_id);
        Some(Job::Ack(self))
    }
}

impl AckBatch {
    pub(super) const fn new(jobs: Vec<AckJob>, rows_max: usize) -> Self {
        Self { jobs, rows_max, took: Duration::ZERO, settled: Vec::new() }
    }

    /// Rows that one transaction settles.
    pub(super) fn rows(&self) -> usize {
        self.jobs.iter().map(|job| job.rows().min(self.rows_max)).sum()
    }

    pub(super) const fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Settles a part of each job.
    ///
    /// # Errors
    /// Those of the statements. Some rows may be settled then; [`Self::tell`] knows which.
    pub(super) async fn run(&mut self, link: &mut Link, which: Try, lock_timeout: LockTimeout) -> Result<(), Error> {
        let mut line = link.get().await?;
        let named = self.named();
        let located = match named.is_empty() {
            true => Vec::new(),
            false => line.stall_detector.answer(store::locate_acked(line.connection, &named, AckedRows::Any)).await?,
        };
        let batch = self.prepare(&located, which);
        let left = self.settle(&mut line, batch, lock_timeout).await?;
        if left.is_empty() {
            return Ok(());
        }
        // Acked before, as a rule. But a row may have got another number since it was emitted, and waits there.
        let waiting = line.stall_detector.answer(store::locate_acked(line.connection, &left, AckedRows::Waiting)).await?;
        if !waiting.is_empty() {
            self.settle(&mut line, where_they_stand(waiting), lock_timeout).await?;
        }
        Ok(())
    }

    /// One transaction. Returns the messages whose rows have not moved.
    async fn settle(
        &mut self,
        line: &mut Line<'_>,
        batch: SettleBatch,
        lock_timeout: LockTimeout,
    ) -> Result<Vec<(UserId, MessageId)>, Error> {
        let settled = line.stall_detector.answer(store::settle(line.connection, &batch, lock_timeout)).await?;
        self.took += settled.took;
        let left = not_moved(&batch.rows, &settled.moved);
        let rows = settled.moved.iter().filter_map(|place| batch.rows.get(*place).copied()).collect();
        self.settled.push(Settled { rows, at: settled.at });
        Ok(left)
    }

    /// The messages whose rows are to be found first.
    fn named(&self) -> Vec<(UserId, MessageId)> {
        self.jobs.iter().flat_map(|job| job.part(self.rows_max).by_id.iter().map(|message| (job.acks.user.user, *message))).collect()
    }

    /// Puts the acks of several users into one transaction: rows in lock order, the furthest mark per member, the furthest
    /// cursor per device (each session's is true once all before it in this lane is written, which it is). Where a row was acked
    /// above the mark, something below it is held by that session, and may have been acked by another, which holds this one: then
    /// neither of them knows how far the member has got, and the rows are asked. So they are where the batch is tried again, although it
    /// may be there already: marks that are computed are locked, and a transaction that locks waits for a synchronous standby, where
    /// one that finds nothing to do would not.
    fn prepare(&self, located: &[StatusRow], which: Try) -> SettleBatch {
        let parts: Vec<Part> = self.jobs.iter().map(|job| job.part(self.rows_max)).collect();
        let mut proposed = Proposed::default();
        parts.iter().filter(|part| part.is_last).for_each(|part| proposed.add(part.acks));
        let mut rows: Vec<StatusRow> = parts.iter().flat_map(|part| part.rows).chain(located).copied().collect();
        rows.sort_unstable_by_key(StatusRow::key);
        rows.dedup_by_key(|row| row.key());
        // For a part that is not the last nothing is proposed: all its rows lie above.
        let to_compute = parts.iter().flat_map(|part| part.rows).filter(|row| which == Try::Again || proposed.is_below(row));
        let exact = members_of(located.iter().chain(to_compute));
        let (marks, devices) = proposed.columns();
        SettleBatch { rows, marks, exact, devices }
    }

    /// Tells senders what is committed.
    pub(super) fn tell(&mut self, receipts: &Receipts) {
        let names: HashMap<UserId, &ExternalId> = self.jobs.iter().map(|job| (job.acks.user.user, &job.acks.user.external)).collect();
        for Settled { rows, at } in self.settled.drain(..) {
            let rows: Vec<&StatusRow> = rows.iter().collect();
            receipts.moved(&rows, Status::Delivered, at, None, |user| names.get(&user).map(|name| (*name).clone()));
        }
    }

    /// All parts are committed: replies to the jobs that are finished, and returns the rests of the others.
    pub(super) fn answer(self) -> Vec<Job> {
        self.jobs.into_iter().filter_map(|job| job.go_on(self.rows_max)).collect()
    }

    pub(super) fn into_jobs(self) -> Vec<Job> {
        self.jobs.into_iter().map(Job::Ack).collect()
    }
}

/// Proposals of sessions: the furthest mark per member, the furthest cursor per device.
#[derive(Debug, Default)]
struct Proposed<'a> {
    marks: BTreeMap<(ChatId, UserId), ChatSeq>,
    cursors: BTreeMap<CursorKey<'a>, InboxSeq>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CursorKey<'a> {
    user: UserId,
    device: &'a DeviceId,
    class: Class,
}

impl<'a> Proposed<'a> {
    fn add(&mut self, acks: &'a Acks) {
        let user = acks.user.user;
        for (chat, seq) in &acks.marks {
            let mark = self.marks.entry((*chat, user)).or_default();
            *mark = (*mark).max(*seq);
        }
        if let Some((device, acked)) = &acks.device {
            // A cursor at its beginning has not moved.
            for (class, acked) in acked.iter().filter(|(_, acked)| acked.0 > 0) {
                let cursor = self.cursors.entry(CursorKey { user, device, class }).or_default();
                *cursor = (*cursor).max(*acked);
            }
        }
    }

    /// True where no mark that is proposed for its chat reaches this row.
    fn is_below(&self, row: &StatusRow) -> bool {
        self.marks.get(&(row.chat, row.user)).is_none_or(|mark| *mark < row.chat_seq)
    }

    fn columns(self) -> (Vec<MarkProposal>, Vec<DeviceCursor>) {
        let marks = self.marks.into_iter().map(|((chat, user), seq)| MarkProposal { user, chat, seq });
        let cursors = self.cursors.into_iter().map(|(CursorKey { user, device, class }, acked)| {
            let device = device.clone();
            DeviceCursor { user, device, class, acked }
        });
        (marks.collect(), cursors.collect())
    }
}

/// The members whose rows these are, each once. Alerts, events and notices of recalls have no marks.
fn members_of<'a>(rows: impl Iterator<Item = &'a StatusRow>) -> Vec<ExactMark> {
    let members: BTreeSet<(ChatId, UserId)> =
        rows.filter(|row| row.class == Class::Chat && !row.chat_seq.is_of_notice()).map(|row| (row.chat, row.user)).collect();
    members.into_iter().map(|(chat, user)| ExactMark { user, chat }).collect()
}

/// The messages of the rows that have not moved, each once; `moved` has the places of the others.
fn not_moved(rows: &[StatusRow], moved: &[usize]) -> Vec<(UserId, MessageId)> {
    if moved.len() == rows.len() {
        return Vec::new();
    }
    let moved: HashSet<usize> = moved.iter().copied().collect();
    let left = rows.iter().enumerate().filter(|(place, _)| !moved.contains(place));
    let left: BTreeSet<(UserId, MessageId)> = left.map(|(_, row)| (row.user, row.message)).collect();
    left.into_iter().collect()
}

/// Settles rows where they stand by now. No session knows what waits below them, so their members' marks are computed.
fn where_they_stand(mut rows: Vec<StatusRow>) -> SettleBatch {
    rows.sort_unstable_by_key(StatusRow::key);
    let exact = members_of(rows.iter());
    SettleBatch { rows, exact, ..SettleBatch::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::settle::job::samples::{self, Answer, CHAT, row};
    use crate::delivery::settle::pace::ROWS_MAX;
    use crate::domain::DeviceId;
    use crate::domain::PerClass;

    const PART: i64 = 5_000;

    /// Acks of these rows with a mark.
    fn acks(user: i64, seqs: &[i64], mark: i64) -> AckJob {
        job(Acks { marks: vec![(CHAT, ChatSeq(mark))], ..samples::acks(user, seqs.iter().copied()) }).0
    }

    fn job(acks: Acks) -> (AckJob, Answer<()>) {
        samples::ack_job(acks)
    }

    fn device() -> DeviceId {
        DeviceId::try_from("phone".to_owned()).unwrap()
    }

    /// One and a half parts of rows, and as many ids, with a mark and a device's cursor.
    fn long() -> (AckJob, Answer<()>) {
        let end = 2 * (PART + PART / 2);
        let marks = vec![(CHAT, ChatSeq(end))];
        let by_id = (PART + PART / 2 + 1..=end).map(samples::message).collect();
        let rows = samples::acks(1, 1..=PART + PART / 2);
        job(Acks { by_id, marks, device: Some((device(), PerClass { chat: InboxSeq(end), ..PerClass::default() })), ..rows })
    }

    fn computed(jobs: Vec<AckJob>, which: Try) -> Vec<i64> {
        AckBatch::new(jobs, ROWS_MAX).prepare(&[], which).exact.iter().map(|mark| mark.user.0).collect()
    }

    #[test]
    fn marks_are_computed_where_a_row_lies_above_what_is_proposed_and_where_a_batch_is_tried_again() {
        let in_turn = || vec![acks(1, &[1, 2], 2), acks(2, &[5], 9)];
        assert_eq!(computed(in_turn(), Try::First), [0; 0]);
        assert_eq!(computed(in_turn(), Try::Again), [1, 2]);
        assert_eq!(computed(vec![acks(1, &[1, 2], 2), acks(2, &[5, 6], 5)], Try::First), [2]);
        // Two sessions of one member, each of which holds what the other acked.
        assert_eq!(computed(vec![acks(1, &[2], 0), acks(1, &[1], 1)], Try::First), [1]);
    }

    #[test]
    fn rows_come_in_lock_order_and_once_and_marks_and_cursors_are_the_furthest() {
        let of = |seqs: [i64; 2], mark, acked| {
            let marks = vec![(CHAT, ChatSeq(mark))];
            job(Acks {
                marks,
                device: Some((device(), PerClass { chat: InboxSeq(acked), ..PerClass::default() })),
                ..samples::acks(1, seqs)
            })
            .0
        };
        let batch = AckBatch::new(vec![acks(2, &[1], 1), of([4, 3], 4, 4), of([4, 2], 3, 3)], ROWS_MAX).prepare(&[], Try::First);
        let rows: Vec<_> = batch.rows.iter().map(|row| (row.user.0, row.seq.0)).collect();
        assert_eq!(rows, [(1, 2), (1, 3), (1, 4), (2, 1)]);
        let marks: Vec<_> = batch.marks.iter().map(|mark| (mark.user.0, mark.seq.0)).collect();
        assert_eq!(marks, [(1, 4), (2, 1)]);
        let cursors: Vec<_> = batch.devices.iter().map(|cursor| (cursor.class, cursor.acked.0)).collect();
        assert_eq!(cursors, [(Class::Chat, 4)]);
    }

    #[test]
    fn a_long_job_is_written_in_parts_and_its_marks_and_cursor_go_with_the_last_one() {
        let (mut job, mut answer) = long();
        for (rows, ids) in [(PART, 0), (PART / 2, PART / 2)] {
            let batch = AckBatch::new(vec![job], ROWS_MAX);
            assert_eq!(i64::try_from(batch.named().len()), Ok(ids));
            let part = batch.prepare(&[], Try::First);
            assert_eq!(i64::try_from(part.rows.len()), Ok(rows));
            assert!(part.marks.is_empty() && part.devices.is_empty());
            assert_eq!(part.exact, [ExactMark { user: UserId(1), chat: CHAT }], "it is computed how far the member has got");
            let [Job::Ack(rest)] = <[Job; 1]>::try_from(batch.answer()).unwrap() else { panic!("it is another job") };
            assert!(answer.try_recv().is_err(), "it is answered before all of it is written");
            job = rest;
        }
        let last = AckBatch::new(vec![job], ROWS_MAX);
        assert_eq!(i64::try_from(last.named().len()), Ok(PART));
        let part = last.prepare(&[row(1, 3 * PART)], Try::First);
        assert_eq!((part.rows.len(), part.marks.len(), part.devices.len()), (1, 1, 1));
        assert!(last.answer().is_empty());
        assert_eq!(answer.try_recv(), Ok(Ok(())));
    }

    #[test]
    fn what_is_committed_is_told_once_also_where_the_batch_goes_back() {
        let receipts = crate::delivery::Receipts::unheard();
        let mut batch = AckBatch::new(vec![acks(1, &[1, 2], 2)], ROWS_MAX);
        batch.settled.push(Settled { rows: vec![row(1, 1)], at: OffsetDateTime::UNIX_EPOCH });
        batch.tell(&receipts);
        batch.tell(&receipts);
        assert_eq!(receipts.told("delivered"), 1);
        assert!(matches!(&*batch.into_jobs(), [Job::Ack(job)] if job.rows() == 2));
    }

    #[test]
    fn rows_that_have_not_moved_are_named_by_their_messages() {
        let rows = [row(1, 1), row(1, 2), row(2, 2)];
        assert_eq!(not_moved(&rows, &[0, 1, 2]), []);
        assert_eq!(not_moved(&rows, &[1]), [(UserId(1), samples::message(1)), (UserId(2), samples::message(2))]);
    }
}
