//! A bar on stderr, where somebody watches.

use indicatif::{ProgressBar, ProgressStyle};

/// The bar of one repetition. Clones move the same one.
#[derive(Debug, Clone)]
pub struct Progress {
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
        Self { bar, label: label.to_owned() }
    }

    /// Something with so many steps begins.
    pub fn begin(&self, what: &str, steps: u64) {
        self.bar.reset();
        self.bar.set_length(steps);
        self.bar.set_message(what.to_owned());
        if self.bar.is_hidden() {
            eprintln!("{}: {what}", self.label);
        }
    }

    /// So many steps are done. Cheap enough for every message.
    pub fn advance(&self, steps: u64) {
        self.bar.inc(steps);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
