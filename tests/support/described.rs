//! Holds what a node says against `docs/asyncapi.json` and `docs/openapi.json`: every frame and every answer that a test's client gets.
//!
//! Each message and each response is compiled once for a run. What is not described fails the test as what is described otherwise.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::{Draft, Validator};
use serde_json::{Value, json};

static SOCKETS: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(include_str!("../../docs/asyncapi.json")).unwrap());
static HTTP: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap());
static COMPILED: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// A frame that a client of `/ws` got.
pub fn frame(frame: &Value) {
    let name = frame["event"].as_str().unwrap_or_default();
    let key = format!("frame {name}");
    let schema = || {
        let messages = SOCKETS["channels"]["ws"]["messages"].as_object().unwrap().iter();
        let told = messages.filter(|(key, message)| key.starts_with("told.") && message["name"] == name);
        json!({"anyOf": told.map(|(_, message)| message["payload"].clone()).collect::<Vec<_>>()})
    };
    check(&key, &SOCKETS, Draft::Draft7, schema, frame);
}

/// An answer of this media type to a request. Requests for what there is not, by their path or method, are not described.
pub fn answer(method: &str, path: &str, status: u16, media: &str, body: &Value) {
    let Some(operation) = operation(method, path) else { return };
    let response = &HTTP["paths"][&operation][method.to_lowercase()]["responses"][status.to_string()];
    let response = match response["$ref"].as_str() {
        Some(reference) => HTTP.pointer(reference.trim_start_matches('#')).unwrap(),
        None => response,
    };
    assert!(response.is_object(), "{method} {operation} is answered {status}, which is not described: {body}");
    let Some(contents) = response["content"].as_object() else { return };
    let schema = contents.get(media).map(|content| &content["schema"]);
    let schema = schema.unwrap_or_else(|| panic!("{method} {operation} is answered {status} as {media}, which is not described"));
    check(&format!("{method} {operation} {status} {media}"), &HTTP, Draft::Draft202012, || schema.clone(), body);
}

/// Every operation with its described answers below 300, as `get /v1/chats 200`; the opening of a socket is none.
pub fn successes() -> BTreeSet<String> {
    let operations = HTTP["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().iter().map(move |(method, operation)| (method, path, &operation["responses"]))
    });
    let answers = operations.flat_map(|(method, path, responses)| {
        let statuses = responses.as_object().unwrap().keys().filter(|status| status.starts_with('2'));
        statuses.map(move |status| format!("{method} {path} {status}"))
    });
    answers.collect()
}

/// The described path of a request, where there is one with this method.
pub fn operation(method: &str, path: &str) -> Option<String> {
    let path = path.split('?').next().unwrap_or_default();
    let fits = |described: &str| {
        let (mut ours, mut theirs) = (path.split('/'), described.split('/'));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some(_), Some(word)) if word.starts_with('{') => {}
                (Some(one), Some(other)) if one == other => {}
                _ => return false,
            }
        }
    };
    let paths = HTTP["paths"].as_object().unwrap();
    let exact = paths.contains_key(path).then(|| path.to_owned());
    let found = exact.or_else(|| paths.keys().find(|described| fits(described)).cloned())?;
    HTTP["paths"][&found].get(method.to_lowercase()).map(|_| found)
}

fn check(key: &str, document: &Value, draft: Draft, schema: impl FnOnce() -> Value, value: &Value) {
    let validator = Arc::clone(COMPILED.lock().unwrap().entry(key.to_owned()).or_insert_with(|| {
        let schema = json!({"allOf": [schema()], "components": document["components"]});
        Arc::new(jsonschema::options().with_draft(draft).should_validate_formats(true).with_format("uuid", is_id).build(&schema).unwrap())
    }));
    let wrong: Vec<String> = validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{key} is not as it is described: {wrong:?}\n{value}");
}

/// Draft 7 has no format of this name. The service writes ids in lower case, with hyphens.
fn is_id(text: &str) -> bool {
    uuid::Uuid::try_parse(text).is_ok_and(|id| id.to_string() == text)
}
