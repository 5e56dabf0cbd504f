//! A batch, made before the clock runs, and the one statement that writes it.

use std::collections::BTreeMap;

use anyhow::ensure;
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::super::load::texts;
use restante::store::{self, AcceptBatch, AcceptOutcome, LockTimeout, MarkProposal, SettleBatch, StatusRow};
use restante_session::domain::{ChatId, ChatSeq, Class, InboxSeq, MessageId, UserId};

/// The rows that are written, and the statement that writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// The two rows of a message, inserted: no locks, no counters, no questions.
    StoreRows,
    /// The same rows by the service's own statement.
    StoreAccept,
    /// Rows that become delivered, updated.
    AckRows,
    /// The same rows by the service's own statement, with the marks.
    AckSettle,
}

impl Work {
    /// All kinds, in an order in which each ack follows its store.
    pub const ALL: [Self; 4] = [Self::StoreRows, Self::AckRows, Self::StoreAccept, Self::AckSettle];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StoreRows => "store: the rows alone",
            Self::StoreAccept => "store: restante_accept()",
            Self::AckRows => "ack: the rows alone",
            Self::AckSettle => "ack: restante_settle()",
        }
    }

    /// True for stores, false for acks.
    pub const fn is_store(self) -> bool {
        matches!(self, Self::StoreRows | Self::StoreAccept)
    }

    /// True for the service's own statements.
    pub const fn is_own(self) -> bool {
        matches!(self, Self::StoreAccept | Self::AckSettle)
    }

    /// A batch of this work.
    pub fn batch(self, letters: &[Letter], content: &str) -> Batch {
        match self {
            Self::StoreRows => Batch::StoreRows(Columns::of(letters, content)),
            Self::StoreAccept => Batch::StoreAccept(accept_batch(letters, content)),
            Self::AckRows => Batch::AckRows { users: users(letters), classes: vec!["chat"; letters.len()], seqs: seqs(letters) },
            Self::AckSettle => Batch::AckSettle(settle_batch(letters)),
        }
    }
}

/// A message in a direct chat. Its recipient has no other chat, so it has the same number in chat and inbox.
#[derive(Debug, Clone, Copy)]
pub struct Letter {
    /// Its id.
    pub id: Uuid,
    /// The chat.
    pub chat: Uuid,
    /// Its sender.
    pub sender: i64,
    /// Its recipient.
    pub recipient: i64,
    /// Its number.
    pub seq: i64,
}

/// The arguments of a statement.
#[derive(Debug)]
pub enum Batch {
    /// For [`Work::StoreRows`].
    StoreRows(Columns),
    /// For [`Work::StoreAccept`].
    StoreAccept(AcceptBatch),
    /// For [`Work::AckRows`].
    AckRows {
        /// Recipients.
        users: Vec<i64>,
        /// Their inboxes: given with each, or the planner would rather look through all of them.
        classes: Vec<&'static str>,
        /// Numbers in their inboxes.
        seqs: Vec<i64>,
    },
    /// For [`Work::AckSettle`].
    AckSettle(SettleBatch),
}

/// Messages and their rows, as columns.
#[derive(Debug)]
pub struct Columns {
    ids: Vec<Uuid>,
    chats: Vec<Uuid>,
    seqs: Vec<i64>,
    senders: Vec<i64>,
    contents: Vec<String>,
    recipients: Vec<i64>,
}

const STORE_ROWS: &str = "
    with stored as (
      insert into messages (id, chat_id, seq, sender_id, content, created_at)
        select m.id, m.chat, m.seq, m.sender, m.content, clock_timestamp()
          from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::text[]) m (id, chat, seq, sender, content)
    )
    insert into message_status (user_id, class, seq, message_id)
      select r.user_id, 'chat', r.seq, r.id from unnest($6::bigint[], $3::bigint[], $1::uuid[]) r (user_id, seq, id)";

const ACK_ROWS: &str = "
    update message_status s set status = 'delivered', delivered_at = clock_timestamp()
      from unnest($1::bigint[], $2::text[]::inbox_class[], $3::bigint[]) u (user_id, class, seq)
     where s.user_id = u.user_id and s.class = u.class and s.seq = u.seq and s.status = 'sent'";

