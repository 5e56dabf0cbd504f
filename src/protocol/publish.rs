//! Publishing: the data of `event:publish`, which is also the body of `POST /v1/events`, and its answer.
//!
//! Hostile text in, checked values out, by the rules of [`super::client`]. A list of events gives an outcome for each: what is wrong
//! with one of them concerns no other. Nothing here knows who may publish what.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use serde_json::value::RawValue;

use super::Fault;
use super::fields::{Field, Fields, check_depth};
use super::json::stored_bytes;
use crate::domain::{ExternalId, FeedId, MergeRules, MessageId, RESERVED_TYPES, limits};

/// Any JSON of a client has the same bound, which its reading keeps.
const _: () = assert!(limits::EVENT_DATA_BYTES_MAX == limits::METADATA_BYTES_MAX);

/// The target of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishTarget {
    /// These users, at least one and each once.
    Users(Vec<ExternalId>),
    /// The followers of this feed.
    Feed(FeedId),
    /// Every user.
    Everyone,
}

/// The urgency of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Urgency {
    /// It waits in the inbox of class `event`.
    #[default]
    Normal,
    /// It waits in the inbox of class `alert`, which is drained first.
    Urgent,
}

/// The right to publish that a token gives its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishRight {
    /// The feeds whose publisher the user is.
    OwnFeeds,
    /// Every feed, everyone, and users that are listed.
    Anywhere,
}

/// The data of `event:publish`, and the body of `POST /v1/events` or one item of it.
#[derive(Debug, Clone)]
pub struct PublishRequest {
    /// The id, when the publisher has chosen one.
    pub event_id: Option<MessageId>,
    /// 1 to [`limits::MESSAGE_TYPE_CHARS_MAX`] characters.
    pub event_type: String,
    /// The publisher's own JSON, at most [`limits::EVENT_DATA_BYTES_MAX`] bytes.
    pub data: Option<Box<RawValue>>,
    /// The users that get it.
    pub target: PublishTarget,
    /// Users that do not get it, each once, at most [`limits::EVENT_EXCEPT_MAX`].
    pub except: Vec<ExternalId>,
    /// The time for which it waits, [`limits::EVENT_TTL_MS_MIN`] to [`limits::EVENT_TTL_MS_MAX`] ms.
    pub ttl: Duration,
    /// Of waiting events with the same key the newest stays.
    pub collapse_key: Option<String>,
    /// The rules by which its data is merged with that of the events whose place it takes.
    pub merge: Option<MergeRules>,
    /// The inbox in which it waits.
    pub urgency: Urgency,
}

/// The body of `POST /v1/events`.
#[derive(Debug)]
pub enum PublishBody {
    /// One event. The request is answered as it is.
    One(Box<PublishRequest>),
    /// Events that are answered one by one, at most [`limits::EVENTS_MAX`].
    Many(Vec<PublishItem>),
}

/// An event of a list. One that cannot be published has its id, where that can be read.
pub type PublishItem = Result<PublishRequest, (Option<MessageId>, Fault)>;

const NAMES: [&str; 9] = ["eventId", "type", "data", "to", "except", "ttlMs", "collapseKey", "urgent", "merge"];

impl PublishRequest {
    /// Reads it from a JSON object.
    ///
    /// # Errors
    /// A field is missing or not valid, or `to` does not name exactly one of `users`, `feed` and `everyone`.
    pub fn parse(data: &str) -> Result<Self, Fault> {
        Self::of(&fields(data)?)
    }

    fn of(fields: &Fields<'_, { NAMES.len() }>) -> Result<Self, Fault> {
        let target = target(fields)?;
        let except = fields.optional_list("except", limits::EVENT_EXCEPT_MAX)?.map(each_once).unwrap_or_default();
        let data: Option<Box<RawValue>> = fields.optional("data")?;
        let collapse_key = collapse_key(fields.optional("collapseKey")?)?;
        let merge = fields.raw("merge").map(|rules| merge(rules, collapse_key.as_deref(), data.as_deref())).transpose()?;
        Ok(Self {
            event_id: fields.optional("eventId")?,
            event_type: event_type(fields.required("type")?)?,
            data,
            target,
            except,
            ttl: ttl(fields.optional("ttlMs")?)?,
            collapse_key,
            merge,
            urgency: if fields.optional("urgent")?.unwrap_or(false) { Urgency::Urgent } else { Urgency::Normal },
        })
    }

