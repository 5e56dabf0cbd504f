//! The border at which text becomes ciphertext: texts are sealed here before they are stored, and opened here after they were read.
//! Nothing above it knows of keys.
//!
//! A row under a key that cannot be had, or that was changed, costs itself only: it stays sealed, and comes as unreadable.

use std::collections::HashSet;

use tracing::error;
use uuid::Uuid;

use super::{Result, Store};
use crate::domain::MessageId;
use crate::encryption::{DataKey, Plain};

/// Texts of a statement as it stores them.
#[derive(Debug, Default)]
pub struct SealedColumn {
    /// One for each item. Empty: they are plain.
    pub(super) values: Vec<Vec<u8>>,
    /// The data key of all of them.
    pub(super) key: Option<String>,
}

impl SealedColumn {
    /// The values of these items under this key.
    pub(super) fn of<'a>(key: &DataKey, items: impl Iterator<Item = (Uuid, Option<&'a str>, Option<&'a str>)>) -> Self {
        let values = items.map(|(id, content, metadata)| {
            let plain = Plain { content: content.map(str::to_owned), metadata: metadata.map(str::to_owned) };
            key.seal(MessageId(id), &plain)
        });
        Self { values: values.collect(), key: Some(key.id().to_owned()) }
    }
}

/// A row that may be sealed.
pub(super) trait SealedRow {
    /// The message, the id of its key and the value; none: it is plain.
    fn sealed(&self) -> Option<(Uuid, &str, &[u8])>;

    /// Puts the text in the place of the value. The row names no key from then on.
    fn open_as(&mut self, plain: Plain);
}

impl Store {
    /// Opens those of these rows that are sealed. Those that cannot be opened stay as they are.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Failed`](super::Error::Failed): a defect.
    pub(super) async fn unseal<R: SealedRow>(&self, rows: &mut [R]) -> Result<()> {
        let ids: HashSet<String> = rows.iter().filter_map(|row| row.sealed()).map(|(_, key, _)| key.to_owned()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let keys = self.data_keys(&ids).await?;
        for row in rows {
            let Some((message, id, value)) = row.sealed() else { continue };
            let Some(key) = keys.get(id) else { continue };
            match key.open(MessageId(message), value) {
                Some(plain) => row.open_as(plain),
                None => {
                    error!(message.id = %message, key.id = %id, "a sealed message was changed, or is another one's; it comes as unreadable")
                }
            }
        }
        Ok(())
    }
}
