//! Refresh tokens: 48 random bytes as text, of which nothing can be read. The first 16 are the family, which all refresh tokens of one login have in
//! common, and the other 32 are the secret. Of the secret the database has a hash: its tables are worth nothing to somebody who wants to log in.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use uuid::Uuid;

use super::random;

const FAMILY_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
/// The characters of a refresh token, all of base64url.
pub const REFRESH_TOKEN_CHARS: usize = (FAMILY_BYTES + SECRET_BYTES) / 3 * 4;

/// A refresh token.
pub struct RefreshToken {
    family: [u8; FAMILY_BYTES],
    secret: [u8; SECRET_BYTES],
}

impl RefreshToken {
    /// The first of a new family.
    pub fn first() -> Self {
        Self { family: random::bytes(), secret: random::bytes() }
    }

    /// Another one of the same family.
    pub fn next(&self) -> Self {
        Self { family: self.family, secret: random::bytes() }
    }

    /// Reads the text; none: it is no refresh token.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != REFRESH_TOKEN_CHARS {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (family, secret) = bytes.split_at_checked(FAMILY_BYTES)?;
        Some(Self { family: family.try_into().ok()?, secret: secret.try_into().ok()? })
    }

    /// The text, for the client.
    pub fn text(&self) -> SecretString {
        URL_SAFE_NO_PAD.encode([&self.family[..], &self.secret[..]].concat()).into()
    }

    /// The family, as the database knows it.
    pub const fn family(&self) -> Uuid {
        Uuid::from_bytes(self.family)
    }

    /// SHA-256 of the secret. It has 256 random bits, so nobody finds it from its hash, and a slow hash would protect nothing.
    pub fn hash(&self) -> Vec<u8> {
        digest(&SHA256, &self.secret).as_ref().to_vec()
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshToken")
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_refresh_token_reads_back_and_its_family_stays() {
        let first = RefreshToken::first();
        let text = first.text().expose_secret().to_owned();
        assert_eq!(text.len(), REFRESH_TOKEN_CHARS);
        let read = RefreshToken::parse(&text).unwrap();
        assert_eq!((read.family(), read.hash()), (first.family(), first.hash()));
        let next = read.next();
        assert!(next.family() == first.family() && next.hash() != first.hash() && next.hash().len() == 32);
        assert_ne!(RefreshToken::first().family(), first.family());
        assert!(!format!("{first:?}").contains(&text[..8]));
    }

    #[test]
    fn what_is_no_refresh_token_is_none() {
        let text = RefreshToken::first().text().expose_secret().to_owned();
        for bad in ["", &text[1..], &format!("{text}A"), &format!("{}=", &text[1..]), &format!("{}+", &text[1..]), &"ä".repeat(32)] {
            assert!(RefreshToken::parse(bad).is_none(), "{bad}");
        }
    }
}
