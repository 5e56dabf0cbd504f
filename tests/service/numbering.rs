//! One call of `restante_accept` with many items is held against a simple model of it. The call undoes everything when a statement in it
//! does not do its work.

use std::collections::{HashMap, HashSet};

use restante::domain::{ChatId, Class};
use restante::store::{self, AcceptBatch, AcceptOutcome, AcceptedRow, LockTimeout, Store};
use sqlx::ConnectOptions;
use sqlx::postgres::PgPool;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::support::database;
use crate::support::fixtures::{LockHolder, assert_consistent, group, lock_chat, lock_inbox, number, users};

struct Chat {
    id: ChatId,
    class: Class,
    members: Vec<i64>,
}

/// Per item: what becomes of it, its chat, its number there, and its recipients with theirs.
type Answer = (AcceptOutcome, Uuid, i64, Vec<(i64, i64)>);

/// The numbers that must have been given so far.
#[derive(Default)]
struct Model {
    stored: HashMap<Uuid, (i64, Uuid, i64)>,
    chats: HashMap<Uuid, i64>,
    inboxes: HashMap<(i64, Class), i64>,
}

/// The locks that another transaction holds meanwhile.
#[derive(Default)]
struct Held {
    chat: Option<Uuid>,
    inbox: Option<(i64, Class)>,
}

impl Model {
    fn outcome(&self, batch: &AcceptBatch, n: usize, chats: &[Chat], held: &Held) -> AcceptOutcome {
        let chat = chats.iter().find(|chat| chat.id.0 == batch.chats[n]);
        match (self.stored.get(&batch.ids[n]), chat) {
            (Some((sender, ..)), _) if *sender == batch.senders[n] => AcceptOutcome::Duplicate,
            (Some(_), _) => AcceptOutcome::Conflict,
            (None, None) => AcceptOutcome::NotAMember,
            (None, Some(chat)) if held.chat == Some(chat.id.0) => AcceptOutcome::Held,
            (None, Some(chat)) if !chat.members.contains(&batch.senders[n]) => AcceptOutcome::NotAMember,
            (None, Some(_)) if batch.expires[n].is_some_and(|at| at < OffsetDateTime::now_utc()) => AcceptOutcome::TooLate,
            (None, Some(_)) => AcceptOutcome::Accepted,
        }
    }

    fn accept(&mut self, batch: &AcceptBatch, chats: &[Chat], held: &Held) -> Vec<Answer> {
        let mut outcomes: Vec<_> = (0..batch.ids.len()).map(|n| self.outcome(batch, n, chats, held)).collect();
        let chat_of = |n: usize| chats.iter().find(|chat| chat.id.0 == batch.chats[n]);
        let recipients = |n: usize| {
            let chat = chat_of(n).unwrap();
            chat.members.iter().filter(move |user| **user != batch.senders[n]).map(|user| (*user, chat.class))
        };
        let accepted = |outcomes: &[AcceptOutcome], n: usize| outcomes[n] == AcceptOutcome::Accepted;
        let waits = (0..outcomes.len()).filter(|n| accepted(&outcomes, *n) && recipients(*n).any(|inbox| held.inbox == Some(inbox)));
        let waits: HashSet<Uuid> = waits.map(|n| batch.chats[n]).collect();
        (0..outcomes.len())
            .map(|n| {
                if accepted(&outcomes, n) && waits.contains(&batch.chats[n]) {
                    outcomes[n] = AcceptOutcome::Held;
                }
                match outcomes[n] {
                    AcceptOutcome::Accepted => {
                        let seq = count_up(&mut self.chats, batch.chats[n]);
                        self.stored.insert(batch.ids[n], (batch.senders[n], batch.chats[n], seq));
                        let theirs = recipients(n).map(|inbox| (inbox.0, count_up(&mut self.inboxes, inbox)));
                        (outcomes[n], batch.chats[n], seq, theirs.collect())
                    }
                    AcceptOutcome::Duplicate => {
                        let (_, chat, seq) = self.stored[&batch.ids[n]];
                        (outcomes[n], chat, seq, Vec::new())
                    }
                    _ => (outcomes[n], batch.chats[n], 0, Vec::new()),
                }
            })
            .collect()
    }
}

fn count_up<K: std::hash::Hash + Eq>(counters: &mut HashMap<K, i64>, of: K) -> i64 {
    let counter = counters.entry(of).or_default();
    *counter += 1;
    *counter
}

fn answer(row: AcceptedRow) -> Answer {
    (row.outcome, row.chat.0, row.seq.0, row.recipients.into_iter().map(|(user, seq)| (user.0, seq.0)).collect())
}

fn push(batch: &mut AcceptBatch, id: Uuid, chat: Uuid, sender: i64, expires: Option<OffsetDateTime>) {
    batch.ids.push(id);
    batch.chats.push(chat);
    batch.senders.push(sender);
    batch.types.push("text".to_owned());
    batch.contents.push("hello".to_owned());
    batch.metadata.push(None);
    batch.expires.push(expires);
}

/// Chats of two to five of these users, the last two of them feeds.
async fn chats(pool: &PgPool, everybody: &[i64], random: &mut fastrand::Rng) -> Vec<Chat> {
    let mut made = Vec::new();
    for n in 0..7 {
        let mut members = random.choose_multiple(everybody, 2 + n % 4).into_iter().copied().collect::<Vec<_>>();
        members.sort_unstable();
        let ids: Vec<_> = members.iter().map(|user| restante::domain::UserId(*user)).collect();
        let id = group(pool, &ids).await;
        let class = if n < 5 { Class::Chat } else { Class::Event };
        if class == Class::Event {
            sqlx::query("update chat_heads set class = 'event' where chat_id = $1").bind(id.0).execute(pool).await.unwrap();
        }
        made.push(Chat { id, class, members });
    }
    made
}

