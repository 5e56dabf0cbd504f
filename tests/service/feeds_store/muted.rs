//! Muted types of events make no rows: not where a page is read, not where users are listed, not in the job that writes the rest.

use restante::domain::{ChatId, Class, FeedRange, FeedSeq, GapReason, Preferences, UserId};
use restante::store::{EventRequest, EventTarget, PreferencesChange, PreferencesOutcome};

use super::{World, envelopes, event, gaps, lock_inbox, names, types};
use crate::support::fixtures::group;

impl World {
    async fn mute(&self, user: UserId, types: &[&str]) {
        let muted_types = Some(types.iter().map(|name| (*name).to_owned()).collect());
        let change = PreferencesChange { muted_types, muted_chats: None };
        assert_eq!(self.store.put_preferences(user, &change).await.unwrap(), PreferencesOutcome::Done);
    }

    /// Recipients, rows, and those that had muted it.
    async fn progress(&self, event: &EventRequest) -> (Option<u64>, u64, Vec<(GapReason, u64)>) {
        let progress = self.store.event(event.id).await.unwrap().unwrap();
        (progress.recipients, progress.rows.written, progress.rows.ended)
    }
}

fn runs(prefix: &str, from: i64, to: i64) -> FeedRange {
    let feed = restante::domain::FeedId(prefix.parse().unwrap());
    FeedRange { feed, from: FeedSeq(from), to: FeedSeq(to), count: to - from + 1 }
}

#[tokio::test]
async fn muted_types_of_a_feed_take_one_number_for_each_run_and_what_waits_already_stays() {
    let world = World::new().await;
    let [alice, bob, carol] = world.users(["alice", "bob", "carol"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[bob, carol]).await;
    let publish = async |types: &[&str]| world.publish_all(alice, feed, types.iter().map(|name| (*name).to_owned())).await;
    publish(&["like", "post"]).await;
    assert_eq!(types(&world.drain(bob).await), ["like", "post"]);
    world.mute(bob, &["like", "poke"]).await;
    publish(&["like", "poke", "post", "like"]).await;
    let rows = world.drain(bob).await;
    assert_eq!(types(&rows), ["like", "post", "post"], "what waits stays");
    let name = feed.to_string();
    assert_eq!(gaps(&rows), [(3, GapReason::Muted, runs(&name, 3, 4)), (5, GapReason::Muted, runs(&name, 6, 6))]);
    assert_eq!(types(&world.drain(carol).await).len(), 6, "others have muted nothing");
    // Urgent events too, and nothing of it counts as pending.
    let mut urgent = event("poke", EventTarget::Everyone);
    urgent.urgent = true;
    world.publish(alice, urgent).await;
    assert_eq!(world.count(&format!("select restante_count_untaken({bob}, 'alert', 1001)")).await, 0);
    assert_eq!(gaps(&world.drain_as(restante::store::PageRequest::Waiting, bob, Class::Alert).await).len(), 1);
    world.mute(bob, &[]).await;
    publish(&["like"]).await;
    assert_eq!(types(&world.drain(bob).await).last().unwrap(), "like");
    world.is_consistent().await;
}

/// Broken by a newer event that is muted: the older one was superseded by what never came.
#[tokio::test]
async fn a_muted_event_supersedes_nothing_and_takes_no_place_of_those_that_may_wait() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[bob]).await;
    world.mute(bob, &["like"]).await;
    for name in ["post", "like"] {
        let mut keyed = event(name, EventTarget::Feed(feed));
        keyed.collapse_key = Some("key".to_owned());
        world.publish(alice, keyed).await;
    }
    let many = |name: &str, count: usize| std::iter::repeat_n(name.to_owned(), count).collect::<Vec<_>>();
    world.publish_all(alice, feed, many("like", 1_500)).await;
    assert_eq!(world.count(&format!("select restante_count_untaken({bob}, 'event', 1001)")).await, 1, "the post");
    let rows = world.drain(bob).await;
    assert_eq!(types(&rows), ["post"]);
    assert_eq!(gaps(&rows).iter().map(|(_, reason, range)| (*reason, range.count)).collect::<Vec<_>>(), [(GapReason::Muted, 1_501)]);
    // As many as may wait, with muted ones in between.
    world.publish_all(alice, feed, (0..1_100).flat_map(|n| ["like".to_owned(), format!("e{n}")])).await;
    let rows = world.drain(bob).await;
    assert_eq!(types(&rows), names("e", 100..=1_099));
    world.is_consistent().await;
}

