//! Tokens of one secret, by the rules as they are without settings.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::*;
use crate::auth::{Scope, TokenSigner};
use crate::domain::ExternalId;
use crate::protocol::{Code, Fault};

const NOW: OffsetDateTime = datetime!(2026-11-01 12:00 UTC);
const SECRET: &str = "a secret for tests, of 32 bytes or more";

fn verifier() -> TokenVerifier {
    TokenVerifier::new(&SECRET.into())
}

fn signer() -> TokenSigner {
    TokenSigner::new(&SECRET.into())
}

fn signed(header: &Header, claims: &Value, secret: &str) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn verified(claims: Value) -> Result<Identity, AuthError> {
    verifier().verify(&signed(&Header::new(Algorithm::HS256), &claims, SECRET), NOW)
}

fn at(seconds: i64) -> i64 {
    NOW.unix_timestamp() + seconds
}

#[test]
fn a_minted_token_is_good_until_the_very_second_it_expires() {
    let anna = ExternalId::try_from("anna".to_owned()).unwrap();
    let token = signer().sign(&anna, None, Duration::minutes(5), NOW);
    let identity = verifier().verify(&token, NOW + Duration::seconds(299)).unwrap();
    assert_eq!((identity.external, identity.expires_at), (anna, NOW + Duration::minutes(5)));
    assert_eq!(verifier().verify(&token, NOW + Duration::minutes(5)), Err(AuthError::Expired));
}

#[test]
fn claims_are_required_and_times_are_kept() {
    assert_eq!(verified(json!({"sub": "a"})), Err(AuthError::Invalid));
    assert_eq!(verified(json!({"exp": at(9)})), Err(AuthError::Invalid));
    assert_eq!(verified(json!({"sub": "a", "exp": "soon"})), Err(AuthError::Invalid));
    assert_eq!(verified(json!({"sub": "a", "exp": at(0)})), Err(AuthError::Expired));
    assert_eq!(verified(json!({"sub": "a", "exp": -1e300})), Err(AuthError::Expired));
    assert!(verified(json!({"sub": "a", "exp": at(9), "nbf": at(0), "aud": "elsewhere"})).is_ok());
    assert_eq!(verified(json!({"sub": "a", "exp": 1e300})).unwrap().expires_at.year(), 9999);
    assert_eq!(verified(json!({"sub": "a", "exp": at(0) as f64 + 0.5})).unwrap().expires_at, NOW + Duration::milliseconds(500));
}

#[test]
fn an_issuers_clock_may_be_ahead_by_ten_seconds_and_a_token_is_never_good_after_its_end() {
    for begin in [at(2), at(10)] {
        assert!(verified(json!({"sub": "a", "exp": at(99), "nbf": begin, "iat": begin})).is_ok(), "{begin}");
    }
    for begin in [json!(at(11)), json!(at(10) as f64 + 0.5), json!(1e300)] {
        assert_eq!(verified(json!({"sub": "a", "exp": at(99), "nbf": begin})), Err(AuthError::TooEarly), "{begin}");
    }
    for issued in [json!(at(11)), json!(at(10) as f64 + 0.5), json!(at(1_000_000)), json!(1e300)] {
        assert_eq!(verified(json!({"sub": "a", "exp": 1e300, "iat": issued})), Err(AuthError::TooEarly), "{issued}");
    }
    for end in [at(0), at(-1), at(-10)] {
        assert_eq!(verified(json!({"sub": "a", "exp": end, "nbf": at(-99)})), Err(AuthError::Expired), "{end}");
    }
    let last = OffsetDateTime::from_unix_timestamp(253_402_300_799).unwrap();
    let token = signed(&Header::new(Algorithm::HS256), &json!({"sub": "a", "exp": 1e300, "nbf": 1e300}), SECRET);
    assert_eq!(verifier().verify(&token, last), Err(AuthError::Expired), "the last instant there is, with a leeway behind it");
}

