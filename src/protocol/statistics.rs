//! Figures of delivery as operators and publishers get them: over HTTP, and from the command that asks the database itself.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::Timestamp;
use crate::domain::{Delays, EventFigures, EventId, FigureGroup, GroupBy, HourSpan, Outcomes};

/// The figures of a span of hours, in groups.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatisticsData {
    from: Timestamp,
    to: Timestamp,
    by: &'static str,
    /// All that was committed before is in the figures.
    as_of: Timestamp,
    groups: Vec<GroupData>,
    /// To be passed as `after`; null at the end.
    next: Option<String>,
}

/// A group: its key under the name of what it is grouped by, and its figures.
#[derive(Debug, Serialize, JsonSchema)]
struct GroupData {
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    message_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hour: Option<String>,
    accepted: u64,
    #[serde(flatten)]
    outcomes: OutcomesData,
}

/// The outcomes of rows.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct OutcomesData {
    recipients: u64,
    delivered: u64,
    read: u64,
    /// By reason.
    #[serde(serialize_with = "by_reason")]
    #[schemars(with = "BTreeMap<String, u64>")]
    ended: Vec<(String, u64)>,
    /// Null: nothing was delivered.
    time_to_delivery_ms: Option<PercentilesData>,
}

/// Times in milliseconds, each within 5 % of the true one.
#[derive(Debug, Serialize, JsonSchema)]
struct PercentilesData {
    p50: f64,
    p95: f64,
    p99: f64,
}

/// The figures of one event.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventFiguresData {
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<EventId>,
    as_of: Timestamp,
    #[serde(flatten)]
    outcomes: OutcomesData,
    first_delivered_at: Option<Timestamp>,
    last_delivered_at: Option<Timestamp>,
}

impl StatisticsData {
    /// The answer to a question about these hours.
    pub fn new(span: HourSpan, by: GroupBy, as_of: Timestamp, groups: Vec<FigureGroup>, next: Option<String>) -> Self {
        let groups = groups.into_iter().map(|group| GroupData::of(by, group)).collect();
        Self { from: span.from.into(), to: span.to.into(), by: by.as_str(), as_of, groups, next }
    }
}

impl GroupData {
    fn of(by: GroupBy, FigureGroup { key, accepted, outcomes }: FigureGroup) -> Self {
        let (class, message_type, hour) = match by {
            GroupBy::Class => (Some(key), None, None),
            GroupBy::Type => (None, Some(key), None),
            GroupBy::Hour => (None, None, Some(key)),
        };
        Self { class, message_type, hour, accepted, outcomes: outcomes.into() }
    }
}

impl EventFiguresData {
    /// The figures, with the id of the event unless it stands beside them.
    pub fn new(event_id: Option<EventId>, as_of: Timestamp, figures: EventFigures) -> Self {
        let EventFigures { outcomes, first_delivered_at, last_delivered_at } = figures;
        let (first_delivered_at, last_delivered_at) = (first_delivered_at.map(Timestamp), last_delivered_at.map(Timestamp));
        Self { event_id, as_of, outcomes: outcomes.into(), first_delivered_at, last_delivered_at }
    }
}

impl From<Outcomes> for OutcomesData {
    fn from(outcomes: Outcomes) -> Self {
        let Outcomes { recipients, delivered, read, ended, delays } = outcomes;
        Self { recipients, delivered, read, ended, time_to_delivery_ms: PercentilesData::of(&delays) }
    }
}

impl PercentilesData {
    fn of(delays: &Delays) -> Option<Self> {
        // More digits than the steps of the times bear would only look exact.
        let percentile = |share| delays.percentile(share).map(|ms: f64| if ms < 100.0 { (ms * 10.0).round() / 10.0 } else { ms.round() });
        Some(Self { p50: percentile(0.5)?, p95: percentile(0.95)?, p99: percentile(0.99)? })
    }
}

fn by_reason<S: Serializer>(ended: &[(String, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(ended.iter().map(|(reason, rows)| (reason, rows)))
}
