//! Words for mistakes that an error of a library does not name.

/// The service speaks no TLS by itself, and an error of the handshake does not say so. Empty for other addresses.
pub(super) fn tls_hint(place: &str) -> &'static str {
    match place.starts_with("https:") {
        true => " (the service itself speaks no TLS: where no proxy does it for it, the address begins with http://)",
        false => "",
    }
}
