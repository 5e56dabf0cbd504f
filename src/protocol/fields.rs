//! Reading the fields of a JSON object that a stranger has written: each by its name, with an error that
//! says the name and what was expected. Other fields are ignored, the last of two equal ones
//! counts, `null` is the same as absent. Used by the frames' `data` and by HTTP bodies.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Code, Fault, Timestamp, json};
use crate::domain::{ChatId, ChatSeq, Class, DeviceId, ExternalId, FeedId, InboxSeq, MessageId, depth_fits, limits};

/// The named fields of one object.
#[derive(Debug)]
pub struct Fields<'a, const N: usize> {
    names: [&'static str; N],
    values: [Option<&'a RawValue>; N],
    others: usize,
}

/// A type that a field may have. The error completes the sentence "`field` …".
pub trait Field<'a>: Sized {
    /// Reads the value.
    fn read(value: &'a RawValue) -> Result<Self, Cow<'static, str>>;
}

impl<'a, const N: usize> Fields<'a, N> {
    /// Takes the fields with these names out of an object. Each value is JSON; nothing else is checked.
    ///
    /// # Errors
    /// [`Code::BadFrame`]: the text is no JSON object. The fault says in what way.
    pub fn of(text: &'a str, names: [&'static str; N]) -> Result<Self, Fault> {
        if !text.trim_ascii_start().starts_with('{') {
            return Err(Fault::new(Code::BadFrame, "must be a JSON object"));
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let picked = Pick(&names).deserialize(&mut deserializer).and_then(|picked| deserializer.end().map(|()| picked));
        match picked {
            Ok((values, others)) => Ok(Self { names, values, others }),
            Err(error) => Err(Fault::new(Code::BadFrame, format!("not JSON at line {}, column {}", error.line(), error.column()))),
        }
    }

    /// Takes the fields out of an HTTP body, as [`Fields::of`] does.
    ///
    /// # Errors
    /// [`Code::BadFrame`]: the body is not UTF-8 or no JSON object. Otherwise it is nested too deeply.
    pub fn of_body(body: &'a [u8], names: [&'static str; N]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(body).map_err(|_| Fault::new(Code::BadFrame, "must be UTF-8"))?;
        check_depth(text)?;
        Self::of(text, names)
    }

    /// The number of fields with other names.
    pub const fn others(&self) -> usize {
        self.others
    }

    /// The value as it stands; `None` when it is absent or `null`.
    pub fn raw(&self, name: &'static str) -> Option<&'a RawValue> {
        let place = self.names.iter().position(|known| *known == name)?;
        self.values[place].filter(|value| value.get() != "null")
    }

    /// A field that may be absent.
    ///
    /// # Errors
    /// The value is there and does not fit the type. The fault names the field.
    pub fn optional<T: Field<'a>>(&self, name: &'static str) -> Result<Option<T>, Fault> {
        self.raw(name).map(T::read).transpose().map_err(|words| Fault::invalid(format!("`{name}` {words}")))
    }

    /// A field that must be there.
    ///
    /// # Errors
    /// The field is missing, or its value does not fit the type. The fault names the field.
    pub fn required<T: Field<'a>>(&self, name: &'static str) -> Result<T, Fault> {
        self.optional(name)?.ok_or_else(|| Fault::invalid(format!("`{name}` is missing")))
    }

    /// A list that must be there and hold at most `items_max`.
    ///
    /// # Errors
    /// The list is missing, is no array, is too long, or holds an item that does not fit. The fault names the field.
    pub fn list<T: Field<'a>>(&self, name: &'static str, items_max: usize) -> Result<Vec<T>, Fault> {
        self.optional_list(name, items_max)?.ok_or_else(|| Fault::invalid(format!("`{name}` is missing")))
    }

    /// A list that may be absent and holds at most `items_max`.
    ///
    /// # Errors
    /// The value is no array, is too long, or holds an item that does not fit. The fault names the field.
    pub fn optional_list<T: Field<'a>>(&self, name: &'static str, items_max: usize) -> Result<Option<Vec<T>>, Fault> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        let items: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|_| Fault::invalid(format!("`{name}` must be an array")))?;
        if items.len() > items_max {
            return Err(Fault::invalid(format!("`{name}` must hold at most {items_max}")));
        }
        let read = |(at, item): (usize, &'a RawValue)| T::read(item).map_err(|words| Fault::invalid(format!("`{name}[{at}]` {words}")));
        items.into_iter().enumerate().map(read).collect::<Result<_, _>>().map(Some)
    }
}

