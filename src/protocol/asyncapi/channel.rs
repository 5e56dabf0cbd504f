//! A channel of AsyncAPI: one kind of socket, with the messages and the operations on it.
//!
//! A message is named as its event. Its key says who says it, since an event may go both ways, and tells several shapes of one event apart.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::protocol::requests::FrameIdData;
use crate::protocol::schema::Schemas;
use crate::protocol::server::Shape;

/// A channel that is described.
pub(super) struct Described {
    /// Its key.
    pub(super) name: &'static str,
    /// The channel.
    pub(super) channel: Value,
    /// The operations on it, by their keys.
    pub(super) operations: Map<String, Value>,
}

/// A channel that is being described.
pub(super) struct Channel<'s> {
    name: &'static str,
    schemas: &'s mut Schemas,
    form: Form,
    messages: Map<String, Value>,
    operations: Map<String, Value>,
}

/// The envelope around the data of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A frame with `event`, `id` and `data`.
    Frame,
    /// The data is the one argument of an event of this name.
    Argument,
}

/// The key of a message.
pub(super) type Key = String;

impl<'s> Channel<'s> {
    pub(super) fn new(name: &'static str, form: Form, schemas: &'s mut Schemas) -> Self {
        Self { name, schemas, form, messages: Map::new(), operations: Map::new() }
    }

    /// An event that clients are told, with the name of its shape.
    pub(super) fn tells<T: Shape + JsonSchema>(&mut self) -> Key {
        self.tells_as::<T>(T::EVENT)
    }

    /// An event of this name that clients are told.
    pub(super) fn tells_as<T: JsonSchema>(&mut self, event: &str) -> Key {
        let data = self.schemas.told::<T>();
        let first = format!("told.{}", dotted(event));
        let key = if self.messages.contains_key(&first) { format!("{first}.{}", T::schema_name()) } else { first };
        self.message(key, event, data, true)
    }

    /// A command of this name, with all that may answer it. Without `data` its frame needs none.
    pub(super) fn hears<T: JsonSchema>(&mut self, event: &str, summary: &str, answers: &[&Key]) {
        let data = self.schemas.said::<T>();
        let schema = T::json_schema(&mut SchemaGenerator::default());
        let needs_data = schema.get("required").is_some() || schema.get("oneOf").is_some();
        let key = self.message(format!("said.{}", dotted(event)), event, data, needs_data || self.form == Form::Argument);
        let mut operation = json!({
            "action": "receive",
            "channel": self.reference(),
            "summary": summary,
            "messages": [self.reference_to(&key)],
        });
        if !answers.is_empty() {
            operation["reply"] = self.reply(answers);
        }
        self.operations.insert(format!("{}.{}", self.name, dotted(event)), operation);
    }

    /// An answer to a callback: no event, only its data.
    pub(super) fn calls_back(&mut self, key: &str, summary: &str, schema: Value) -> Key {
        self.messages.insert(key.to_owned(), json!({"name": key, "summary": summary, "payload": schema}));
        key.to_owned()
    }

    /// These messages are told. Some are answered.
    pub(super) fn sends(&mut self, operation: &str, summary: &str, keys: &[Key], answers: &[&Key]) {
        let messages: Vec<Value> = keys.iter().map(|key| self.reference_to(key)).collect();
        let mut described = json!({"action": "send", "channel": self.reference(), "summary": summary, "messages": messages});
        if !answers.is_empty() {
            described["reply"] = self.reply(answers);
        }
        self.operations.insert(format!("{}.{operation}", self.name), described);
    }

    /// The schema of something that is told, for a payload that is put together.
    pub(super) fn schema_of<T: JsonSchema>(&mut self) -> Value {
        self.schemas.told::<T>()
    }

    /// The schema of something that is said.
    pub(super) fn schema_said<T: JsonSchema>(&mut self) -> Value {
        self.schemas.said::<T>()
    }

    /// The channel with its messages.
    pub(super) fn finished(self, channel: Value) -> Described {
        let mut channel = channel;
        channel["messages"] = self.messages.into();
        Described { name: self.name, channel, operations: self.operations }
    }

    fn message(&mut self, key: Key, event: &str, data: Value, needs_data: bool) -> Key {
        let payload = match self.form {
            Form::Argument => data,
            Form::Frame => {
                let required: &[&str] = if needs_data { &["event", "data"] } else { &["event"] };
                let properties =
                    json!({"event": {"type": "string", "const": event}, "id": self.schemas.told::<FrameIdData>(), "data": data});
                json!({"type": "object", "required": required, "properties": properties})
            }
        };
        self.messages.insert(key.clone(), json!({"name": event, "payload": payload}));
        key
    }

    fn reply(&self, answers: &[&Key]) -> Value {
        let messages: Vec<Value> = answers.iter().map(|key| self.reference_to(key)).collect();
        json!({"channel": self.reference(), "messages": messages})
    }

    fn reference(&self) -> Value {
        json!({"$ref": format!("#/channels/{}", self.name)})
    }

    fn reference_to(&self, key: &Key) -> Value {
        json!({"$ref": format!("#/channels/{}/messages/{key}", self.name)})
    }
}

/// Keys are words with dots.
fn dotted(event: &str) -> String {
    event.replace(':', ".")
}
