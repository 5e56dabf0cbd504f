//! Mistakes that are easily made, or were made. Each of them must break a certain property.

/// A mistake in a world. A world has at most one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// A row becomes `delivered` when its envelope is emitted.
    DeliveredWhenEmitted,
    /// Numbers are given when the statement begins, as a sequence would: commits come in another order.
    NumbersBeforeTheLock,
    /// The first page is read, then the hub learns of the connection.
    RegistersAfterReading,
    /// The page's rows come from one snapshot and `last_seq` from the next.
    LastSeqFromALaterStatement,
    /// `settled_seq` is computed by the statement that waits for the inbox's lock.
    SettledInTheLockingStatement,
    /// A connection of a device yields to every other one that it hears of, not only to a higher `session_no`.
    DisplacedInOrderOfArrival,
    /// The hub registers a connection without a look for others of its device.
    HubLetsADeviceInTwice,
    /// A hint that comes while a page is being read is dropped.
    ForgetsHintsWhileReading,
    /// It writes an ack without a look at the row's status.
    SettlesWhateverTheStatus,
    /// It looks for the id before it locks the chat.
    LooksForTheIdBeforeTheLock,
    /// A device's cursor goes to the highest number acked.
    DeviceCursorJumpsOverHoles,
    /// A take reads the cursor and the feed's last number before it locks the inbox.
    TakesWhatItSawBeforeTheLock,
    /// A take moves the cursor to the last number of a later statement.
    CursorFromALaterStatement,
    /// A node that takes for its connections wakes nobody where another one has made the rows.
    WakesNobodyWhoseRowsAreMade,
}
