//! Feeds: making them, who publishes to them, who follows them, and the step in which their events become rows of an inbox.

use time::OffsetDateTime;

use super::{Error, Result, Store};
use crate::domain::{ChatId, Class, ExternalId, FeedId, Profile, UserId};

/// A feed as one user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedView {
    /// The feed.
    pub feed: FeedId,
    /// Its title.
    pub title: Option<String>,
    /// The time at which it was made.
    pub created_at: OffsetDateTime,
    /// The user made it.
    pub is_maker: bool,
    /// The user may publish to it. A maker may.
    pub is_publisher: bool,
    /// The user follows it.
    pub is_follower: bool,
}

/// The outcome of a change of a feed. Anything but `Done` has changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedChange {
    /// It is as asked for now; it may have been before.
    Done,
    /// There is no such feed, or it is none that clients see.
    NotFound,
    /// The caller has no right to it, or the feed is one that nobody may change so.
    Forbidden,
    /// A user would follow, or a feed have, more than allowed.
    TooMany,
}

/// The feeds that a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedRole {
    /// Those that the user follows.
    Follower,
    /// Those that the user may publish to.
    Publisher,
}

/// A part of what was new in the followed feeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Numbers of the inbox that were given, to rows and to gaps.
    pub numbers: u32,
    /// There may be more to take.
    pub more: bool,
}

impl Store {
    /// Makes a feed. Its maker is its first publisher, and may add and remove the others. The same maker may repeat it.
    /// `Forbidden`: somebody else has made a feed of this id. `TooMany`: more publishers than allowed.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Invalid`]: PostgreSQL refuses a value. [`Error::Failed`]: a defect.
    pub async fn make_feed(&self, feed: FeedId, maker: UserId, title: Option<&str>, publishers: &[UserId]) -> Result<FeedChange> {
        let _ = (feed, maker, title, publishers);
        Err(not_yet())
    }

    /// A feed as this user sees it. None: there is no such feed.
    ///
    /// # Errors
    /// As [`Self::make_feed`].
    pub async fn feed(&self, user: UserId, feed: FeedId) -> Result<Option<FeedView>> {
        let _ = (user, feed);
        Err(not_yet())
    }

    /// These users follow the feed from now on: they get what is published after this.
    ///
    /// # Errors
    /// As [`Self::make_feed`].
    pub async fn follow(&self, feed: FeedId, users: &[UserId]) -> Result<FeedChange> {
        let _ = (feed, users);
        Err(not_yet())
    }

    /// These users follow the feed no more, and what of it waits for them ends. Nobody can leave the feed of everyone (`Forbidden`).
    ///
    /// # Errors
    /// As [`Self::make_feed`].
    pub async fn unfollow(&self, feed: FeedId, users: &[UserId]) -> Result<FeedChange> {
        let _ = (feed, users);
        Err(not_yet())
    }

    /// Adds publishers to a feed and removes others. Only its maker may, or a caller who may publish anywhere. The maker itself stays.
    ///
    /// # Errors
    /// As [`Self::make_feed`].
    pub async fn set_publishers(
        &self,
        feed: FeedId,
        caller: UserId,
        may_publish_anywhere: bool,
        add: &[UserId],
        remove: &[UserId],
    ) -> Result<FeedChange> {
        let _ = (feed, caller, may_publish_anywhere, add, remove);
        Err(not_yet())
    }

    /// A user's feeds in the order of their ids, those after `after`, at most `limit`.
    ///
    /// # Errors
    /// As [`Self::make_feed`].
    pub async fn feeds_of(&self, user: UserId, role: FeedRole, after: Option<FeedId>, limit: u16) -> Result<Vec<FeedView>> {
        let _ = (user, role, after, limit);
        Err(not_yet())
    }

    /// Followers of a feed in the order in which the service met them, those behind `after`, at most `limit`. It checks no rights.
    ///
    /// # Errors
    /// As [`Self::make_feed`].
    pub async fn followers(&self, feed: FeedId, after: Option<&ExternalId>, limit: u16) -> Result<Vec<Profile>> {
        let _ = (feed, after, limit);
        Err(not_yet())
    }

    /// Those of these users that follow a stream. A thousand users are a small statement.
    ///
    /// # Errors
    /// As [`Self::make_feed`].
    pub async fn followers_among(&self, stream: ChatId, users: &[UserId]) -> Result<Vec<UserId>> {
        let _ = (stream, users);
        Err(not_yet())
    }

    /// Makes rows of what is new in the feeds that a user follows, at most `limit`, oldest first. What ended before takes one number
    /// for each run and feed. [`Store::page`] does it before it reads.
    ///
    /// # Errors
    /// As [`Self::make_feed`].
    pub async fn take(&self, user: UserId, class: Class, limit: u16) -> Result<Taken> {
        let _ = (user, class, limit);
        Err(not_yet())
    }
}

fn not_yet() -> Error {
    Error::Failed(sqlx::Error::Decode("not yet".into()))
}
