//! The descriptions of HTTP and of the sockets, as they were written down when the program was built. Tests hold them against the types.
//!
//! They are for everybody, never change while a node runs, and are compressed once.

use std::io::Write as _;
use std::sync::LazyLock;

use aws_lc_rs::digest;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;

static OPENAPI: LazyLock<Description> = LazyLock::new(|| Description::of(include_str!("../../docs/openapi.json")));
static ASYNCAPI: LazyLock<Description> = LazyLock::new(|| Description::of(include_str!("../../docs/asyncapi.json")));

/// Another version of the program may stand behind the same address soon.
const CACHED: &str = "public, max-age=300";

/// A description, as it is and compressed.
struct Description {
    text: &'static str,
    gzip: Option<Bytes>,
    /// Of each form its own (RFC 9110 section 8.8.3.3).
    tags: [String; 2],
}

/// `GET /openapi.json`.
pub(super) async fn openapi(headers: HeaderMap) -> Response {
    OPENAPI.answer(&headers)
}

/// `GET /asyncapi.json`.
pub(super) async fn asyncapi(headers: HeaderMap) -> Response {
    ASYNCAPI.answer(&headers)
}

impl Description {
    fn of(text: &'static str) -> Self {
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        let hex: String = hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { text, gzip: gzip(text).ok().map(Bytes::from), tags: [format!("\"{hex}\""), format!("\"{hex}-gzip\"")] }
    }

    fn answer(&self, asked: &HeaderMap) -> Response {
        let gzip = self.gzip.as_ref().filter(|_| takes_gzip(asked));
        let tag = &self.tags[usize::from(gzip.is_some())];
        let headers = [(header::ETAG, tag.as_str()), (header::CACHE_CONTROL, CACHED), (header::VARY, "accept-encoding")];
        if words(asked, header::IF_NONE_MATCH).any(|known| known == "*" || known.trim_start_matches("W/") == tag) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        match gzip {
            Some(bytes) => (headers, content_type, [(header::CONTENT_ENCODING, "gzip")], bytes.clone()).into_response(),
            None => (headers, content_type, self.text).into_response(),
        }
    }
}

fn gzip(text: &str) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()
}

/// Returns whether the client names the coding and does not refuse it (RFC 9110 section 12.5.3).
fn takes_gzip(asked: &HeaderMap) -> bool {
    words(asked, header::ACCEPT_ENCODING).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().trim_start_matches("q=").parse::<f32>().unwrap_or(1.0);
        name.trim().eq_ignore_ascii_case("gzip") && weight > 0.0
    })
}

/// The words of a list, which may stand in several lines.
fn words(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}