    /// The number of users that it names, in `to` and in `except`.
    pub fn names(&self) -> usize {
        let targets = match &self.target {
            PublishTarget::Users(users) => users.len(),
            PublishTarget::Feed(_) | PublishTarget::Everyone => 0,
        };
        targets + self.except.len()
    }
}

impl PublishBody {
    /// Reads the body of a request: an event, or `events` with a list of them.
    ///
    /// # Errors
    /// The body is no JSON object, or its one event is not valid. Of a list: it is none, it is longer than [`limits::EVENTS_MAX`], or its
    /// events name more users together than [`limits::EVENT_NAMES_MAX`].
    pub fn parse(body: &[u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(body).map_err(|_| Fault::new(super::Code::BadFrame, "the body must be UTF-8"))?;
        let list = Fields::of(text, ["events"]).map_err(|fault| Fault::new(fault.code, format!("the body {}", fault.message)))?;
        match list.optional_list::<&RawValue>("events", limits::EVENTS_MAX)? {
            Some(items) => many(&items).map(Self::Many),
            None => {
                check_depth(text)?;
                PublishRequest::parse(text).map(Box::new).map(Self::One)
            }
        }
    }
}

/// The values as they stand, each to be read on its own.
impl<'a> Field<'a> for &'a RawValue {
    fn read(value: &'a RawValue) -> Result<Self, Cow<'static, str>> {
        Ok(value)
    }
}

fn many(items: &[&RawValue]) -> Result<Vec<PublishItem>, Fault> {
    let mut names = 0;
    let mut read = Vec::with_capacity(items.len());
    for item in items {
        let item = one_of_many(item.get());
        names += item.as_ref().map_or(0, PublishRequest::names);
        if names > limits::EVENT_NAMES_MAX {
            let words = format!("the events of a request must name at most {} users together", limits::EVENT_NAMES_MAX);
            return Err(Fault::invalid(words));
        }
        read.push(item);
    }
    Ok(read)
}

fn one_of_many(text: &str) -> PublishItem {
    let fields = check_depth(text).and_then(|()| fields(text)).map_err(|fault| (None, fault))?;
    PublishRequest::of(&fields).map_err(|fault| (fields.optional("eventId").ok().flatten(), fault))
}

fn fields(data: &str) -> Result<Fields<'_, { NAMES.len() }>, Fault> {
    Fields::of(data, NAMES).map_err(|fault| Fault::invalid(format!("the event {}", fault.message)))
}

/// Reads `to`. A wrong word in it could make an event for few one for many: other fields than its own are refused.
fn target(fields: &Fields<'_, { NAMES.len() }>) -> Result<PublishTarget, Fault> {
    const ONE: &str = "`to` must be one of {\"users\": […]}, {\"feed\": id} and {\"everyone\": true}";
    let to = fields.raw("to").ok_or_else(|| Fault::invalid("`to` is missing"))?;
    let inside = Fields::of(to.get(), ["users", "feed", "everyone"]).map_err(|_| Fault::invalid(ONE))?;
    let users = inside.optional_list("users", limits::EVENT_USERS_MAX).map_err(inside_to)?;
    let feed = inside.optional("feed").map_err(inside_to)?;
    match (users.map(each_once), feed, inside.optional("everyone").map_err(inside_to)?, inside.others()) {
        (Some(users), None, None, 0) if users.is_empty() => Err(Fault::invalid("`to.users` must name at least one user")),
        (Some(users), None, None, 0) => Ok(PublishTarget::Users(users)),
        (None, Some(feed), None, 0) => Ok(PublishTarget::Feed(feed)),
        (None, None, Some(true), 0) => Ok(PublishTarget::Everyone),
        _ => Err(Fault::invalid(ONE)),
    }
}

