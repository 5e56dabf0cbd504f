//! The calls of an operator about figures of delivery. They take a token with the scope `admin`.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Http, HttpError};
use restante_session::domain::EventId;

/// A question for figures. A field that is `None` has the service's default.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StatisticsQuery {
    /// The beginning (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The end (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The property that makes a group: `class`, `type` or `hour`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The page token: `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Groups, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u16>,
}

/// The figures of some hours, in groups.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statistics {
    /// The beginning of the first hour (RFC 3339).
    pub from: String,
    /// The end of the last hour (RFC 3339).
    pub to: String,
    /// The property that makes a group.
    pub by: String,
    /// All that was committed before is in the figures (RFC 3339).
    pub as_of: String,
    /// The groups, in the order of their keys.
    pub groups: Vec<Figures>,
    /// The page token of the next page; `None`: this page is the last.
    pub next: Option<String>,
}

/// The figures of a group. One of the first three fields says which.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// The class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub message_type: Option<String>,
    /// The hour (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hour: Option<String>,
    /// Messages and events that were accepted.
    pub accepted: u64,
    /// Rows of recipients that were made.
    pub recipients: u64,
    /// Rows that became delivered.
    pub delivered: u64,
    /// Rows that became read.
    pub read: u64,
    /// Rows that ended otherwise, by reason.
    pub ended: BTreeMap<String, u64>,
    /// The times to delivery.
    pub time_to_delivery_ms: Option<Percentiles>,
}

/// Times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half took no longer.
    pub p50: f64,
    /// 95 in 100 took no longer.
    pub p95: f64,
    /// 99 in 100 took no longer.
    pub p99: f64,
}

/// The figures of one event.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventFigures {
    /// The event.
    pub event_id: EventId,
    /// All that was committed before is in the figures (RFC 3339).
    pub as_of: String,
    /// Rows of recipients that were made.
    pub recipients: u64,
    /// Rows that became delivered.
    pub delivered: u64,
    /// Rows that became read.
    pub read: u64,
    /// Rows that ended otherwise, by reason.
    pub ended: BTreeMap<String, u64>,
    /// The times to delivery.
    pub time_to_delivery_ms: Option<Percentiles>,
    /// The first delivery (RFC 3339).
    pub first_delivered_at: Option<String>,
    /// The last delivery so far (RFC 3339).
    pub last_delivered_at: Option<String>,
}

impl Figures {
    /// The class, the type or the hour of the group.
    pub fn key(&self) -> &str {
        [&self.class, &self.message_type, &self.hour].into_iter().find_map(Option::as_deref).unwrap_or_default()
    }
}

impl Http {
    /// A page of the groups.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn statistics(&self, token: &str, query: &StatisticsQuery) -> Result<Statistics, HttpError> {
        self.call_with_query::<_, Value>(token, Method::GET, "v1/admin/statistics", query, None).await
    }

    /// The figures of one event.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn event_figures(&self, token: &str, event: EventId) -> Result<EventFigures, HttpError> {
        let path = format!("v1/admin/statistics/events/{event}");
        self.call_with_query::<_, Value>(token, Method::GET, &path, &StatisticsQuery::default(), None).await
    }
}
