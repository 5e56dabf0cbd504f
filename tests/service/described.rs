//! A walk through everything under HTTP: each operation is answered as it is described, with each of its statuses of success. Refusals of
//! every kind are asked for as JSON and as problems.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::{Api, Connect, Node, PATIENCE, database, described, told, until_true};

/// The operations that were asked for, and their answers.
#[derive(Default)]
struct Walk {
    seen: BTreeSet<String>,
}

impl Walk {
    /// Asks, and holds the answer against its description.
    async fn ask(&mut self, api: &Api, method: &str, path: &str, body: Value) -> Value {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let (status, answer) = api.told(method.clone(), path, Some(body).filter(|body| !body.is_null())).await;
        let operation = described::operation(method.as_str(), path).unwrap_or_else(|| panic!("{method} {path} is not described"));
        self.seen.insert(format!("{} {operation} {status}", method.as_str().to_lowercase()));
        assert!(status < 300, "{method} {path} is answered {status}: {answer}");
        answer
    }
}

fn id(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

#[tokio::test]
async fn every_operation_is_answered_as_described() {
    let db = database().await;
    let node = Node::with(db.options(), |config| {
        config.accounts = true;
        config.password_memory_kib = 64;
    });
    let node = node.await;
    let mut walk = Walk::default();
    messages(&mut walk, &node).await;
    chats(&mut walk, &node).await;
    people(&mut walk, &node).await;
    feeds(&mut walk, &node).await;
    let pool = db.pool(1).await;
    invitations(&mut walk, &node, &pool).await;
    until_true(&pool, "select exists (select from event_statistics)").await;
    operators(&mut walk, &node).await;
    streams(&mut walk, &node).await;
    accounts(&mut walk, &node).await;
    assert_eq!(walk.seen, described::successes());
    node.stop().await;
}

async fn accounts(walk: &mut Walk, node: &Node) {
    let (erna, mine) = (node.api("erna"), json!({"userId": "erna", "password": "a sentence of mine"}));
    walk.ask(&erna, "POST", "/v1/accounts", mine.clone()).await;
    let begun = walk.ask(&erna, "POST", "/v1/accounts/login", mine).await;
    let renewed = walk.ask(&erna, "POST", "/v1/accounts/refresh", json!({"refreshToken": begun["refreshToken"]})).await;
    walk.ask(&erna, "POST", "/v1/accounts/password", json!({"password": "a sentence of mine", "newPassword": "another sentence"})).await;
    walk.ask(&erna, "POST", "/v1/accounts/logout", json!({"refreshToken": renewed["refreshToken"]})).await;
    walk.ask(&erna, "POST", "/v1/accounts/logout-everywhere", Value::Null).await;
}

async fn messages(walk: &mut Walk, node: &Node) {
    let (anna, ben) = (node.api("anna"), node.api("ben"));
    let sent = walk.ask(&anna, "POST", "/v1/messages", json!({"to": "ben", "content": "one", "metadata": {"a": [1]}})).await;
    let other = walk.ask(&anna, "POST", "/api/messages/send", json!({"to": "ben", "content": "two"})).await;
    let (chat, first, second) = (id(&sent["chatId"]), id(&sent["messageId"]), id(&other["message"]["messageId"]));
    walk.ask(&ben, "GET", "/v1/inbox", Value::Null).await;
    walk.ask(&ben, "POST", "/v1/inbox/ack", json!({"messageId": first})).await;
    walk.ask(&anna, "POST", &format!("/v1/messages/{first}/recall"), Value::Null).await;
    let inbox = walk.ask(&ben, "GET", "/v1/inbox?class=chat&limit=500&after=0", Value::Null).await;
    assert!(inbox["messages"].as_array().unwrap().iter().any(|item| item["recallId"].is_string()), "{inbox}");
    walk.ask(&ben, "POST", "/v1/inbox/reject", json!({"messageId": second, "reason": "no", "final": true})).await;
    walk.ask(&anna, "GET", &format!("/v1/messages/{second}/status"), Value::Null).await;
    walk.ask(&ben, "GET", &format!("/v1/chats/{chat}/messages?limit=200"), Value::Null).await;
    walk.ask(&ben, "POST", "/api/messages/read", json!({"chatId": chat, "messageId": second})).await;
    walk.ask(&ben, "PATCH", "/api/messages/read", json!({"chatId": chat})).await;
    walk.ask(&ben, "POST", &format!("/v1/chats/{chat}/read"), json!({"seq": 1})).await;
    walk.ask(&anna, "POST", "/v1/chats", json!({"kind": "direct", "members": ["ben"]})).await;
    walk.ask(&anna, "GET", "/v1/presence?userIds=ben,cleo", Value::Null).await;
    walk.ask(&ben, "PUT", "/v1/preferences", json!({"mutedTypes": ["like"], "mutedChats": [chat]})).await;
    walk.ask(&ben, "GET", "/v1/preferences", Value::Null).await;
}

async fn chats(walk: &mut Walk, node: &Node) {
    let anna = node.api("anna");
    let made = walk.ask(&anna, "POST", "/v1/chats", json!({"kind": "group", "title": "crew", "members": ["ben", "cleo"]})).await;
    let chat = id(&made["chatId"]);
    walk.ask(&anna, "GET", "/v1/chats", Value::Null).await;
    walk.ask(&anna, "GET", &format!("/v1/chats/{chat}?limit=1"), Value::Null).await;
    walk.ask(&anna, "POST", &format!("/v1/chats/{chat}/members"), json!({"userIds": ["dora"]})).await;
    walk.ask(&anna, "DELETE", &format!("/v1/chats/{chat}/members"), json!({"userIds": ["cleo"]})).await;
    walk.ask(&anna, "POST", &format!("/v1/chats/{chat}/leave"), Value::Null).await;
}

async fn people(walk: &mut Walk, node: &Node) {
    let (cleo, dora) = (node.api("cleo"), node.api("dora"));
    walk.ask(&cleo, "POST", "/v1/contacts", json!({"userId": "dora"})).await;
    walk.ask(&dora, "GET", "/v1/contacts?state=incoming", Value::Null).await;
    walk.ask(&dora, "POST", "/v1/contacts/decline", json!({"userId": "cleo"})).await;
    walk.ask(&cleo, "POST", "/v1/contacts", json!({"userId": "dora"})).await;
    walk.ask(&dora, "POST", "/v1/contacts/accept", json!({"userId": "cleo"})).await;
    walk.ask(&cleo, "DELETE", "/v1/contacts", json!({"userId": "dora"})).await;
    walk.ask(&cleo, "POST", "/v1/blocks", json!({"userId": "dora"})).await;
    walk.ask(&cleo, "GET", "/v1/blocks?limit=500", Value::Null).await;
    walk.ask(&cleo, "DELETE", "/v1/blocks", json!({"userId": "dora"})).await;
}

/// Where everybody writes to everybody only an application invites.
async fn invitations(walk: &mut Walk, node: &Node, pool: &PgPool) {
    let anna = node.api("anna");
    let chat = id(&walk.ask(&anna, "POST", "/v1/chats", json!({"kind": "group", "members": []})).await["chatId"]);
    for (user, verb) in [("eve", "accept"), ("finn", "decline")] {
        let invited = sqlx::query("select restante_invite($1::uuid, 'anna', array[$2])").bind(chat.parse::<Uuid>().unwrap()).bind(user);
        invited.execute(pool).await.unwrap();
        walk.ask(&node.api(user), "GET", "/v1/invitations", Value::Null).await;
        walk.ask(&anna, "GET", &format!("/v1/chats/{chat}/invitations"), Value::Null).await;
        walk.ask(&node.api(user), "POST", &format!("/v1/invitations/{verb}"), json!({"chatId": chat})).await;
    }
}

async fn feeds(walk: &mut Walk, node: &Node) {
    let (shop, ben) = (node.publisher("shop"), node.api("ben"));
    let feed = id(&walk.ask(&shop, "POST", "/v1/feeds", json!({"title": "news"})).await["feedId"]);
    let publishers = json!({"userIds": ["anna"]});
    walk.ask(&shop, "POST", &format!("/v1/feeds/{feed}/publishers"), publishers.clone()).await;
    walk.ask(&shop, "DELETE", &format!("/v1/feeds/{feed}/publishers"), publishers).await;
    walk.ask(&ben, "POST", &format!("/v1/feeds/{feed}/follow"), Value::Null).await;
    for path in [format!("/v1/feeds/{feed}"), format!("/v1/feeds/{feed}/followers"), "/v1/feeds?role=publisher".to_owned()] {
        walk.ask(&shop, "GET", &path, Value::Null).await;
    }
    for target in [json!({"feed": feed}), json!({"users": ["ben"]}), json!({"everyone": true})] {
        let event = json!({"type": "new_post", "data": {"likes": 1}, "to": target, "collapseKey": "k", "merge": {"likes": "sum"}});
        let published = walk.ask(&shop, "POST", "/v1/events", event.clone()).await;
        walk.ask(&shop, "GET", &format!("/v1/events/{}", id(&published["eventId"])), Value::Null).await;
        let results = walk.ask(&shop, "POST", "/v1/events", json!({"events": [event, {"type": ""}, 7]})).await;
        assert_eq!(results["results"].as_array().unwrap().iter().filter(|outcome| outcome["error"].is_object()).count(), 2);
    }
    walk.ask(&ben, "GET", "/v1/inbox?class=event", Value::Null).await;
    walk.ask(&ben, "POST", &format!("/v1/feeds/{feed}/unfollow"), Value::Null).await;
}

async fn operators(walk: &mut Walk, node: &Node) {
    let (anna, admin) = (node.api("anna"), node.admin());
    for by in ["class", "type", "hour"] {
        walk.ask(&admin, "GET", &format!("/v1/admin/statistics?by={by}"), Value::Null).await;
    }
    let event = json!({"type": "t", "to": {"users": ["ben"]}});
    let event = id(&node.publisher("shop").told(Method::POST, "/v1/events", Some(event)).await.1["eventId"]);
    let path = format!("/v1/admin/statistics/events/{event}");
    let counted = async { while admin.told(Method::GET, &path, None).await.0 != 200 {} };
    tokio::time::timeout(PATIENCE, counted).await.unwrap();
    walk.ask(&admin, "GET", &path, Value::Null).await;
    walk.ask(&admin, "GET", "/v1/admin/keys", Value::Null).await;
    walk.ask(&admin, "POST", "/v1/admin/keys/rotate", Value::Null).await;
    let dead = walk.ask(&admin, "GET", "/v1/admin/dead-letters", Value::Null).await;
    let message = id(&dead["deadLetters"][0]["messageId"]);
    walk.ask(&admin, "GET", &format!("/v1/admin/dead-letters/{message}"), Value::Null).await;
    let items = json!({"items": [{"messageId": message, "userId": "ben"}, {"messageId": Uuid::now_v7(), "userId": "ben"}]});
    walk.ask(&admin, "POST", "/v1/admin/dead-letters/requeue", items.clone()).await;
    walk.ask(&admin, "POST", "/v1/admin/dead-letters/discard", items).await;
    let audit = walk.ask(&admin, "GET", "/v1/admin/audit?limit=1", Value::Null).await;
    walk.ask(&admin, "GET", &format!("/v1/admin/audit?after={}", id(&audit["next"])), Value::Null).await;
    walk.ask(&admin, "POST", "/v1/admin/revocations", json!({"userId": "zoe", "deviceId": "phone", "reason": "lost"})).await;
    walk.ask(&admin, "GET", "/v1/admin/revocations?limit=1", Value::Null).await;
    walk.ask(&node.api("gone"), "GET", "/v1/preferences", Value::Null).await;
    walk.ask(&admin, "POST", "/v1/admin/erasures", json!({"userId": "gone", "content": "empty"})).await;
    walk.ask(&admin, "GET", "/v1/admin/erasures?userId=gone", Value::Null).await;
    walk.ask(&admin, "POST", "/v1/admin/limits", json!({"userId": "ben", "factor": 2})).await;
    walk.ask(&admin, "GET", "/v1/admin/limits?limit=1", Value::Null).await;
    for path in ["/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/asyncapi.json", "/socket.io/?EIO=4&transport=polling"] {
        let answer = walk.ask(&anna, "GET", path, Value::Null).await;
        if let Some(packet) = answer.as_str().filter(|_| path.starts_with("/socket")) {
            let session: Value = serde_json::from_str(&packet[1..]).unwrap();
            let path = format!("{path}&sid={}", id(&session["sid"]));
            let (status, _) = told(anna.request(Method::POST, &path).body("40").send().await.unwrap()).await;
            walk.seen.insert(format!("post /socket.io/ {status}"));
        }
    }
}

/// The answer of a stream has no end, so only its head is looked at.
async fn streams(walk: &mut Walk, node: &Node) {
    let anna = node.api("anna");
    for (last_id, media) in [("", Some("text/event-stream")), ("ended", None)] {
        let answer = anna.request(Method::GET, "/v1/stream").header("last-event-id", last_id).send().await.unwrap();
        assert_eq!(answer.headers().get("content-type").map(|media| media.to_str().unwrap()), media);
        walk.seen.insert(format!("get /v1/stream {}", answer.status().as_u16()));
    }
}

#[tokio::test]
async fn every_refusal_is_answered_as_described_in_both_forms() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (anna, admin) = (node.api("anna"), node.admin());
    let none = Uuid::now_v7();
    let refused = [
        (&anna, "POST", "/v1/messages".to_owned(), json!({"to": "ben"}), 400),
        (&anna, "POST", "/v1/messages".to_owned(), json!([]), 400),
        (&anna, "POST", "/v1/messages".to_owned(), json!({"chatId": none, "content": ""}), 403),
        (&anna, "GET", "/v1/chats?limit=0".to_owned(), Value::Null, 400),
        (&anna, "GET", format!("/v1/messages/{none}/status"), Value::Null, 404),
        (&anna, "GET", "/v1/admin/statistics".to_owned(), Value::Null, 403),
        (&anna, "POST", "/v1/inbox/ack".to_owned(), json!({"upTo": 7}), 409),
        (&anna, "POST", "/v1/events".to_owned(), json!({"type": "t", "to": {"everyone": true}}), 403),
        (&admin, "GET", format!("/v1/admin/dead-letters/{none}"), Value::Null, 404),
        (&anna, "POST", "/v1/messages".to_owned(), json!({"to": "ben", "content": "x".repeat(300_000)}), 413),
    ];
    for (api, method, path, body, status) in refused {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = api.told(method.clone(), &path, Some(body.clone()).filter(|body| !body.is_null())).await;
        assert_eq!(answer.0, status, "{path}: {}", answer.1);
        let request = api.request(method.clone(), &path).header("accept", "application/problem+json");
        let request = if body.is_null() { request } else { request.json(&body) };
        let (again, problem) = told(request.send().await.unwrap()).await;
        described::answer(method.as_str(), &path, again, "application/problem+json", &problem);
        assert_eq!((again, &problem["code"]), (status, &answer.1["error"]["code"]), "{path}");
    }
    node.stop().await;
}

