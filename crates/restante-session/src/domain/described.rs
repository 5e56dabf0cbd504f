//! The JSON Schema of ids and numbers, beside their serde forms. Enums derive theirs where they stand.
//!
//! Each of them stands in place where it is used: a schema that is only a UUID or a number says more there than its name.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{ChatId, ChatSeq, DeviceId, ExternalId, FeedId, FeedSeq, InboxSeq, MessageId, NodeId, SessionId, limits};

macro_rules! described {
    ($($id:ident)* => $schema:expr) => { $(impl JsonSchema for $id {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            stringify!($id).into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            $schema
        }
    })* };
}

described!(ChatId FeedId MessageId NodeId SessionId => json_schema!({"type": "string", "format": "uuid"}));
described!(ChatSeq FeedSeq InboxSeq => json_schema!({"type": "integer", "format": "int64", "minimum": 0, "maximum": i64::MAX}));
described!(ExternalId => text(limits::USER_ID_CHARS_MAX));
described!(DeviceId => text(limits::DEVICE_ID_CHARS_MAX));

/// A text of 1 to so many characters without NUL.
fn text(chars_max: usize) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": chars_max, "pattern": "^[^\\u0000]*$"})
}
