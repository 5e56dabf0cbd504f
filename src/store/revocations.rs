//! Revocations: tokens that are worth nothing although they have not expired.

use std::fmt;
use std::time::Duration;

use time::OffsetDateTime;

use uuid::Uuid;

use super::{Result, Store, audit};
use crate::domain::{DeviceId, ExternalId, Operator, Revocation, Revoked};

/// A revocation that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRevocation {
    /// The tokens that it concerns.
    pub revoked: Revoked,
    /// The operator's words, at most 500 characters.
    pub reason: Option<String>,
    /// The time at which the tokens have expired; none: when tokens that are issued now have ([`Store::begin_tokens`]).
    pub expires_at: Option<OffsetDateTime>,
    /// The operator; none: the role of the connection.
    pub operator: Option<Operator>,
}

/// A place in the list of revocations, which is in the order of their times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationPlace {
    /// The time of a revocation.
    pub at: OffsetDateTime,
    /// Its number.
    pub number: i64,
}

/// The text form: microseconds since 1970 and the number, with a dot between them. Clients pass it back unread.
impl fmt::Display for RevocationPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at.unix_timestamp_nanos() / 1_000, self.number)
    }
}

impl RevocationPlace {
    /// Behind all.
    pub const LAST: Self = Self { at: time::macros::datetime!(9999-12-31 0:00 UTC), number: i64::MAX };

    /// The place of this one.
    pub const fn of(revocation: &Revocation) -> Self {
        Self { at: revocation.at, number: revocation.number }
    }

    /// Reads the text form; none: the text is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let (micros, number) = text.split_once('.')?;
        let at = OffsetDateTime::from_unix_timestamp_nanos(micros.parse::<i128>().ok()?.checked_mul(1_000)?).ok()?;
        Some(Self { at, number: number.parse().ok()? })
    }
}

/// The transactions that were over at a moment, as PostgreSQL writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(String);

impl Snapshot {
    /// None was.
    pub fn of_nothing() -> Self {
        Self("1:1:".to_owned())
    }
}

/// A place among revocations in the order of the transactions that wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenPlace {
    xid: String,
    number: i64,
}

impl WrittenPlace {
    /// Before all.
    pub fn first() -> Self {
        Self { xid: "0".to_owned(), number: 0 }
    }
}

/// A part of what was written since a snapshot.
#[derive(Debug)]
pub struct WrittenPage {
    /// The revocations. A row that somebody has written by hand, and that is none, is left out.
    pub revocations: Vec<Revocation>,
    /// More may follow behind this place; none: these were the last.
    pub next: Option<WrittenPlace>,
}

/// A row of the table.
struct RevocationRow {
    number: i64,
    user_name: Option<String>,
    device_id: Option<String>,
    token_id: Option<String>,
    of_login: bool,
    revoked_at: OffsetDateTime,
    expires_at: OffsetDateTime,
    reason: Option<String>,
    revoked_by: String,
    xid: String,
}

impl RevocationRow {
    /// None: somebody has written by hand what is no name.
    fn read(self) -> Option<Revocation> {
        let revoked = match (self.user_name, self.device_id, self.token_id) {
            (None, None, Some(id)) if self.of_login => Revoked::Login(Uuid::try_parse(&id).ok()?),
            (None, None, Some(id)) => Revoked::Token(id),
            (Some(user), None, None) => Revoked::User(ExternalId::try_from(user).ok()?),
            (Some(user), Some(device), None) => Revoked::Device(ExternalId::try_from(user).ok()?, DeviceId::try_from(device).ok()?),
            _ => return None,
        };
        let Self { number, revoked_at, expires_at, reason, revoked_by, .. } = self;
        Some(Revocation { number, revoked, at: revoked_at, expires_at, reason, by: revoked_by })
    }
}

