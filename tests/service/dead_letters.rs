//! Dead letters: how a message fails across connections and nodes, and how an operator puts it back or discards it, over HTTP and by
//! command. The sender is told of each step, whether it was connected or not.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::fixtures::assert_consistent;
use crate::support::{Api, Connect, Database, Log, Node, Socket, database, number, rows, secret};

const LIST: &str = "/v1/admin/dead-letters";

/// A node whose sessions do not look for themselves: what they learn they were told.
async fn node(db: &Database) -> Node {
    Node::with(db.options(), |config| config.look_interval = Duration::from_secs(3_600)).await
}

/// Sends it and rejects it for good.
async fn fail(sender: &mut Socket, recipient: &mut Socket, to: &str, words: &str) -> Value {
    let sent = sender.send(to, "hello").await;
    let message = recipient.event("message:receive").await;
    assert_eq!(message["messageId"], sent["messageId"]);
    let answer = recipient.ask("message:reject", json!({"messageId": sent["messageId"], "reason": words, "final": true})).await;
    assert_eq!(answer["data"]["status"], "failed", "{answer}");
    let is_told = |frame: &Value| frame["data"]["messageIds"] == json!([sent["messageId"]]);
    let status = sender.wait("its end", is_told).await["data"].take();
    assert_eq!((&status["status"], &status["reason"]), (&json!("failed"), &json!(words)));
    sent
}

fn item(sent: &Value, user: &str) -> Value {
    json!({"items": [{"messageId": sent["messageId"], "userId": user}]})
}

/// The outcome of a request about one item.
async fn outcome(admin: &Api, what: &str, body: Value) -> String {
    let (status, answer) = admin.post(&format!("{LIST}/{what}"), body).await;
    assert_eq!(status, 200, "{answer}");
    answer["results"][0]["outcome"].as_str().unwrap().to_owned()
}

/// The exceptions that the sender is told next.
async fn exceptions(sender: &mut Socket) -> Value {
    let names = |frame: &Value| frame["data"]["except"].as_array().is_some_and(|except| !except.is_empty());
    sender.wait("exceptions", names).await["data"].take()
}

#[tokio::test]
async fn attempts_are_counted_in_the_row_across_connections_and_nodes_until_the_last_fails_it() {
    let db = database().await;
    let pool = db.pool(1).await;
    let nodes = [node(&db).await, node(&db).await];
    let mut anna = nodes[0].connect("anna").await;
    let sent = anna.send("ben", "nobody can read this").await;
    for attempt in 1..=5 {
        let mut ben = nodes[attempt % 2].connect("ben").await;
        let message = ben.event("message:receive").await;
        assert_eq!((&message["messageId"], &message["attempt"]), (&sent["messageId"], &json!(attempt)));
        let answer = ben.ask("message:reject", json!({"messageId": sent["messageId"], "reason": format!("fault {attempt}")})).await;
        assert_eq!(
            (&answer["data"]["attempts"], &answer["data"]["status"]),
            (&json!(attempt), &json!(if attempt < 5 { "sent" } else { "failed" }))
        );
        ben.close().await;
        // A connection that is lost with the message in flight counts nothing.
        if attempt < 5 {
            let mut ben = nodes[attempt % 2].connect("ben").await;
            ben.event("message:receive").await;
            ben.cut();
        }
    }
    let row = &rows(&pool, "ben").await[0];
    assert_eq!((row.status.as_str(), row.attempts, row.reason.as_deref()), ("failed", 5, Some("fault 5")));
    let (_, list) = nodes[0].admin().get(LIST).await;
    let letter = &list["deadLetters"][0];
    assert_eq!((&letter["messageId"], &letter["userId"], &letter["senderId"]), (&sent["messageId"], &json!("ben"), &json!("anna")));
    assert_eq!((&letter["reason"], &letter["lastError"], &letter["attempts"]), (&json!("fault 5"), &json!("fault 5"), &json!(5)));
    assert_consistent(&pool).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test]
