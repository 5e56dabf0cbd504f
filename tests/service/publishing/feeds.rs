//! Feeds over HTTP: making, publishers, following, lists.

use serde_json::{Value, json};

use super::*;

fn ids(list: &Value) -> Vec<&str> {
    list["feeds"].as_array().unwrap().iter().map(|feed| feed["feedId"].as_str().unwrap()).collect()
}

fn names(list: &Value) -> Vec<&str> {
    list["followers"].as_array().unwrap().iter().map(|user| user["userId"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_follower_gets_what_is_published_between_following_and_leaving() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let (anna, ben) = (node.api("anna"), node.api("ben"));
    let feed = feed(&anna).await;
    let path = format!("/v1/feeds/{feed}");
    let event = |n: i32| json!({"type": "t", "data": n, "to": {"feed": feed}});
    published(&anna, event(1)).await;
    assert_eq!(ben.post(&format!("{path}/follow"), json!({})).await, (200, json!({})));
    assert_eq!(ben.post(&format!("{path}/follow"), json!({})).await, (200, json!({})), "again");
    published(&anna, event(2)).await;
    published(&anna, event(3)).await;
    assert_eq!(waiting(&ben, "event").await, [json!(2), json!(3)]);
    assert_eq!(ben.get(&path).await.1["isFollower"], true);
    assert_eq!(
        told(ben.request(Method::POST, &format!("{path}/unfollow")).send().await.unwrap()).await,
        (200, json!({})),
        "without a body"
    );
    published(&anna, event(4)).await;
    assert_eq!(waiting(&ben, "event").await, [json!(null); 0]);
    assert_eq!(ben.get(&path).await.1["isFollower"], false);
    assert_eq!(ben.post(&format!("{path}/follow"), json!(null)).await.0, 400, "a body is an object");
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn what_a_connection_holds_of_a_feed_ends_when_its_user_leaves_it() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (anna, ben) = (node.api("anna"), node.api("ben"));
    let feed = feed(&anna).await;
    ben.post(&format!("/v1/feeds/{feed}/follow"), json!({})).await;
    let mut phone = node.open(Connect::user("ben").with("window", 1)).await;
    for n in 0..3 {
        published(&anna, json!({"type": "t", "data": n, "to": {"feed": feed}})).await;
    }
    phone.event("event:receive").await;
    assert_eq!(ben.post(&format!("/v1/feeds/{feed}/unfollow"), json!({})).await.0, 200);
    let gap = phone.event("queue:gap").await;
    assert_eq!((&gap["class"], &gap["reason"]), (&json!("event"), &json!("left")));
    node.stop().await;
}

#[tokio::test]
async fn a_feed_is_made_once_and_shown_to_each_as_it_concerns_them() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let (anna, ben, cleo) = (node.api("anna"), node.api("ben"), node.api("cleo"));
    let made = json!({"feedId": new_id(), "title": "news", "publishers": ["ben", "ben", "new"]});
    let id = made["feedId"].as_str().unwrap();
    for _ in 0..2 {
        assert_eq!(anna.post("/v1/feeds", made.clone()).await, (201, json!({"feedId": id})));
    }
    assert_eq!(ben.post("/v1/feeds", made.clone()).await.1["error"]["code"], "conflict");
    let chat = crate::support::direct(&pool, "anna", "ben").await;
    for taken in [chat.to_string(), "00000000-0000-0000-0000-000000000001".to_owned(), "00000000-0000-0000-0000-000000000002".to_owned()] {
        assert_eq!(anna.post("/v1/feeds", json!({"feedId": taken})).await.1["error"]["code"], "conflict", "{taken}");
    }
    let path = format!("/v1/feeds/{id}");
    for (user, expected) in [(&anna, [true, true, false]), (&ben, [false, true, false]), (&cleo, [false; 3])] {
        let (_, seen) = user.get(&path).await;
        assert_eq!([&seen["isMaker"], &seen["isPublisher"], &seen["isFollower"]], expected.map(|is| json!(is)).each_ref(), "{seen}");
        assert_eq!(seen["title"], "news");
    }
    for body in
        [json!({"title": "t".repeat(257)}), json!({"publishers": "ben"}), json!({"feedId": 7}), json!({"publishers": vec!["u"; 501]})]
    {
        assert_eq!(anna.post("/v1/feeds", body.clone()).await.1["error"]["code"], "invalid", "{body}");
    }
    assert_eq!(anna.get(&format!("/v1/feeds/{}", new_id())).await.0, 404);
    assert_eq!(anna.get("/v1/feeds/00000000-0000-0000-0000-000000000002").await.0, 404);
    node.stop().await;
}

#[tokio::test]
async fn publishers_are_the_makers_to_choose_and_may_publish_until_they_are_removed() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let (anna, ben, shop) = (node.api("anna"), node.api("ben"), node.publisher("shop"));
    let feed = feed(&anna).await;
    let path = format!("/v1/feeds/{feed}/publishers");
    let event = json!({"type": "t", "to": {"feed": feed}});
    let code = |answer: (u16, Value)| answer.1["error"]["code"].clone();
    assert_eq!(code(ben.post("/v1/events", event.clone()).await), "forbidden");
    let before = number(&pool, "select count(*) from users").await;
    assert_eq!(code(ben.post(&path, json!({"userIds": ["ben", "new"]})).await), "forbidden");
    assert_eq!(number(&pool, "select count(*) from users").await, before, "nobody is made for somebody who may not");
    assert_eq!(anna.post(&path, json!({"userIds": ["ben", "new"]})).await, (200, json!({})));
    published(&ben, event.clone()).await;
    assert_eq!(code(ben.post(&path, json!({"userIds": ["cleo"]})).await), "forbidden", "a publisher is no maker");
    assert_eq!(code(ben.delete(&path, json!({"userIds": ["anna"]})).await), "forbidden");
    assert_eq!(anna.delete(&path, json!({"userIds": ["ben", "anna", "never"]})).await, (200, json!({})));
    assert_eq!(code(ben.post("/v1/events", event.clone()).await), "forbidden");
    published(&anna, event.clone()).await;
    assert_eq!(shop.post(&path, json!({"userIds": ["ben"]})).await.0, 200);
    published(&ben, event).await;
    for body in [json!({}), json!({"userIds": "ben"}), json!({"userIds": vec!["u"; 501]})] {
        assert_eq!(code(anna.post(&path, body).await), "invalid");
    }
    let nowhere = format!("/v1/feeds/{}/publishers", new_id());
    assert_eq!(code(shop.post(&nowhere, json!({"userIds": ["also-new"]})).await), "not_found");
    assert_eq!(number(&pool, "select count(*) from users where external_id in ('also-new', 'never')").await, 0);
    node.stop().await;
}

