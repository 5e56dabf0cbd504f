//! The rule for direct messages between two users, beside blocks.

/// The users that may send direct messages to one another. None of these allows what a block refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DirectMessages {
    /// Everybody to everybody.
    #[default]
    Everyone,
    /// Contacts to one another. Presence and typing, too, are for contacts only.
    Contacts,
    /// A function of the application decides, in its database.
    Function,
}
