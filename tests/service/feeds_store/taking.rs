//! A page makes rows of what is new: what came after the user followed, once, in order, without what is not for it.

use restante::domain::{ChatId, Class, ExternalId, FeedId, FeedPlace, FeedSeq, InboxSeq, MessageId, NodeId, PageRow, PerClass, UserId};
use restante::store::{EventAddress, EventOutcome, EventTarget, FeedChange, FeedRole, OpeningRequest, PageRequest, Place, Store};

use super::{World, envelopes, event, lock_inbox, names, types};

#[tokio::test]
async fn followers_get_what_came_after_they_followed_once_in_order_and_nothing_before() {
    let world = World::new().await;
    let [alice, bob, carol, dave] = world.users(["alice", "bob", "carol", "dave"]).await;
    let feed = world.feed(alice).await;
    world.publish_all(alice, feed, names("early", 1..=3)).await;
    world.follow(feed, &[bob]).await;
    world.publish_all(alice, feed, names("a", 1..=60)).await;
    world.follow(feed, &[bob, carol]).await;
    world.publish_all(alice, feed, names("b", 1..=60)).await;
    let rows = world.drain(bob).await;
    assert_eq!(types(&rows), [names("a", 1..=60), names("b", 1..=60)].concat());
    let first = envelopes(&rows)[0];
    assert_eq!((first.inbox_seq, first.feed), (InboxSeq(1), Some(FeedPlace { feed, seq: FeedSeq(4) })));
    assert_eq!((first.message.content.as_str(), first.message.metadata.as_ref().unwrap().get()), ("", "{\"n\": 1}"));
    assert_eq!(types(&world.drain(carol).await), names("b", 1..=60));
    assert!(world.drain(dave).await.is_empty(), "who does not follow gets nothing");
    assert_eq!(types(&world.drain(bob).await).len(), 120, "what is a row is made once");
    assert_eq!(world.count("select count(*) from messages").await, 123, "an event is stored once");
    world.is_consistent().await;
}

#[tokio::test]
async fn everyone_gets_what_is_published_to_everyone_after_it_was_first_seen() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    world.publish(alice, event("first", EventTarget::Everyone)).await;
    let [carol] = world.users(["carol"]).await;
    let direct = world.store.sign_in(ExternalId::try_from("dave".to_owned()).unwrap(), None, None).await.unwrap().profile.user;
    world.publish(alice, event("second", EventTarget::Everyone)).await;
    assert_eq!(types(&world.drain(bob).await), ["first", "second"]);
    for late in [carol, direct] {
        assert_eq!(types(&world.drain(late).await), ["second"]);
    }
    assert!(world.drain(alice).await.is_empty(), "its publisher does not get it");
    assert_eq!(world.store.unfollow(FeedId::EVERYONE, &[bob]).await.unwrap(), FeedChange::Forbidden);
    world.is_consistent().await;
}

#[tokio::test]
async fn who_is_excepted_and_who_published_it_pass_an_event_without_a_number() {
    let world = World::new().await;
    let [alice, bob, carol] = world.users(["alice", "bob", "carol"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[alice, bob, carol]).await;
    for (n, except) in [vec![], vec![bob], vec![bob, carol, bob], vec![]].into_iter().enumerate() {
        let mut event = event(&format!("x{n}"), EventTarget::Feed(feed));
        event.except = except;
        world.publish(alice, event).await;
    }
    let bobs = world.drain(bob).await;
    assert_eq!(types(&bobs), ["x0", "x3"]);
    assert_eq!(envelopes(&bobs)[1].inbox_seq, InboxSeq(2));
    assert_eq!(types(&world.drain(carol).await), ["x0", "x1", "x3"]);
    assert!(world.drain(alice).await.is_empty());
    world.is_consistent().await;
}

/// Broken by ordering by feeds first: all of one feed came before the other.
#[tokio::test]
async fn feeds_are_taken_by_time_and_each_in_its_order_and_each_class_for_itself() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    let feeds = [world.feed(alice).await, world.feed(alice).await, world.feed(alice).await];
    for feed in feeds {
        world.follow(feed, &[bob]).await;
    }
    let mut expected = Vec::new();
    for n in 0..90_usize {
        let name = format!("e{n}");
        let mut event = event(&name, EventTarget::Feed(feeds[(n * n) % 3]));
        event.urgent = n % 10 == 0;
        if !event.urgent {
            expected.push(name);
        }
        world.publish(alice, event).await;
    }
    assert_eq!(types(&world.drain(bob).await), expected);
    let alerts = world.drain_as(PageRequest::Waiting, bob, Class::Alert).await;
    assert_eq!(types(&alerts), (0..9).map(|n| format!("e{}", n * 10)).collect::<Vec<_>>());
    assert!(envelopes(&alerts).iter().all(|envelope| envelope.class == Class::Alert));
    world.is_consistent().await;
}