/// The fields of a frame's data or of a request's body that has been checked for its depth.
pub(super) fn data_fields<'a, const N: usize>(data: &'a str, names: [&'static str; N]) -> Result<Fields<'a, N>, Fault> {
    Fields::of(data, names).map_err(|fault| Fault::invalid(format!("the data {}", fault.message)))
}

/// Checks how deep JSON is nested.
///
/// # Errors
/// Arrays and objects are nested more than [`limits::JSON_DEPTH_MAX`] deep.
pub fn check_depth(text: &str) -> Result<(), Fault> {
    if depth_fits(text, limits::JSON_DEPTH_MAX) {
        return Ok(());
    }
    Err(Fault::invalid(format!("arrays and objects must be nested at most {} deep", limits::JSON_DEPTH_MAX)))
}

/// A number of a chat or an inbox as text: digits only, 0 to 2⁶³−1. `None`: it is none. For queries; frames have theirs as JSON.
pub fn whole_number(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Reads a parameter of a query that is such a number, and a small one. For `#[serde(default, deserialize_with)]`.
///
/// # Errors
/// It is no whole number from 0 to 65,535.
pub fn small_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let number = whole_number(&String::deserialize(deserializer)?).and_then(|number| u16::try_from(number).ok());
    number.map(Some).ok_or_else(|| serde::de::Error::custom("must be a whole number, 0 or above"))
}

struct Pick<'n, const N: usize>(&'n [&'static str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Pick<'_, N> {
    type Value = ([Option<&'de RawValue>; N], usize);
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Pick<'_, N> {
    type Value = ([Option<&'de RawValue>; N], usize);
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut values, mut others) = ([None; N], 0);
        while let Some(place) = map.next_key_seed(Place(self.0))? {
            match place {
                Some(place) => values[place] = Some(map.next_value()?),
                None => {
                    let _ = map.next_value::<IgnoredAny>()?;
                    others += 1;
                }
            }
        }
        Ok((values, others))
    }
}

struct Place<'n>(&'n [&'static str]);

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = Option<usize>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Place<'_> {
    type Value = Option<usize>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| *name == key))
    }
}

/// The characters of a JSON string.
fn characters(value: &RawValue) -> Result<Cow<'_, str>, Cow<'static, str>> {
    let Some(inner) = value.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Err("must be a string".into());
    };
    if !inner.contains('\\') {
        return Ok(inner.into());
    }
    serde_json::from_str::<String>(value.get()).map(Cow::Owned).map_err(|_| "must not hold half of a surrogate pair".into())
}

impl Field<'_> for String {
    fn read(value: &RawValue) -> Result<Self, Cow<'static, str>> {
        let text = characters(value)?;
        if text.contains('\0') { Err("must not hold \\u0000".into()) } else { Ok(text.into_owned()) }
    }
}

impl Field<'_> for Uuid {
    fn read(value: &RawValue) -> Result<Self, Cow<'static, str>> {
        const HYPHENATED_CHARS: usize = 36;
        let text = characters(value).ok().filter(|text| text.len() == HYPHENATED_CHARS);
        text.and_then(|text| Self::try_parse(&text).ok()).ok_or_else(|| "must be a UUID".into())
    }
}

impl Field<'_> for MessageId {
    fn read(value: &RawValue) -> Result<Self, Cow<'static, str>> {
        Uuid::read(value).map(Self)
    }
}

impl Field<'_> for ChatId {
    fn read(value: &RawValue) -> Result<Self, Cow<'static, str>> {
        Uuid::read(value).map(Self)
    }
}

impl Field<'_> for FeedId {
    fn read(value: &RawValue) -> Result<Self, Cow<'static, str>> {
        Uuid::read(value).map(Self)
    }
}

impl Field<'_> for ExternalId {
    fn read(value: &RawValue) -> Result<Self, Cow<'static, str>> {
        String::read(value).and_then(|text| Self::try_from(text).map_err(|error| format!("is not valid: {error}").into()))
    }
}

impl Field<'_> for DeviceId {
    fn read(value: &RawValue) -> Result<Self, Cow<'static, str>> {
        String::read(value).and_then(|text| Self::try_from(text).map_err(|error| format!("is not valid: {error}").into()))
    }
}

impl Field<'_> for bool {
    fn read(value: &RawValue) -> Result<Self, Cow<'static, str>> {
        serde_json::from_str(value.get()).map_err(|_| "must be true or false".into())
    }
}

