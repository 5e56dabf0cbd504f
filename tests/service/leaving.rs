//! A member for whom much waits leaves: that it is a member no more is true at once, what waits is shown to nobody, and a job ends it.

use std::time::Duration;

use restante::domain::{Class, ExternalId, GapReason, InboxSeq, MessageId, NodeId, PageRow, PerClass, UserId};
use restante::store::{AckedRows, Adding, OpeningRequest, PageRequest, Store, UnknownUsers};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::support::fixtures::{assert_consistent, until};
use crate::support::{Connect, Database, Node, database, direct, fill, group, number, users};

/// More than one transaction ends.
const MESSAGES: i32 = 3_000;

/// A group of alice, bob and carol, in which so much waits for bob and carol, and then one message that bob has from elsewhere.
async fn start() -> (Database, PgPool, Uuid, [i64; 3]) {
    let db = database().await;
    let pool = db.pool(2).await;
    let chat = group(&pool, &["alice", "bob", "carol"]).await;
    fill(&pool, chat, "alice", MESSAGES).await;
    let elsewhere = direct(&pool, "alice", "bob").await;
    fill(&pool, elsewhere, "alice", 1).await;
    let people = users(&pool, &["alice", "bob", "carol"]).await;
    (db, pool, chat, [people[0], people[1], people[2]])
}

async fn leaves(store: &Store, chat: Uuid, caller: i64, name: &str) -> usize {
    let name = ExternalId::try_from(name.to_owned()).unwrap();
    let left = store.remove_members(UserId(caller), restante::domain::ChatId(chat), &[name]).await.unwrap().unwrap();
    left.users.len()
}

async fn joins(store: &Store, chat: Uuid, caller: i64, name: &str) {
    let name = ExternalId::try_from(name.to_owned()).unwrap();
    let added = store.add_members(UserId(caller), restante::domain::ChatId(chat), &[name], UnknownUsers::Count).await.unwrap();
    assert!(matches!(added, Adding::Done(_)), "{added:?}");
}

async fn ended(pool: &PgPool, user: i64) -> i64 {
    crate::support::fixtures::number(pool, &format!("select count(*) from message_status where user_id = {user} and ended = 'left'")).await
}

/// Reads all pages from here to the end: the numbers of envelopes, and the count of gaps with this reason.
async fn pages(store: &Store, request: PageRequest, user: i64, reason: GapReason) -> (Vec<i64>, i64) {
    let (mut envelopes, mut gaps, mut after) = (Vec::new(), 0, InboxSeq(0));
    loop {
        let page = store.page(request, UserId(user), Class::Chat, after, 500).await.unwrap();
        for row in &page.rows {
            match row {
                PageRow::Envelope(envelope) => (envelopes.push(envelope.inbox_seq.0), after = envelope.inbox_seq).1,
                PageRow::Gap { from, to, reason: why, .. } => {
                    assert_eq!(*why, reason);
                    (gaps, after) = (gaps + to.0 - from.0 + 1, *to);
                }
            }
        }
        if page.is_last {
            return (envelopes, gaps);
        }
    }
}

