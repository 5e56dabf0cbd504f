//! An issuer of tokens with keys of its own, and a server that gives out their public halves as a test wants it to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A key that signs tokens.
#[derive(Clone)]
pub struct SigningKey {
    /// Its id.
    pub id: Option<String>,
    algorithm: Algorithm,
    key: EncodingKey,
    /// Its public half, as a JWK.
    pub public: Value,
}

impl SigningKey {
    /// A new key of this algorithm, with this id. All keys of RSA are the same one: making one takes long.
    pub fn new(algorithm: Algorithm, id: &str) -> Self {
        let key = match algorithm {
            Algorithm::ES256 => {
                EncodingKey::from_ec_der(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap().to_pkcs8v1().unwrap().as_ref())
            }
            Algorithm::ES384 => {
                EncodingKey::from_ec_der(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap().to_pkcs8v1().unwrap().as_ref())
            }
            Algorithm::EdDSA => EncodingKey::from_ed_der(Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref()),
            _ => rsa(),
        };
        let mut public = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
        (public["kid"], public["use"]) = (json!(id), json!("sig"));
        Self { id: Some(id.to_owned()), algorithm, key, public }
    }

    /// The same key without its id, in tokens and in the set.
    pub fn without_id(mut self) -> Self {
        self.id = None;
        self.public.as_object_mut().unwrap().remove("kid");
        self
    }

    /// The same key, which says to be another in its tokens.
    pub fn called(&self, id: &str) -> Self {
        Self { id: Some(id.to_owned()), ..self.clone() }
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: self.id.clone(), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }

    /// A token of this user that is good for an hour.
    pub fn token(&self, user: &str) -> String {
        self.sign(&claims(user))
    }
}

/// Claims of this user that are good for an hour.
pub fn claims(user: &str) -> Value {
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    json!({"sub": user, "iat": now, "exp": now + 3_600})
}

fn rsa() -> EncodingKey {
    static PEM: OnceLock<String> = OnceLock::new();
    let pem = PEM.get_or_init(|| {
        let der = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'static>>::as_der(&der).unwrap();
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
    });
    EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap()
}

/// A set of these keys, as text.
pub fn set_of(keys: &[&SigningKey]) -> String {
    json!({"keys": keys.iter().map(|key| &key.public).collect::<Vec<_>>()}).to_string()
}

/// The answer of a server of keys.
#[derive(Debug, Clone)]
pub struct KeyAnswer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    /// The time before the answer.
    pub delay: Duration,
}

impl KeyAnswer {
    /// A set, without a word on how long it is fresh.
    pub fn set(body: String) -> Self {
        Self { status: 200, headers: Vec::new(), body, delay: Duration::ZERO }
    }

    /// A refusal.
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::set(String::new()) }
    }
}

/// A server of keys.
pub struct KeyServer {
    addr: SocketAddr,
    answer: Arc<Mutex<KeyAnswer>>,
    fetches: watch::Receiver<usize>,
    listening: JoinHandle<()>,
}

#[derive(Clone)]
struct Answering {
    answer: Arc<Mutex<KeyAnswer>>,
    fetches: Arc<watch::Sender<usize>>,
}

impl KeyServer {
    /// A server that gives out these keys.
    pub async fn of(keys: &[&SigningKey]) -> Self {
        Self::answering("127.0.0.1:0".parse().unwrap(), KeyAnswer::set(set_of(keys))).await
    }

    /// A server at this address.
    pub async fn answering(addr: SocketAddr, answer: KeyAnswer) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (answer, (sender, fetches)) = (Arc::new(Mutex::new(answer)), watch::channel(0));
        let state = Answering { answer: Arc::clone(&answer), fetches: Arc::new(sender) };
        let routes = Router::new().fallback(tell).with_state(state);
        let listening = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { addr, answer, fetches, listening }
    }

    /// The address of its keys.
    pub fn url(&self) -> reqwest::Url {
        format!("http://{}/keys", self.addr).parse().unwrap()
    }

    /// From now on it answers so.
    pub fn answer(&self, answer: KeyAnswer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// From now on it gives out these keys.
    pub fn give(&self, keys: &[&SigningKey]) {
        self.answer(KeyAnswer::set(set_of(keys)));
    }

    /// The fetches that it was asked for.
    pub fn fetches(&self) -> usize {
        *self.fetches.borrow()
    }

    /// Waits until it was asked for so many.
    pub async fn until_fetched(&self, fetches: usize) {
        let mut counted = self.fetches.clone();
        tokio::time::timeout(super::PATIENCE, counted.wait_for(|counted| *counted >= fetches)).await.expect("nobody fetches").unwrap();
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn tell(State(state): State<Answering>) -> (StatusCode, HeaderMap, String) {
    let answer = state.answer.lock().unwrap().clone();
    state.fetches.send_modify(|fetches| *fetches += 1);
    tokio::time::sleep(answer.delay).await;
    let headers = answer.headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    (StatusCode::from_u16(answer.status).unwrap(), headers, answer.body)
}
