//! One batch of a settle lane: acks in one transaction, then attempts, then reads, then the receipts of each.
//!
//! The order among the three does not matter to what ends up true: statuses and marks only move forward.

use super::*;

/// Is it known that nothing of a batch is written yet?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Try {
    /// It is.
    First,
    /// The database went away, and nobody knows.
    Again,
}

impl Lane {
    /// Writes jobs until each has its answer or is put aside with its user.
    pub(super) async fn write(&mut self, jobs: Vec<Job>) {
        let mut parts = vec![(jobs, Try::First)];
        while let Some((part, which)) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let Some((left, cause)) = self.try_once(part, which).await else { continue };
            match cause {
                Error::Unavailable(_) | Error::Busy(_) => {
                    self.link.broken();
                    tokio::select! {
                        () = self.shared.store.health().back() => parts.push((left, Try::Again)),
                        () = self.shared.stop.cancelled() => left.into_iter().for_each(|job| job.fail(Refusal::Unavailable)),
                    }
                }
                Error::Held(_) | Error::Taken(_) | Error::Invalid(_) | Error::Failed(_) => {
                    let mut users = by_user(left);
                    match (users.len(), cause) {
                        (1, Error::Held(_)) => self.put_aside(users.into_values().flatten().collect()),
                        (1, cause) => {
                            let refusal = Refusal::of(&cause, "storing acks");
                            users.into_values().flatten().for_each(|job| job.fail(refusal));
                        }
                        // Find whose it is: each user for itself.
                        _ => {
                            while let Some((_, jobs)) = users.pop_last() {
                                parts.push((jobs, which));
                            }
                        }
                    }
                }
            }
        }
        self.link.pause();
    }

    /// Writes all kinds of jobs; on an error gives back those that are not written yet.
    async fn try_once(&mut self, jobs: Vec<Job>, which: Try) -> Option<(Vec<Job>, Error)> {
        let started = std::time::Instant::now();
        let (mut acks, mut attempts, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        let items = jobs.len();
        for job in jobs {
            match job {
                Job::Acks(acks_of_one, reply) => acks.push((acks_of_one, reply)),
                Job::Attempt(attempt, reply) => attempts.push((attempt, reply)),
                Job::Read { user, chat, up_to, reply } => reads.push((user, chat, up_to, reply)),
            }
        }
        let mut failed = None;
        if !acks.is_empty() {
            match self.settle(&acks, which).await {
                Ok(()) => {
                    for (_, reply) in acks.drain(..) {
                        let _ = reply.send(Ok(()));
                    }
                }
                Err(cause) => failed = Some(cause),
            }
        }
        if failed.is_none() && !attempts.is_empty() {
            match self.count_attempts(&attempts).await {
                Ok(outcomes) => {
                    for ((_, reply), outcome) in attempts.drain(..).zip(outcomes) {
                        let _ = reply.send(outcome);
                    }
                }
                Err(cause) => failed = Some(cause),
            }
        }
        if failed.is_none() && !reads.is_empty() {
            failed = self.read(&mut reads).await.err();
        }
        self.shared.metrics.lane_batch_items.of("settle").observe(f64::from(u32::try_from(items).unwrap_or(u32::MAX)));
        self.shared.metrics.lane_batch_duration.of("settle").observe(started.elapsed().as_secs_f64());
        let cause = failed?;
        let acks = acks.into_iter().map(|(acks, reply)| Job::Acks(acks, reply));
        let attempts = attempts.into_iter().map(|(attempt, reply)| Job::Attempt(attempt, reply));
        let reads = reads.into_iter().map(|(user, chat, up_to, reply)| Job::Read { user, chat, up_to, reply });
        Some((acks.chain(attempts).chain(reads).collect(), cause))
    }

    async fn settle(&mut self, acks: &[(Acks, Reply<()>)], which: Try) -> Result<(), Error> {
        let Line { connection, overdue } = self.link.get().await?;
        let wanted: Vec<_> = acks.iter().flat_map(|(acks, _)| acks.by_id.iter().map(|message| (acks.user.user, *message))).collect();
        let located = if wanted.is_empty() { Vec::new() } else { overdue.answer(store::locate(connection, &wanted)).await? };
        let batch = settle_batch(acks, located, which);
        let settled = overdue.answer(store::settle(connection, &batch, self.patience)).await?;
        let members: HashMap<UserId, &Arc<Profile>> = acks.iter().map(|(acks, _)| (acks.user.user, &acks.user)).collect();
        let name = |user| members.get(&user).map(|profile| profile.external.clone());
        let (moved, left) = parted(&batch.rows, &settled.moved);
        self.receipts.moved(&moved, Status::Delivered, settled.at, None, name);
        if left.is_empty() {
            return Ok(());
        }
        // Acked before, as a rule. But a row may have got another number since it was emitted, and waits there.
        let batch = moved_away(overdue.answer(store::locate_waiting(connection, &left)).await?);
        if batch.rows.is_empty() {
            return Ok(());
        }
        let settled = overdue.answer(store::settle(connection, &batch, self.patience)).await?;
        self.receipts.moved(&parted(&batch.rows, &settled.moved).0, Status::Delivered, settled.at, None, name);
        Ok(())
    }

    async fn count_attempts(
        &mut self,
        attempts: &[(Attempt, Reply<AttemptOutcome>)],
    ) -> Result<Vec<Result<AttemptOutcome, Refusal>>, Error> {
        let Line { connection, overdue } = self.link.get().await?;
        let wanted: Vec<_> = attempts
            .iter()
            .filter_map(|(attempt, _)| match attempt.target {
                AttemptTarget::Message(message) => Some((attempt.user.user, message)),
                AttemptTarget::Row(_) => None,
            })
            .collect();
        let located = if wanted.is_empty() { Vec::new() } else { overdue.answer(store::locate(connection, &wanted)).await? };
        let mut batch = AttemptBatch::default();
        // Per attempt its place in the batch; none when the message is not in the inbox.
        let mut places: Vec<Option<usize>> = Vec::with_capacity(attempts.len());
        for (attempt, _) in attempts {
            let row = match attempt.target {
                AttemptTarget::Row(row) => Some(row),
                AttemptTarget::Message(message) => {
                    located.iter().find(|row| row.user == attempt.user.user && row.message == message).copied()
                }
            };
            // A row may stand in a batch once: a second attempt of the same moment is the same attempt.
            let known = row.and_then(|row| batch.rows.iter().position(|other| *other == row));
            places.push(row.map(|row| {
                known.unwrap_or_else(|| {
                    batch.rows.push(row);
                    batch.reasons.push(attempt.reason.clone());
                    batch.finals.push(attempt.is_final);
                    batch.rows.len() - 1
                })
            }));
        }
        let counted = overdue.answer(store::count_attempts(connection, &batch, self.attempts_max, self.patience)).await?;
        self.shared.metrics.attempts.inc_by(counted.len() as u64);
        for row in counted.iter().filter(|row| row.failed) {
            let (located, reason) = (&batch.rows[row.place], batch.reasons[row.place].clone());
            let member =
                attempts.iter().find(|(attempt, _)| attempt.user.user == located.user).map(|(attempt, _)| attempt.user.external.clone());
            self.receipts.moved(&[located], Status::Failed, row.at, Some(reason), |_| member.clone());
        }
        Ok(places
            .into_iter()
            .map(|place| {
                let place = place.ok_or(Refusal::NotFound)?;
                Ok(counted.iter().find(|row| row.place == place).map_or(AttemptOutcome::SettledElsewhere, |row| match row.failed {
                    true => AttemptOutcome::Failed(row.attempts),
                    false => AttemptOutcome::Counted(row.attempts),
                }))
            })
            .collect())
    }

    /// Reads until nothing is left to read; what has its answer is taken out of `reads`.
    async fn read(&mut self, reads: &mut Vec<(Arc<Profile>, ChatId, ReadUpTo, Reply<ReadDone>)>) -> Result<(), Error> {
        while !reads.is_empty() {
            let requests = self.read_requests(reads).await?;
            let known: Vec<ReadRequest> = requests.iter().flatten().copied().collect();
            let Line { connection, overdue } = self.link.get().await?;
            let mut done = overdue.answer(store::read(connection, &known, READ_ROWS_MAX, self.patience)).await?;
            let mut place = 0;
            let mut left = Vec::new();
            for (request, (user, chat, up_to, reply)) in requests.into_iter().zip(reads.drain(..)) {
                if request.is_none() {
                    let _ = reply.send(Err(Refusal::NotFound));
                    continue;
                }
                let rows = done.remove(&place);
                place += 1;
                let Some(rows) = rows else {
                    let _ = reply.send(Err(Refusal::NotAMember));
                    continue;
                };
                self.receipts.read(&user, chat, &rows);
                if rows.more {
                    left.push((user, chat, up_to, reply));
                } else {
                    let _ = reply.send(Ok(ReadDone { up_to: rows.up_to }));
                }
            }
            *reads = left;
        }
        Ok(())
    }

    /// Per read what to ask for; none when the message it names is not one of the chat.
    async fn read_requests(
        &mut self,
        reads: &[(Arc<Profile>, ChatId, ReadUpTo, Reply<ReadDone>)],
    ) -> Result<Vec<Option<ReadRequest>>, Error> {
        let mut named = Vec::new();
        for (_, chat, up_to, _) in reads {
            if let ReadUpTo::Message(message) = up_to {
                named.push((*chat, *message));
            }
        }
        let mut seqs = HashMap::new();
        if !named.is_empty() {
            let Line { connection, overdue } = self.link.get().await?;
            seqs = overdue.answer(store::seqs_of_messages(connection, &named)).await?;
        }
        let mut place = 0;
        Ok(reads
            .iter()
            .map(|(user, chat, up_to, _)| {
                let seq: Option<ChatSeq> = match up_to {
                    ReadUpTo::Seq(seq) => Some(*seq),
                    ReadUpTo::Message(_) => {
                        place += 1;
                        seqs.get(&(place - 1)).copied()
                    }
                };
                seq.map(|up_to| ReadRequest { user: user.user, chat: *chat, up_to })
            })
            .collect())
    }
}

