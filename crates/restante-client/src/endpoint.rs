//! A client's connection: the service's address, the user, and the client's wishes. All of it becomes one HTTP request.

use std::time::Duration;

use reqwest::Url;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Request, header};

use super::WireError;
use restante_session::domain::Class;

/// The form of the acks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AckStyle {
    /// Not at all, for a client that shows no messages: what waits goes on waiting.
    Never,
    /// Each message is named.
    #[default]
    Ids,
    /// `upTo` the last number of a burst that came in order; a message out of order is named.
    UpTo,
}

/// The language of a [`super::Wire`]. A [`super::Client`] speaks frames only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Door {
    /// The service's own frames, at `/ws`.
    #[default]
    Frames,
    /// Packets of Engine.IO 4 and Socket.IO 5 over a WebSocket, at `/socket.io/`. The token stands in the query.
    SocketIo,
}

/// The options of a [`super::Client`]: its address, its token, its wishes, and its time-outs.
#[derive(Debug, Clone)]
pub struct Options {
    /// The service: `http://host:port`, with or without a path below which it lives.
    pub url: Url,
    /// A token: its `sub` is the user.
    pub token: String,
    /// The device, 1 to 64 characters. Without one, what another connection of the user acked is not shown here.
    pub device: Option<String>,
    /// The window: unacked messages that the service may have under way, 1 to 500. `None`: the service's default.
    pub window: Option<u16>,
    /// Pages in one frame.
    pub batch: bool,
    /// The language.
    pub door: Door,
    /// Offer compression to the service. Only over `ws`: an address of `wss` is refused then.
    pub compression: bool,
    /// "I have everything up to this inbox number", with the epoch the number belongs to. For the first connect.
    pub since: Option<(i64, String)>,
    /// The same for several inboxes: the epoch, and the number of each. It takes the place of `since`.
    pub resume: Option<(String, Vec<(Class, i64)>)>,
    /// The cursor of the receipts that are known, from the last `ready` or `message:status` that was processed.
    pub marks: Option<String>,
    /// The form of the acks.
    pub ack_style: AckStyle,
    /// The first waiting time before coming back.
    pub backoff_first: Duration,
    /// The longest one.
    pub backoff_longest: Duration,
    /// The time after which a send or read without an answer counts as lost with its connection.
    pub answer_timeout: Duration,
    /// The time after which a silent connection is dead. The service pings every 20 s.
    pub silence_max: Duration,
    /// Also hand out every frame as it came.
    pub raw_frames: bool,
}

impl Options {
    /// Defaults for this service and token.
    ///
    /// # Errors
    /// When the address is none, or its scheme is not `http` or `ws`.
    pub fn new(url: &str, token: impl Into<String>) -> Result<Self, WireError> {
        Ok(Self {
            url: service_url(url)?,
            token: token.into(),
            device: None,
            window: None,
            batch: false,
            door: Door::Frames,
            compression: false,
            since: None,
            resume: None,
            marks: None,
            ack_style: AckStyle::Ids,
            backoff_first: Duration::from_millis(100),
            backoff_longest: Duration::from_secs(3),
            answer_timeout: Duration::from_secs(30),
            silence_max: Duration::from_secs(60),
            raw_frames: false,
        })
    }

    /// The address of the socket, with the wishes in its query.
    pub fn socket_url(&self) -> Url {
        let mut url = below(&self.url, if self.door == Door::SocketIo { "socket.io/" } else { "ws" });
        // `service_url` left only http and https here, and these may become ws and wss.
        let _ = url.set_scheme(if self.url.scheme() == "https" { "wss" } else { "ws" });
        let mut query = url.query_pairs_mut();
        if self.door == Door::SocketIo {
            query.append_pair("EIO", "4").append_pair("transport", "websocket").append_pair("token", &self.token);
        }
        if let Some(device) = &self.device {
            query.append_pair("device", device);
        }
        if let Some(window) = self.window {
            query.append_pair("window", &window.to_string());
        }
        if self.batch {
            query.append_pair("batch", "1");
        }
        if let Some((epoch, inboxes)) = &self.resume {
            let pairs: Vec<String> = inboxes.iter().map(|(class, number)| format!("{class}:{number}")).collect();
            query.append_pair("epoch", epoch).append_pair("since", &pairs.join(","));
        } else if let Some((since, epoch)) = &self.since {
            query.append_pair("epoch", epoch).append_pair("since", &since.to_string());
        }
        if let Some(marks) = &self.marks {
            query.append_pair("marks", marks);
        }
        drop(query);
        if url.query() == Some("") {
            url.set_query(None);
        }
        url
    }