#[test]
fn a_token_of_16_kib_is_taken_and_a_longer_one_is_told_the_limit() {
    let of_length =
        |claim: usize| signed(&Header::new(Algorithm::HS256), &json!({"sub": "a", "exp": at(9), "groups": "g".repeat(claim)}), SECRET);
    let shorter = of_length(12_000);
    let largest = of_length(12_000 + (16 * 1024 - shorter.len()) * 3 / 4);
    assert!((16 * 1024 - 1..=16 * 1024).contains(&largest.len()), "{}", largest.len());
    assert!(verifier().verify(&largest, NOW).is_ok());
    let refused = verifier().verify(&of_length(13_000), NOW).unwrap_err();
    assert_eq!(refused, AuthError::TooLong);
    let fault = Fault::from(refused);
    assert_eq!((fault.code, fault.message.as_ref()), (Code::NotAuthenticated, "the token must be at most 16384 bytes"));
}

#[test]
fn a_subject_has_1_to_128_characters_without_nul() {
    for sub in ["", &"x".repeat(129), "a\0b"] {
        assert!(matches!(verified(json!({"sub": sub, "exp": at(9)})), Err(AuthError::Subject(_))), "{sub:?}");
    }
    assert!(verified(json!({"sub": "ü".repeat(128), "exp": at(9)})).is_ok());
    assert_eq!(verified(json!({"sub": 7, "exp": at(9)})), Err(AuthError::Invalid));
}

#[test]
fn only_hs256_with_this_secret_counts() {
    let claims = json!({"sub": "a", "exp": at(9)});
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        assert_eq!(verifier().verify(&signed(&Header::new(algorithm), &claims, SECRET), NOW), Err(AuthError::Invalid));
    }
    assert_eq!(verifier().verify(&signed(&Header::new(Algorithm::HS256), &claims, "another"), NOW), Err(AuthError::Invalid));
    let critical = Header { crit: Some(vec!["b64".to_owned()]), ..Header::new(Algorithm::HS256) };
    assert_eq!(verifier().verify(&signed(&critical, &claims, SECRET), NOW), Err(AuthError::Invalid));
}

#[test]
fn unsigned_and_garbled_tokens_are_refused() {
    let good = signed(&Header::new(Algorithm::HS256), &json!({"sub": "a", "exp": at(9)}), SECRET);
    let (_, rest) = good.split_once('.').unwrap();
    let (claims, _) = rest.split_once('.').unwrap();
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"; // {"alg":"none","typ":"JWT"}
    let texts = [format!("{none}.{claims}."), format!("{none}.{rest}"), good[..good.len() - 2].to_owned(), "x".repeat(10_000)];
    for text in texts.iter().map(String::as_str).chain(["", ".", "..", "a.b.c", "null", "💥.💥.💥"]) {
        assert_eq!(verifier().verify(text, NOW), Err(AuthError::Invalid), "{text}");
    }
}

#[test]
fn what_cannot_be_shown_is_left_out() {
    let identity = verified(json!({"sub": "a", "exp": at(9), "name": "Anna", "picture": 5})).unwrap();
    assert_eq!((identity.name.as_deref(), identity.picture), (Some("Anna"), None));
    let identity = verified(json!({"sub": "a", "exp": at(9), "name": "x".repeat(257), "picture": "a\0"})).unwrap();
    assert_eq!((identity.name, identity.picture), (None, None));
}

/// Broken by a cut that is the time of the revocation itself: a token of an issuer whose clock is ahead would outlive it.
#[test]
fn a_token_is_as_old_as_it_may_be_by_the_clock_of_an_issuer_that_is_ahead() {
    let issued = |iat: Value| verified(json!({"sub": "a", "exp": at(99), "iat": iat})).unwrap().held();
    for (iat, is_older) in [(json!(at(-1)), true), (json!(at(5)), true), (json!(at(9)), true), (json!(at(10)), false), (json!(null), true)]
    {
        assert_eq!(issued(iat.clone()).is_older_than(NOW), is_older, "{iat}");
    }
}

/// Broken by the node's own clock: one that is behind would take no new token for minutes.
#[test]
fn the_age_of_a_token_is_judged_by_the_clock_of_the_database() {
    let at_node = |off_by: Duration| Now { here: NOW + off_by, at_database: NOW };
    let token = signed(&Header::new(Algorithm::HS256), &json!({"sub": "a", "exp": at(3_600), "iat": at(0)}), SECRET);
    for off_by in [Duration::ZERO, Duration::minutes(10), -Duration::minutes(10)] {
        assert!(verifier().verify(&token, at_node(off_by)).is_ok(), "{off_by}");
    }
    let ahead = signed(&Header::new(Algorithm::HS256), &json!({"sub": "a", "exp": at(3_600), "iat": at(60)}), SECRET);
    assert_eq!(verifier().verify(&ahead, at_node(Duration::minutes(10))), Err(AuthError::TooEarly));
}

