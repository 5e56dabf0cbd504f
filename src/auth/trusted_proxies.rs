//! The address of a client that comes through proxies. `X-Forwarded-For` is a list to which each proxy appends the address that it has taken the
//! request from, so the right end is written by the nearest one, and the left end by anybody. It is read from the right, for as long as the address
//! before is one of the operator's own proxies.
//!
//! `Forwarded` (RFC 7239) is not read: with two headers a client could send the one that its proxy does not write.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::HeaderMap;

use crate::domain::Network;

const X_FORWARDED_FOR: &str = "x-forwarded-for";
/// Addresses that are read at most: no chain of proxies is longer.
const HOPS_MAX: usize = 32;

/// The proxies whose word counts.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<Network>);

impl TrustedProxies {
    /// Those of these networks.
    pub const fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// The address of the client of a request that came from `peer`: the first from the right that is no trusted proxy. Where the header says nothing
    /// more, or something else than an address, it is the last address that is known.
    pub fn client_of(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut known = peer.to_canonical();
        let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
        // A line that is no text ends what is known, and so does an entry that is no address.
        for entry in lines.flat_map(|line| line.to_str().unwrap_or("?").rsplit(',')).take(HOPS_MAX) {
            if !self.0.iter().any(|network| network.contains(known)) {
                return known;
            }
            match address_of(entry.trim()) {
                Some(address) => known = address,
                None => return known,
            }
        }
        known
    }
}

/// An address, with a port or without. Some proxies write one behind it.
fn address_of(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).and_then(|inner| inner.parse::<Ipv6Addr>().ok());
    let with_port = || entry.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = entry.parse().ok().or(bare.map(IpAddr::V6)).or_else(with_port)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxies(networks: &[&str]) -> TrustedProxies {
        TrustedProxies::new(networks.iter().map(|network| network.parse().unwrap()).collect())
    }

    fn client(peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        lines.iter().for_each(|line| _ = headers.append(X_FORWARDED_FOR, line.parse().unwrap()));
        proxies(&["10.0.0.0/8", "fd00::/8", "192.0.2.7"]).client_of(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn a_peer_that_is_no_proxy_is_believed_nothing() {
        assert_eq!(client("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(client("::ffff:203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
    }

    #[test]
    fn the_client_is_the_first_from_the_right_that_is_no_proxy() {
        assert_eq!(client("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["1.1.1.1, 198.51.100.1, 10.0.0.2"]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["1.1.1.1", "198.51.100.1", " fd00::5 ,192.0.2.7"]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["1.1.1.1, 198.51.100.1:4711"]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["[2001:db8::1]:443, [fd00::9]"]), "2001:db8::1");
    }

    #[test]
    fn what_is_no_address_ends_what_is_known() {
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.1, unknown"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.1, , 10.0.0.2"]), "10.0.0.2");
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        assert_eq!(client("10.0.0.1", &[&vec!["10.0.0.2"; 100].join(",")]), "10.0.0.2");
    }

    proptest! {
        /// Nothing that a client writes on the left changes what a chain of proxies has written on the right.
        #[test]
        fn a_client_cannot_choose_its_address(forged in "[ -~]{0,40}", lines in prop::collection::vec("[ -~]{0,20}", 0..3)) {
            let mut all: Vec<&str> = lines.iter().map(String::as_str).collect();
            let last = format!("{forged}, 198.51.100.1, 10.0.0.2");
            all.push(&last);
            prop_assert_eq!(client("10.0.0.1", &all), "198.51.100.1");
        }
    }
}
