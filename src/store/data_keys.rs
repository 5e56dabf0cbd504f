//! The table of data keys: reading it into the [`KeyRing`], making a new key, wrapping keys anew, and removing those that no row names.
//!
//! A node reads it every few seconds, and at once when it meets a key that it does not know.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::key_ring::{LackingKey, StoredKey};
use super::{Error, KeyRing, Result, Store, audit};
use crate::domain::Operator;
use crate::encryption::{DataKey, EncryptionMode, WrappedKey};

/// The reason for which a node cannot serve a database with its keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnfitKeys {
    /// There are sealed messages, and the node has no master key.
    #[error(
        "messages of this database are encrypted, and ENCRYPTION is off: set ENCRYPTION=on, or ENCRYPTION=read to store no more of them, \
         with the key that was used (docs/operations.md, Encryption at rest)"
    )]
    Off,
    /// No data key can be read.
    #[error(
        "none of the {keys} data keys of this database can be read with the master keys that were given ({given} is the first): they are \
         wrapped with {wanted}"
    )]
    WrongMaster {
        /// Data keys that the table has.
        keys: usize,
        /// The id of the current master key.
        given: String,
        /// The ids of the master keys that are needed, separated by commas.
        wanted: String,
    },
    /// The key that nodes encrypt with cannot be read.
    #[error(
        "nodes encrypt with the data key {id}, which cannot be read with the master keys that were given ({given} is the first): it is wrapped \
         with {wanted}"
    )]
    Lacking {
        /// The id of the data key.
        id: String,
        /// The id of the current master key.
        given: String,
        /// The id of the master key that is needed.
        wanted: String,
    },
}

impl Store {
    /// The same store with these keys.
    pub fn with_keys(self, keys: KeyRing) -> Self {
        Self { keys, ..self }
    }

    /// The keys of this node.
    pub const fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// Says to the database how this node uses encryption, makes the first key where one is needed, and reads all. The inner error says
    /// that the node must not start.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Failed`]: a defect.
    pub async fn begin_encryption(&self, is_sql_allowed: bool) -> Result<std::result::Result<(), UnfitKeys>> {
        let mode = self.keys.mode();
        let stored = self.read_keys().await?;
        if let Err(unfit) = fit(&self.keys, &stored) {
            return Ok(Err(unfit));
        }
        if stored.is_empty() && mode == EncryptionMode::On {
            self.keep_keys().await?;
        }
        let is_on = mode == EncryptionMode::On;
        sqlx::query_file!("src/store/sql/begin_encryption.sql", is_on, is_sql_allowed).fetch_one(self.database()).await?;
        Ok(Ok(()))
    }

    /// Reads the keys, makes a new one where the newest is old, worn or to be replaced, and wraps those anew that are wrapped with a
    /// former master key. Returns all keys, newest first.
    ///
    /// # Errors
    /// As [`Self::begin_encryption`].
    pub async fn keep_keys(&self) -> Result<Vec<StoredKey>> {
        let stored = self.read_keys().await?;
        if self.keys.mode() != EncryptionMode::On {
            return Ok(stored);
        }
        self.wrap_anew(&stored).await?;
        let newest = stored.first();
        let is_worn = |newest: &StoredKey| self.keys.sealing().is_some_and(|key| key.id() == newest.key.id && key.is_worn());
        let is_over = |newest: &StoredKey| newest.is_replaced || newest.age >= self.keys.times().period || is_worn(newest);
        if !newest.is_none_or(is_over) {
            return Ok(stored);
        }
        self.make_key(newest.map(|newest| newest.key.id.as_str())).await?;
        self.read_keys().await
    }

    /// The key to seal with now; none: this node does not seal. What the node knows of keys is seconds old.
    ///
    /// # Errors
    /// As [`Self::begin_encryption`]; also [`Error::Failed`] where no data key can be read here.
    pub(super) async fn sealing_key(&self) -> Result<Option<Arc<DataKey>>> {
        if self.keys.mode() != EncryptionMode::On {
            return Ok(None);
        }
        if let Some(key) = self.keys.sealing() {
            return Ok(Some(key));
        }
        self.read_keys_since(Instant::now()).await?;
        let none = || Error::Failed(sqlx::Error::Decode("there is no data key that this node can read".into()));
        self.keys.sealing().ok_or_else(none).map(Some)
    }

    /// Those of these data keys that this node can have. The table is read where it may know of one that the node has not met.
    ///
    /// # Errors
    /// As [`Self::begin_encryption`].
    pub(super) async fn data_keys(&self, ids: &HashSet<String>) -> Result<HashMap<String, Arc<DataKey>>> {
        let (mut found, has_new) = self.keys.find(ids);
        if has_new && self.keys.masters().is_some() {
            self.read_keys_since(Instant::now()).await?;
            found = self.keys.find(ids).0;
        }
        for id in ids.iter().filter(|id| !found.contains_key(*id) && self.keys.miss(id)) {
            warn!(key.id = %id, "messages are sealed with a data key that this node cannot have; they come as unreadable");
        }
        Ok(found)
    }

