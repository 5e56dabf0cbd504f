//! The jobs that wait for a settle lane, and in which order they are written. Users take turns, in the order in which they came;
//! the jobs of one user stay in theirs.
//!
//! A user whose job was written in part, or whose rows another session holds, goes behind all others, and its
//! later jobs wait behind that job. It knows nothing of the database and does not read the clock.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};

use tokio::time::Instant;

use super::job::Job;
use crate::domain::UserId;

/// Jobs that may wait for one lane before it takes them, and as many again after that.
pub(super) const QUEUE_MAX: usize = 4_096;
/// Jobs in one transaction.
pub(super) const JOBS_MAX: usize = 500;

/// The jobs that wait. A user is listed among `turns` or among `deferred`, once, while a job of it waits.
#[derive(Debug, Default)]
pub(super) struct Queue {
    users: HashMap<UserId, VecDeque<Job>>,
    /// Users whose jobs may be written, the next one first.
    turns: VecDeque<UserId>,
    /// Users whose rows another session holds, in the order of their next tries.
    deferred: VecDeque<Deferred>,
    jobs: usize,
}

#[derive(Debug)]
struct Deferred {
    user: UserId,
    next_try: Instant,
}

/// Jobs that could not be finished, by user.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    users: BTreeMap<UserId, OfUser>,
}

/// The unfinished jobs of one user, in order.
#[derive(Debug, Default)]
struct OfUser {
    jobs: Vec<Job>,
    is_held: bool,
}

impl Unfinished {
    /// Rests of jobs that were written in part.
    pub(super) fn rest(&mut self, jobs: Vec<Job>) {
        for job in jobs {
            self.users.entry(job.user()).or_default().jobs.push(job);
        }
    }

    /// Jobs of users whose rows another session holds.
    pub(super) fn held(&mut self, jobs: Vec<Job>) {
        for job in jobs {
            let theirs = self.users.entry(job.user()).or_default();
            theirs.is_held = true;
            theirs.jobs.push(job);
        }
    }

    /// Keeps those of these jobs whose user is held: they wait behind the others of that user. Returns the other jobs.
    pub(super) fn keep_behind(&mut self, jobs: Vec<Job>) -> Vec<Job> {
        let is_held = |job: &mut Job| self.users.get(&job.user()).is_some_and(|theirs| theirs.is_held);
        let mut jobs = jobs;
        let behind: Vec<Job> = jobs.extract_if(.., |job| is_held(job)).collect();
        self.held(behind);
        jobs
    }
}

/// The jobs of one transaction, while they are taken.
#[derive(Debug)]
struct Taken {
    jobs: Vec<Job>,
    rows: usize,
    rows_max: usize,
}

impl Taken {
    const fn new(rows_max: usize) -> Self {
        Self { jobs: Vec::new(), rows: 0, rows_max }
    }

    /// True where this job may go along. The first one always goes: of an ack with more rows a part is written.
    fn has_room_for(&self, job: &Job) -> bool {
        self.jobs.is_empty() || (self.jobs.len() < JOBS_MAX && self.rows + job.rows() <= self.rows_max)
    }
}

impl Queue {
    /// Jobs that wait.
    pub(super) const fn len(&self) -> usize {
        self.jobs
    }

    /// True where more jobs may come in.
    pub(super) const fn has_room(&self) -> bool {
        self.jobs < QUEUE_MAX
    }

    /// True where nothing may be written now: all users that have jobs are deferred.
    pub(super) fn is_idle(&self) -> bool {
        self.turns.is_empty()
    }

    /// The jobs that may be written now, by the turns of their users.
    pub(super) fn ready(&self) -> impl Iterator<Item = &Job> {
        self.turns.iter().filter_map(|user| self.users.get(user)).flatten()
    }

    /// When the next deferred user is tried again.
    pub(super) fn next_try(&self) -> Option<Instant> {
        self.deferred.front().map(|deferred| deferred.next_try)
    }

    /// Adds a job behind those of its user. A new user comes behind all others.
    pub(super) fn push(&mut self, job: Job) {
        self.jobs += 1;
        match self.users.entry(job.user()) {
            Entry::Occupied(mut theirs) => theirs.get_mut().push_back(job),
            Entry::Vacant(new) => {
                self.turns.push_back(job.user());
                new.insert([job].into());
            }
        }
    }

    /// Takes what one transaction of this many rows may hold. A user with more than that comes behind all others.
    pub(super) fn take(&mut self, rows_max: usize) -> Vec<Job> {
        let mut taken = Taken::new(rows_max);
        for _ in 0..self.turns.len() {
            let Some(user) = self.turns.pop_front() else { break };
            let before = taken.jobs.len();
            self.take_of(user, &mut taken);
            if taken.jobs.len() == before {
                self.turns.push_front(user);
                break;
            }
            if self.users.contains_key(&user) {
                self.turns.push_back(user);
            }
        }
        taken.jobs
    }

