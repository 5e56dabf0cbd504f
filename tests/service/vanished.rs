//! The database's host vanishes and comes back, or another one takes its place. Connections stay open and carry nothing. Statements
//! over them are repeated, and statements that only take long are waited for.

use std::collections::BTreeSet;
use std::pin::pin;

use futures_util::future::join_all;
use futures_util::poll;
use restante::domain::ExternalId;
use restante::store::{Error, Store};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::support::fixtures::{LockHolder, number, until};
use crate::support::{Load, Node, StallingProxy, database, wait_until};

/// A store with so many connections of its own, all there.
async fn store(options: PgConnectOptions, connections: usize) -> Store {
    let store = Store::connect_lazily(PgPoolOptions::new().max_connections(u32::try_from(connections).unwrap()), options);
    let mut held = Vec::new();
    for _ in 0..connections {
        held.push(store.pool().acquire().await.unwrap());
    }
    for mut connection in held {
        connection.return_to_pool().await;
    }
    store
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_whose_connections_are_all_dead_without_a_word_makes_others_and_goes_on_where_it_was() {
    let db = database().await;
    let pool = db.pool(2).await;
    let proxy = StallingProxy::start(&db.options());
    let node = Node::start(proxy.options(&db.options())).await;
    let load = Load::between(&[&node]).await;
    for _ in 0..2 {
        let more = number(&pool, "select 20 + count(*) from messages").await;
        until(&pool, "it goes on", &format!("select count(*) >= {more} from messages")).await;
        proxy.stall();
    }
    let more = number(&pool, "select 20 + count(*) from messages").await;
    until(&pool, "it goes on", &format!("select count(*) >= {more} from messages")).await;
    load.end(&pool, &BTreeSet::new()).await;
    node.stop().await;
}

#[tokio::test]
async fn a_statement_that_is_not_answered_and_not_worked_on_is_given_up_and_its_connection_is_not_used_again() {
    let db = database().await;
    let proxy = StallingProxy::start(&db.options());
    let store = store(proxy.options(&db.options()), 3).await;
    proxy.stall();
    assert!(matches!(store.ping().await, Err(Error::Unavailable(_))));
    // Nor are those that were as old: each of them would have to be waited for as long.
    let pings = (0..3).map(|_| store.ping());
    assert!(join_all(pings).await.iter().all(Result::is_ok));
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(store.pool().acquire().await.expect("the places of the dead are free"));
    }
}

#[tokio::test]
async fn a_statement_that_nobody_waits_for_any_more_takes_its_dead_connection_with_it() {
    let db = database().await;
    let proxy = StallingProxy::start(&db.options());
    let store = store(proxy.options(&db.options()), 1).await;
    proxy.stall();
    assert!(poll!(pin!(store.ping())).is_pending());
    wait_until("its place is free", || store.pool().size() == 0).await;
    store.ping().await.unwrap();
}

/// Its place would be taken by the next one that waits for the same, until there are no connections left.
#[tokio::test]
async fn a_statement_that_nobody_waits_for_any_more_keeps_its_place_while_the_server_works_on_it() {
    let db = database().await;
    let proxy = StallingProxy::start(&db.options());
    let store = store(proxy.options(&db.options()), 1).await;
    let pool = db.pool(1).await;
    let holder = LockHolder::holds(&db.options(), "insert into users (external_id) values ('somebody')").await;
    let names = [ExternalId::try_from("somebody".to_owned()).unwrap()];
    let waits = "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')";
    tokio::select! {
        made = store.users(&names) => panic!("somebody else makes it: {made:?}"),
        () = until(&pool, "it waits", waits) => {}
    }
    // Beside its own connection there are those of the questions. Asked a third time, it was answered twice.
    proxy.until_made(4).await;
    assert_eq!(store.pool().size(), 1);
    holder.commits().await;
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_statement_that_the_server_works_on_is_waited_for() {
    is_waited_for(&[]).await;
}

#[tokio::test]
async fn a_statement_is_waited_for_where_the_server_does_not_say_what_it_works_on() {
    is_waited_for(&[("track_activities", "off")]).await;
}

async fn is_waited_for(settings: &[(&str, &str)]) {
    let db = database().await;
    let pool = db.pool(1).await;
    sqlx::raw_sql("create table held ()").execute(&pool).await.unwrap();
    let holder = LockHolder::holds(&db.options(), "lock table held in access exclusive mode").await;
    let proxy = StallingProxy::start(&db.options());
    let store = Store::new(PgPoolOptions::new().connect_lazy_with(proxy.options(&db.options())));
    let mut connection = db.options().options(settings.iter().copied()).connect().await.unwrap();
    let mut answer = pin!(store.stall_detector().answer(sqlx::query("select from held").execute(&mut connection)));
    tokio::select! {
        answer = &mut answer => panic!("it was given up: {answer:?}"),
        // All that goes this way is the question. Asked a third time, it was answered twice.
        () = proxy.until_made(3) => {}
    }
    holder.commits().await;
    answer.await.unwrap();
}
