//! Rows for many followers at once: what is new and plain becomes a row of each, as their pages would have made it, and whoever needs more
//! than plain rows is left to its page.

use restante::domain::{InboxSeq, MessageId, UserId};
use restante::store::{EVENTS_TOGETHER_MAX, EventTarget, PreferencesChange, TakenTogether};

use super::{World, envelopes, event, gaps, lock_inbox, names, types};

impl World {
    /// Takes what is new in the feed for these users.
    async fn together(&self, feed: restante::domain::FeedId, users: &[UserId]) -> TakenTogether {
        self.store.take_together(restante::domain::ChatId(feed.0), users).await.unwrap()
    }
}

#[tokio::test]
async fn rows_for_many_are_those_that_their_pages_would_have_made() {
    let world = World::new().await;
    let [alice, bob, carol, dave] = world.users(["alice", "bob", "carol", "dave"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[bob, carol]).await;
    let first = world.publish(alice, event("e1", EventTarget::Feed(feed))).await;
    // Carol has read a page meanwhile, and lacks only the last two.
    assert_eq!(types(&world.drain(carol).await), ["e1"]);
    let mut later = Vec::new();
    for name in ["e2", "e3"] {
        later.push(world.publish(alice, event(name, EventTarget::Feed(feed))).await);
    }
    let row = |user: UserId, seq: i64, id: MessageId| (user, InboxSeq(seq), id);
    let taken = world.together(feed, &[carol, dave, bob, bob]).await;
    let all = [row(bob, 1, first), row(bob, 2, later[0]), row(bob, 3, later[1]), row(carol, 2, later[0]), row(carol, 3, later[1])];
    assert_eq!(taken, TakenTogether { rows: all.to_vec(), others: Vec::new() });
    assert_eq!(world.together(feed, &[bob, carol]).await, TakenTogether { rows: Vec::new(), others: vec![bob, carol] }, "it is done");
    for user in [bob, carol] {
        let rows = world.drain(user).await;
        assert_eq!(types(&rows), names("e", 1..=3));
        assert!(envelopes(&rows).iter().all(|envelope| envelope.feed.is_some_and(|place| place.feed == feed)));
    }
    assert_eq!(world.count("select count(*) from followers where cursor_seq > 0 and class = 'event'").await, 2);
    let queued = "select coalesce(sum(cardinality(messages)), 0)::bigint from statistics_journal where kind = 'queued'";
    assert_eq!(world.count(queued).await, 6, "each row is in the figures once");
    world.is_consistent().await;
}

/// Broken by each of the conditions that is left out of `restante_take_together`.
#[tokio::test]
async fn who_needs_more_than_rows_is_left_to_a_page() {
    let world = World::new().await;
    let [alice, bob, carol, dave, erin] = world.users(["alice", "bob", "carol", "dave", "erin"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[alice, bob, carol, dave, erin]).await;
    // Bob has muted the type, it is not for carol, dave's inbox is held, alice has published it.
    let change = PreferencesChange { muted_types: Some(vec!["like".to_owned()]), muted_chats: None };
    world.store.put_preferences(bob, &change).await.unwrap();
    let mut like = event("like", EventTarget::Feed(feed));
    like.except = vec![carol];
    world.publish(alice, like).await;
    let holder = world.holds(&lock_inbox(dave)).await;
    let taken = world.together(feed, &[alice, bob, carol, dave, erin]).await;
    assert_eq!((taken.rows.iter().map(|(user, ..)| *user).collect::<Vec<_>>(), taken.others), (vec![erin], vec![alice, bob, carol, dave]));
    holder.commits().await;
    assert_eq!(gaps(&world.drain(bob).await).len(), 1);
    assert!(world.drain(alice).await.is_empty() && world.drain(carol).await.is_empty());
    assert_eq!(types(&world.drain(dave).await), ["like"]);
    // They have taken it, so for the next one nothing stands in their way, but for alice, who has published it.
    world.publish_all(alice, feed, names("post", 1..=1)).await;
    let taken = world.together(feed, &[alice, bob, carol, dave, erin]).await;
    let takers: Vec<UserId> = taken.rows.iter().map(|(user, ..)| *user).collect();
    assert_eq!((takers, taken.others), (vec![bob, carol, dave, erin], vec![alice]));
    world.is_consistent().await;
}

#[tokio::test]
async fn an_event_with_a_key_one_that_has_expired_and_more_than_a_few_are_left_to_a_page() {
    let world = World::new().await;
    let [alice, bob, carol] = world.users(["alice", "bob", "carol"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[bob, carol]).await;
    let left = TakenTogether { rows: Vec::new(), others: vec![bob, carol] };
    let mut keyed = event("keyed", EventTarget::Feed(feed));
    keyed.collapse_key = Some("key".to_owned());
    world.publish(alice, keyed).await;
    assert_eq!(world.together(feed, &[bob, carol]).await, left);
    // Behind it only who has taken it gets the next one.
    world.publish_all(alice, feed, names("plain", 1..=1)).await;
    assert_eq!(types(&world.drain(carol).await), ["keyed", "plain1"]);
    world.publish_all(alice, feed, names("plain", 2..=2)).await;
    let taken = world.together(feed, &[bob, carol]).await;
    assert_eq!((taken.rows.len(), taken.rows[0].0, &taken.others[..]), (1, carol, &[bob][..]));
    assert_eq!(types(&world.drain(bob).await), ["keyed", "plain1", "plain2"]);
    let mut short = event("short", EventTarget::Feed(feed));
    short.ttl = std::time::Duration::from_millis(1);
    let short = world.publish(alice, short).await;
    world.run(&format!("update messages set expires_at = clock_timestamp() - interval '1 second' where id = '{short}'")).await;
    assert_eq!(world.together(feed, &[bob, carol]).await, left);
    world.drain(bob).await;
    world.drain(carol).await;
    world.publish_all(alice, feed, names("many", 1..=i64::from(EVENTS_TOGETHER_MAX) + 1)).await;
    assert_eq!(world.together(feed, &[bob, carol]).await, left);
    world.is_consistent().await;
}

/// Broken by leaving the bound out: 1,001 rows waited.
#[tokio::test]
async fn no_more_than_may_wait_become_rows_and_the_oldest_ends_instead() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[bob]).await;
    world.publish_all(alice, feed, names("e", 1..=999)).await;
    assert_eq!(world.drain(bob).await.len(), 999);
    world.publish_all(alice, feed, names("e", 1_000..=1_000)).await;
    assert_eq!(world.together(feed, &[bob]).await.rows.len(), 1);
    world.publish_all(alice, feed, names("e", 1_001..=1_001)).await;
    assert_eq!(world.together(feed, &[bob]).await, TakenTogether { rows: Vec::new(), others: vec![bob] });
    world.drain(bob).await;
    assert_eq!(world.count("select count(*) from message_status where status = 'sent'").await, 1_000);
    assert_eq!(world.count("select count(*) from message_status where ended = 'capped'").await, 1);
    world.is_consistent().await;
}
