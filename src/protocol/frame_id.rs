//! The client's name for a frame, which its answer repeats. It is kept as the client wrote it, so that a large number comes back whole.

use std::fmt;

use serde::Serialize;
use serde_json::value::RawValue;

use super::fields::Field;
use crate::domain::limits;

/// The client's name for a frame: a string or a number, echoed in the answer exactly as it came.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct FrameId(Box<RawValue>);

impl Field<'_> for FrameId {
    fn read(value: &RawValue) -> Result<Self, std::borrow::Cow<'static, str>> {
        let text = value.get();
        let fits = match text.as_bytes().first() {
            Some(b'"') => serde_json::from_str::<String>(text).is_ok_and(|id| id.chars().count() <= limits::FRAME_ID_CHARS_MAX),
            Some(b'-' | b'0'..=b'9') => text.len() <= limits::FRAME_ID_CHARS_MAX,
            Some(_) | None => false,
        };
        if fits {
            return Ok(Self(value.to_owned()));
        }
        Err(format!("must be a string of at most {} characters, or a number", limits::FRAME_ID_CHARS_MAX).into())
    }
}

impl FrameId {
    /// A number as an id.
    pub(super) fn number(number: u64) -> Self {
        Self(RawValue::from_string(number.to_string()).expect("digits are JSON"))
    }

    /// The id as JSON, exactly as it came.
    pub fn as_json(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for FrameId {
    fn eq(&self, other: &Self) -> bool {
        self.as_json() == other.as_json()
    }
}

impl Eq for FrameId {}

impl fmt::Debug for FrameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_json())
    }
}