    /// The request that opens the socket.
    pub(super) fn request(&self) -> Result<Request<()>, WireError> {
        let bad = |what: String| WireError::BadAddress(what);
        let mut request = self.socket_url().as_str().into_client_request().map_err(|error| bad(error.to_string()))?;
        let mut bearer =
            HeaderValue::from_str(&format!("Bearer {}", self.token)).map_err(|_| bad("the token is no header value".into()))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
        Ok(request)
    }
}

/// Reads the address of a service.
///
/// # Errors
/// When it is none, or its scheme is not `http`, `https`, `ws` or `wss`.
pub(super) fn service_url(text: &str) -> Result<Url, WireError> {
    let bad = |why: String| WireError::BadAddress(format!("{text}: {why}"));
    let as_http = match text.split_once("://") {
        Some(("ws", rest)) => format!("http://{rest}"),
        Some(("wss", rest)) => format!("https://{rest}"),
        Some(_) => text.to_owned(),
        None => format!("http://{text}"),
    };
    let mut url = Url::parse(&as_http).map_err(|error| bad(error.to_string()))?;
    // The address of the socket is printed as such.
    if text.starts_with("ws")
        && let Some(above) = url.path().trim_end_matches('/').strip_suffix("/ws").map(str::to_owned)
    {
        url.set_path(&above);
    }
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(bad("an address looks like http://host:port".into()));
    }
    Ok(url)
}

/// `path` below the service's own path.
pub(super) fn below(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    url.set_path(&format!("{}/{path}", url.path().trim_end_matches('/')));
    url.set_query(None);
    url.set_fragment(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_asked_for_is_in_the_query_escaped() {
        let mut options = Options::new("http://127.0.0.1:8080", "t").unwrap();
        assert_eq!(options.socket_url().as_str(), "ws://127.0.0.1:8080/ws");
        options.device = Some("a b&c".into());
        options.window = Some(500);
        options.batch = true;
        options.since = Some((41, "e1".into()));
        options.marks = Some("e1:7".into());
        assert_eq!(options.socket_url().query(), Some("device=a+b%26c&window=500&batch=1&epoch=e1&since=41&marks=e1%3A7"));
        (options.resume, options.marks) = (Some(("e1".into(), vec![(Class::Chat, 41), (Class::Event, 7)])), None);
        assert_eq!(options.socket_url().query(), Some("device=a+b%26c&window=500&batch=1&epoch=e1&since=chat%3A41%2Cevent%3A7"));
    }

    #[test]
    fn service_below_a_path_is_found() {
        let options = Options::new("https://chat.example/restante/", "t").unwrap();
        assert_eq!(options.socket_url().as_str(), "wss://chat.example/restante/ws");
        assert_eq!(below(&options.url, "v1/chats").as_str(), "https://chat.example/restante/v1/chats");
    }

    #[test]
    fn host_and_port_alone_are_an_address_and_other_schemes_are_not() {
        assert_eq!(service_url("localhost:8080").unwrap().as_str(), "http://localhost:8080/");
        assert_eq!(service_url("ws://localhost:1").unwrap().as_str(), "http://localhost:1/");
        assert_eq!(service_url("ws://localhost:1/ws").unwrap().as_str(), "http://localhost:1/");
        assert_eq!(service_url("wss://chat.example/restante/ws/").unwrap().as_str(), "https://chat.example/restante");
        assert_eq!(service_url("http://localhost:1/ws").unwrap().as_str(), "http://localhost:1/ws", "a service may live below it");
        assert!(service_url("ftp://localhost").is_err());
        assert!(service_url("http://").is_err());
    }
}
