//! The attempts that one transaction counts.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::job::{AttemptJob, Job};
use crate::delivery::Refusal;
use crate::delivery::item::AttemptTarget;
use crate::delivery::link::{Line, Link};
use crate::delivery::receipts::Receipts;
use crate::domain::{AttemptOutcome, MessageId, Status, UserId};
use crate::store::{self, AttemptRequest, AttemptState, AttemptedRow, Error, LockTimeout, RowKey, StatusRow};

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
    /// The rows that were counted, by the number that their jobs know. One that is missing did not wait any more.
    rows: HashMap<RowKey, AttemptedRow>,
    /// The states of the rows that are missing, by the same number. One that is missing here too is gone.
    left: HashMap<RowKey, AttemptState>,
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
        let key = job.row(&self.found).ok_or(Refusal::NotFound)?.key();
        Ok(match (self.rows.get(&key), self.left.get(&key)) {
            (Some(AttemptedRow { failed: true, attempts, .. }), _) => AttemptOutcome::Failed(*attempts),
            (Some(AttemptedRow { failed: false, attempts, .. }), _) => AttemptOutcome::Counted(*attempts),
            // It got another number at this very moment, and waits.
            (None, Some(AttemptState { status: Status::Sent, attempts, .. })) => AttemptOutcome::Counted(*attempts),
            (None, Some(AttemptState { status, attempts, .. })) => AttemptOutcome::Settled(*status, *attempts),
            (None, None) => return Err(Refusal::NotFound),
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
        let mut line = link.get().await?;
        let named = self.named();
        let located = match named.is_empty() {
            true => Vec::new(),
            false => line.stall_detector.answer(store::locate(line.connection, &named)).await?,
        };
        let found: Found = located.into_iter().map(|row| ((row.user, row.message), row)).collect();
        let requests = self.prepare(&found);
        let rows = count(&mut line, &requests, attempts_max, lock_timeout).await?;
        let mut counted =
            Counted { found, rows: rows.into_iter().map(|counted| (counted.row.key(), counted)).collect(), left: HashMap::new() };
        counted.look_at_the_others(&mut line, &requests, attempts_max, lock_timeout).await?;
        Ok(counted)
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

    /// The job that speaks for each row, the first final one, else the first: a second attempt of the same moment is the same
    /// attempt.
    fn by_row(&self, found: &Found) -> BTreeMap<RowKey, &AttemptJob> {
        let mut spokesmen: BTreeMap<RowKey, &AttemptJob> = BTreeMap::new();
        for job in &self.jobs {
            let Some(row) = job.row(found) else { continue };
            let spokesman = spokesmen.entry(row.key()).or_insert(job);
            if job.attempt.is_final && !spokesman.attempt.is_final {
                *spokesman = job;
            }
        }
        spokesmen
    }

    /// It is committed: tells the senders of messages that failed, and replies to all.
    pub(super) fn answer(self, counted: &Counted, receipts: &Receipts) {
        for (key, job) in self.by_row(&counted.found) {
            let Some(AttemptedRow { row, failed: true, at, .. }) = counted.rows.get(&key) else { continue };
            let (reason, member) = (job.attempt.reason.clone(), job.attempt.user.external.clone());
            receipts.moved(&[row], Status::Failed, *at, Some(reason), |_| Some(member.clone()));
            receipts.ended(row.user);
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

impl Counted {
    /// Finds out what became of the rows against which nothing was counted. One that waits under another number is counted there.
    async fn look_at_the_others(
        &mut self,
        line: &mut Line<'_>,
        requests: &[AttemptRequest],
        attempts_max: u16,
        lock_timeout: LockTimeout,
    ) -> Result<(), Error> {
        let left: Vec<&AttemptRequest> = requests.iter().filter(|request| !self.rows.contains_key(&request.row.key())).collect();
        if left.is_empty() {
            return Ok(());
        }
        let rows: Vec<StatusRow> = left.iter().map(|request| request.row).collect();
        let states = line.stall_detector.answer(store::attempt_states(line.connection, &rows)).await?;
        self.left = states.iter().map(|(place, state)| (rows[*place].key(), *state)).collect();
        let renumbered: Vec<(RowKey, AttemptRequest)> = states
            .into_iter()
            .filter(|(place, state)| state.status.waits() && state.row.key() != rows[*place].key())
            .map(|(place, state)| (rows[place].key(), AttemptRequest { row: state.row, ..left[place].clone() }))
            .collect();
        if renumbered.is_empty() {
            return Ok(());
        }
        let requests: Vec<AttemptRequest> = renumbered.iter().map(|(_, request)| request.clone()).collect();
        for counted in count(line, &requests, attempts_max, lock_timeout).await? {
            let known = renumbered.iter().find(|(_, request)| request.row.key() == counted.row.key());
            self.rows.extend(known.map(|(key, _)| (*key, counted)));
        }
        Ok(())
    }
}

async fn count(
    line: &mut Line<'_>,
    requests: &[AttemptRequest],
    attempts_max: u16,
    lock_timeout: LockTimeout,
) -> Result<Vec<AttemptedRow>, Error> {
    line.stall_detector.answer(store::count_attempts(line.connection, requests, attempts_max, lock_timeout)).await
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::delivery::settle::job::samples::{attempt_job, message, row};

    fn counted(rows: &[AttemptedRow], found: &[StatusRow]) -> Counted {
        let found = found.iter().map(|row| ((row.user, row.message), *row)).collect();
        Counted { found, rows: rows.iter().map(|counted| (counted.row.key(), *counted)).collect(), left: HashMap::new() }
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
    fn a_final_reject_counts_as_final_whatever_comes_before_or_after_it_in_the_batch() {
        let jobs = [("first", false), ("for good", true), ("again for good", true), ("last", false)].map(|(reason, is_final)| {
            let (mut job, _) = attempt_job(1, AttemptTarget::Row(row(1, 4)), reason);
            job.attempt.is_final = is_final;
            job
        });
        let requests = AttemptBatch::new(jobs.into_iter().collect()).prepare(&HashMap::new());
        let asked: Vec<_> = requests.iter().map(|request| (&*request.reason, request.is_final)).collect();
        assert_eq!(asked, [("for good", true)]);
    }

    #[test]
    fn each_attempt_has_the_outcome_of_its_row_and_a_failure_is_told_once() {
        let targets = [
            AttemptTarget::Message(message(1)),
            AttemptTarget::Row(row(1, 1)),
            AttemptTarget::Row(row(1, 2)),
            AttemptTarget::Row(row(1, 3)),
            AttemptTarget::Row(row(1, 4)),
            AttemptTarget::Row(row(1, 5)),
            AttemptTarget::Message(message(9)),
        ];
        let (jobs, answers): (Vec<_>, Vec<_>) = targets.into_iter().map(|target| attempt_job(1, target, "crash")).unzip();
        let at = OffsetDateTime::UNIX_EPOCH;
        let failed = AttemptedRow { row: row(1, 1), attempts: 5, failed: true, at, took: Duration::ZERO };
        let again = AttemptedRow { row: row(1, 2), attempts: 2, failed: false, at, took: Duration::ZERO };
        let receipts = Receipts::unheard();
        let left = |n, status| (row(1, n).key(), AttemptState { row: row(1, n), status, attempts: 3 });
        let left = HashMap::from([left(3, Status::Expired), left(4, Status::Delivered)]);
        AttemptBatch::new(jobs).answer(&Counted { left, ..counted(&[failed, again], &[row(1, 1)]) }, &receipts);
        let outcomes: Vec<_> = answers.into_iter().map(|mut answer| answer.try_recv().unwrap()).collect();
        let expected = [
            Ok(AttemptOutcome::Failed(5)),
            Ok(AttemptOutcome::Failed(5)),
            Ok(AttemptOutcome::Counted(2)),
            Ok(AttemptOutcome::Settled(Status::Expired, 3)),
            Ok(AttemptOutcome::Settled(Status::Delivered, 3)),
            Err(Refusal::NotFound),
            Err(Refusal::NotFound),
        ];
        assert_eq!(outcomes, expected);
        assert_eq!(receipts.told("failed"), 1);
    }
}
