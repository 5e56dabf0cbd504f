//! The limits of requests about accounts: by the address of the client, by the name of the account, and by both. A guess that was right is not
//! counted, so somebody who knows the password is not kept out by what others try from elsewhere, unless they try very much. Names count as they
//! are given, whether there is such an account or not. No operator raises these limits.

use std::num::NonZeroU32;
use std::time::Duration;

use super::meter::{Conditions, Meter, Rate, Told};
use super::{HOUR, Limits, Refusal, add};
use crate::domain::{AddressBlock, ExternalId, LimitKind, LimitSubject, Spent};

const MINUTE: Duration = Duration::from_secs(60);
/// Wrong passwords for one account from one address at once. One more each minute.
const GUESSES_FROM_AN_ADDRESS: u32 = 10;
/// The same from all addresses. NIST SP 800-63B lets no more than 100 fail in a row.
const GUESSES: u32 = 100;
/// An address may renew and end so many logins for each request of another kind.
const RENEWALS_OF_A_REQUEST: u32 = 10;

/// The rates of requests about accounts.
#[derive(Debug, Clone, Copy)]
pub struct AccountRates {
    /// Requests of an address in a minute, with bursts of as many, and ten times as many that renew or end a login; 0: as many as it likes.
    pub requests_per_minute: u32,
    /// Registrations of an address in an hour; 0: as many as it likes.
    pub registrations_per_hour: u32,
}

/// The meters of requests about accounts. None: they are not counted.
#[derive(Debug)]
pub(super) struct AccountMeters {
    pub(super) requests: Option<Meter<AddressBlock>>,
    pub(super) renewals: Option<Meter<AddressBlock>>,
    pub(super) registrations: Option<Meter<AddressBlock>>,
    pub(super) guesses: Meter<ExternalId>,
    pub(super) guesses_from_address: Meter<(ExternalId, AddressBlock)>,
}

impl AccountMeters {
    pub(super) fn new(rates: AccountRates) -> Self {
        let of = |count: u32, period| NonZeroU32::new(count).map(|count| Rate::new(count, period, count));
        let renewals = rates.requests_per_minute.saturating_mul(RENEWALS_OF_A_REQUEST);
        let one_each_minute = |burst| Rate::new(NonZeroU32::MIN, MINUTE, NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN));
        Self {
            requests: of(rates.requests_per_minute, MINUTE).map(Meter::new),
            renewals: of(renewals, MINUTE).map(Meter::new),
            registrations: of(rates.registrations_per_hour, HOUR).map(Meter::new),
            guesses: Meter::new(one_each_minute(GUESSES)),
            guesses_from_address: Meter::new(one_each_minute(GUESSES_FROM_AN_ADDRESS)),
        }
    }

    /// Another node tells of this.
    pub(super) fn add(&self, spent: &Spent, conditions: Conditions) {
        let told = Told { count: spent.count, unpaid: spent.unpaid };
        match (spent.kind, &spent.subject) {
            (LimitKind::AccountRequests, LimitSubject::Address(address)) => add(self.requests.as_ref(), address, told, conditions),
            (LimitKind::LoginRenewals, LimitSubject::Address(address)) => add(self.renewals.as_ref(), address, told, conditions),
            (LimitKind::Registrations, LimitSubject::Address(address)) => add(self.registrations.as_ref(), address, told, conditions),
            (LimitKind::Guesses, LimitSubject::Name(name)) => self.guesses.add(name, told, conditions),
            (LimitKind::GuessesFromAddress, LimitSubject::NameAt(name, address)) => {
                self.guesses_from_address.add(&(name.clone(), *address), told, conditions);
            }
            _ => {}
        }
    }
}

impl Limits {
    /// Checks that this address may ask for something that takes a hash, and counts it.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`], as of all of these. It carries the time to wait.
    pub fn check_account_request(&self, address: AddressBlock) -> Result<(), Refusal> {
        self.check_address(LimitKind::AccountRequests, |meters| meters.requests.as_ref(), address)
    }

