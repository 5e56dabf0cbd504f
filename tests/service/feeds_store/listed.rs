//! Events to listed users: a row for each, the first in the transaction that publishes, the others by a job, each once and in order.

use restante::domain::{Class, UserId};
use restante::store::{EventAddress, EventOutcome, EventRequest, EventTarget};
use tokio::time::timeout;

use super::{World, envelopes, event, lock_inbox, names, types};
use crate::support::{Node, PATIENCE};

impl World {
    /// So many users.
    async fn crowd(&self, count: i32) -> Vec<UserId> {
        let made = "select id from restante_users((select array_agg('crowd-' || i) from generate_series(1, $1) i)) order by id";
        sqlx::query_scalar::<_, i64>(made).bind(count).fetch_all(&self.pool).await.unwrap().into_iter().map(UserId).collect()
    }

    async fn rows_of(&self, event: &EventRequest) -> (u64, u64) {
        let progress = self.store.event(event.id).await.unwrap().unwrap();
        assert_eq!(progress.to, EventAddress::Users);
        (progress.recipients.unwrap(), progress.rows.written)
    }
}

fn to(users: &[UserId], event_type: &str) -> EventRequest {
    event(event_type, EventTarget::Users(users.to_vec()))
}

#[tokio::test]
async fn the_first_rows_are_written_at_once_and_the_others_by_the_job_and_each_user_gets_it_once() {
    let world = World::new().await;
    let crowd = world.crowd(1_700).await;
    let (alice, bob) = (crowd[0], crowd[3]);
    let mut first = to(&[&crowd[..], &crowd[5..20]].concat(), "first");
    first.except = vec![crowd[7]];
    let outcomes = world.store.publish(alice, &[first.clone()]).await.unwrap();
    let [EventOutcome::Accepted { woken, stream: None, .. }] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!((woken.len(), world.rows_of(&first).await), (500, (1_698, 500)));
    world.is_consistent().await;
    let place = world.store.fan_out((UserId(0), Class::Chat), 500).await.unwrap();
    assert_eq!((place.rows, place.inboxes.len(), place.next.is_some()), (500, 500, true));
    world.fan_out().await;
    assert_eq!(world.rows_of(&first).await, (1_698, 1_698));
    assert_eq!(world.count("select count(*) from fan_out_recipients").await, 0);
    let rows = world.drain(bob).await;
    assert_eq!((types(&rows), envelopes(&rows)[0].feed), (vec!["first".to_owned()], None));
    for none in [alice, crowd[7]] {
        assert!(world.drain(none).await.is_empty());
    }
    world.is_consistent().await;
}

/// Broken by writing a later event at once to a user for whom an earlier one waits: it came first.
#[tokio::test]
async fn what_somebody_holds_is_left_and_comes_later_in_order_and_nobody_waits_for_it() {
    let world = World::new().await;
    let crowd = world.crowd(4).await;
    let (alice, held, free) = (crowd[0], crowd[1], crowd[2]);
    let holder = world.holds(&lock_inbox(held)).await;
    let first = to(&[held, free], "first");
    let items = [first.clone()];
    let outcomes = timeout(PATIENCE, world.store.publish(alice, &items)).await.expect("it waits for no inbox").unwrap();
    assert!(matches!(&outcomes[..], [EventOutcome::Accepted { woken, .. }] if woken[..] == [free]), "{outcomes:?}");
    timeout(PATIENCE, world.fan_out()).await.expect("nor does the job");
    assert_eq!(world.rows_of(&first).await, (2, 1));
    holder.commits().await;
    world.publish(alice, to(&[held, free], "second")).await;
    assert_eq!(
        (types(&world.drain(held).await).len(), types(&world.drain(free).await)),
        (0, vec!["first".to_owned(), "second".to_owned()])
    );
    world.is_consistent().await;
    world.fan_out().await;
    assert_eq!(types(&world.drain(held).await), ["first", "second"]);
    world.publish(alice, to(&[held], "third")).await;
    assert_eq!(types(&world.drain(held).await), ["first", "second", "third"]);
    world.is_consistent().await;
}

