//! The places of a request in which a token may stand, and the subprotocols that a client of a WebSocket offers beside it.

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use secrecy::SecretString;

/// The subprotocol that the service speaks. A client that sends its token as a subprotocol must offer this one
/// beside it, and gets this one back, never the token.
pub const SUBPROTOCOL: &str = "restante.v1";
/// The prefix of a token in `Sec-WebSocket-Protocol`.
const SUBPROTOCOL_BEARER: &str = "bearer.";

/// The token of a request: `Authorization: Bearer …` (RFC 6750 section 2.1).
pub fn bearer(headers: &HeaderMap) -> Option<SecretString> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().into())
}

/// The token of a WebSocket request, in this order: `Authorization`, `Sec-WebSocket-Protocol: restante.v1, bearer.<jwt>`
/// (browsers can set no header), `?token=`. None means that the first frame must be `authenticate`.
pub fn socket_token(headers: &HeaderMap, query_token: Option<&str>) -> Option<SecretString> {
    bearer(headers)
        .or_else(|| subprotocols(headers).find_map(|offer| offer.strip_prefix(SUBPROTOCOL_BEARER)).map(Into::into))
        .or_else(|| query_token.filter(|token| !token.is_empty()).map(Into::into))
}

/// The subprotocols that a client offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// None at all.
    Nothing,
    /// [`SUBPROTOCOL`] is among them. The answer must choose it, or a browser ends the connection.
    Spoken,
    /// Others only. Any answer but a refusal would make a browser end the connection without a reason (RFC 6455 section 4.1).
    Unspoken,
}

impl Offer {
    /// The offer of a WebSocket request, whether it stands in one header line or in several.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut offer = Self::Nothing;
        for name in subprotocols(headers) {
            if name == SUBPROTOCOL {
                return Self::Spoken;
            }
            offer = Self::Unspoken;
        }
        offer
    }
}

/// The names that the client offers, without empty ones. A line that is not ASCII is one name that nobody speaks.
fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    lines.flat_map(|line| line.to_str().unwrap_or("?").split(',')).map(str::trim).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn found(pairs: &[(&'static str, &'static str)], query: Option<&str>) -> Option<String> {
        socket_token(&headers(pairs), query).map(|token| token.expose_secret().to_owned())
    }

    #[test]
    fn a_token_is_found_in_each_of_its_three_places() {
        assert_eq!(found(&[("authorization", "bearer  a.b.c ")], Some("q")).as_deref(), Some("a.b.c"));
        assert_eq!(found(&[("sec-websocket-protocol", "restante.v1, bearer.a.b.c")], Some("q")).as_deref(), Some("a.b.c"));
        assert_eq!(found(&[("authorization", "Basic x")], Some("q")).as_deref(), Some("q"));
        assert_eq!(found(&[("sec-websocket-protocol", "restante.v1")], Some("")), None);
    }

    #[test]
    fn the_subprotocol_is_chosen_only_when_it_was_offered() {
        let offer = |lines: &[&'static str]| {
            let lines = lines.iter().map(|line| ("sec-websocket-protocol".parse().unwrap(), line.parse().unwrap()));
            let mut headers = HeaderMap::new();
            lines.for_each(|(name, value): (axum::http::HeaderName, _)| _ = headers.append(name, value));
            Offer::of(&headers)
        };
        for spoken in
            [&["bearer.x,restante.v1"][..], &["bearer.x", "restante.v1"], &["restante.v1", "bearer.x"], &["", "chat , restante.v1"]]
        {
            assert_eq!(offer(spoken), Offer::Spoken, "{spoken:?}");
        }
        for unspoken in [&["bearer.x"][..], &["restante.v10, bearer.x"], &["Restante.v1"], &["chat"], &["ü"]] {
            assert_eq!(offer(unspoken), Offer::Unspoken, "{unspoken:?}");
        }
        for nothing in [&[][..], &[""], &[" , "]] {
            assert_eq!(offer(nothing), Offer::Nothing, "{nothing:?}");
        }
    }
}
