//! The border at which text becomes ciphertext: texts are sealed here before they are stored, and opened here after they were read.
//! Nothing above it knows of keys.
//!
//! A row under a key that cannot be had, or that was changed, costs itself only: it stays sealed, and comes as unreadable.

use std::collections::HashSet;
use std::sync::Arc;

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
    key: Option<Arc<DataKey>>,
}

/// A text that was sealed for its row. It may be stored as often as that is tried: the value in the row is the same.
#[derive(Debug)]
pub struct SealedText {
    key: Arc<DataKey>,
    value: Vec<u8>,
}

/// The data key to seal with now.
#[derive(Debug, Clone)]
pub struct Sealer(Arc<DataKey>);

impl Sealer {
    /// A key of this id, for tests.
    #[cfg(test)]
    pub fn sample(id: &str) -> Self {
        Self(Arc::new(DataKey::new(id.to_owned(), &[7; 32])))
    }

    /// The sealed form of a message's text. The one of an earlier try is used again, unless another key is used since.
    pub fn seal(&self, message: MessageId, content: Option<&str>, metadata: Option<&str>, before: Option<SealedText>) -> SealedText {
        let kept = before.filter(|text| text.key.id() == self.0.id());
        kept.unwrap_or_else(|| SealedText { key: Arc::clone(&self.0), value: self.0.seal(message, content, metadata) })
    }
}

impl SealedColumn {
    /// Adds a text. All of a column are sealed by one [`Sealer`].
    pub fn push(&mut self, text: SealedText) {
        self.key = Some(text.key);
        self.values.push(text.value);
    }

    /// The texts, in their order.
    pub fn into_texts(self) -> impl Iterator<Item = SealedText> {
        let key = self.key;
        self.values.into_iter().filter_map(move |value| Some(SealedText { key: key.clone()?, value }))
    }

    /// The id of the data key. None: the texts are plain.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.key.as_deref().map(DataKey::id)
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
    /// The data key to seal with now. None: this node stores plain text.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Failed`](super::Error::Failed): a defect, or no data key can be read.
    pub async fn sealer(&self) -> Result<Option<Sealer>> {
        Ok(self.sealing_key().await?.map(Sealer))
    }

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
                // A page that is read again and again says it once.
                None if self.keys.note_changed(message) => {
                    error!(message.id = %message, key.id = %id, "a sealed message was changed, or is another one's; it comes as unreadable");
                }
                None => {}
            }
        }
        Ok(())
    }
}