/// Broken by leaving `more` out of `is_last`: a session would have stopped after the first page.
#[tokio::test]
async fn a_page_is_not_the_last_while_something_is_to_be_taken_and_makes_no_more_rows_than_it_holds() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[bob]).await;
    world.publish_all(alice, feed, names("e", 1..=120)).await;
    for (after, rows, is_last) in [(0, 50, false), (50, 50, false), (100, 20, true)] {
        let page = world.page(bob, after).await;
        assert_eq!((page.rows.len(), page.is_last, page.last_seq.0), (rows, is_last, (after + 50).min(120)));
    }
    let page = world.store.page(PageRequest::Poll, bob, Class::Event, InboxSeq(0), 500).await.unwrap();
    assert_eq!((page.rows.len(), page.is_last), (120, true));
    world.is_consistent().await;
}

#[tokio::test]
async fn what_waits_counts_before_it_is_a_row_and_makes_the_first_page_and_the_poll_look() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[alice, bob]).await;
    world.publish_all(alice, feed, names("e", 1..=70)).await;
    let mut not_for_bob = event("x", EventTarget::Feed(feed));
    not_for_bob.except = vec![bob];
    world.publish(alice, not_for_bob).await;
    let name = ExternalId::try_from("bob".to_owned()).unwrap();
    let pending = async |pending_max| {
        let node = NodeId::generate();
        let request =
            OpeningRequest { external: &name, name: None, picture: None, device: None, node, since: PerClass::default(), pending_max };
        world.store.open(request).await.unwrap().unwrap().inboxes.event.pending
    };
    assert_eq!((pending(1_001).await, pending(20).await), (70, 20));
    assert_eq!(world.count("select count(*) from message_status").await, 0, "an opening makes no rows");
    let place = |user| Place { user, class: Class::Event, after: InboxSeq(0) };
    let peeks = world.store.peek(&[place(bob), Place { class: Class::Chat, ..place(bob) }]).await.unwrap();
    assert_eq!(peeks.iter().flatten().map(|peek| peek.waits).collect::<Vec<_>>(), [true, false]);
    world.page(bob, 0).await;
    assert_eq!(pending(1_001).await, 70, "rows and what is still to become one");
    world.publish_all(alice, feed, names("f", 1..=1_100)).await;
    assert_eq!(pending(1_001).await, 1_001);
    world.is_consistent().await;
}

#[tokio::test]
async fn what_has_its_number_comes_though_the_inbox_is_held_and_the_rest_when_it_is_free() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[bob]).await;
    world.publish_all(alice, feed, names("e", 1..=2)).await;
    world.page(bob, 0).await;
    world.publish_all(alice, feed, names("f", 1..=2)).await;
    let impatient = world.db.options().options([("lock_timeout", "10ms")]);
    let store = Store::new(sqlx::postgres::PgPoolOptions::new().max_connections(1).connect_with(impatient).await.unwrap());
    let page = async |after| store.page(PageRequest::Waiting, bob, Class::Event, InboxSeq(after), 50).await;
    let holder = world.holds(&lock_inbox(bob)).await;
    let held = page(0).await.unwrap();
    assert_eq!((types(&held.rows), held.is_last), (names("e", 1..=2), false));
    assert!(matches!(page(2).await, Err(restante::store::Error::Held(_))), "to be asked again: there is more, and nothing can be shown");
    holder.commits().await;
    assert_eq!(types(&page(2).await.unwrap().rows), names("f", 1..=2));
    world.is_consistent().await;
}

