//! The words of the service and its core: [`domain`] has ids, envelopes, statuses, limits and the clock; [`session`] is one
//! client's delivery as a state machine.
//!
//! Pure: no socket, no runtime, no database. Its tests build none of them.

#![warn(missing_docs)]

pub mod domain;
pub mod session;
