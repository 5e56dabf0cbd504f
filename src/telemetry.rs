//! Log lines (`log`) and the metrics of one node.
//!
//! Metrics hang on a registry of their own, so that two nodes in one process do not mix. Names carry units;
//! labels come from closed sets, never from clients.

mod log;

pub use log::init_logging;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Metric, Registry, Unit};
use tokio::time::Instant;

use crate::domain::{Class, Status, printable};
use crate::protocol::Code;

/// The content type of [`Metrics::render`].
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A metric for each value of one label, or for each combination of the values of `N` labels.
#[derive(Debug, Clone)]
pub struct Labelled<M, const N: usize = 1, C = fn() -> M> {
    labels: [&'static str; N],
    family: Family<[(&'static str, &'static str); N], M, C>,
}

impl<M: Clone, C: MetricConstructor<M>> Labelled<M, 1, C> {
    /// The metric for this value of the label.
    pub fn of(&self, value: &'static str) -> M {
        self.of_all([value])
    }
}

impl<M: Clone, const N: usize, C: MetricConstructor<M>> Labelled<M, N, C> {
    /// The metric for these values of the labels, in the order of the labels.
    pub fn of_all(&self, values: [&'static str; N]) -> M {
        let labels = std::array::from_fn(|n| (self.labels[n], values[n]));
        self.family.get_or_create(&labels).clone()
    }
}

/// A gauge that shows an age in seconds, and grows by itself: it is computed when the metrics are read. Clones share the age.
#[derive(Debug, Clone)]
pub struct AgeGauge {
    /// An instant, and the age at that instant.
    set: Arc<Mutex<(Instant, Duration)>>,
}

impl AgeGauge {
    /// This is the age now.
    pub fn set(&self, age: Duration) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), age);
    }

    /// The age by now.
    pub fn get(&self) -> Duration {
        let (at, age) = *self.set.lock().unwrap_or_else(PoisonError::into_inner);
        age.saturating_add(at.elapsed())
    }
}

