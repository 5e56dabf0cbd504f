//! A client of the service: what the command line, the benchmark and the tests speak to it with.
//!
//! Two layers that can be used apart. [`Wire`] is one socket: frames go in, frames come out, nothing is
//! understood. [`Client`] is a person at a device: it comes back after a lost connection, repeats what was
//! not confirmed, acks what its owner has taken, and hands each message out once. [`Http`] makes the few
//! calls that have no place on a socket.
//!
//! The types here are written against the protocol's description and share nothing with the service's own
//! frames, on purpose: a mistake made on both sides at once would be seen by nobody.

#![warn(missing_docs)]

mod acks;
mod audit;
mod backoff;
mod data_keys;
mod dead_letters;
mod endpoint;
mod erasures;
mod events;
#[cfg(test)]
mod fake;
mod happening;
mod hint;
mod http;
mod limits;
mod payloads;
mod people;
mod reconnecting;
mod revocations;
mod statistics;
#[cfg(test)]
mod tests;
mod transport;
mod unconfirmed;
mod wire;

pub use audit::{AuditEntry, AuditPage, AuditQuery};
pub use backoff::{Backoff, Gone, close_code};
pub use data_keys::{DataKey, DataKeys};
pub use dead_letters::{DeadLetter, DeadLetterDetails, DeadLetterOutcome, DeadLetterPage, DeadLetterQuery};
pub use endpoint::{AckStyle, Door, Options};
pub use erasures::Erasure;
pub use events::{Event, Frame, encode, is_retryable};
pub use happening::{ConnectError, Destination, Happening, NewMessage, RequestError};
pub use http::{Chat, Http, HttpError, Other, RecipientStatus};
pub use limits::{RaisedLimit, RaisedLimitPage, RaisedLimitQuery};
pub use payloads::{
    Answer, ChatChange, ChatRead, Drained, Envelope, ErrorReport, FeedEvent, Gap, NoticePlace, Presence, Published, ReadUpTo, Ready,
    Recalled, Sender, Sent, StatusException, StatusKind, StatusUpdate, Typing,
};
pub use reconnecting::Client;
pub use revocations::{NewRevocation, Revocation, RevocationPage, RevocationQuery};
pub use statistics::{EventFigures, Figures, Percentiles, Statistics, StatisticsQuery};
pub use wire::{Wire, WireError};
