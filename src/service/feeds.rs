//! Feeds: making one, who publishes to it, who follows it. Nothing that a client chose is made for somebody who may not have it made.

use super::may::{Act, Relation, may};
use super::{Publisher, Refusal, Service};
use crate::domain::{ChatId, ExternalId, FeedId, Profile, UserId};
use crate::protocol::publish::PublishRight;
use crate::store::{FeedChange, FeedRole, FeedView, page_of};

/// A feed to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFeed {
    /// The id, when its maker has chosen one. The same maker may repeat it.
    pub feed: Option<FeedId>,
    /// Its title.
    pub title: Option<String>,
    /// Its publishers beside the maker, each once.
    pub publishers: Vec<ExternalId>,
}

/// A part of a user's feeds, in the order of their ids.
#[derive(Debug, Clone)]
pub struct FeedList {
    /// The feeds.
    pub feeds: Vec<FeedView>,
    /// More follow behind this feed; none: these were the last.
    pub next: Option<FeedId>,
}

/// A part of a feed's followers, in the order in which the service met them.
#[derive(Debug, Clone)]
pub struct FollowerList {
    /// The followers.
    pub followers: Vec<Profile>,
    /// More follow behind this user; none: these were the last.
    pub next: Option<ExternalId>,
}

/// A change of the publishers of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublisherChange {
    /// They may publish from now on.
    Add,
    /// They may not publish any more.
    Remove,
}

/// A change of the followers of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowChange {
    /// They get what is published from now on.
    Follow,
    /// They get nothing more, and what waits for them ends.
    Unfollow,
}

impl Service {
    /// Makes a feed, whose first publisher is the caller. With an id of its own it may be repeated.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`], [`Refusal::Conflict`]: another user has made a feed of this id, [`Refusal::PublishersTooMany`],
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn make_feed(&self, caller: &Publisher, new: NewFeed) -> Result<FeedId, Refusal> {
        self.count_feed_change(caller)?;
        let feed = new.feed.unwrap_or_else(|| FeedId::generate_by(&self.clock));
        let publishers = match new.feed {
            // The feed of this id stays as it is, so nobody is made known for it.
            Some(chosen) if self.is_there(caller, chosen).await? => Vec::new(),
            Some(_) | None => {
                // An application that publishes for all its users makes their feeds, too.
                if caller.role.publish_right() == PublishRight::OwnFeeds {
                    self.delivery.limits().check_group(caller.profile.user)?;
                }
                self.named_users(caller, &new.publishers).await?
            }
        };
        let making = self.store.make_feed(feed, caller.profile.user, new.title.as_deref(), &publishers);
        match self.ask(&caller.profile.external, "making a feed", making).await? {
            FeedChange::Done => Ok(feed),
            FeedChange::TooMany => Err(Refusal::PublishersTooMany),
            FeedChange::NotFound | FeedChange::Forbidden => Err(Refusal::Conflict),
        }
    }