    /// Removes data keys. None of them may be named by a row, now or later.
    ///
    /// # Errors
    /// As [`Self::begin_encryption`].
    pub async fn forget_data_keys(&self, ids: &[String]) -> Result<()> {
        sqlx::query_file!("src/store/sql/forget_data_keys.sql", ids).execute(self.database()).await?;
        Ok(())
    }

    /// Asks for a new data key and for a sweep that seals everything with it, and notes it. Without an operator it is an act of the
    /// connection's role. Returns the number of the sweep. None: encryption is off.
    ///
    /// # Errors
    /// As [`Self::begin_encryption`].
    pub async fn rotate_keys(&self, operator: Option<&Operator>) -> Result<Option<i64>> {
        let (actor, node) = audit::columns(operator);
        Ok(sqlx::query_file_scalar!("src/store/sql/rotate_keys.sql", actor, node).fetch_one(self.database()).await?)
    }

    /// Reads the table, unless somebody else has done so since.
    async fn read_keys_since(&self, asked: Instant) -> Result<()> {
        let turn = self.keys.turn().await;
        if self.keys.is_read_since(asked) { Ok(()) } else { self.read_keys_in(turn).await.map(drop) }
    }

    /// Reads the table. All data keys, newest first.
    async fn read_keys(&self) -> Result<Vec<StoredKey>> {
        self.read_keys_in(self.keys.turn().await).await
    }

    async fn read_keys_in(&self, turn: tokio::sync::MutexGuard<'_, ()>) -> Result<Vec<StoredKey>> {
        let read_at = Instant::now();
        let mut stored = self.stored_keys().await?;
        let lacked = self.keys.lacking();
        self.keys.fill(&mut stored, read_at);
        drop(turn);
        match self.keys.lacking() {
            Some(LackingKey { id, master_id }) if lacked.is_none() => error!(
                key.id = %id,
                master.id = %master_id,
                "nodes encrypt with a data key that this one cannot read: it lacks its master key (ENCRYPTION_KEY), and accepts nothing until then"
            ),
            None if lacked.is_some() => info!("the data key in use can be read"),
            _ => {}
        }
        Ok(stored)
    }

    /// All data keys as the table has them, newest first.
    ///
    /// # Errors
    /// As [`Self::begin_encryption`].
    pub async fn stored_keys(&self) -> Result<Vec<StoredKey>> {
        let rows = sqlx::query_file!("src/store/sql/data_keys.sql").fetch_all(self.database()).await?;
        let stored = rows.into_iter().map(|row| StoredKey {
            key: WrappedKey { id: row.id, master_id: row.master_id, wrapped: row.wrapped },
            made_at: row.made_at,
            age: Duration::from_millis(u64::try_from(row.age_ms).unwrap_or_default()),
            is_replaced: row.is_replaced,
            is_readable: false,
        });
        Ok(stored.collect())
    }

    async fn make_key(&self, newest: Option<&str>) -> Result<()> {
        let Some(masters) = self.keys.masters() else { return Ok(()) };
        let (id, secret) = DataKey::generate();
        let WrappedKey { id, master_id, wrapped } = masters.wrap(&id, &secret);
        let made = sqlx::query_file_scalar!("src/store/sql/make_data_key.sql", id, master_id, wrapped, newest);
        if made.fetch_one(self.database()).await? {
            info!(key.id = %id, master.id = %master_id, "a data key was made");
        }
        Ok(())
    }

    async fn wrap_anew(&self, stored: &[StoredKey]) -> Result<()> {
        let Some(masters) = self.keys.masters() else { return Ok(()) };
        for StoredKey { key, .. } in stored.iter().filter(|stored| stored.key.master_id != masters.current_id()) {
            let Some(secret) = masters.unwrap(key) else { continue };
            let WrappedKey { id, master_id, wrapped } = masters.wrap(&key.id, &secret);
            let former = &key.master_id;
            sqlx::query_file!("src/store/sql/rewrap_data_key.sql", id, master_id, wrapped, former).execute(self.database()).await?;
            info!(key.id = %id, master.id = %master_id, former.id = %former, "a data key was wrapped with the current master key");
        }
        Ok(())
    }
}

fn fit(keys: &KeyRing, stored: &[StoredKey]) -> std::result::Result<(), UnfitKeys> {
    match keys.masters() {
        None if stored.is_empty() => Ok(()),
        None => Err(UnfitKeys::Off),
        Some(masters) if stored.iter().any(|stored| stored.is_readable) => keys.lacking().map_or(Ok(()), |lacking| {
            Err(UnfitKeys::Lacking { id: lacking.id, given: masters.current_id().to_owned(), wanted: lacking.master_id })
        }),
        Some(_) if stored.is_empty() => Ok(()),
        Some(masters) => {
            let mut wanted: Vec<_> = stored.iter().map(|stored| stored.key.master_id.clone()).collect();
            wanted.sort_unstable();
            wanted.dedup();
            Err(UnfitKeys::WrongMaster { keys: stored.len(), given: masters.current_id().to_owned(), wanted: wanted.join(", ") })
        }
    }
}
