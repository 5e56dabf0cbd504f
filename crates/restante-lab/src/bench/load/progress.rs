//! A progress bar on stderr; lines where stderr is no terminal.

use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};

/// The bar of one repetition. Clones move the same bar, and it ends with the last of them.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Bar>);

#[derive(Debug)]
struct Bar {
    bar: ProgressBar,
    label: String,
}

impl Progress {
    /// A bar with this label.
    pub fn new(label: &str) -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{prefix:.bold} {wide_bar} {percent:>3}%  {msg}  {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(label.to_owned());
        Self(Arc::new(Bar { bar, label: label.to_owned() }))
    }

    /// Begins a phase of this many steps.
    pub fn begin(&self, what: &str, steps: u64) {
        let Bar { bar, label } = &*self.0;
        bar.reset();
        bar.set_length(steps);
        bar.set_message(what.to_owned());
        if bar.is_hidden() {
            eprintln!("{label}: {what}");
        }
    }

    /// Moves the bar by `steps`. It is cheap enough to be called for every message.
    pub fn advance(&self, steps: u64) {
        self.0.bar.inc(steps);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
