//! The inputs and effects of a session: the whole contract between the state machine and the task around it. They are plain
//! values; nothing here touches a socket, a clock or the database.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::domain::{
    AttemptOutcome, ChatId, ChatSeq, Class, Envelope, FeedRange, GapReason, InboxSeq, Message, MessageId, Page, PerClass, RowState,
};

/// The limits one session works with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Envelopes emitted and not yet acked, per class (1 to 500).
    pub window: u16,
    /// Rows read at once.
    pub page_rows: u16,
    /// An envelope unacked for this long is checked.
    pub ack_timeout: Duration,
    /// After so many attempts a row is failed; a device's redelivery of a settled row is given up.
    pub attempts_max: u16,
    /// At so many acks under way to the database emission pauses; at twice as many the socket is not read.
    pub uncommitted_acks_max: usize,
    /// Acks that cannot be taken for this long close the connection.
    pub stalled_max: Duration,
    /// The pause between two fallback polls of a class.
    pub poll_interval: Duration,
    /// After so many committed acks the low watermark is advanced.
    pub low_watermark_every: u32,
}

/// The rows of an inbox that a session drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Rows in `sent`, shared with the user's other connections: a connection without a device.
    Waiting,
    /// Every row behind the session's own cursor (`sent`, `delivered`, `read`; others are gaps): a device, or `?since=`.
    Everything,
}

/// The place in an inbox where a session begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassStart {
    /// Everything up to here is not emitted: `settled_seq`, the device's `acked_seq`, or `since`.
    pub cursor: InboxSeq,
    /// The inbox's `last_seq` at connect: what is at or below it "waited at connect".
    pub last_seq: InboxSeq,
    /// `settled_seq` at connect: the low watermark, where the fallback poll starts.
    pub settled_seq: InboxSeq,
    /// Events that wait too and have no number yet, at most. A page gives them theirs.
    pub to_come: u32,
}

/// The state that a session begins with.
#[derive(Debug, Clone)]
pub struct Start {
    /// Its limits.
    pub settings: Settings,
    /// The rows that it drains.
    pub scope: Scope,
    /// True if it keeps a cursor of what its client has acked: that of a device, or the one from which a client resumes whose acks come
    /// by another way than its connection. Then every [`Settlement`] carries `device_acked`.
    pub keeps_cursor: bool,
    /// The place where each class begins.
    pub classes: PerClass<ClassStart>,
    /// Connections before this one ended again and again without one ack: emit one envelope alone until the first ack.
    pub emit_alone: bool,
    /// The database's clock at the start. Messages expire by it.
    pub database_time: OffsetDateTime,
}

/// A client's frame that wants an answer once its effect is committed: the number the task gave to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The number of a [`Settlement`], ascending within the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SettlementNo(pub u64);

/// The messages that an ack names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AckTarget {
    /// These messages, emitted on this connection or not.
    Messages(Vec<MessageId>),
    /// Everything this connection has emitted in the class up to this number.
    UpTo(Class, InboxSeq),
}

/// The end of what a read covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadTarget {
    /// Up to this number of the chat.
    Seq(ChatSeq),
    /// Up to this message.
    Message(MessageId),
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The answer to [`Effect::ReadPage`]. Each is answered exactly once, however long the database is away.
    Page(Page),
    /// The answer to [`Effect::Poll`]: waiting rows from `settled_seq` on, whether in flight or not. Answered exactly once.
    Polled(Page),
    /// A message was just committed for this user; it comes with its envelope, but only as a hint.
    Offer(Envelope),
    /// Something may wait.
    Wake(Class),
    /// `message:delivered`.
    Ack {
        /// The messages that it names.
        target: AckTarget,
        /// Set when the client wants `message:delivered:ok`.
        ticket: Option<Ticket>,
    },
    /// The client has acked these by another way than its connection, and the acks are committed. A hint: it may be missing.
    AckCommitted(AckTarget),
    /// The client has rejected this message by another way than its connection, and the attempt is counted. A hint as well.
    RejectCommitted {
        /// The message.
        message: MessageId,
        /// The attempts that are counted against its row, which still waits.
        attempts: u16,
    },
    /// `message:reject`.
    Reject {
        /// The message.
        message: MessageId,
        /// The client's words.
        reason: String,
        /// Do not try again.
        is_final: bool,
        /// Set when the client wants an answer.
        ticket: Option<Ticket>,
    },
    /// `message:read`. Its effect and its answer come from the database ([`Effect::Read`]); here it frees slots.
    Read {
        /// The chat.
        chat: ChatId,
        /// Up to where.
        target: ReadTarget,
        /// Set when the client wants `message:read:ok`.
        ticket: Option<Ticket>,
    },
    /// The read was committed up to this number of the chat (also when another session of the user did it). In
    /// [`Scope::Everything`] what others have read still comes to this client, with the status `read`.
    ReadUpTo(ChatId, ChatSeq),
    /// The user has left the chat: nothing of it up to this number is emitted before the database has said what became of it.
    Left(ChatId, ChatSeq),
    /// Something that waited for the user may have ended otherwise. A hint: it may be missing, or wrong.
    SomethingEnded,
    /// The answer to [`Effect::CheckRows`], always: the state of each row that was asked for.
    Checked(Class, Vec<(InboxSeq, RowState)>),
    /// This settlement was committed.
    Committed(SettlementNo),
    /// The answer to [`Effect::CountAttempt`].
    Attempted {
        /// The row.
        class: Class,
        /// Its number.
        seq: InboxSeq,
        /// The outcome; none: it could not be counted, and nothing is known of the row.
        outcome: Option<AttemptOutcome>,
    },
    /// The answer to [`Effect::AdvanceLowWatermark`].
    LowWatermarkAdvanced(Class, InboxSeq),
    /// Frames of the client may lie unread, for it asks too much. The time for acks begins anew: one of them may be an ack.
    FramesUnread,
    /// The database stopped answering. Until [`Input::DatabaseBack`] no deadline fires.
    DatabaseAway,
    /// It answers again.
    DatabaseBack,
    /// The deadline that [`super::Session::next_deadline`] named has come.
    Deadline,
    /// The node stops: take and settle what the client still says, emit and read nothing more. What is not acked by the end
    /// waits for the next session.
    Leave,
}