/// Puts the acks of several users into one transaction: rows in lock order, the furthest mark per member, the furthest
/// cursor per device (each session's is true once all before it in this lane is written, which it is). Where a row was acked
/// above the mark, something below it is held by that session, and may have been acked by another, which holds this one: then
/// neither of them knows how far the member has got, and the rows are asked. So they are where the batch is tried again, although it
/// may be there already: marks that are computed are locked, and a transaction that locks waits for a synchronous standby, where
/// one that finds nothing to do would not.
fn settle_batch(acks: &[(Acks, Reply<()>)], located: Vec<Located>, which: Try) -> SettleBatch {
    let mut rows: Vec<Located> = acks.iter().flat_map(|(acks, _)| acks.rows.iter().copied()).chain(located.iter().copied()).collect();
    rows.sort_unstable_by_key(|row| (row.user, row.class, row.seq));
    rows.dedup_by_key(|row| (row.user, row.class, row.seq));
    let mut marks: BTreeMap<(ChatId, UserId), ChatSeq> = BTreeMap::new();
    let mut devices: BTreeMap<(UserId, &DeviceId, Class), InboxSeq> = BTreeMap::new();
    for (acks, _) in acks {
        for (chat, seq) in &acks.marks {
            let mark = marks.entry((*chat, acks.user.user)).or_default();
            *mark = (*mark).max(*seq);
        }
        if let Some((device, acked)) = &acks.device {
            // What stands at its beginning has not moved.
            for (class, acked) in Class::ALL.into_iter().zip(acked).filter(|(_, acked)| acked.0 > 0) {
                let cursor = devices.entry((acks.user.user, device, class)).or_default();
                *cursor = (*cursor).max(*acked);
            }
        }
    }
    let is_above = |row: &Located| marks.get(&(row.chat, row.user)).is_none_or(|mark| *mark < row.chat_seq);
    let to_compute = acks.iter().flat_map(|(acks, _)| &acks.rows).filter(|row| which == Try::Again || is_above(row));
    let exact = members_of(located.iter().chain(to_compute));
    SettleBatch {
        rows,
        marks: marks.into_iter().map(|((chat, user), seq)| MarkProposal { user, chat, seq }).collect(),
        exact,
        devices: devices
            .into_iter()
            .map(|((user, device, class), acked)| DeviceCursor { user, device: device.clone(), class, acked })
            .collect(),
    }
}

