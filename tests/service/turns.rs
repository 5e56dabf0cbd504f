//! Joining and leaving take turns with sends: however many change a group, a send waits for one change.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use restante::domain::{ChatId, ExternalId};
use restante::service::Refusal;
use sqlx::PgPool;

use crate::support::fixtures::{LockHolder, assert_consistent, delivery, group, lock_chat, sent, store, text, until_so, user, users};
use crate::support::{Node, database, wait_until};

/// Each change takes longer than a lane waits for a lock, as in a very large group on a slow machine.
const SLOW: &str = "
    create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.15); return null; end $$;
    create trigger slow after insert or update on chat_members for each statement execute function slow()";

/// Admins that change the group at the same time.
const ADMINS: usize = 8;
const SENDS: usize = 15;

async fn make_admin(pool: &PgPool, chat: ChatId) {
    sqlx::query("update chat_members set role = 'admin' where chat_id = $1").bind(chat.0).execute(pool).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_change_a_group_a_send_waits_for_one_change_and_changes_go_on_between_sends() {
    let db = database().await;
    let pool = db.pool(1).await;
    let node = Node::start(db.options()).await;
    let [alice, bob] = users(store(&node), ["alice", "bob"]).await;
    let mut admins = Vec::new();
    for n in 0..ADMINS {
        admins.push(user(store(&node), &format!("admin-{n}")).await);
    }
    let members: Vec<_> = admins.iter().chain([&alice, &bob]).map(|member| member.user).collect();
    let chat = group(&pool, &members).await;
    make_admin(&pool, chat).await;
    sqlx::raw_sql(SLOW).execute(&pool).await.unwrap();

    let (is_over, changed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let changes = join_all(admins.iter().enumerate().map(async |(n, admin)| {
        let service = &node.app().context().service;
        let guest = [ExternalId::try_from(format!("guest-{n}")).unwrap()];
        while !is_over.load(Ordering::Relaxed) {
            for _ in 0..2 {
                // One that does not have its turn in time is told so, and changes nothing.
                match service.add_members(admin, chat, &guest).await {
                    Ok(_) => changed.fetch_add(1, Ordering::Relaxed),
                    Err(refusal) => {
                        assert!(matches!(refusal, Refusal::Busy(_)), "{refusal:?}");
                        0
                    }
                };
                if service.remove_members(admin, chat, &guest).await.is_ok() {
                    changed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }));
    let sends = async {
        until_so("every admin has changed the members", || changed.load(Ordering::Relaxed) >= ADMINS).await;
        for n in 0..SENDS {
            let before = changed.load(Ordering::Relaxed);
            sent(delivery(&node), text(&alice, chat, n.to_string())).await;
            // The one that was under way, and one that had ended and was not counted yet.
            let meanwhile = changed.load(Ordering::Relaxed) - before;
            assert!(meanwhile <= 2, "{meanwhile} changes went before message {n}");
            let next = changed.load(Ordering::Relaxed) + 1;
            until_so("the next change is made", || changed.load(Ordering::Relaxed) >= next).await;
        }
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(changes, sends);
    assert_consistent(&pool).await;
    node.stop().await;
}

/// Somebody else's transaction holds the chat: those who join wait for a second, as before, and are told.
#[tokio::test]
async fn a_chat_that_somebody_holds_keeps_nobody_who_changes_it_for_long() {
    let db = database().await;
    let pool = db.pool(1).await;
    let node = Node::start(db.options()).await;
    let [alice, bob] = users(store(&node), ["alice", "bob"]).await;
    let chat = group(&pool, &[alice.user, bob.user]).await;
    make_admin(&pool, chat).await;
    let holder = LockHolder::holds(&db.options(), &lock_chat(chat)).await;
    let waits = pin!(delivery(&node).send(text(&alice, chat, "behind the holder")));
    let service = &node.app().context().service;
    let guest = [ExternalId::try_from("guest".to_owned()).unwrap()];
    let (joined, left) = tokio::join!(service.add_members(&alice, chat, &guest), service.remove_members(&bob, chat, &guest));
    assert!(matches!((&joined, &left), (Err(Refusal::Busy(_)), Err(Refusal::Busy(_)))), "{joined:?} {left:?}");
    holder.commits().await;
    waits.await.unwrap();
    service.add_members(&alice, chat, &guest).await.unwrap();
    node.stop().await;
}

/// A stranger that knows the id of a chat could else keep its members from sending.
#[tokio::test]
async fn a_stranger_that_would_change_a_chat_waits_for_no_lock_of_it_and_takes_none() {
    let db = database().await;
    let pool = db.pool(1).await;
    let node = Node::start(db.options()).await;
    let [alice, mallory] = users(store(&node), ["alice", "mallory"]).await;
    let chat = group(&pool, &[alice.user]).await;
    let holder = LockHolder::holds(&db.options(), &lock_chat(chat)).await;
    let service = &node.app().context().service;
    let guest = [ExternalId::try_from("guest".to_owned()).unwrap()];
    assert_eq!(service.add_members(&mallory, chat, &guest).await, Err(Refusal::NotAMember));
    assert_eq!(service.remove_members(&mallory, chat, &guest).await, Err(Refusal::NotAMember));
    holder.commits().await;
    node.stop().await;
}

/// Somebody else's turn lasts, and the user changes as many chats as it has permits. Broken by asking for the turn inside a permit: the
/// read was answered after the changes.
#[tokio::test]
async fn while_changes_of_a_user_wait_for_their_turns_its_other_requests_are_answered() {
    let db = database().await;
    let pool = db.pool(1).await;
    let node = Node::start(db.options()).await;
    let [alice, bob] = users(store(&node), ["alice", "bob"]).await;
    let chat = group(&pool, &[alice.user]).await;
    make_admin(&pool, chat).await;
    let (service, turns) = (&node.app().context().service, delivery(&node).turns());
    let turn = turns.change(chat).await.unwrap();
    let guest = [bob.external.clone()];
    let changes = join_all((0..6).map(|_| service.add_members(&alice, chat, &guest)));
    let reads = async {
        wait_until("the changes wait", || service.changes_waiting(alice.user) >= 4).await;
        assert_eq!(service.chats(&alice, None, 10).await.unwrap().chats.len(), 1);
        assert!(service.changes_waiting(alice.user) >= 4, "the changes wait still");
        drop(turn);
    };
    let (changed, ()) = tokio::join!(changes, reads);
    assert!(changed.iter().all(Result::is_ok), "{changed:?}");
    assert_eq!(changed.iter().flatten().map(|added| added.users.len()).sum::<usize>(), 1, "it is added once");
    assert_eq!(service.changes_waiting(alice.user), 0);
    node.stop().await;
}

/// A user that asks for so much that its change gets no permit gives the turn to the next. Broken by waiting for the permit without end.
#[tokio::test]
async fn a_change_that_has_its_turn_and_gets_no_permit_keeps_nobody_else() {
    let db = database().await;
    let pool = db.pool(1).await;
    let node = Node::start(db.options()).await;
    let [alice, bob, carol] = users(store(&node), ["alice", "bob", "carol"]).await;
    let chat = group(&pool, &[alice.user, bob.user]).await;
    make_admin(&pool, chat).await;
    let (service, turns) = (&node.app().context().service, delivery(&node).turns());
    let turn = turns.change(chat).await.unwrap();
    let guest = [carol.external.clone()];
    let of_alice = service.add_members(&alice, chat, &guest);
    let of_bob = async {
        wait_until("the change waits", || service.changes_waiting(alice.user) == 1).await;
        let mut permits = Vec::new();
        for _ in 0..4 {
            permits.push(service.admission().admit_request(&alice.external).await.unwrap());
        }
        drop(turn);
        let changed = service.add_members(&bob, chat, &guest).await;
        drop(permits);
        changed
    };
    let (of_alice, of_bob) = tokio::join!(of_alice, of_bob);
    assert!(matches!(of_alice, Err(Refusal::Busy(_))), "{of_alice:?}");
    assert_eq!(of_bob.unwrap().users, guest);
    node.stop().await;
}
