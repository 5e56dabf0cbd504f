//! The places of a request in which a token may stand, and the subprotocols that a client of a WebSocket offers beside it.
//!
//! A request that brings two tokens that differ is refused, whatever each of them is worth (RFC 6750 section 2): it would be judged by one of
//! them, and its sender may mean the other.

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use secrecy::{ExposeSecret, SecretString};

use super::AuthError;

/// The subprotocol that the service speaks. A client that sends its token as a subprotocol must offer this one
/// beside it, and gets this one back, never the token.
pub const SUBPROTOCOL: &str = "restante.v1";
/// The prefix of a token in `Sec-WebSocket-Protocol`.
const SUBPROTOCOL_BEARER: &str = "bearer.";

/// The token of a request: `Authorization: Bearer …` (RFC 6750 section 2.1).
///
/// # Errors
/// [`AuthError::Several`].
pub fn bearer(headers: &HeaderMap) -> Result<Option<SecretString>, AuthError> {
    only(bearers(headers))
}

/// The token of a request for an event stream: that of `Authorization`, or `?token=` (a browser can set no header).
///
/// # Errors
/// [`AuthError::Several`].
pub fn stream_token(headers: &HeaderMap, query_token: Option<&str>) -> Result<Option<SecretString>, AuthError> {
    only(bearers(headers).chain(query_token.filter(|token| !token.is_empty())))
}

/// The token of a WebSocket request: that of `Authorization`, of `Sec-WebSocket-Protocol: restante.v1, bearer.<jwt>`
/// (browsers can set no header), or `?token=`. None means that the first frame must be `authenticate`.
///
/// # Errors
/// [`AuthError::Several`].
pub fn socket_token(headers: &HeaderMap, query_token: Option<&str>) -> Result<Option<SecretString>, AuthError> {
    let of_protocols = subprotocols(headers).filter_map(|offer| offer.strip_prefix(SUBPROTOCOL_BEARER));
    only(bearers(headers).chain(of_protocols).chain(query_token.filter(|token| !token.is_empty())))
}

/// The token of a client that may bring one in two ways.
///
/// # Errors
/// [`AuthError::Several`].
pub fn same_token(one: Option<&SecretString>, other: Option<&SecretString>) -> Result<Option<SecretString>, AuthError> {
    only(one.into_iter().chain(other).map(ExposeSecret::expose_secret))
}

/// The only one of these tokens, which may be there more than once.
fn only<'a>(mut tokens: impl Iterator<Item = &'a str>) -> Result<Option<SecretString>, AuthError> {
    let Some(first) = tokens.next() else { return Ok(None) };
    if tokens.all(|token| token == first) { Ok(Some(first.into())) } else { Err(AuthError::Several) }
}

/// The tokens of the header `Authorization`.
fn bearers(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    })
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

    fn shown(token: Result<Option<SecretString>, AuthError>) -> Result<Option<String>, AuthError> {
        token.map(|token| token.map(|token| token.expose_secret().to_owned()))
    }

    fn found(pairs: &[(&'static str, &'static str)], query: Option<&str>) -> Result<Option<String>, AuthError> {
        shown(socket_token(&headers(pairs), query))
    }

    const HEADER: (&str, &str) = ("authorization", "bearer  a.b.c ");
    const PROTOCOL: (&str, &str) = ("sec-websocket-protocol", "restante.v1, bearer.a.b.c");

    #[test]
    fn a_token_is_found_in_each_of_its_three_places() {
        let token = Ok(Some("a.b.c".to_owned()));
        assert_eq!(found(&[HEADER], None), token);
        assert_eq!(found(&[PROTOCOL], None), token);
        assert_eq!(found(&[("authorization", "Basic x")], Some("a.b.c")), token);
        assert_eq!(found(&[("sec-websocket-protocol", "restante.v1")], Some("")), Ok(None));
        assert_eq!(shown(bearer(&headers(&[HEADER]))), token);
        assert_eq!(shown(bearer(&headers(&[PROTOCOL]))), Ok(None));
        assert_eq!(shown(stream_token(&headers(&[PROTOCOL]), Some("a.b.c"))), token);
    }

    #[test]
    fn a_token_may_stand_in_several_places_and_two_that_differ_may_not() {
        assert_eq!(found(&[HEADER, PROTOCOL], Some("a.b.c")), Ok(Some("a.b.c".to_owned())));
        for (pairs, query) in [
            (&[HEADER][..], Some("q")),
            (&[PROTOCOL], Some("q")),
            (&[HEADER, ("sec-websocket-protocol", "bearer.q, restante.v1")], None),
            (&[("sec-websocket-protocol", "bearer.a.b.c, bearer.q")], None),
        ] {
            assert_eq!(found(pairs, query), Err(AuthError::Several), "{pairs:?} {query:?}");
        }
        let mut twice = headers(&[HEADER]);
        twice.append(AUTHORIZATION, "Bearer q".parse().unwrap());
        assert_eq!(shown(bearer(&twice)), Err(AuthError::Several));
        assert_eq!(shown(stream_token(&headers(&[HEADER]), Some("q"))), Err(AuthError::Several));
        let [one, other] = ["a", "q"].map(SecretString::from);
        assert_eq!(shown(same_token(Some(&one), Some(&other))), Err(AuthError::Several));
        assert_eq!(shown(same_token(None, Some(&other))), Ok(Some("q".to_owned())));
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
