//! The attempts that one transaction counts.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::job::{AttemptJob, Job};
use crate::delivery::Refusal;
use crate::delivery::item::AttemptTarget;
use crate::delivery::link::Link;
use crate::delivery::receipts::Receipts;
use crate::domain::{AttemptOutcome, MessageId, Status, UserId};
use crate::store::{self, AttemptRequest, AttemptedRow, Error, LockTimeout, RowKey, StatusRow};

/// Attempts that are counted together.
#[derive(Debug)]
pub(super) struct AttemptBatch {
    jobs: Vec<AttemptJob>,
}

/// The rows of messages that attempts name, by recipient and message.
type Found = HashMap<(UserId, MessageId), StatusRow>;

/// The result of a commit.
#[derive(Debug, Default)]
pub(super) struct Counted {
    found: Found,
    /// The rows that were counted. One that is missing did not wait any more.
    rows: HashMap<RowKey, AttemptedRow>,
}

impl Counted {
    /// Rows against which an attempt was counted.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The time that the server took for it.
    pub(super) fn took(&self) -> Duration {
        self.rows.values().map(|counted| counted.took).max().unwrap_or_default()
    }

    fn outcome(&self, job: &AttemptJob) -> Result<AttemptOutcome, Refusal> {
        let row = job.row(&self.found).ok_or(Refusal::NotFound)?;
        Ok(match self.rows.get(&row.key()) {
            Some(AttemptedRow { failed: true, attempts, .. }) => AttemptOutcome::Failed(*attempts),
            Some(AttemptedRow { failed: false, attempts, .. }) => AttemptOutcome::Counted(*attempts),
            None => AttemptOutcome::SettledElsewhere,
        })
    }
}

impl AttemptJob {
    /// Its row; none where the message is not in the inbox.
    fn row(&self, found: &Found) -> Option<StatusRow> {
        match self.attempt.target {
            AttemptTarget::Row(row) => Some(row),
            AttemptTarget::Message(message) => found.get(&(self.attempt.user.user, message)).copied(),
        }
    }
}

impl AttemptBatch {
    pub(super) const fn new(jobs: Vec<AttemptJob>) -> Self {
        Self { jobs }
    }

    pub(super) const fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Counts all of them.
    ///
    /// # Errors
    /// Those of the statements. Nothing is counted then, or that is not known.
    pub(super) async fn run(&self, link: &mut Link, attempts_max: u16, lock_timeout: LockTimeout) -> Result<Counted, Error> {
        let line = link.get().await?;
        let named = self.named();
        let located = match named.is_empty() {
            true => Vec::new(),
            false => line.stall_detector.answer(store::locate(line.connection, &named)).await?,
        };
        let found: Found = located.into_iter().map(|row| ((row.user, row.message), row)).collect();
        let requests = self.prepare(&found);
        let counting = store::count_attempts(line.connection, &requests, attempts_max, lock_timeout);
        let rows = line.stall_detector.answer(counting).await?;
        Ok(Counted { found, rows: rows.into_iter().map(|counted| (counted.row.key(), counted)).collect() })
    }

    /// The messages whose rows are to be found first.
    fn named(&self) -> Vec<(UserId, MessageId)> {
        let named = self.jobs.iter().filter_map(|job| match job.attempt.target {
            AttemptTarget::Message(message) => Some((job.attempt.user.user, message)),
            AttemptTarget::Row(_) => None,
        });
        named.collect()
    }

    fn prepare(&self, found: &Found) -> Vec<AttemptRequest> {
        let rows = self.by_row(found).into_values().filter_map(|job| {
            let row = job.row(found)?;
            Some(AttemptRequest { row, reason: job.attempt.reason.clone(), is_final: job.attempt.is_final })
        });
        rows.collect()
    }

