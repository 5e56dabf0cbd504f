//! Points in time as they are written on the wire: RFC 3339, UTC, milliseconds. And how they are read.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// A point in time, written as `2026-11-01T12:00:00.000Z`. Digits beyond the millisecond are cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub OffsetDateTime);

impl Timestamp {
    /// Reads RFC 3339 with any offset. `None` when it is not that, or lies outside the years 0 to 9999 in UTC.
    pub fn parse(text: &str) -> Option<Self> {
        let utc = OffsetDateTime::parse(text, &Rfc3339).ok()?.checked_to_offset(UtcOffset::UTC)?;
        (0..=9999).contains(&utc.year()).then_some(Self(utc))
    }
}

impl From<OffsetDateTime> for Timestamp {
    fn from(at: OffsetDateTime) -> Self {
        Self(at)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.0.checked_to_offset(UtcOffset::UTC).unwrap_or(self.0);
        let (year, month, day) = at.to_calendar_date();
        let (hour, minute, second, ms) = at.to_hms_milli();
        write!(f, "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z", u8::from(month))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn it_is_written_in_utc_with_milliseconds() {
        assert_eq!(Timestamp(datetime!(2026-11-01 13:00:00.0019 +1)).to_string(), "2026-11-01T12:00:00.001Z");
    }

    #[test]
    fn any_offset_is_read_and_the_edge_of_time_is_refused() {
        assert_eq!(Timestamp::parse("2026-11-01T12:00:00+02:00"), Some(Timestamp(datetime!(2026-11-01 10:00 UTC))));
        for text in ["9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00+23:59", "2026-11-01", "2026-11-01T12:00:00", "tomorrow", ""] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }
}
