//! Watches a replay: moves the bar, and ends it when nothing moves any more.

use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, interval};

use super::stage::Stage;

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A bar on stderr; none where stderr is no terminal.
pub fn bar(title: &str, expected: u64) -> ProgressBar {
    let bar = ProgressBar::new(expected);
    let style = ProgressStyle::with_template("{prefix:.bold} {wide_bar} {percent:>3}%  {msg}  {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(title.to_owned());
    bar
}

/// Never returns: moves the bar until it is dropped. When nothing has moved for `patience`, the stage fails.
pub async fn watch(stage: &Stage, bar: &ProgressBar, patience: Duration) {
    let mut look = interval(LOOK_EVERY);
    let mut last = (0, Instant::now());
    loop {
        look.tick().await;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &stage.counters;
        let (settled, deliveries) = (count(&counters.settled), count(&counters.deliveries));
        bar.set_position(settled + deliveries);
        bar.set_message(format!("{settled} of {} sent, {deliveries} delivered", stage.messages()));
        // A greeting is no progress: a service that lets everybody in and gives nothing to anybody stalls too.
        let moved = settled + count(&counters.envelopes) + count(&counters.finished);
        if moved != last.0 {
            last = (moved, Instant::now());
        } else if last.1.elapsed() > patience {
            let greetings = count(&counters.greetings);
            stage.fail(format!(
                "nothing has moved for {} s ({settled} sent, {deliveries} delivered, {greetings} connects)",
                patience.as_secs()
            ));
            return;
        }
    }
}