    /// The first job of each row: a second attempt of the same moment is the same attempt.
    fn by_row(&self, found: &Found) -> BTreeMap<RowKey, &AttemptJob> {
        let mut first = BTreeMap::new();
        for job in &self.jobs {
            if let Some(row) = job.row(found) {
                first.entry(row.key()).or_insert(job);
            }
        }
        first
    }

    /// It is committed: tells the senders of messages that failed, and replies to all.
    pub(super) fn answer(self, counted: &Counted, receipts: &Receipts) {
        for (key, job) in self.by_row(&counted.found) {
            let Some(AttemptedRow { row, failed: true, at, .. }) = counted.rows.get(&key) else { continue };
            let (reason, member) = (job.attempt.reason.clone(), job.attempt.user.external.clone());
            receipts.moved(&[row], Status::Failed, *at, Some(reason), |_| Some(member.clone()));
        }
        for job in self.jobs {
            let outcome = counted.outcome(&job);
            // The asker may be gone.
            let _ = job.reply.send(outcome);
        }
    }

    pub(super) fn into_jobs(self) -> Vec<Job> {
        self.jobs.into_iter().map(Job::Attempt).collect()
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::delivery::settle::job::samples::{attempt_job, message, row};

    fn counted(rows: &[AttemptedRow], found: &[StatusRow]) -> Counted {
        let found = found.iter().map(|row| ((row.user, row.message), *row)).collect();
        Counted { found, rows: rows.iter().map(|counted| (counted.row.key(), *counted)).collect() }
    }

    #[test]
    fn a_row_is_asked_for_once_however_it_is_named_and_the_first_reason_counts() {
        let jobs = [
            attempt_job(2, AttemptTarget::Row(row(2, 1)), "other user"),
            attempt_job(1, AttemptTarget::Message(message(4)), "first"),
            attempt_job(1, AttemptTarget::Row(row(1, 4)), "second"),
            attempt_job(1, AttemptTarget::Message(message(5)), "not in the inbox"),
        ];
        let batch = AttemptBatch::new(jobs.into_iter().map(|(job, _)| job).collect());
        assert_eq!(batch.named(), [(UserId(1), message(4)), (UserId(1), message(5))]);
        let requests = batch.prepare(&counted(&[], &[row(1, 4)]).found);
        let asked: Vec<_> = requests.iter().map(|request| (request.row.key(), &*request.reason)).collect();
        assert_eq!(asked, [(row(1, 4).key(), "first"), (row(2, 1).key(), "other user")]);
    }

    #[test]
    fn each_attempt_has_the_outcome_of_its_row_and_a_failure_is_told_once() {
        let targets = [
            AttemptTarget::Message(message(1)),
            AttemptTarget::Row(row(1, 1)),
            AttemptTarget::Row(row(1, 2)),
            AttemptTarget::Row(row(1, 3)),
            AttemptTarget::Message(message(9)),
        ];
        let (jobs, answers): (Vec<_>, Vec<_>) = targets.into_iter().map(|target| attempt_job(1, target, "crash")).unzip();
        let at = OffsetDateTime::UNIX_EPOCH;
        let failed = AttemptedRow { row: row(1, 1), attempts: 5, failed: true, at, took: Duration::ZERO };
        let again = AttemptedRow { row: row(1, 2), attempts: 2, failed: false, at, took: Duration::ZERO };
        let receipts = Receipts::unheard();
        AttemptBatch::new(jobs).answer(&counted(&[failed, again], &[row(1, 1)]), &receipts);
        let outcomes: Vec<_> = answers.into_iter().map(|mut answer| answer.try_recv().unwrap()).collect();
        let expected = [
            Ok(AttemptOutcome::Failed(5)),
            Ok(AttemptOutcome::Failed(5)),
            Ok(AttemptOutcome::Counted(2)),
            Ok(AttemptOutcome::SettledElsewhere),
            Err(Refusal::NotFound),
        ];
        assert_eq!(outcomes, expected);
        assert_eq!(receipts.told("failed"), 1);
    }
}