/// The same fault, with the place of the field: "`users` …" becomes "`to.users` …".
fn inside_to(fault: Fault) -> Fault {
    Fault::new(fault.code, fault.message.replacen('`', "`to.", 1))
}

/// These users in their order, without those that were named before.
fn each_once(mut users: Vec<ExternalId>) -> Vec<ExternalId> {
    let mut seen = HashSet::with_capacity(users.len());
    users.retain(|user| seen.insert(user.clone()));
    users
}

fn event_type(text: String) -> Result<String, Fault> {
    if text.starts_with(RESERVED_TYPES) {
        return Err(Fault::invalid(format!("`type` must not begin with `{}`: such types are reserved", RESERVED_TYPES)));
    }
    short_text(text, "type", limits::MESSAGE_TYPE_CHARS_MAX)
}

fn short_text(text: String, name: &'static str, chars_max: usize) -> Result<String, Fault> {
    if !text.is_empty() && text.chars().count() <= chars_max {
        return Ok(text);
    }
    Err(Fault::invalid(format!("`{name}` must be 1 to {chars_max} characters")))
}

fn collapse_key(key: Option<String>) -> Result<Option<String>, Fault> {
    key.map(|key| short_text(key, "collapseKey", limits::COLLAPSE_KEY_CHARS_MAX)).transpose()
}

/// Reads `merge`. What is made of the data must fit where the data does.
fn merge(rules: &RawValue, collapse_key: Option<&str>, data: Option<&RawValue>) -> Result<MergeRules, Fault> {
    let rules = MergeRules::parse(rules.get()).map_err(|words| Fault::invalid(format!("`merge` {words}")))?;
    if collapse_key.is_none() {
        return Err(Fault::invalid("`merge` needs a `collapseKey`: without one nothing is merged"));
    }
    let data = data.map(RawValue::get).filter(|data| data.starts_with('{'));
    let data = data.ok_or_else(|| Fault::invalid("`merge` needs an object as `data`"))?;
    let bytes = stored_bytes(data).map_err(|words| Fault::invalid(format!("`data` {words}")))?;
    if bytes + rules.room() > limits::EVENT_DATA_BYTES_MAX {
        let words = format!("`data` must leave {} of {} bytes for what `merge` makes of it", rules.room(), limits::EVENT_DATA_BYTES_MAX);
        return Err(Fault::invalid(words));
    }
    Ok(rules)
}