#[tokio::test]
async fn what_waits_of_a_feed_that_is_followed_no_more_ends_and_what_comes_after_does_not_come() {
    let world = World::new().await;
    let [alice, bob, carol] = world.users(["alice", "bob", "carol"]).await;
    let (feed, other) = (world.feed(alice).await, world.feed(alice).await);
    for feed in [feed, other] {
        world.follow(feed, &[bob, carol]).await;
    }
    world.publish_all(alice, feed, names("a", 1..=5)).await;
    world.publish_all(alice, other, names("b", 1..=5)).await;
    assert_eq!(world.page(bob, 0).await.rows.len(), 10);
    world.publish_all(alice, feed, names("c", 1..=5)).await;
    assert_eq!(world.store.unfollow(feed, &[bob]).await.unwrap(), FeedChange::Done);
    assert_eq!(types(&world.page(bob, 0).await.rows), names("b", 1..=5), "it is shown no more, before a job has ended it");
    while world.store.end_departures(2).await.unwrap().is_some() {}
    assert_eq!(world.count("select count(*) from message_status where ended = 'left' and status = 'expired'").await, 5);
    assert_eq!(world.count("select count(*) from endings").await, 0, "nobody is told");
    world.follow(feed, &[bob]).await;
    world.publish_all(alice, feed, names("d", 1..=2)).await;
    assert_eq!(types(&world.drain(bob).await), [names("b", 1..=5), names("d", 1..=2)].concat());
    assert_eq!(types(&world.drain(carol).await).len(), 17);
    world.is_consistent().await;
}

