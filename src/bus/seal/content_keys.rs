//! Content keys: secrets that nodes share and the database does not have. Where messages are encrypted at rest, the text of a letter is
//! encrypted with one of them before the letter is sealed.

use std::fmt;

use super::Head;
use crate::domain::NodeId;

/// The first byte of a letter's body: the text follows, or the id of a content key (its length first) and ciphertext.
const PLAIN: u8 = 0;
pub(super) const ENCRYPTED: u8 = 1;
/// Bytes of the id of a content key.
pub(super) const ID_BYTES_MAX: usize = 16;
/// The purpose of the key that is derived from a content key.
const CONTENT: &[u8] = b"restante bus content 1";

/// A secret that nodes share and the database does not have.
#[derive(Clone, PartialEq, Eq)]
pub struct ContentKey {
    /// Its id: at most 16 bytes.
    pub id: String,
    /// 32 bytes.
    pub secret: [u8; 32],
}

/// Without the secret.
impl fmt::Debug for ContentKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ContentKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The content keys that this node knows.
#[derive(Debug, Clone, Default)]
pub struct ContentKeys {
    /// The one that it encrypts with. None: it encrypts no content.
    pub sealing: Option<ContentKey>,
    /// Those with which others may have encrypted.
    pub opening: Vec<ContentKey>,
}

impl ContentKeys {
    /// The body of a letter with this text.
    pub(super) fn sealed(&self, head: Head, to: NodeId, text: &str) -> Option<Vec<u8>> {
        let Some(key) = &self.sealing else { return Some([&[PLAIN], text.as_bytes()].concat()) };
        let id_bytes = u8::try_from(key.id.len()).ok().filter(|bytes| usize::from(*bytes) <= ID_BYTES_MAX)?;
        let mut body = [&[ENCRYPTED, id_bytes], key.id.as_bytes()].concat();
        let mut text = text.as_bytes().to_vec();
        head.cipher(CONTENT, &key.secret)?.seal_in_place_append_tag(head.nonce(), head.authenticated(to), &mut text).ok()?;
        body.append(&mut text);
        Some(body)
    }

    /// The text of a letter with this body. None: its key is not known.
    pub(super) fn opened(&self, head: Head, to: NodeId, body: &mut [u8]) -> Option<String> {
        let text = match body {
            [PLAIN, text @ ..] => text,
            [ENCRYPTED, id_bytes, rest @ ..] => {
                let (id, text) = rest.split_at_mut_checked(usize::from(*id_bytes))?;
                let key = self.sealing.iter().chain(&self.opening).find(|key| key.id.as_bytes() == id)?;
                head.cipher(CONTENT, &key.secret)?.open_in_place(head.nonce(), head.authenticated(to), text).ok()?
            }
            _ => return None,
        };
        std::str::from_utf8(text).ok().map(str::to_owned)
    }
}
