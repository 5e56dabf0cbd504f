//! The inputs for hostile bytes, one function for each way into the service. The fuzzer calls them with its own bytes (`fuzz_targets/`),
//! and `tests/corpus.rs` with the bytes in `corpus/`, so that `cargo test` needs no fuzzer.
//!
//! An input must not panic, and its result must keep the promises of the parser.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::extract::Query;
use axum::http::{HeaderMap, HeaderValue, Uri};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use restante::auth::{self, KEYS_MAX, KeySet, Origin, ReadSet, SET_BYTES_MAX, TokenVerifier, TrustedProxies};
use restante::connection::ConnectQuery;
use restante::domain::{Network, limits};
use restante::driver::ConnectOptions;
use restante::protocol::client::{AckRequest, ClientEvent, Frame, parse};
use restante::protocol::server::{self, Pong};
use secrecy::ExposeSecret;
use serde_json::Value;
use serde_json::value::RawValue;
use time::OffsetDateTime;

const SECRET: &str = "a secret that only the fuzzer knows";
/// `{"alg":"HS256"}`
const HEAD: &str = "eyJhbGciOiJIUzI1NiJ9";

/// A text frame from a client.
pub fn frame(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (id, answer) = match parse(text) {
        Ok(Frame { id, event }) => {
            keeps_limits(&event);
            let answer = server::frame(id.as_ref(), &Pong {});
            (id, answer)
        }
        Err(error) => {
            let answer = server::frame(error.id.as_ref(), &error.fault);
            (error.id, answer)
        }
    };
    let answer: BTreeMap<String, &RawValue> = serde_json::from_str(&answer).expect("an answer is JSON, whatever it answers");
    // An id goes back exactly as it came: a number may be larger than any that can be compared.
    assert_eq!(answer.get("id").map(|id| id.get()), id.as_ref().map(|id| id.as_json()));
}

