//! Everything a person can do over HTTP, and what it says when it cannot be done.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use reqwest::{Client, Method};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Api, Node, database, token, token_for, told};

/// A group of anna (admin) and these.
async fn group(anna: &Api, members: &[&str]) -> String {
    let (status, chat) = anna.post("/v1/chats", json!({"kind": "group", "title": "crew", "members": members})).await;
    assert_eq!(status, 201, "{chat}");
    chat["chatId"].as_str().unwrap().to_owned()
}

async fn say(user: &Api, chat: &str, content: &str) -> Value {
    let (status, sent) = user.post("/v1/messages", json!({"chatId": chat, "content": content})).await;
    assert_eq!(status, 200, "{sent}");
    sent
}

fn contents(messages: &Value) -> Vec<&str> {
    messages.as_array().unwrap().iter().map(|message| message["content"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_message_can_be_sent_read_and_traced_without_a_socket() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (anna, ben, eve) = (node.api("anna"), node.api("ben"), node.api("eve"));
    let id = Uuid::now_v7().to_string();
    let request = json!({"to": "ben", "messageId": id, "content": "hello", "metadata": {"a": [1, null]}});
    let (status, sent) = anna.post("/v1/messages", request.clone()).await;
    assert_eq!((status, &sent["seq"], &sent["duplicate"], &sent["messageId"]), (200, &json!(1), &json!(false), &json!(id)));
    let (_, again) = anna.post("/v1/messages", request).await;
    assert_eq!((&again["seq"], &again["duplicate"], &again["createdAt"]), (&json!(1), &json!(true), &sent["createdAt"]));

    let (status, inbox) = ben.get("/v1/inbox").await;
    assert_eq!((status, contents(&inbox["messages"])), (200, vec!["hello"]));
    let message = &inbox["messages"][0];
    assert_eq!((&message["inboxSeq"], &message["attempt"], &message["senderId"]), (&json!(1), &json!(1), &json!("anna")));
    assert_eq!(message["metadata"], json!({"a": [1, null]}));

    let statuses = format!("/v1/messages/{id}/status");
    assert_eq!(anna.get(&statuses).await.1["statuses"][0]["status"], "sent", "looking delivers nothing");
    assert_eq!(ben.post("/v1/inbox/ack", json!({"messageId": id})).await, (200, json!({})));
    assert_eq!(anna.get(&statuses).await.1["statuses"][0]["status"], "delivered");
    let read = format!("/v1/chats/{}/read", sent["chatId"].as_str().unwrap());
    assert_eq!(ben.post(&read, json!({"messageId": id})).await, (200, json!({"chatId": sent["chatId"], "seq": 1})));
    let (_, found) = ben.get(&statuses).await;
    assert_eq!((&found["statuses"][0]["userId"], &found["statuses"][0]["status"]), (&json!("ben"), &json!("read")));
    assert_eq!(ben.get("/v1/inbox").await.1["messages"], json!([]));
    assert_eq!(eve.get(&statuses).await.1["error"]["code"], "not_found");
    node.stop().await;
}

#[tokio::test]
async fn an_inbox_is_paged_and_acked_up_to_a_number_that_exists() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (anna, ben) = (node.api("anna"), node.api("ben"));
    for n in 1..=5 {
        anna.post("/v1/messages", json!({"to": "ben", "content": n.to_string()})).await;
    }
    let (_, page) = ben.get("/v1/inbox?limit=2").await;
    assert_eq!((contents(&page["messages"]), &page["more"], &page["lastSeq"]), (vec!["1", "2"], &json!(true), &json!(5)));
    let (_, page) = ben.get("/v1/inbox?after=2").await;
    assert_eq!((contents(&page["messages"]), &page["more"]), (vec!["3", "4", "5"], &json!(false)));
    let (status, ahead) = ben.post("/v1/inbox/ack", json!({"upTo": 6})).await;
    assert_eq!((status, &ahead["error"]["code"]), (409, &json!("ack_ahead")));
    assert_eq!(ben.post("/v1/inbox/ack", json!({"upTo": 4})).await.0, 200);
    let (_, rest) = ben.get("/v1/inbox").await;
    assert_eq!(contents(&rest["messages"]), ["5"]);
    let last = rest["messages"][0]["messageId"].clone();
    let (_, rejected) = ben.post("/v1/inbox/reject", json!({"messageId": last, "reason": "no"})).await;
    assert_eq!(rejected, json!({"messageId": last, "status": "sent", "attempts": 1}));
    let (_, rejected) = ben.post("/v1/inbox/reject", json!({"messageId": last, "reason": "never", "final": true})).await;
    assert_eq!(rejected["status"], "failed");
    node.stop().await;
}

#[tokio::test]
async fn chats_show_marks_and_what_is_unread() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (anna, ben) = (node.api("anna"), node.api("ben"));
    let chat = group(&anna, &["ben", "cleo"]).await;
    for content in ["1", "2", "3"] {
        say(&anna, &chat, content).await;
    }
    say(&ben, &chat, "4").await;
    ben.post(&format!("/v1/chats/{chat}/read"), json!({"seq": 2})).await;
    let (_, list) = ben.get("/v1/chats").await;
    let mine = &list["chats"][0];
    assert_eq!((&mine["title"], &mine["kind"], &mine["role"]), (&json!("crew"), &json!("group"), &json!("member")));
    assert_eq!(
        (&mine["lastSeq"], &mine["readSeq"], &mine["unread"], &mine["unreadMore"]),
        (&json!(4), &json!(2), &json!(1), &json!(false))
    );
    let (_, shown) = anna.get(&format!("/v1/chats/{chat}?limit=2")).await;
    assert_eq!((&shown["memberCount"], shown["members"].as_array().unwrap().len()), (&json!(3), 2));
    let next = shown["membersNext"].as_str().unwrap();
    let (_, rest) = anna.get(&format!("/v1/chats/{chat}?limit=2&membersAfter={next}")).await;
    assert_eq!((rest["members"].as_array().unwrap().len(), &rest["membersNext"]), (1, &Value::Null));
    node.stop().await;
}

