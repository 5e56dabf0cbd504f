//! The log lines of a test's thread, in which its nodes run.
//!
//! The process has one subscriber, which is set once. With a subscriber for each test, the thread that reaches a log line first would
//! decide for all threads whether the line is ever logged: while tracing knows only one subscriber, it asks the one of the current
//! thread, and the thread of another test has none.

use std::cell::RefCell;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Once;

use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, Registry};

thread_local! {
    static HEARD: RefCell<Option<Vec<LogLine>>> = const { RefCell::new(None) };
}

/// A line of the log.
#[derive(Clone, Debug, Default)]
pub struct LogLine {
    pub target: String,
    pub message: String,
    /// All others, as ` field=value`.
    pub fields: String,
}

impl Visit for LogLine {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields += &format!(" {name}={value:?}"),
        }
    }
}

struct Hearing;

impl<S: Subscriber> Layer<S> for Hearing {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>, _: Context<'_, S>) -> bool {
        HEARD.with_borrow(Option::is_some)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = LogLine { target: event.metadata().target().to_owned(), ..LogLine::default() };
        event.record(&mut line);
        HEARD.with_borrow_mut(|heard| heard.as_mut().map(|heard| heard.push(line)));
    }
}

/// Hears the log of this thread until it is dropped.
pub struct Log(PhantomData<*const ()>);

impl Log {
    pub fn of_this_thread() -> Self {
        static SET: Once = Once::new();
        SET.call_once(|| tracing::subscriber::set_global_default(Registry::default().with(Hearing)).unwrap());
        HEARD.set(Some(Vec::new()));
        Self(PhantomData)
    }

    /// The lines that were logged since the last call.
    pub fn take(&self) -> Vec<LogLine> {
        HEARD.with_borrow_mut(|heard| heard.as_mut().map(std::mem::take).unwrap_or_default())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        HEARD.set(None);
    }
}