    /// The same of the first deferred user whose time has come. None: no user is to be tried again now.
    pub(super) fn take_deferred(&mut self, rows_max: usize, now: Instant) -> Option<Vec<Job>> {
        let Deferred { user, .. } = self.deferred.pop_front_if(|deferred| deferred.next_try <= now)?;
        let mut taken = Taken::new(rows_max);
        self.take_of(user, &mut taken);
        if self.users.contains_key(&user) {
            self.turns.push_back(user);
        }
        Some(taken.jobs)
    }

    /// Takes the jobs of a user that is not listed, as long as there is room. What comes after the rest of a read stays.
    fn take_of(&mut self, user: UserId, taken: &mut Taken) {
        let Some(theirs) = self.users.get_mut(&user) else { return };
        while let Some(job) = theirs.pop_front_if(|job| taken.has_room_for(job)) {
            self.jobs -= 1;
            taken.rows += job.rows();
            let is_rest = job.is_rest_of_read();
            taken.jobs.push(job);
            if is_rest {
                break;
            }
        }
        if theirs.is_empty() {
            self.users.remove(&user);
        }
    }

    /// Puts unfinished jobs before the others of their users, and these users behind all others: those whose rows are held
    /// with the deferred ones, until `next_try`.
    pub(super) fn give_back(&mut self, unfinished: Unfinished, next_try: Instant) {
        // These users are not deferred: their jobs were under way.
        self.turns.retain(|user| !unfinished.users.contains_key(user));
        for (user, OfUser { jobs, is_held }) in unfinished.users {
            self.jobs += jobs.len();
            let theirs = self.users.entry(user).or_default();
            jobs.into_iter().rev().for_each(|job| theirs.push_front(job));
            if is_held {
                self.deferred.push_back(Deferred { user, next_try });
            } else {
                self.turns.push_back(user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::delivery::ReadUpTo;
    use crate::delivery::settle::job::{ReadJob, samples};
    use crate::delivery::settle::pace::ROWS_MAX;
    use crate::domain::ChatSeq;

    const BOB: i64 = 2;
    const CAROL: i64 = 3;
    const DAVE: i64 = 4;

    fn acks(user: i64, rows: i64) -> Job {
        Job::Ack(samples::ack_job(samples::acks(user, 1..=rows)).0)
    }

    fn read(user: i64) -> Job {
        Job::Read(samples::read_job(user, ReadUpTo::Seq(ChatSeq(9))).0)
    }

    fn queue(jobs: impl IntoIterator<Item = Job>) -> Queue {
        let mut queue = Queue::default();
        jobs.into_iter().for_each(|job| queue.push(job));
        queue
    }

    /// The user of each job, and how many rows it settles.
    fn told<'j>(jobs: impl IntoIterator<Item = &'j Job>) -> Vec<(i64, usize)> {
        jobs.into_iter().map(|job| (job.user().0, job.rows())).collect()
    }

    /// A part of each read is committed, and more is left.
    fn rests(jobs: Vec<Job>) -> Unfinished {
        let rest = jobs.into_iter().filter_map(|job| match job {
            Job::Read(job) => Some(Job::Read(ReadJob { is_begun: true, ..job })),
            Job::Ack(_) | Job::Attempt(_) => None,
        });
        let mut unfinished = Unfinished::default();
        unfinished.rest(rest.collect());
        unfinished
    }

    fn held(jobs: Vec<Job>) -> Unfinished {
        let mut unfinished = Unfinished::default();
        unfinished.held(jobs);
        unfinished
    }

    #[test]
    fn the_rest_of_a_long_read_goes_behind_the_jobs_of_other_users_and_before_the_later_ones_of_its_own() {
        let mut queue = queue([read(BOB)]);
        let part = queue.take(ROWS_MAX);
        // They come while the first part is written, carol's before the rest is back and dave's after it.
        [acks(CAROL, 1), acks(BOB, 2), acks(CAROL, 3)].into_iter().for_each(|job| queue.push(job));
        queue.give_back(rests(part), Instant::now());
        queue.push(acks(DAVE, 4));
        assert_eq!(told(queue.ready()), [(CAROL, 1), (CAROL, 3), (BOB, 1), (BOB, 2), (DAVE, 4)]);
        // The later ack of bob waits until nothing of the read is left.
        let part = queue.take(ROWS_MAX);
        assert_eq!(told(&part), [(CAROL, 1), (CAROL, 3), (BOB, 1), (DAVE, 4)]);
        queue.push(acks(CAROL, 5));
        queue.give_back(rests(part), Instant::now());
        assert_eq!(told(&queue.take(ROWS_MAX)), [(CAROL, 5), (BOB, 1)]);
        assert_eq!(told(&queue.take(ROWS_MAX)), [(BOB, 2)]);
        assert!(queue.is_idle() && queue.len() == 0);
    }

    #[test]
    fn an_ack_of_more_rows_than_a_transaction_holds_goes_alone() {
        let long = i64::try_from(ROWS_MAX).unwrap() + 1;
        let mut queue = queue([acks(CAROL, 1), acks(BOB, long), acks(BOB, 1), acks(DAVE, 1)]);
        assert_eq!(told(&queue.take(ROWS_MAX)), [(CAROL, 1)]);
        let part = queue.take(ROWS_MAX);
        assert_eq!(told(&part), [(BOB, ROWS_MAX + 1)]);
        let mut rest = Unfinished::default();
        rest.rest(vec![acks(BOB, 7)]);
        queue.give_back(rest, Instant::now());
        assert_eq!(told(&queue.take(ROWS_MAX)), [(DAVE, 1), (BOB, 7), (BOB, 1)]);
    }

    #[test]
    fn a_batch_ends_at_its_jobs_and_at_its_rows_and_a_user_with_more_comes_behind_the_others() {
        let mut many = queue((0..JOBS_MAX + 10).map(|_| acks(BOB, 1)).chain([acks(CAROL, 1)]));
        assert_eq!(many.take(ROWS_MAX).len(), JOBS_MAX);
        assert_eq!(many.take(ROWS_MAX).first().map(Job::user), Some(UserId(CAROL)));
        let half = i64::try_from(ROWS_MAX).unwrap() / 2;
        let mut large = queue([acks(BOB, half), acks(CAROL, half), acks(DAVE, 1)]);
        assert_eq!((large.take(ROWS_MAX).len(), large.take(ROWS_MAX).len()), (2, 1));
    }

    #[test]
    fn a_batch_holds_no_more_rows_than_it_may_whatever_settles_them() {
        let mut queue = queue((0..30).map(|_| acks(BOB, 1)).chain([acks(CAROL, 60), acks(DAVE, 1)]));
        assert_eq!(queue.take(20).len(), 20);
        // Of carol's ack a part is written.
        assert_eq!(told(&queue.take(20)), [(CAROL, 60)]);
        assert_eq!(queue.take(20).len(), 11);
    }

    #[test]
    fn a_deferred_user_is_left_alone_with_all_its_jobs_until_its_time_and_keeps_their_order() {
        let (begun, pause) = (Instant::now(), Duration::from_millis(200));
        let mut queue = queue([acks(BOB, 1), acks(BOB, 2), acks(CAROL, 1)]);
        let (bobs, carols): (Vec<Job>, Vec<Job>) = queue.take(ROWS_MAX).into_iter().partition(|job| job.user().0 == BOB);
        assert_eq!(carols.len(), 1);
        queue.push(acks(BOB, 3));
        queue.give_back(held(bobs), begun + pause);
        queue.push(acks(BOB, 4));
        queue.push(acks(DAVE, 1));
        assert_eq!(told(&queue.take(ROWS_MAX)), [(DAVE, 1)]);
        assert!(queue.is_idle() && queue.take_deferred(ROWS_MAX, begun).is_none());
        assert_eq!(queue.next_try(), Some(begun + pause));
        let again = queue.take_deferred(ROWS_MAX, begun + pause).unwrap();
        assert_eq!(told(&again), [(BOB, 1), (BOB, 2), (BOB, 3), (BOB, 4)]);
        queue.give_back(held(again), begun + 2 * pause);
        assert!(queue.is_idle() && queue.next_try() == Some(begun + 2 * pause));
    }

    #[test]
    fn a_deferred_user_is_tried_again_with_a_bounded_batch_and_the_others_do_not_wait_for_the_rest() {
        let begun = Instant::now();
        let mut queue = queue((0..JOBS_MAX).map(|_| acks(BOB, 1)));
        let first = queue.take(ROWS_MAX);
        queue.give_back(held(first), begun);
        (0..10).for_each(|_| queue.push(acks(BOB, 2)));
        queue.push(acks(CAROL, 1));
        let again = queue.take_deferred(ROWS_MAX, begun).unwrap();
        assert_eq!((again.len(), again.last().map(Job::rows)), (JOBS_MAX, Some(1)));
        // They are written: bob is a user as any other.
        assert!(queue.next_try().is_none());
        assert_eq!(told(&queue.take(ROWS_MAX))[..2], [(CAROL, 1), (BOB, 2)]);
    }

    #[test]
    fn jobs_of_a_user_that_is_held_are_kept_behind_the_held_ones() {
        let mut unfinished = held(vec![acks(BOB, 1)]);
        assert_eq!(told(&unfinished.keep_behind(vec![read(CAROL), read(BOB)])), [(CAROL, 1)]);
        let mut queue = Queue::default();
        queue.push(acks(BOB, 3));
        queue.give_back(unfinished, Instant::now());
        let bobs = queue.take_deferred(ROWS_MAX, Instant::now()).unwrap();
        assert!(matches!(&*bobs, [Job::Ack(_), Job::Read(_), Job::Ack(_)]), "{bobs:?}");
    }

    #[test]
    fn a_queue_has_room_until_as_many_jobs_wait_as_it_may_hold_the_deferred_ones_among_them() {
        let mut queue = queue([acks(BOB, 1)]);
        let bobs = queue.take(ROWS_MAX);
        queue.give_back(held(bobs), Instant::now());
        (2..QUEUE_MAX).for_each(|_| queue.push(acks(BOB, 1)));
        assert!(queue.has_room());
        queue.push(acks(CAROL, 1));
        assert!(!queue.has_room() && queue.len() == QUEUE_MAX);
    }
}