#[tokio::test]
async fn the_list_of_chats_is_paged_without_loss() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let anna = node.api("anna");
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(group(&anna, &[]).await);
    }
    made.sort();
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let (_, page) = anna.get(&format!("/v1/chats?limit=2{after}")).await;
        found.extend(page["chats"].as_array().unwrap().iter().map(|chat| chat["chatId"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(found, made);
    node.stop().await;
}

#[tokio::test]
async fn a_direct_chat_exists_once_and_nobody_joins_it() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (anna, ben) = (node.api("anna"), node.api("ben"));
    let (first, chat) = anna.post("/v1/chats", json!({"kind": "direct", "members": ["ben"]})).await;
    let (second, same) = ben.post("/v1/chats", json!({"kind": "direct", "members": ["ben", "anna"]})).await;
    assert_eq!((first, second, &chat["chatId"]), (201, 200, &same["chatId"]));
    assert_eq!((&chat["other"]["userId"], &same["other"]["userId"]), (&json!("ben"), &json!("anna")));
    let members = format!("/v1/chats/{}/members", chat["chatId"].as_str().unwrap());
    assert_eq!(anna.post(&members, json!({"userIds": ["eve"]})).await.0, 409);
    assert_eq!(anna.delete(&members, json!({"userIds": ["anna"]})).await.0, 409);
    let (status, alone) = anna.post("/v1/chats", json!({"kind": "direct", "members": ["anna"]})).await;
    assert_eq!((status, alone.get("other")), (201, None));
    node.stop().await;
}

#[tokio::test]
async fn history_is_for_members_and_from_their_joining_on() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (anna, ben, eve) = (node.api("anna"), node.api("ben"), node.api("eve"));
    let chat = group(&anna, &["ben"]).await;
    for content in ["1", "2", "3", "4", "5"] {
        say(&anna, &chat, content).await;
    }
    let history = format!("/v1/chats/{chat}/messages");
    let (_, all) = ben.get(&history).await;
    assert_eq!((contents(&all["messages"]), &all["more"]), (vec!["1", "2", "3", "4", "5"], &json!(false)));
    let (_, newest) = ben.get(&format!("{history}?limit=2")).await;
    assert_eq!((contents(&newest["messages"]), &newest["more"]), (vec!["4", "5"], &json!(true)));
    assert_eq!(contents(&ben.get(&format!("{history}?before=4&limit=2")).await.1["messages"]), ["2", "3"]);
    assert_eq!(contents(&ben.get(&format!("{history}?after=1&limit=2")).await.1["messages"]), ["2", "3"]);
    assert_eq!(eve.get(&history).await.1["error"]["code"], "not_a_member");
    let (status, added) = anna.post(&format!("/v1/chats/{chat}/members"), json!({"userIds": ["eve", "ben"]})).await;
    assert_eq!((status, &added["added"], &added["joinedSeq"]), (200, &json!(["eve"]), &json!(5)));
    say(&anna, &chat, "6").await;
    assert_eq!(contents(&eve.get(&history).await.1["messages"]), ["6"]);
    assert_eq!(contents(&eve.get("/v1/inbox").await.1["messages"]), ["6"]);
    assert_eq!(eve.get(&format!("{history}?before=2&after=1")).await.0, 400);
    node.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_member_that_leaves_expires_and_its_sender_is_told() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (anna, ben) = (node.api("anna"), node.api("ben"));
    let chat = group(&anna, &["ben", "cleo"]).await;
    let mut watching = node.connect("anna").await;
    let first = say(&anna, &chat, "1").await;
    let mut leaving = node.connect("ben").await;
    let message = leaving.event("message:receive").await;
    leaving.ack(&message).await;
    let second = say(&anna, &chat, "2").await;
    let members = format!("/v1/chats/{chat}/members");
    assert_eq!(ben.delete(&members, json!({"userIds": ["cleo"]})).await.1["error"]["code"], "forbidden");
    let (status, removed) = ben.delete(&members, json!({"userIds": ["ben"]})).await;
    assert_eq!((status, &removed["removed"], &removed["leftSeq"]), (200, &json!(["ben"]), &json!(2)));
    assert_eq!(leaving.event("chat:removed").await["chatId"], json!(chat));
    let told = watching.wait("the ending", |frame| frame["data"]["status"] == "expired").await;
    assert_eq!(
        (&told["data"]["messageIds"], &told["data"]["reason"], &told["data"]["userId"]),
        (&json!([second["messageId"]]), &json!("left"), &json!("ben"))
    );
    let statuses = anna.get(&format!("/v1/messages/{}/status", first["messageId"].as_str().unwrap())).await.1;
    let of_ben = statuses["statuses"].as_array().unwrap().iter().find(|row| row["userId"] == "ben").unwrap();
    assert_eq!(of_ben["status"], "delivered", "what was acked stays so");
    let (status, refused) = ben.post("/v1/messages", json!({"chatId": chat, "content": "still here?"})).await;
    assert_eq!((status, &refused["error"]["code"]), (403, &json!("not_a_member")));
    node.stop().await;
}

