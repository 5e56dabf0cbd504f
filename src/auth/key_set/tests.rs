//! Sets as issuers write them, and sets that mean harm.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm::{self, ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, RS256, RS512};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// The example of RFC 8037 appendix A.2.
const ED25519: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

fn key(jwk: &Value) -> Result<Key, Refused> {
    Key::of_jwk(&jwk.to_string(), Origin::File)
}

fn refused(jwk: Value) -> Refused {
    key(&jwk).expect_err(&jwk.to_string())
}

fn known(jwk: &Value) -> Vec<Algorithm> {
    let key = key(jwk).unwrap();
    let all = [HS256, HS384, HS512, ES256, ES384, RS256, Algorithm::RS384, RS512, PS256, Algorithm::PS384, Algorithm::PS512, EdDSA];
    all.into_iter().filter(|algorithm| key.knows(*algorithm)).collect()
}

fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa(bytes: usize, exponent: &[u8]) -> Value {
    json!({"kty": "RSA", "n": base64(&vec![0xc5; bytes]), "e": base64(exponent)})
}

fn p256() -> Value {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = pair.public_key().as_ref().to_vec();
    json!({"kty": "EC", "crv": "P-256", "x": base64(&point[1..33]), "y": base64(&point[33..])})
}

fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

#[test]
fn a_key_knows_the_algorithms_of_its_kind_and_only_the_one_that_it_names() {
    assert_eq!(known(&rsa(256, &[1, 0, 1])).len(), 6);
    assert_eq!(known(&with(rsa(256, &[1, 0, 1]), "alg", json!("PS256"))), [PS256]);
    assert_eq!(known(&p256()), [ES256]);
    assert_eq!(known(&json!({"kty": "OKP", "crv": "Ed25519", "x": ED25519})), [EdDSA]);
    for (bytes, expected) in [(32, &[HS256][..]), (48, &[HS256, HS384]), (64, &[HS256, HS384, HS512])] {
        assert_eq!(known(&json!({"kty": "oct", "k": base64(&vec![7; bytes])})), expected);
    }
    assert_eq!(known(&json!({"kty": "oct", "k": base64(&[7; 64]), "alg": "HS512"})), [HS512]);
}

#[test]
fn a_key_that_cannot_be_used_is_refused_with_its_reason() {
    let secret = json!({"kty": "oct", "k": base64(&[7; 64])});
    for (jwk, expected) in [
        (json!(5), Refused::NoJwk),
        (json!({}), Refused::NoJwk),
        (json!({"kty": 5}), Refused::NoJwk),
        (with(p256(), "kid", json!(5)), Refused::NoJwk),
        (with(p256(), "kid", json!("")), Refused::Id),
        (with(p256(), "kid", json!("x".repeat(257))), Refused::Id),
        (with(p256(), "d", json!("AAAA")), Refused::Private),
        (with(rsa(256, &[3]), "d", json!({})), Refused::Private),
        (with(p256(), "use", json!("enc")), Refused::Use),
        (with(p256(), "key_ops", json!(["encrypt"])), Refused::Use),
        (json!({"kty": "XYZ"}), Refused::Kind),
        (with(p256(), "crv", json!("P-521")), Refused::Kind),
        (with(p256(), "alg", json!("ES384")), Refused::Kind),
        (with(p256(), "alg", json!("HS256")), Refused::Kind),
        (with(rsa(256, &[3]), "alg", json!("HS256")), Refused::Kind),
        (with(rsa(256, &[3]), "alg", json!("none")), Refused::Kind),
        (json!({"kty": "OKP", "crv": "X25519", "x": ED25519}), Refused::Kind),
        (with(p256(), "crv", json!("P-384")), Refused::Material),
        (with(p256(), "y", json!(base64(&[1; 32]))), Refused::Material),
        (with(p256(), "x", json!("+/==")), Refused::Material),
        (json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}), Refused::Material),
        (json!({"kty": "RSA", "n": "AQAB"}), Refused::Material),
        (rsa(256, &[1]), Refused::Material),
        (rsa(256, &[0]), Refused::Material),
        (rsa(256, &[2]), Refused::Material),
        (rsa(255, &[3]), Refused::Length),
        (rsa(1_025, &[3]), Refused::Length),
        (rsa(256, &[1; 9]), Refused::Length),
        (json!({"kty": "oct", "k": base64(&[7; 31])}), Refused::Length),
        (json!({"kty": "oct"}), Refused::Material),
        (with(json!({"kty": "oct", "k": base64(&[7; 32])}), "alg", json!("HS512")), Refused::Kind),
        (with(secret.clone(), "alg", json!("RS256")), Refused::Kind),
    ] {
        assert_eq!(refused(jwk.clone()), expected, "{jwk}");
    }
    assert_eq!(Key::of_jwk(&secret.to_string(), Origin::Server).unwrap_err(), Refused::Symmetric);
}