/// The members whose rows these are, each once.
fn members_of<'a>(rows: impl Iterator<Item = &'a Located>) -> Vec<ExactMark> {
    let mut members: Vec<ExactMark> = rows.map(|row| ExactMark { user: row.user, chat: row.chat }).collect();
    members.sort_unstable_by_key(|mark| (mark.chat, mark.user));
    members.dedup();
    members
}

/// Rows that have moved, by their places in order, and what the others are rows of, each once.
fn parted<'a>(rows: &'a [Located], moved: &[usize]) -> (Vec<&'a Located>, Vec<(UserId, MessageId)>) {
    if moved.len() == rows.len() {
        return (rows.iter().collect(), Vec::new());
    }
    let places: HashSet<usize> = moved.iter().copied().collect();
    let (moved, left): (Vec<_>, Vec<_>) = rows.iter().enumerate().partition(|(place, _)| places.contains(place));
    let mut left: Vec<_> = left.into_iter().map(|(_, row)| (row.user, row.message)).collect();
    left.sort_unstable();
    left.dedup();
    (moved.into_iter().map(|(_, row)| row).collect(), left)
}

/// Settles rows where they stand by now. No session knows what waits below them, so their members' marks are computed.
fn moved_away(mut rows: Vec<Located>) -> SettleBatch {
    rows.sort_unstable_by_key(|row| (row.user, row.class, row.seq));
    let exact = members_of(rows.iter());
    SettleBatch { rows, exact, ..SettleBatch::default() }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{ExternalId, MessageId};

    fn acks(user: i64, chat_seqs: &[i64], mark: i64) -> (Acks, Reply<()>) {
        let external = ExternalId::try_from("bob".to_owned()).expect("a name is an id");
        let chat = ChatId(Uuid::from_u128(1));
        let row = |seq: &i64| Located {
            user: UserId(user),
            class: Class::Chat,
            seq: InboxSeq(*seq),
            message: MessageId(Uuid::from_u128(9)),
            chat,
            chat_seq: ChatSeq(*seq),
            sender: UserId(7),
        };
        let user = Arc::new(Profile { user: UserId(user), external, name: None, picture: None });
        let rows = chat_seqs.iter().map(row).collect();
        (Acks { user, rows, by_id: Vec::new(), marks: vec![(chat, ChatSeq(mark))], device: None }, oneshot::channel().0)
    }

    fn computed(acks: &[(Acks, Reply<()>)], which: Try) -> Vec<i64> {
        settle_batch(acks, Vec::new(), which).exact.iter().map(|mark| mark.user.0).collect()
    }

    #[test]
    fn marks_are_computed_where_a_row_lies_above_what_is_proposed_and_where_a_batch_is_tried_again() {
        let in_turn = [acks(1, &[1, 2], 2), acks(2, &[5], 9)];
        assert_eq!(computed(&in_turn, Try::First), [0; 0]);
        assert_eq!(computed(&in_turn, Try::Again), [1, 2]);
        assert_eq!(computed(&[acks(1, &[1, 2], 2), acks(2, &[5, 6], 5)], Try::First), [2]);
        // Two sessions of one member, each of which holds what the other acked.
        assert_eq!(computed(&[acks(1, &[2], 0), acks(1, &[1], 1)], Try::First), [1]);
    }
}
