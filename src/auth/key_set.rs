//! Sets of keys: a JWK set (RFC 7517 section 5) as text, and the keys among which that of a token is looked for.
//!
//! A key of a set that cannot be used costs that key only. Everything is bounded: the text, the keys, and the keys that one token is tried with.

use std::sync::Arc;

use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::key::{Key, Origin, Refused};

/// Bytes of the text of a set, at most.
pub const SET_BYTES_MAX: usize = 256 * 1_024;
/// Keys of a set, at most.
pub const KEYS_MAX: usize = 100;
/// Keys that one token is tried with, at most.
const CANDIDATES_MAX: usize = 8;

/// The reason for which a text is no set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSet {
    /// It is too long.
    #[error("the key set has more than {SET_BYTES_MAX} bytes")]
    TooLong,
    /// It is no JWK set.
    #[error("it is no JWK set: a JSON object with the list `keys`")]
    Malformed,
    /// It has too many keys.
    #[error("the key set has more than {KEYS_MAX} keys")]
    TooMany,
}

/// The text of a set, read.
#[derive(Debug, Default)]
pub struct ReadSet {
    /// The keys that can be used.
    pub keys: Vec<Arc<Key>>,
    /// The others: their places in the list, from 1 on, and the reasons.
    pub refused: Vec<(usize, Refused)>,
}

impl ReadSet {
    /// Reads a set.
    ///
    /// # Errors
    /// It is no set, or is beyond a bound.
    pub fn parse(text: &str, origin: Origin) -> Result<Self, NoSet> {
        #[derive(Deserialize)]
        struct Set<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        if text.len() > SET_BYTES_MAX {
            return Err(NoSet::TooLong);
        }
        let Set { keys } = serde_json::from_str(text).map_err(|_| NoSet::Malformed)?;
        if keys.len() > KEYS_MAX {
            return Err(NoSet::TooMany);
        }
        let mut read = Self::default();
        for (n, json) in keys.into_iter().enumerate() {
            match Key::of_jwk(json.get(), origin) {
                Ok(key) => read.keys.push(Arc::new(key)),
                Err(why) => read.refused.push((n + 1, why)),
            }
        }
        Ok(read)
    }
}

/// The keys that tokens are verified with now.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Arc<Key>>,
}

impl KeySet {
    /// A set of these keys. Earlier ones are tried first.
    pub const fn new(keys: Vec<Arc<Key>>) -> Self {
        Self { keys }
    }

    /// The keys that a token with this id and algorithm may be signed with, in the order in which they are tried: those of its id, or where
    /// no key has it, those without an id. Without an id: those without one, and then all others. Only keys that know the algorithm are among them.
    pub fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        let is_named = id.is_some_and(|id| self.names(id));
        let of_id = move |key: &&Arc<Key>| if is_named { key.id() == id } else { key.id().is_none() };
        let others = self.keys.iter().filter(move |key| id.is_none() && key.id().is_some());
        let found = self.keys.iter().filter(of_id).chain(others);
        found.filter(move |key| key.knows(algorithm)).map(Arc::as_ref).take(CANDIDATES_MAX)
    }

    /// Returns whether a key has this id.
    pub fn names(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id() == Some(id))
    }
}

#[cfg(test)]
mod tests;