#[tokio::test]
async fn the_last_admin_to_leave_makes_the_longest_member_one() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (anna, ben) = (node.api("anna"), node.api("ben"));
    let chat = group(&anna, &["ben"]).await;
    let members = format!("/v1/chats/{chat}/members");
    say(&anna, &chat, "1").await;
    anna.post(&members, json!({"userIds": ["cleo"]})).await;
    anna.delete(&members, json!({"userIds": ["anna"]})).await;
    let (status, added) = ben.post(&members, json!({"userIds": ["anna"]})).await;
    assert_eq!((status, &added["joinedSeq"]), (200, &json!(1)));
    assert_eq!(anna.get(&format!("/v1/chats/{chat}")).await.1["role"], "member");
    node.stop().await;
}

#[tokio::test]
async fn whoever_is_added_is_told_and_gets_what_comes() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let anna = node.api("anna");
    let mut ben = node.connect("ben").await;
    let chat = group(&anna, &["ben"]).await;
    let added = ben.event("chat:added").await;
    assert_eq!(
        (&added["chatId"], &added["title"], &added["by"], &added["kind"]),
        (&json!(chat), &json!("crew"), &json!("anna"), &json!("group"))
    );
    say(&anna, &chat, "welcome").await;
    assert_eq!(ben.event("message:receive").await["content"], "welcome");
    node.stop().await;
}