impl Store {
    /// Says to the database how long a token may live, by the settings of this node. Revocations from then on are kept for so long.
    ///
    /// # Errors
    /// As [`Self::revoke`].
    pub async fn begin_tokens(&self, lifetime_max: Duration) -> Result<()> {
        sqlx::query_file!("src/store/sql/begin_tokens.sql", lifetime_max.as_secs_f64()).execute(self.database()).await?;
        Ok(())
    }

    /// Revokes tokens, ends the logins that go with them, and tells every node with the commit. Repeated, it is later and lasts longer.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Invalid`](super::Error::Invalid): PostgreSQL refuses a value.
    pub async fn revoke(&self, new: NewRevocation) -> Result<Revocation> {
        let NewRevocation { revoked, reason, expires_at, operator } = new;
        let (by, node) = audit::columns(operator.as_ref());
        let login = if let Revoked::Login(id) = &revoked { Some(id.to_string()) } else { None };
        let (user, device, token) = match &revoked {
            Revoked::User(user) => (Some(user.as_str()), None, None),
            Revoked::Device(user, device) => (Some(user.as_str()), Some(device.as_str()), None),
            Revoked::Token(id) => (None, None, Some(id.as_str())),
            Revoked::Login(_) => (None, None, login.as_deref()),
        };
        let asked = sqlx::query_file!("src/store/sql/revoke.sql", user, device, token, reason.as_deref(), expires_at, by, node);
        let row = asked.fetch_one(self.database()).await?;
        Ok(Revocation { number: row.number, revoked, at: row.revoked_at, expires_at: row.expires_at, reason, by: row.revoked_by })
    }

    /// The transactions that are over now.
    ///
    /// # Errors
    /// As [`Self::revocations_since`].
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let row = sqlx::query_file!("src/store/sql/snapshot.sql").fetch_one(self.database()).await?;
        Ok(Snapshot(row.snapshot))
    }

    /// A page of the revocations that count and were written by transactions that were not over for this snapshot, behind a place.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Failed`](super::Error::Failed): a defect.
    pub async fn revocations_since(&self, seen: &Snapshot, after: &WrittenPlace, rows_max: u16) -> Result<WrittenPage> {
        let (seen, xid, number) = (seen.0.as_str(), after.xid.as_str(), after.number);
        let asked = sqlx::query_file_as!(RevocationRow, "src/store/sql/revocations_since.sql", seen, xid, number, i64::from(rows_max));
        let rows = asked.fetch_all(self.database()).await?;
        let last = rows.last().filter(|_| rows.len() == usize::from(rows_max));
        let next = last.map(|row| WrittenPlace { xid: row.xid.clone(), number: row.number });
        Ok(WrittenPage { revocations: rows.into_iter().filter_map(RevocationRow::read).collect(), next })
    }

    /// A page of the revocations that count, below a place, newest first.
    ///
    /// # Errors
    /// As [`Self::revocations_since`].
    pub async fn revocations(&self, below: RevocationPlace, rows_max: u16) -> Result<Vec<Revocation>> {
        let asked = sqlx::query_file_as!(RevocationRow, "src/store/sql/revocations.sql", below.at, below.number, i64::from(rows_max));
        Ok(asked.fetch_all(self.database()).await?.into_iter().filter_map(RevocationRow::read).collect())
    }

    /// Removes revocations whose tokens have expired, at most `rows_max`. Returns how many. May be repeated.
    ///
    /// # Errors
    /// As [`Self::revocations_since`].
    pub async fn purge_revocations(&self, rows_max: u16) -> Result<usize> {
        let done = sqlx::query_file!("src/store/sql/purge_revocations.sql", i64::from(rows_max)).execute(self.database()).await?;
        Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written_and_nothing_else_is() {
        let at = OffsetDateTime::from_unix_timestamp_nanos(1_793_534_400_123_456_000).unwrap();
        let place = RevocationPlace { at, number: 7 };
        assert_eq!(RevocationPlace::parse(&place.to_string()), Some(place));
        for bad in ["", "1", "x.y", "1.2.3", ".", &format!("{}.1", i128::MAX)] {
            assert_eq!(RevocationPlace::parse(bad), None, "{bad}");
        }
    }
}
