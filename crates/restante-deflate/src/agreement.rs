//! The parameters that both sides agree on in the handshake (RFC 7692 section 7.1): of the client's offers the first one that can be kept, in full.
//!
//! An offer with a parameter that is unknown, repeated or out of range is declined (section 7.1), and the next one is looked at. It knows
//! the text of the header and nothing of HTTP.

const NAME: &str = "permessage-deflate";
const SERVER_ALONE: &str = "server_no_context_takeover";
const CLIENT_ALONE: &str = "client_no_context_takeover";
const SERVER_WINDOW: &str = "server_max_window_bits";
const CLIENT_WINDOW: &str = "client_max_window_bits";
/// The largest window of deflate: 32 KiB.
const WINDOW_BITS_MAX: u8 = 15;
/// The smallest window that zlib compresses with. It writes streams for a window of 8 bits that need 9.
const WINDOW_BITS_MIN: u8 = 9;

/// The value of `Sec-WebSocket-Extensions` with which a client offers what [`crate::Inflating`] can read.
pub const OFFER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// An agreement on compression. A client is asked to compress each message alone, whether it has offered that or not: the server may
/// ask for it (section 7.1.1.2), and need not keep what the client has said before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// The bits of the window that the client asked the server to keep to.
    window_bits: Option<u8>,
}

impl Agreement {
    /// The agreement on the first of the client's offers that can be kept. None: it offers none, and nothing is compressed.
    /// `lines` are the values of all header lines `Sec-WebSocket-Extensions`, in their order.
    pub fn of<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        lines.into_iter().flat_map(|line| parts(line, ',')).find_map(Self::of_offer)
    }

    fn of_offer(offer: &str) -> Option<Self> {
        let mut parts = parts(offer, ';');
        if parts.next() != Some(NAME) {
            return None;
        }
        let mut seen = Vec::new();
        let mut window_bits = None;
        for (name, value) in parts.map(parameter) {
            if seen.contains(&name) {
                return None;
            }
            seen.push(name);
            match (name, value) {
                (SERVER_ALONE | CLIENT_ALONE | CLIENT_WINDOW, None) => {}
                // A limit for the client, which the server need not answer: any window can be inflated.
                (CLIENT_WINDOW, Some(value)) => _ = bits(value)?,
                (SERVER_WINDOW, Some(value)) => window_bits = Some(bits(value).filter(|bits| *bits >= WINDOW_BITS_MIN)?),
                _ => return None,
            }
        }
        Some(Self { window_bits })
    }

    /// The value of `Sec-WebSocket-Extensions` in the server's answer.
    pub fn answer(self) -> String {
        let window = self.window_bits.map_or_else(String::new, |bits| format!("; {SERVER_WINDOW}={bits}"));
        format!("{NAME}; {SERVER_ALONE}; {CLIENT_ALONE}{window}")
    }

    /// The bits of the window that the server compresses with: 9 to 15.
    pub(crate) fn window_bits(self) -> u8 {
        self.window_bits.unwrap_or(WINDOW_BITS_MAX)
    }
}

/// Returns whether the server's answer agrees on [`OFFER`]. `lines` are those of its header.
pub fn is_agreed<'a>(lines: impl IntoIterator<Item = &'a str>) -> bool {
    let mut extensions = lines.into_iter().flat_map(|line| parts(line, ','));
    extensions.any(|extension| {
        let mut parts = parts(extension, ';');
        parts.next() == Some(NAME) && parts.any(|part| part == SERVER_ALONE)
    })
}

/// The parts of a list, without the spaces around them. A separator in quotes separates nothing (RFC 9110 section 5.6.4).
fn parts(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let splits = move |next: char| {
        is_quoted ^= next == '"';
        next == separator && !is_quoted
    };
    text.split(splits).map(str::trim)
}

/// A parameter: its name, and its value, which may stand in quotes.
fn parameter(text: &str) -> (&str, Option<&str>) {
    match text.split_once('=') {
        Some((name, value)) => {
            let value = value.trim();
            let unquoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            (name.trim(), Some(unquoted.unwrap_or(value)))
        }
        None => (text, None),
    }
}

/// The bits of a window: 8 to 15, written without anything before the digits.
fn bits(value: &str) -> Option<u8> {
    (8..=WINDOW_BITS_MAX).find(|bits| bits.to_string() == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    fn answer(lines: &[&str]) -> Option<String> {
        Agreement::of(lines.iter().copied()).map(Agreement::answer)
    }

    #[test]
    fn offers_of_browsers_and_libraries_are_agreed_on() {
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate;client_max_window_bits=15;client_no_context_takeover",
            "permessage-deflate; client_max_window_bits=\"8\"",
            "permessage-deflate; server_no_context_takeover",
            OFFER,
        ] {
            assert_eq!(answer(&[offer]).as_deref(), Some(ANSWER), "{offer}");
        }
        assert!(is_agreed([ANSWER]));
        assert!(is_agreed(["x-other, permessage-deflate ;server_no_context_takeover"]));
        assert!(!is_agreed(["permessage-deflate"]) && !is_agreed(["x-other; server_no_context_takeover"]) && !is_agreed([]));
    }

    #[test]
    fn a_smaller_window_of_the_server_is_kept_and_said() {
        assert_eq!(answer(&["permessage-deflate; server_max_window_bits=9"]), Some(format!("{ANSWER}; server_max_window_bits=9")));
        let agreement = Agreement::of(["permessage-deflate; server_max_window_bits=\"12\""]).unwrap();
        assert_eq!(agreement.window_bits(), 12);
        assert_eq!(Agreement::of(["permessage-deflate"]).unwrap().window_bits(), 15);
    }

    #[test]
    fn an_offer_that_cannot_be_kept_is_declined() {
        for offer in [
            "",
            "x-webkit-deflate-frame",
            "permessage-deflate2",
            "permessage-deflate; unknown",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=10; server_max_window_bits=11",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate;",
            "\"permessage-deflate, permessage-deflate",
        ] {
            assert_eq!(answer(&[offer]), None, "{offer}");
        }
    }

    #[test]
    fn the_first_offer_that_can_be_kept_counts_wherever_it_stands() {
        let offers = "permessage-deflate; server_max_window_bits=8, x-other; a=\"b, c\", permessage-deflate; server_max_window_bits=10";
        let with_10 = Some(format!("{ANSWER}; server_max_window_bits=10"));
        assert_eq!(answer(&[offers, "permessage-deflate"]), with_10);
        assert_eq!(answer(&["x-other", "permessage-deflate; server_max_window_bits=10, permessage-deflate"]), with_10);
    }
}