#[tokio::test]
async fn others_are_made_to_follow_with_the_scope_only_and_nobody_leaves_everyone() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let (anna, ben, shop) = (node.api("anna"), node.api("ben"), node.publisher("shop"));
    let feed = feed(&anna).await;
    let (follow, unfollow) = (format!("/v1/feeds/{feed}/follow"), format!("/v1/feeds/{feed}/unfollow"));
    let code = |answer: (u16, Value)| answer.1["error"]["code"].clone();
    for body in [json!({"userIds": ["new"]}), json!({"userIds": ["anna", "ben"]}), json!({"userIds": []})] {
        assert_eq!(code(anna.post(&follow, body.clone()).await), "forbidden", "{body}");
        assert_eq!(code(anna.post(&unfollow, body.clone()).await), "forbidden", "{body}");
    }
    assert_eq!(ben.post(&follow, json!({"userIds": ["ben"]})).await.0, 200, "itself");
    let nowhere = format!("/v1/feeds/{}/follow", new_id());
    assert_eq!(code(shop.post(&nowhere, json!({"userIds": ["new"]})).await), "not_found");
    assert_eq!(code(ben.post(&nowhere, json!({})).await), "not_found");
    assert_eq!(number(&pool, "select count(*) from users where external_id = 'new'").await, 0);
    assert_eq!(shop.post(&follow, json!({"userIds": ["dora", "emil"]})).await.0, 200);
    let (_, page) = anna.get(&format!("/v1/feeds/{feed}/followers?limit=2")).await;
    assert_eq!((names(&page), &page["next"]), (vec!["ben", "dora"], &json!("dora")));
    let (_, rest) = shop.get(&format!("/v1/feeds/{feed}/followers?after=dora")).await;
    assert_eq!((names(&rest), &rest["next"]), (vec!["emil"], &json!(null)));
    assert_eq!(code(ben.get(&format!("/v1/feeds/{feed}/followers")).await), "forbidden");
    assert_eq!(shop.post(&unfollow, json!({"userIds": ["dora", "nobody"]})).await.0, 200);
    assert_eq!(names(&anna.get(&format!("/v1/feeds/{feed}/followers")).await.1), ["ben", "emil"]);
    let everyone = "/v1/feeds/00000000-0000-0000-0000-000000000001";
    assert_eq!(code(ben.post(&format!("{everyone}/unfollow"), json!({})).await), "forbidden");
    assert_eq!(ben.post(&format!("{everyone}/follow"), json!({})).await.0, 200);
    assert_eq!(code(ben.get(&format!("{everyone}/followers")).await), "forbidden");
    let direct = "/v1/feeds/00000000-0000-0000-0000-000000000002/follow";
    assert_eq!(code(ben.post(direct, json!({})).await), "not_found");
    node.stop().await;
}