impl TypedMetric for AgeGauge {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for AgeGauge {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.encode_gauge(&self.get().as_secs_f64())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// A gauge in seconds of one thing at a time, with labels that say which. Its labels are names that the database's administrators
/// chose, and there is one series: the one that was set last. Clones share it.
#[derive(Debug, Clone)]
pub struct NamedAgeGauge {
    labels: [&'static str; 3],
    set: Arc<Mutex<(Duration, [String; 3])>>,
}

impl NamedAgeGauge {
    /// This is the age, and what has it; empty: nothing that has a name.
    pub fn set(&self, age: Duration, names: [String; 3]) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = (age, names);
    }
}

impl TypedMetric for NamedAgeGauge {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for NamedAgeGauge {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (age, names) = self.set.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let labels: [(&str, String); 3] = std::array::from_fn(|n| (self.labels[n], printable(&names[n]).to_string()));
        encoder.encode_family(&labels)?.encode_gauge(&age.as_secs_f64())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

macro_rules! metrics {
    ($($field:ident: $type:ty = $kind:ident($($arg:expr),*), $name:literal $(in $unit:ident)?, $help:literal;)*) => {
        /// Every metric of one node. Cheap to update from anywhere; shared as an `Arc`.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $help] pub $field: $type,)*
        }

        impl Default for Metrics {
            fn default() -> Self {
                let mut registry = Registry::with_prefix("restante");
                $(let $field: $type = $kind($($arg),*);
                register(&mut registry, $name, $help, metrics!(@unit $($unit)?), metrics!(@metric $kind $field));)*
                Self { registry, $($field,)* }
            }
        }
    };
    (@unit) => { None };
    (@unit $unit:ident) => { Some(Unit::$unit) };
    (@metric labelled $field:ident) => { $field.family.clone() };
    (@metric labelled_by $field:ident) => { $field.family.clone() };
    (@metric $kind:ident $field:ident) => { $field.clone() };
}

metrics! {
    messages_accepted: Counter = counter(), "messages_accepted", "Messages stored for the first time";
    messages_duplicate: Counter = counter(), "messages_duplicate", "Sends that repeated an id and got its first result again";
    messages_refused: Labelled<Counter> = labelled("code", counter), "messages_refused", "Sends refused, by error code";
    events_published: Labelled<Counter> = labelled("outcome", counter), "events_published",
        "Events given to this node to publish, by outcome: published, duplicate, or the error code";
    rows_settled: Labelled<Counter> = labelled("status", counter), "rows_settled", "Rows of the queue that left `sent`, by what they became";
    emissions: Counter = counter(), "emissions", "Envelopes put on the wire, again or for the first time";
    redeliveries: Counter = counter(), "redeliveries", "Envelopes put on the wire again to the same session, unacked";
    attempts: Counter = counter(), "attempts", "Attempts counted against rows: ack time-outs and rejects";
    dead_letters: Labelled<Counter> = labelled("action", counter), "dead_letters",
        "Dead letters that operators put back or gave up through this node: requeued, discarded";
    receipts: Counter = counter(), "receipts", "message:status frames to senders";
    wakes: Labelled<Counter> = labelled("kind", counter), "wakes", "Nudges to sessions, by kind: offer (with the envelope), wake, feed, check (of everything, or of the marks)";
    page_reads: Labelled<Counter> = labelled("class", counter), "page_reads", "Pages read from inboxes, by class";
    unreadable_rows: Counter = counter(), "unreadable_rows", "Rows of inboxes that could not be read, each time that a page came by one";
    turn_wait: Labelled<Histogram> = labelled("purpose", seconds), "turn_wait" in Seconds,
        "Time that work waited to be admitted to the database, by purpose: opening, drain, live, request, events";
    turns_waiting: Labelled<Gauge> = labelled("purpose", gauge), "turns_waiting", "Work that waits to be admitted to the database, by purpose";
    request_pauses: Labelled<Counter> = labelled("door", counter), "request_pauses",
        "Times that a user who asks too much had to wait, by door: a connection that was not read on (socket), a request (http), a connection that was to be opened (opening)";
    limited: Labelled<Counter> = labelled("limit", counter), "limited",
        "Requests that were refused because a limit was used up, by limit: messages, events, direct_chats, groups, named_users, requests (points), failed_tokens, handshakes, account_requests, login_renewals, registrations, guesses, guesses_from_address";
    sessions: Gauge = gauge(), "sessions", "Connections that are authenticated now";
    event_streams: Gauge = gauge(), "event_streams", "Event streams (`GET /v1/stream`) that are open now; each is one of the sessions, too";
    draining: Gauge = gauge(), "draining", "1 from the beginning of a planned stop on, else 0";
    sessions_emitting_alone: Gauge = gauge(), "sessions_emitting_alone",
        "Sessions that emit one envelope at a time, because the client's last connections ended without an ack";
    connections_closed: Labelled<Counter> = labelled("reason", counter), "connections_closed",
        "Connections that ended, by error code; `client` when the client closed or was lost";
    compressed_frame: Labelled<Counter> = labelled("form", counter), "compressed_frame_bytes",
        "Bytes of frames that were compressed for clients, by form: plain (before), deflated (what went out)";
    connections_refused: Counter = counter(), "connections_refused", "Connections refused at once, because the node had as many as it may";
    lane_batch_items: Labelled<Histogram> = labelled("lane", items), "lane_batch_items", "Items a lane wrote in one transaction, by kind of lane";
    lane_batch_duration: Labelled<Histogram> = labelled("lane", seconds), "lane_batch_duration" in Seconds,
        "Time of one transaction of a lane, by kind of lane";
    lane_queue_items: Labelled<Gauge> = labelled("lane", gauge), "lane_queue_items", "Items that wait for a lane, by kind of lane";
    held_chats: Gauge = gauge(), "held_chats", "Chats and inboxes that somebody else holds locked; only their own items wait for them";
    may_send_answers: Labelled<Counter> = labelled("outcome", counter), "may_send_answers",
        "Answers of the application's restante_may_send() (DIRECT_MESSAGES=function), by outcome: yes, no, failed";
    direct_chats_known: Gauge = gauge(), "direct_chats_known", "Direct chats that the node remembers by the name of the other user";
    direct_chat_hits: Counter = counter(), "direct_chat_hits", "Names in `to` whose direct chat the node remembered";
    direct_chat_misses: Counter = counter(), "direct_chat_misses", "Names in `to` whose direct chat was asked of the database";
    chat_sizes_known: Gauge = gauge(), "chat_sizes_known", "Chats of which the node remembers whether they report counts, at most 10,000";
    receipts_to_count: Gauge = gauge(), "receipts_to_count", "Senders in large chats who are to be told counts, and chats whose members have changed";
    crash_loops_known: Gauge = gauge(), "crash_loops_known", "Users with clients whose last connections ended without an ack, at most 10,000";
    presence_watches: Gauge = gauge(), "presence_watches", "Users that connections want to be told of when they come and go";
    users_named: Counter = counter(), "users_named", "Users that were made because others named them, as members or recipients";
    named_users_come: Counter = counter(), "named_users_come",
        "Users that had only been named by others, and came for the first time: the rest of restante_users_named_total never came";
    accept_to_ack: Histogram = seconds(), "accept_to_ack" in Seconds, "Time from accepting a message to the commit of a recipient's ack";
    database_away: Gauge = gauge(), "database_away", "1 while the database does not answer, else 0";
    bus_sent: Labelled<Counter> = labelled("kind", counter), "bus_sent", "Messages to other nodes, by kind";
    bus_received: Labelled<Counter> = labelled("kind", counter), "bus_received", "Messages received from other nodes, and from SQL functions, by kind";
    bus_rejected: Labelled<Counter> = labelled("reason", counter), "bus_rejected",
        "Notifications that were not believed, by reason: forged, replayed, unlisted (of a node that the database does not list yet), unreadable (of a node that encrypts with a key that this one does not know)";
    bus_degraded: Labelled<Counter> = labelled("kind", counter), "bus_degraded",
        "Messages that did not fit and were told in fewer words, or as the last of several states, by kind; `publish`: what a failed transaction held";
    listener_connects: Counter = counter(), "listener_connects", "Times that the connection that listens was made; more than one: it was lost";
    oldest_transaction_age: NamedAgeGauge = named_age(["database", "role", "process"]), "oldest_transaction_age" in Seconds,
        "Age of the oldest transaction of the whole cluster that writes and has not ended, and whose it is, once it is a second old";
    live_nodes: Gauge = gauge(), "live_nodes", "Nodes that live, this one too";
    presence_leases: Gauge = gauge(), "presence_leases", "Users whom this node says to be online";
    job_passes: Labelled<Counter, 2> = labelled_by(["job", "outcome"], counter), "job_passes",
        "Passes of jobs at this node, by outcome: done, more (another one follows at once), failed, fenced (another node had taken the job meanwhile)";
    job_pass_duration: Labelled<Histogram> = labelled("job", seconds), "job_pass_duration" in Seconds, "Time of one pass of a job at this node";
    job_rows: Labelled<Counter> = labelled("job", counter), "job_rows", "Rows that passes of a job have worked off at this node";
    job_success_age: Labelled<AgeGauge> = labelled("job", age), "job_success_age" in Seconds,
        "Time since a pass of a job last succeeded: at whatever node, where one node does it for all";
    fan_out_waiting: Gauge = gauge(), "fan_out_waiting",
        "Rows of events to listed users that are still to be written, counted up to 10,000, at the node that does the job fan_out";
    events_living: Gauge = gauge(), "events_living",
        "Events that live, as the last sweep of the job cap at this node counted them, EVENTS_MAX at most";
    events_capped: Counter = counter(), "events_capped", "Events that have ended since more than EVENTS_MAX lived, at the node that does the job cap";
    retention_lag: Gauge = gauge(), "retention_lag" in Seconds,
        "How long after its time the oldest row or message went, or should have, that the present or the last sweep of the job retention met at this node";
    statistics_lag: Gauge = gauge(), "statistics_lag" in Seconds,
        "Age of the oldest line of the journal that is not in the figures of delivery yet, as the last pass of the job statistics at this node left it; 0: none is left";
    token_key_fetches: Labelled<Counter> = labelled("outcome", counter), "token_key_fetches",
        "Fetches of JWKS_URL, by outcome: done, unreachable, too_slow, status (another than 200), too_large, malformed, empty (no key of it can be used)";
    token_keys: Labelled<Gauge> = labelled("place", gauge), "token_keys", "Keys that tokens are verified with, by place: server (JWKS_URL)";
    token_keys_age: Labelled<AgeGauge> = labelled("place", age), "token_keys_age" in Seconds,
        "Time since keys were last fetched, by place: server (JWKS_URL)";
    revocations: Labelled<Gauge> = labelled("by", gauge), "revocations",
        "Revocations of tokens that count, as this node keeps them in memory, by operators (a user with revoked devices counts as one more), or by logins that have ended";
    account_requests: Labelled<Counter, 2> = labelled_by(["request", "outcome"], counter), "account_requests",
        "Requests about accounts, by request (register, login, refresh, password, logout, logout_everywhere) and outcome: done, or the code of the refusal";
    password_hashes: Counter = counter(), "password_hashes",
        "Hashes of passwords that this node has computed, to make one or to verify by it; a login with a name that nobody has takes one, too";
    job_held: Labelled<Gauge> = labelled("job", gauge), "job_held", "1 while this node holds the lease of a job that one node does for all, else 0";
}

impl Metrics {
    /// Counts a send that was refused.
    pub fn refused(&self, code: Code) {
        self.messages_refused.of(code.as_str()).inc();
    }