#[tokio::test]
async fn each_event_has_an_outcome_and_one_that_is_refused_leaves_nothing() {
    let world = World::new().await;
    let [alice, bob, eve] = world.users(["alice", "bob", "eve"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[bob]).await;
    let mine = |to| restante::store::EventRequest { may_publish_anywhere: false, ..event("mine", to) };
    let first = mine(EventTarget::Feed(feed));
    let again = first.clone();
    let mut late = event("late", EventTarget::Feed(feed));
    late.ttl = std::time::Duration::ZERO;
    let items = [
        first.clone(),
        mine(EventTarget::Everyone),
        mine(EventTarget::Users(vec![bob])),
        mine(EventTarget::Feed(FeedId::generate())),
        mine(EventTarget::Feed(FeedId::DIRECT)),
        mine(EventTarget::Feed(FeedId::EVERYONE)),
        late,
        again,
    ];
    let outcomes = world.store.publish(alice, &items).await.unwrap();
    let word = |outcome: &EventOutcome| format!("{outcome:?}").split([' ', '{']).next().unwrap().to_owned();
    let words: Vec<String> = outcomes.iter().map(word).collect();
    assert_eq!(words, ["Accepted", "Forbidden", "Forbidden", "NotFound", "NotFound", "Forbidden", "TooLate", "Duplicate"]);
    let (EventOutcome::Accepted { created_at, stream, woken, .. }, EventOutcome::Duplicate { created_at: first_time }) =
        (&outcomes[0], &outcomes[7])
    else {
        panic!("{outcomes:?}")
    };
    assert_eq!((created_at, stream, woken.len()), (first_time, &Some(ChatId(feed.0)), 0));
    let eves = world
        .store
        .publish(eve, &[mine(EventTarget::Feed(feed)), restante::store::EventRequest { may_publish_anywhere: true, ..first }])
        .await;
    assert_eq!(eves.unwrap().iter().map(word).collect::<Vec<_>>(), ["Forbidden", "Conflict"]);
    assert_eq!(world.count("select count(*) from messages").await, 1);
    assert_eq!(types(&world.drain(bob).await), ["mine"]);
    let progress = world.store.event(MessageId(items[0].id.0)).await.unwrap().unwrap();
    assert_eq!((progress.to, progress.publisher, progress.recipients, progress.rows.written), (EventAddress::Feed(feed), alice, None, 1));
    assert!(world.store.event(MessageId::generate()).await.unwrap().is_none());
    world.is_consistent().await;
}

#[tokio::test]
async fn feeds_are_listed_and_changed_by_those_who_may_and_nobody_follows_more_than_allowed() {
    let world = World::new().await;
    let [alice, bob, carol] = world.users(["alice", "bob", "carol"]).await;
    let store = &world.store;
    let feed = FeedId::generate();
    assert_eq!(store.make_feed(feed, alice, Some("news"), &[bob]).await.unwrap(), FeedChange::Done);
    assert_eq!(store.make_feed(feed, alice, Some("news"), &[]).await.unwrap(), FeedChange::Done, "the same maker may repeat it");
    assert_eq!(store.make_feed(feed, carol, None, &[]).await.unwrap(), FeedChange::Forbidden);
    assert_eq!(store.set_publishers(feed, bob, false, &[carol], &[]).await.unwrap(), FeedChange::Forbidden);
    assert_eq!(store.set_publishers(feed, alice, false, &[carol], &[bob, alice]).await.unwrap(), FeedChange::Done);
    assert_eq!(store.set_publishers(FeedId::EVERYONE, alice, true, &[carol], &[]).await.unwrap(), FeedChange::NotFound);
    let view = async |user| store.feed(user, feed).await.unwrap().unwrap();
    for (user, is_maker, is_publisher) in [(alice, true, true), (bob, false, false), (carol, false, true)] {
        let view = view(user).await;
        assert_eq!(
            (view.title.as_deref(), view.is_maker, view.is_publisher, view.is_follower),
            (Some("news"), is_maker, is_publisher, false)
        );
    }
    assert!(store.feed(alice, FeedId::DIRECT).await.unwrap().is_none());
    assert_eq!(store.follow(FeedId::generate(), &[bob]).await.unwrap(), FeedChange::NotFound);
    assert_eq!(store.follow(FeedId::DIRECT, &[bob]).await.unwrap(), FeedChange::NotFound);
    world.follow(feed, &[bob, carol]).await;
    let listed =
        async |user, role| store.feeds_of(user, role, None, 10).await.unwrap().into_iter().map(|view| view.feed).collect::<Vec<_>>();
    assert_eq!(listed(bob, FeedRole::Follower).await, [FeedId::EVERYONE, feed]);
    assert_eq!(listed(carol, FeedRole::Publisher).await, [feed]);
    assert_eq!(store.feeds_of(bob, FeedRole::Follower, Some(feed), 10).await.unwrap(), []);
    let followers = async |after: Option<&ExternalId>, limit| store.followers(feed, after, limit).await.unwrap();
    let first = followers(None, 1).await;
    let rest = followers(Some(&first[0].external), 10).await;
    assert_eq!([first[0].user, rest[0].user], [bob.min(carol), bob.max(carol)]);
    let mut among = store.followers_among(ChatId(feed.0), &[alice, carol, bob]).await.unwrap();
    among.sort();
    assert_eq!(among, [bob.min(carol), bob.max(carol)]);
    world.run("select restante_make_feed('alice', p_feed => md5(n::text)::uuid), restante_follow(md5(n::text)::uuid, '{bob}') from generate_series(1, 499) n").await;
    let one_more = world.feed(alice).await;
    assert_eq!(store.follow(one_more, &[carol, bob]).await.unwrap(), FeedChange::TooMany);
    assert!(!store.feed(carol, one_more).await.unwrap().unwrap().is_follower, "all of it, or nothing");
    world.is_consistent().await;
}

#[tokio::test]
async fn an_event_that_failed_is_a_dead_letter_that_comes_again_and_its_publisher_is_told_nothing() {
    let world = World::new().await;
    let [alice, bob] = world.users(["alice", "bob"]).await;
    let feed = world.feed(alice).await;
    world.follow(feed, &[bob]).await;
    world.publish_all(alice, feed, names("e", 1..=2)).await;
    world.page(bob, 0).await;
    world
        .run("select restante_attempt(array[user_id], array[class], array[seq], '{broken}', '{true}', 5) from message_status where seq = 1")
        .await;
    assert_eq!(world.count("select count(*) from endings where class = 'event' and status = 'failed'").await, 1);
    let dead = "select count(*) from restante_dead_letters('alice', 'bob', null, 'epoch', null, 'infinity', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 9000000000000000000, 50)";
    assert_eq!(world.count(dead).await, 1);
    let overview = world.store.overview(alice, None, None, None).await.unwrap();
    assert!(overview.marks.marks.is_empty(), "{overview:?}");
    world.run("select restante_requeue(message_id, 'bob') from message_status where status = 'failed'").await;
    let rows = world.drain(bob).await;
    assert_eq!(types(&rows), ["e2", "e1"]);
    assert!(rows.iter().all(|row| matches!(row, PageRow::Envelope(_))));
    world.is_consistent().await;
    assert_eq!(world.store.unfollow(feed, &[UserId(bob.0)]).await.unwrap(), FeedChange::Done);
}
