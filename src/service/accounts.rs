//! Accounts, for those without an issuer of tokens: to register, to log in, to go on with a refresh token, to change the password, to log out. Nothing here
//! is there unless the settings turn it on.
//!
//! Registering alone tells that a name exists. A login of a name that nobody has costs the same hash, and every refused login is answered after
//! the same time. The limits ([`crate::delivery`]) know names as they are given, whether they exist or not; the queue of hashes is of this node.

mod hashing;

use std::net::IpAddr;
use std::time::Duration;

use secrecy::SecretString;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::{Claimant, Refusal, Service};
use crate::auth::{HashCost, LoginToken, Password, PasswordHasher, RefreshToken, TokenSigner, UnfitPassword, Verified, random_id};
use crate::domain::{ExternalId, Revocation, Revoked};
use crate::protocol::{Code, Fault};
use crate::store::{self, BegunLogin, LoginTimes, NewLogin, Refreshed};
use crate::telemetry::Metrics;
use hashing::Hashing;

/// A refused login is answered after this time at the earliest: reading an account, and a hash at another cost, would else show in it.
const REFUSED_LOGIN_TIME: Duration = Duration::from_millis(500);

/// The settings of accounts.
#[derive(Debug, Clone)]
pub struct AccountSettings {
    /// The cost of a hash.
    pub cost: HashCost,
    /// Hashes that run at once at this node.
    pub hashes_at_once: u16,
    /// Characters of a password, at least.
    pub password_chars_min: usize,
    /// The times of logins.
    pub times: LoginTimes,
    /// Signs access tokens.
    pub signer: TokenSigner,
    /// Their issuer.
    pub issuer: Option<String>,
    /// Their audience.
    pub audience: Option<String>,
    /// The time after a revocation in which tokens that were issued count as older than it.
    pub leeway: time::Duration,
}

/// The accounts of a node: hashing and settings.
#[derive(Debug, Clone)]
pub struct Accounts {
    settings: AccountSettings,
    hashing: Hashing,
}

impl Accounts {
    /// The accounts of a node. It makes one hash.
    ///
    /// # Errors
    /// No hash has this cost.
    pub fn new(settings: AccountSettings) -> Result<Self, argon2::Error> {
        let hashing = Hashing::new(PasswordHasher::new(settings.cost)?, settings.hashes_at_once);
        Ok(Self { settings, hashing })
    }

    /// The same, which count in these metrics each hash that they compute from now on.
    pub(super) fn counted_in(self, metrics: &Metrics) -> Self {
        Self { hashing: self.hashing.counted_by(metrics.password_hashes.clone()), ..self }
    }
}

/// An account that is to be made.
#[derive(Debug)]
pub struct Registration {
    /// The name, by which its user is known.
    pub name: ExternalId,
    /// The password, as it was chosen.
    pub password: SecretString,
    /// The name that is shown.
    pub display_name: Option<String>,
}

/// A change of a password.
#[derive(Debug)]
pub struct PasswordChange {
    /// The account.
    pub name: ExternalId,
    /// The login that asks, and goes on.
    pub login: Option<Uuid>,
    /// The password until now.
    pub password: Password,
    /// The one from now on, as it was chosen.
    pub new_password: SecretString,
}

/// The tokens of a login.
#[derive(Debug)]
pub struct LoginTokens {
    /// The user.
    pub user: ExternalId,
    /// The access token.
    pub access_token: SecretString,
    /// From then on it is worth nothing.
    pub expires_at: OffsetDateTime,
    /// The refresh token, which is good once.
    pub refresh_token: SecretString,
    /// From then on it is worth nothing.
    pub refresh_expires_at: OffsetDateTime,
}

