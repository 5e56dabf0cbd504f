//! The letters between nodes. Whoever has `bus_keys`, as in a copy of the database, opens them; the text in them is encrypted once more where
//! messages are encrypted in the tables.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use restante::config::Config;
use restante::encryption::EncryptionMode;
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgListener;

use super::{KEY, sealing};
use crate::support::{Node, database};

const ROOT: &str = "zyzzyvaquark";

/// The settings of a node that opens what others seal.
fn reading(config: &mut Config) {
    config.encryption = EncryptionMode::Read;
    config.encryption_key = Some(KEY.into());
}

/// Opens a letter on this channel with what the table `bus_keys` has.
fn opened(channel: &str, letter: &str, secrets: &[(i64, Vec<u8>)]) -> Option<Vec<u8>> {
    let mut letter = STANDARD_NO_PAD.decode(letter).ok()?;
    let to = hex(channel.strip_prefix("restante_node_")?)?;
    let (head, body) = letter.split_at_mut_checked(49)?;
    let number = i64::from_be_bytes(head[1..9].try_into().ok()?);
    let (_, secret) = secrets.iter().find(|(of, _)| *of == number)?;
    let context = [b"restante bus 1".as_slice(), &head[9..25], &head[25..41]];
    let pseudorandom = Salt::new(HKDF_SHA256, &[]).extract(secret);
    let cipher = LessSafeKey::new(UnboundKey::from(pseudorandom.expand(&context, &AES_256_GCM).ok()?));
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&head[41..]);
    let authenticated = Aad::from([&*head, &to].concat());
    Some(cipher.open_in_place(Nonce::assume_unique_for_key(nonce), authenticated, body).ok()?.to_vec())
}

fn hex(text: &str) -> Option<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

/// The letters that two nodes with these settings send while somebody writes to a user at the other node, as the database's secrets open
/// them.
async fn letters(one: fn(&mut Config), other: fn(&mut Config)) -> Vec<Vec<u8>> {
    let db = database().await;
    let (one, other) = (Node::with(db.options(), one).await, Node::with(db.options(), other).await);
    let pool: PgPool = db.pool(2).await;
    let channels = "select 'restante_node_' || replace(node_id::text, '-', '') from nodes";
    let channels: Vec<String> = sqlx::query_scalar(channels).fetch_all(&pool).await.unwrap();
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen_all(channels.iter().map(String::as_str)).await.unwrap();
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    for n in 0..5 {
        let words = json!({"to": "bob", "content": format!("{ROOT}-{n}"), "metadata": {"note": ROOT}});
        alice.ask("message:send", words).await;
        let message = bob.event("message:receive").await;
        assert_eq!(message["content"], format!("{ROOT}-{n}"));
        bob.ask("message:reject", json!({"messageId": message["messageId"], "reason": ROOT, "final": true})).await;
        alice.event("message:status").await;
    }
    sqlx::query("select pg_notify($1, 'the end')").bind(&channels[0]).execute(&pool).await.unwrap();
    let secrets: Vec<(i64, Vec<u8>)> = sqlx::query_as("select key_number, secret from bus_keys").fetch_all(&pool).await.unwrap();
    let mut opened_letters = Vec::new();
    loop {
        let heard = listener.recv().await.unwrap();
        if heard.payload() == "the end" {
            break;
        }
        opened_letters.extend(opened(heard.channel(), heard.payload(), &secrets));
    }
    for node in [&one, &other] {
        assert_eq!(node.app().context().metrics.bus_rejected.of("unreadable").get(), 0, "each reads what the other says");
    }
    one.stop().await;
    other.stop().await;
    opened_letters
}

fn shows(letters: &[Vec<u8>]) -> usize {
    letters.iter().filter(|letter| letter.windows(ROOT.len()).any(|window| window == ROOT.as_bytes())).count()
}

/// Broken by letters that only the secret of the database encrypts.
#[tokio::test]
async fn who_has_the_secrets_of_the_database_reads_nothing_in_letters_of_nodes_that_encrypt() {
    let plain = letters(|_| {}, |_| {}).await;
    assert!(shows(&plain) > 0, "the words are in the letters, and are found where nothing is encrypted");
    let encrypted = letters(sealing, sealing).await;
    assert!(!encrypted.is_empty());
    assert_eq!(shows(&encrypted), 0);
}

/// Broken by a node that opens only what it would seal itself.
#[tokio::test]
async fn a_node_that_only_reads_what_is_encrypted_reads_letters_too() {
    letters(sealing, reading).await;
}
