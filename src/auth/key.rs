//! One key that tokens are verified with: its id, and the algorithms that it knows. A token names its algorithm, but the key decides whether
//! it counts: a public key knows no HMAC, so nobody can sign with it as if it were a secret (RFC 8725 section 2.1).
//!
//! A key is made from a secret or from a JWK (RFC 7517). Whatever cannot be used is refused here, with a reason that quotes nothing.

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, VerificationAlgorithm};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde::de::IgnoredAny;

const RSA_ALGORITHMS: &[Algorithm] =
    &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];
/// The length of a modulus in bytes: RFC 7518 section 3.3 wants 2,048 bits, and 8,192 are as many as are verified.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;
/// The longest exponent that is verified with, in bytes.
const EXPONENT_BYTES_MAX: usize = 4;
const ID_CHARS_MAX: usize = 256;
/// HMAC wants a key as long as its hash (RFC 7518 section 3.2), in bytes.
const HMAC_ALGORITHMS: [(Algorithm, usize); 3] = [(Algorithm::HS256, 32), (Algorithm::HS384, 48), (Algorithm::HS512, 64)];

/// The place that a set of keys comes from. Secrets never come over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A file of the operator.
    File,
    /// A server of keys.
    Server,
}

/// The reason for which a key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is no JWK.
    #[error("it is no JWK")]
    NoJwk,
    /// Its `kid` is empty or too long.
    #[error("its `kid` must be 1 to {ID_CHARS_MAX} characters")]
    Id,
    /// It holds the private half, which a verifier does not need.
    #[error("it is a private key: give the public one")]
    Private,
    /// It is a secret, and came from a server.
    #[error("it is a symmetric key, which a server must not give out")]
    Symmetric,
    /// It is for something else than signatures.
    #[error("it is not for signatures")]
    Use,
    /// Its `kty`, `crv` or `alg` is not known, or they do not fit together.
    #[error("its `kty`, `crv` and `alg` are not known, or do not fit together")]
    Kind,
    /// A part of it is missing or cannot be read, or is of the wrong length.
    #[error("a part of it is missing, or is not a key of its kind")]
    Material,
    /// It can be guessed, or takes too long to verify with.
    #[error("it is shorter than its algorithm wants, or longer than is verified with")]
    Length,
}

/// A key.
#[derive(Clone)]
pub struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

/// A JWK, as far as it is read.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
    /// The private half, of every kind of key.
    d: Option<IgnoredAny>,
}

impl Key {
    /// The key of a shared secret that signs with HS256, without an id.
    pub fn of_secret(secret: &[u8]) -> Self {
        Self { id: None, algorithms: vec![Algorithm::HS256], decoding: DecodingKey::from_secret(secret) }
    }

    /// The key of a JWK.
    ///
    /// # Errors
    /// It cannot be used. The reason quotes nothing of it.
    pub fn of_jwk(json: &str, origin: Origin) -> Result<Self, Refused> {
        let jwk: Jwk = serde_json::from_str(json).map_err(|_| Refused::NoJwk)?;
        if jwk.kid.as_ref().is_some_and(|id| id.is_empty() || id.chars().count() > ID_CHARS_MAX) {
            return Err(Refused::Id);
        }
        if jwk.d.is_some() {
            return Err(Refused::Private);
        }
        if jwk.usage.as_deref().is_some_and(|usage| usage != "sig")
            || jwk.key_ops.as_ref().is_some_and(|operations| !operations.iter().any(|operation| operation == "verify"))
        {
            return Err(Refused::Use);
        }
        let (known, decoding) = match jwk.kty.as_str() {
            "RSA" => rsa(&jwk)?,
            "EC" => elliptic(&jwk)?,
            "OKP" => edwards(&jwk)?,
            "oct" if origin == Origin::Server => return Err(Refused::Symmetric),
            "oct" => symmetric(&jwk)?,
            _ => return Err(Refused::Kind),
        };
        let algorithms = match &jwk.alg {
            None => known,
            // `alg` of the key narrows it to one algorithm (RFC 7517 section 4.4).
            Some(name) => known.into_iter().filter(|algorithm| format!("{algorithm:?}") == *name).collect(),
        };
        if algorithms.is_empty() {
            return Err(Refused::Kind);
        }
        Ok(Self { id: jwk.kid, algorithms, decoding })
    }

    /// Its `kid`.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Returns whether tokens may be signed with this algorithm and this key.
    pub fn knows(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// The key as the library takes it.
    pub(super) const fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

type Made = Result<(Vec<Algorithm>, DecodingKey), Refused>;

fn rsa(jwk: &Jwk) -> Made {
    let (modulus, exponent) = (bytes(jwk.n.as_ref())?, bytes(jwk.e.as_ref())?);
    let (modulus, exponent) = (without_zeros(&modulus), without_zeros(&exponent));
    if !MODULUS_BYTES.contains(&modulus.len()) || exponent.len() > EXPONENT_BYTES_MAX {
        return Err(Refused::Length);
    }
    // An even number has no inverse, and 1 signs whatever is signed.
    if exponent.last().is_none_or(|last| last % 2 == 0) || exponent == [1] {
        return Err(Refused::Material);
    }
    Ok((RSA_ALGORITHMS.to_vec(), DecodingKey::from_rsa_raw_components(modulus, exponent)))
}

fn elliptic(jwk: &Jwk) -> Made {
    let (algorithm, verified_by): (_, &'static dyn VerificationAlgorithm) = match jwk.crv.as_deref() {
        Some("P-256") => (Algorithm::ES256, &ECDSA_P256_SHA256_FIXED),
        Some("P-384") => (Algorithm::ES384, &ECDSA_P384_SHA384_FIXED),
        Some(_) | None => return Err(Refused::Kind),
    };
    // An uncompressed point (SEC 1 section 2.3.3).
    let point = [vec![4], bytes(jwk.x.as_ref())?, bytes(jwk.y.as_ref())?].concat();
    ParsedPublicKey::new(verified_by, &point).map_err(|_| Refused::Material)?;
    Ok((vec![algorithm], DecodingKey::from_ec_der(&point)))
}

fn edwards(jwk: &Jwk) -> Made {
    if jwk.crv.as_deref() != Some("Ed25519") {
        return Err(Refused::Kind);
    }
    let point = bytes(jwk.x.as_ref())?;
    ParsedPublicKey::new(&ED25519, &point).map_err(|_| Refused::Material)?;
    Ok((vec![Algorithm::EdDSA], DecodingKey::from_ed_der(&point)))
}

fn symmetric(jwk: &Jwk) -> Made {
    let secret = bytes(jwk.k.as_ref())?;
    let fitting = HMAC_ALGORITHMS.iter().filter(|(_, bytes_min)| secret.len() >= *bytes_min);
    let algorithms: Vec<Algorithm> = fitting.map(|(algorithm, _)| *algorithm).collect();
    if algorithms.is_empty() {
        return Err(Refused::Length);
    }
    Ok((algorithms, DecodingKey::from_secret(&secret)))
}

fn bytes(text: Option<&String>) -> Result<Vec<u8>, Refused> {
    text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or(Refused::Material)
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    &bytes[first..]
}