/// The reason for which a request about an account was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccountRefusal {
    /// This installation has no accounts.
    #[error("there are no accounts")]
    Off,
    /// The name or the password is wrong. Nothing says which.
    #[error("the name or the password is wrong")]
    BadCredentials,
    /// The refresh token is of no login that lasts.
    #[error("the login has ended")]
    LoginEnded,
    /// The name belongs to another account, or to a user that has come by another way.
    #[error("the name is taken")]
    NameTaken,
    /// The password is not taken.
    #[error("the password {0}")]
    Password(#[from] UnfitPassword),
    /// As for every request.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl From<AccountRefusal> for Fault {
    fn from(refusal: AccountRefusal) -> Self {
        match refusal {
            AccountRefusal::Off => Self::new(Code::TurnedOff, "there are no accounts here: tokens come from elsewhere"),
            AccountRefusal::BadCredentials => Self::plain(Code::BadCredentials),
            AccountRefusal::LoginEnded => Self::plain(Code::LoginEnded),
            AccountRefusal::NameTaken => Self::plain(Code::NameTaken),
            AccountRefusal::Password(unfit) => Self::invalid(format!("the password {unfit}")),
            AccountRefusal::Refused(refusal) => refusal.into(),
        }
    }
}

impl Service {
    /// Counts a request about an account by its name in the metrics and its outcome, which is passed through.
    ///
    /// # Errors
    /// Those of the outcome.
    pub fn counted<T>(&self, request: &'static str, done: Result<T, AccountRefusal>) -> Result<T, AccountRefusal> {
        let outcome = done.as_ref().map_or_else(|refusal| Fault::from(*refusal).code.as_str(), |_| "done");
        self.metrics.account_requests.of_all([request, outcome]).inc();
        done
    }

    fn accounts(&self) -> Result<&Accounts, AccountRefusal> {
        self.accounts.as_deref().ok_or(AccountRefusal::Off)
    }

    /// Makes an account. It is logged in by another request. `address`: that of the client.
    ///
    /// # Errors
    /// [`AccountRefusal`], but for `BadCredentials` and `LoginEnded`.
    pub async fn register(&self, address: IpAddr, registration: Registration) -> Result<(), AccountRefusal> {
        let accounts = self.accounts()?;
        let Registration { name, password, display_name } = registration;
        self.delivery.limits().check_account_request(address.into())?;
        let password = Password::chosen(password, name.as_str(), accounts.settings.password_chars_min)?;
        self.delivery.limits().check_registration(address.into())?;
        let hash = accounts.hashing.hash(password).await?;
        let asked = self.store.register_account(&name, display_name.as_deref(), &hash);
        if !self.of_account(address, "registering an account", asked).await? {
            return Err(AccountRefusal::NameTaken);
        }
        info!(user.id = %name, "an account was registered");
        Ok(())
    }

    /// Logs in. Where the account has as many logins as it may, the one that was renewed longest ago ends.
    ///
    /// # Errors
    /// [`AccountRefusal`], but for `LoginEnded` and `NameTaken`.
    pub async fn log_in(&self, address: IpAddr, name: ExternalId, password: Password) -> Result<LoginTokens, AccountRefusal> {
        let accounts = self.accounts()?;
        let earliest = Instant::now() + REFUSED_LOGIN_TIME;
        self.delivery.limits().check_account_request(address.into())?;
        self.check_room_for_ended_logins()?;
        self.delivery.limits().check_guess(&name, address.into())?;
        let tried = self.try_log_in(accounts, address, &name, password).await;
        match &tried {
            Err(AccountRefusal::BadCredentials) => sleep_until(earliest).await,
            Ok(_) | Err(_) => self.delivery.limits().was_no_guess(&name, address.into()),
        }
        tried
    }

    /// Twice where another login has put a new hash in the place of the one that was verified.
    async fn try_log_in(
        &self,
        accounts: &Accounts,
        client: IpAddr,
        name: &ExternalId,
        password: Password,
    ) -> Result<LoginTokens, AccountRefusal> {
        for _ in 0..2 {
            let (verified, new_hash) = self.verify(accounts, client, name, password.clone()).await?;
            let (id, token) = (random_id(), RefreshToken::first());
            let (family, secret_hash) = (token.family(), token.hash());
            let new = NewLogin { name, verified: &verified, new_hash: new_hash.as_deref(), id, family, secret_hash: &secret_hash };
            let issued_at = self.issue_time(accounts, Some(name));
            let asked = self.store.log_in(new, accounts.settings.times);
            if let Some(BegunLogin { display_name, ends_at, ended }) = self.of_account(client, "logging in", asked).await? {
                self.logins_ended(accounts, &ended);
                debug!(user.id = %name, ended = ended.len(), "a login has begun");
                let of_login = NewTokens { user: name, name: display_name.as_deref(), login: id, issued_at };
                return Ok(of_login.sign(accounts, self.clock.now(), &token, ends_at));
            }
        }
        Err(AccountRefusal::BadCredentials)
    }