    /// A feed as the caller sees it.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn feed(&self, caller: &Profile, feed: FeedId) -> Result<FeedView, Refusal> {
        let found = self.ask(&caller.external, "reading a feed", self.store.feed(caller.user, feed)).await?;
        found.ok_or(Refusal::NotFound)
    }

    /// The caller's feeds behind `after`, at most `limit`: those that it follows, or those that it may publish to.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn feeds(&self, caller: &Profile, role: FeedRole, after: Option<FeedId>, limit: u16) -> Result<FeedList, Refusal> {
        let feeds = self.ask(&caller.external, "listing feeds", self.store.feeds_of(caller.user, role, after, limit + 1)).await?;
        let (feeds, next) = page_of(feeds, limit, |view| view.feed);
        Ok(FeedList { feeds, next })
    }

    /// Followers of a feed behind `after`, at most `limit`, for its publishers and for tokens that may publish anywhere.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::NotAPublisher`], [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn followers(
        &self,
        caller: &Publisher,
        feed: FeedId,
        after: Option<&ExternalId>,
        limit: u16,
    ) -> Result<FollowerList, Refusal> {
        let view = self.feed(&caller.profile, feed).await?;
        may(caller.role, Act::ListFollowers, relation(&view))?;
        let followers = self.store.followers(feed, after, limit + 1);
        let followers = self.ask(&caller.profile.external, "listing followers", followers).await?;
        let (followers, next) = page_of(followers, limit, |follower| follower.external.clone());
        Ok(FollowerList { followers, next })
    }

    /// Changes who publishes to a feed, for its maker and for tokens that may publish anywhere. May be repeated.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`], [`Refusal::NotFound`], [`Refusal::NotTheMaker`], [`Refusal::PublishersTooMany`], [`Refusal::Busy`],
    /// [`Refusal::Unavailable`], or a defect.
    pub async fn change_publishers(
        &self,
        caller: &Publisher,
        feed: FeedId,
        change: PublisherChange,
        names: &[ExternalId],
    ) -> Result<(), Refusal> {
        self.count_feed_change(caller)?;
        let view = self.feed(&caller.profile, feed).await?;
        may(caller.role, Act::ChangePublishers, relation(&view))?;
        let (add, remove) = match change {
            PublisherChange::Add => (self.named_users(caller, names).await?, Vec::new()),
            PublisherChange::Remove => (Vec::new(), self.known_users(caller, names).await?),
        };
        let anywhere = caller.role.publish_right() == PublishRight::Anywhere;
        let changing = self.store.set_publishers(feed, caller.profile.user, anywhere, &add, &remove);
        match self.ask(&caller.profile.external, "changing the publishers of a feed", changing).await? {
            FeedChange::Done => Ok(()),
            FeedChange::NotFound => Err(Refusal::NotFound),
            FeedChange::Forbidden => Err(Refusal::NotTheMaker),
            FeedChange::TooMany => Err(Refusal::PublishersTooMany),
        }
    }

    /// Changes who follows a feed: the caller itself where `names` is none, else these users, for tokens that may publish anywhere. All
    /// of them or none. May be repeated.
    ///
    /// # Errors
    /// [`Refusal::NeedsEventsScope`], [`Refusal::RateLimited`], [`Refusal::NotFound`], [`Refusal::FollowsTooMany`],
    /// [`Refusal::FollowedByAll`], [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn change_followers(
        &self,
        caller: &Publisher,
        feed: FeedId,
        change: FollowChange,
        names: Option<&[ExternalId]>,
    ) -> Result<(), Refusal> {
        let own = std::slice::from_ref(&caller.profile.external);
        let names = names.filter(|names| *names != own);
        if names.is_some() {
            may(caller.role, Act::ChangeFollowers, Relation::Unknown)?;
        }
        self.count_feed_change(caller)?;
        let users = match (names, change) {
            (None, _) => vec![caller.profile.user],
            (Some(names), FollowChange::Follow) => {
                // Nobody is made for a feed that there is not.
                self.feed(&caller.profile, feed).await?;
                self.named_users(caller, names).await?
            }
            (Some(names), FollowChange::Unfollow) => self.known_users(caller, names).await?,
        };
        let done = match change {
            FollowChange::Follow => self.ask(&caller.profile.external, "following a feed", self.store.follow(feed, &users)).await?,
            // Rows that waited for them may have ended while their sessions hold them: the database tells every node.
            FollowChange::Unfollow => self.ask(&caller.profile.external, "leaving a feed", self.store.unfollow(feed, &users)).await?,
        };
        match done {
            FeedChange::Done => Ok(()),
            FeedChange::NotFound => Err(Refusal::NotFound),
            FeedChange::Forbidden => Err(Refusal::FollowedByAll),
            FeedChange::TooMany => Err(Refusal::FollowsTooMany),
        }
    }

    /// Counts a change of a feed as an event. A token with the scope for events is not counted.
    fn count_feed_change(&self, caller: &Publisher) -> Result<(), Refusal> {
        match caller.role.publish_right() {
            PublishRight::Anywhere => Ok(()),
            PublishRight::OwnFeeds => self.delivery.limits().check_event(caller.profile.user),
        }
    }

    /// Returns whether a feed, or anything else, has this id.
    async fn is_there(&self, caller: &Publisher, feed: FeedId) -> Result<bool, Refusal> {
        self.ask(&caller.profile.external, "looking for a feed", self.store.chat_is_there(ChatId(feed.0))).await
    }

    /// The numbers of these users. Those that are new are made, for a caller that has the right to name them; without the scope for events
    /// they are charged to it.
    async fn named_users(&self, caller: &Publisher, names: &[ExternalId]) -> Result<Vec<UserId>, Refusal> {
        const WHAT: &str = "finding the users of a feed";
        let mut known = self.ask(&caller.profile.external, WHAT, self.store.known_users(names)).await?;
        let unknown: Vec<ExternalId> = names.iter().filter(|name| !known.contains_key(name)).cloned().collect();
        if !unknown.is_empty() {
            if caller.role.publish_right() == PublishRight::OwnFeeds {
                self.delivery.limits().check_named_users(caller.profile.user, unknown.len())?;
            }
            known.extend(self.make_users(&caller.profile, &unknown).await?);
        }
        Ok(known.into_values().collect())
    }

    /// The numbers of those of these users that there are.
    async fn known_users(&self, caller: &Publisher, names: &[ExternalId]) -> Result<Vec<UserId>, Refusal> {
        let known = self.ask(&caller.profile.external, "finding the users of a feed", self.store.known_users(names)).await?;
        Ok(known.into_values().collect())
    }
}

/// The relation to a feed of the caller that sees it so.
const fn relation(view: &FeedView) -> Relation {
    match (view.is_maker, view.is_publisher) {
        (true, _) => Relation::Maker,
        (false, true) => Relation::Publisher,
        (false, false) => Relation::Stranger,
    }
}
