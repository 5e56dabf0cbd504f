//! Networks: addresses that share their first bits, as operators write them (CIDR, RFC 4632).

use std::net::IpAddr;
use std::str::FromStr;

/// Addresses that share their first bits, such as `10.0.0.0/8` or `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    is_v4: bool,
    bits: u128,
    mask: u128,
}

/// The text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be networks such as 10.0.0.0/8, fd00::/8 or 192.0.2.7, separated by commas, with no bit behind the prefix")]
pub struct NoNetwork;

impl Network {
    /// Returns whether this address is one of it. An IPv4 address in the form of IPv6 is one of IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (is_v4, bits) = bits_of(address.to_canonical());
        is_v4 == self.is_v4 && bits & self.mask == self.bits
    }
}

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let (is_v4, bits) = bits_of(address.parse().map_err(|_| NoNetwork)?);
        let width: u32 = if is_v4 { 32 } else { 128 };
        let prefix = prefix.map_or(Some(width), |prefix| prefix.parse().ok().filter(|prefix| *prefix <= width)).ok_or(NoNetwork)?;
        // The bits of IPv4 stand at the lower end.
        let mask = u128::MAX.checked_shl(width - prefix).unwrap_or(0) & (u128::MAX >> (128 - width));
        if bits & !mask == 0 { Ok(Self { is_v4, bits, mask }) } else { Err(NoNetwork) }
    }
}

fn bits_of(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(address) => (true, u128::from(u32::from(address))),
        IpAddr::V6(address) => (false, u128::from(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_an_address_and_the_length_of_its_prefix() {
        let has = |network: &str, address: &str| network.parse::<Network>().unwrap().contains(address.parse().unwrap());
        assert!(has("10.0.0.0/8", "10.255.0.1") && !has("10.0.0.0/8", "11.0.0.1"));
        assert!(has("10.0.0.0/8", "::ffff:10.1.2.3") && !has("::/0", "10.1.2.3"));
        assert!(has("0.0.0.0/0", "203.0.113.9") && has("::/0", "2001:db8::1") && !has("0.0.0.0/0", "::1"));
        assert!(has("fd00::/8", "fdff::1") && has("192.0.2.7", "192.0.2.7") && !has("192.0.2.7/32", "192.0.2.8"));
        for text in
            ["", "10.0.0.0/33", "10.0.0.1/8", "fd00::/129", "fd00::1/8", "10.0.0.0/-1", "10.0.0.0/", "proxy", "10.0.0/8", " 10.0.0.0/8"]
        {
            assert_eq!(text.parse::<Network>(), Err(NoNetwork), "{text}");
        }
    }
}