    /// Counts rows that left `sent`.
    pub fn settled(&self, status: Status, rows: u64) {
        let status = match status {
            Status::Sent => "sent",
            Status::Delivered => "delivered",
            Status::Read => "read",
            Status::Failed => "failed",
            Status::Expired => "expired",
        };
        self.rows_settled.of(status).inc_by(rows);
    }

    /// Counts a page read.
    pub fn page_read(&self, class: Class) {
        self.page_reads.of(class.as_str()).inc();
    }

    /// Counts the end of a connection; `None`: the client closed it, or it was lost.
    pub fn connection_closed(&self, reason: Option<Code>) {
        self.connections_closed.of(reason.map_or("client", Code::as_str)).inc();
    }

    /// All of them in the OpenMetrics text format.
    pub fn render(&self) -> String {
        let mut out = String::new();
        encode(&mut out, &self.registry).expect("a String takes whatever is written to it");
        out
    }
}

fn register(registry: &mut Registry, name: &str, help: &str, unit: Option<Unit>, metric: impl Metric) {
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, metric),
        None => registry.register(name, help, metric),
    }
}

fn counter() -> Counter {
    Counter::default()
}

fn gauge() -> Gauge {
    Gauge::default()
}

/// From a millisecond to a minute and a half.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

/// From one to 4,096.
fn items() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 13))
}