/// A row the client acked.
#[derive(Debug, Clone)]
pub struct AckedRow {
    /// The inbox.
    pub class: Class,
    /// The number in it.
    pub seq: InboxSeq,
    /// The message.
    pub message: Arc<Message>,
}

/// Acks on their way to the database; one transaction makes all of it true.
///
/// Settlements of one session must be committed in the order of their numbers (several in one transaction is fine), or
/// not at all: each one's `marks` and `device_acked` take the rows of the earlier ones as acked. In whatever order
/// the task then reports the commits, the session understands.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// Its number.
    pub no: SettlementNo,
    /// Rows that were in flight here, or read while they were buffered. Empty when only `device_acked` has moved.
    pub rows: Vec<AckedRow>,
    /// Messages that were not: acked late, or on another connection, or never emitted at all. Unknown ones are ignored.
    pub by_id: Vec<MessageId>,
    /// Per chat of `rows`: the proposed `delivered_seq`.
    pub marks: Vec<(ChatId, ChatSeq)>,
    /// For a session that keeps a cursor: per class, everything up to here has been acked by its client.
    pub device_acked: Option<PerClass<InboxSeq>>,
}

/// Something to put on the wire, in order.
#[derive(Debug, Clone)]
pub enum Emission {
    /// `message:receive` or `event:receive` (or a part of a batch). The wire's `attempt` is `attempt`.
    Envelope {
        /// The envelope.
        envelope: Envelope,
        /// 1 for the first emission that the database knows of.
        attempt: u16,
    },
    /// `queue:gap`. Of numbers that were emitted before: they were not acked, and do not come again.
    Gap {
        /// The inbox.
        class: Class,
        /// First number.
        from: InboxSeq,
        /// Last number.
        to: InboxSeq,
        /// The reason.
        reason: GapReason,
        /// The events of a feed that ended before they had a number of their own. The gap is one number then.
        feed: Option<FeedRange>,
    },
}

/// The reason why a session wants its connection closed. Both are close code 4503.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Nothing at all was acked for the whole ack time-out.
    NoAcks,
    /// Acks could not be written for too long.
    Stalled,
}

/// Something to do. The task performs effects in order.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Read the next page: rows of this scope above `after`, at most `limit`. At most one per class is under way.
    ReadPage {
        /// The inbox.
        class: Class,
        /// Exclusive lower bound.
        after: InboxSeq,
        /// Rows.
        limit: u16,
        /// The rows that are wanted.
        scope: Scope,
    },
    /// Read waiting rows (`sent`) above `after`, at most `limit`: the fallback poll.
    Poll {
        /// The inbox.
        class: Class,
        /// Exclusive lower bound.
        after: InboxSeq,
        /// Rows.
        limit: u16,
    },
    /// Look what became of these rows, which are buffered or in flight. At most one per class is under way.
    CheckRows {
        /// The inbox.
        class: Class,
        /// Their numbers.
        seqs: Vec<InboxSeq>,
    },
    /// Put these on the wire.
    Emit(Vec<Emission>),
    /// Write these acks. Answered by [`Input::Committed`], always.
    Settle(Settlement),
    /// Mark as read. The task answers the client itself. Rows that this frees were settled by the effect before.
    Read {
        /// The chat.
        chat: ChatId,
        /// Up to where.
        target: ReadTarget,
        /// To be answered with `message:read:ok`.
        ticket: Option<Ticket>,
    },
    /// Count an attempt against a row that waits (guarded by its status). Answered by [`Input::Attempted`], always.
    CountAttempt {
        /// The row.
        envelope: Envelope,
        /// `ack timeout`, or the client's words.
        reason: String,
        /// Fail it now.
        is_final: bool,
    },
    /// Count a rejected message that is not in flight here, by its id. The task answers the client itself; nothing comes back.
    RejectById {
        /// The message.
        message: MessageId,
        /// The client's words.
        reason: String,
        /// Fail it now.
        is_final: bool,
        /// To be answered.
        ticket: Option<Ticket>,
    },
    /// Advance the low watermark (`settled_seq`). Answered by [`Input::LowWatermarkAdvanced`].
    AdvanceLowWatermark(Class),
    /// `queue:drained`.
    Drained {
        /// The inbox.
        class: Class,
        /// Its `last_seq` at connect.
        up_to: InboxSeq,
    },
    /// Answer with the frame's `…:ok`: every ack up to it on this connection is committed.
    Confirm(Ticket),
    /// Answer a reject, likewise in its turn. Without an outcome it could not be counted.
    ConfirmReject(Ticket, Option<AttemptOutcome>),
    /// Answer `error ack_ahead`: nothing was changed. Without a ticket the error goes out without an id.
    AckAhead {
        /// The frame.
        ticket: Option<Ticket>,
        /// The highest number emitted in the class.
        emitted: InboxSeq,
    },
    /// Close the connection.
    Close(CloseReason),
}
