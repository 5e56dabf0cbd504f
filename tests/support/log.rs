//! What is logged in the thread of a test, which is where its nodes run.
//!
//! One subscriber for the process, set once and for good. With one for each test, whichever thread comes to a line of the log
//! first decides for all whether it is ever told: where only one subscriber is known, tracing asks that of the thread it is in,
//! and in the thread of another test that is none.

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

    /// What was logged since it was asked last.
    pub fn take(&self) -> Vec<LogLine> {
        HEARD.with_borrow_mut(|heard| heard.as_mut().map(std::mem::take).unwrap_or_default())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        HEARD.set(None);
    }
}