#[tokio::test]
async fn a_fan_out_whose_connection_is_lost_in_the_middle_is_gone_on_with_and_writes_none_twice() {
    let world = World::new().await;
    let crowd = world.crowd(1_500).await;
    let event = to(&crowd[1..], "x");
    world.publish(crowd[0], event.clone()).await;
    let mut lost = world.holds("select rows_done from restante_fan_out(0, 'chat', 400, 1000)").await;
    let other = world.store.fan_out((UserId(0), Class::Chat), 400).await.unwrap();
    assert_eq!(other.rows, 0, "another pass passes what the first holds");
    lost.run("select rows_done from restante_fan_out(0, 'chat', 400, 1000)").await;
    drop(lost);
    crate::support::until_true(&world.pool, "select count(*) = 0 from pg_locks l join pg_class c on c.oid = l.relation where c.relname = 'fan_out_recipients' and l.mode = 'RowExclusiveLock'").await;
    assert_eq!(world.rows_of(&event).await, (1_499, 500), "nothing of it is left");
    tokio::join!(world.fan_out(), world.fan_out(), world.fan_out());
    world.fan_out().await;
    assert_eq!(world.rows_of(&event).await, (1_499, 1_499));
    world.is_consistent().await;
}

/// Broken by not ending anything in the job: 1,100 rows waited.
#[tokio::test]
async fn of_more_than_a_thousand_that_wait_the_oldest_end_and_a_hole_in_what_was_acked_is_none_of_them() {
    let world = World::new().await;
    let crowd = world.crowd(3).await;
    let (alice, bob, carol) = (crowd[0], crowd[1], crowd[2]);
    let publish = async |range| {
        let events: Vec<_> = names("e", range).iter().map(|name| to(&[bob, carol], name)).collect();
        world.store.publish(alice, &events).await.unwrap();
    };
    publish(1..=500).await;
    // Carol has acked all but the first.
    let acked = format!(
        "update message_status set status = 'delivered', delivered_at = clock_timestamp() where user_id = {carol} and seq > 1 and status = 'sent'"
    );
    world.run(&acked).await;
    publish(501..=1_000).await;
    world.run(&acked).await;
    publish(1_001..=1_100).await;
    world.fan_out().await;
    let waiting =
        async |user: UserId| world.count(&format!("select count(*) from message_status where user_id = {user} and status = 'sent'")).await;
    assert_eq!((waiting(bob).await, waiting(carol).await), (1_000, 101));
    assert_eq!(types(&world.drain(bob).await), names("e", 101..=1_100));
    assert_eq!(types(&world.drain(carol).await)[..2], ["e1".to_owned(), "e1001".to_owned()]);
    publish(1_101..=1_101).await;
    world.fan_out().await;
    assert_eq!(waiting(bob).await, 1_000);
    world.is_consistent().await;
}

#[tokio::test]
async fn a_node_writes_the_rest_and_says_how_much_is_left() {
    let world = World::new().await;
    let crowd = world.crowd(1_300).await;
    let held = crowd[1_200];
    let holder = world.holds(&lock_inbox(held)).await;
    let event = to(&crowd[1..], "x");
    world.publish(crowd[0], event.clone()).await;
    let node = Node::start(world.db.options()).await;
    crate::support::until_true(&world.pool, "select count(*) = 1 from fan_out_recipients").await;
    let metrics = &node.app().context().metrics;
    crate::support::wait_until("the gauge says so", || metrics.fan_out_waiting.get() == 1).await;
    holder.commits().await;
    crate::support::until_true(&world.pool, "select count(*) = 0 from fan_out_recipients").await;
    assert_eq!(world.rows_of(&event).await, (1_299, 1_299));
    crate::support::wait_until("the gauge says so", || metrics.fan_out_waiting.get() == 0).await;
    world.is_consistent().await;
    node.stop().await;
}

#[tokio::test]
async fn a_request_of_many_events_to_many_users_is_stored_in_parts_each_whole() {
    let world = World::new().await;
    let crowd = world.crowd(40).await;
    let events: Vec<_> = names("e", 1..=100).iter().map(|name| to(&crowd, name)).collect();
    let outcomes = world.store.publish(crowd[0], &events).await.unwrap();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, EventOutcome::Accepted { woken, .. } if woken.len() == 39)));
    assert_eq!(types(&world.drain(crowd[9]).await), names("e", 1..=100));
    world.is_consistent().await;
}