    /// The hash against which a password was verified, and another one where that is outdated.
    async fn verify(
        &self,
        accounts: &Accounts,
        client: IpAddr,
        name: &ExternalId,
        password: Password,
    ) -> Result<(String, Option<String>), AccountRefusal> {
        let hash = self.of_account(client, "reading an account", self.store.account_hash(name)).await?;
        let (verified, new_hash) = accounts.hashing.verify(password, hash.clone()).await?;
        match (verified, hash) {
            (Verified::Right | Verified::RightButOutdated, Some(hash)) => Ok((hash, new_hash)),
            (Verified::Wrong, _) | (_, None) => Err(AccountRefusal::BadCredentials),
        }
    }

    /// Goes on with a login: its refresh token counts no more, and another one does. A token that comes a second time ends the login.
    ///
    /// # Errors
    /// [`AccountRefusal::LoginEnded`], [`AccountRefusal::Off`], or as every request.
    pub async fn refresh(&self, address: IpAddr, token: &RefreshToken) -> Result<LoginTokens, AccountRefusal> {
        let accounts = self.accounts()?;
        self.delivery.limits().check_login_renewal(address.into())?;
        let next = token.next();
        let (presented, to_come) = (token.hash(), next.hash());
        let issued_at = self.issue_time(accounts, None);
        let asked = self.store.refresh_login(token.family(), &presented, &to_come, accounts.settings.times);
        match self.of_account(address, "going on with a login", asked).await? {
            Refreshed::Renewed(login) => {
                let of_login = NewTokens { user: &login.name, name: login.display_name.as_deref(), login: login.id, issued_at };
                Ok(of_login.sign(accounts, self.clock.now(), &next, login.ends_at))
            }
            Refreshed::Unknown => Err(AccountRefusal::LoginEnded),
            Refreshed::Reused { name, id } => {
                warn!(user.id = %name, "a refresh token was used twice, so somebody may have a copy: its login has ended");
                self.logins_ended(accounts, &[id]);
                Err(AccountRefusal::LoginEnded)
            }
        }
    }

    /// Changes a password. The login that asks goes on, all others of the account end. Returns how many have ended.
    ///
    /// # Errors
    /// [`AccountRefusal`], but for `LoginEnded` and `NameTaken`.
    pub async fn change_password(&self, address: IpAddr, change: PasswordChange) -> Result<usize, AccountRefusal> {
        let accounts = self.accounts()?;
        let PasswordChange { name, login, password, new_password } = change;
        self.delivery.limits().check_account_request(address.into())?;
        let new_password = Password::chosen(new_password, name.as_str(), accounts.settings.password_chars_min)?;
        self.delivery.limits().check_guess(&name, address.into())?;
        let (verified, _) = self.verify(accounts, address, &name, password).await?;
        let hash = accounts.hashing.hash(new_password).await?;
        self.delivery.limits().was_no_guess(&name, address.into());
        let asked = self.store.change_password(&name, &verified, &hash, login, accounts.settings.times);
        // The password is another one by now, or its hash is: this one was right a moment ago, and is asked for again.
        let ended = self.of_account(&name, "changing a password", asked).await?.ok_or(AccountRefusal::Refused(Refusal::BUSY))?;
        self.logins_ended(accounts, &ended);
        info!(user.id = %name, ended = ended.len(), "a password was changed");
        Ok(ended.len())
    }