#[tokio::test]
async fn feeds_are_listed_page_by_page_and_their_number_is_bounded() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let (anna, ben) = (node.api("anna"), node.api("ben"));
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(feed(&anna).await);
    }
    made.sort_unstable();
    for feed in &made[..3] {
        ben.post(&format!("/v1/feeds/{feed}/follow"), json!({})).await;
    }
    let (_, first) = anna.get("/v1/feeds?role=publisher&limit=3").await;
    assert_eq!((ids(&first), &first["next"]), (made[..3].iter().map(String::as_str).collect(), &json!(made[2])));
    let (_, rest) = anna.get(&format!("/v1/feeds?role=publisher&limit=3&after={}", made[2])).await;
    assert_eq!((ids(&rest), &rest["next"]), (made[3..].iter().map(String::as_str).collect(), &json!(null)));
    let followed = ben.get("/v1/feeds").await.1;
    let followed: Vec<&str> = ids(&followed).into_iter().filter(|id| !id.starts_with("00000000-")).collect();
    assert_eq!(followed, made[..3].iter().map(String::as_str).collect::<Vec<_>>());
    for query in ["role=maker", "limit=0", "limit=101", "after=7"] {
        assert_eq!(anna.get(&format!("/v1/feeds?{query}")).await.0, 400, "{query}");
    }
    let follow = "select count(restante_follow(restante_make_feed('anna'), array['cleo'])::text) from generate_series(1, 500)";
    number(&pool, follow).await;
    let one_more = format!("/v1/feeds/{}/follow", made[0]);
    let (status, told) = node.api("cleo").post(&one_more, json!({})).await;
    assert_eq!((status, &told["error"]["code"]), (409, &json!("conflict")), "{told}");
    let (_, told) = node.publisher("shop").post(&one_more, json!({"userIds": ["dora", "cleo"]})).await;
    assert_eq!(told["error"]["code"], "conflict", "all of them or none");
    assert_eq!(number(&pool, "select count(*) from followers f join users u on u.id = f.user_id where u.external_id = 'dora'").await, 2);
    let names: Vec<String> = (0..500).map(|n| format!("publisher-{n}")).collect();
    let publishers = format!("/v1/feeds/{}/publishers", made[0]);
    let (status, told) = anna.post(&publishers, json!({"userIds": names})).await;
    assert_eq!((status, &told["error"]["code"]), (409, &json!("conflict")), "with the maker they are 501");
    assert_eq!(anna.post(&publishers, json!({"userIds": names[..499]})).await.0, 200);
    node.stop().await;
}

#[tokio::test]
async fn a_feed_is_no_chat_and_an_event_no_message_of_one() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let (anna, ben) = (node.api("anna"), node.api("ben"));
    let feed = feed(&anna).await;
    ben.post(&format!("/v1/feeds/{feed}/follow"), json!({})).await;
    let event = published(&anna, json!({"type": "t", "to": {"feed": feed}})).await["eventId"].clone();
    let before = stored(&pool).await;
    for chat in [&*feed, "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"] {
        for user in [&anna, &ben] {
            let tries = [
                user.post("/v1/messages", json!({"chatId": chat, "content": "hello"})).await,
                user.get(&format!("/v1/chats/{chat}")).await,
                user.get(&format!("/v1/chats/{chat}/messages")).await,
                user.post(&format!("/v1/chats/{chat}/read"), json!({"seq": 1})).await,
                user.post(&format!("/v1/chats/{chat}/members"), json!({"userIds": ["ben"]})).await,
                user.post(&format!("/v1/chats/{chat}/leave"), json!({})).await,
            ];
            for (status, told) in tries {
                assert_eq!((status, &told["error"]["code"]), (403, &json!("not_a_member")), "{told}");
            }
        }
    }
    assert_eq!(anna.get("/v1/chats").await.1["chats"], json!([]));
    assert_eq!(stored(&pool).await, before);
    let message = anna.post("/v1/messages", json!({"to": "ben", "content": ""})).await.1["messageId"].clone();
    assert_eq!(node.publisher("shop").get(&format!("/v1/events/{}", message.as_str().unwrap())).await.0, 404);
    assert_eq!(anna.get(&format!("/v1/events/{}", event.as_str().unwrap())).await.0, 200);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn publishers_who_are_new_are_charged_to_whoever_names_them_without_the_scope() {
    let db = database().await;
    let node =
        Node::with(db.options(), |config| (config.send_rate, config.event_rate, config.named_users_per_hour) = (1_000, 0, 500)).await;
    let pool = db.pool(1).await;
    let anna = node.api("anna");
    let names = |from: usize| (from..from + 400).map(|n| format!("publisher-{n}")).collect::<Vec<_>>();
    assert_eq!(anna.post("/v1/feeds", json!({"publishers": names(0)})).await.0, 201);
    assert_eq!(anna.post("/v1/feeds", json!({"publishers": names(0)})).await.0, 201, "they are known by now");
    let (status, told) = anna.post("/v1/feeds", json!({"publishers": names(400)})).await;
    assert_eq!((status, &told["error"]["code"]), (429, &json!("rate_limited")));
    assert_eq!(number(&pool, "select count(*) from users where external_id like 'publisher-%'").await, 400);
    assert_eq!(ids(&anna.get("/v1/feeds?role=publisher").await.1).len(), 2);
    assert_eq!(node.publisher("anna").post("/v1/feeds", json!({"publishers": names(400)})).await.0, 201);
    node.stop().await;
}
