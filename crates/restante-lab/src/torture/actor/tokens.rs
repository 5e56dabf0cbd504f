//! The tokens of a client: the one that it holds, and those that were revoked, which it tries now and then. They share nothing with a
//! connection: the conductor's testbed signs them.

use crate::token::{Issued, Signer};
use crate::torture::rng::Rng;

/// Revoked tokens that are kept, to be tried again.
const WORTHLESS_MAX: usize = 5;
/// Connects with a revoked token, of a thousand.
const TRIES_A_WORTHLESS_ONE: u64 = 40;

/// The tokens of a client.
pub struct Tokens {
    signer: Signer,
    user: String,
    scope: Option<&'static str>,
    current: Issued,
    worthless: Vec<Issued>,
    /// The last connection was tried with a token that is known to be revoked.
    was_worthless: bool,
}

impl Tokens {
    /// A first token for this user, with this scope.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn new(signer: Signer, user: &str, scope: Option<&'static str>) -> anyhow::Result<Self> {
        let current = signer.issue(user, scope)?;
        Ok(Self { signer, user: user.to_owned(), scope, current, worthless: Vec::new(), was_worthless: false })
    }

    /// The token that the client holds.
    pub(super) const fn current(&self) -> &Issued {
        &self.current
    }

    /// The token for the next connection: by chance, where that is allowed, one that was revoked.
    pub(super) fn present(&mut self, rng: &mut Rng, may_be_worthless: bool) -> Issued {
        let drawn = if may_be_worthless && rng.chance(TRIES_A_WORTHLESS_ONE) { rng.one_of(&self.worthless) } else { None };
        self.was_worthless = drawn.is_some();
        drawn.unwrap_or(&self.current).clone()
    }

    /// The service refused the token of the last connection. The client gets a new one, unless it knew that.
    pub(super) fn refused(&mut self) {
        if self.was_worthless {
            return;
        }
        // A secret that has signed once signs again.
        let Ok(next) = self.signer.issue(&self.user, self.scope) else { return };
        self.worthless.push(std::mem::replace(&mut self.current, next));
        if self.worthless.len() > WORTHLESS_MAX {
            self.worthless.remove(0);
        }
    }

    /// A token for an operator.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub(super) fn operator(&self) -> anyhow::Result<String> {
        self.signer.scoped("operator", Some("admin"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_token_is_replaced_and_tried_again_only_where_that_is_allowed() {
        let mut tokens = Tokens::new(Signer::new("secret"), "anna", None).unwrap();
        let mut rng = Rng::new(1, "tokens");
        let first = tokens.present(&mut rng, true).id;
        assert_eq!(first, tokens.current().id);
        tokens.refused();
        assert_ne!(first, tokens.current().id);
        let tried: Vec<_> = (0..300).map(|_| tokens.present(&mut rng, true).id).filter(|id| *id == first).collect();
        assert!(!tried.is_empty() && (0..300).all(|_| tokens.present(&mut rng, false).id == tokens.current().id));
        while tokens.present(&mut rng, true).id != first {}
        let second = tokens.current().id.clone();
        tokens.refused();
        assert_eq!(second, tokens.current().id, "that one was known to be worth nothing");
    }
}
