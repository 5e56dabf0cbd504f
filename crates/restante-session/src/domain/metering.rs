//! Limits that are kept over all nodes: what is counted, for whom, and what a node tells the others of it.

use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{ExternalId, UserId};

/// Something that may be done so many times in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LimitKind {
    /// Messages that a user sends. Changes of members, contacts and blocks count as messages.
    #[serde(rename = "m")]
    Messages,
    /// Events that a user publishes.
    #[serde(rename = "e")]
    Events,
    /// Direct chats that a user begins.
    #[serde(rename = "d")]
    DirectChats,
    /// Groups that a user makes.
    #[serde(rename = "g")]
    Groups,
    /// Users that a user makes by naming them.
    #[serde(rename = "n")]
    NamedUsers,
    /// Points for what a user asks and reads.
    #[serde(rename = "r")]
    Requests,
    /// Tokens that are not valid.
    #[serde(rename = "f")]
    FailedTokens,
    /// Connections of clients, before it is known whose they are.
    #[serde(rename = "h")]
    Handshakes,
    /// Requests of an address about accounts, each of which takes a hash of a password.
    #[serde(rename = "a")]
    AccountRequests,
    /// Requests of an address that renew or end logins.
    #[serde(rename = "l")]
    LoginRenewals,
    /// Accounts that an address registers.
    #[serde(rename = "c")]
    Registrations,
    /// Wrong passwords for an account.
    #[serde(rename = "w")]
    Guesses,
    /// Wrong passwords for an account from one address.
    #[serde(rename = "x")]
    GuessesFromAddress,
}

impl LimitKind {
    /// All kinds.
    pub const ALL: [Self; 13] = [
        Self::Messages,
        Self::Events,
        Self::DirectChats,
        Self::Groups,
        Self::NamedUsers,
        Self::Requests,
        Self::FailedTokens,
        Self::Handshakes,
        Self::AccountRequests,
        Self::LoginRenewals,
        Self::Registrations,
        Self::Guesses,
        Self::GuessesFromAddress,
    ];

    /// The label of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Events => "events",
            Self::DirectChats => "direct_chats",
            Self::Groups => "groups",
            Self::NamedUsers => "named_users",
            Self::Requests => "requests",
            Self::FailedTokens => "failed_tokens",
            Self::Handshakes => "handshakes",
            Self::AccountRequests => "account_requests",
            Self::LoginRenewals => "login_renewals",
            Self::Registrations => "registrations",
            Self::Guesses => "guesses",
            Self::GuessesFromAddress => "guesses_from_address",
        }
    }
}

/// The one for whom a limit is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LimitSubject {
    /// A user by its number.
    User(UserId),
    /// A user by its name: it may have no number yet.
    Name(ExternalId),
    /// A client's address.
    Address(AddressBlock),
    /// An account by its name, whether there is one or not, and a client's address.
    NameAt(ExternalId, AddressBlock),
}

/// A telling: so much was spent of a limit at a node since it told of it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// The limit.
    pub kind: LimitKind,
    /// The one who has spent it.
    pub subject: LimitSubject,
    /// So much.
    pub count: u32,
    /// So much was spent at all nodes, as far as that node knows, and is not paid by time yet.
    pub unpaid: u32,
}

/// A user whose limits an operator has raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaisedLimit {
    /// The user.
    pub user: UserId,
    /// The same, as it is known outside.
    pub external: ExternalId,
    /// All rates of the user are multiplied by it.
    pub factor: u32,
    /// The time at which it was set.
    pub set_at: OffsetDateTime,
}

/// The addresses that count as one client: an address of IPv4, or a network of IPv6 with a prefix of 64 bits, in which each client chooses
/// addresses as it likes (RFC 4862).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AddressBlock(IpAddr);

impl From<IpAddr> for AddressBlock {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) & (u128::MAX << 64);
                Self(Ipv6Addr::from(network).into())
            }
            address @ IpAddr::V4(_) => Self(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserializer;
    use serde::de::{Error, Visitor};

    use super::*;

    fn block(address: &str) -> AddressBlock {
        address.parse::<IpAddr>().unwrap().into()
    }

    /// Takes the names of the variants that a derived enum is read from, and reads nothing.
    struct Variants<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Variants<'_> {
        type Error = serde::de::value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(Self::Error::custom("it is no enum"))
        }

        fn deserialize_enum<V: Visitor<'de>>(self, _: &str, names: &'static [&'static str], _: V) -> Result<V::Value, Self::Error> {
            *self.0 = names;
            Err(Self::Error::custom("its names are taken"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq tuple
            tuple_struct map struct identifier ignored_any
        }
    }

    /// Broken by a new kind that is not in the list.
    #[test]
    fn all_kinds_are_those_that_nodes_can_tell() {
        let mut names: &'static [&'static str] = &[];
        LimitKind::deserialize(Variants(&mut names)).unwrap_err();
        let listed = LimitKind::ALL.map(|kind| serde_json::to_value(kind).unwrap());
        assert_eq!(listed.iter().map(|name| name.as_str().unwrap()).collect::<Vec<_>>(), names);
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_are_one_client_and_each_of_ipv4_is_its_own() {
        assert_eq!(block("2001:db8:1:2::1"), block("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(block("2001:db8:1:2::1"), block("2001:db8:1:3::1"));
        assert_ne!(block("192.0.2.1"), block("192.0.2.2"));
        assert_eq!(block("192.0.2.1"), block("::ffff:192.0.2.1"));
    }
}
