//! Settings that cannot be meant, and a data directory that has its service already.

use std::fs;

use restante_postgres::ThrowawayDir;

use crate::program::{Service, ended, restante, said};
use crate::support::{Connect, Socket, kill, secret};

#[tokio::test]
async fn a_file_of_settings_is_refused_by_line_and_name_and_nothing_of_it_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    for (text, expected) in [
        ("SEND_RATE=5\nJWT_SECRET=hush hush hush", "line 2 of the file .env cannot be read"),
        ("JWT_SECRET=\"hush", "line 1 of the file .env cannot be read"),
        ("hush", "line 1 of the file .env cannot be read"),
        ("LISTEN_ADRR=hush", "line 1 of the file .env sets LISTEN_ADRR, which is no setting: is LISTEN_ADDR meant?"),
        ("DATABSE_URL=postgres://ada:hush@db/a", "is DATABASE_URL meant?"),
        ("JWT_SECRET=hush", "JWT_SECRET has fewer than 32 bytes, so that it can be guessed: make one with `openssl rand -hex 32`"),
    ] {
        fs::write(folder.path().join(".env"), text).unwrap();
        for command in [&["token", "ada"][..], &["serve"], &[]] {
            let output = ended(restante(&[]).args(command).current_dir(folder.path())).await;
            let words = said(&output);
            assert_eq!(output.status.code(), Some(2), "{text:?}: {words}");
            assert!(words.contains(expected) && !words.contains("hush") && words.lines().count() == 1, "{text:?}: {words}");
            assert!(output.stdout.is_empty());
        }
    }
    // Other programs may read the same file.
    fs::write(folder.path().join(".env"), format!("HUSH=1\nJWT_SECRET={}\n", secret().replace(' ', "-"))).unwrap();
    let output = ended(restante(&[]).args(["token", "ada"]).current_dir(folder.path())).await;
    assert!(output.status.success() && said(&output).starts_with("line 1 of the file .env sets a name that is no setting"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_service_on_a_data_directory_is_refused_and_the_first_does_not_notice() {
    let dir = ThrowawayDir::new().unwrap();
    let first = Service::start(&dir, &[]).await;
    let (pid, postmaster) = (first.pid(), first.postmaster());
    let mut alice = Socket::open(first.addr, Connect::user("alice")).await;
    let own = [("DATA_DIR", dir.path().to_str().unwrap()), ("JWT_SECRET", secret()), ("LISTEN_ADDR", "127.0.0.1:0")];
    let output = ended(restante(&own).arg("serve")).await;
    let words = said(&output);
    assert_eq!(output.status.code(), Some(2), "{words}");
    let expected = format!("another service (process {pid}) runs with DATA_DIR {}", dir.path().display());
    assert!(words.contains(&expected) && output.stdout.is_empty(), "{words}");
    alice.send("bob", "still here").await;
    assert_eq!((first.readyz().await, first.postmaster()), (200, postmaster));
    // Commands that are no services work beside it.
    assert!(ended(restante(&own).arg("migrate")).await.status.success());

    first.killed().await;
    let second = Service::start(&dir, &[]).await;
    assert_eq!(second.postmaster(), postmaster, "the server of the one that was killed is adopted");

    // One that takes leave of its clients lets its successor in.
    let mut bob = Socket::open(second.addr, Connect::user("bob")).await;
    assert_eq!(bob.receive(1).await[0]["content"], "still here");
    kill("-TERM", second.pid());
    bob.event("server:draining").await;
    let third = Service::start(&dir, &[]).await;
    assert_eq!(third.postmaster(), postmaster);
    assert_eq!(second.stopped("-TERM").await.0, Some(0));
    assert_eq!((third.readyz().await, third.postmaster()), (200, postmaster), "it is used by the successor");
    assert_eq!(third.stopped("-TERM").await.0, Some(0));
    assert_eq!(crate::program::postmaster(dir.path()), None);
}
