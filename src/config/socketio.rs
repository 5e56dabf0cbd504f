//! The settings of Socket.IO: lists of words, separated by commas. The door that they are for knows nothing of their texts.

use crate::domain::limits;

/// A transport of Socket.IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketIoTransport {
    /// WebSocket.
    WebSocket,
    /// Long polling.
    Polling,
}

/// A form in which clients of Socket.IO are told of presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresenceForm {
    /// `user:online` and `user:offline`.
    Online,
    /// `user:presence`.
    Presence,
}

/// The words of a list, separated by commas.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim)
}

/// The transports; `none` stands for no door at all.
pub(super) fn socketio_transports(text: &str) -> Result<Vec<SocketIoTransport>, String> {
    if text.trim() == "none" {
        return Ok(Vec::new());
    }
    let transport = |word| match word {
        "websocket" => Ok(SocketIoTransport::WebSocket),
        "polling" => Ok(SocketIoTransport::Polling),
        _ => Err("must be websocket, polling, both separated by a comma, or none".to_owned()),
    };
    words(text).map(transport).collect()
}

/// The forms of presence.
pub(super) fn presence_forms(text: &str) -> Result<Vec<PresenceForm>, String> {
    let form = |word| match word {
        "online" => Ok(PresenceForm::Online),
        "presence" => Ok(PresenceForm::Presence),
        _ => Err("must be online, presence, or both separated by a comma".to_owned()),
    };
    words(text).map(form).collect()
}

/// Names of the service have a colon, and these are the other ones and those of the client's library: no publisher may speak for either.
const RESERVED_EVENT_NAMES: &[&str] = &[
    "authenticated",
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "error",
    "newListener",
    "pong",
    "ready",
    "removeListener",
    "typing",
];

/// Types of events that get their own names.
pub(super) fn event_names(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let name = |word: &str| {
        let fits = (1..=limits::MESSAGE_TYPE_CHARS_MAX).contains(&word.chars().count()) && !word.contains(':');
        if fits && !RESERVED_EVENT_NAMES.contains(&word) {
            return Ok(word.to_owned());
        }
        Err("must be types of events, separated by commas, without a colon and not a name of the service or of socket.io".to_owned())
    };
    words(text).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_and_forms_are_lists_of_known_words() {
        assert_eq!(socketio_transports(" polling , websocket"), Ok(vec![SocketIoTransport::Polling, SocketIoTransport::WebSocket]));
        assert_eq!(socketio_transports("none"), Ok(Vec::new()));
        assert!(["none,polling", "polling,", "webtransport"].iter().all(|text| socketio_transports(text).is_err()));
        assert_eq!(presence_forms("online,presence"), Ok(vec![PresenceForm::Online, PresenceForm::Presence]));
        assert!(presence_forms("offline").is_err());
    }

    #[test]
    fn no_type_of_an_event_speaks_for_the_service_or_for_the_library() {
        assert_eq!(event_names("post_update, new_comment"), Ok(vec!["post_update".to_owned(), "new_comment".to_owned()]));
        assert_eq!(event_names(""), Ok(Vec::new()));
        for name in ["message:receive", "x:y", "connect", "disconnect", "ready", "error", "newListener", "a,,b"] {
            assert!(event_names(name).is_err(), "{name}");
        }
    }
}
