//! Merging: the data of events that were superseded goes on in the newest one of their collapse key. Pure: text in, text out.
//!
//! Merged data is never stored. It is made anew from the data of the events, whenever one is read, and is the same each time.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use serde_json::Number;
use serde_json::value::RawValue;

use super::limits;

/// The bytes that what is made of a member may need, beside twice its name.
const ROOM_OF_A_MEMBER: usize = 64;

/// The thing that is made of one member of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeOperation {
    /// The sum of its numbers.
    Sum,
    /// The values of its lists, each once and the newest first, with the number of those that are left out beside it.
    Union,
    /// The number of events.
    Count,
}

/// The operation for each member of the data that is merged: 1 to [`limits::MERGE_MEMBERS_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeRules(BTreeMap<String, MergeOperation>);

/// An event that another one stands for, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedEvent {
    /// Its data as JSON text.
    pub data: Option<String>,
    /// It merges: it stands for those before it. Else it had replaced them.
    pub merges: bool,
    /// Its time had come when the next event of its key was published: it had ended as expired, with all that it stood for.
    pub had_expired: bool,
}

/// The members of an object, as they are written.
type Members = BTreeMap<String, Box<RawValue>>;

impl MergeOperation {
    fn of(word: &str) -> Option<Self> {
        match word {
            "sum" => Some(Self::Sum),
            "union" => Some(Self::Union),
            "count" => Some(Self::Count),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Union => "union",
            Self::Count => "count",
        }
    }
}

impl MergeRules {
    /// Reads them from JSON text: an object of member names, each with `sum`, `union` or `count`.
    ///
    /// # Errors
    /// The words complete the sentence "`merge` …".
    pub fn parse(text: &str) -> Result<Self, Cow<'static, str>> {
        let words: Members = serde_json::from_str(text).map_err(|_| "must be an object")?;
        if !(1..=limits::MERGE_MEMBERS_MAX).contains(&words.len()) {
            return Err(format!("must name 1 to {} members", limits::MERGE_MEMBERS_MAX).into());
        }
        let mut rules = BTreeMap::new();
        for (name, word) in words {
            if !(1..=limits::MERGE_NAME_CHARS_MAX).contains(&name.chars().count()) || name.contains('\0') {
                return Err(format!("must name members of 1 to {} characters", limits::MERGE_NAME_CHARS_MAX).into());
            }
            let word: Option<String> = serde_json::from_str(word.get()).ok();
            let operation = word.as_deref().and_then(MergeOperation::of).ok_or("must say sum, union or count for each member")?;
            rules.insert(name, operation);
        }
        let unions = rules.iter().filter(|(_, operation)| **operation == MergeOperation::Union);
        if unions.clone().any(|(name, _)| rules.contains_key(&more_of(name))) {
            return Err("must not name the member beside a union, which says how many more there are".into());
        }
        Ok(Self(rules))
    }

    /// The same as JSON text.
    pub fn to_json(&self) -> String {
        let members = self.0.iter().map(|(name, operation)| format!("{}:\"{}\"", quoted(name), operation.as_str()));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }

    /// The bytes that data must leave free of [`limits::EVENT_DATA_BYTES_MAX`] for what is made of it.
    pub fn room(&self) -> usize {
        self.0.keys().map(|name| ROOM_OF_A_MEMBER + 2 * quoted(name).len()).sum()
    }

    /// The data of an event together with those that it stands for, newest first, and their number, with itself. Those behind one that
    /// had replaced them, or had expired, are none of them. The data is at most [`limits::EVENT_DATA_BYTES_MAX`] bytes where the event left
    /// [`room`](Self::room): values of unions are left out, and counted.
    pub fn merge(&self, newest: Option<&str>, older: &[MergedEvent]) -> (String, u32) {
        let mut all: Vec<Members> = vec![members(newest)];
        for event in older.iter().take_while(|event| !event.had_expired) {
            all.push(members(event.data.as_deref()));
            if !event.merges {
                break;
            }
        }
        let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let mut parts: BTreeMap<String, String> = all[0].iter().map(|(name, value)| (name.clone(), compact(value.get()))).collect();
        let mut unions = Vec::new();
        for (name, operation) in &self.0 {
            let values = || all.iter().filter_map(|members| members.get(name).map(|value| value.get()));
            match operation {
                MergeOperation::Sum => _ = parts.insert(name.clone(), sum(values().rev())),
                MergeOperation::Count => _ = parts.insert(name.clone(), count.to_string()),
                MergeOperation::Union => unions.push((name, Union::of(values()))),
            }
        }
        loop {
            for (name, union) in &unions {
                parts.insert((*name).clone(), format!("[{}]", union.values.join(",")));
                parts.insert(more_of(name), union.more.to_string());
            }
            let data = object(&parts);
            // Of the largest the last one goes.
            let largest =
                unions.iter_mut().map(|(_, union)| union).filter(|union| !union.values.is_empty()).max_by_key(|union| union.bytes());
            match largest {
                Some(union) if data.len() > limits::EVENT_DATA_BYTES_MAX => union.leave_out(),
                Some(_) | None => return (data, count),
            }
        }
    }
}

