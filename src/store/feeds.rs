//! Feeds: making them, who publishes to them, who follows them, and the step in which their events become rows of an inbox.

use time::OffsetDateTime;
use uuid::Uuid;

use super::rows::profile;
use super::{Error, Result, Store, enums};
use crate::domain::{ChatId, Class, ExternalId, FeedId, Profile, UserId, limits};

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
    /// Rows that waited have ended: newer events of their collapse keys came.
    pub superseded: bool,
}

impl Store {
    /// Makes a feed. Its maker is its first publisher, and may add and remove the others. The same maker may repeat it.
    /// `Forbidden`: somebody else has made a feed of this id. `TooMany`: more publishers than allowed.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Invalid`]: PostgreSQL refuses a value. [`Error::Failed`]: a defect.
    pub async fn make_feed(&self, feed: FeedId, maker: UserId, title: Option<&str>, publishers: &[UserId]) -> Result<FeedChange> {
        let publishers = numbers(publishers);
        let max = setting(limits::PUBLISHERS_MAX);
        let asked = sqlx::query_file_scalar!("src/store/sql/make_feed.sql", feed.0, maker.0, title, &publishers, max);
        change(&asked.fetch_one(self.database()).await?)
    }

    /// A feed as this user sees it. None: there is no such feed.
    ///
    /// # Errors
    /// As [`Self::make_feed`].
    pub async fn feed(&self, user: UserId, feed: FeedId) -> Result<Option<FeedView>> {
        let asked = sqlx::query_file!("src/store/sql/feed.sql", user.0, feed.0);
        let row = asked.fetch_optional(self.database()).await?;
        Ok(row.map(|row| FeedView {
            feed,
            title: row.title,
            created_at: row.created_at,
            is_maker: row.is_maker,
            is_publisher: row.is_publisher,
            is_follower: row.is_follower,
        }))
    }

    /// These users follow the feed from now on: they get what is published after this.
    ///
    /// # Errors
    /// As [`Self::make_feed`].
    pub async fn follow(&self, feed: FeedId, users: &[UserId]) -> Result<FeedChange> {
        let asked = sqlx::query_file_scalar!("src/store/sql/follow.sql", feed.0, &numbers(users), setting(limits::FOLLOWS_MAX));
        change(&asked.fetch_one(self.database()).await?)
    }

    /// These users follow the feed no more, and what of it waits for them ends. Nobody can leave the feed of everyone (`Forbidden`).
    ///
    /// # Errors
    /// As [`Self::make_feed`].
    pub async fn unfollow(&self, feed: FeedId, users: &[UserId]) -> Result<FeedChange> {
        let asked = sqlx::query_file_scalar!("src/store/sql/unfollow.sql", feed.0, &numbers(users));
        change(&asked.fetch_one(self.database()).await?)
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
        let (add, remove, max) = (numbers(add), numbers(remove), setting(limits::PUBLISHERS_MAX));
        let asked =
            sqlx::query_file_scalar!("src/store/sql/set_publishers.sql", feed.0, caller.0, may_publish_anywhere, &add, &remove, max);
        change(&asked.fetch_one(self.database()).await?)
    }

    /// A user's feeds in the order of their ids, those after `after`, at most `limit`.
    ///
    /// # Errors
    /// As [`Self::make_feed`].
    pub async fn feeds_of(&self, user: UserId, role: FeedRole, after: Option<FeedId>, limit: u16) -> Result<Vec<FeedView>> {
        // PostgreSQL orders UUIDs by their bytes, as the number is ordered.
        let Some(from) = after.map_or(Some(0), |feed| feed.0.as_u128().checked_add(1)) else { return Ok(Vec::new()) };
        let (from, limit) = (Uuid::from_u128(from), i64::from(limit));
        match role {
            FeedRole::Follower => {
                let asked = sqlx::query_file_as!(RawFeed, "src/store/sql/feeds_followed.sql", user.0, from, limit);
                Ok(asked.fetch_all(self.database()).await?.into_iter().map(FeedView::from).collect())
            }
            FeedRole::Publisher => {
                let asked = sqlx::query_file_as!(RawFeed, "src/store/sql/feeds_published.sql", user.0, from, limit);
                Ok(asked.fetch_all(self.database()).await?.into_iter().map(FeedView::from).collect())
            }
        }
    }

    /// Followers of a feed in the order in which the service met them, those behind `after`, at most `limit`. It checks no rights.
    ///
    /// # Errors
    /// As [`Self::make_feed`].
    pub async fn followers(&self, feed: FeedId, after: Option<&ExternalId>, limit: u16) -> Result<Vec<Profile>> {
        let after = after.map(ExternalId::as_str);
        let asked = sqlx::query_file!("src/store/sql/followers.sql", feed.0, after, i64::from(limit));
        let rows = asked.fetch_all(self.database()).await?;
        rows.into_iter().map(|row| profile(row.user_id, row.external_id, row.name, row.picture)).collect()
    }

    /// Those of these users that follow a stream. A thousand users are a small statement.
    ///
    /// # Errors
    /// As [`Self::make_feed`].
    pub async fn followers_among(&self, stream: ChatId, users: &[UserId]) -> Result<Vec<UserId>> {
        let asked = sqlx::query_file_scalar!("src/store/sql/followers_among.sql", stream.0, &numbers(users));
        Ok(asked.fetch_all(self.database()).await?.into_iter().map(UserId).collect())
    }

    /// Makes rows of what is new in the feeds that a user follows, at most `limit`, oldest first. What ended before takes one number
    /// for each run and feed. [`Store::page`] does it before it reads.
    ///
    /// # Errors
    /// As [`Self::make_feed`].
    pub async fn take(&self, user: UserId, class: Class, limit: u16) -> Result<Taken> {
        let max = setting(limits::EVENTS_PER_USER_MAX);
        let asked = sqlx::query_file!("src/store/sql/take.sql", user.0, enums::Class::from(class) as enums::Class, i32::from(limit), max);
        let row = asked.fetch_one(self.database()).await?;
        Ok(Taken { numbers: u32::try_from(row.numbers).unwrap_or_default(), more: row.more, superseded: row.superseded })
    }
}

/// A row of any of the statements that list feeds.
struct RawFeed {
    feed_id: Uuid,
    title: Option<String>,
    created_at: OffsetDateTime,
    is_maker: bool,
    is_publisher: bool,
    is_follower: bool,
}

impl From<RawFeed> for FeedView {
    fn from(row: RawFeed) -> Self {
        let RawFeed { feed_id, title, created_at, is_maker, is_publisher, is_follower } = row;
        Self { feed: FeedId(feed_id), title, created_at, is_maker, is_publisher, is_follower }
    }
}

fn change(outcome: &str) -> Result<FeedChange> {
    match outcome {
        "done" => Ok(FeedChange::Done),
        "not_found" => Ok(FeedChange::NotFound),
        "forbidden" => Ok(FeedChange::Forbidden),
        "too_many" => Ok(FeedChange::TooMany),
        other => Err(Error::Failed(sqlx::Error::Decode(format!("a change of a feed returned the outcome {other:?}").into()))),
    }
}

pub(super) fn numbers(users: &[UserId]) -> Vec<i64> {
    users.iter().map(|user| user.0).collect()
}

/// A limit as the schema takes it.
pub(super) fn setting(limit: u32) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}