#[tokio::test]
async fn membership_ends_at_once_and_no_page_shows_the_rest_before_a_job_has_ended_it() {
    let (_db, pool, chat, [alice, bob, _]) = start().await;
    let store = Store::new(pool.clone());
    assert_eq!(leaves(&store, chat, alice, "bob").await, 1);
    assert_eq!(ended(&pool, bob).await, 1_000, "what one transaction ends");
    let last = i64::from(MESSAGES) + 1;
    for request in [PageRequest::Waiting, PageRequest::Everything] {
        assert_eq!(pages(&store, request, bob, GapReason::Left).await, (vec![last], last - 1), "{request:?}");
    }
    assert_eq!(pages(&store, PageRequest::Poll, bob, GapReason::Left).await, (vec![last], last - 1_001));
    let external = ExternalId::try_from("bob".to_owned()).unwrap();
    let phone = "phone".to_owned().try_into().unwrap();
    for (device, pending_max) in [(None, 10_000), (None, 100), (Some(&phone), 10_000), (Some(&phone), 100)] {
        let request = OpeningRequest {
            external: &external,
            name: None,
            picture: None,
            device,
            node: NodeId::generate(),
            since: PerClass::default(),
            pending_max,
        };
        assert_eq!(store.open(request).await.unwrap().unwrap().inboxes.chat.pending, 1, "{device:?}");
    }
    assert!(
        store
            .history(UserId(bob), restante::domain::ChatId(chat), restante::store::HistoryRange::After(restante::domain::ChatSeq(0)), 50)
            .await
            .unwrap()
            .is_none()
    );
    assert_consistent(&pool).await;

    assert_eq!(leaves(&store, chat, alice, "bob").await, 0, "it has left");
    assert_eq!(number(&pool, "select count(*) from departures").await, 1, "and is noted once");
    while store.end_departures(700).await.unwrap().is_some() {}
    assert_eq!(ended(&pool, bob).await, i64::from(MESSAGES));
    assert_eq!(number(&pool, "select count(*) from departures").await, 0);
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn who_joins_again_before_the_job_has_come_to_the_end_gets_what_is_new_and_nothing_of_before() {
    let (_db, pool, chat, [alice, bob, _]) = start().await;
    let store = Store::new(pool.clone());
    leaves(&store, chat, alice, "bob").await;
    store.end_departures(500).await.unwrap().unwrap();
    joins(&store, chat, alice, "bob").await;
    fill(&pool, chat, "alice", 1_500).await;
    let first = i64::from(MESSAGES) + 1;
    let expected: Vec<i64> = (first..=first + 1_500).collect();
    assert_eq!(pages(&store, PageRequest::Waiting, bob, GapReason::Left).await, (expected.clone(), first - 1));
    // It leaves a second time while the first is not at its end: both are noted.
    leaves(&store, chat, alice, "bob").await;
    assert_eq!(number(&pool, "select count(*) from departures").await, 2);
    assert_eq!(pages(&store, PageRequest::Waiting, bob, GapReason::Left).await, (vec![first], first - 1 + 1_500));
    joins(&store, chat, alice, "bob").await;
    fill(&pool, chat, "alice", 2).await;
    while store.end_departures(1_000).await.unwrap().is_some() {}
    let newest = first + 1_500;
    let (envelopes, gaps) = pages(&store, PageRequest::Waiting, bob, GapReason::Left).await;
    assert_eq!((envelopes, gaps), (vec![first, newest + 1, newest + 2], newest - 1));
    assert_eq!(ended(&pool, bob).await, i64::from(MESSAGES) + 1_500);
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn an_ack_by_id_of_what_waits_in_a_chat_that_was_left_finds_nothing_to_deliver() {
    let (_db, pool, chat, [_, bob, carol]) = start().await;
    let store = Store::new(pool.clone());
    leaves(&store, chat, bob, "bob").await;
    let last = "select distinct on (s.user_id) s.user_id, s.message_id from message_status s join messages m on m.id = s.message_id
                where m.chat_id = $1 and s.status = 'sent' order by s.user_id, s.seq desc";
    let wanted: Vec<(i64, Uuid)> = sqlx::query_as(last).bind(chat).fetch_all(&pool).await.unwrap();
    let wanted: Vec<_> = wanted.into_iter().map(|(user, message)| (UserId(user), MessageId(message))).collect();
    assert_eq!(wanted.iter().map(|(user, _)| user.0).collect::<Vec<_>>(), [bob, carol], "the last one of each waits still");
    let mut connection = pool.acquire().await.unwrap();
    for which in [AckedRows::Any, AckedRows::Waiting] {
        let rows = restante::store::locate_acked(&mut connection, &wanted, which).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.user.0).collect::<Vec<_>>(), [carol], "{which:?}");
    }
    while store.end_departures(1_000).await.unwrap().is_some() {}
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn a_running_node_shows_an_open_connection_nothing_of_the_rest_ends_it_and_tells_the_sender() {
    let (db, pool, chat, [_, bob, carol]) = start().await;
    let node = Node::with(db.options(), |config| config.look_interval = Duration::from_secs(3600)).await;
    let mut alice = node.connect("alice").await;
    // Both have an open connection with a full window, which goes on only when they ack.
    let (mut bobs, mut carols) = (node.open(Connect::user("bob").device("phone")).await, node.connect("carol").await);
    let (given, carols_given) = (bobs.event("message:receive").await, carols.event("message:receive").await);
    let (status, left) = node.api("alice").delete(&format!("/v1/chats/{chat}/members"), json!({"userIds": ["bob"]})).await;
    assert!(status < 300, "{status} {left}");
    // Envelopes in flight may come. Behind them there are only messages that he has from elsewhere.
    let mut last = given["inboxSeq"].as_i64().unwrap();
    while last <= i64::from(MESSAGES) {
        bobs.ack_up_to(last).await;
        let frame = bobs
            .wait("more", |frame| matches!(frame["event"].as_str(), Some("message:receive" | "queue:gap")) && number_of(frame) > last)
            .await;
        if frame["event"] == "queue:gap" {
            assert_eq!(frame["data"]["reason"], "left", "{frame}");
        }
        last = number_of(&frame);
    }
    until(&pool, "the job has ended the rest", "select not exists (select from departures)").await;
    let rest = format!(
        "select not exists (select from message_status s join messages m on m.id = s.message_id where s.user_id = {bob} and m.chat_id = '{chat}' and s.status = 'sent')"
    );
    until(&pool, "nothing of it waits", &rest).await;
    let mut told = 0;
    let not_acked = ended(&pool, bob).await;
    while told < not_acked {
        let status = alice.wait("expired", |frame| frame["event"] == "message:status" && frame["data"]["status"] == "expired").await;
        assert_eq!(status["data"]["reason"], "left", "{status}");
        told += i64::try_from(status["data"]["messageIds"].as_array().unwrap().len()).unwrap();
    }
    assert_eq!(told, not_acked, "each once");
    // To carol nothing has happened.
    carols.ack(&carols_given).await;
    let waiting = format!("select count(*) from message_status where user_id = {carol} and status = 'sent'");
    let waiting: i64 = sqlx::query_scalar(AssertSqlSafe(waiting)).fetch_one(&pool).await.unwrap();
    assert_eq!(waiting, i64::from(MESSAGES) - 1);
    let (_, inbox) = node.api("bob").get("/v1/inbox?limit=500").await;
    assert!(inbox["messages"].as_array().unwrap().iter().all(|message| message["chatId"] != json!(chat)), "{inbox}");
    assert_consistent(&pool).await;
    node.stop().await;
}

/// The last number of a message or a gap.
fn number_of(frame: &Value) -> i64 {
    frame["data"]["inboxSeq"].as_i64().or_else(|| frame["data"]["toSeq"].as_i64()).unwrap()
}

#[tokio::test]
async fn over_http_what_waits_in_a_chat_that_was_left_is_not_listed() {
    let (db, pool, chat, [alice, _, _]) = start().await;
    // The first transaction only: somebody holds the departure, so that no job ends it meanwhile.
    leaves(&Store::new(pool.clone()), chat, alice, "bob").await;
    let holder = crate::support::fixtures::LockHolder::holds(&db.options(), "select from departures for update").await;
    let node = Node::start(db.options()).await;
    let (mut seqs, mut after) = (Vec::new(), 0);
    loop {
        let (status, inbox) = node.api("bob").get(&format!("/v1/inbox?limit=500&after={after}")).await;
        assert_eq!(status, 200, "{inbox}");
        seqs.extend(inbox["messages"].as_array().unwrap().iter().map(|message| message["inboxSeq"].as_i64().unwrap()));
        let Some(last) = seqs.last().copied().filter(|_| inbox["more"] == true) else { break };
        after = last;
    }
    assert_eq!(seqs, [i64::from(MESSAGES) + 1]);
    let bobs = node.connect("bob").await;
    assert_eq!(bobs.ready["pending"], 1);
    holder.commits().await;
    until(&pool, "the job has ended the rest", "select not exists (select from departures)").await;
    assert_consistent(&pool).await;
    node.stop().await;
}