/// The first values of many lists.
#[derive(Debug, Default)]
struct Union {
    values: Vec<String>,
    more: usize,
}

impl Union {
    fn of<'a>(lists: impl Iterator<Item = &'a str>) -> Self {
        let (mut union, mut seen) = (Self::default(), HashSet::new());
        for value in lists.flat_map(values_of) {
            if !seen.insert(value.clone()) {
                continue;
            }
            if union.values.len() < limits::MERGE_VALUES_MAX { union.values.push(value) } else { union.more += 1 }
        }
        union
    }

    fn bytes(&self) -> usize {
        self.values.iter().map(String::len).sum()
    }

    fn leave_out(&mut self) {
        self.more += usize::from(self.values.pop().is_some());
    }
}

/// The name of the member that says how many values of a union are left out.
fn more_of(name: &str) -> String {
    format!("{name}More")
}

/// The members of data. What is no object has none.
fn members(data: Option<&str>) -> Members {
    data.and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default()
}

/// The values of a list. A text, a number or a truth value is a list of one; `null` and an object are none.
fn values_of(value: &str) -> Vec<String> {
    match value.bytes().next() {
        Some(b'[') => {
            let values: Vec<&RawValue> = serde_json::from_str(value).unwrap_or_default();
            values.into_iter().map(|value| compact(value.get())).collect()
        }
        Some(b'{' | b'n') | None => Vec::new(),
        Some(_) => vec![compact(value)],
    }
}

/// The sum of those that are numbers, in their order. Whole numbers stay whole as far as JSON's parsers keep them.
fn sum<'a>(values: impl Iterator<Item = &'a str>) -> String {
    let (mut whole, mut fraction, mut is_whole) = (0_i128, 0.0_f64, true);
    for number in values.filter_map(|value| serde_json::from_str::<Number>(value).ok()) {
        match number.as_i128() {
            Some(number) => whole += number,
            None => (fraction, is_whole) = (fraction + number.as_f64().unwrap_or_default(), false),
        }
    }
    let is_kept = i64::try_from(whole).is_ok() || u64::try_from(whole).is_ok();
    if is_whole && is_kept {
        return whole.to_string();
    }
    #[expect(clippy::cast_precision_loss, reason = "a sum with a fraction, or beyond 64 bits, is a double")]
    let total = (whole as f64 + fraction).clamp(f64::MIN, f64::MAX);
    Number::from_f64(total).map_or_else(|| "0".to_owned(), |total| total.to_string())
}

