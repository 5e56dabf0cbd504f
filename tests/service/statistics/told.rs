//! The figures that operators and publishers are told: over HTTP, and by the command.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::{ends, figures, of_the_queue, run};
use crate::nodes::two_nodes;
use crate::support::fixtures::assert_consistent;
use crate::support::{Api, Connect, Node, PATIENCE, admin_token, database, direct, number, secret, until_true, users};

const PATH: &str = "/v1/admin/statistics";

/// Waits until a node has counted all that happened.
async fn counted(pool: &PgPool) {
    until_true(pool, "select not exists (select from statistics_journal)").await;
}

/// The groups of an answer.
async fn groups(admin: &Api, query: &str) -> Vec<Value> {
    let (status, answer) = admin.get(&format!("{PATH}?{query}")).await;
    assert_eq!(status, 200, "{answer}");
    answer["groups"].as_array().unwrap().clone()
}

/// The sum of a figure over all groups.
fn sum(groups: &[Value], figure: &str) -> u64 {
    groups.iter().map(|group| group[figure].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn what_is_sent_acked_read_and_ended_is_told_by_class_by_type_and_by_hour() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(2).await);
    let (anna, ben, admin, shop) = (node.api("anna"), node.api("ben"), node.admin(), node.publisher("shop"));
    ben.get("/v1/inbox").await;
    let mut sent = Vec::new();
    for (n, kind) in ["text", "text", "image", "text", "text"].into_iter().enumerate() {
        let (status, answer) = anna.post("/v1/messages", json!({"to": "ben", "content": n.to_string(), "messageType": kind})).await;
        assert_eq!(status, 200, "{answer}");
        sent.push(answer);
    }
    let chat = sent[0]["chatId"].as_str().unwrap();
    assert_eq!(ben.post("/v1/inbox/ack", json!({"upTo": 2})).await.0, 200);
    assert_eq!(ben.post(&format!("/v1/chats/{chat}/read"), json!({"messageId": sent[2]["messageId"]})).await.0, 200);
    let reject = json!({"messageId": sent[3]["messageId"], "reason": "no", "final": true});
    assert_eq!(ben.post("/v1/inbox/reject", reject).await.0, 200);
    let item = json!({"items": [{"messageId": sent[3]["messageId"], "userId": "ben"}]});
    assert_eq!(admin.post("/v1/admin/dead-letters/requeue", item).await.1["results"][0]["outcome"], "requeued");
    assert_eq!(anna.post(&format!("/v1/messages/{}/recall", sent[4]["messageId"].as_str().unwrap()), json!({})).await.0, 200);
    let event = json!({"type": "new_post", "to": {"everyone": true}, "ttlMs": 1000});
    assert_eq!(shop.post("/v1/events", event).await.0, 200);
    ben.get("/v1/inbox?class=event").await;
    until_true(&pool, "select exists (select from message_status where ended = 'expired')").await;
    counted(&pool).await;

    let by_class = groups(&admin, "").await;
    let chat = json!({"class": "chat", "accepted": 5, "recipients": 5, "delivered": 3, "read": 3, "ended": {"failed": 1, "recalled": 1, "requeued": 1}});
    let [of_chat, of_events] = by_class.try_into().unwrap();
    for (field, value) in chat.as_object().unwrap() {
        // The notice of a recall is a message, too.
        let expected = if field == "accepted" { json!(6) } else { value.clone() };
        assert_eq!(of_chat[field], expected, "{of_chat}");
    }
    let times = &of_chat["timeToDeliveryMs"];
    assert!(times["p50"].as_f64() > Some(0.0) && times["p50"].as_f64() <= times["p99"].as_f64(), "{times}");
    assert_eq!(
        (&of_events["class"], &of_events["accepted"], &of_events["recipients"], &of_events["ended"], &of_events["timeToDeliveryMs"]),
        (&json!("event"), &json!(1), &json!(1), &json!({"expired": 1}), &Value::Null)
    );
    let by_type = groups(&admin, "by=type").await;
    let accepted = |name: &str| by_type.iter().find(|group| group["type"] == name).map(|group| group["accepted"].clone());
    assert_eq!([accepted("text"), accepted("image"), accepted("new_post")], [Some(json!(4)), Some(json!(1)), Some(json!(1))]);
    for by in ["class", "type", "hour"] {
        let groups = groups(&admin, &format!("by={by}")).await;
        assert_eq!([sum(&groups, "accepted"), sum(&groups, "delivered"), sum(&groups, "read")], [7, 3, 3], "{by}");
    }
    assert!(groups(&admin, "from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z").await.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn groups_are_paged_and_the_answer_says_how_far_it_is_true() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    for kind in ["a", "b", "c", "d", "e"] {
        node.api("anna").post("/v1/messages", json!({"to": "ben", "content": "x", "messageType": kind})).await;
    }
    let sent: time::OffsetDateTime = sqlx::query_scalar("select clock_timestamp()").fetch_one(&pool).await.unwrap();
    counted(&pool).await;
    let (mut after, mut types) = (String::new(), Vec::new());
    loop {
        let (_, page) = node.admin().get(&format!("{PATH}?by=type&limit=2{after}")).await;
        let as_of = time::OffsetDateTime::parse(page["asOf"].as_str().unwrap(), &time::format_description::well_known::Rfc3339).unwrap();
        assert!(as_of > sent - time::Duration::milliseconds(1), "{page}");
        assert!(page["groups"].as_array().unwrap().len() <= 2);
        types.extend(page["groups"].as_array().unwrap().iter().map(|group| group["type"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(types, ["a", "b", "c", "d", "e"]);
    node.stop().await;
}

#[tokio::test]
async fn a_question_that_cannot_be_answered_is_refused_with_what_is_wrong_and_only_admins_may_ask() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let admin = node.admin();
    for (query, words) in [
        ("by=user", "class, type or hour"),
        ("from=yesterday", "`from`"),
        ("to=2026-13-01T00:00:00Z", "`to`"),
        ("limit=0", "1 to 1000"),
        ("limit=1001", "1 to 1000"),
        ("limit=many", "whole number"),
        ("from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z", "before"),
        ("from=2026-10-01T00:00:00Z&to=2026-11-29T00:00:00Z", "31 days"),
        ("from=9999-12-31T23:00:00Z&to=9999-12-31T23:30:00Z", "calendar"),
    ] {
        let (status, answer) = admin.get(&format!("{PATH}?{query}")).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("invalid")), "{query}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{query}: {answer}");
    }
    assert_eq!(admin.get(&format!("{PATH}?by=type&after=%00&limit=1")).await.1["error"]["code"], "invalid", "no text of the database");
    let event = format!("{PATH}/events/{}", Uuid::now_v7());
    for (api, expected) in [(node.api("anna"), (403, 403)), (node.publisher("shop"), (403, 403)), (admin, (200, 404))] {
        assert_eq!((api.get(PATH).await.0, api.get(&event).await.0), expected);
    }
    assert_eq!(node.admin().get(&format!("{PATH}/events/x")).await.0, 400);
    let bare = reqwest::Client::new().request(Method::GET, format!("{}{PATH}", node.url())).send().await.unwrap();
    assert_eq!(bare.status(), 401);
    node.stop().await;
}

#[tokio::test]
async fn the_figures_of_an_event_are_those_of_its_rows_for_its_publisher_and_for_admins() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(2).await);
    let shop = node.publisher("shop");
    let names: Vec<String> = (0..30).map(|n| format!("user-{n}")).collect();
    users(&pool, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let event = Uuid::now_v7().to_string();
    let published = json!({"eventId": event, "type": "new_post", "to": {"everyone": true}, "ttlMs": 3_600_000});
    assert_eq!(shop.post("/v1/events", published).await.0, 200);
    for name in &names[..20] {
        node.api(name).get("/v1/inbox?class=event").await;
    }
    for name in &names[..12] {
        assert_eq!(node.api(name).post("/v1/inbox/ack", json!({"messageIds": [event], "class": "event"})).await.0, 200);
    }
    run(&pool, &format!("update messages set expires_at = clock_timestamp() where id = '{event}'")).await;
    until_true(&pool, "select count(*) = 8 from message_status where ended = 'expired'").await;
    counted(&pool).await;
    let (status, progress) = shop.get(&format!("/v1/events/{event}")).await;
    let figures = &progress["figures"];
    assert_eq!(
        (status, &figures["recipients"], &figures["delivered"], &figures["read"], &figures["ended"]),
        (200, &json!(20), &json!(12), &json!(0), &json!({"expired": 8})),
        "{progress}"
    );
    assert_eq!((&figures["delivered"], &figures["recipients"]), (&progress["delivered"], &progress["written"]), "as the rows are counted");
    assert!(figures["firstDeliveredAt"].as_str() <= figures["lastDeliveredAt"].as_str() && figures["firstDeliveredAt"].is_string());
    let (status, mut of_admin) = node.admin().get(&format!("{PATH}/events/{event}")).await;
    assert_eq!((status, of_admin["eventId"].take()), (200, json!(event)));
    assert_eq!(of_admin["timeToDeliveryMs"], figures["timeToDeliveryMs"]);
    assert_eq!(node.api("user-1").get(&format!("/v1/events/{event}")).await.0, 404, "another user sees none");
    assert_eq!(number(&pool, "select count(*) from event_statistics").await, 1);
    node.stop().await;
}

#[tokio::test]
async fn what_feeds_collapse_cap_mute_and_fan_out_make_of_events_is_counted_with_each_row() {
    let db = database().await;
    let (node, pool) = (Node::with(db.options(), |config| config.events_max = 20).await, db.pool(2).await);
    let (shop, ben, cleo) = (node.publisher("shop"), node.api("ben"), node.api("cleo"));
    for api in [&ben, &cleo] {
        api.get("/v1/inbox").await;
    }
    assert_eq!(cleo.request(Method::PUT, "/v1/preferences").json(&json!({"mutedTypes": ["like"]})).send().await.unwrap().status(), 200);
    let publish = async |event: Value| assert_eq!(shop.post("/v1/events", event).await.0, 200);
    for n in 0..3 {
        publish(json!({"type": "new_post", "data": n, "to": {"everyone": true}, "collapseKey": "k"})).await;
        ben.get("/v1/inbox?class=event").await;
    }
    publish(json!({"type": "like", "to": {"users": ["ben", "cleo"]}})).await;
    publish(json!({"events": [{"type": "hi", "to": {"users": ["ben"]}, "collapseKey": "x"}, {"type": "hi", "to": {"users": ["ben"]}, "collapseKey": "x"}]})).await;
    let many: Vec<String> = (0..700).map(|n| format!("user-{n}")).collect();
    publish(json!({"type": "many", "to": {"users": many}})).await;
    until_true(&pool, "select count(*) = 0 from fan_out_recipients").await;
    for n in 0..40 {
        publish(json!({"type": "much", "data": n, "to": {"users": ["ben"]}})).await;
    }
    until_true(&pool, "select exists (select from message_status where ended = 'capped')").await;
    counted(&pool).await;
    until_true(&pool, "select not exists (select from statistics_journal)").await;
    let [accepted, recipients, delivered, read, ended] = figures(&pool).await;
    assert_eq!([accepted, recipients, delivered, read], of_the_queue(&pool).await[..4]);
    let reasons = ends(&pool).await;
    assert!(["event superseded", "event capped"].iter().all(|reason| reasons.iter().any(|end| end.starts_with(reason))), "{reasons:?}");
    assert!(ended > 0 && recipients > 700, "{recipients}");
    node.stop().await;
}

#[tokio::test]
async fn what_many_do_at_two_nodes_is_counted_once() {
    let (_db, one, other, pool) = two_nodes().await;
    let nodes = [one, other];
    let chat = direct(&pool, "anna", "ben").await;
    let (mut anna, mut ben) = (nodes[0].connect("anna").await, nodes[1].open(Connect::user("ben").device("phone")).await);
    for n in 0..20 {
        anna.send("ben", &n.to_string()).await;
    }
    let received = ben.receive(20).await;
    for envelope in &received {
        ben.ask("message:delivered", json!({"messageId": envelope["messageId"]})).await;
    }
    ben.ask("message:read", json!({"chatId": chat, "seq": 20})).await;
    counted(&pool).await;
    assert_eq!(figures(&pool).await, [20, 20, 20, 20, 0]);
    assert_eq!(figures(&pool).await, of_the_queue(&pool).await);
    let held = nodes.iter().map(|node| node.app().context().metrics.job_held.of("statistics").get()).sum::<i64>();
    assert_eq!(held, 1, "one node counts");
    assert_consistent(&pool).await;
    for node in nodes {
        node.stop().await;
    }
}

/// Runs `restante statistics`, with a service or with the database.
async fn command(settings: &[(&str, &str)], args: &[&str]) -> std::process::Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_restante"));
    command.arg("statistics").args(args).current_dir(std::env::temp_dir()).env_remove("RESTANTE_TOKEN").env_remove("RESTANTE_URL");
    command.envs(settings.iter().copied()).env("NO_COLOR", "1").kill_on_drop(true);
    tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_command_shows_the_same_from_a_service_and_from_the_database() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    node.api("anna").post("/v1/messages", json!({"to": "ben", "content": "x", "messageType": "a\u{1b}[2Jb"})).await;
    node.api("ben").post("/v1/inbox/ack", json!({"upTo": 1})).await;
    let event = Uuid::now_v7().to_string();
    let published = json!({"eventId": event, "type": "hi", "to": {"users": ["ben"]}});
    assert_eq!(node.publisher("shop").post("/v1/events", published).await.0, 200);
    counted(&pool).await;
    let (url, token, database) = (node.url(), admin_token(), sqlx::ConnectOptions::to_url_lossy(&db.options()).to_string());
    let backends = [
        vec![("RESTANTE_URL", url.as_str()), ("RESTANTE_TOKEN", token.as_str())],
        vec![("DATABASE_URL", database.as_str()), ("JWT_SECRET", secret())],
    ];
    let mut shown = Vec::new();
    for settings in &backends {
        let lines = async |args: &[&str]| {
            let output = command(settings, args).await;
            assert!(output.status.success(), "{args:?}: {output:?}");
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(!text.contains('\u{1b}'), "{text}");
            text
        };
        let table = lines(&["--by", "type"]).await;
        assert!(table.starts_with("type ") && table.lines().count() == 3, "{table}");
        let json = lines(&["--json", "--from", "24h"]).await;
        let chat: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        assert_eq!((&chat["class"], &chat["accepted"], &chat["delivered"]), (&json!("chat"), &json!(1), &json!(1)));
        let of_event = lines(&["--event", &event]).await;
        assert!(of_event.starts_with("recipients       1\n"), "{of_event}");
        shown.push([table, json, of_event]);
        let long = command(settings, &["--from", "40d"]).await;
        assert!(!long.status.success() && String::from_utf8_lossy(&long.stderr).contains("31 days"), "{long:?}");
        assert!(!command(settings, &["--event", &Uuid::now_v7().to_string()]).await.status.success());
    }
    assert_eq!(shown[0], shown[1]);
    node.stop().await;
}
