//! Events that merge: what one takes the place of goes on in its data, however and whenever it is read.

use super::*;
use crate::support::fixtures::LockHolder;

/// A like of this user, by its feed or to listed users.
fn like(to: &Value, actor: &str) -> Value {
    json!({
        "type": "likes", "to": to, "data": {"post": 7, "likes": 1, "actors": [actor]},
        "collapseKey": "likes 7", "merge": {"likes": "sum", "actors": "union", "n": "count"}
    })
}

async fn publish_like(node: &Node, to: &Value, actor: &str) {
    let (status, told) = node.publisher("shop").post("/v1/events", like(to, actor)).await;
    assert_eq!(status, 200, "{told}");
}

/// The merged data of the likes of these users, newest first.
fn merged(actors: &[&str]) -> (Value, Value) {
    let data = json!({"post": 7, "likes": actors.len(), "n": actors.len(), "actors": actors, "actorsMore": 0});
    (json!(actors.len()), data)
}

fn told(event: &Value) -> (Value, Value) {
    (event["merged"].clone(), event["data"].clone())
}

async fn next(socket: &mut Socket) -> (Value, Value) {
    told(&socket.event("event:receive").await)
}

#[tokio::test]
async fn what_waited_comes_as_one_event_and_every_repetition_shows_the_same() {
    let (_db, node, pool) = start().await;
    for device in ["phone", "laptop"] {
        node.open(Connect::user("bob").device(device)).await.close().await;
    }
    let feed = feed(&node, &["bob"]).await;
    for (round, to) in (1..).zip([json!({"users": ["bob"]}), json!({"feed": feed}), json!({"users": ["bob"]})]) {
        publish_like(&node, &to, "anna").await;
        let mut bob = node.open(Connect::user("bob").device("phone")).await;
        assert_eq!(next(&mut bob).await, merged(&["anna"]), "{to}: alone it has the same shape");
        publish_like(&node, &to, "ben").await;
        assert_eq!(bob.event("queue:gap").await["reason"], "superseded");
        assert_eq!(next(&mut bob).await, merged(&["ben", "anna"]), "{to}");
        bob.cut();
        publish_like(&node, &to, "cleo").await;
        let all = merged(&["cleo", "ben", "anna"]);
        let mut bob = node.open(Connect::user("bob").device("phone").with("batch", 1)).await;
        let batch = bob.event("event:batch").await;
        let event = batch["events"][0].clone();
        assert_eq!((told(&event), batch["events"].as_array().unwrap().len()), (all.clone(), 1), "{to}");
        bob.ask("message:reject", json!({"messageId": event["eventId"]})).await;
        assert_eq!(told(&bob.event("event:batch").await["events"][0]), all, "{to}: after a reject");
        assert_eq!(told(&node.api("bob").get("/v1/inbox?class=event").await.1["events"][0]), all, "{to}: over HTTP");
        bob.ask("message:delivered", json!({"messageId": event["eventId"]})).await;
        bob.close().await;
        publish_like(&node, &to, "dora").await;
        let mut laptop = node.open(Connect::user("bob").device("laptop")).await;
        assert_eq!(next(&mut laptop).await, all, "{to}: for a device that has not got it");
        assert_eq!(next(&mut laptop).await, merged(&["dora"]), "{to}: what was acked goes on in none");
        let last = number(&pool, "select max(last_seq) from inboxes where class = 'event'").await;
        laptop.ask("message:delivered", json!({"upTo": last, "class": "event"})).await;
        laptop.close().await;
        let mut phone = node.open(Connect::user("bob").device("phone")).await;
        let last = phone.event("event:receive").await;
        phone.ask("message:delivered", json!({"upTo": last["inboxSeq"], "class": "event"})).await;
        phone.close().await;
        assert_eq!(number(&pool, "select count(*) from message_status where status = 'delivered'").await, 2 * round);
    }
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn each_follower_gets_what_it_had_not_received_and_what_was_for_it() {
    let (_db, node, pool) = start().await;
    let feed = feed(&node, &["bob", "cleo"]).await;
    let to = json!({"feed": feed});
    assert_eq!(node.publisher("shop").post(&format!("/v1/feeds/{feed}/publishers"), json!({"userIds": ["cleo"]})).await.0, 200);
    publish_like(&node, &to, "anna").await;
    let mut bob = node.connect("bob").await;
    assert_eq!(next(&mut bob).await, merged(&["anna"]));
    bob.ask("message:delivered", json!({"upTo": 1, "class": "event"})).await;
    bob.close().await;
    let (status, _) = node.api("cleo").post("/v1/events", like(&to, "cleo herself")).await;
    assert_eq!(status, 200);
    let mut not_for_bob = like(&to, "not for bob");
    not_for_bob["except"] = json!(["bob"]);
    assert_eq!(node.publisher("shop").post("/v1/events", not_for_bob).await.0, 200);
    // More than a page lies between.
    let between = "select count(restante_publish('shop', 'tick', '{}', p_feed => $1)) from generate_series(1, 70)";
    sqlx::query(between).bind(Uuid::parse_str(&feed).unwrap()).execute(&pool).await.unwrap();
    assert_eq!(node.api("dora").post(&format!("/v1/feeds/{feed}/follow"), json!({})).await.0, 200);
    publish_like(&node, &to, "zoe").await;
    let likes = async |user: &str| {
        let inbox = node.api(user).get("/v1/inbox?class=event&limit=500").await.1;
        let of_likes = |event: &&Value| event["type"] == "likes";
        inbox["events"].as_array().unwrap().iter().filter(of_likes).map(told).collect::<Vec<_>>()
    };
    assert_eq!(likes("bob").await, [merged(&["zoe", "cleo herself"])]);
    assert_eq!(likes("cleo").await, [merged(&["zoe", "not for bob", "anna"])]);
    assert_eq!(likes("dora").await, [merged(&["zoe"])], "what was published before it followed is not for it");
    assert_consistent(&pool).await;
    node.stop().await;
}

/// Broken by noting only what the statement before had left: those of one request were lost, and so were those of the job.
#[tokio::test]
async fn those_of_one_request_and_those_that_a_job_writes_are_merged_too_and_a_thousand_at_most() {
    let (db, node, pool) = start().await;
    let ids = users(&pool, &["bob", "cleo"]).await;
    let to = json!({"users": ["bob", "cleo"]});
    let held = format!("select from inboxes where user_id = {} and class = 'event' for update", ids[1]);
    let holder = LockHolder::holds(&db.options(), &held).await;
    for _ in 0..3 {
        let events = vec![like(&to, "anna"); 100];
        assert_eq!(node.publisher("shop").post("/v1/events", json!({"events": events})).await.0, 200);
    }
    let only = async |user: &str| {
        let inbox = node.api(user).get("/v1/inbox?class=event").await.1;
        let events = inbox["events"].as_array().unwrap().clone();
        assert_eq!(events.len(), 1, "{events:?}");
        (events[0]["merged"].clone(), events[0]["data"]["likes"].clone(), events[0]["data"]["actors"].clone())
    };
    assert_eq!(only("bob").await, (json!(300), json!(300), json!(["anna"])));
    holder.commits().await;
    until_true(&pool, "select count(*) = 0 from fan_out_recipients").await;
    assert_eq!(only("cleo").await, (json!(300), json!(300), json!(["anna"])));
    let many = "select count(restante_publish('shop', 'likes', '{\"likes\": 1, \"actors\": [\"anna\"]}', '{bob}', p_collapse_key => 'likes 7', p_merge => '{\"likes\": \"sum\"}')) from generate_series(1, 900)";
    sqlx::query(many).execute(&pool).await.unwrap();
    until_true(&pool, "select count(*) = 0 from fan_out_recipients").await;
    assert_eq!(only("bob").await, (json!(1_000), json!(1_000), json!(["anna"])));
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn one_without_merge_takes_the_place_of_those_before_and_the_same_id_again_is_the_first_event() {
    let (_db, node, pool) = start().await;
    let to = json!({"users": ["bob"]});
    let with = |event: Value, name: &str, value: Value| {
        let mut event = event;
        event[name] = value;
        event
    };
    let id = Uuid::now_v7();
    let events = [
        like(&to, "lost"),
        with(like(&to, "anna"), "merge", json!(null)),
        with(like(&to, "ben"), "eventId", json!(id)),
        with(with(like(&to, "ben"), "eventId", json!(id)), "merge", json!({"likes": "count"})),
    ];
    let mut last = json!(null);
    for event in events {
        last = node.publisher("shop").post("/v1/events", event).await.1;
    }
    assert_eq!(last["duplicate"], true);
    let mut bob = node.connect("bob").await;
    assert_eq!(next(&mut bob).await, merged(&["ben", "anna"]));
    // From SQL, with its answer at the call where something is wrong.
    let publish = async |more: &str| {
        let publish = format!("select restante_publish('shop', 'likes', {more}) is not null");
        let asked = sqlx::query_scalar::<_, bool>(sqlx::AssertSqlSafe(publish)).fetch_one(&pool).await;
        asked.map_err(|error| error.as_database_error().unwrap().code().unwrap().into_owned())
    };
    let before = number(&pool, "select count(*) from messages").await;
    let many = (0..21).map(|n| format!("\"m{n}\": \"sum\"")).collect::<Vec<_>>().join(", ");
    for (more, code) in [
        (r#"'{}', '{bob}', p_merge => '{"n": "count"}'"#, "22023"),
        (r#"'{}', '{bob}', p_collapse_key => 'k', p_merge => '"text"'"#, "22023"),
        (r#"'{}', '{bob}', p_collapse_key => 'k', p_merge => '{"n": "max"}'"#, "22023"),
        (r#"'{}', '{bob}', p_collapse_key => 'k', p_merge => '{"n": null}'"#, "22023"),
        (r#"'{}', '{bob}', p_collapse_key => 'k', p_merge => '{}'"#, "22023"),
        (r#"'7', '{bob}', p_collapse_key => 'k', p_merge => '{"n": "count"}'"#, "22023"),
        (r#"null, '{bob}', p_collapse_key => 'k', p_merge => '{"n": "count"}'"#, "22023"),
        (r#"'{}', '{bob}', p_collapse_key => 'k', p_merge => '{"n": "union", "nMore": "sum"}'"#, "22023"),
        (&format!("'{{}}', '{{bob}}', p_collapse_key => 'k', p_merge => '{{{many}}}'"), "22023"),
        (r#"jsonb_build_object('d', repeat('d', 8150)), '{bob}', p_collapse_key => 'k', p_merge => '{"n": "count"}'"#, "54000"),
    ] {
        assert_eq!(publish(more).await, Err(code.to_owned()), "{more}");
    }
    assert_eq!(number(&pool, "select count(*) from messages").await, before);
    let good = r#"'{"post": 7, "likes": 1, "actors": ["cleo"]}', '{bob}', p_collapse_key => 'likes 7', p_merge => '{"likes": "sum", "actors": "union", "n": "count"}'"#;
    assert_eq!(publish(good).await, Ok(true));
    assert_eq!(next(&mut bob).await, merged(&["cleo", "ben", "anna"]));
    node.stop().await;
}

/// Broken by merging past it. In a feed of which nothing was a row yet the chain alone says where to stop.
#[tokio::test]
async fn what_replaces_or_had_expired_before_the_next_came_ends_the_chain_of_a_feed() {
    for end in ["replaces", "had expired"] {
        let (_db, node, pool) = start().await;
        let to = json!({"feed": feed(&node, &["bob"]).await});
        publish_like(&node, &to, "lost").await;
        let expected = if end == "replaces" {
            let mut replacing = like(&to, "anna");
            replacing["merge"] = json!(null);
            assert_eq!(node.publisher("shop").post("/v1/events", replacing).await.0, 200);
            ["ben", "anna"].as_slice()
        } else {
            sqlx::query("update messages set expires_at = clock_timestamp()").execute(&pool).await.unwrap();
            ["ben"].as_slice()
        };
        publish_like(&node, &to, "ben").await;
        let mut bob = node.connect("bob").await;
        assert_eq!(next(&mut bob).await, merged(expected), "{end}");
        node.stop().await;
    }
}
