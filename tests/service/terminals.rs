//! Text that strangers chose, on its way to a person's terminal: commands show it, and neither a line nor the terminal obeys it.

use std::process::Output;

use restante::domain::printable;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;
use uuid::Uuid;

use crate::support::{Connect, Node, PATIENCE, admin_token, database, token};

/// Ends lines in every way, drives terminals in every way, and turns text round.
const HOSTILE: &str =
    "x\x1b[2J\x1b]0;owned\x07\nforged\rforged\u{85}forged\u{2028}forged\u{2029}forged\u{9b}2J\u{7f}\u{61c}\u{200e}\u{200f}\u{202e}\u{2066}";

/// A command of the program against this node, with this token.
async fn restante(node: &Node, token: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restante"));
    command.args(args).args(["--url", &node.url(), "--token", token]).env("NO_COLOR", "1").kill_on_drop(true);
    timeout(PATIENCE, command.output()).await.unwrap_or_else(|_| panic!("{args:?} takes too long")).unwrap()
}

/// Both outputs, after a look at each of their lines.
fn harmless(output: &Output, what: &str) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let text = String::from_utf8(text).unwrap();
    for line in text.split('\n') {
        assert_eq!(line, printable(line), "{what}");
        assert!(!line.trim_start().starts_with("forged"), "{what}: {text}");
    }
    text
}

/// The values of lines of JSON.
fn values(output: &Output) -> Vec<Value> {
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn names_titles_types_and_reasons_are_shown_on_one_line_and_not_obeyed() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mallory = node.api(HOSTILE);
    let (status, chat) = mallory.post("/v1/chats", json!({"kind": "group", "title": HOSTILE, "members": ["bob"]})).await;
    assert_eq!(status, 201, "{chat}");
    let say = async || {
        let id = Uuid::now_v7().to_string();
        let message = json!({"chatId": chat["chatId"], "messageId": id, "content": HOSTILE, "messageType": HOSTILE, "metadata": {HOSTILE: [HOSTILE]}});
        assert_eq!(mallory.post("/v1/messages", message).await.0, 200);
        id
    };

    say().await;
    let text = harmless(&restante(&node, &token("bob"), &["listen", "--device", HOSTILE, "--count", "1"]).await, "listen");
    assert!(text.contains("⏎forged"), "{text}");
    say().await;
    let frames = restante(&node, &token("bob"), &["listen", "--json", "--count", "1"]).await;
    harmless(&frames, "listen --json");
    let received = values(&frames).into_iter().find(|frame| frame["event"] == "message:receive").unwrap();
    assert_eq!((&received["data"]["content"], &received["data"]["metadata"]), (&json!(HOSTILE), &json!({HOSTILE: [HOSTILE]})));

    let event = json!({"type": HOSTILE, "data": {HOSTILE: HOSTILE}, "to": {"users": ["bob"]}});
    let (status, published) = node.publisher("mallory").post("/v1/events", event).await;
    assert_eq!(status, 200, "{published}");
    let text = harmless(&restante(&node, &token("bob"), &["listen", "--device", "tv", "--count", "1"]).await, "listen to events");
    assert!(text.contains("⏎forged") && text.contains("event"), "{text}");

    let failing = say().await;
    let mut bob = node.open(Connect::user("bob").device(&"d".repeat(64))).await;
    let rejected = bob.ask("message:reject", json!({"messageId": failing, "reason": HOSTILE, "final": true})).await;
    assert_eq!(rejected["data"]["status"], "failed", "{rejected}");
    bob.close().await;
    for args in [&["dead-letters", "list"][..], &["dead-letters", "show", &failing]] {
        let text = harmless(&restante(&node, &admin_token(), args).await, args[1]);
        assert!(text.contains("⏎forged"), "{text}");
    }
    for args in [&["dead-letters", "list", "--json"][..], &["dead-letters", "show", &failing, "--json"]] {
        let output = restante(&node, &admin_token(), args).await;
        harmless(&output, &args.join(" "));
        assert!(values(&output)[0].to_string().contains("\u{202e}"), "the value is as it was");
    }
    harmless(&restante(&node, &admin_token(), &["dead-letters", "requeue", &failing]).await, "requeue");
    // An error that quotes what it was given.
    for args in [&["send", "--to", HOSTILE, "--wait", "sent", "x"][..], &["send", "--chat", &failing, "--wait", "sent", HOSTILE]] {
        harmless(&restante(&node, &token(HOSTILE), args).await, "send");
    }
    harmless(&restante(&node, HOSTILE, &["listen"]).await, "listen with what is no token");
    let (_, metrics) = mallory.get("/metrics").await;
    let metrics = metrics.as_str().unwrap();
    assert!(metrics.lines().all(|line| line == printable(line)) && !metrics.contains("forged"), "{metrics}");
    node.stop().await;
}

/// The first line of what is told to a person is the whole of it, whatever the other end says.
#[tokio::test]
async fn words_of_another_server_are_shown_and_not_obeyed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let body = json!({"error": {"code": HOSTILE, "message": HOSTILE}}).to_string();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let head = format!("HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    let url = format!("http://{addr}");
    let commands: [&[&str]; 3] = [&["listen"], &["send", "--to", "bob", "x"], &["dead-letters", "list"]];
    for args in commands {
        let mut command = Command::new(env!("CARGO_BIN_EXE_restante"));
        command.args(args).args(["--url", &url, "--token", &token("bob")]).env("NO_COLOR", "1").kill_on_drop(true);
        let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        assert!(harmless(&output, args[0]).contains("⏎forged"), "{output:?}");
    }
}
