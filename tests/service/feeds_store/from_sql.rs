//! Feeds and events from SQL, inside an application's own transaction.

use restante::domain::ChatId;
use restante::store::EventTarget;
use sqlx::postgres::PgListener;
use sqlx::{AssertSqlSafe, Executor};

use super::{World, event, types};
use crate::support::direct;

#[tokio::test]
async fn an_event_from_sql_is_published_at_the_commit_and_tells_the_nodes_of_its_stream() {
    let world = World::new().await;
    let [alice, bob, carol] = world.users(["alice", "bob", "carol"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[bob]).await;
    let mut listener = PgListener::connect_with(&world.pool).await.unwrap();
    listener.listen("restante_wake").await.unwrap();
    let mut holder = world.holds(&format!("select restante_publish('alice', 'one', '{{\"a\": 1}}', p_feed => '{feed}')")).await;
    holder.run("select restante_publish('alice', 'two', null, p_urgent => true); select restante_publish('system', 'three', null, '{carol,new}')").await;
    holder.run("savepoint s; select restante_publish('alice', 'never', null); rollback to s").await;
    world.publish(alice, event("meanwhile", EventTarget::Feed(feed))).await;
    assert_eq!(world.count("select count(*) from messages").await, 1, "nothing is locked or stored before the commit");
    holder.commits().await;
    let mut told = Vec::new();
    while told.len() < 3 {
        told.push(listener.recv().await.unwrap().payload().to_owned());
    }
    // Users come in no order.
    let sorted = |payload: &str| payload.split_once(',').map_or_else(|| payload.to_owned(), |(a, b)| format!("{},{}", a.min(b), a.max(b)));
    let mut told: Vec<String> = told.iter().map(|payload| sorted(payload)).collect();
    told.sort();
    let new = world.count("select id from users where external_id = 'new'").await;
    let alerts = "00000000-0000-0000-0000-000000000011";
    let carol_and_new = [carol.0.to_string(), new.to_string()];
    let mut expected = vec![
        format!("{},{}", carol_and_new.iter().min().unwrap(), carol_and_new.iter().max().unwrap()),
        format!("feed {alerts}"),
        format!("feed {}", ChatId(feed.0)),
    ];
    expected.sort();
    assert_eq!(told, expected);
    assert_eq!(types(&world.drain(bob).await), ["meanwhile", "one"]);
    assert_eq!(types(&world.drain(carol).await), ["three"]);
    world.is_consistent().await;
}

#[tokio::test]
async fn events_and_messages_of_one_transaction_are_accepted_together_or_not_at_all() {
    let world = World::new().await;
    let [_alice, bob] = world.users(["alice", "bob"]).await;
    let chat = direct(&world.pool, "alice", "bob").await;
    let both = format!("begin; select restante_publish('alice', 'e', null); select restante_send('{chat}', 'alice', 'hello')");
    world.run(&format!("{both}; rollback")).await;
    world.run(&format!("{both}; commit")).await;
    assert_eq!(world.count("select count(*) from messages").await, 2);
    assert_eq!(types(&world.drain(bob).await), ["e"]);
    world.is_consistent().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_at_the_call_or_at_the_commit() {
    let world = World::new().await;
    let [alice, _bob] = world.users(["alice", "bob"]).await;
    let stored = world.publish(alice, event("stored", EventTarget::Everyone)).await;
    let mut connection = world.pool.acquire().await.unwrap();
    let mut code = async |statement: String| match connection.execute(AssertSqlSafe(statement)).await {
        Ok(_) => String::new(),
        Err(error) => error.as_database_error().unwrap().code().unwrap().into_owned(),
    };
    let publish = |rest: &str| format!("select restante_publish('alice', 'e', {rest})");
    let refused = [
        (publish("null, p_feed => gen_random_uuid()"), "P0002"),
        (publish("null, p_feed => '00000000-0000-0000-0000-000000000002'"), "P0002"),
        (publish("to_jsonb(repeat('x', 8192))"), "54000"),
        (publish("null, p_ttl => '0'"), "22023"),
        (publish("null, p_ttl => '-1 hour'"), "22023"),
        (publish("null, p_ttl => '31 days'"), "22023"),
        // A year of an interval has 360 days where it is compared, and 365.25 where it becomes milliseconds.
        (publish("null, p_ttl => '1 year -330 days'"), "22023"),
        (publish("null, p_ttl => '5000000 years -1799999970 days'"), "22023"),
        (publish("null, p_ttl => '30 days 1 microsecond'"), "22023"),
        (publish("null, p_ttl => null"), "22023"),
        (publish("null, p_to_users => '{bob}', p_feed => '00000000-0000-0000-0000-000000000001'"), "22023"),
        (publish("null, p_to_users => (select array_agg('u' || n) from generate_series(1, 10001) n)"), "54000"),
        (publish("null, p_except => (select array_agg('u' || n) from generate_series(1, 501) n)"), "54000"),
        (publish("null, p_collapse_key => ''"), "22023"),
        (publish("(repeat('[', 40) || repeat(']', 40))::jsonb"), "22023"),
        (publish("'1e400'::jsonb"), "22023"),
        ("select restante_publish('alice', repeat('x', 65), null)".to_owned(), "23514"),
        ("select restante_publish('alice', '', null)".to_owned(), "23514"),
        ("select restante_publish('', 'e', null)".to_owned(), "23514"),
        (format!("select restante_publish('bob', 'e', null, p_event_id => '{stored}')"), "23505"),
        ("begin isolation level repeatable read; select restante_publish('alice', 'e', null)".to_owned(), "25000"),
        ("rollback; begin; set constraints all immediate; select restante_publish('alice', 'e', null)".to_owned(), "25000"),
        ("rollback; begin; select restante_publish('alice', 'e', null) from generate_series(1, 1001)".to_owned(), "54000"),
        ("rollback; select restante_follow(gen_random_uuid(), '{bob}')".to_owned(), "P0002"),
        ("select restante_unfollow('00000000-0000-0000-0000-000000000001', '{bob}')".to_owned(), "42501"),
        ("select restante_make_feed('bob', p_feed => '00000000-0000-0000-0000-000000000001')".to_owned(), "23505"),
    ];
    for (statement, expected) in refused {
        assert_eq!(code(statement.clone()).await, expected, "{statement}");
    }
    assert_eq!(
        code(format!("select restante_publish('alice', 'e', null, p_event_id => '{stored}')")).await,
        "",
        "the same again is the same"
    );
    assert_eq!(code("begin; select restante_publish('alice', 'e', null) from generate_series(1, 1000); commit".to_owned()).await, "");
    assert_eq!(world.count("select count(*) from messages").await, 1_001);
    world.is_consistent().await;
}
