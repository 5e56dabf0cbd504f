//! Accounts and their logins. Passwords and refresh tokens come here as hashes only.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, Store};
use crate::domain::ExternalId;

/// A login that is to begin.
#[derive(Debug)]
pub struct NewLogin<'a> {
    /// The account.
    pub name: &'a ExternalId,
    /// The hash against which its password was verified.
    pub verified: &'a str,
    /// A hash of the same password that takes its place.
    pub new_hash: Option<&'a str>,
    /// The id of the login.
    pub id: Uuid,
    /// The family of its refresh tokens.
    pub family: Uuid,
    /// The hash of its first refresh token.
    pub secret_hash: &'a [u8],
}

/// The times of logins, and how many an account has.
#[derive(Debug, Clone, Copy)]
pub struct LoginTimes {
    /// The time for which a refresh token is good.
    pub idle: Duration,
    /// The time after which a login expires, however often it was renewed.
    pub lifetime: Duration,
    /// The time for which a refresh token that was used counts once more.
    pub grace: Duration,
    /// The time for which an access token is good.
    pub access: Duration,
    /// Logins of one account.
    pub logins_max: u16,
}

impl LoginTimes {
    /// The clocks of a node and of the database may differ by so much.
    const CLOCKS: Duration = Duration::from_secs(60);

    /// The time for which a revocation of access tokens is kept: they have expired by then.
    pub fn revoked_for(&self) -> Duration {
        self.access.saturating_add(Self::CLOCKS)
    }
}

/// A login that has begun.
#[derive(Debug, Clone)]
pub struct BegunLogin {
    /// The name that is shown.
    pub display_name: Option<String>,
    /// The end of its refresh token.
    pub ends_at: OffsetDateTime,
    /// Logins that have ended for it.
    pub ended: Vec<Uuid>,
}

/// The outcome of a refresh token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refreshed {
    /// The next one counts.
    Renewed(RenewedLogin),
    /// It is of no login that lasts.
    Unknown,
    /// It was used before: its login has ended.
    Reused {
        /// The account.
        name: ExternalId,
        /// The id of the login.
        id: Uuid,
    },
}

/// A login that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewedLogin {
    /// The account.
    pub name: ExternalId,
    /// The name that is shown.
    pub display_name: Option<String>,
    /// The id of the login.
    pub id: Uuid,
    /// The end of its refresh token.
    pub ends_at: OffsetDateTime,
}

impl Store {
    /// Makes an account. False: its name is taken.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn register_account(&self, name: &ExternalId, display_name: Option<&str>, hash: &str) -> Result<bool> {
        let asked = sqlx::query_file!("src/store/sql/register_account.sql", name.as_str(), display_name, hash);
        Ok(asked.execute(self.database()).await?.rows_affected() > 0)
    }

    /// The hash of an account's password; none: there is no such account.
    ///
    /// # Errors
    /// As [`Self::register_account`].
    pub async fn account_hash(&self, name: &ExternalId) -> Result<Option<String>> {
        Ok(sqlx::query_file_scalar!("src/store/sql/account_hash.sql", name.as_str()).fetch_optional(self.database()).await?)
    }

    /// Begins a login. None: the account has another hash by now.
    ///
    /// # Errors
    /// As [`Self::register_account`].
    pub async fn log_in(&self, new: NewLogin<'_>, times: LoginTimes) -> Result<Option<BegunLogin>> {
        let asked = sqlx::query_file!(
            "src/store/sql/log_in.sql",
            new.name.as_str(),
            new.verified,
            new.new_hash,
            new.id,
            new.family,
            new.secret_hash,
            times.idle.as_secs_f64(),
            times.lifetime.as_secs_f64(),
            i32::from(times.logins_max),
            times.revoked_for().as_secs_f64()
        );
        let row = asked.fetch_one(self.database()).await?;
        let begun = |ends_at| BegunLogin { display_name: row.display_name, ends_at, ended: row.ended };
        Ok(row.ends_at.filter(|_| row.is_done).map(begun))
    }

    /// Puts the refresh token with the hash `next` in the place of the presented one.
    ///
    /// # Errors
    /// As [`Self::register_account`].
    pub async fn refresh_login(&self, family: Uuid, presented: &[u8], next: &[u8], times: LoginTimes) -> Result<Refreshed> {
        let asked = sqlx::query_file!(
            "src/store/sql/refresh_login.sql",
            family,
            presented,
            next,
            times.idle.as_secs_f64(),
            times.grace.as_secs_f64(),
            times.revoked_for().as_secs_f64()
        );
        let row = asked.fetch_one(self.database()).await?;
        let name = row.name.and_then(|name| ExternalId::try_from(name).ok());
        Ok(match (row.outcome.as_str(), name, row.login_id, row.ends_at) {
            ("renewed", Some(name), Some(id), Some(ends_at)) => {
                Refreshed::Renewed(RenewedLogin { name, display_name: row.display_name, id, ends_at })
            }
            ("reused", Some(name), Some(id), _) => Refreshed::Reused { name, id },
            _ => Refreshed::Unknown,
        })
    }

    /// Changes a password, and ends the logins of its account but `kept`. Returns those that have ended; none: the account has another hash by now.
    ///
    /// # Errors
    /// As [`Self::register_account`].
    pub async fn change_password(
        &self,
        name: &ExternalId,
        verified: &str,
        new_hash: &str,
        kept: Option<Uuid>,
        times: LoginTimes,
    ) -> Result<Option<Vec<Uuid>>> {
        let access = times.revoked_for().as_secs_f64();
        let asked = sqlx::query_file!("src/store/sql/change_password.sql", name.as_str(), verified, new_hash, kept, access);
        let row = asked.fetch_one(self.database()).await?;
        Ok(row.is_done.then_some(row.ended))
    }

    /// Ends the login of this family. Returns its id, where it had not ended before.
    ///
    /// # Errors
    /// As [`Self::register_account`].
    pub async fn log_out(&self, family: Uuid, times: LoginTimes) -> Result<Vec<Uuid>> {
        self.end_logins(None, Some(family), times).await
    }

    /// Ends all logins of an account. Returns them.
    ///
    /// # Errors
    /// As [`Self::register_account`].
    pub async fn log_out_everywhere(&self, name: &ExternalId, times: LoginTimes) -> Result<Vec<Uuid>> {
        self.end_logins(Some(name), None, times).await
    }

    async fn end_logins(&self, name: Option<&ExternalId>, family: Option<Uuid>, times: LoginTimes) -> Result<Vec<Uuid>> {
        let (name, access) = (name.map(ExternalId::as_str), times.revoked_for().as_secs_f64());
        Ok(sqlx::query_file_scalar!("src/store/sql/log_out.sql", name, family, access).fetch_one(self.database()).await?)
    }

    /// Removes logins that have ended, at most `rows_max`. Returns how many. May be repeated.
    ///
    /// # Errors
    /// As [`Self::register_account`].
    pub async fn purge_logins(&self, rows_max: u16) -> Result<usize> {
        let done = sqlx::query_file!("src/store/sql/purge_logins.sql", i64::from(rows_max)).execute(self.database()).await?;
        Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
    }
}