/// A parsed event can be stored.
fn keeps_limits(event: &ClientEvent) {
    match event {
        ClientEvent::Send(request) => {
            let metadata = request.metadata.as_ref().map_or("null", |metadata| metadata.get());
            assert!(request.content.len() <= limits::CONTENT_BYTES_MAX && metadata.len() <= limits::METADATA_BYTES_MAX);
            assert!((1..=limits::MESSAGE_TYPE_CHARS_MAX).contains(&request.message_type.chars().count()));
            assert!(!request.content.contains('\0') && !request.message_type.contains('\0'));
            // The frame and its data are two of the levels.
            let metadata = serde_json::from_str(metadata).expect("metadata is JSON");
            assert!(depth(&metadata) + 2 <= limits::JSON_DEPTH_MAX);
        }
        ClientEvent::Publish(request) => {
            let data = request.data.as_ref().map_or("null", |data| data.get());
            assert!(data.len() <= limits::EVENT_DATA_BYTES_MAX && request.except.len() <= limits::EVENT_EXCEPT_MAX);
            assert!((1..=limits::MESSAGE_TYPE_CHARS_MAX).contains(&request.event_type.chars().count()));
            assert!(!request.event_type.contains('\0') && request.names() <= limits::EVENT_USERS_MAX + limits::EVENT_EXCEPT_MAX);
            assert!(request.ttl.as_millis() >= u128::from(limits::EVENT_TTL_MS_MIN));
            assert!(request.ttl.as_millis() <= u128::from(limits::EVENT_TTL_MS_MAX));
            let data = serde_json::from_str(data).expect("data is JSON");
            assert!(depth(&data) + 2 <= limits::JSON_DEPTH_MAX);
        }
        ClientEvent::Delivered(AckRequest::Messages(ids)) => assert!(ids.len() <= limits::IDS_MAX),
        ClientEvent::Delivered(AckRequest::UpTo { seq, .. }) => assert!(seq.0 >= 0),
        ClientEvent::Reject(request) => assert!((1..=limits::REASON_CHARS_MAX).contains(&request.reason.chars().count())),
        ClientEvent::PresenceGet(users) | ClientEvent::PresenceSubscribe(users) => assert!(users.len() <= limits::PRESENCE_USERS_MAX),
        ClientEvent::Authenticate { .. }
        | ClientEvent::Recall(_)
        | ClientEvent::Read(_)
        | ClientEvent::Skip(_)
        | ClientEvent::Typing { .. }
        | ClientEvent::People(_)
        | ClientEvent::Ping => {}
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// A token: the bytes as they are, and the bytes as claims under a good signature, which is as far as a stranger never gets.
pub fn token(bytes: &[u8]) {
    let verifier = TokenVerifier::new(&SECRET.into());
    let now = OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000);
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(bytes) {
        headers.insert("sec-websocket-protocol", value.clone());
        headers.insert("authorization", value);
    }
    let text = String::from_utf8_lossy(bytes);
    let _ = auth::Offer::of(&headers);
    for token in [auth::bearer(&headers), auth::socket_token(&headers, Some(&text))].into_iter().flatten().flatten() {
        assert!(verifier.verify(token.expose_secret(), now).is_err(), "nobody has signed this");
    }
    let signed = format!("{HEAD}.{}", base64url(bytes));
    let signature =
        crypto::sign(signed.as_bytes(), &EncodingKey::from_secret(SECRET.as_bytes()), Algorithm::HS256).expect("HS256 signs anything");
    if let Ok(identity) = verifier.verify(&format!("{signed}.{signature}"), now) {
        let user = identity.external.as_str();
        assert!(identity.expires_at > now && (1..=limits::USER_ID_CHARS_MAX).contains(&user.chars().count()) && !user.contains('\0'));
        assert!(identity.name.is_none_or(|name| !name.is_empty() && name.chars().count() <= 256));
    }
}

/// A set of keys, as an issuer's server gives it and as a file has it.
pub fn jwks(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for origin in [Origin::Server, Origin::File] {
        let Ok(ReadSet { keys, refused }) = ReadSet::parse(text, origin) else { continue };
        assert!(text.len() <= SET_BYTES_MAX && keys.len() + refused.len() <= KEYS_MAX);
        let (set, hmac) = (KeySet::new(keys), [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512]);
        let secrets: usize = hmac.iter().map(|algorithm| set.candidates(None, *algorithm).count()).sum();
        assert!(origin == Origin::File || secrets == 0, "a server gives no secrets");
        assert!(set.candidates(None, Algorithm::RS256).all(|key| !hmac.iter().any(|algorithm| key.knows(*algorithm))));
    }
}

/// The words of a request about where it came from, through proxies in `10.0.0.0/8`; and the same text as a setting.
pub fn forwarded(bytes: &[u8]) {
    const PEERS: [&str; 3] = ["10.0.0.1", "::ffff:10.0.0.1", "203.0.113.9"];
    let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let mut headers = HeaderMap::new();
    lines.for_each(|line| _ = headers.append("x-forwarded-for", line));
    let own: Network = "10.0.0.0/8".parse().expect("a network");
    let proxies = TrustedProxies::new(vec![own]);
    for peer in PEERS.map(|peer| peer.parse::<IpAddr>().expect("an address")) {
        let client = proxies.client_of(peer, &headers);
        assert!(own.contains(peer) || client == peer, "a stranger is believed");
        assert_eq!(client, client.to_canonical());
        // A nearest proxy that names a stranger is believed, whatever stands before.
        let mut longer = headers.clone();
        longer.append("x-forwarded-for", HeaderValue::from_static("198.51.100.1, 10.0.0.2"));
        assert!(!own.contains(peer) || proxies.client_of(peer, &longer).to_string() == "198.51.100.1");
    }
    if let Some(network) = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<Network>().ok()) {
        assert!(!(network.contains(IpAddr::V4(Ipv4Addr::LOCALHOST)) && network.contains(IpAddr::V6(Ipv6Addr::LOCALHOST))));
    }
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).map(move |n| char::from(DIGITS[(bits >> (18 - 6 * n) & 63) as usize]))
    });
    digits.collect()
}

/// The query of `/ws`.
pub fn connect(bytes: &[u8]) {
    let Ok(uri) = Uri::try_from([b"/ws?", bytes].concat()) else { return };
    let Ok(Query(query)) = Query::<ConnectQuery>::try_from_uri(&uri) else { return };
    let (window, device, since) = (query.window, query.device.clone(), query.since.clone());
    if ConnectOptions::try_from(query).is_ok() {
        assert!(window.is_none_or(|window| (1..=limits::WINDOW_MAX).contains(&window)));
        assert!(device.is_none_or(|device| (1..=limits::DEVICE_ID_CHARS_MAX).contains(&device.chars().count()) && !device.contains('\0')));
        // One number per class.
        assert!(since.is_none_or(|since| (1..=3).contains(&since.split(',').count())));
    }
}

/// A frame from a service, as the command line's client reads it: understood, or kept as it came.
pub fn service(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match restante_client::Frame::parse(text).event {
        restante_client::Event::Malformed { text: kept, .. } => assert_eq!(kept, text),
        restante_client::Event::Other { data, .. } => assert!(serde_json::from_str::<&RawValue>(data.get()).is_ok()),
        restante_client::Event::Batch(envelopes) => assert!(envelopes.len() <= text.len()),
        _ => {}
    }
}
