//! The words of the product as plain values: ids, messages, envelopes, statuses, limits.
//!
//! Everything here can be built, compared and printed without a socket or a database, and knows none of the other
//! modules; only [`Clock`] and ids that are made read a clock. A value that exists has been checked: an [`ExternalId`] is 1 to 128
//! characters long wherever it turns up.

mod audit;
mod chat;
mod class;
mod clock;
mod dead_letter;
mod described;
mod direct_messages;
mod envelope;
mod extension;
mod figures;
mod ids;
pub mod limits;
mod merge;
mod metering;
mod nesting;
mod network;
mod page;
mod preferences;
mod printable;
mod receipt;
mod revocation;
mod status;

pub use audit::{AuditEntry, Operator};
pub use chat::{ChatKind, Role};
pub use class::{Class, PerClass};
pub use clock::{Clock, Now};
pub use dead_letter::DeadLetter;
pub use direct_messages::DirectMessages;
pub use envelope::{Envelope, FeedPlace, GapReason, Message, Profile, RESERVED_TYPES, Recall};
pub use extension::Extension;
pub use figures::{Delays, EventFigures, FigureGroup, GroupBy, HourSpan, Outcomes};
pub use ids::{ChatId, ChatSeq, DeviceId, EventId, ExternalId, FeedId, FeedSeq, InboxSeq, InvalidId, MessageId, NodeId, SessionId, UserId};
pub use merge::{MergeOperation, MergeRules, MergedEvent};
pub use metering::{AddressBlock, LimitKind, LimitSubject, RaisedLimit, Spent};
pub use nesting::depth_fits;
pub use network::{Network, NoNetwork};
pub use page::{AttemptOutcome, FeedRange, Page, PageRow, RowState};
pub use preferences::{MutedChats, Preferences};
pub use printable::{printable, printable_json, printable_lines};
pub use receipt::{Exception, MovedMark, Receipt, ReceiptCounts};
pub use revocation::{HeldToken, Revocation, Revoked};
pub use status::Status;