#[test]
fn one_bad_key_costs_that_key_only_and_a_text_beyond_a_bound_is_no_set() {
    let read = ReadSet::parse(&json!({"keys": [p256(), {"kty": "XYZ"}, 5, p256()], "more": 1}).to_string(), Origin::Server).unwrap();
    assert_eq!((read.keys.len(), read.refused), (2, vec![(2, Refused::Kind), (3, Refused::NoJwk)]));
    for text in ["", "[]", "{}", "null", "{\"keys\": {}}", "{\"keys\": []} x", &"[".repeat(10_000)] {
        assert_eq!(ReadSet::parse(text, Origin::File).unwrap_err(), NoSet::Malformed, "{text}");
    }
    assert_eq!(ReadSet::parse(&json!({"keys": vec![5; 101]}).to_string(), Origin::File).unwrap_err(), NoSet::TooMany);
    assert_eq!(ReadSet::parse(&" ".repeat(SET_BYTES_MAX + 1), Origin::File).unwrap_err(), NoSet::TooLong);
    assert_eq!(ReadSet::parse(&json!({"keys": vec![p256(); 100]}).to_string(), Origin::File).unwrap().keys.len(), 100);
}

#[test]
fn a_token_is_tried_with_the_keys_of_its_id_and_otherwise_with_a_few() {
    let named = |id: &str| Arc::new(key(&with(p256(), "kid", json!(id))).unwrap());
    let (nameless, secret) = (Arc::new(key(&p256()).unwrap()), Arc::new(Key::of_secret(b"of a test")));
    let set = KeySet::new(vec![named("a"), named("b"), named("a"), nameless, secret]);
    let tried = |id: Option<&str>, algorithm| -> Vec<Option<String>> {
        set.candidates(id, algorithm).map(|key| key.id().map(str::to_owned)).collect()
    };
    let [a, b, none] = [Some("a".to_owned()), Some("b".to_owned()), None];
    assert_eq!(tried(Some("a"), ES256), [a.clone(), a.clone()]);
    assert_eq!(tried(Some("a"), HS256), [] as [Option<String>; 0], "the key of this id knows no HMAC");
    assert_eq!(tried(Some("c"), ES256), std::slice::from_ref(&none));
    assert_eq!(tried(Some("c"), HS256), std::slice::from_ref(&none), "an issuer may name its secret");
    assert_eq!(tried(None, ES256), [none, a.clone(), b, a]);
    assert!(set.names("a") && !set.names("c"));
    let many = KeySet::new((0..100).map(|n| named(&n.to_string())).collect());
    assert_eq!(many.candidates(None, ES256).count(), CANDIDATES_MAX);
}

proptest! {
    /// No text panics, and none becomes a key that a server must not give.
    #[test]
    fn whatever_a_server_says_is_a_set_or_an_error(text in "\\PC{0,200}", name in "kty|crv|x|y|n|e|k|d|alg|use|kid", value in "\\PC{0,20}|[A-Za-z0-9_-]{0,64}") {
        let _ = ReadSet::parse(&text, Origin::Server);
        for jwk in [p256(), rsa(256, &[3]), json!({"kty": "oct", "k": base64(&[7; 64])})] {
            let changed = json!({"keys": [with(jwk, &name, json!(value))]}).to_string();
            for key in ReadSet::parse(&changed, Origin::Server).unwrap().keys {
                prop_assert!([HS256, HS384, HS512].iter().all(|algorithm| !key.knows(*algorithm)));
            }
        }
    }
}
