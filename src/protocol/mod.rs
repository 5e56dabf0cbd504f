//! The wire format: frames, events, error and close codes. The only serde for sockets; HTTP bodies have the same
//! shapes.
//!
//! [`codes`] is the one table of errors; [`client`] and [`publish`] turn hostile text into checked values; [`message`]
//! writes the frames that carry messages, each message's part of them only once; [`recalled`] has those of recalls, [`people`] and [`invitations`] what users
//! say about one another, and [`server`] every other event. A [`dialect`] is what one kind of client speaks: [`codec`] has that of `/ws`, [`socketio`] and [`event_stream`] the others. Nothing here knows a socket, a session
//! or the database.

pub mod asyncapi;
mod audit;
pub mod client;
pub mod codec;
pub mod codes;
mod data_keys;
mod dead_letter;
pub mod dialect;
mod erasure;
pub mod event;
pub mod event_stream;
pub mod feed_event;
pub mod fields;
mod frame_id;
pub mod invitations;
mod json;
pub mod message;
pub mod people;
pub mod publish;
mod raised_limit;
pub mod recalled;
pub mod requests;
mod revocation;
pub mod schema;
pub mod server;
pub mod socketio;
mod statistics;
mod timestamp;

#[cfg(test)]
mod properties;

pub use audit::AuditEntryData;
pub use codes::{Code, ComeBack, Fault};
pub use data_keys::{DataKeyData, DataKeysData, RotationData};
pub use dead_letter::DeadLetterData;
pub use erasure::{ErasedContentWord, ErasureData};
pub use raised_limit::RaisedLimitData;
pub use revocation::RevocationData;
pub use statistics::{EventFiguresData, StatisticsData};
pub use timestamp::Timestamp;