/// Broken by looking only where the event is published: those that the job writes got it.
#[tokio::test]
async fn listed_users_that_have_muted_the_type_have_no_row_and_are_counted_as_muted() {
    let world = World::new().await;
    let [alice, bob, carol, dora] = world.users(["alice", "bob", "carol", "dora"]).await;
    world.mute(bob, &["like"]).await;
    let like = event("like", EventTarget::Users(vec![bob, carol, dora, bob]));
    let holder = world.holds(&lock_inbox(carol)).await;
    world.publish(alice, like.clone()).await;
    assert_eq!(world.progress(&like).await, (Some(3), 1, vec![(GapReason::Muted, 1)]));
    world.is_consistent().await;
    // Carol's row waits to be written, and she mutes it meanwhile.
    world.mute(carol, &["like"]).await;
    let post = event("post", EventTarget::Users(vec![bob, carol]));
    world.publish(alice, post.clone()).await;
    holder.commits().await;
    world.fan_out().await;
    assert_eq!(world.progress(&like).await, (Some(3), 1, vec![(GapReason::Muted, 2)]));
    assert_eq!(world.progress(&post).await, (Some(2), 2, vec![]));
    assert_eq!((types(&world.drain(carol).await), types(&world.drain(bob).await)), (vec!["post".to_owned()], vec!["post".to_owned()]));
    assert_eq!(envelopes(&world.drain(carol).await)[0].inbox_seq.0, 1, "what is muted takes no number");
    assert_eq!(types(&world.drain(dora).await), ["like"]);
    let nobody = event("like", EventTarget::Users(vec![bob, carol]));
    world.publish(alice, nobody.clone()).await;
    assert_eq!(world.progress(&nobody).await, (Some(2), 0, vec![(GapReason::Muted, 2)]));
    assert_eq!(world.count("select count(*) from fan_out_recipients").await, 0);
    world.is_consistent().await;
}

#[tokio::test]
async fn preferences_are_bounded_name_chats_of_the_user_only_and_go_with_it() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    let (ours, theirs, feed) = (group(&world.pool, &[alice, bob]).await, group(&world.pool, &[bob]).await, world.feed(alice).await);
    let put = async |types: Option<Vec<String>>, chats: Option<Vec<ChatId>>| {
        world.store.put_preferences(alice, &PreferencesChange { muted_types: types, muted_chats: chats }).await.unwrap()
    };
    assert_eq!(put(Some(names("t", 1..=100)), Some(vec![ours, ours])).await, PreferencesOutcome::Done);
    let kept = Preferences { muted_types: world.store.preferences(alice).await.unwrap().muted_types, muted_chats: vec![ours] };
    assert_eq!(kept.muted_types.len(), 100);
    // One answer for a chat of others, for none at all, and for a feed, which is no chat.
    for chat in [theirs, ChatId::generate(), ChatId(feed.0)] {
        assert_eq!(put(Some(vec![]), Some(vec![ours, chat])).await, PreferencesOutcome::NotFound);
    }
    let too_long = "t".repeat(65);
    for types in [vec![String::new()], vec![too_long], names("t", 1..=101)] {
        assert_eq!(put(Some(types), Some(vec![])).await, PreferencesOutcome::Invalid);
    }
    assert_eq!(put(None, Some((0..1_001).map(|_| ChatId::generate()).collect())).await, PreferencesOutcome::Invalid);
    assert_eq!(world.store.preferences(alice).await.unwrap(), kept, "nothing is stored half");
    assert_eq!(put(None, None).await, PreferencesOutcome::Done);
    assert_eq!(world.store.preferences(alice).await.unwrap(), kept, "a list that is missing stays");
    // A member that has left may mute the chat all the same: something of it may still wait.
    world.run(&format!("select restante_remove_members('{ours}', {alice}, array[{alice}])")).await;
    assert_eq!(put(Some(vec![]), Some(vec![ours])).await, PreferencesOutcome::Done);
    assert_eq!(put(Some(vec![]), Some(vec![])).await, PreferencesOutcome::Done);
    assert_eq!(world.count("select count(*) from preferences").await, 0, "who mutes nothing has no row");
    let [nobody] = world.users(["nobody"]).await;
    world.mute(nobody, &["like"]).await;
    let goes = format!(
        "delete from followers where user_id = {nobody}; delete from inboxes where user_id = {nobody}; delete from users where id = {nobody}"
    );
    world.run(&goes).await;
    assert_eq!(world.count("select count(*) from preferences").await, 0);
}
