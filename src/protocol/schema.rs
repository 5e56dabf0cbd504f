//! JSON Schemas of the types of the protocol, made from their derives, for the descriptions of HTTP, of `/ws` and of Socket.IO.
//!
//! The words of the service and those of clients are two contracts: the service leaves a field out where a client may also write
//! `null`. A type that is used in both has one schema. Nothing here runs in a node: the descriptions are written down beforehand.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

/// The place of named schemas, in OpenAPI and in AsyncAPI alike.
const DEFINITIONS: &str = "/components/schemas";

/// The words of a description of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// JSON Schema 2020-12, as OpenAPI 3.1 has it.
    Draft2020,
    /// JSON Schema draft 7, on which that of AsyncAPI 3 stands.
    Draft07,
}

/// Collects the named schemas of a description.
#[derive(Debug)]
pub struct Schemas {
    told: SchemaGenerator,
    said: SchemaGenerator,
}

impl Schemas {
    /// No schemas yet.
    pub fn new(dialect: Dialect) -> Self {
        let settings = |cleaned: fn(&mut Schema)| {
            let settings = match dialect {
                Dialect::Draft2020 => SchemaSettings::draft2020_12(),
                Dialect::Draft07 => SchemaSettings::draft07(),
            };
            settings.with(|settings| {
                settings.definitions_path = DEFINITIONS.into();
                // Before those of the dialect, which look at what they leave.
                settings.transforms.insert(0, Box::new(cleaned));
            })
        };
        Self { told: settings(clean_told).for_serialize().into_generator(), said: settings(clean).into_generator() }
    }

    /// The schema of what the service says: a reference to a named one, or the schema itself.
    pub fn told<T: JsonSchema>(&mut self) -> Value {
        in_place(&mut self.told, T::inline_schema(), SchemaGenerator::subschema_for::<T>)
    }

    /// The schema of what a client says.
    pub fn said<T: JsonSchema>(&mut self) -> Value {
        in_place(&mut self.said, T::inline_schema(), SchemaGenerator::subschema_for::<T>)
    }

    /// The schemas of the fields of what a client says, each with its name and whether it must be there: parameters of a query.
    pub fn fields<T: JsonSchema>(&mut self) -> Vec<(String, Value, bool)> {
        let mut schema = T::json_schema(&mut self.said);
        clean(&mut schema);
        clean_told(&mut schema);
        let is_required =
            |name: &str| schema.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|one| one == name));
        let fields = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        fields.into_iter().map(|(name, field)| (name.clone(), field, is_required(&name))).collect()
    }

    /// Every named schema that was asked for, and those that they name.
    ///
    /// # Panics
    /// Two types of one name have different schemas: one of them needs another name.
    pub fn definitions(mut self) -> Map<String, Value> {
        let mut all = self.told.take_definitions(true);
        for (name, schema) in self.said.take_definitions(true) {
            let told = all.entry(name.clone()).or_insert_with(|| schema.clone());
            assert_eq!(*told, schema, "two schemas have the name {name}");
        }
        all
    }
}

/// A schema that stands where it is used goes through the transforms of its generator; a reference needs none.
fn in_place(generator: &mut SchemaGenerator, is_inline: bool, make: impl FnOnce(&mut SchemaGenerator) -> Schema) -> Value {
    let mut schema = make(generator);
    if is_inline {
        for transform in generator.transforms_mut() {
            transform.transform(&mut schema);
        }
    }
    schema.to_value()
}

/// The rules for the service's words: a field that it may leave out is never null.
fn clean_told(schema: &mut Schema) {
    let required: Vec<Value> = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, field) in fields {
            if !required.contains(&json!(name)) {
                without_null(field);
            }
        }
    }
    words(schema);
    transform_subschemas(&mut clean_told, schema);
}

