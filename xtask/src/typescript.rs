//! TypeScript types of JSON Schemas: as much of the language as the descriptions of the service use. Text in, text out.
//!
//! Bounds and formats are left out, since types do not have them. What the schema does not say is any JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

const HEAD: &str = "\
/**
 * The types of the wire, made from docs/openapi.json and docs/asyncapi.json by `cargo xtask descriptions`. Changes are made there.
 */

/** Any JSON. */
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
";

/// The types of all named schemas, and what each event carries on `/ws`.
pub fn types(openapi: &Value, asyncapi: &Value) -> String {
    let mut schemas: BTreeMap<&str, &Value> = BTreeMap::new();
    for document in [openapi, asyncapi] {
        let named = document["components"]["schemas"].as_object();
        schemas.extend(named.into_iter().flatten().map(|(name, schema)| (name.as_str(), schema)));
    }
    let mut text = HEAD.to_owned();
    for (name, schema) in schemas {
        text.push_str(&named(name, schema));
    }
    for (name, about, direction) in [
        ("ServiceEvents", "The events that a client of `/ws` is told: data by event.", "told."),
        ("ClientEvents", "The events that a client says: data by event.", "said."),
    ] {
        text.push_str(&format!("\n/** {about} */\nexport interface {name} {{\n{}}}\n", events(asyncapi, direction)));
    }
    text
}

fn events(asyncapi: &Value, direction: &str) -> String {
    let mut events: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (key, message) in asyncapi["channels"]["ws"]["messages"].as_object().into_iter().flatten() {
        if key.starts_with(direction) {
            events
                .entry(message["name"].as_str().unwrap_or_default())
                .or_default()
                .push(type_of(&message["payload"]["properties"]["data"], ""));
        }
    }
    events.into_iter().map(|(event, choices)| format!("  \"{event}\": {};\n", choices.join(" | "))).collect()
}

fn named(name: &str, schema: &Value) -> String {
    let body = type_of(schema, "");
    let declared =
        if is_plain_object(schema) { format!("export interface {name} {body}\n") } else { format!("export type {name} = {body};\n") };
    format!("\n{}{declared}", about(schema, ""))
}

fn is_plain_object(schema: &Value) -> bool {
    schema["properties"].is_object() && choices(schema).is_none() && schema["allOf"].is_null()
}

/// The description as a comment.
fn about(schema: &Value, indent: &str) -> String {
    let words = schema["description"].as_str().map(|words| words.split_whitespace().collect::<Vec<_>>().join(" "));
    words.map_or_else(String::new, |words| format!("{indent}/** {} */\n", words.replace("*/", "* /")))
}

/// The type of a schema. Fields stand `indent` and two spaces deep.
fn type_of(schema: &Value, indent: &str) -> String {
    if let Some(reference) = schema["$ref"].as_str().filter(|_| schema.get("const").is_none() && schema.get("enum").is_none()) {
        return reference.rsplit('/').next().unwrap_or(reference).to_owned();
    }
    if let Some(constant) = schema.get("const") {
        return constant.to_string();
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    let own = own_type(schema, indent);
    let all = schema["allOf"].as_array().into_iter().flatten().map(|part| type_of(part, indent));
    let choice = choices(schema).map(|choices| choices.iter().map(|choice| type_of(choice, indent)).collect::<Vec<_>>().join(" | "));
    let parts: Vec<String> = own.into_iter().chain(all).chain(choice).collect();
    match &parts[..] {
        [] => "Json".to_owned(),
        [one] => one.clone(),
        several => several.iter().map(|part| in_brackets(part)).collect::<Vec<_>>().join(" & "),
    }
}

/// The schemas of which one holds. Those that only say which fields must be there are none.
fn choices(schema: &Value) -> Option<Vec<&Value>> {
    let choices = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array())?;
    let says_a_type = |choice: &&Value| ["type", "$ref", "const", "allOf", "oneOf", "anyOf"].iter().any(|word| choice.get(word).is_some());
    let choices: Vec<&Value> = choices.iter().filter(says_a_type).collect();
    (!choices.is_empty()).then_some(choices)
}