#[tokio::test]
async fn the_descriptions_are_told_compressed_and_once() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    for path in ["/openapi.json", "/asyncapi.json"] {
        let get = |headers: &[(&'static str, &str)]| {
            let request = headers
                .iter()
                .fold(reqwest::Client::new().get(format!("{}{path}", node.url())), |request, (name, value)| request.header(*name, *value));
            async move { request.send().await.unwrap() }
        };
        let plain = get(&[]).await;
        let tag = plain.headers()["etag"].to_str().unwrap().to_owned();
        assert!(plain.headers().get("content-encoding").is_none());
        let text = plain.text().await.unwrap();
        let committed = std::fs::read_to_string(format!("{}/docs{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(text == committed, "{path}");
        let packed = get(&[("accept-encoding", "br, gzip;q=0.5")]).await;
        assert_eq!(packed.headers()["content-encoding"], "gzip");
        assert!(packed.headers().get_all("vary").iter().any(|names| names == "accept-encoding"));
        assert_ne!(packed.headers()["etag"].to_str().unwrap(), tag);
        let bytes = packed.bytes().await.unwrap();
        let mut unpacked = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut unpacked).unwrap();
        assert!(unpacked == committed && bytes.len() * 5 < committed.len(), "{} of {}", bytes.len(), committed.len());
        let refused = get(&[("accept-encoding", "gzip;q=0")]).await;
        assert!(refused.headers().get("content-encoding").is_none());
        let known = get(&[("if-none-match", &tag)]).await;
        assert_eq!(known.status(), 304);
        assert!(known.bytes().await.unwrap().is_empty());
    }
    node.stop().await;
}

#[tokio::test]
async fn each_parameter_of_the_socket_has_the_bounds_that_are_described() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let described: Value = serde_json::from_str(include_str!("../../docs/asyncapi.json")).unwrap();
    let query = &described["channels"]["ws"]["bindings"]["ws"]["query"];
    let validator = jsonschema::draft7::new(query).unwrap();
    let tried = [
        ("device", json!("d".repeat(64))),
        ("device", json!("d".repeat(65))),
        ("device", json!("")),
        ("window", json!(500)),
        ("window", json!(501)),
        ("window", json!(0)),
        ("batch", json!("1")),
        ("batch", json!("2")),
        ("marks", json!("other")),
    ];
    for (name, value) in tried {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let is_taken = crate::support::Socket::raw(node.addr(), Connect::user("anna").with(name, text)).await.is_ok();
        assert_eq!(is_taken, validator.is_valid(&json!({name: value})), "{name}={value}");
    }
    node.stop().await;
}
