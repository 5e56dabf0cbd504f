//! Revocations: tokens that are worth nothing although they have not expired. A token of this service is told apart by its user, by the time at
//! which it was issued, and by its id or that of its login; a device is that of the connection that it opens.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{DeviceId, ExternalId};

/// The tokens that a revocation concerns.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// Those of a user that were issued before it.
    User(ExternalId),
    /// The same for connections and requests of one device of the user.
    Device(ExternalId, DeviceId),
    /// The one with this id (`jti`), or those of the login with this id (`sid`).
    Token(String),
    /// Those of a login with this id (`sid`), which has ended. No operator asked for it.
    Login(Uuid),
}

/// A revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Its number among all: where two were made at the same moment it says which comes first.
    pub number: i64,
    /// The tokens that it concerns.
    pub revoked: Revoked,
    /// The time at which it was made, by the clock of the database.
    pub at: OffsetDateTime,
    /// Until then it is kept: the tokens have expired by then.
    pub expires_at: OffsetDateTime,
    /// The operator's words.
    pub reason: Option<String>,
    /// The operator that made it.
    pub by: String,
}

/// The token that a connection or a request lives on, as far as a revocation asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldToken {
    /// Its user.
    pub external: ExternalId,
    /// Its id, if it has one.
    pub id: Option<String>,
    /// The id of the login that it was issued for, if it has one.
    pub login_id: Option<String>,
    /// The earliest time at which it may have been issued, by the clock of the database. None: it does not say, so it is as old as can be.
    pub issued_from: Option<OffsetDateTime>,
}

impl HeldToken {
    /// Returns whether it may have been issued before this time. `iat` is in whole seconds as a rule, so a token of the same second counts
    /// as older.
    pub fn is_older_than(&self, at: OffsetDateTime) -> bool {
        self.issued_from.is_none_or(|issued| issued < at)
    }
}