/// The type that its own words describe, beside the schemas that it is put together of. None: they describe none.
fn own_type(schema: &Value, indent: &str) -> Option<String> {
    if let Some(fields) = schema["properties"].as_object() {
        return Some(object(fields, &schema["required"], indent));
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    let is_put_together = choices(schema).is_some() || schema["allOf"].is_array();
    let words: Vec<String> =
        kinds.into_iter().filter(|kind| *kind != "object" || !is_put_together).map(|kind| of_kind(kind, schema, indent)).collect();
    (!words.is_empty()).then(|| words.join(" | "))
}

fn of_kind(kind: &str, schema: &Value, indent: &str) -> String {
    match kind {
        "integer" | "number" => "number".to_owned(),
        "array" => format!("{}[]", in_brackets(&type_of(&schema["items"], indent))),
        "object" if schema["additionalProperties"].is_object() => {
            format!("Record<string, {}>", type_of(&schema["additionalProperties"], indent))
        }
        "object" => "Record<string, never>".to_owned(),
        other => other.to_owned(),
    }
}

/// With brackets round a choice.
fn in_brackets(text: &str) -> String {
    let mut depth = 0;
    let is_choice = text.chars().any(|c| {
        depth += i32::from(matches!(c, '{' | '(')) - i32::from(matches!(c, '}' | ')'));
        c == '|' && depth == 0
    });
    if is_choice { format!("({text})") } else { text.to_owned() }
}

fn object(fields: &Map<String, Value>, required: &Value, indent: &str) -> String {
    let deeper = format!("{indent}  ");
    let lines = fields.iter().map(|(name, field)| {
        let is_required = required.as_array().is_some_and(|names| names.iter().any(|one| one == name));
        let mark = if is_required { "" } else { "?" };
        format!("{}{deeper}{name}{mark}: {};\n", about(field, &deeper), type_of(field, &deeper))
    });
    format!("{{\n{}{indent}}}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_becomes_a_type() {
        let one = |schema: Value| type_of(&schema, "");
        assert_eq!(one(json!(true)), "Json");
        assert_eq!(one(json!({"type": ["string", "null"], "format": "uuid"})), "string | null");
        assert_eq!(one(json!({"type": "array", "items": {"type": ["integer", "null"]}})), "(number | null)[]");
        assert_eq!(one(json!({"allOf": [{"$ref": "#/components/schemas/Class"}], "description": "The inbox."})), "Class");
        assert_eq!(one(json!({"$ref": "#/components/schemas/Class", "const": "chat"})), "\"chat\"");
        assert_eq!(one(json!({"anyOf": [{"$ref": "#/x/A"}, {"type": "null"}]})), "A | null");
        assert_eq!(one(json!({"oneOf": [{"const": "a", "description": "x"}, {"const": "b"}]})), "\"a\" | \"b\"");
        assert_eq!(one(json!({"type": "object", "additionalProperties": {"type": "integer"}})), "Record<string, number>");
    }

    #[test]
    fn an_object_becomes_an_interface_and_rules_about_its_fields_are_left_out() {
        let fields = json!({"a": {"type": "string", "description": "The first."}, "b": {"type": "boolean"}});
        let rules = json!([{"required": ["a"], "properties": {"a": {"not": {"type": "null"}}}}]);
        let schema = json!({"type": "object", "description": "Some.", "properties": fields, "required": ["b"], "oneOf": rules});
        assert_eq!(
            named("Some", &schema),
            "\n/** Some. */\nexport interface Some {\n  /** The first. */\n  a?: string;\n  b: boolean;\n}\n"
        );
    }

    #[test]
    fn fields_and_a_choice_of_more_fields_are_put_together() {
        let choice = |name: &str| json!({"type": "object", "properties": {name: {"type": "string"}}, "required": [name]});
        let schema = json!({"type": "object", "properties": {"x": {"type": "number"}}, "oneOf": [choice("a"), choice("b")]});
        assert_eq!(type_of(&schema, ""), "{\n  x?: number;\n} & ({\n  a: string;\n} | {\n  b: string;\n})");
    }
}
