//! The descriptions of HTTP and of the sockets: complete, as the types have them, and as the parsers read.
//!
//! `cargo xtask descriptions` writes the files by the first of these tests. Whether a node's answers are as described is held wherever a
//! test's client gets one (`tests/support/described.rs`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "documents/events.rs"]
mod events;
#[path = "documents/frames.rs"]
#[expect(dead_code, reason = "the tests of the documents use more of it")]
mod frames;
#[path = "documents/markdown.rs"]
#[expect(dead_code, reason = "the tests of the documents use more of it")]
mod markdown;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use events::events;
use jsonschema::{Draft, Validator};
use markdown::taken_apart;
use restante::domain::limits;
use restante::http::openapi;
use restante::protocol::{asyncapi, client};
use serde_json::{Value, json};

/// Makes a description from the types.
type Make = fn() -> Value;

const DESCRIPTIONS: [(&str, Make); 2] = [("docs/openapi.json", openapi::document), ("docs/asyncapi.json", asyncapi::document)];

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn read(relative: &str) -> String {
    fs::read_to_string(path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

/// The texts between quotes in a line of code.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

fn text(document: &Value) -> String {
    serde_json::to_string_pretty(document).unwrap() + "\n"
}

#[test]
fn the_committed_descriptions_are_those_of_the_types() {
    let is_writing = std::env::var_os("DESCRIPTIONS").is_some_and(|word| word == "write");
    for (file, document) in DESCRIPTIONS {
        let now = text(&document());
        if is_writing {
            fs::write(path(file), now).unwrap();
        } else {
            assert!(read(file) == now, "{file} is not what the types say; run `cargo xtask descriptions` and commit it");
        }
    }
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let routes = read("src/http/mod.rs");
    let mut real = BTreeSet::new();
    for route in routes.split(".route(").skip(1) {
        let path = quoted(route).next().unwrap().replace("{chat}", "{chatId}").replace("{message}", "{messageId}");
        let path = path.replace("{event}", "{eventId}").replace("{feed}", "{feedId}");
        let line = route.lines().next().unwrap();
        for (call, method) in [("get(", "get"), ("post(", "post"), ("delete(", "delete"), ("put(", "put"), ("patch(", "patch")] {
            if line.contains(&format!(" {call}")) || line.contains(&format!(").{call}")) {
                real.insert(format!("{method} {path}"));
            }
        }
    }
    // One handler takes every method and answers these two, with the slash and without it.
    assert!(routes.contains(r#"routes.route("/socket.io/", requests.clone()).route("/socket.io", requests)"#));
    real.extend(["get /socket.io/", "post /socket.io/"].map(str::to_owned));
    let document = openapi::document();
    let paths = document["paths"].as_object().unwrap().iter();
    let described: BTreeSet<String> =
        paths.flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))).collect();
    assert!(real.len() > 40, "{real:?}");
    assert_eq!(described, real);
}

#[test]
fn every_operation_has_a_name_of_its_own_and_links_lead_to_one() {
    let document = openapi::document();
    let operations: Vec<&Value> =
        document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values()).collect();
    let ids: BTreeSet<&str> = operations.iter().map(|operation| operation["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), operations.len());
    let mut links = 0;
    for response in operations.iter().flat_map(|operation| operation["responses"].as_object().unwrap().values()) {
        for link in response["links"].as_object().into_iter().flat_map(|links| links.values()) {
            links += 1;
            assert!(ids.contains(link["operationId"].as_str().unwrap()), "{link}");
        }
    }
    assert!(links > 10, "{links}");
}

/// The names of a channel's messages that begin with this word in their keys.
fn names(channel: &str, direction: &str) -> BTreeSet<String> {
    let document = asyncapi::document();
    let messages = document["channels"][channel]["messages"].as_object().unwrap().iter();
    messages.filter(|(key, _)| key.starts_with(direction)).map(|(_, message)| message["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_event_is_described_and_nothing_else() {
    let real = events();
    let mut described = names("ws", "told.");
    described.extend(names("ws", "said."));
    assert_eq!(described, real);
    // Batches, and answers that only a callback gets, are no events of Socket.IO; what it has beside `/ws` stands in its sources.
    let said: BTreeSet<String> = names("socketio", "said.").into_iter().filter(|name| name != "user:reconnected").collect();
    assert_eq!(said, names("ws", "said."));
    let own: BTreeSet<String> = names("socketio", "told.").difference(&names("ws", "told.")).cloned().collect();
    assert_eq!(own, ["message:new", "message:read", "user:presence"].map(str::to_owned).into());
    let sources = [read("src/protocol/socketio/dialect.rs"), read("src/protocol/socketio/shapes.rs")].concat();
    assert!(own.iter().all(|name| sources.contains(&format!("\"{name}\""))));
    let not_there: BTreeSet<String> = names("ws", "told.").difference(&names("socketio", "told.")).cloned().collect();
    let is_answer = |name: &String| name.ends_with(":ok") || ["event:published", "presence:state", "pong"].contains(&name.as_str());
    assert!(not_there.iter().all(|name| is_answer(name) || name.ends_with(":batch")), "{not_there:?}");
}

#[test]
fn what_connects_and_first_says_who_it_is_has_the_fields_that_are_read() {
    let fields = |file: &str, of: &str| -> BTreeSet<String> {
        let source = read(file);
        let body = source.split(&format!("pub struct {of} {{")).nth(1).unwrap().split("\n}").next().unwrap().to_owned();
        body.lines().filter_map(|line| line.trim().strip_prefix("pub ")).map(|line| line.split(':').next().unwrap().to_owned()).collect()
    };
    let document = asyncapi::document();
    let described = |object: &Value| -> BTreeSet<String> { object["properties"].as_object().unwrap().keys().cloned().collect() };
    let query = &document["channels"]["ws"]["bindings"]["ws"]["query"];
    assert_eq!(described(query), fields("src/connection/handshake.rs", "ConnectQuery"));
    let auth = &document["components"]["schemas"]["SocketIoAuthData"];
    assert_eq!(described(auth), fields("src/protocol/socketio/commands.rs", "Auth"));
}

/// The payloads of the messages of `/ws` of this direction, by the name of their event.
fn payloads(direction: &str) -> BTreeMap<String, Validator> {
    let document = asyncapi::document();
    let mut choices: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (key, message) in document["channels"]["ws"]["messages"].as_object().unwrap() {
        if key.starts_with(direction) {
            choices.entry(message["name"].as_str().unwrap().to_owned()).or_default().push(message["payload"].clone());
        }
    }
    let compiled = choices.into_iter().map(|(name, payloads)| {
        let schema = json!({"anyOf": payloads, "components": document["components"]});
        (
            name,
            jsonschema::options()
                .with_draft(Draft::Draft7)
                .should_validate_formats(true)
                .with_format("uuid", is_id)
                .build(&schema)
                .unwrap(),
        )
    });
    compiled.collect()
}

/// Draft 7 has no format of this name, and what the service reads has hyphens.
fn is_id(text: &str) -> bool {
    text.len() == ID.len() && uuid::Uuid::try_parse(text).is_ok()
}

/// The fields whose absence the service never leaves to chance: each of them missing makes the frame another one.
fn without_each_field(frame: &Value) -> Vec<Value> {
    let names = frame["data"].as_object().unwrap().keys().cloned();
    names
        .map(|name| {
            let mut less = frame.clone();
            less["data"].as_object_mut().unwrap().remove(&name);
            less
        })
        .collect()
}

#[test]
fn every_frame_of_the_service_is_as_described() {
    let payloads = payloads("told.");
    let mut refused = 0;
    for frame in frames::of_the_service() {
        let payload = &payloads[frame["event"].as_str().unwrap()];
        payload.validate(&frame).unwrap_or_else(|error| panic!("{error}: {frame}"));
        refused += without_each_field(&frame).iter().filter(|less| !payload.is_valid(less)).count();
        let mut other = frame.clone();
        other["data"] = json!(7);
        assert!(!payload.is_valid(&other), "{other}");
    }
    assert!(refused > 80, "only {refused} fields are required");
}

#[test]
fn every_example_of_a_command_is_as_described() {
    let payloads = payloads("said.");
    let document = read("docs/protocol.md");
    let mut seen = BTreeSet::new();
    for block in taken_apart(&document).0.into_iter().filter(|block| block.language == "json") {
        if client::parse(&block.text).is_ok() {
            let frame: Value = serde_json::from_str(&block.text).unwrap();
            let name = frame["event"].as_str().unwrap();
            payloads[name].validate(&frame).unwrap_or_else(|error| panic!("{error}: {frame}"));
            seen.insert(name.to_owned());
        }
    }
    assert_eq!(seen, payloads.keys().cloned().collect(), "every command has an example");
}

const ID: &str = "0192f0c0-7d4e-7cc3-98c4-dc0c0c07398f";

/// Data of commands, each at an edge: what is read and what is not.
fn samples() -> Vec<(&'static str, Value)> {
    [samples_of_the_rest(), samples_of_sends(), samples_of_publishing()].concat()
}

fn samples_of_the_rest() -> Vec<(&'static str, Value)> {
    let many = |count: usize| vec![ID; count];
    vec![
        ("authenticate", json!({"token": "a.b.c"})),
        ("authenticate", json!({})),
        ("authenticate", json!({"token": 1})),
        ("message:skip", json!({"messageId": ID})),
        ("message:skip", json!({})),
        ("message:recall", json!({"messageId": [ID]})),
        ("message:delivered", json!({"messageId": ID})),
        ("message:delivered", json!({"messageIds": []})),
        ("message:delivered", json!({"messageIds": many(limits::IDS_MAX)})),
        ("message:delivered", json!({"messageIds": many(limits::IDS_MAX + 1)})),
        ("message:delivered", json!({"upTo": 0, "class": "alert"})),
        ("message:delivered", json!({"upTo": i64::MAX})),
        ("message:delivered", json!({"upTo": 9_223_372_036_854_775_808_u64})),
        ("message:delivered", json!({"upTo": -1})),
        ("message:delivered", json!({"upTo": 1.5})),
        ("message:delivered", json!({"upTo": 1, "class": "other"})),
        ("message:delivered", json!({"upTo": 1, "messageId": ID})),
        ("message:delivered", json!({})),
        ("message:reject", json!({"messageId": ID, "reason": letters(5_000), "final": true})),
        ("message:reject", json!({"messageId": ID, "final": "yes"})),
        ("message:read", json!({"chatId": ID, "seq": 3})),
        ("message:read", json!({"chatId": ID, "seq": 3, "messageId": ID})),
        ("message:read", json!({"chatId": ID})),
        ("typing", json!({"chatId": ID, "typing": false})),
        ("typing", json!({"chatId": ID})),
        ("presence:get", json!({"userIds": users(limits::PRESENCE_USERS_MAX)})),
        ("presence:subscribe", json!({"userIds": users(limits::PRESENCE_USERS_MAX + 1)})),
        ("contact:request", json!({"userId": "ben"})),
        ("contact:accept", json!({"userId": ["ben"]})),
        ("contact:decline", json!({"userId": ""})),
        ("contact:remove", json!({})),
        ("contact:list", json!({})),
        ("contact:list", json!({"state": null})),
        ("contact:list", json!({"state": "incoming", "limit": 1})),
        ("contact:list", json!({"state": "none"})),
        ("contact:list", json!({"limit": limits::PEOPLE_PAGE_MAX + 1})),
        ("block:add", json!({"userId": "ben"})),
        ("block:add", json!({"userId": letters(limits::USER_ID_CHARS_MAX + 1)})),
        ("block:remove", json!({})),
        ("block:remove", json!({"userId": letters(limits::USER_ID_CHARS_MAX)})),
        ("block:list", json!({})),
        ("block:list", json!({"after": "ben", "limit": limits::PEOPLE_PAGE_MAX})),
        ("block:list", json!({"limit": limits::PEOPLE_PAGE_MAX + 1})),
        ("block:list", json!({"limit": 0})),
        ("block:list", json!({"limit": "1"})),
        ("block:list", json!({"limit": 70_000})),
        ("invitation:accept", json!({"chatId": "0192f0c0-0000-7000-8000-000000000000"})),
        ("invitation:accept", json!({"chatId": "x"})),
        ("invitation:accept", json!({})),
        ("invitation:decline", json!({"chatId": "0192f0c0-0000-7000-8000-000000000000"})),
        ("invitation:decline", json!({"chatId": 7})),
        ("invitation:list", json!({})),
        ("invitation:list", json!({"after": "0192f0c0-0000-7000-8000-000000000000", "limit": limits::PEOPLE_PAGE_MAX})),
        ("invitation:list", json!({"after": "ben"})),
        ("invitation:list", json!({"limit": 0})),
        ("ping", json!({})),
        ("ping", json!({"any": 1})),
    ]
}

fn samples_of_sends() -> Vec<(&'static str, Value)> {
    let send = |field: &str, value: Value| ("message:send", with(json!({"to": "ben", "content": ""}), field, value));
    vec![
        ("message:send", json!({"content": "x"})),
        ("message:send", json!({"to": "ben", "chatId": ID, "content": "x"})),
        ("message:send", json!({"to": "ben", "chatId": null, "content": "x"})),
        ("message:send", json!({"chatId": ID, "content": "x", "other": {}})),
        ("message:send", json!({"chatId": "x", "content": "x"})),
        ("message:send", json!({"to": "ben"})),
        ("message:send", json!({"to": letters(limits::USER_ID_CHARS_MAX), "content": ""})),
        ("message:send", json!({"to": letters(limits::USER_ID_CHARS_MAX + 1), "content": ""})),
        ("message:send", json!({"to": "", "content": ""})),
        send("content", "x".repeat(limits::CONTENT_BYTES_MAX).into()),
        send("content", "x".repeat(limits::CONTENT_BYTES_MAX + 1).into()),
        send("content", "a\u{0}b".into()),
        send("content", json!(null)),
        send("messageType", letters(limits::MESSAGE_TYPE_CHARS_MAX).into()),
        send("messageType", letters(limits::MESSAGE_TYPE_CHARS_MAX + 1).into()),
        send("messageType", "".into()),
        send("messageType", json!(null)),
        send("metadata", json!([1, {"a": null}])),
        send("messageId", json!(7)),
        send("expiresAt", "2027-01-01T00:00:00Z".into()),
        send("expiresAt", "2027-01-01T00:00:00.5+02:00".into()),
        send("expiresAt", "tomorrow".into()),
        send("expiresAt", "".into()),
        send("messageId", "".into()),
        send("messageId", "0192F0C0-7D4E-7CC3-98C4-DC0C0C07398F".into()),
        send("messageId", "0192f0c07d4e7cc398c4dc0c0c07398f".into()),
    ]
}

fn samples_of_publishing() -> Vec<(&'static str, Value)> {
    let publish = |field: &str, value: Value| ("event:publish", with(json!({"type": "t", "to": {"everyone": true}}), field, value));
    vec![
        publish("eventId", ID.into()),
        publish("type", json!(null)),
        publish("to", json!({"users": ["ben"]})),
        publish("to", json!({"users": []})),
        publish("to", json!({"users": ["ben"], "feed": ID})),
        publish("to", json!({"users": ["ben"], "feed": null})),
        publish("to", json!({"feed": ID, "other": 1})),
        publish("to", json!({"everyone": false})),
        publish("to", json!({})),
        publish("except", users(limits::EVENT_EXCEPT_MAX).into()),
        publish("except", users(limits::EVENT_EXCEPT_MAX + 1).into()),
        publish("ttlMs", limits::EVENT_TTL_MS_MIN.into()),
        publish("ttlMs", (limits::EVENT_TTL_MS_MIN - 1).into()),
        publish("ttlMs", (limits::EVENT_TTL_MS_MAX + 1).into()),
        publish("collapseKey", letters(limits::COLLAPSE_KEY_CHARS_MAX).into()),
        publish("collapseKey", letters(limits::COLLAPSE_KEY_CHARS_MAX + 1).into()),
        publish("urgent", json!(true)),
        publish("urgent", json!(1)),
        ("event:publish", json!({"type": "t", "to": {"everyone": true}, "collapseKey": "k", "data": {"n": 1}, "merge": {"n": "sum"}})),
        ("event:publish", json!({"type": "t", "to": {"everyone": true}, "collapseKey": "k", "data": {"n": 1}, "merge": {"n": "most"}})),
        ("event:publish", json!({"type": "t", "to": {"everyone": true}, "collapseKey": "k", "data": {"n": 1}, "merge": {}})),
        ("event:publish", json!({"type": "t", "to": {"everyone": true}, "collapseKey": "k", "data": {"n": 1}, "merge": {"": "sum"}})),
    ]
}

fn letters(chars: usize) -> String {
    "é".repeat(chars)
}

fn users(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("u{n}")).collect()
}

fn with(mut data: Value, field: &str, value: Value) -> Value {
    data[field] = value;
    data
}

#[test]
fn what_is_read_by_hand_is_what_is_described() {
    let payloads = payloads("said.");
    let mut taken = 0;
    for (event, data) in samples() {
        let frame = json!({"event": event, "id": 1, "data": data});
        let (read, described) = (client::parse(&frame.to_string()), payloads[event].validate(&frame));
        taken += usize::from(read.is_ok());
        let shown: String = frame.to_string().chars().take(300).collect();
        assert_eq!(
            read.is_ok(),
            described.is_ok(),
            "{shown}: read {:?}, described {:?}",
            read.err(),
            described.err().map(|error| error.to_string())
        );
    }
    assert!(taken > 25 && samples().len() - taken > 25, "{taken}");
    for id in [
        json!("x".repeat(limits::FRAME_ID_CHARS_MAX)),
        json!("x".repeat(limits::FRAME_ID_CHARS_MAX + 1)),
        json!(1.5),
        json!(true),
        json!([]),
    ] {
        let frame = json!({"event": "ping", "id": id});
        assert_eq!(client::parse(&frame.to_string()).is_ok(), payloads["ping"].is_valid(&frame), "{id}");
    }
}
