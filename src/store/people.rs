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
    /// Whether a node says that it is connected.
    pub online: bool,
}

impl Store {
    /// The numbers of these users. Those that are new are made, with their inboxes.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Invalid`]: PostgreSQL refuses a value. [`Error::Failed`]: a defect.
    pub async fn users(&self, names: &[ExternalId]) -> Result<HashMap<ExternalId, UserId>> {
        let texts: Vec<String> = names.iter().map(|name| name.as_str().to_owned()).collect();
        let rows = sqlx::query_file!("src/store/sql/users.sql", &texts).fetch_all(self.database()).await?;
        Ok(rows.into_iter().filter_map(|row| Some((ExternalId::try_from(row.external_id).ok()?, UserId(row.id)))).collect())
    }

    /// The user of a token, made on first sight, with the name and picture that the token brings.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Invalid`]: PostgreSQL refuses a value. [`Error::Failed`]: a defect.
    pub async fn sign_in(&self, external: ExternalId, name: Option<String>, picture: Option<String>) -> Result<Profile> {
        let known = sqlx::query_file!("src/store/sql/sign_in.sql", external.as_str()).fetch_optional(self.database()).await?;
        let (user, known_name, known_picture) = match known {
            Some(row) => (UserId(row.id), row.display_name, row.avatar_url),
            None => {
                let made = self.users(std::slice::from_ref(&external)).await?;
                (*made.get(&external).ok_or(Error::Failed(sqlx::Error::RowNotFound))?, None, None)
            }
        };
        let is_news = (name.is_some() && name != known_name) || (picture.is_some() && picture != known_picture);
        if is_news {
            sqlx::query_file!("src/store/sql/update_profile.sql", user.0, name, picture).execute(self.database()).await?;
        }
        Ok(Profile { user, external, name: name.or(known_name), picture: picture.or(known_picture) })
    }

    /// Returns those of these users who share a chat with the asker.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn presence(&self, asker: UserId, of: &[ExternalId]) -> Result<Vec<(ExternalId, Known)>> {
        let texts: Vec<String> = of.iter().map(|name| name.as_str().to_owned()).collect();
        let rows = sqlx::query_file!("src/store/sql/presence.sql", asker.0, &texts).fetch_all(self.database()).await?;
        let known = |user, last_seen, online| Known { user: UserId(user), last_seen, online };
        Ok(rows
            .into_iter()
            .filter_map(|row| Some((ExternalId::try_from(row.external_id).ok()?, known(row.user_id, row.seen_at, row.online))))
            .collect())
    }

    /// The other members of a chat, at most 500; nobody when the user is not one of them.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn audience(&self, user: UserId, chat: ChatId) -> Result<Vec<UserId>> {
        let rows = sqlx::query_file_scalar!("src/store/sql/audience.sql", user.0, chat.0).fetch_all(self.database()).await?;
        Ok(rows.into_iter().map(UserId).collect())
    }
}
