//! Passwords as people choose them, by the rules of NIST SP 800-63B: long ones, any characters, no rule of how to compose them, and none that are
//! among the first guesses. A password is normalized (NFKC), so that two keyboards which write the same letter differently agree.
//!
//! It knows no hash and no account. No text of a password is ever shown.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use unicode_normalization::UnicodeNormalization;

use crate::domain::limits::PASSWORD_CHARS_MAX;

/// First guesses, one a line, in small letters.
const COMMON: &str = include_str!("common_passwords.txt");
/// A part that is repeated and shorter than this makes a password no longer.
const UNIT_CHARS_MIN: usize = 8;

/// The reason for which a password is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnfitPassword {
    /// It is longer than [`PASSWORD_CHARS_MAX`].
    #[error("must be at most {PASSWORD_CHARS_MAX} characters")]
    TooLong,
    /// It has fewer characters than this.
    #[error("must be at least {0} characters, spaces among them: a sentence is a good password")]
    TooShort(usize),
    /// It is among the first that somebody tries.
    #[error("is among the first that somebody tries: choose another one")]
    Common,
    /// It is made of the name of its account.
    #[error("must not be made of the name of the account")]
    OfName,
}

/// A password, normalized.
#[derive(Clone)]
pub struct Password(SecretString);

impl Password {
    /// A password that is to be verified.
    ///
    /// # Errors
    /// [`UnfitPassword::TooLong`]: nobody has such a password.
    pub fn given(text: SecretString) -> Result<Self, UnfitPassword> {
        if text.expose_secret().chars().count() > PASSWORD_CHARS_MAX {
            return Err(UnfitPassword::TooLong);
        }
        Ok(Self(text.expose_secret().nfkc().collect::<String>().into()))
    }

    /// A password that is chosen for an account of this name. Each code point counts as a character.
    ///
    /// # Errors
    /// It can be guessed, or is too long.
    pub fn chosen(text: SecretString, name: &str, chars_min: usize) -> Result<Self, UnfitPassword> {
        // One letter may be many once it is normalized (U+FDFA is eighteen), and several may be one.
        let given_chars = text.expose_secret().chars().count();
        let password = Self::given(text)?;
        let chosen = password.0.expose_secret();
        if chosen.chars().count().min(given_chars) < chars_min {
            return Err(UnfitPassword::TooShort(chars_min));
        }
        let simple = chosen.to_lowercase();
        if simple.replace(name, "").chars().all(|one| !one.is_alphabetic()) && simple.contains(name) {
            return Err(UnfitPassword::OfName);
        }
        if is_common(&simple) { Err(UnfitPassword::Common) } else { Ok(password) }
    }

    /// The bytes that are hashed.
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// Returns whether a text in small letters is listed, repeats something short or listed, or goes up or down by one from character to character.
fn is_common(text: &str) -> bool {
    let is_listed = |text: &str| COMMON.lines().any(|line| line == text);
    let chars: Vec<char> = text.chars().collect();
    let period = (1..=chars.len()).find(|period| chars.iter().zip(&chars[*period..]).all(|(one, later)| one == later));
    let unit: String = chars[..period.unwrap_or(chars.len())].iter().collect();
    let trimmed = text.trim_end_matches(|one: char| !one.is_alphabetic());
    let steps = |step: u32| chars.windows(2).all(|two| u32::from(two[0]).abs_diff(u32::from(two[1])) == step);
    is_listed(text)
        || is_listed(&unit)
        || (trimmed.chars().count() >= UNIT_CHARS_MIN && is_listed(trimmed))
        || (unit.chars().count() < UNIT_CHARS_MIN && unit.len() < text.len())
        || steps(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(text: &str) -> Result<(), UnfitPassword> {
        Password::chosen(text.into(), "anna", 15).map(|_| ())
    }

    #[test]
    fn any_long_text_is_a_password_and_no_rule_composes_it() {
        for good in [
            "correct horse battery",
            "              x",
            "съешь же ещё этих",
            "🐢🐢🐇 who wins the race",
            "aB3$aB3$ and more",
            "anna likes pears",
        ] {
            assert_eq!(chosen(good), Ok(()), "{good}");
        }
        assert_eq!(chosen(&"long one ".repeat(14)), Ok(()));
    }

    #[test]
    fn what_is_short_long_or_among_the_first_guesses_is_refused() {
        assert_eq!(chosen("fourteen chars"), Err(UnfitPassword::TooShort(15)));
        assert_eq!(chosen(&"ab cd efg ".repeat(13)), Err(UnfitPassword::TooLong));
        for common in [
            "passwordpassword",
            "PasswordPassword",
            "aaaaaaaaaaaaaaaa",
            "abcabcabcabcabcabc",
            "abcdefghijklmnop",
            "1qaz2wsx3edc4rfv",
            "correcthorsebatterystaple",
            "password1234567",
        ] {
            assert_eq!(chosen(common), Err(UnfitPassword::Common), "{common}");
        }
        for of_name in ["annaannaannaanna", "Anna12345678901", "11111111111-anna"] {
            assert_eq!(chosen(of_name), Err(UnfitPassword::OfName), "{of_name}");
        }
    }

    #[test]
    fn letters_that_are_written_differently_are_the_same() {
        let bytes = |text: &str| Password::given(text.into()).unwrap().bytes().to_vec();
        assert_eq!(bytes("Cafe\u{301} ﬁne ① Ａ"), bytes("Café fine 1 A"));
        assert_ne!(bytes("Cafe"), bytes("cafe"));
        for short in ["ﬁﬁﬁﬁﬁﬁﬁx", "\u{fdfa}", "a\u{301}b\u{301}c\u{301}d\u{301}e\u{301}f\u{301}g\u{301}h\u{301}"] {
            assert_eq!(chosen(short), Err(UnfitPassword::TooShort(15)), "it counts as it was typed, and once it is normalized: {short}");
        }
        assert!(!format!("{:?}", Password::given("a secret".into()).unwrap()).contains("secret"));
    }
}
