//! The claim `scope` of a token: words separated by spaces (RFC 8693 section 4.2). Words that are not of this service say nothing, and a scope
//! without any of ours is as good as none. What the words allow is decided elsewhere (`service::may`).

/// The claim `scope` of a token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope(String);

impl Scope {
    /// The word that leaves its user nothing but sending, and asking what became of what it sent.
    pub const SEND: &str = "send";
    /// The word that opens what operators do.
    pub const ADMIN: &str = "admin";
    /// The word that opens what operators look at.
    pub const ADMIN_READ: &str = "admin:read";
    /// The word that lets its user publish to every feed, to everyone and to users that it lists.
    pub const EVENTS_WRITE: &str = "events:write";

    /// The scope of this claim.
    pub const fn new(claim: String) -> Self {
        Self(claim)
    }

    /// Returns whether the scope contains this word.
    pub fn has(&self, wanted: &str) -> bool {
        self.0.split(' ').any(|word| word == wanted)
    }
}
