//! One client's delivery state: what it has been given, what it has acked, what comes next.
//!
//! Pure: no socket, no clock, no database. [`Session::handle`] takes what happened and says what to do;
//! [`Session::next_deadline`] says when it wants to be asked again. The connection task does the rest.

mod io;

pub use io::*;