fn object(members: &BTreeMap<String, String>) -> String {
    let members = members.iter().map(|(name, value)| format!("{}:{value}", quoted(name)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The same JSON without spaces between its parts.
fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let is_kept = |letter: &char| {
        match letter {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            ' ' | '\n' | '\r' | '\t' => return in_string,
            _ => {}
        }
        true
    };
    json.chars().filter(is_kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> MergeRules {
        MergeRules::parse(text).unwrap()
    }

    fn event(data: &str) -> MergedEvent {
        MergedEvent { data: Some(data.to_owned()), merges: true, had_expired: false }
    }

    fn merged(rules: &MergeRules, newest: &str, older: &[&str]) -> (String, u32) {
        rules.merge(Some(newest), &older.iter().map(|data| event(data)).collect::<Vec<_>>())
    }

    #[test]
    fn sums_unions_and_counts_are_made_and_all_else_is_the_newest_ones() {
        let rules = rules(r#"{"likes":"sum","actors":"union","n":"count"}"#);
        let newest = r#"{"likes": 2, "actors": ["anna"], "post": 7, "title": "b c"}"#;
        let (data, count) = merged(&rules, newest, &[r#"{"likes": 1.5, "actors": ["ben", "anna"], "title": "a"}"#, r#"{"likes": 1}"#]);
        assert_eq!(data, r#"{"actors":["anna","ben"],"actorsMore":0,"likes":4.5,"n":3,"post":7,"title":"b c"}"#);
        assert_eq!(count, 3);
        assert_eq!(merged(&rules, "{}", &[]).0, r#"{"actors":[],"actorsMore":0,"likes":0,"n":1}"#, "alone it has the same shape");
    }

    #[test]
    fn of_a_union_ten_values_are_kept_the_newest_first_and_the_others_are_counted_once_each() {
        let rules = rules(r#"{"a":"union"}"#);
        let older: Vec<String> = (0..20).map(|n| format!(r#"{{"a": ["v{n}", {n}, {{"x": [{n}]}}]}}"#)).collect();
        let older: Vec<&str> = older.iter().chain(&older).map(String::as_str).collect();
        let (data, count) = merged(&rules, r#"{"a": "first", "aMore": 99}"#, &older);
        assert!(data.starts_with(r#"{"a":["first","v0",0,{"x":[0]},"v1",1,{"x":[1]},"v2",2,{"x":[2]}],"#), "{data}");
        assert!(data.ends_with(r#""aMore":51}"#) && count == 41, "{data}");
    }

    #[test]
    fn what_is_no_number_or_no_list_is_none_and_no_sum_leaves_the_range_of_a_double() {
        let rules = rules(r#"{"s":"sum","u":"union"}"#);
        for (values, sum) in [
            (["1", r#""2""#, "null"], "1"),
            (["[1]", r#"{"a": 1}"#, "true"], "0"),
            (["9223372036854775807", "9223372036854775807", "1"], "18446744073709551615"),
            (["18446744073709551615", "1", "0"], "1.8446744073709552e+19"),
            (["1e308", "1e308", "1e308"], "1.7976931348623157e+308"),
            (["-1e308", "-1e308", "-1e308"], "-1.7976931348623157e+308"),
            (["0.1", "0.2", "-5"], "-4.7"),
        ] {
            let events = values.map(|value| format!(r#"{{"s": {value}, "u": {{"an": "object"}}}}"#));
            let (data, _) = merged(&rules, &events[0], &[&events[1], &events[2]]);
            assert_eq!(data, format!(r#"{{"s":{sum},"u":[],"uMore":0}}"#), "{values:?}");
        }
        for data in ["[1]", "7", "null", "\"text\""] {
            assert_eq!(merged(&rules, data, &[data]).0, r#"{"s":0,"u":[],"uMore":0}"#);
        }
    }

    #[test]
    fn merged_data_fits_by_leaving_values_of_unions_out() {
        let rules = rules(r#"{"a":"union","b":"union","n":"count"}"#);
        let long = |letter: char| format!("\"{}\"", letter.to_string().repeat(1_500));
        let newest = format!(r#"{{"a": [{}], "b": [1, 2, 3], "post": {}}}"#, long('a'), long('p'));
        let older: Vec<String> = ('c'..='k').map(|letter| format!(r#"{{"a": [{}], "b": [4]}}"#, long(letter))).collect();
        let (data, count) = merged(&rules, &newest, &older.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(
            data.len() <= limits::EVENT_DATA_BYTES_MAX && data.contains(r#""aMore":6,"b":[1,2,3,4],"bMore":0"#) && count == 10,
            "{data}"
        );
        let full = limits::EVENT_DATA_BYTES_MAX - rules.room();
        let newest = format!(r#"{{"post": "{}"}}"#, "p".repeat(full - 12));
        let older = [r#"{"a": ["x"], "b": ["y"]}"#; 1_000];
        assert!(merged(&rules, &newest, &older).0.len() <= limits::EVENT_DATA_BYTES_MAX);
    }

    #[test]
    fn one_that_had_replaced_those_before_it_is_the_last_and_one_that_had_expired_is_none() {
        let rules = rules(r#"{"n":"count"}"#);
        let mut older = vec![event("{}"); 4];
        older[1].merges = false;
        assert_eq!(rules.merge(Some("{}"), &older).1, 3);
        older[1].had_expired = true;
        assert_eq!(rules.merge(Some("{}"), &older).1, 2);
    }

    #[test]
    fn rules_are_read_strictly_and_read_back() {
        let many = |count: usize| format!("{{{}}}", (0..count).map(|n| format!(r#""m{n}":"sum""#)).collect::<Vec<_>>().join(","));
        for text in [&many(limits::MERGE_MEMBERS_MAX), r#"{"a\"b ü":"count","aMore":"sum"}"#, r#"{"a":"sum","a":"union"}"#] {
            assert_eq!(rules(&rules(text).to_json()), rules(text), "{text}");
        }
        let long = format!(r#"{{"{}":"sum"}}"#, "n".repeat(65));
        for text in [
            "\"sum\"",
            "1",
            "[]",
            "[\"sum\"]",
            "{}",
            &many(limits::MERGE_MEMBERS_MAX + 1),
            r#"{"a":"max"}"#,
            r#"{"a":1}"#,
            r#"{"a":null}"#,
            r#"{"a":["sum"]}"#,
            r#"{"":"sum"}"#,
            r#"{"\u0000":"sum"}"#,
            &long,
            r#"{"a":"union","aMore":"count"}"#,
        ] {
            assert!(MergeRules::parse(text).is_err(), "{text}");
        }
    }
}