async fn only_a_token_with_the_scope_admin_opens_the_dead_letters() {
    let db = database().await;
    let node = node(&db).await;
    let anna = node.api("anna");
    let show = format!("{LIST}/{}", uuid::Uuid::nil());
    for path in [LIST, &show] {
        let (status, answer) = anna.get(path).await;
        assert_eq!((status, &answer["error"]["code"]), (403, &json!("forbidden")), "{path}");
    }
    for what in ["requeue", "discard"] {
        let (status, answer) = anna.post(&format!("{LIST}/{what}"), json!({"items": []})).await;
        assert_eq!((status, &answer["error"]["code"]), (403, &json!("forbidden")), "{what}");
    }
    let bare = reqwest::get(format!("{}{LIST}", node.url())).await.unwrap();
    assert_eq!(bare.status().as_u16(), 401);
    assert_eq!(node.admin().get(LIST).await, (200, json!({"deadLetters": [], "next": null})));
    assert_eq!(node.admin().get(&show).await.0, 404);
    // An operator is no user because of it.
    assert_eq!(number(&db.pool(1).await, "select count(*) from users where external_id = 'operator'").await, 0);
    node.stop().await;
}

#[tokio::test]
async fn dead_letters_are_filtered_and_paged_newest_first() {
    let db = database().await;
    let node = node(&db).await;
    let (mut anna, mut ben, mut cleo) = (node.connect("anna").await, node.connect("ben").await, node.connect("cleo").await);
    let mut failed = Vec::new();
    for n in 0..3 {
        failed.push(fail(&mut anna, &mut ben, "ben", &format!("cannot decode {n}")).await);
    }
    failed.push(fail(&mut ben, &mut cleo, "cleo", "too long").await);
    let ids =
        |list: &Value| -> Vec<Value> { list["deadLetters"].as_array().unwrap().iter().map(|letter| letter["messageId"].clone()).collect() };
    let sent = |places: &[usize]| -> Vec<Value> { places.iter().map(|place| failed[*place]["messageId"].clone()).collect() };
    let admin = node.admin();
    let tomorrow = (time::OffsetDateTime::now_utc() + time::Duration::DAY).date();
    for (query, expected) in [
        (String::new(), &[3, 2, 1, 0][..]),
        ("?sender=anna".to_owned(), &[2, 1, 0]),
        ("?recipient=cleo".to_owned(), &[3]),
        ("?sender=ben&recipient=cleo&reason=too".to_owned(), &[3]),
        ("?sender=anna&recipient=cleo".to_owned(), &[]),
        ("?reason=cannot%20decode%201".to_owned(), &[1]),
        ("?sender=nobody".to_owned(), &[]),
        (format!("?since={tomorrow}T00:00:00Z"), &[]),
        ("?since=2026-01-01T00:00:00Z".to_owned(), &[3, 2, 1, 0]),
    ] {
        let (status, list) = admin.get(&format!("{LIST}{query}")).await;
        assert_eq!((status, ids(&list)), (200, sent(expected)), "{query}");
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let (_, page) = admin.get(&format!("{LIST}?limit=1&sender=anna{after}")).await;
        assert_eq!(ids(&page).len(), 1);
        seen.extend(ids(&page));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, sent(&[2, 1, 0]));
    for bad in ["?after=x", "?limit=0", "?limit=501", "?since=monday", "?sender="] {
        assert_eq!(admin.get(&format!("{LIST}{bad}")).await.1["error"]["code"], "invalid", "{bad}");
    }
    let (_, shown) = admin.get(&format!("{LIST}/{}", failed[0]["messageId"].as_str().unwrap())).await;
    assert_eq!((&shown["content"], &shown["deadLetters"][0]["lastError"]), (&json!("hello"), &json!("cannot decode 0")));
    node.stop().await;
}

