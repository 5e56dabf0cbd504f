//! The throttles of accounts: by the address of the client, by the name of the account, and by both. A guess that was right is not counted, so somebody
//! who knows the password is not kept out by what others try from elsewhere, unless they try very much.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::throttle::Throttle;
use crate::delivery::Refusal;
use crate::domain::ExternalId;

const SECOND: Duration = Duration::from_secs(1);
/// Wrong passwords for one account from one address at once, and the time for each one more.
const GUESSES_FROM_AN_ADDRESS: (u32, Duration) = (10, Duration::from_secs(60));
/// The same from all addresses. NIST SP 800-63B lets no more than 100 fail in a row.
const GUESSES: (u32, Duration) = (100, Duration::from_secs(60));
/// An address may renew and end so many logins for each request of another kind.
const REFRESHES_OF_A_REQUEST: u32 = 10;
/// The part of an IPv6 address that a provider gives to one customer, at least.
const CUSTOMER_BITS: u32 = 64;

/// The throttles of a node. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Throttles {
    requests: Throttle,
    refreshes: Throttle,
    registrations: Throttle,
    guesses_from_an_address: Throttle,
    guesses: Throttle,
}

impl Throttles {
    /// Throttles of so many requests and registrations of an address; 0: as many as it likes. Guesses are always counted.
    pub(super) fn new(requests_per_minute: u32, registrations_per_hour: u32) -> Self {
        let refreshes = requests_per_minute.saturating_mul(REFRESHES_OF_A_REQUEST);
        Self {
            requests: Throttle::new(requests_per_minute, 60 * SECOND / requests_per_minute.max(1)),
            refreshes: Throttle::new(refreshes, 60 * SECOND / refreshes.max(1)),
            registrations: Throttle::new(registrations_per_hour, 3_600 * SECOND / registrations_per_hour.max(1)),
            guesses_from_an_address: Throttle::new(GUESSES_FROM_AN_ADDRESS.0, GUESSES_FROM_AN_ADDRESS.1),
            guesses: Throttle::new(GUESSES.0, GUESSES.1),
        }
    }

    /// A request that takes a hash.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`], as of all of these.
    pub(super) fn request(&self, address: IpAddr) -> Result<(), Refusal> {
        self.requests.take(&customer(address)).map_err(Refusal::RateLimited)
    }

    /// A request that renews or ends a login.
    pub(super) fn refresh(&self, address: IpAddr) -> Result<(), Refusal> {
        self.refreshes.take(&customer(address)).map_err(Refusal::RateLimited)
    }

    /// A registration.
    pub(super) fn registration(&self, address: IpAddr) -> Result<(), Refusal> {
        self.registrations.take(&customer(address)).map_err(Refusal::RateLimited)
    }

    /// A password for this account. Counted as wrong until [`Self::no_guess`].
    pub(super) fn guess(&self, name: &ExternalId, address: IpAddr) -> Result<(), Refusal> {
        self.guesses_from_an_address.take(&(name, customer(address))).map_err(Refusal::RateLimited)?;
        self.guesses.take(name).map_err(Refusal::RateLimited).inspect_err(|_| {
            self.guesses_from_an_address.give_back(&(name, customer(address)));
        })
    }

    /// The last password was right, or was not judged.
    pub(super) fn no_guess(&self, name: &ExternalId, address: IpAddr) {
        self.guesses_from_an_address.give_back(&(name, customer(address)));
        self.guesses.give_back(name);
    }
}

/// The addresses that count as one: those that one customer of a provider has.
fn customer(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> CUSTOMER_BITS << CUSTOMER_BITS).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> ExternalId {
        ExternalId::try_from(name.to_owned()).unwrap()
    }

    fn address(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + n).into()
    }

    #[tokio::test(start_paused = true)]
    async fn guesses_from_elsewhere_keep_nobody_out_until_they_are_a_hundred() {
        let (throttles, anna) = (Throttles::new(0, 0), name("anna"));
        assert!((0..10).all(|_| throttles.guess(&anna, address(1)).is_ok()));
        assert_eq!(throttles.guess(&anna, address(1)), Err(Refusal::RateLimited(60 * SECOND)));
        assert_eq!((throttles.guess(&anna, address(2)), throttles.guess(&name("ben"), address(1))), (Ok(()), Ok(())));
        throttles.no_guess(&anna, address(2));
        assert!((11..100).all(|n| throttles.guess(&anna, address(n)).is_ok()));
        assert!(throttles.guess(&anna, address(100)).is_ok());
        assert!(throttles.guess(&anna, address(101)).is_err());
        tokio::time::advance(60 * SECOND).await;
        assert!(throttles.guess(&anna, address(101)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_addresses_of_one_customer_share_a_rate() {
        let throttles = Throttles::new(2, 1);
        let [one, other, third] = ["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"].map(|text| text.parse::<IpAddr>().unwrap());
        assert_eq!((throttles.request(one), throttles.request(other)), (Ok(()), Ok(())));
        assert_eq!(throttles.request(one), Err(Refusal::RateLimited(30 * SECOND)));
        assert_eq!((throttles.request(third), throttles.request(address(1))), (Ok(()), Ok(())));
        assert_eq!((throttles.registration(one), throttles.registration(other)), (Ok(()), Err(Refusal::RateLimited(3_600 * SECOND))));
        assert!((0..20).all(|_| throttles.refresh(one).is_ok()) && throttles.refresh(other).is_err());
    }
}
