//! Outputs that are full, or that nobody reads any more: a command ends with a sentence, acks nothing that it did not show, and leaves
//! nothing running.

use std::fs::File;
use std::process::Stdio;

use restante_postgres::ThrowawayDir;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::program::{Service, ended, postmaster, restante, said};
use crate::support::{Connect, Socket, secret, token};

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

/// A pipe whose reader has gone.
fn closed() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

async fn status(service: &Service, sender: &str, message: &Value) -> Value {
    let url = format!("http://{}/v1/messages/{}/status", service.addr, message["messageId"].as_str().unwrap());
    let answer = reqwest::Client::new().get(url).bearer_auth(token(sender)).send().await.unwrap();
    answer.json::<Value>().await.unwrap()["statuses"][0]["status"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_could_not_be_shown_is_not_acked() {
    let dir = ThrowawayDir::new().unwrap();
    let service = Service::start(&dir, &[]).await;
    let url = format!("http://{}", service.addr);
    let command = |args: &[&str]| {
        let mut command = restante(&[("JWT_SECRET", secret()), ("RESTANTE_URL", &url)]);
        command.args(args);
        command
    };
    let mut alice = Socket::open(service.addr, Connect::user("alice")).await;
    let sent = alice.send("bob", "one").await;
    for args in [&["listen", "--user", "bob"][..], &["listen", "--user", "bob", "--json"], &["listen", "--user", "bob", "--read"]] {
        let output = ended(command(args).stdout(full())).await;
        let words = said(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {words}");
        assert!(words.contains("cannot write to stdout: No space left on device"), "{args:?}: {words}");
        assert_eq!(status(&service, "alice", &sent).await, json!("sent"), "{args:?}");
    }
    assert_eq!(ended(command(&["listen", "--user", "bob"]).stdout(closed())).await.status.code(), Some(0));
    assert_eq!(status(&service, "alice", &sent).await, json!("sent"));

    // Nor is what waits for a sender, who is shown nothing of it.
    let output = ended(&mut command(&["send", "--user", "bob", "--to", "alice", "--wait", "sent", "two"])).await;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(status(&service, "alice", &sent).await, json!("sent"));

    let output = ended(&mut command(&["listen", "--user", "bob", "--count", "1"])).await;
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("one"), "{output:?}");
    assert_eq!(status(&service, "alice", &sent).await, json!("delivered"));
    assert_eq!(service.stopped("-TERM").await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_say_where_it_is_ends_and_leaves_no_postgresql_behind() {
    for stdout in [full, closed] {
        let dir = ThrowawayDir::new().unwrap();
        let own = [("DATA_DIR", dir.path().to_str().unwrap()), ("JWT_SECRET", secret()), ("LISTEN_ADDR", "127.0.0.1:0")];
        let output = ended(restante(&own).arg("serve").stdout(stdout())).await;
        let words = said(&output);
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.lines().last().unwrap().starts_with("restante: cannot write to stdout"), "{words}");
        assert_eq!(postmaster(dir.path()), None);
    }
}

#[tokio::test]
async fn a_command_whose_output_is_full_ends_with_a_sentence() {
    let secret = [("JWT_SECRET", secret())];
    for args in [&["token", "ada"][..], &["--help"], &["serve", "--help"], &["--version"]] {
        let output = ended(restante(&secret).args(args).stdout(full())).await;
        let words = said(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {words}");
        assert!(words.starts_with("restante: cannot write to stdout") && words.lines().count() == 1, "{args:?}: {words}");
        // Then the code alone has to tell.
        let output = ended(restante(&secret).args(args).stdout(full()).stderr(full())).await;
        assert_eq!(output.status.code(), Some(1), "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_log_is_full_serves_all_the_same() {
    let dir = ThrowawayDir::new().unwrap();
    let service = Service::start_with(&dir, &[("RUST_LOG", "debug")], full()).await;
    let mut alice = Socket::open(service.addr, Connect::user("alice")).await;
    alice.send("bob", "hello").await;
    assert_eq!(service.stopped("-TERM").await.0, Some(0));
}

/// In a container nobody else takes the processes whose parents have ended.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_process_of_a_container_reaps_what_has_ended() {
    let unshare = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let may = Command::new("unshare").args(unshare).arg("true").output().await;
    if !may.is_ok_and(|output| output.status.success()) {
        println!("skipped: this account may not make a namespace of processes");
        return;
    }
    let dir = ThrowawayDir::new().unwrap();
    let mut service = Service::start_under("unshare", &unshare, &dir).await;
    let first = service.first_child();
    // As its own namespace counts.
    let postmaster = service.postmaster().to_string();
    Command::new("nsenter").args(["--target", &first, "--pid", "--mount", "kill", "-KILL", &postmaster]).status().await.unwrap();
    // It was restarted, which only the keeper does.
    service.logs("the database answers again").await;
    let zombies = || {
        let list = std::process::Command::new("ps").args(["-e", "-o", "stat=,ppid="]).output().unwrap();
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        list.lines().filter(|line| line.starts_with('Z') && line.split_whitespace().nth(1) == Some(&first)).count()
    };
    crate::support::wait_until("no zombie is left", || zombies() == 0).await;
    let mut alice = Socket::open(service.addr, Connect::user("alice")).await;
    alice.send("bob", "hello").await;
    // The signal is for the first process, which passes it on.
    crate::support::kill("-TERM", first.parse().unwrap());
    let (code, rest) = service.end().await;
    assert_eq!(code, Some(0), "{rest}");
    assert!(rest.contains("terminated: stopping"), "{rest}");
}
