//! The claim `scope` of a token: words separated by spaces (RFC 8693 section 4.2), or a list of words, as some issuers have it. Words that are not
//! of this service say nothing, and a scope without any of ours is as good as none. What the words allow is decided elsewhere (`service::may`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::AuthError;

/// The claim `scope` of a token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope(BTreeSet<String>);

impl Scope {
    /// The word that leaves its user nothing but sending, and asking what became of what it sent.
    pub const SEND: &str = "send";
    /// The word that opens what operators do.
    pub const ADMIN: &str = "admin";
    /// The word that opens what operators look at.
    pub const ADMIN_READ: &str = "admin:read";
    /// The word that lets its user publish to every feed, to everyone and to users that it lists.
    pub const EVENTS_WRITE: &str = "events:write";

    /// The scope of this claim: a text of words, or a list of words.
    ///
    /// # Errors
    /// [`AuthError::Invalid`]: it is something else, or has a space or a control character within a word. Read as no scope it would narrow
    /// nothing.
    pub fn read(claim: &Value) -> Result<Self, AuthError> {
        let words: Option<Vec<&str>> = match claim {
            Value::String(text) => Some(text.split(' ').collect()),
            Value::Array(words) => words.iter().map(Value::as_str).collect(),
            _ => None,
        };
        let is_word = |word: &str| !word.contains(|letter: char| letter.is_whitespace() || letter.is_control());
        let words = words.filter(|words| words.iter().all(|word| is_word(word))).ok_or(AuthError::Invalid)?;
        Ok(Self(words.into_iter().filter(|word| !word.is_empty()).map(str::to_owned).collect()))
    }

    /// Returns whether the scope contains this word.
    pub fn has(&self, wanted: &str) -> bool {
        self.0.contains(wanted)
    }
}