/// Broken by a claim that is dropped because it is of another type: what it takes away would be there again.
#[test]
fn a_claim_of_another_type_is_not_an_absent_one() {
    let more = |name: &str, value: &Value| verified(json!({"sub": "a", "exp": at(99), name: value.clone()}));
    for (name, none) in
        [("nbf", true), ("iat", true), ("jti", true), ("sid", true), ("scope", true), ("scp", true), ("sub", false), ("exp", false)]
    {
        assert_eq!(more(name, &json!(null)).is_ok(), none, "{name}");
        for value in [json!(true), json!({"a": 1}), json!([5]), json!([["send"]])] {
            assert_eq!(more(name, &value), Err(AuthError::Invalid), "{name}: {value}");
        }
    }
    for (name, value) in [
        ("nbf", json!("0")),
        ("iat", json!(at(0).to_string())),
        ("jti", json!(12_345)),
        ("jti", json!("")),
        ("jti", json!("a\0")),
        ("jti", json!("x".repeat(257))),
        ("sid", json!(12_345)),
        ("sid", json!("x".repeat(257))),
        ("sub", json!(5)),
        ("exp", json!(at(9).to_string())),
    ] {
        assert_eq!(more(name, &value), Err(AuthError::Invalid), "{name}: {value}");
    }
    assert_eq!(more("jti", &json!("ü".repeat(256))).unwrap().token_id, Some("ü".repeat(256)));
    for shown in ["name", "picture"] {
        assert!(more(shown, &json!(5)).is_ok(), "{shown} is for people, and its absence opens nothing");
    }
}

#[test]
fn a_scope_is_words_of_a_text_or_of_a_list_and_nothing_else() {
    let scoped =
        |name: &str, scope: &Value| verified(json!({"sub": "a", "exp": at(9), name: scope.clone()})).map(|identity| identity.scope);
    for name in ["scope", "scp"] {
        for given in [json!("admin"), json!("read admin write"), json!(" admin  read "), json!(["admin"]), json!(["read", "admin"])] {
            assert!(scoped(name, &given).unwrap().has(Scope::ADMIN), "{name}: {given}");
        }
        for other in [json!("administrator"), json!("Admin"), json!("no-admin"), json!(""), json!([]), json!(["", "Admin"]), json!(null)] {
            assert!(!scoped(name, &other).unwrap().has(Scope::ADMIN), "{name}: {other}");
        }
        for bad in [
            json!("send\tadmin"),
            json!("admin\n"),
            json!("send\u{a0}admin"),
            json!("send\u{0}"),
            json!(["send admin"]),
            json!(["send", 5]),
            json!(["send\r"]),
            json!({"send": true}),
            json!(5),
            json!(false),
        ] {
            assert_eq!(scoped(name, &bad), Err(AuthError::Invalid), "{name}: {bad}");
        }
    }
    let both = |scope: Value, scp: Value| verified(json!({"sub": "a", "exp": at(9), "scope": scope, "scp": scp}));
    assert!(both(json!("send openid"), json!(["send", "openid"])).unwrap().scope.has(Scope::SEND));
    assert!(both(json!(null), json!(["send"])).unwrap().scope.has(Scope::SEND));
    for (scope, scp) in [(json!("send"), json!(["admin"])), (json!(""), json!("send")), (json!("send"), json!([]))] {
        assert_eq!(both(scope.clone(), scp.clone()), Err(AuthError::Invalid), "{scope} {scp}");
    }
}

#[test]
fn a_token_that_is_made_here_has_the_scope_that_it_was_given() {
    let anna = ExternalId::try_from("anna".to_owned()).unwrap();
    let minted = signer().sign(&anna, Some("admin"), Duration::minutes(5), NOW);
    assert!(verifier().verify(&minted, NOW).unwrap().scope.has(Scope::ADMIN));
    assert!(!verifier().verify(&signer().sign(&anna, None, Duration::minutes(5), NOW), NOW).unwrap().scope.has(Scope::ADMIN));
}
