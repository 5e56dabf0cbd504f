//! Data keys: a new one is known before it is used, one node makes it for all, master keys change, and a node that could not read starts
//! not at all.

use restante::app::{App, Database as Databases, StartError};
use restante::config::Config;
use restante::domain::MessageId;
use restante::store::{self, AcceptBatch, LockTimeout, Store, UnfitKeys};
use serde_json::json;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tokio::process::Command;
use uuid::Uuid;

use super::{KEY, contents, hasty_store, sealing, start};
use crate::support::{Node, SECRET, config, database, direct, number, users};

/// Another master key.
const NEXT_KEY: &str = "00112233445566778899aabbccddeeff102132435465768798a9bacbdcedfe0f";

/// Stores a message as a node does whose lane has just sealed it.
async fn accept(store: &Store, options: &PgConnectOptions, chat: Uuid, sender: i64, content: &str) {
    let id = MessageId::generate();
    let mut batch = AcceptBatch {
        ids: vec![id.0],
        chats: vec![chat],
        senders: vec![sender],
        types: vec!["text".to_owned()],
        expires: vec![None],
        ..AcceptBatch::default()
    };
    let sealer = store.sealer().await.unwrap().unwrap();
    batch.sealed.push(sealer.seal(id, Some(content), None, None));
    let mut connection = options.connect().await.unwrap();
    store::accept(&mut connection, &batch, false, LockTimeout::OfConnection).await.unwrap();
}

/// Broken by a node that reads the keys every few seconds only: what another one has just sealed is unreadable to it.
#[tokio::test]
async fn a_node_that_meets_a_key_which_it_does_not_know_reads_the_table_at_once() {
    let (db, node, pool) = start().await;
    let chat = direct(&pool, "alice", "bob").await;
    let alice = users(&pool, &["alice"]).await[0];
    let other = hasty_store(&pool, KEY);
    other.rotate_keys(None).await.unwrap().unwrap();
    assert_eq!(number(&pool, "select count(*) from audit where action = 'keys.rotate' and outcome = 'rotated'").await, 1);
    other.keep_keys().await.unwrap();
    accept(&other, &db.options(), chat, alice, "under a new key").await;
    assert_eq!(number(&pool, "select count(*) from data_keys").await, 2);
    let newest = "select count(*) from messages where key_id = (select id from data_keys order by made_at desc limit 1)";
    assert_eq!(number(&pool, newest).await, 1, "the other node has used it");
    let mut bob = node.connect("bob").await;
    assert_eq!(contents(&mut bob, 1).await, ["under a new key"]);
    node.stop().await;
}

/// Broken by keys that are made without a look at the newest: each store has one of its own then.
#[tokio::test]
async fn of_many_nodes_that_want_a_new_key_one_makes_it_and_none_uses_it_before_all_know_it() {
    let (_db, node, pool) = start().await;
    let mut alice = node.connect("alice").await;
    alice.send("bob", "first").await;
    let stores: Vec<Store> = (0..4).map(|_| hasty_store(&pool, KEY)).collect();
    stores[0].rotate_keys(None).await.unwrap().unwrap();
    let kept = futures_util::future::join_all(stores.iter().map(Store::keep_keys)).await;
    assert!(kept.iter().all(Result::is_ok), "{kept:?}");
    assert_eq!(number(&pool, "select count(*) from data_keys").await, 2);
    // The node reads the table, and the new key is younger than a minute.
    node.app().store().keep_keys().await.unwrap();
    alice.send("bob", "second").await;
    assert_eq!(number(&pool, "select count(distinct key_id) from messages").await, 1, "it seals with the key that every node knows");
    node.stop().await;
}

/// Broken by data keys that stay as they are wrapped: a node without the former master key cannot start.
#[tokio::test]
async fn a_new_master_key_wraps_the_data_keys_anew_and_the_former_one_can_go() {
    let (db, node, pool) = start().await;
    node.connect("alice").await.send("bob", "under the former one").await;
    node.stop().await;
    let with = |keys: String| {
        move |config: &mut Config| {
            sealing(config);
            config.encryption_key = Some(keys.into());
        }
    };
    let node = Node::with(db.options(), with(format!("{NEXT_KEY},{KEY}"))).await;
    node.app().store().keep_keys().await.unwrap();
    node.stop().await;
    assert_eq!(number(&pool, "select count(distinct master_id) from data_keys").await, 1);
    let node = Node::with(db.options(), with(NEXT_KEY.to_owned())).await;
    let mut bob = node.connect("bob").await;
    assert_eq!(contents(&mut bob, 1).await, ["under the former one"]);
    node.stop().await;
}

/// Broken by a node that starts anyhow: its clients would ack what they could not read.
#[tokio::test]
async fn a_node_without_the_key_of_what_is_sealed_does_not_start_and_says_why() {
    let (db, node, _pool) = start().await;
    node.stop().await;
    let refused = async |change: fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        App::start(&config, Databases::new(db.options()), Some(&SECRET.into())).await.unwrap_err()
    };
    let without = refused(|_| {}).await;
    assert!(matches!(without, StartError::UnfitKeys(UnfitKeys::Off)), "{without}");
    let wrong = refused(|config| {
        sealing(config);
        config.encryption_key = Some(NEXT_KEY.into());
    })
    .await;
    assert!(matches!(wrong, StartError::UnfitKeys(UnfitKeys::WrongMaster { keys: 1, .. })), "{wrong}");
    assert!(!format!("{without} {wrong}").contains(NEXT_KEY));
}

/// The exit code and both outputs of `restante keys` with these words.
async fn command(place: (&str, &str), words: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restante"));
    command.arg("keys").args(words).current_dir(std::env::temp_dir()).env_remove("DATABASE_URL").env_remove("RESTANTE_URL");
    let output = command.env("JWT_SECRET", SECRET).env(place.0, place.1).output().await.unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// Broken by a command that asks for nothing: no new key is made.
#[tokio::test]
async fn operators_list_keys_and_rotate_them_over_http_and_by_command() {
    let (db, node, pool) = start().await;
    let (url, address) = (node.url(), db.url());
    let places = [("RESTANTE_URL", url.as_str()), ("DATABASE_URL", address.as_str())];
    for (sweep, place) in (2..).zip(places) {
        let (code, told) = command(place, &["rotate"]).await;
        assert!(code == Some(0) && told.starts_with(&format!("sweep {sweep} ")), "{told}");
        node.app().store().keep_keys().await.unwrap();
        let (code, told) = command(place, &["list"]).await;
        assert!(code == Some(0) && told.contains("encryption is on") && told.lines().count() == sweep + 1, "{told}");
        assert_eq!(told.matches("to be replaced").count(), sweep - 1, "{told}");
    }
    let (status, keys) = node.admin().get("/v1/admin/keys").await;
    assert_eq!((status, &keys["isOn"], &keys["sweepsWanted"]), (200, &json!(true), &json!(3)));
    assert_eq!(keys["keys"].as_array().unwrap().len(), 3);
    assert_eq!(node.api("alice").post("/v1/admin/keys/rotate", json!({})).await.0, 403);
    assert_eq!(number(&pool, "select sweeps_wanted from encryption").await, 3, "who may not has asked for nothing");
    node.stop().await;

    let off = database().await;
    let (code, told) = command(("DATABASE_URL", &off.url()), &["rotate"]).await;
    assert!(code == Some(2) && told.contains("encryption is off"), "{told}");
}
