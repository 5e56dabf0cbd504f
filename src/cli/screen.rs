//! The terminal: lines, ticks, colours where there is somebody to see them. Text of others is shown, never
//! obeyed: control characters cannot move the cursor or change the title.

use std::io::{self, IsTerminal, Write};

pub use crate::domain::{printable, printable_json, printable_lines};

use crate::domain::Status;

/// A line could not be written: the output is full, or nobody reads it any more.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to stdout: {0}")]
pub struct OutputError(#[from] io::Error);

/// Writes lines to stdout at once.
///
/// # Errors
/// [`OutputError`]: perhaps a part of it was written.
pub fn print(text: &str) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    Ok(writeln!(out, "{text}").and_then(|()| out.flush())?)
}

/// Says something on stderr. Where nobody can hear it, it is not said: that is no reason to end what is done.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The output of a command.
pub struct Screen {
    colours: Colours,
}

/// Tells whether the screen has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// On a terminal, unless `NO_COLOR` is set.
    On,
    /// In files and pipes.
    Off,
}

/// The kind of a piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Times, places, numbers.
    Faint,
    /// Names.
    Bold,
    /// Good news.
    Green,
    /// Text about a message that was read.
    Cyan,
    /// Text about a failure.
    Red,
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Screen {
    /// Stdout.
    pub fn new() -> Self {
        let has_colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { colours: if has_colours { Colours::On } else { Colours::Off } }
    }

    /// One line. A closed pipe is an error, so that the command ends.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn line(&mut self, text: &str) -> Result<(), OutputError> {
        print(text)
    }

    /// The text in this ink.
    pub fn ink(&self, ink: Ink, text: &str) -> String {
        self.colours.ink(ink, text)
    }

    /// `✓ sent`, `✓✓ delivered`, `✓✓ read`, `✗ failed`.
    pub fn tick(&self, status: Status) -> String {
        self.colours.tick(status)
    }
}

impl Colours {
    fn ink(self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Faint => "2",
            Ink::Bold => "1",
            Ink::Green => "32",
            Ink::Cyan => "36",
            Ink::Red => "31",
        };
        match self {
            Self::On => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Off => text.to_owned(),
        }
    }

    fn tick(self, status: Status) -> String {
        match status {
            Status::Sent => self.ink(Ink::Faint, "✓ sent"),
            Status::Delivered => self.ink(Ink::Green, "✓✓ delivered"),
            Status::Read => self.ink(Ink::Cyan, "✓✓ read"),
            Status::Failed => self.ink(Ink::Red, "✗ failed"),
            Status::Expired => self.ink(Ink::Red, "✗ expired"),
        }
    }
}

/// The time of day of an RFC 3339 timestamp, as the service wrote it (UTC).
pub fn time_of_day(timestamp: &str) -> &str {
    timestamp.split_once('T').and_then(|(_, time)| time.get(..8)).unwrap_or(timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_only() {
        assert_eq!(Colours::Off.tick(Status::Read), "✓✓ read");
        assert_eq!(Colours::On.tick(Status::Read), "\x1b[36m✓✓ read\x1b[0m");
    }

    #[test]
    fn time_of_day_is_cut_out_of_a_timestamp() {
        assert_eq!(time_of_day("2026-01-02T03:04:05.678Z"), "03:04:05");
        assert_eq!(time_of_day("whenever"), "whenever");
    }
}
