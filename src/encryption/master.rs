//! Master keys: they wrap data keys, and never come near the database. The first one wraps, the others only unwrap what was wrapped
//! with them before.
//!
//! A master key has an id that is derived from it, so that a wrapped key can say which one it needs.

use std::fmt;

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::content::{KEY_BYTES, cipher, random};
use super::hex;

/// Master keys that may be given at once.
pub const MASTER_KEYS_MAX: usize = 8;

const CONTEXT: &[u8] = b"restante data key 1";
const ID_CONTEXT: &[u8] = b"restante master key id 1";
const ID_BYTES: usize = 8;

/// The master keys of a node, the current one first.
#[derive(Debug)]
pub struct MasterKeys(Vec<MasterKey>);

/// A data key as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// The id of the data key.
    pub id: String,
    /// The id of the master key that it is wrapped with.
    pub master_id: String,
    /// A nonce and the ciphertext.
    pub wrapped: Vec<u8>,
}

/// The reason for which a text is no list of master keys. Completes the sentence "ENCRYPTION_KEY …", and shows nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMasterKeys {
    /// There is none.
    #[error("holds no key: make one with `openssl rand -hex 32`")]
    None,
    /// A key is neither form.
    #[error("must be keys of 32 bytes, as 64 hexadecimal digits or as base64, separated by commas: make one with `openssl rand -hex 32`")]
    Form,
    /// One stands there twice.
    #[error("names a key twice")]
    Twice,
    /// There are too many.
    #[error("holds more than {MASTER_KEYS_MAX} keys")]
    TooMany,
}

struct MasterKey {
    id: String,
    cipher: LessSafeKey,
}

/// Without the key.
impl fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MasterKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl MasterKeys {
    /// Reads keys that are separated by commas or white space, the current one first.
    ///
    /// # Errors
    /// The text holds none, too many, the same twice, or something else.
    pub fn parse(text: &str) -> Result<Self, BadMasterKeys> {
        let words = text.split(|letter: char| letter == ',' || letter.is_whitespace()).filter(|word| !word.is_empty());
        let mut keys: Vec<MasterKey> = Vec::new();
        for word in words {
            let key = MasterKey::new(&key_bytes(word).ok_or(BadMasterKeys::Form)?);
            if keys.iter().any(|known| known.id == key.id) {
                return Err(BadMasterKeys::Twice);
            }
            if keys.len() == MASTER_KEYS_MAX {
                return Err(BadMasterKeys::TooMany);
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(BadMasterKeys::None) } else { Ok(Self(keys)) }
    }

    /// The id of the key that wraps.
    pub fn current_id(&self) -> &str {
        &self.current().id
    }

    fn current(&self) -> &MasterKey {
        self.0.first().expect("a list of master keys is never empty")
    }

    /// Wraps a data key with the current master key.
    ///
    /// # Panics
    /// If the operating system has no random bytes.
    pub fn wrap(&self, id: &str, secret: &[u8; KEY_BYTES]) -> WrappedKey {
        let master = self.current();
        let nonce = random::<NONCE_LEN>();
        let mut body = secret.to_vec();
        master
            .cipher
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), master.authenticated(id), &mut body)
            .expect("a key is far shorter than what AES-GCM takes");
        WrappedKey { id: id.to_owned(), master_id: master.id.clone(), wrapped: [nonce.as_slice(), &body].concat() }
    }

    /// The bytes of a data key. None: its master key is not here, or it was changed.
    pub fn unwrap(&self, key: &WrappedKey) -> Option<[u8; KEY_BYTES]> {
        let master = self.0.iter().find(|master| master.id == key.master_id)?;
        let (nonce, body) = key.wrapped.split_first_chunk::<NONCE_LEN>()?;
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let secret = master.cipher.open_in_place(nonce, master.authenticated(&key.id), &mut body).ok()?;
        <[u8; KEY_BYTES]>::try_from(&*secret).ok()
    }
}

impl MasterKey {
    fn new(secret: &[u8; KEY_BYTES]) -> Self {
        let id = digest(&SHA256, &[ID_CONTEXT, secret].concat());
        Self { id: hex(&id.as_ref()[..ID_BYTES]), cipher: cipher(secret) }
    }

    fn authenticated(&self, data_key: &str) -> Aad<Vec<u8>> {
        Aad::from([CONTEXT, data_key.as_bytes(), self.id.as_bytes()].concat())
    }
}

fn key_bytes(word: &str) -> Option<[u8; KEY_BYTES]> {
    let bytes = if word.len() == 2 * KEY_BYTES { unhex(word)? } else { STANDARD.decode(word).ok()? };
    bytes.try_into().ok()
}

fn unhex(word: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    word.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(byte: u8) -> String {
        hex(&[byte; KEY_BYTES])
    }

    #[test]
    fn a_data_key_comes_out_of_its_wrapping_with_its_master_key_and_no_other() {
        let (old, new) = (MasterKeys::parse(&key_of(1)).unwrap(), MasterKeys::parse(&key_of(2)).unwrap());
        let wrapped = old.wrap("k", &[7; KEY_BYTES]);
        assert_eq!(old.unwrap(&wrapped), Some([7; KEY_BYTES]));
        assert_eq!(new.unwrap(&wrapped), None);
        let both = MasterKeys::parse(&format!("{},{}", key_of(2), key_of(1))).unwrap();
        assert_eq!(both.unwrap(&wrapped), Some([7; KEY_BYTES]), "the previous one unwraps");
        let again = both.wrap("k", &[7; KEY_BYTES]);
        assert_eq!((again.master_id.as_str(), new.unwrap(&again)), (new.current_id(), Some([7; KEY_BYTES])), "the first one wraps");
        assert_eq!(old.unwrap(&WrappedKey { id: "other".to_owned(), ..wrapped.clone() }), None, "under the id of another key");
        for bit in 0..wrapped.wrapped.len() * 8 {
            let mut changed = wrapped.clone();
            changed.wrapped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(old.unwrap(&changed), None, "bit {bit}");
        }
    }

    #[test]
    fn master_keys_are_read_strictly_and_never_shown() {
        let base64 = STANDARD.encode([3; KEY_BYTES]);
        let keys = MasterKeys::parse(&format!(" {},\n{base64} \n", key_of(1))).unwrap();
        assert_eq!(keys.0.len(), 2);
        assert!(!format!("{keys:?}").contains("0101"));
        assert_eq!(MasterKeys::parse(&key_of(3)).unwrap().current_id(), MasterKeys::parse(&base64).unwrap().current_id());
        for (text, why) in [
            (" , ".to_owned(), BadMasterKeys::None),
            ("secret".to_owned(), BadMasterKeys::Form),
            (key_of(1).replace('0', "g"), BadMasterKeys::Form),
            ("ü".repeat(32), BadMasterKeys::Form),
            (STANDARD.encode([1; 31]), BadMasterKeys::Form),
            (format!("{0},{0}", key_of(1)), BadMasterKeys::Twice),
            ((1..=9).map(key_of).collect::<Vec<_>>().join(","), BadMasterKeys::TooMany),
        ] {
            let error = MasterKeys::parse(&text).unwrap_err();
            assert_eq!(error, why, "{text}");
            assert!(!error.to_string().contains("secret"));
        }
    }
}
