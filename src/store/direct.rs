//! Direct chats of many users at once, found or made. A chat is only ever found by its key, which the two users' numbers make:
//! none is given to somebody who is not in it.

use uuid::Uuid;

use super::{Error, LockTimeout, Result, Store};
use crate::domain::{ChatId, ExternalId, UserId};

/// Direct chats that are asked for, as columns.
#[derive(Debug, Default)]
pub struct DirectBatch {
    users: Vec<i64>,
    others: Vec<String>,
    make: Vec<bool>,
}

/// A direct chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectChat {
    /// Its id.
    pub chat: ChatId,
    /// True if it was made by this call.
    pub is_new: bool,
}

/// The answer to a question for a direct chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectLookup {
    /// It is there.
    Found(DirectChat),
    /// It is not there, and was not to be made. With whether there is a user of the other name.
    Missing {
        /// There is a user of the other name.
        is_other_known: bool,
    },
}

impl DirectLookup {
    /// The chat, where there is one.
    pub const fn found(self) -> Option<DirectChat> {
        match self {
            Self::Found(chat) => Some(chat),
            Self::Missing { .. } => None,
        }
    }
}

impl DirectBatch {
    /// The chat of this user with the one of this name; where it may be made, so may the other user. A pair should not stand in
    /// a batch twice.
    pub fn push(&mut self, user: UserId, other: &ExternalId, make: bool) {
        self.users.push(user.0);
        self.others.push(other.as_str().to_owned());
        self.make.push(make);
    }
}

impl Store {
    /// The chats of a batch in its order. All of them or, on an error, none.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Taken`]: a unique value exists already. [`Error::Invalid`]: PostgreSQL refuses a value. [`Error::Failed`]: a
    /// defect.
    pub async fn direct_chats(&self, asked: &DirectBatch, lock_timeout: LockTimeout) -> Result<Vec<DirectLookup>> {
        let DirectBatch { users, others, make } = asked;
        let found = sqlx::query_file!("src/store/sql/direct_chats.sql", users, others, make, lock_timeout.value(), self.is_for_contacts());
        let found = found.fetch_one(self.database()).await?;
        let (chats, made) = (found.chats.unwrap_or_default(), found.made.unwrap_or_else(|| vec![false; users.len()]));
        let is_known = found.is_known.unwrap_or_else(|| vec![true; users.len()]);
        if [chats.len(), made.len(), is_known.len()] != [users.len(); 3] {
            return Err(Error::Failed(sqlx::Error::Decode("restante_direct_chats has not answered every question".into())));
        }
        let answer = |((chat, is_new), is_other_known): ((Option<Uuid>, bool), bool)| match chat {
            Some(chat) => DirectLookup::Found(DirectChat { chat: ChatId(chat), is_new }),
            None => DirectLookup::Missing { is_other_known },
        };
        Ok(chats.into_iter().zip(made).zip(is_known).map(answer).collect())
    }
}