fn ttl(ms: Option<u64>) -> Result<Duration, Fault> {
    let ms = ms.unwrap_or(limits::EVENT_TTL_MS);
    if (limits::EVENT_TTL_MS_MIN..=limits::EVENT_TTL_MS_MAX).contains(&ms) {
        return Ok(Duration::from_millis(ms));
    }
    Err(Fault::invalid(format!("`ttlMs` must be {} to {}", limits::EVENT_TTL_MS_MIN, limits::EVENT_TTL_MS_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Code;

    const ID: &str = "0192d3b4-7a10-7c3e-8f00-1234567890ab";

    /// An event to everyone with these fields beside.
    fn with(fields: &str) -> Result<PublishRequest, Fault> {
        PublishRequest::parse(&format!(r#"{{"type":"new_post","to":{{"everyone":true}}{fields}}}"#))
    }

    fn to(target: &str) -> Result<PublishTarget, Fault> {
        PublishRequest::parse(&format!(r#"{{"type":"new_post","to":{target}}}"#)).map(|request| request.target)
    }

    fn names(count: usize) -> String {
        format!("[{}]", (0..count).map(|n| format!(r#""u{n}""#)).collect::<Vec<_>>().join(","))
    }

    fn user(name: &str) -> ExternalId {
        ExternalId::try_from(name.to_owned()).unwrap()
    }

    #[test]
    fn an_event_has_a_type_and_one_target_and_everything_else_has_a_default() {
        let request = with("").unwrap();
        assert_eq!((request.event_type.as_str(), request.target), ("new_post", PublishTarget::Everyone));
        assert_eq!((request.ttl, request.urgency), (Duration::from_secs(86_400), Urgency::Normal));
        assert!(request.event_id.is_none() && request.data.is_none() && request.except.is_empty() && request.collapse_key.is_none());
        let all = format!(r#","eventId":"{ID}","data":[1],"except":["a","b","a"],"ttlMs":1000,"collapseKey":"k","urgent":true,"new":1"#);
        let request = with(&all).unwrap();
        assert_eq!((request.event_id.unwrap().to_string(), request.data.unwrap().get().to_owned()), (ID.to_owned(), "[1]".to_owned()));
        assert_eq!((request.except, request.ttl), (vec![user("a"), user("b")], Duration::from_secs(1)));
        assert_eq!((request.collapse_key.as_deref(), request.urgency), (Some("k"), Urgency::Urgent));
    }

    #[test]
    fn a_target_is_one_of_three_and_nothing_else_stands_beside_it() {
        assert_eq!(to(r#"{"users":["b","a","b"]}"#), Ok(PublishTarget::Users(vec![user("b"), user("a")])));
        assert_eq!(to(&format!(r#"{{"feed":"{ID}","users":null}}"#)), Ok(PublishTarget::Feed(FeedId(ID.parse().unwrap()))));
        for target in [
            "null",
            "1",
            "[]",
            r#""anna""#,
            "{}",
            r#"{"users":[]}"#,
            r#"{"users":"anna"}"#,
            r#"{"users":[1]}"#,
            r#"{"users":[""]}"#,
            r#"{"feed":"x"}"#,
            r#"{"everyone":false}"#,
            r#"{"everyone":1}"#,
            r#"{"users":["a"],"everyone":true}"#,
            r#"{"users":["a"],"user":["b"]}"#,
            r#"{"everyone":true,"except":["a"]}"#,
        ] {
            assert_eq!(to(target).unwrap_err().code, Code::Invalid, "{target}");
        }
        assert!(PublishRequest::parse(r#"{"type":"x"}"#).unwrap_err().message.contains("`to` is missing"));
        assert_eq!(to(r#"{"users":[1]}"#).unwrap_err().message, "`to.users[0]` must be a string");
    }

    #[test]
    fn limits_hold_exactly() {
        let text = |name: &str, chars: usize| format!(r#","{name}":"{}""#, "é".repeat(chars));
        for (name, most) in [("type", limits::MESSAGE_TYPE_CHARS_MAX), ("collapseKey", limits::COLLAPSE_KEY_CHARS_MAX)] {
            assert!(with(&text(name, most)).is_ok() && with(&text(name, 1)).is_ok(), "{name}");
            for chars in [0, most + 1] {
                assert_eq!(with(&text(name, chars)).unwrap_err().code, Code::Invalid, "{name}");
            }
        }
        let data = |bytes: usize| with(&format!(r#","data":"{}""#, "d".repeat(bytes - 2)));
        assert!(data(limits::EVENT_DATA_BYTES_MAX).is_ok());
        assert_eq!(data(limits::EVENT_DATA_BYTES_MAX + 1).unwrap_err().message, "`data` must be at most 8192 bytes of JSON");
        for bad in [r#","data":1e999"#, r#","data":"\u0000""#, r#","data":["\ud800"]"#] {
            assert_eq!(with(bad).unwrap_err().code, Code::Invalid, "{bad}");
        }
        assert!(to(&format!(r#"{{"users":{}}}"#, names(limits::EVENT_USERS_MAX))).is_ok());
        assert!(to(&format!(r#"{{"users":{}}}"#, names(limits::EVENT_USERS_MAX + 1))).is_err());
        assert!(with(&format!(r#","except":{}"#, names(limits::EVENT_EXCEPT_MAX))).is_ok());
        assert_eq!(with(&format!(r#","except":{}"#, names(10_000))).unwrap_err().message, "`except` must hold at most 500");
        for (ms, is_taken) in [("999", false), ("1000", true), ("2592000000", true), ("2592000001", false), ("-1", false), ("1.5", false)] {
            assert_eq!(with(&format!(r#","ttlMs":{ms}"#)).is_ok(), is_taken, "{ms}");
        }
    }

    #[test]
    fn merging_needs_rules_a_key_and_an_object_with_room() {
        let event = |merge: &str, data: &str, more: &str| with(&format!(r#","merge":{merge},"data":{data}{more}"#));
        let (rules, key) = (r#"{"n":"count"}"#, r#","collapseKey":"k""#);
        assert!(event(rules, "{}", key).unwrap().merge.is_some() && event("null", "7", "").unwrap().merge.is_none());
        for merge in [r#""sum""#, "1", "[]", "{}", r#"{"n":"max"}"#, r#"{"n":1}"#] {
            assert_eq!(event(merge, "{}", key).unwrap_err().code, Code::Invalid, "{merge}");
        }
        assert!(event(rules, "{}", "").unwrap_err().message.contains("collapseKey"));
        for data in ["null", "7", "[]", "\"{}\""] {
            assert!(event(rules, data, key).unwrap_err().message.contains("an object"), "{data}");
        }
        let full = |bytes: usize| event(rules, &format!(r#"{{"d":"{}"}}"#, "d".repeat(bytes - 8)), key);
        let room = limits::EVENT_DATA_BYTES_MAX - 64 - 2 * 3;
        assert!(full(room).is_ok() && full(room + 1).unwrap_err().message.contains("leave 70 of 8192"));
    }

    #[test]
    fn each_event_of_a_list_is_judged_alone() {
        let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
        let deepest = format!("{}1{}", "[".repeat(31), "]".repeat(31));
        let good = format!(r#"{{"type":"a","to":{{"everyone":true}},"data":{deepest}}}"#);
        let bad = format!(r#"{{"eventId":"{ID}","type":"","to":{{"everyone":true}}}}"#);
        let body = format!(r#"{{"events":[{good},{bad},7,{{"data":{deep}}},{{"eventId":"{ID}","to":{deep}}},{good}]}}"#);
        let Ok(PublishBody::Many(items)) = PublishBody::parse(body.as_bytes()) else { panic!("{body}") };
        let refused: Vec<_> = items.iter().map(|item| item.as_ref().err().map(|(id, fault)| (id.is_some(), fault.code))).collect();
        let no_id = Some((false, Code::Invalid));
        assert_eq!(refused, [None, Some((true, Code::Invalid)), no_id, no_id, no_id, None]);
        assert!(matches!(PublishBody::parse(good.as_bytes()), Ok(PublishBody::One(_))), "the same depth on its own");
    }

    #[test]
    fn a_body_that_is_no_event_and_no_list_is_refused_whole() {
        for (body, code) in [
            (&b"\xff"[..], Code::BadFrame),
            (b"", Code::BadFrame),
            (b"[]", Code::BadFrame),
            (b"{}", Code::Invalid),
            (br#"{"events":{}}"#, Code::Invalid),
            (br#"{"events":null}"#, Code::Invalid),
        ] {
            assert_eq!(PublishBody::parse(body).unwrap_err().code, code, "{body:?}");
        }
        let list = |items: usize| format!(r#"{{"events":[{}]}}"#, vec!["1"; items].join(","));
        assert!(matches!(PublishBody::parse(list(0).as_bytes()), Ok(PublishBody::Many(items)) if items.is_empty()));
        assert!(PublishBody::parse(list(limits::EVENTS_MAX).as_bytes()).is_ok());
        assert_eq!(PublishBody::parse(list(limits::EVENTS_MAX + 1).as_bytes()).unwrap_err().code, Code::Invalid);
        let event = format!(r#"{{"type":"a","to":{{"users":{}}}}}"#, names(10_000));
        let many = |events: usize| format!(r#"{{"events":[{}]}}"#, vec![event.as_str(); events].join(","));
        assert!(PublishBody::parse(many(10).as_bytes()).is_ok());
        assert_eq!(PublishBody::parse(many(11).as_bytes()).unwrap_err().code, Code::Invalid);
    }
}