#[tokio::test]
async fn a_requeue_reaches_a_recipient_on_another_node_and_the_sender_on_a_third_is_told() {
    let db = database().await;
    let pool = db.pool(1).await;
    let nodes = [node(&db).await, node(&db).await, node(&db).await];
    let (mut anna, mut ben) = (nodes[0].connect("anna").await, nodes[0].connect("ben").await);
    let sent = fail(&mut anna, &mut ben, "ben", "cannot decode").await;
    anna.close().await;
    ben.close().await;
    let (mut anna, mut ben) = (nodes[1].connect("anna").await, nodes[2].connect("ben").await);
    // Takes the receipts of the time in which she was away.
    anna.until_pong().await;

    let admin = nodes[0].admin();
    let (_, answer) = admin.post(&format!("{LIST}/requeue"), item(&sent, "ben")).await;
    assert_eq!(answer["results"][0], json!({"messageId": sent["messageId"], "userId": "ben", "outcome": "requeued", "inboxSeq": 2}));
    let again = ben.event("message:receive").await;
    assert_eq!((&again["messageId"], &again["inboxSeq"], &again["attempt"]), (&sent["messageId"], &json!(2), &json!(1)));
    let told = exceptions(&mut anna).await;
    let expected = json!([{"messageId": sent["messageId"], "status": "sent", "reason": "requeued"}]);
    assert_eq!((&told["userId"], &told["except"]), (&json!("ben"), &expected), "{told}");
    assert_eq!(admin.get(LIST).await.1["deadLetters"], json!([]));
    for (user, why) in [("ben", "not_failed"), ("anna", "no_recipient"), ("nobody", "no_recipient")] {
        assert_eq!(outcome(&admin, "requeue", item(&sent, user)).await, why);
    }
    ben.ack(&again).await;
    assert_consistent(&pool).await;
    // It may fail again, and is listed again.
    let mut anna = nodes[2].connect("anna").await;
    let second = fail(&mut ben, &mut anna, "anna", "no").await;
    assert_eq!(outcome(&admin, "requeue", item(&second, "anna")).await, "requeued");
    let again = anna.event("message:receive").await;
    anna.ask("message:reject", json!({"messageId": again["messageId"], "reason": "still no", "final": true})).await;
    let (_, list) = admin.get(LIST).await;
    assert_eq!((&list["deadLetters"][0]["reason"], &list["deadLetters"][1]), (&json!("still no"), &Value::Null));
    assert!(nodes[0].app().context().metrics.render().contains(r#"restante_dead_letters_total{action="requeued"} 2"#));
    assert_consistent(&pool).await;
    for node in nodes {
        node.stop().await;
    }
}

/// A client still holds what another one of its user has refused for good, and an operator has put back.
#[tokio::test]
async fn a_late_ack_under_the_old_number_settles_what_was_put_back() {
    let db = database().await;
    let pool = db.pool(1).await;
    let node = node(&db).await;
    let mut anna = node.connect("anna").await;
    // With one in flight it does not get it again meanwhile.
    let (mut late, mut hasty) = (node.open(Connect::user("ben").with("window", 1)).await, node.connect("ben").await);
    let sent = fail(&mut anna, &mut hasty, "ben", "cannot decode").await;
    let held = late.event("message:receive").await;
    assert_eq!((&held["messageId"], &held["inboxSeq"]), (&sent["messageId"], &json!(1)));
    hasty.close().await;
    assert_eq!(outcome(&node.admin(), "requeue", item(&sent, "ben")).await, "requeued");
    late.ack(&held).await;
    let delivered = "select count(*) from message_status where seq = 2 and status = 'delivered'";
    assert_eq!(number(&pool, delivered).await, 1);
    let marked = "select count(*) from marks where delivered_seq = 1 and not has_hole and user_id = (select id from users where external_id = 'ben')";
    assert_eq!(number(&pool, marked).await, 1);
    // By marks she is told of the requeue, perhaps only now; the receipt names the message.
    let is_receipt = |frame: &Value| frame["event"] == "message:status" && frame["data"]["messageIds"].is_array();
    let told = anna.wait("the receipt", |frame| is_receipt(frame) && frame["data"]["status"] == "delivered").await;
    assert_eq!(told["data"]["messageIds"], json!([sent["messageId"]]), "{told}");
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn a_sender_that_was_away_is_told_what_was_put_back_and_what_was_given_up() {
    let db = database().await;
    let node = node(&db).await;
    let (mut anna, mut ben) = (node.connect("anna").await, node.connect("ben").await);
    let mut failed = Vec::new();
    for _ in 0..3 {
        failed.push(fail(&mut anna, &mut ben, "ben", "cannot decode").await);
    }
    anna.until_pong().await;
    anna.close().await;
    // Her cursor covers everything so far.
    let mut anna = node.connect("anna").await;
    let frames = anna.until_pong().await;
    let mut cursors = frames.iter().map(|frame| &frame["data"]["marksCursor"]).filter(|cursor| cursor.is_string());
    let known = cursors.next_back().unwrap_or(&anna.ready["marksCursor"]).clone();
    anna.close().await;

    let admin = node.admin();
    assert_eq!(outcome(&admin, "requeue", item(&failed[0], "ben")).await, "requeued");
    assert_eq!(outcome(&admin, "requeue", item(&failed[1], "ben")).await, "requeued");
    let discard = json!({"items": item(&failed[2], "ben")["items"], "reason": "the client is gone"});
    assert_eq!(outcome(&admin, "discard", discard.clone()).await, "discarded");
    assert_eq!(outcome(&admin, "discard", discard).await, "not_failed", "once is enough");
    let again = ben.event("message:receive").await;
    assert_eq!(again["messageId"], failed[0]["messageId"]);
    ben.ack(&again).await;

    let mut anna = node.open(Connect::user("anna").with("marks", known.as_str().unwrap())).await;
    let mut told = exceptions(&mut anna).await["except"].as_array().unwrap().clone();
    told.sort_by_key(|it| failed.iter().position(|sent| sent["messageId"] == it["messageId"]));
    let of = |n: usize, status: &str, reason: &str| json!({"messageId": failed[n]["messageId"], "status": status, "reason": reason});
    assert_eq!(told, [of(0, "delivered", "requeued"), of(1, "sent", "requeued"), of(2, "failed", "the client is gone")]);
    assert_eq!(admin.get(LIST).await.1["deadLetters"], json!([]));
    assert_consistent(&db.pool(1).await).await;
    node.stop().await;
}

#[tokio::test]
async fn a_sender_is_told_where_no_mark_is_told_beside_it_in_large_groups_and_of_members_who_have_left() {
    let db = database().await;
    let node = node(&db).await;
    let mut members: Vec<String> = (0..55).map(|n| format!("member-{n}")).collect();
    members.extend(["ben", "cleo"].map(str::to_owned));
    let (_, crew) = node.api("anna").post("/v1/chats", json!({"kind": "group", "title": "crew", "members": members})).await;
    let (mut anna, mut ben) = (node.connect("anna").await, node.connect("ben").await);
    let sent = anna.ask("message:send", json!({"chatId": crew["chatId"], "content": "to all of you"})).await["data"].take();
    ben.event("message:receive").await;
    ben.ask("message:reject", json!({"messageId": sent["messageId"], "reason": "cannot decode", "final": true})).await;
    let admin = node.admin();
    assert_eq!(outcome(&admin, "requeue", item(&sent, "ben")).await, "requeued");
    let told = exceptions(&mut anna).await;
    let of = |status: &str, reason: &str| json!([{"messageId": sent["messageId"], "status": status, "reason": reason}]);
    assert_eq!((&told["userId"], &told["seq"], &told["except"]), (&json!("ben"), &json!(0), &of("sent", "requeued")));
    let known = told["marksCursor"].as_str().unwrap().to_owned();
    anna.close().await;

    // While she is away one is given up, and another leaves with the message waiting.
    assert_eq!(outcome(&admin, "discard", item(&sent, "ben")).await, "discarded");
    let path = format!("/v1/chats/{}/members", crew["chatId"].as_str().unwrap());
    assert_eq!(node.api("cleo").delete(&path, json!({"userIds": ["cleo"]})).await.0, 200);
    let mut anna = node.open(Connect::user("anna").with("marks", known)).await;
    let mut told = [exceptions(&mut anna).await, exceptions(&mut anna).await].map(|told| (told["userId"].clone(), told["except"].clone()));
    told.sort_by_key(|(user, _)| user.to_string());
    let expected = [(json!("ben"), of("failed", "discarded by an operator")), (json!("cleo"), of("expired", "left"))];
    assert_eq!(told, expected);
    node.stop().await;
}

#[tokio::test]
async fn what_nobody_may_get_any_more_is_not_put_back() {
    let db = database().await;
    let pool = db.pool(1).await;
    let node = node(&db).await;
    let (mut anna, mut ben) = (node.connect("anna").await, node.connect("ben").await);
    let late = fail(&mut anna, &mut ben, "ben", "no").await;
    sqlx::query("update messages set expires_at = clock_timestamp()").execute(&pool).await.unwrap();
    let (_, crew) = node.api("anna").post("/v1/chats", json!({"kind": "group", "title": "crew", "members": ["ben"]})).await;
    let sent = anna.ask("message:send", json!({"chatId": crew["chatId"], "content": "for the crew"})).await["data"].take();
    ben.event("message:receive").await;
    ben.ask("message:reject", json!({"messageId": sent["messageId"], "reason": "no", "final": true})).await;
    let members = format!("/v1/chats/{}/members", crew["chatId"].as_str().unwrap());
    assert_eq!(node.api("ben").delete(&members, json!({"userIds": ["ben"]})).await.0, 200);
    let admin = node.admin();
    assert_eq!(outcome(&admin, "requeue", item(&late, "ben")).await, "expired");
    assert_eq!(outcome(&admin, "requeue", item(&sent, "ben")).await, "left");
    let (status, refused) = admin.post(&format!("{LIST}/requeue"), json!({"items": [{"messageId": "x", "userId": "ben"}]})).await;
    assert_eq!((status, &refused["error"]["message"]), (400, &json!("`items[0]` is wrong: `messageId` must be a UUID")));
    node.stop().await;
}

#[tokio::test]
async fn whatever_an_operator_does_leaves_a_line_with_who_did_what_and_no_content() {
    let log = Log::of_this_thread();
    let db = database().await;
    let node = node(&db).await;
    let (mut anna, mut ben) = (node.connect("anna").await, node.connect("ben").await);
    let sent = fail(&mut anna, &mut ben, "ben", "cannot decode").await;
    let (admin, id) = (node.admin(), sent["messageId"].as_str().unwrap());
    admin.get(LIST).await;
    admin.get(&format!("{LIST}/{id}")).await;
    outcome(&admin, "requeue", item(&sent, "ben")).await;
    outcome(&admin, "discard", item(&sent, "ben")).await;
    let lines: Vec<String> = log.take().into_iter().map(|line| line.fields).filter(|line| line.contains("admin.id=operator")).collect();
    for (action, rest) in [
        ("list", "items=1".to_owned()),
        ("show", format!("message.id={id}")),
        ("requeue", "outcome=\"requeued\"".to_owned()),
        ("discard", "outcome=\"discarded\"".to_owned()),
    ] {
        let action = format!("action=\"{action}\"");
        let found = lines.iter().filter(|line| line.contains(&action) && line.contains(&rest));
        assert_eq!(found.count(), 1, "{action} {rest}: {lines:#?}");
    }
    assert!(lines.iter().all(|line| !line.contains("hello")));
    node.stop().await;
}

/// `restante dead-letters` with these words. Without a node's address it works on the database.
async fn command(db: &Database, url: Option<&str>, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restante"));
    command.arg("dead-letters").args(words).current_dir(std::env::temp_dir()).env_remove("RESTANTE_TOKEN").env_remove("RESTANTE_URL");
    command.env("JWT_SECRET", secret());
    match url {
        Some(url) => command.args(["--url", url]),
        None => command.env("DATABASE_URL", db.url()),
    };
    command.output().await.unwrap()
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[tokio::test]
async fn the_command_does_the_same_through_a_service_and_on_the_database() {
    let db = database().await;
    let node = node(&db).await;
    let url = node.url();
    for through in [Some(url.as_str()), None] {
        let (mut anna, mut ben) = (node.connect("anna").await, node.connect("ben").await);
        let mut failed = Vec::new();
        for n in 0..3 {
            failed.push(fail(&mut anna, &mut ben, "ben", &format!("cannot decode {n}")).await["messageId"].as_str().unwrap().to_owned());
        }
        let run = async |words: &[&str]| said(&command(&db, through, words).await);
        let (code, list) = run(&["list"]).await;
        assert_eq!((code, list.lines().count()), (Some(0), 3), "{list}");
        assert!(list.contains(&failed[0]) && list.contains("anna → ben  1 attempt  cannot decode 0"), "{list}");
        let (_, list) = run(&["list", "--json", "--limit", "2", "--reason", "cannot decode", "--since", "1h"]).await;
        let newest: Value = serde_json::from_str(list.lines().next().unwrap()).unwrap();
        assert_eq!((&newest["messageId"], &newest["attempts"], list.contains("there are more")), (&json!(failed[2]), &json!(1), true));
        let (code, shown) = run(&["show", &failed[1]]).await;
        assert!(code == Some(0) && shown.contains("\"hello\"") && shown.contains("last error  cannot decode 1"), "{shown}");

        // One by its id, the rest by a filter and their number.
        assert_eq!(run(&["requeue", &failed[1], "--recipient", "ben"]).await, (Some(0), "1 of 1 requeued\n".to_owned()));
        let message = ben.event("message:receive").await;
        assert_eq!(message["messageId"], failed[1]);
        ben.ack(&message).await;
        let (code, asked) = run(&["requeue", "--sender", "anna"]).await;
        assert_eq!((code, asked.as_str()), (Some(0), "2 in all. To go on, repeat with --confirm 2\n"));
        let (code, refused) = run(&["discard", "--all", "--confirm", "3"]).await;
        assert_eq!((code, refused.as_str()), (Some(1), "restante: there are 2, not 3: nothing was done\n"));
        assert_eq!(run(&["requeue"]).await.0, Some(2), "everything has to be said");
        assert_eq!(run(&["requeue", "--all", "--confirm", "2"]).await, (Some(0), "2 of 2 requeued\n".to_owned()));
        // In the order in which they failed.
        for id in [&failed[0], &failed[2]] {
            let message = ben.event("message:receive").await;
            assert_eq!(message["messageId"], *id);
            ben.ask("message:reject", json!({"messageId": id, "reason": "again", "final": true})).await;
        }
        let discarded = run(&["discard", "--reason", "again", "--confirm", "2", "--words", "enough"]).await;
        assert_eq!(discarded, (Some(0), "2 of 2 discarded\n".to_owned()));
        assert_eq!(run(&["list"]).await, (Some(0), String::new()));
        assert_eq!(run(&["show", &failed[0]]).await.0, Some(1));
        let told = anna.wait("enough", |frame| frame["data"]["except"].to_string().contains("enough")).await;
        assert_eq!(told["data"]["except"][0]["status"], "failed");
        anna.close().await;
        ben.close().await;
    }
    assert_consistent(&db.pool(1).await).await;
    node.stop().await;
}

#[tokio::test]
async fn a_token_is_made_with_a_scope_and_one_without_it_is_refused_by_the_service() {
    let db = database().await;
    let node = node(&db).await;
    let token = |words: &'static [&'static str]| async move {
        let output = Command::new(env!("CARGO_BIN_EXE_restante"))
            .args(words)
            .current_dir(std::env::temp_dir())
            .env("JWT_SECRET", secret())
            .env_remove("DATABASE_URL")
            .output()
            .await
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (plain, scoped) = (token(&["token", "carol"]).await, token(&["token", "carol", "--scope", "admin"]).await);
    let url = node.url();
    assert_eq!(said(&command(&db, Some(&url), &["list", "--token", &scoped]).await), (Some(0), String::new()));
    let (code, refused) = said(&command(&db, Some(&url), &["list", "--token", &plain]).await);
    assert!(code == Some(4) && refused.contains("forbidden"), "{code:?} {refused}");
    node.stop().await;
}