impl Batch {
    /// Writes it, in one transaction. Anything less than all of it is an error.
    pub async fn write(&self, connection: &mut PgConnection) -> anyhow::Result<()> {
        let (wanted, written) = match self {
            Self::StoreRows(columns) => (columns.ids.len(), columns.write(connection).await?),
            Self::StoreAccept(batch) => {
                let rows = store::accept(connection, batch, false, LockTimeout::Usual).await?;
                (batch.ids.len(), rows.iter().filter(|row| row.outcome == AcceptOutcome::Accepted).count())
            }
            Self::AckRows { users, classes, seqs } => {
                let done = sqlx::query(ACK_ROWS).bind(users).bind(classes).bind(seqs).execute(connection).await?;
                (users.len(), done.rows_affected() as usize)
            }
            Self::AckSettle(batch) => (batch.rows.len(), store::settle(connection, batch, LockTimeout::Usual).await?.moved.len()),
        };
        ensure!(wanted == written, "{written} of a batch of {wanted} were written");
        Ok(())
    }
}

impl Columns {
    fn of(letters: &[Letter], content: &str) -> Self {
        Self {
            ids: letters.iter().map(|letter| letter.id).collect(),
            chats: letters.iter().map(|letter| letter.chat).collect(),
            seqs: seqs(letters),
            senders: letters.iter().map(|letter| letter.sender).collect(),
            contents: vec![content.to_owned(); letters.len()],
            recipients: users(letters),
        }
    }

    async fn write(&self, connection: &mut PgConnection) -> anyhow::Result<usize> {
        let query = sqlx::query(STORE_ROWS).bind(&self.ids).bind(&self.chats).bind(&self.seqs).bind(&self.senders);
        let done = query.bind(&self.contents).bind(&self.recipients).execute(connection).await?;
        Ok(done.rows_affected() as usize)
    }
}

fn users(letters: &[Letter]) -> Vec<i64> {
    letters.iter().map(|letter| letter.recipient).collect()
}

fn seqs(letters: &[Letter]) -> Vec<i64> {
    letters.iter().map(|letter| letter.seq).collect()
}

fn accept_batch(letters: &[Letter], content: &str) -> AcceptBatch {
    let (ids, chats) = letters.iter().map(|letter| (letter.id, letter.chat)).unzip();
    texts(ids, chats, letters.iter().map(|letter| letter.sender).collect(), content)
}

/// Makes a batch as a lane does: the rows, and the highest mark of each member.
fn settle_batch(letters: &[Letter]) -> SettleBatch {
    let located = |letter: &Letter| StatusRow {
        user: UserId(letter.recipient),
        class: Class::Chat,
        seq: InboxSeq(letter.seq),
        message: MessageId(letter.id),
        chat: ChatId(letter.chat),
        chat_seq: ChatSeq(letter.seq),
        sender: UserId(letter.sender),
    };
    let mut marks: BTreeMap<(ChatId, UserId), ChatSeq> = BTreeMap::new();
    for letter in letters {
        let mark = marks.entry((ChatId(letter.chat), UserId(letter.recipient))).or_default();
        *mark = (*mark).max(ChatSeq(letter.seq));
    }
    let marks = marks.into_iter().map(|((chat, user), seq)| MarkProposal { user, chat, seq }).collect();
    SettleBatch { rows: letters.iter().map(located).collect(), marks, ..SettleBatch::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settlement_has_every_row_and_one_mark_for_each_member() {
        let chats = [Uuid::new_v4(), Uuid::new_v4()];
        let letter = |chat: usize, seq| Letter { id: Uuid::now_v7(), chat: chats[chat], sender: 1, recipient: 2 + chat as i64, seq };
        let batch = settle_batch(&[letter(0, 1), letter(0, 3), letter(0, 2), letter(1, 1)]);
        assert_eq!(batch.rows.len(), 4);
        let mut marks: Vec<_> = batch.marks.iter().map(|mark| (mark.user.0, mark.seq.0)).collect();
        marks.sort_unstable();
        assert_eq!(marks, [(2, 3), (3, 1)]);
    }
}
