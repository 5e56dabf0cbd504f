//! Users, and when they were last there.

use std::collections::HashMap;

use time::OffsetDateTime;

use super::{Error, Result, Store};
use crate::domain::{ChatId, ExternalId, Profile, UserId};

/// A user somebody asked about, and may know of.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Its number.
    pub user: UserId,
    /// The time at which its last connection ended; none: no end is known.
    pub last_seen: Option<OffsetDateTime>,
    /// True if a node says that it is connected.
    pub online: bool,
}

/// A user who is watched for an asker.
#[derive(Debug, Clone)]
pub struct WatchedUser {
    /// The user who asked to be told.
    pub asker: UserId,
    /// The user who is watched.
    pub user: UserId,
    /// Its id outside.
    pub external: ExternalId,
    /// True if the asker may see it: they share a chat, or are contacts where only these write to one another, and neither has blocked
    /// the other; or they are one user.
    pub is_visible: bool,
    /// It has a lease, of whatever node. The end of a lease is told when it is taken out.
    pub online: bool,
    /// By the database's clock: now for a user who is online, else the end of its last connection as far as it is known.
    pub at: OffsetDateTime,
}

/// The way in which a user becomes known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coming {
    /// It brings a token of its own.
    WithToken,
    /// Another user names it.
    Named,
}

/// A user who signs in.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// The user.
    pub profile: Profile,
    /// The user was named by others before, and comes for the first time.
    pub is_first: bool,
}

impl Store {
    /// The numbers of those of these users that there are. Nothing is made.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Invalid`]: PostgreSQL refuses a value. [`Error::Failed`]: a defect.
    pub async fn known_users(&self, names: &[ExternalId]) -> Result<HashMap<ExternalId, UserId>> {
        let texts: Vec<String> = names.iter().map(|name| name.as_str().to_owned()).collect();
        let rows = sqlx::query_file!("src/store/sql/known_users.sql", &texts).fetch_all(self.database()).await?;
        Ok(rows.into_iter().filter_map(|row| Some((ExternalId::try_from(row.external_id).ok()?, UserId(row.id)))).collect())
    }

    /// The numbers of these users. Those that are new are made, with their inboxes: for a caller that has the right to make them.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Invalid`]: PostgreSQL refuses a value. [`Error::Failed`]: a defect.
    pub async fn users(&self, names: &[ExternalId]) -> Result<HashMap<ExternalId, UserId>> {
        self.make_users(names, Coming::Named).await
    }

    async fn make_users(&self, names: &[ExternalId], coming: Coming) -> Result<HashMap<ExternalId, UserId>> {
        let texts: Vec<String> = names.iter().map(|name| name.as_str().to_owned()).collect();
        let have_come = coming == Coming::WithToken;
        let rows = sqlx::query_file!("src/store/sql/users.sql", &texts, have_come).fetch_all(self.database()).await?;
        Ok(rows.into_iter().filter_map(|row| Some((ExternalId::try_from(row.external_id).ok()?, UserId(row.id)))).collect())
    }

    /// The user of a token, made on first sight, with the name and picture that the token brings.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Invalid`]: PostgreSQL refuses a value. [`Error::Failed`]: a defect.
    pub async fn sign_in(&self, external: ExternalId, name: Option<String>, picture: Option<String>) -> Result<SignedIn> {
        let known = sqlx::query_file!("src/store/sql/sign_in.sql", external.as_str()).fetch_optional(self.database()).await?;
        let (user, known_name, known_picture, is_first) = match known {
            Some(row) => (UserId(row.id), row.display_name, row.avatar_url, row.is_first),
            None => {
                let made = self.make_users(std::slice::from_ref(&external), Coming::WithToken).await?;
                (*made.get(&external).ok_or(Error::Failed(sqlx::Error::RowNotFound))?, None, None, false)
            }
        };
        let is_news = (name.is_some() && name != known_name) || (picture.is_some() && picture != known_picture);
        if is_news || is_first {
            sqlx::query_file!("src/store/sql/update_profile.sql", user.0, name, picture).execute(self.database()).await?;
        }
        let profile = Profile { user, external, name: name.or(known_name), picture: picture.or(known_picture) };
        Ok(SignedIn { profile, is_first })
    }

    /// Returns those of these users whom the asker may see: who share a chat with it, or are its contacts where only these write to one
    /// another. Neither has blocked the other.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn presence(&self, asker: UserId, of: &[ExternalId]) -> Result<Vec<(ExternalId, Known)>> {
        let texts: Vec<String> = of.iter().map(|name| name.as_str().to_owned()).collect();
        let rows =
            sqlx::query_file!("src/store/sql/presence.sql", asker.0, &texts, self.is_for_contacts()).fetch_all(self.database()).await?;
        let known = |user, last_seen, online| Known { user: UserId(user), last_seen, online };
        Ok(rows
            .into_iter()
            .filter_map(|row| Some((ExternalId::try_from(row.external_id).ok()?, known(row.user_id, row.seen_at, row.online))))
            .collect())
    }

    /// The users who are watched for askers, as pairs of asker and user. A pair is left out where the user is unknown.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn watched(&self, pairs: &[(UserId, UserId)]) -> Result<Vec<WatchedUser>> {
        let (askers, users): (Vec<i64>, Vec<i64>) = pairs.iter().map(|(asker, user)| (asker.0, user.0)).unzip();
        let rows =
            sqlx::query_file!("src/store/sql/watched.sql", &askers, &users, self.is_for_contacts()).fetch_all(self.database()).await?;
        let watched = rows.into_iter().filter_map(|row| {
            let (asker, user, at) = (UserId(row.asker), UserId(row.watched), if row.online { row.now } else { row.seen_at });
            let external = ExternalId::try_from(row.external_id).ok()?;
            Some(WatchedUser { asker, user, external, is_visible: row.is_visible, online: row.online, at })
        });
        Ok(watched.collect())
    }

    /// The other members of a chat that may learn of what the user does there, at most 500; nobody when the user is not one of them.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn audience(&self, user: UserId, chat: ChatId) -> Result<Vec<UserId>> {
        let asked = sqlx::query_file_scalar!("src/store/sql/audience.sql", user.0, chat.0, self.is_for_contacts());
        let rows = asked.fetch_all(self.database()).await?;
        Ok(rows.into_iter().map(UserId).collect())
    }
}
