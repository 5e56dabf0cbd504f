//! Log lines, as text for people or as JSON for collectors. Values may hold what strangers chose (a user, a device, a reason,
//! a header, an error of the database that quotes one): in neither format does any of it end a line or drive a terminal.

use std::fmt::Debug;
use std::io::{self, IsTerminal, Write};

use tracing::field::Field;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::config::LogFormat;
use crate::domain::{printable, printable_json};

/// Starts logging to stderr for the whole process. Called again, it changes nothing.
pub fn init_logging(filter: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    // One filter for all and not one of the layer's own: that swallows a line now and then, the one after sqlx has asked whether
    // a statement is to be logged and it was not. An error means that the process logs already, as when two nodes run
    // inside one test.
    let has_colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let _ = tracing_subscriber::registry().with(filter).with(Untold).with(lines(format, has_colours, io::stderr)).try_init();
}

/// Leaves out what libraries would log of the bytes that they carry, at whatever level the settings ask for: contents and tokens.
struct Untold;

impl<S: Subscriber> Layer<S> for Untold {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        !(*metadata.level() == Level::TRACE && CARRIERS.iter().any(|carrier| metadata.target().starts_with(carrier)))
    }
}

/// Libraries that log frames, requests and their parts at the level trace.
const CARRIERS: [&str; 6] = ["tungstenite", "tokio_tungstenite", "hyper", "h2", "rustls", "reqwest"];

/// Writes events and spans as lines of this format. A line that cannot be written is dropped: to say so on the same stderr would
/// fail too, and panic.
fn lines<S, W>(format: LogFormat, has_colours: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    match format {
        LogFormat::Text => {
            let layer = fmt::layer().with_ansi(has_colours).log_internal_errors(false);
            layer.fmt_fields(debug_fn(write_field).delimited(" ")).with_writer(writer).boxed()
        }
        LogFormat::Json => fmt::layer().log_internal_errors(false).json().flatten_event(true).with_writer(EscapedJson(writer)).boxed(),
    }
}

/// Writes a field of a text line.
fn write_field(line: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> std::fmt::Result {
    let value = printable(&format!("{value:?}"));
    match field.name() {
        "message" => write!(line, "{value}"),
        name => write!(line, "{name}={value}"),
    }
}

/// Escapes what JSON itself leaves as it is: C1 controls, the line breaks of Unicode, characters of direction.
struct EscapedJson<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for EscapedJson<W> {
    type Writer = EscapedJson<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        EscapedJson(self.0.make_writer())
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        EscapedJson(self.0.make_writer_for(metadata))
    }
}

impl<W: Write> Write for EscapedJson<W> {
    /// Takes a whole line, which is how it is called.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.write_all(format!("{}\n", printable_json(text.trim_end_matches('\n'))).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Lines, as they would go to stderr.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines logged in this format while `log` runs, without the colours of a terminal.
    fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        let written = Lines::default();
        let writer = written.clone();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines(format, false, move || writer.clone())), log);
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let colours = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[3m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[34m", "\x1b[35m"];
        colours.iter().fold(text, |text, colour| text.replace(colour, ""))
    }

    /// One line, with nothing in it that whatever shows it would obey.
    fn assert_harmless(text: &str) {
        let line = text.strip_suffix('\n').unwrap();
        assert_eq!(line, printable(line));
    }

    const HOSTILE: &str = "a\x1b[2Jb\nINFO forged\r\u{85}INFO\u{2028}INFO\u{2029}INFO\u{9b}2J\u{7f}\u{61c}\u{200e}\u{200f}\u{202e}\u{2066}";

    #[test]
    fn what_strangers_chose_is_harmless_in_a_log_line_of_events_and_of_spans() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged(format, || {
                let _span = tracing::info_span!("session", user.id = %HOSTILE, request.id = HOSTILE).entered();
                tracing::info!(device.id = %HOSTILE, reason = HOSTILE, cause = ?io::Error::other(HOSTILE), "said {HOSTILE}");
            });
            assert_harmless(&text);
        }
        let text = logged(LogFormat::Text, || tracing::info!(device.id = %"a\x1b[2Jb\nINFO forged", "said"));
        assert!(text.contains("device.id=a\u{fffd}[2Jb⏎INFO forged"), "{text:?}");
    }

    #[test]
    fn a_json_line_keeps_the_value_that_it_escapes() {
        let text = logged(LogFormat::Json, || {
            let _span = tracing::info_span!("session", user.id = %HOSTILE).entered();
            tracing::info!(device.id = %HOSTILE, "{HOSTILE}");
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["device.id"], &line["message"], &line["span"]["user.id"]), (&HOSTILE.into(), &HOSTILE.into(), &HOSTILE.into()));
    }
}