/// Items of all sorts: new ones and repeated ones, also of others, in chats that are there and not, in time and late.
fn items(chats: &[Chat], everybody: &[i64], known: &[(Uuid, i64)], random: &mut fastrand::Rng) -> AcceptBatch {
    let mut batch = AcceptBatch::default();
    let rough = random.bool();
    for _ in 0..random.usize(1..60) {
        let chat = random.choice(chats).unwrap();
        let member = *random.choice(&chat.members).unwrap();
        let (mut id, mut to, mut sender, mut expires) = (Uuid::now_v7(), chat.id.0, member, None);
        match if rough { random.u8(0..10) } else { 9 } {
            0 => sender = *random.choice(everybody).unwrap(),
            1 => to = Uuid::now_v7(),
            2 => expires = Some(OffsetDateTime::now_utc() - Duration::HOUR),
            3 => expires = Some(OffsetDateTime::now_utc() + Duration::HOUR),
            4 | 5 => (id, sender) = random.choice(known).copied().unwrap_or((id, sender)),
            6 => id = random.choice(known).map_or(id, |(id, _)| *id),
            _ => {}
        }
        if !batch.ids.contains(&id) {
            push(&mut batch, id, to, sender, expires);
        }
    }
    batch
}

#[tokio::test]
async fn every_batch_has_the_outcomes_and_numbers_that_its_items_would_have_one_by_one() {
    let db = database().await;
    let pool = db.pool(2).await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let everybody = users(&Store::new(pool.clone()), ["a", "b", "c", "d", "e", "f"]).await.map(|profile| profile.user.0);
    let chats = chats(&pool, &everybody, &mut random).await;
    let mut connection = db.options().options([("lock_timeout", "5s")]).connect().await.unwrap();
    let (mut model, mut known) = (Model::default(), Vec::new());
    for round in 0..120 {
        let batch = items(&chats, &everybody, &known, &mut random);
        let (chat, user) = (random.choice(&chats).unwrap().id, *random.choice(&everybody).unwrap());
        let (held, holder) = match round % 4 {
            0 => (Held { chat: Some(chat.0), inbox: None }, Some(lock_chat(chat))),
            1 => (Held { chat: None, inbox: Some((user, Class::Chat)) }, Some(lock_inbox(restante::domain::UserId(user)))),
            _ => (Held::default(), None),
        };
        let skip_held = holder.is_some() || round % 4 == 2;
        let holder = match holder {
            Some(statement) => Some(LockHolder::holds(&db.options(), &statement).await),
            None => None,
        };
        let expected = model.accept(&batch, &chats, &held);
        let rows = store::accept(&mut connection, &batch, skip_held, LockTimeout::OfConnection).await.unwrap();
        assert_eq!(rows.into_iter().map(answer).collect::<Vec<_>>(), expected, "round {round} of seed {seed}");
        known.extend(batch.ids.iter().copied().zip(batch.senders.iter().copied()));
        if let Some(holder) = holder {
            holder.commits().await;
        }
    }
    assert_eq!(number(&pool, "select count(*) from messages").await, i64::try_from(model.stored.len()).unwrap());
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn what_the_database_does_not_do_as_it_is_told_undoes_the_whole_batch() {
    let db = database().await;
    let pool = db.pool(2).await;
    let everybody = users(&Store::new(pool.clone()), ["alice", "bob", "carol"]).await;
    let [alice, bob, carol] = everybody.map(|profile| profile.user);
    let (one, other) = (group(&pool, &[alice, bob]).await, group(&pool, &[alice, carol]).await);
    let swallows = |table: &str, when: &str| {
        format!(
            "create function swallow() returns trigger language plpgsql as 'begin return null; end'; \
             create trigger swallow before insert or update on {table} for each row when ({when}) execute function swallow()"
        )
    };
    let defects = [
        swallows("messages", "new.seq = 2"),
        swallows("message_status", "new.seq = 2"),
        swallows("chat_heads", &format!("new.chat_id = '{one}'")),
        swallows("inboxes", &format!("new.user_id = {}", bob.0)),
        format!("delete from inboxes where user_id = {} and class = 'chat'", carol.0),
        format!("delete from inboxes where user_id = {} and class = 'chat'", bob.0),
    ];
    for defect in defects {
        let mut connection = db.options().connect().await.unwrap();
        sqlx::raw_sql("begin").execute(&mut connection).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(defect.clone())).execute(&mut connection).await.unwrap();
        let mut batch = AcceptBatch::default();
        for n in 0..6 {
            push(&mut batch, Uuid::now_v7(), if n % 2 == 0 { one.0 } else { other.0 }, alice.0, None);
        }
        let refused = store::accept(&mut connection, &batch, false, LockTimeout::OfConnection).await;
        let Err(store::Error::Failed(sqlx::Error::Database(error))) = refused else { panic!("{defect}: {refused:?}") };
        assert_eq!(error.code().as_deref(), Some("XX001"), "{defect}");
    }
    assert_eq!(number(&pool, "select count(*) from messages").await, 0);
    assert_consistent(&pool).await;
}