/// The rules for a client's words: no text of them holds NUL, and ids and times have their form also where a reader knows no formats.
fn clean(schema: &mut Schema) {
    let is_text =
        schema.get("type").is_some_and(|kind| kind == "string" || kind.as_array().is_some_and(|kinds| kinds.contains(&json!("string"))));
    if is_text && ["pattern", "enum", "const"].iter().all(|word| schema.get(*word).is_none()) {
        let pattern = match schema.get("format").and_then(Value::as_str) {
            Some("uuid") => "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$",
            Some("date-time") => "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$",
            Some(_) | None => "^[^\\u0000]*$",
        };
        schema.insert("pattern".to_owned(), json!(pattern));
    }
    words(schema);
    transform_subschemas(&mut clean, schema);
}

/// Takes out what says nothing to a reader: formats that JSON Schema does not know, links of the source's documentation and what follows
/// its first paragraph, which is for readers of the source, and that there are no further fields, since there may be at any time.
fn words(schema: &mut Schema) {
    if schema.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint") || format == "double") {
        schema.remove("format");
    }
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    for closed in ["additionalProperties", "unevaluatedProperties"] {
        if schema.get(closed) == Some(&Value::Bool(false)) && schema.get("x-closed").is_none() {
            schema.remove(closed);
        }
    }
    schema.remove("x-closed");
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.split("\n\n").next().unwrap_or_default().replace("[`", "`").replace("`]", "`");
    }
}

fn without_null(field: &mut Value) {
    let Some(field) = field.as_object_mut() else { return };
    if let Some(Value::Array(types)) = field.get_mut("type") {
        types.retain(|name| name != "null");
        if let [one] = &types[..] {
            let one = one.clone();
            field.insert("type".to_owned(), one);
        }
    }
    let Some(Value::Array(choices)) = field.get_mut("anyOf") else { return };
    choices.retain(|choice| choice.get("type") != Some(&json!("null")));
    if let [Value::Object(one)] = &choices[..] {
        let one = one.clone();
        field.remove("anyOf");
        field.extend(one);
    }
}

/// Exactly one of these fields is there, and is not null. For `#[schemars(transform = …)]`.
#[derive(Debug, Clone, Copy)]
pub struct ExactlyOne(pub &'static [&'static str]);

impl Transform for ExactlyOne {
    fn transform(&mut self, schema: &mut Schema) {
        let one = |name: &&str| json!({"required": [name], "properties": {*name: {"not": {"type": "null"}}}});
        schema.insert("oneOf".to_owned(), self.0.iter().map(one).collect());
    }
}

/// Nothing but the fields that are described. For `#[schemars(transform = …)]`.
pub fn closed(schema: &mut Schema) {
    schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    schema.insert("x-closed".to_owned(), Value::Bool(true));
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    #[derive(Serialize, JsonSchema)]
    #[serde(rename_all = "camelCase")]
    struct Sample {
        /// A [`Sample`] of text.
        always_there: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        may_be_missing: Option<u16>,
    }

    #[test]
    fn the_service_leaves_out_and_a_client_may_also_write_null() {
        let mut schemas = Schemas::new(Dialect::Draft2020);
        assert_eq!(schemas.told::<Sample>(), json!({"$ref": "#/components/schemas/Sample"}));
        let sample = &schemas.definitions()["Sample"];
        assert_eq!(sample["required"], json!(["alwaysThere"]));
        assert_eq!(sample["properties"]["alwaysThere"], json!({"type": ["string", "null"], "description": "A `Sample` of text."}));
        assert_eq!(sample["properties"]["mayBeMissing"], json!({"type": "integer", "minimum": 0, "maximum": 65_535}));
        let mut schemas = Schemas::new(Dialect::Draft2020);
        let _ = schemas.said::<Sample>();
        assert_eq!(schemas.definitions()["Sample"]["properties"]["mayBeMissing"]["type"], json!(["integer", "null"]));
    }

    #[test]
    fn one_of_several_fields_is_there_and_null_is_as_good_as_missing() {
        let mut schema = Schema::default();
        ExactlyOne(&["a", "b"]).transform(&mut schema);
        let schema = jsonschema::validator_for(&schema.to_value()).unwrap();
        for (value, fits) in [
            (json!({"a": 1}), true),
            (json!({"a": 1, "b": null}), true),
            (json!({}), false),
            (json!({"a": null}), false),
            (json!({"a": 1, "b": 1}), false),
        ] {
            assert_eq!(schema.is_valid(&value), fits, "{value}");
        }
    }
}