    /// Ends the login of a refresh token, on every node. Nothing tells if there was one.
    ///
    /// # Errors
    /// [`AccountRefusal::Off`], or as every request.
    pub async fn log_out(&self, address: IpAddr, token: &RefreshToken) -> Result<(), AccountRefusal> {
        let accounts = self.accounts()?;
        self.delivery.limits().check_login_renewal(address.into())?;
        let asked = self.store.log_out(token.family(), accounts.settings.times);
        let ended = self.of_account(address, "logging out", asked).await?;
        self.logins_ended(accounts, &ended);
        Ok(())
    }

    /// Ends all logins of an account, on every node. Returns how many there were.
    ///
    /// # Errors
    /// [`AccountRefusal::Off`], or as every request.
    pub async fn log_out_everywhere(&self, name: &ExternalId) -> Result<usize, AccountRefusal> {
        let accounts = self.accounts()?;
        let asked = self.store.log_out_everywhere(name, accounts.settings.times);
        let ended = self.of_account(name, "logging out everywhere", asked).await?;
        self.logins_ended(accounts, &ended);
        info!(user.id = %name, ended = ended.len(), "a user has logged out everywhere");
        Ok(ended.len())
    }

    /// Closes connections of this node that live on these logins. Other nodes are told with the commit.
    fn logins_ended(&self, accounts: &Accounts, ended: &[Uuid]) {
        let at = self.clock.now();
        let revocation = |id: &Uuid| Revocation {
            number: 0,
            revoked: Revoked::Login(*id),
            at,
            expires_at: at.saturating_add(accounts.settings.times.revoked_for().try_into().unwrap_or(time::Duration::MAX)),
            reason: None,
            by: "account".to_owned(),
        };
        let revocations: Vec<Revocation> = ended.iter().map(revocation).collect();
        if !revocations.is_empty() {
            self.revocations.take(&revocations);
        }
    }

    /// The time at which a token of a login is issued, by the clock of the database. Taken before the database is asked: a revocation that comes
    /// meanwhile ends the login, and is later than its token. One that is known by now is older than a login that begins, though its leeway may
    /// not be over: the token says so by being issued behind it.
    fn issue_time(&self, accounts: &Accounts, beginner: Option<&ExternalId>) -> OffsetDateTime {
        let now = self.clock.of_database().truncate_to_second();
        let revoked_at = beginner.and_then(|user| self.revocations.kept.of_user(user));
        let behind =
            revoked_at.map(|at| at.saturating_add(accounts.settings.leeway + time::Duration::MILLISECOND).truncate_to_millisecond());
        behind.map_or(now, |behind| behind.max(now))
    }

    /// Asks the database for a client, or for a user who is known. It is counted against no budget: limits of its own have.
    async fn of_account<T>(
        &self,
        client: impl Into<Claimant>,
        what: &'static str,
        asked: impl Future<Output = store::Result<T>>,
    ) -> Result<T, AccountRefusal> {
        Ok(self.try_asking(client, asked).await?.map_err(|cause| Refusal::of(&cause, what))?)
    }
}

/// The tokens of a login that are to be made.
struct NewTokens<'a> {
    user: &'a ExternalId,
    name: Option<&'a str>,
    login: Uuid,
    issued_at: OffsetDateTime,
}

impl NewTokens<'_> {
    fn sign(
        self,
        accounts: &Accounts,
        now: OffsetDateTime,
        refresh_token: &RefreshToken,
        refresh_expires_at: OffsetDateTime,
    ) -> LoginTokens {
        let AccountSettings { times, signer, issuer, audience, .. } = &accounts.settings;
        let Self { user, name, login, issued_at } = self;
        let expires_at = now.saturating_add(times.access.try_into().unwrap_or(time::Duration::MAX)).min(refresh_expires_at);
        // `exp` has whole seconds, and the client is told the same.
        let expires_at = expires_at.truncate_to_second();
        let token = LoginToken { user, name, login, issuer: issuer.as_deref(), audience: audience.as_deref(), issued_at, expires_at };
        let access_token = signer.sign_login(token).into();
        LoginTokens { user: user.clone(), access_token, expires_at, refresh_token: refresh_token.text(), refresh_expires_at }
    }
}