#[tokio::test]
async fn presence_is_for_those_who_share_a_chat() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (anna, eve) = (node.api("anna"), node.api("eve"));
    let _ben = node.connect("ben").await;
    group(&anna, &["ben"]).await;
    let (_, seen) = anna.get("/v1/presence?userIds=ben,nobody&userIds=anna").await;
    let online: Vec<_> = seen["users"].as_array().unwrap().iter().map(|user| (user["userId"].as_str().unwrap(), &user["online"])).collect();
    assert_eq!(online, [("ben", &json!(true)), ("nobody", &json!(false)), ("anna", &json!(false))]);
    assert_eq!(eve.get("/v1/presence?userIds=ben").await.1["users"][0], json!({"userId": "ben", "online": false, "lastSeen": null}));
    assert_eq!(anna.get("/v1/presence").await.0, 400);
    node.stop().await;
}

#[tokio::test]
async fn every_refusal_is_json_with_a_code() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let anna = node.api("anna");
    let expect = async |request: reqwest::RequestBuilder, status: u16, code: &str| {
        let (told_status, body) = told(request.send().await.unwrap()).await;
        assert_eq!((told_status, body["error"]["code"].as_str()), (status, Some(code)), "{body}");
        assert!(!body["error"]["message"].as_str().unwrap().is_empty());
    };
    let bare = |path: &str| Client::new().get(format!("{}{path}", node.url()));
    expect(bare("/v1/chats"), 401, "not_authenticated").await;
    expect(bare("/v1/chats").bearer_auth("nonsense"), 401, "not_authenticated").await;
    expect(bare("/v1/chats").bearer_auth(token_for("anna", -time::Duration::HOUR)), 401, "token_expired").await;
    expect(bare("/nowhere"), 404, "not_found").await;
    expect(bare("/ws"), 400, "invalid").await;
    expect(anna.request(Method::PUT, "/v1/chats"), 405, "method_not_allowed").await;
    expect(anna.request(Method::GET, "/v1/chats/7"), 400, "invalid").await;
    expect(anna.request(Method::GET, "/v1/chats?limit=many"), 400, "invalid").await;
    expect(anna.request(Method::GET, "/v1/chats?limit=0"), 400, "invalid").await;
    expect(anna.request(Method::GET, &format!("/v1/chats/{}", Uuid::now_v7())), 403, "not_a_member").await;
    expect(anna.request(Method::POST, "/v1/messages").body("not json"), 400, "bad_frame").await;
    expect(anna.request(Method::POST, "/v1/messages").body(vec![0xff; 4]), 400, "bad_frame").await;
    expect(anna.request(Method::POST, "/v1/messages").body("{}"), 400, "invalid").await;
    expect(anna.request(Method::POST, "/v1/messages").body("x".repeat(300_000)), 413, "too_large").await;
    expect(anna.request(Method::POST, "/v1/messages").body(r#"{"to":"ben","content":"\u0000"}"#), 400, "invalid").await;
    expect(anna.request(Method::POST, "/v1/chats").body(r#"{"kind":"feed"}"#), 400, "invalid").await;
    expect(anna.request(Method::POST, "/v1/chats").body(r#"{"kind":"direct","members":["a","b"]}"#), 400, "invalid").await;
    node.stop().await;
}

#[tokio::test]
async fn a_member_leaves_without_a_body_and_sees_nothing_of_the_chat_any_more() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (anna, ben) = (node.api("anna"), node.api("ben"));
    let chat = group(&anna, &["ben", "cleo"]).await;
    say(&anna, &chat, "hello").await;
    let leave = format!("/v1/chats/{chat}/leave");
    let without_body = |api: &Api, path: &str| {
        let request = api.request(Method::POST, path);
        async move { told(request.send().await.unwrap()).await }
    };
    let (status, left) = without_body(&ben, &leave).await;
    assert_eq!((status, &left), (200, &json!({"chatId": chat, "removed": ["ben"], "leftSeq": 1})));
    assert_eq!(without_body(&ben, &leave).await.1["error"]["code"], "not_a_member");
    let (status, history) = ben.get(&format!("/v1/chats/{chat}/messages")).await;
    assert_eq!((status, &history["error"]["code"]), (403, &json!("not_a_member")));
    // The body does not matter.
    assert_eq!(node.api("cleo").post(&leave, json!({"userIds": ["anna"]})).await.1["removed"], json!(["cleo"]));
    let (_, direct) = anna.post("/v1/chats", json!({"kind": "direct", "members": ["ben"]})).await;
    for (path, code) in [(direct["chatId"].as_str().unwrap(), "conflict"), ("x", "invalid"), (&Uuid::now_v7().to_string(), "not_a_member")]
    {
        assert_eq!(without_body(&anna, &format!("/v1/chats/{path}/leave")).await.1["error"]["code"], code, "{path}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_node_says_whether_it_is_alive_and_ready() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let get = async |path: &str| told(Client::new().get(format!("{}{path}", node.url())).send().await.unwrap()).await;
    assert_eq!(get("/healthz").await, (200, json!({"status": "alive"})));
    assert_eq!(get("/readyz").await, (200, json!({"status": "ready"})));
    let (status, metrics) = get("/metrics").await;
    assert!(status == 200 && metrics.as_str().unwrap().contains("restante_messages_accepted_total 0"), "{metrics}");
    let answer = Client::new().get(format!("{}/v1/chats", node.url())).bearer_auth(token("anna")).send().await.unwrap();
    assert!(answer.headers().contains_key("x-request-id"));
    node.stop().await;
}

#[tokio::test]
async fn a_limited_user_is_told_when_to_try_again() {
    let db = database().await;
    let node = Node::with(db.options(), |config| (config.send_rate, config.direct_chats_per_hour) = (2, 1)).await;
    let anna = node.api("anna");
    assert_eq!(anna.post("/v1/messages", json!({"to": "ben", "content": ""})).await.0, 200);
    let (status, refused) = anna.post("/v1/messages", json!({"to": "cleo", "content": ""})).await;
    assert_eq!((status, &refused["error"]["code"]), (429, &json!("too_many_chats")));
    for _ in 0..2 {
        anna.post("/v1/messages", json!({"to": "ben", "content": ""})).await;
    }
    let answer = anna.request(Method::POST, "/v1/messages").json(&json!({"to": "ben", "content": ""})).send().await.unwrap();
    assert!(answer.headers().contains_key("retry-after"));
    let (status, refused) = told(answer).await;
    assert_eq!((status, &refused["error"]["code"]), (429, &json!("rate_limited")));
    assert!(refused["error"]["retryAfterMs"].as_u64().unwrap() > 0);
    node.stop().await;
}

#[tokio::test]
async fn nothing_waits_for_a_member_that_left_while_others_were_sending() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let anna = node.api("anna");
    let chat = group(&anna, &["cleo"]).await;
    let members = format!("/v1/chats/{chat}/members");
    let sending = async {
        for n in 0..150 {
            say(&anna, &chat, &n.to_string()).await;
        }
    };
    let coming_and_going = async {
        for _ in 0..30 {
            assert_eq!(anna.post(&members, json!({"userIds": ["ben"]})).await.0, 200);
            assert_eq!(anna.delete(&members, json!({"userIds": ["ben"]})).await.0, 200);
        }
    };
    tokio::join!(sending, coming_and_going);
    let pool = db.pool(1).await;
    let count = "select count(*) filter (where s.status = 'sent'), count(*) filter (where s.status = 'expired' and s.reason = 'left')
                   from message_status s join users u on u.id = s.user_id where u.external_id = 'ben'";
    let (waiting, expired): (i64, i64) = sqlx::query_as(count).fetch_one(&pool).await.unwrap();
    assert_eq!(waiting, 0);
    let (_, inbox) = node.api("ben").get("/v1/inbox").await;
    assert_eq!(inbox["lastSeq"], json!(expired), "every number given out is accounted for");
    pool.close().await;
    node.stop().await;
}

#[tokio::test]
async fn a_request_that_is_repeated_with_its_idempotency_key_makes_one_message_one_event_and_one_group() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (anna, ben, feeds) = (node.api("anna"), node.api("ben"), node.publisher("app"));
    let keyed = async |user: &Api, path: &str, key: &str, body: &Value| {
        told(user.request(Method::POST, path).header("Idempotency-Key", key).json(body).send().await.unwrap()).await
    };
    let hello = json!({"to": "ben", "content": "hello"});
    let (status, first) = keyed(&anna, "/v1/messages", "order 7", &hello).await;
    assert_eq!((status, &first["duplicate"]), (200, &json!(false)));
    let (_, again) = keyed(&anna, "/v1/messages", "\"order 7\"", &hello).await;
    assert_eq!((&again["messageId"], &again["seq"], &again["duplicate"]), (&first["messageId"], &json!(1), &json!(true)));
    let (_, of_ben) = keyed(&ben, "/v1/messages", "order 7", &json!({"to": "anna", "content": "hi"})).await;
    assert_eq!((&of_ben["seq"], &of_ben["duplicate"]), (&json!(2), &json!(false)), "another user has keys of its own");

    let id = Uuid::now_v7().to_string();
    let (_, chosen) = keyed(&anna, "/v1/messages", &id, &hello).await;
    assert_eq!(chosen["messageId"], json!(id), "a key that is a UUID is the id");
    let (_, named) = keyed(&anna, "/v1/messages", "order 7", &json!({"to": "ben", "content": "x", "messageId": Uuid::now_v7()})).await;
    assert_eq!(named["duplicate"], json!(false), "an id in the body goes before the key");

    let crew = json!({"kind": "group", "title": "crew", "members": ["ben"]});
    let (status, group) = keyed(&anna, "/v1/chats", "order 7", &crew).await;
    assert_eq!(status, 201);
    let (status, same) = keyed(&anna, "/v1/chats", "order 7", &crew).await;
    assert_eq!((status, &same["chatId"]), (200, &group["chatId"]));
    assert_eq!(ben.get("/v1/chats").await.1["chats"].as_array().unwrap().len(), 2, "the direct chat and one group");

    let event = json!({"type": "new_post", "data": {}, "to": {"users": ["ben"]}});
    let (_, published) = keyed(&feeds, "/v1/events", "order 7", &event).await;
    let (_, again) = keyed(&feeds, "/v1/events", "order 7", &event).await;
    assert_eq!((&again["eventId"], &again["duplicate"]), (&published["eventId"], &json!(true)));

    for bad in ["", &"x".repeat(256)] {
        let (status, refused) = keyed(&anna, "/v1/messages", bad, &hello).await;
        assert_eq!((status, &refused["error"]["code"]), (400, &json!("invalid")));
    }
    node.stop().await;
}

#[tokio::test]
async fn the_paths_under_api_messages_send_and_read_and_the_sender_is_told() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (anna, ben, mut socket) = (node.api("anna"), node.api("ben"), node.connect("anna").await);
    let id = Uuid::now_v7().to_string();
    let request = json!({"to": "ben", "content": "one", "messageId": id, "metadata": {"a": 1}});
    let (status, sent) = anna.post("/api/messages/send", request.clone()).await;
    let message = &sent["message"];
    assert_eq!(
        (status, &message["messageId"], &message["content"], &message["senderId"]),
        (200, &json!(id), &json!("one"), &json!("anna"))
    );
    assert_eq!((&message["messageType"], &message["metadata"], &message["duplicate"]), (&json!("text"), &json!({"a": 1}), &json!(false)));
    let (status, again) = anna.post("/api/messages/send", request).await;
    assert_eq!((status, &again["message"]["seq"], &again["message"]["duplicate"]), (200, &json!(1), &json!(true)));
    let chat = message["chatId"].clone();
    for n in 2..=3 {
        anna.post("/api/messages/send", json!({"chatId": chat, "content": n.to_string()})).await;
    }
    for _ in 0..2 {
        let (status, read) = ben.post("/api/messages/read", json!({"messageId": id, "chatId": chat})).await;
        assert_eq!((status, read), (200, json!({"chatId": chat, "seq": 1})));
    }
    let status_of = async |id: &str| anna.get(&format!("/v1/messages/{id}/status")).await.1["statuses"][0]["status"].clone();
    assert_eq!(status_of(&id).await, "read");
    let heard = socket.event("message:status").await;
    assert_eq!((&heard["status"], &heard["messageIds"]), (&json!("read"), &json!([id])), "{heard}");
    for _ in 0..2 {
        let answer = ben.request(Method::PATCH, "/api/messages/read").json(&json!({"chatId": chat})).send().await.unwrap();
        assert_eq!(told(answer).await, (200, json!({"chatId": chat, "seq": 3})));
    }
    assert_eq!(ben.get("/v1/inbox").await.1["messages"], json!([]));
    assert_eq!(node.api("eve").post("/api/messages/read", json!({"chatId": chat, "seq": 1})).await.0, 403);
    assert_eq!(anna.post("/api/messages/send", json!({"content": "to nobody"})).await.1["error"]["code"], "invalid");
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_accepts_problems_is_told_each_refusal_as_one() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let anna = node.api("anna");
    let ask = async |path: &str, accept: &str| anna.request(Method::GET, path).header("Accept", accept).send().await.unwrap();
    for path in ["/v1/nowhere", "/v1/chats?limit=0", "/v1/messages", "/v1/admin/dead-letters"] {
        let plain = ask(path, "*/*").await;
        assert_eq!(plain.headers()["content-type"], "application/json");
        let (status, plain) = told(plain).await;
        let problem = ask(path, "application/json;q=0.5, Application/Problem+JSON").await;
        assert_eq!((problem.status().as_u16(), &problem.headers()["content-type"]), (status, &"application/problem+json".parse().unwrap()));
        let problem = told(problem).await.1;
        let error = &plain["error"];
        assert_eq!((&problem["code"], &problem["detail"], &problem["status"]), (&error["code"], &error["message"], &json!(status)));
        assert_eq!(problem["type"], format!("urn:restante:error:{}", error["code"].as_str().unwrap()));
        assert!(problem["title"].is_string() && problem["error"].is_null(), "{problem}");
    }
    node.stop().await;
}

#[tokio::test]
async fn long_answers_are_compressed_for_those_who_accept_it_and_short_ones_are_not() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let anna = node.api("anna");
    let id = say_to_ben(&anna, &"long ".repeat(1_000)).await;
    let ask = async |path: &str| anna.request(Method::GET, path).header("Accept-Encoding", "gzip").send().await.unwrap();
    let history = format!("/v1/chats/{id}/messages");
    let plain = anna.request(Method::GET, &history).send().await.unwrap();
    assert!(plain.headers().get("content-encoding").is_none());
    let plain = plain.bytes().await.unwrap();
    let compressed = ask(&history).await;
    assert_eq!(compressed.headers()["content-encoding"], "gzip");
    let compressed = compressed.bytes().await.unwrap();
    assert!(compressed.len() * 4 < plain.len(), "{} of {}", compressed.len(), plain.len());
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&compressed[..]), &mut unpacked).unwrap();
    assert_eq!(unpacked, plain);
    assert!(ask("/v1/inbox").await.headers().get("content-encoding").is_none());
    node.stop().await;
}

/// Sends to ben, and returns the chat.
async fn say_to_ben(user: &Api, content: &str) -> String {
    let (_, sent) = user.post("/v1/messages", json!({"to": "ben", "content": content})).await;
    sent["chatId"].as_str().unwrap().to_owned()
}
