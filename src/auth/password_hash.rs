//! Hashes of passwords by argon2id (RFC 9106), in the form of PHC strings, which name their parameters: a hash that was made with others is verified
//! by its own. Each call takes tens of milliseconds of a processor and tens of MiB, so callers bound how many run at once.

use std::fmt;

use argon2::password_hash::{self, Decimal, Ident, PasswordHash, PasswordHasher as _, PasswordVerifier as _, Salt, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use prometheus_client::metrics::counter::Counter;

use super::password::Password;
use super::random;

const SALT_BYTES: usize = 16;

/// The cost of a hash. OWASP's least is 19 MiB and 2 passes with one lane (Password Storage Cheat Sheet).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
}

/// The judgement of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// It is the right one.
    Right,
    /// It is the right one, and its hash was made at another cost.
    RightButOutdated,
    /// It is another one.
    Wrong,
}

/// Makes and verifies hashes at one cost. Cheap to clone.
#[derive(Clone)]
pub struct PasswordHasher {
    argon2: CountedArgon2,
    nobodys: String,
}

/// Argon2, with the number of hashes that it has computed: each is counted where it is computed, be it made or verified.
#[derive(Clone)]
struct CountedArgon2 {
    argon2: Argon2<'static>,
    computed: Counter,
}

impl password_hash::PasswordHasher for CountedArgon2 {
    type Params = Params;

    /// At the cost of the hasher: as the trait has it, it would be at that of the library.
    fn hash_password<'a>(&self, password: &[u8], salt: impl Into<Salt<'a>>) -> password_hash::Result<PasswordHash<'a>> {
        self.computed.inc();
        self.argon2.hash_password(password, salt)
    }

    fn hash_password_customized<'a>(
        &self,
        password: &[u8],
        algorithm: Option<Ident<'a>>,
        version: Option<Decimal>,
        params: Params,
        salt: impl Into<Salt<'a>>,
    ) -> password_hash::Result<PasswordHash<'a>> {
        self.computed.inc();
        self.argon2.hash_password_customized(password, algorithm, version, params, salt)
    }
}

impl PasswordHasher {
    /// A hasher at this cost. It makes one hash, of which nobody has the password.
    ///
    /// # Errors
    /// No hash has this cost.
    pub fn new(cost: HashCost) -> Result<Self, argon2::Error> {
        let params = Params::new(cost.memory_kib, cost.passes, Params::DEFAULT_P_COST, None)?;
        let argon2 = CountedArgon2 { argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params), computed: Counter::default() };
        let mut hasher = Self { argon2, nobodys: String::new() };
        hasher.nobodys = hasher.hash_of(&random::bytes::<32>());
        Ok(hasher)
    }

    /// The same hasher, which counts from now on here each hash that it computes.
    #[must_use]
    pub fn counted_by(self, computed: Counter) -> Self {
        Self { argon2: CountedArgon2 { computed, ..self.argon2 }, ..self }
    }

    /// The hash of a password, with a salt of its own.
    pub fn hash(&self, password: &Password) -> String {
        self.hash_of(password.bytes())
    }

    fn hash_of(&self, password: &[u8]) -> String {
        let salt = SaltString::encode_b64(&random::bytes::<SALT_BYTES>()).expect("16 bytes are a salt");
        self.argon2
            .hash_password(password, &salt)
            .expect("a password is shorter than argon2 takes, and so is the salt long enough")
            .to_string()
    }

    /// Judges a password by the hash of an account. Without an account it is as much work, and the answer is always [`Verified::Wrong`].
    pub fn verify(&self, password: &Password, hash: Option<&str>) -> Verified {
        let known = hash.and_then(|hash| PasswordHash::new(hash).ok());
        let nobodys = PasswordHash::new(&self.nobodys).expect("it was made here");
        let is_right = self.argon2.verify_password(password.bytes(), known.as_ref().unwrap_or(&nobodys)).is_ok();
        match known {
            Some(hash) if is_right => self.judge_cost(&hash),
            Some(_) | None => Verified::Wrong,
        }
    }

    fn judge_cost(&self, hash: &PasswordHash<'_>) -> Verified {
        let is_same = hash.algorithm == Algorithm::Argon2id.ident()
            && hash.version == Some(Version::V0x13.into())
            && Params::try_from(hash).is_ok_and(|params| {
                let own = self.argon2.argon2.params();
                (params.m_cost(), params.t_cost(), params.p_cost()) == (own.m_cost(), own.t_cost(), own.p_cost())
            });
        if is_same { Verified::Right } else { Verified::RightButOutdated }
    }
}

impl fmt::Debug for PasswordHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As cheap as a hash can be.
    const CHEAP: HashCost = HashCost { memory_kib: 8, passes: 1 };

    fn password(text: &str) -> Password {
        Password::given(text.into()).unwrap()
    }

    #[test]
    fn a_password_is_known_by_its_hash_and_another_is_not() {
        let hasher = PasswordHasher::new(CHEAP).unwrap();
        let (hash, again) = (hasher.hash(&password("a long sentence")), hasher.hash(&password("a long sentence")));
        assert!(hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$") && hash.len() < 128, "{hash}");
        assert_ne!(hash, again, "each has a salt of its own");
        assert_eq!(hasher.verify(&password("a long sentence"), Some(&hash)), Verified::Right);
        assert_eq!(hasher.verify(&password("a long sentencf"), Some(&hash)), Verified::Wrong);
        assert_eq!(hasher.verify(&password("a long sentence"), None), Verified::Wrong);
        assert_eq!(hasher.verify(&password("a long sentence"), Some("no hash")), Verified::Wrong);
    }

    /// Broken by an answer before anything was computed, and by a hash of nobody that is cheaper.
    #[test]
    fn a_password_for_an_account_that_nobody_has_takes_the_same_hash_as_a_wrong_one() {
        let (computed, cost) = (Counter::default(), HashCost { memory_kib: 16, passes: 2 });
        let hasher = PasswordHasher::new(cost).unwrap().counted_by(computed.clone());
        let hash = hasher.hash(&password("a long sentence"));
        assert_eq!(computed.get(), 1);
        for known in [Some(hash.as_str()), Some("no hash"), None] {
            let before = computed.get();
            assert_eq!(hasher.verify(&password("another"), known), Verified::Wrong);
            assert_eq!(computed.get() - before, 1, "{known:?}");
        }
        let cost_of = |hash: &str| hash.rsplitn(3, '$').last().map(str::to_owned);
        assert_eq!(cost_of(&hasher.nobodys), cost_of(&hash));
    }

    #[test]
    fn a_hash_of_another_cost_is_verified_and_is_outdated() {
        let (before, now) = (PasswordHasher::new(CHEAP).unwrap(), PasswordHasher::new(HashCost { memory_kib: 16, passes: 2 }).unwrap());
        let hash = before.hash(&password("a long sentence"));
        assert_eq!(now.verify(&password("a long sentence"), Some(&hash)), Verified::RightButOutdated);
        assert_eq!(now.verify(&password("another"), Some(&hash)), Verified::Wrong);
        assert_eq!(before.verify(&password("a long sentence"), Some(&hash)), Verified::Right);
    }

    #[test]
    fn a_cost_that_no_hash_has_is_refused() {
        assert!(PasswordHasher::new(HashCost { memory_kib: 1, passes: 1 }).is_err());
    }
}