    /// Checks that this address may renew or end a login, and counts it.
    ///
    /// # Errors
    /// See [`Self::check_account_request`].
    pub fn check_login_renewal(&self, address: AddressBlock) -> Result<(), Refusal> {
        self.check_address(LimitKind::LoginRenewals, |meters| meters.renewals.as_ref(), address)
    }

    /// Checks that this address may register an account, and counts it.
    ///
    /// # Errors
    /// See [`Self::check_account_request`].
    pub fn check_registration(&self, address: AddressBlock) -> Result<(), Refusal> {
        self.check_address(LimitKind::Registrations, |meters| meters.registrations.as_ref(), address)
    }

    fn check_address(
        &self,
        kind: LimitKind,
        meter: impl Fn(&AccountMeters) -> Option<&Meter<AddressBlock>>,
        address: AddressBlock,
    ) -> Result<(), Refusal> {
        let Some(meter) = self.0.meters.accounts.as_ref().and_then(meter) else { return Ok(()) };
        let taken = meter.take(&address, 1, self.conditions(1)).inspect_err(|_| self.refused(kind));
        taken.map_err(Refusal::RateLimited)
    }

    /// Checks that a password for this account may be tried from this address. It counts as wrong until [`Self::was_no_guess`].
    ///
    /// # Errors
    /// See [`Self::check_account_request`].
    pub fn check_guess(&self, name: &ExternalId, address: AddressBlock) -> Result<(), Refusal> {
        let Some(meters) = &self.0.meters.accounts else { return Ok(()) };
        let (from, conditions) = ((name.clone(), address), self.conditions(1));
        let of_address = meters.guesses_from_address.take(&from, 1, conditions);
        of_address.inspect_err(|_| self.refused(LimitKind::GuessesFromAddress)).map_err(Refusal::RateLimited)?;
        let of_all = meters.guesses.take(name, 1, conditions).inspect_err(|_| {
            self.refused(LimitKind::Guesses);
            meters.guesses_from_address.give_back(&from, 1, conditions);
        });
        of_all.map_err(Refusal::RateLimited)
    }