impl Field<'_> for u64 {
    fn read(value: &RawValue) -> Result<Self, Cow<'static, str>> {
        let number = serde_json::from_str::<Self>(value.get()).ok().filter(|number| i64::try_from(*number).is_ok());
        number.ok_or_else(|| "must be a whole number, 0 or above".into())
    }
}

impl Field<'_> for ChatSeq {
    fn read(value: &RawValue) -> Result<Self, Cow<'static, str>> {
        u64::read(value).map(|number| Self(number.cast_signed()))
    }
}

impl Field<'_> for InboxSeq {
    fn read(value: &RawValue) -> Result<Self, Cow<'static, str>> {
        u64::read(value).map(|number| Self(number.cast_signed()))
    }
}

impl Field<'_> for Class {
    fn read(value: &RawValue) -> Result<Self, Cow<'static, str>> {
        serde_json::from_str(value.get()).map_err(|_| "must be \"chat\" or \"event\"".into())
    }
}

impl Field<'_> for Timestamp {
    fn read(value: &RawValue) -> Result<Self, Cow<'static, str>> {
        let at = characters(value).ok().and_then(|text| Self::parse(&text));
        at.ok_or_else(|| "must be a time as in RFC 3339, such as 2026-11-01T12:00:00Z".into())
    }
}

/// Any JSON that the database can store, at most [`limits::METADATA_BYTES_MAX`] bytes with exponents written out.
impl Field<'_> for Box<RawValue> {
    fn read(value: &RawValue) -> Result<Self, Cow<'static, str>> {
        if json::stored_bytes(value.get())? > limits::METADATA_BYTES_MAX {
            return Err(format!("must be at most {} bytes of JSON", limits::METADATA_BYTES_MAX).into());
        }
        Ok(value.to_owned())
    }
}

/// The size of a page of users or invitations, where a client asks for this one or for none.
///
/// # Errors
/// It is 0 or too large.
pub(super) fn page_limit(limit: Option<u16>) -> Result<u16, Fault> {
    let limit = limit.unwrap_or(limits::PEOPLE_PAGE_DEFAULT);
    if (1..=limits::PEOPLE_PAGE_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(Fault::invalid(format!("`limit` must be 1 to {}", limits::PEOPLE_PAGE_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_two_equal_fields_counts_and_null_is_absent() {
        let fields = Fields::of(r#" {"a": 1, "x": [{}], "a": true, "b": null} "#, ["a", "b"]).unwrap();
        assert_eq!(fields.required::<bool>("a"), Ok(true));
        assert_eq!(fields.optional::<bool>("b"), Ok(None));
        assert_eq!(fields.required::<bool>("b").unwrap_err().message, "`b` is missing");
    }

    #[test]
    fn escaped_keys_and_ids_are_understood() {
        let text = r#"{"\u0061": "0192d3b4-0000-7000-8000-00000000000\u0031"}"#;
        let id = Fields::of(text, ["a"]).unwrap().required::<Uuid>("a").unwrap();
        assert_eq!(id.to_string(), "0192d3b4-0000-7000-8000-000000000001");
    }

    #[test]
    fn what_is_no_object_is_a_bad_frame() {
        for text in ["", "[]", "1", "{", "{} {}", "{\"a\":}", "nul", "{\"\\ud800\":1}"] {
            assert_eq!(Fields::of(text, ["a"]).unwrap_err().code, Code::BadFrame, "{text}");
        }
    }

    #[test]
    fn a_number_of_a_query_is_digits_that_fit_the_databases_bigint() {
        assert_eq!((whole_number("0"), whole_number("007"), whole_number("9223372036854775807")), (Some(0), Some(7), Some(i64::MAX)));
        for text in ["", "-1", "-0", "+1", " 1", "1 ", "1.0", "1e3", "٣", "9223372036854775808", "many"] {
            assert_eq!(whole_number(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_fit_the_databases_bigint() {
        let fields =
            Fields::of(r#"{"a":9223372036854775807,"b":9223372036854775808,"c":-1,"d":1.5,"e":"1"}"#, ["a", "b", "c", "d", "e"]).unwrap();
        assert_eq!(fields.required::<ChatSeq>("a"), Ok(ChatSeq(i64::MAX)));
        for name in ["b", "c", "d", "e"] {
            assert_eq!(fields.required::<ChatSeq>(name).unwrap_err().message, format!("`{name}` must be a whole number, 0 or above"));
        }
    }
}
