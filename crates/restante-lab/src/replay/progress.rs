//! Watches a replay: moves the progress bar, and ends the replay when it makes no progress.

use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, interval};

use super::state::ReplayState;

const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A bar on stderr. It shows nothing where stderr is no terminal.
pub fn bar(title: &str, expected: u64) -> ProgressBar {
    let bar = ProgressBar::new(expected);
    let style = ProgressStyle::with_template("{prefix:.bold} {wide_bar} {percent:>3}%  {msg}  {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(title.to_owned());
    bar
}

/// Moves the bar. When there was no progress for `patience`, it makes the replay fail and returns; else it never returns.
pub async fn watch(state: &ReplayState, bar: &ProgressBar, patience: Duration) {
    let mut poll = interval(POLL_INTERVAL);
    let mut last = (0, Instant::now());
    loop {
        poll.tick().await;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &state.counters;
        let (settled, deliveries) = (count(&counters.settled), count(&counters.deliveries));
        bar.set_position(settled + deliveries);
        bar.set_message(format!("{settled} of {} sent, {deliveries} delivered", state.messages()));
        // A greeting is no progress: a service that greets everybody and delivers nothing stalls too.
        let moved = settled + count(&counters.envelopes) + count(&counters.finished);
        if moved != last.0 {
            last = (moved, Instant::now());
        } else if last.1.elapsed() > patience {
            let greetings = count(&counters.greetings);
            state.fail(format!(
                "nothing has moved for {} s ({settled} sent, {deliveries} delivered, {greetings} connects)",
                patience.as_secs()
            ));
            return;
        }
    }
}