    /// The last password was right, or was not judged.
    pub fn was_no_guess(&self, name: &ExternalId, address: AddressBlock) {
        if let Some(meters) = &self.0.meters.accounts {
            meters.guesses_from_address.give_back(&(name.clone(), address), 1, self.conditions(1));
            meters.guesses.give_back(name, 1, self.conditions(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use super::*;
    use crate::delivery::limits::exchange::heard;
    use crate::delivery::limits::{Meters, RateSettings};
    use crate::notifier::Notifier;
    use crate::telemetry::Metrics;

    fn limits(requests_per_minute: u32, registrations_per_hour: u32) -> Limits {
        let metrics = Arc::new(Metrics::default());
        let accounts = Some(AccountRates { requests_per_minute, registrations_per_hour });
        Limits::new(RateSettings { accounts, ..RateSettings::default() }, &Notifier::to_nobody(Arc::clone(&metrics)), &metrics)
    }

    fn name(name: &str) -> ExternalId {
        ExternalId::try_from(name.to_owned()).unwrap()
    }

    fn address(n: u32) -> AddressBlock {
        IpAddr::from(Ipv4Addr::from(0x0a00_0000 + n)).into()
    }

    fn after(seconds: u64) -> Result<(), Refusal> {
        Err(Refusal::RateLimited(Duration::from_secs(seconds)))
    }

    #[tokio::test(start_paused = true)]
    async fn guesses_from_elsewhere_keep_nobody_out_until_they_are_a_hundred() {
        let (limits, anna) = (limits(0, 0), name("anna"));
        assert!((0..10).all(|_| limits.check_guess(&anna, address(1)).is_ok()));
        assert_eq!(limits.check_guess(&anna, address(1)), after(60));
        assert_eq!((limits.check_guess(&anna, address(2)), limits.check_guess(&name("ben"), address(1))), (Ok(()), Ok(())));
        limits.was_no_guess(&anna, address(2));
        assert!((11..=100).all(|n| limits.check_guess(&anna, address(n)).is_ok()));
        assert_eq!(limits.check_guess(&anna, address(101)), after(60));
        tokio::time::advance(MINUTE).await;
        // Nothing of the refused guess counts against the address.
        assert!(limits.check_guess(&anna, address(101)).is_ok());
        assert_eq!(limits.0.metrics.limited.of("guesses").get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_have_a_rate_for_requests_for_renewals_and_for_registrations() {
        let limits = limits(2, 1);
        assert_eq!((limits.check_account_request(address(1)), limits.check_account_request(address(1))), (Ok(()), Ok(())));
        assert_eq!((limits.check_account_request(address(1)), limits.check_account_request(address(2))), (after(30), Ok(())));
        assert_eq!((limits.check_registration(address(1)), limits.check_registration(address(1))), (Ok(()), after(3_600)));
        assert!((0..20).all(|_| limits.check_login_renewal(address(1)).is_ok()) && limits.check_login_renewal(address(1)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_no_guess_leaves_nothing_however_often() {
        let (limits, anna) = (limits(0, 0), name("anna"));
        for _ in 0..1_000 {
            assert_eq!(limits.check_guess(&anna, address(1)), Ok(()));
            limits.was_no_guess(&anna, address(1));
        }
        limits.was_no_guess(&anna, address(1));
        assert!((0..10).all(|_| limits.check_guess(&anna, address(1)).is_ok()), "and nothing is gained by it");
        assert_eq!(limits.check_guess(&anna, address(1)), after(60));
    }

    #[tokio::test(start_paused = true)]
    async fn guesses_and_registrations_at_other_nodes_count_here() {
        let (limits, anna) = (limits(2, 1), name("anna"));
        let spent = |kind, subject, count| Spent { kind, subject, count, unpaid: count };
        heard(
            &limits,
            &[
                spent(LimitKind::GuessesFromAddress, LimitSubject::NameAt(anna.clone(), address(1)), 10),
                spent(LimitKind::Guesses, LimitSubject::Name(name("ben")), 100),
                spent(LimitKind::Registrations, LimitSubject::Address(address(3)), 1),
                // These name a subject of another kind: they count nowhere.
                spent(LimitKind::Registrations, LimitSubject::Name(anna.clone()), 9),
                spent(LimitKind::Guesses, LimitSubject::Address(address(4)), 900),
            ],
        );
        let Meters { accounts: Some(meters), .. } = &limits.0.meters else { panic!("accounts are on") };
        let two_nodes = Conditions { nodes: 2, ..limits.conditions(1) };
        assert!(meters.guesses_from_address.take(&(anna.clone(), address(1)), 1, two_nodes).is_err());
        assert!(meters.guesses_from_address.take(&(anna, address(2)), 1, two_nodes).is_ok());
        assert!(meters.guesses.take(&name("ben"), 1, two_nodes).is_err() && meters.guesses.take(&name("anna"), 1, two_nodes).is_ok());
        let registrations = meters.registrations.as_ref().unwrap();
        assert!(registrations.take(&address(3), 1, two_nodes).is_err() && registrations.take(&address(4), 1, two_nodes).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn without_accounts_and_without_rates_nothing_is_counted() {
        let metrics = Arc::new(Metrics::default());
        let off = Limits::new(RateSettings::default(), &Notifier::to_nobody(Arc::clone(&metrics)), &metrics);
        let lifted = limits(0, 0);
        for _ in 0..1_000 {
            assert_eq!((off.check_guess(&name("anna"), address(1)), off.check_registration(address(1))), (Ok(()), Ok(())));
            assert_eq!((lifted.check_account_request(address(1)), lifted.check_registration(address(1))), (Ok(()), Ok(())));
            assert_eq!(lifted.check_login_renewal(address(1)), Ok(()));
        }
    }
}