/// An age that begins now.
fn age() -> AgeGauge {
    AgeGauge { set: Arc::new(Mutex::new((Instant::now(), Duration::ZERO))) }
}

fn named_age(labels: [&'static str; 3]) -> NamedAgeGauge {
    NamedAgeGauge { labels, set: Arc::default() }
}

fn labelled<M: Clone>(label: &'static str, constructor: fn() -> M) -> Labelled<M> {
    labelled_by([label], constructor)
}

fn labelled_by<M: Clone, const N: usize>(labels: [&'static str; N], constructor: fn() -> M) -> Labelled<M, N> {
    Labelled { labels, family: Family::new_with_constructor(constructor) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_rendered_with_units_labels_and_help() {
        let metrics = Metrics::default();
        metrics.refused(Code::Busy);
        metrics.settled(Status::Delivered, 3);
        metrics.accept_to_ack.observe(0.002);
        metrics.lane_batch_duration.of("accept").observe(1.0);
        metrics.job_passes.of_all(["expire", "done"]).inc();
        metrics.job_success_age.of("expire").set(Duration::from_secs(90));
        metrics.oldest_transaction_age.set(Duration::from_secs(7), ["a\"b\nc".to_owned(), "ann".to_owned(), "12".to_owned()]);
        let text = metrics.render();
        for line in [
            r#"restante_messages_refused_total{code="busy"} 1"#,
            r#"restante_rows_settled_total{status="delivered"} 3"#,
            "restante_accept_to_ack_seconds_count 1",
            r#"restante_lane_batch_duration_seconds_count{lane="accept"} 1"#,
            r#"restante_job_passes_total{job="expire",outcome="done"} 1"#,
            r#"restante_job_success_age_seconds{job="expire"} 90."#,
            r#"restante_oldest_transaction_age_seconds{database="a\"b⏎c",role="ann",process="12"} 7.0"#,
            "# HELP restante_sessions Connections that are authenticated now.",
            "restante_database_away 0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn two_nodes_count_apart() {
        let (one, other) = (Metrics::default(), Metrics::default());
        one.emissions.inc();
        assert_eq!((one.emissions.get(), other.emissions.get()), (1, 0));
    }
}
