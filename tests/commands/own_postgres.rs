//! The service's own PostgreSQL while the service runs: it dies, or an upgrade replaces it under the service.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use restante_postgres::ThrowawayDir;
use serde_json::json;

use crate::program::Service;
use crate::support::{Connect, Socket, kill};

/// The directory of PostgreSQL's programs, as the service finds it.
fn programs() -> PathBuf {
    let program = restante_postgres::program("postgres").unwrap();
    program.canonicalize().unwrap().parent().unwrap().to_owned()
}

/// Sends until it is accepted: meanwhile a send is refused as `unavailable`, and stored nowhere.
async fn sent(alice: &mut Socket, content: &str) -> serde_json::Value {
    loop {
        let answer = alice.ask("message:send", json!({"to": "bob", "content": content})).await;
        match answer["event"].as_str() {
            Some("message:sent") => return answer["data"].clone(),
            _ => assert!(["unavailable", "busy"].contains(&answer["data"]["code"].as_str().unwrap()), "{answer}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_that_is_killed_is_started_again_and_nothing_accepted_is_lost() {
    let (dir, links) = (ThrowawayDir::new().unwrap(), tempfile::tempdir().unwrap());
    let link = links.path().join("bin");
    symlink(programs(), &link).unwrap();
    let mut service = Service::start(&dir, &[("PG_BIN_DIR", link.to_str().unwrap())]).await;
    let mut alice = Socket::open(service.addr, Connect::user("alice")).await;
    let before = sent(&mut alice, "before").await;

    // Without programs it cannot be started at once.
    std::fs::remove_file(&link).unwrap();
    kill("-KILL", service.postmaster());
    let line = service.logs("the service's own PostgreSQL is restarted").await;
    assert!(line.contains("it was killed") && line.contains("server.log"), "{line}");
    service.logs("could not be restarted").await;
    // Backends that are there outlive the server that was killed by a moment.
    service.until_readyz_is(503).await;
    let refused = alice.ask("message:send", json!({"to": "bob", "content": "meanwhile"})).await;
    assert_eq!(refused["data"]["code"], "unavailable", "{refused}");

    symlink(programs(), &link).unwrap();
    service.logs("the service's own PostgreSQL runs again").await;
    service.until_readyz_is(200).await;
    let after = sent(&mut alice, "after").await;
    let mut bob = Socket::open(service.addr, Connect::user("bob")).await;
    let received = bob.receive(2).await;
    assert_eq!([&received[0]["messageId"], &received[1]["messageId"]], [&before["messageId"], &after["messageId"]]);
    let (code, _) = service.stopped("-TERM").await;
    assert_eq!((code, crate::program::postmaster(dir.path())), (Some(0), None));
}

/// Programs and libraries of PostgreSQL in a directory of their own, beside one another as they are installed.
fn copied(to: &Path) {
    let bin = programs();
    let lib = Command::new(bin.join("pg_config")).arg("--pkglibdir").output().ok().filter(|said| said.status.success());
    let lib = lib.map_or_else(|| bin.with_file_name("lib"), |said| PathBuf::from(String::from_utf8(said.stdout).unwrap().trim()));
    let beside = lib.strip_prefix(bin.parent().unwrap()).expect("libraries stand beside programs");
    std::fs::create_dir_all(to.join("bin")).unwrap();
    std::fs::create_dir_all(to.join(beside)).unwrap();
    for name in ["initdb", "pg_ctl", "postgres"] {
        std::fs::copy(bin.join(name), to.join("bin").join(name)).unwrap();
    }
    for library in std::fs::read_dir(&lib).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        std::fs::copy(&library, to.join(beside).join(library.file_name().unwrap())).unwrap();
    }
    assert!(Command::new("chmod").args(["-R", "a+rX"]).arg(to).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_whose_libraries_move_away_is_restarted_from_where_they_are_now() {
    let (dir, place) = (ThrowawayDir::new().unwrap(), ThrowawayDir::new().unwrap());
    let [old, new, link] = ["old", "new", "now"].map(|name| place.path().join(name));
    copied(&old);
    symlink(&old, &link).unwrap();
    let bin = link.join("bin");
    let mut service = Service::start(&dir, &[("PG_BIN_DIR", bin.to_str().unwrap())]).await;
    let mut alice = Socket::open(service.addr, Connect::user("alice")).await;
    let before = sent(&mut alice, "before").await;
    let postmaster = service.postmaster();

    std::fs::rename(&old, &new).unwrap();
    let line = service.logs("the service's own PostgreSQL is restarted").await;
    assert!(line.contains("58P01"), "{line}");
    // Connections that are there go on until there are programs again, but no client is sent here.
    service.logs("could not be restarted").await;
    assert_eq!(service.postmaster(), postmaster);
    service.until_readyz_is(503).await;

    std::fs::remove_file(&link).unwrap();
    symlink(&new, &link).unwrap();
    service.logs("the service's own PostgreSQL runs again").await;
    assert_ne!(service.postmaster(), postmaster);
    service.until_readyz_is(200).await;
    let after = sent(&mut alice, "after").await;
    let mut bob = Socket::open(service.addr, Connect::user("bob")).await;
    let received = bob.receive(2).await;
    assert_eq!([&received[0]["messageId"], &received[1]["messageId"]], [&before["messageId"], &after["messageId"]]);
    assert_eq!(service.stopped("-TERM").await.0, Some(0));
}

/// As when the whole of it happens while the service does not run: it was killed, and its server is still there.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_left_and_is_unfit_is_restarted_when_the_service_starts() {
    let (dir, place) = (ThrowawayDir::new().unwrap(), ThrowawayDir::new().unwrap());
    let [old, new] = ["old", "new"].map(|name| place.path().join(name));
    copied(&old);
    let service = Service::start(&dir, &[("PG_BIN_DIR", old.join("bin").to_str().unwrap())]).await;
    let mut alice = Socket::open(service.addr, Connect::user("alice")).await;
    sent(&mut alice, "before").await;
    let postmaster = service.postmaster();
    service.killed().await;
    std::fs::rename(&old, &new).unwrap();

    let service = Service::start(&dir, &[("PG_BIN_DIR", new.join("bin").to_str().unwrap())]).await;
    assert_ne!(service.postmaster(), postmaster);
    let mut bob = Socket::open(service.addr, Connect::user("bob")).await;
    assert_eq!(bob.receive(1).await[0]["content"], "before");
    assert_eq!(service.stopped("-TERM").await.0, Some(0));
}
