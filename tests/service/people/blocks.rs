//! Blocks: what is refused, what ends, and what stays as it was.

use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::{block, of, stop, unblock};
use crate::nodes::two_nodes;
use crate::support::fixtures::LockHolder;
use crate::support::{Connect, Node, Row, SOMEBODY_WAITS, Socket, direct, fill, group, rows, statuses, until_true};

/// The code with which each door refuses a message of this user: the socket by name and by chat, HTTP at its two paths, SQL.
async fn refused(node: &Node, pool: &PgPool, from: &str, to: &str, chat: Uuid) -> Vec<String> {
    let mut socket = node.connect(from).await;
    let by_name = socket.ask("message:send", json!({"to": to, "content": "x"})).await;
    let by_chat = socket.ask("message:send", json!({"chatId": chat, "content": "x"})).await;
    let mut codes: Vec<Value> = vec![by_name["data"]["code"].clone(), by_chat["data"]["code"].clone()];
    for path in ["/v1/messages", "/api/messages/send"] {
        for target in [json!({"to": to, "content": "x"}), json!({"chatId": chat, "content": "x"})] {
            let (status, answer) = node.api(from).post(path, target).await;
            assert!(status == 403 || status == 200, "{answer}");
            codes.push(answer["error"]["code"].clone());
        }
    }
    let sent = sqlx::query("select restante_send($1, $2, 'x')").bind(chat).bind(from).execute(pool).await;
    codes.push(sent.err().map(|error| error.into_database_error().unwrap().code().unwrap().into_owned()).into());
    codes.into_iter().map(|code| code.as_str().unwrap_or("accepted").to_owned()).collect()
}

/// Broken by leaving `closed_chats` out of the short way of `restante_accept`: single messages came through.
#[tokio::test]
async fn a_direct_message_between_the_two_is_refused_at_every_door_either_way_and_nothing_says_why() {
    let world = two_nodes().await;
    let (_, one, other, pool) = &world;
    let chat = direct(pool, "alice", "bob").await;
    block(other, "bob", "alice").await;
    for (node, from, to) in [(one, "alice", "bob"), (other, "alice", "bob"), (one, "bob", "alice")] {
        let codes = refused(node, pool, from, to, chat).await;
        assert_eq!(codes, [["not_accepted"; 6].as_slice(), &["42501"]].concat(), "{from}");
    }
    let answer = one.connect("alice").await.ask("message:send", json!({"to": "bob", "content": "x"})).await;
    assert!(!answer.to_string().contains("block"), "{answer}");
    unblock(one, "bob", "alice").await;
    assert_eq!(refused(other, pool, "alice", "bob", chat).await, ["accepted"; 7]);
    stop(world).await;
}

/// Broken by leaving `closed_chats` out of the long way of `restante_accept`: what came together was accepted.
#[tokio::test]
async fn of_messages_that_come_together_those_to_a_closed_chat_are_refused_and_the_others_are_not() {
    let world = two_nodes().await;
    let (_, one, other, pool) = &world;
    let (closed, open) = (direct(pool, "alice", "bob").await, direct(pool, "alice", "carol").await);
    block(other, "bob", "alice").await;
    let alice = crate::support::users(pool, &["alice"]).await[0];
    let outcomes: Vec<String> = sqlx::query_scalar(
        "select unnest(outcomes) from restante_accept(array[gen_random_uuid(), gen_random_uuid(), gen_random_uuid()], array[$1, $2, $1], \
         array[$3, $3, $3], array['text', 'text', 'text'], array['x', 'y', 'z'], array[null, null, null], array[null, null, null]::timestamptz[])",
    )
    .bind(closed)
    .bind(open)
    .bind(alice)
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(outcomes, ["not_accepted", "accepted", "not_accepted"]);
    assert_eq!(one.api("carol").get("/v1/inbox").await.1["messages"][0]["content"], "y");
    stop(world).await;
}

/// Broken by writing `blocked` as the reason in words: its sender could have read it.
#[tokio::test]
async fn what_waits_from_the_blocked_ends_as_a_gap_and_its_sender_learns_no_reason() {
    let world = two_nodes().await;
    let (_, one, other, pool) = &world;
    // A device that was there before.
    other.open(Connect::user("bob").device("phone")).await.close().await;
    let mut alice = one.connect("alice").await;
    let first = alice.send("bob", "1").await;
    for content in ["2", "3"] {
        alice.send("bob", content).await;
    }
    // The block ends nothing that the one who blocks has sent.
    let mut bob = other.open(Connect::user("bob").with("window", 2)).await;
    bob.receive(2).await;
    bob.ask("message:send", json!({"to": "alice", "content": "from bob"})).await;
    block(one, "bob", "alice").await;
    let mut gaps = 0;
    while gaps < 2 {
        let gap = bob.event("queue:gap").await;
        assert_eq!((&gap["reason"], &gap["class"]), (&json!("blocked"), &json!("chat")), "{gap}");
        gaps += gap["count"].as_i64().unwrap();
    }
    let ended = |seq| Row { seq, status: "expired".to_owned(), attempts: 0, reason: Some("undelivered".to_owned()) };
    assert_eq!(rows(pool, "bob").await, [ended(1), ended(2), ended(3)]);
    let phone = other.open(Connect::user("bob").device("phone")).await;
    let mut phone = phone;
    let gap = phone.event("queue:gap").await;
    assert_eq!((&gap["reason"], &gap["fromSeq"], &gap["toSeq"]), (&json!("blocked"), &json!(1), &json!(3)));
    assert_eq!(alice.receive(1).await[0]["content"], "from bob");
    assert_eq!(of(&mut alice, &["message:status"]).await, Vec::<Value>::new());
    let path = format!("/v1/messages/{}/status", first["messageId"].as_str().unwrap());
    let (_, told) = one.api("alice").get(&path).await;
    assert_eq!(
        told["statuses"],
        json!([{"userId": "bob", "status": "sent", "deliveredAt": null, "readAt": null, "reason": null}]),
        "the end of what waited would tell of the block"
    );
    stop(world).await;
}

#[tokio::test]
async fn more_than_one_transaction_ends_is_shown_to_nobody_and_ended_by_a_job() {
    let world = two_nodes().await;
    let (_, one, _, pool) = &world;
    let chat = direct(pool, "alice", "bob").await;
    for _ in 0..5 {
        fill(pool, chat, "alice", 500).await;
    }
    block(one, "bob", "alice").await;
    assert_eq!(one.api("bob").get("/v1/inbox?limit=500").await.1["messages"], json!([]));
    until_true(pool, "select not exists (select from message_status where status = 'sent')").await;
    let ended: i64 = sqlx::query_scalar("select count(*) from message_status where ended = 'blocked'").fetch_one(pool).await.unwrap();
    assert_eq!(ended, 2_500);
    unblock(one, "bob", "alice").await;
    let mut bob = one.connect("bob").await;
    one.connect("alice").await.send("bob", "after it").await;
    assert_eq!(bob.receive(1).await[0]["content"], "after it", "no flood");
    stop(world).await;
}

#[tokio::test]
async fn a_message_that_was_accepted_before_the_block_is_a_duplicate_after_it_and_a_new_one_is_refused() {
    let world = two_nodes().await;
    let (_, one, other, _) = &world;
    let mut alice = one.connect("alice").await;
    let (accepted, fresh) = (Uuid::now_v7(), Uuid::now_v7());
    let send = |id: Uuid| json!({"messageId": id, "to": "bob", "content": "x"});
    let first = alice.ask("message:send", send(accepted)).await["data"].clone();
    block(other, "bob", "alice").await;
    let again = alice.ask("message:send", send(accepted)).await["data"].clone();
    assert_eq!((&again["duplicate"], &again["seq"], &again["createdAt"]), (&json!(true), &first["seq"], &first["createdAt"]));
    assert_eq!(alice.ask("message:send", send(fresh)).await["data"]["code"], "not_accepted");
    unblock(other, "bob", "alice").await;
    // The refusal was final and left nothing behind: the same id is as good as new.
    assert_eq!(alice.ask("message:send", send(fresh)).await["data"]["duplicate"], false);
    assert_eq!(alice.ask("message:send", send(accepted)).await["data"]["duplicate"], true);
    stop(world).await;
}

/// Broken by opening the chat without a look for the other block.
#[tokio::test]
async fn a_chat_is_open_again_only_when_neither_blocks_the_other_and_what_ended_stays_ended() {
    let world = two_nodes().await;
    let (_, one, other, pool) = &world;
    let mut alice = one.connect("alice").await;
    alice.send("bob", "before").await;
    block(one, "bob", "alice").await;
    block(other, "alice", "bob").await;
    block(other, "alice", "bob").await;
    for user in ["bob", "bob", "alice"] {
        let answer = alice.ask("message:send", json!({"to": "bob", "content": "x"})).await;
        assert_eq!(answer["data"]["code"], "not_accepted", "{user}");
        unblock(one, user, if user == "bob" { "alice" } else { "bob" }).await;
    }
    alice.send("bob", "after").await;
    assert_eq!(other.connect("bob").await.receive(1).await[0]["content"], "after");
    assert_eq!(statuses(pool, "bob").await, ["expired", "sent"]);
    stop(world).await;
}

#[tokio::test]
async fn in_groups_messages_come_and_who_is_blocked_cannot_bring_the_other_into_one() {
    let world = two_nodes().await;
    let (_, one, other, pool) = &world;
    let common = group(pool, &["alice", "bob", "carol"]).await;
    let own = group(pool, &["alice", "carol"]).await;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    block(other, "bob", "alice").await;
    for (from, to, content) in [(0, 1, "hello"), (1, 0, "hi")] {
        let both = [&mut alice, &mut bob];
        both[from].ask("message:send", json!({"chatId": common, "content": content})).await;
        let came = both[to].receive(1).await.remove(0);
        assert_eq!(came["content"], content);
        both[to].ack(&came).await;
        assert_eq!(both[from].event("message:status").await["status"], "delivered", "receipts of groups are told");
    }
    let members = format!("/v1/chats/{own}/members");
    let (status, answer) = one.api("alice").post(&members, json!({"userIds": ["dora", "bob"]})).await;
    assert_eq!((status, &answer["error"]["code"]), (403, &json!("not_accepted")));
    assert_eq!(one.api("alice").get(&format!("/v1/chats/{own}")).await.1["memberCount"], 2, "all of them, or none");
    let (status, answer) = one.api("alice").post("/v1/chats", json!({"kind": "group", "members": ["carol", "bob"]})).await;
    assert_eq!((status, &answer["error"]["code"]), (403, &json!("not_accepted")));
    // The one who blocks may.
    let (status, _) = other.api("bob").post("/v1/chats", json!({"kind": "group", "members": ["carol", "alice"]})).await;
    assert_eq!(status, 201);
    assert_eq!(one.api("alice").post(&members, json!({"userIds": ["dora"]})).await.0, 200);
    stop(world).await;
}

/// Broken by asking for blocks of members, too, where one of the names was new.
#[tokio::test]
async fn a_member_that_has_blocked_the_admin_is_passed_over_whoever_is_named_beside_it() {
    let world = two_nodes().await;
    let (_, one, other, pool) = &world;
    let chat = group(pool, &["alice", "bob"]).await;
    crate::support::users(pool, &["known", "shy"]).await;
    for user in ["bob", "shy"] {
        block(other, user, "alice").await;
    }
    let members = format!("/v1/chats/{chat}/members");
    for (beside, status) in [("known", 200), ("new-1", 200), ("shy", 403)] {
        let (answered, answer) = one.api("alice").post(&members, json!({"userIds": ["bob", beside]})).await;
        assert_eq!(answered, status, "{beside}: {answer}");
    }
    let (status, answer) = one.api("alice").post(&members, json!({"userIds": ["shy", "new-2"]})).await;
    assert_eq!((status, &answer["error"]["code"]), (403, &json!("not_accepted")));
    assert_eq!(one.api("alice").get(&format!("/v1/chats/{chat}")).await.1["memberCount"], 4);
    stop(world).await;
}

#[tokio::test]
async fn no_direct_chat_begins_between_the_two_and_one_that_is_there_is_found() {
    let world = two_nodes().await;
    let (_, one, other, pool) = &world;
    direct(pool, "alice", "carol").await;
    for blocked in ["bob", "carol"] {
        block(one, blocked, "alice").await;
    }
    for (node, user, with) in [(one, "alice", "bob"), (other, "bob", "alice")] {
        let (status, answer) = node.api(user).post("/v1/chats", json!({"kind": "direct", "members": [with]})).await;
        assert_eq!((status, &answer["error"]["code"]), (403, &json!("not_accepted")), "{user}");
        let answer = node.connect(user).await.ask("message:send", json!({"to": with, "content": "x"})).await;
        assert_eq!(answer["data"]["code"], "not_accepted");
    }
    assert_eq!(other.api("bob").get("/v1/chats").await.1["chats"], json!([]), "an empty chat would be a message too");
    assert_eq!(one.api("alice").post("/v1/chats", json!({"kind": "direct", "members": ["carol"]})).await.0, 200);
    unblock(one, "bob", "alice").await;
    assert_eq!(one.api("alice").post("/v1/chats", json!({"kind": "direct", "members": ["bob"]})).await.0, 201);
    stop(world).await;
}

/// Broken by not locking the users of a block: it did not see the chat, which stayed open.
#[tokio::test]
async fn a_block_waits_for_one_who_makes_the_chat_of_the_two_and_closes_it() {
    let world = two_nodes().await;
    let (db, one, _, pool) = &world;
    crate::support::users(pool, &["alice", "bob"]).await;
    let (alice, bob) = (one.api("alice"), one.api("bob"));
    let made = "select restante_direct_chats(array[(select id from users where external_id = 'alice')], array['bob'], array[true])";
    let maker = LockHolder::holds(&db.options(), made).await;
    let blocking = tokio::spawn(async move { bob.post("/v1/blocks", json!({"userId": "alice"})).await.0 });
    while !blocking.is_finished() && !sqlx::query_scalar::<_, bool>(SOMEBODY_WAITS).fetch_one(pool).await.unwrap() {}
    maker.commits().await;
    // It may have waited for too long by then.
    assert!([200, 503].contains(&blocking.await.unwrap()));
    block(one, "bob", "alice").await;
    let (_, answer) = alice.post("/v1/messages", json!({"to": "bob", "content": "x"})).await;
    assert_eq!(answer["error"]["code"], "not_accepted");
    stop(world).await;
}

/// Broken by not looking for blocks once the chat is made: some chats stayed open.
#[tokio::test]
async fn a_chat_that_is_made_while_one_blocks_the_other_is_closed_or_was_never_made() {
    let world = two_nodes().await;
    let (_, one, other, pool) = &world;
    for n in 0..40 {
        let (from, to) = (format!("from-{n}"), format!("to-{n}"));
        crate::support::users(pool, &[&from, &to]).await;
        let (sender, blocker) = (one.api(&from), other.api(&to));
        let send = sender.post("/v1/messages", json!({"to": to, "content": "x"}));
        let ((_, sent), (status, _)) = tokio::join!(send, blocker.post("/v1/blocks", json!({"userId": from})));
        assert_eq!(status, 200);
        assert!(sent["messageId"].is_string() || sent["error"]["code"] == "not_accepted", "{sent}");
        let (_, again) = sender.post("/v1/messages", json!({"to": to, "content": "y"})).await;
        assert_eq!(again["error"]["code"], "not_accepted", "{n}");
        assert_eq!(blocker.get("/v1/inbox").await.1["messages"], json!([]), "{n}");
    }
    stop(world).await;
}

/// Sends a message that its recipient rejects for good.
async fn dead_letter(sender: &mut Socket, recipient: &mut Socket, to: Value) -> Value {
    let sent = sender.ask("message:send", to).await["data"]["messageId"].clone();
    assert_eq!(recipient.event("message:receive").await["messageId"], sent);
    let answer = recipient.ask("message:reject", json!({"messageId": sent, "reason": "no", "final": true})).await;
    assert_eq!(answer["data"]["status"], "failed", "{answer}");
    sent
}

/// Broken by asking for no block when a dead letter is put back: it was delivered. And by asking for blocks in groups and either way.
#[tokio::test]
async fn a_dead_letter_of_the_blocked_is_not_put_back_while_the_block_lasts_and_others_are() {
    let world = two_nodes().await;
    let (_, one, other, pool) = &world;
    let common = group(pool, &["alice", "bob"]).await;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    let direct = dead_letter(&mut alice, &mut bob, json!({"to": "bob", "content": "x"})).await;
    let in_group = dead_letter(&mut alice, &mut bob, json!({"chatId": common, "content": "x"})).await;
    let of_the_other = dead_letter(&mut bob, &mut alice, json!({"to": "alice", "content": "x"})).await;
    block(other, "bob", "alice").await;
    let put_back = async |message: &Value, user: &str| {
        let items = json!({"items": [{"messageId": message, "userId": user}]});
        one.admin().post("/v1/admin/dead-letters/requeue", items).await.1["results"][0]["outcome"].clone()
    };
    assert_eq!(put_back(&direct, "bob").await, "blocked");
    let in_sql = sqlx::query("select restante_requeue($1, 'bob')").bind(Uuid::parse_str(direct.as_str().unwrap()).unwrap());
    assert_eq!(in_sql.execute(pool).await.unwrap_err().into_database_error().unwrap().code().as_deref(), Some("55000"));
    assert_eq!(of(&mut bob, &["message:receive"]).await, Vec::<Value>::new());
    for (message, user, to) in [(&in_group, "bob", &mut bob), (&of_the_other, "alice", &mut alice)] {
        assert_eq!(put_back(message, user).await, "requeued");
        let came = to.event("message:receive").await;
        assert_eq!(came["messageId"], *message);
        to.ack(&came).await;
    }
    unblock(one, "bob", "alice").await;
    assert_eq!(put_back(&direct, "bob").await, "requeued");
    assert_eq!(bob.event("message:receive").await["messageId"], direct);
    stop(world).await;
}

#[tokio::test]
async fn blocks_are_listed_in_pages_and_are_the_same_over_each_door() {
    let world = two_nodes().await;
    let (_, one, other, pool) = &world;
    let mut bob = other.connect("bob").await;
    let made = bob.ask("block:add", json!({"userId": "alice"})).await;
    assert_eq!((&made["event"], &made["data"]), (&json!("block:ok"), &json!({"userId": "alice", "isBlocked": true})));
    block(one, "bob", "carol").await;
    let in_sql = |call: &'static str, user: &'static str| sqlx::query_scalar::<_, bool>(call).bind(user).fetch_one(pool);
    assert!(in_sql("select restante_block('bob', $1)", "dora").await.unwrap());
    assert!(!in_sql("select restante_block('bob', $1)", "dora").await.unwrap());
    let names = |page: &Value| -> Vec<String> {
        page["blocks"].as_array().unwrap().iter().map(|block| block["userId"].as_str().unwrap().to_owned()).collect()
    };
    let page = one.api("bob").get("/v1/blocks?limit=2").await.1;
    assert_eq!((names(&page), &page["next"]), (vec!["alice".to_owned(), "carol".to_owned()], &json!("carol")));
    let rest = bob.ask("block:list", json!({"after": "carol"})).await["data"].clone();
    assert_eq!((names(&rest), &rest["next"]), (vec!["dora".to_owned()], &Value::Null));
    assert_eq!(bob.ask("block:remove", json!({"userId": "carol"})).await["data"]["isBlocked"], false);
    assert!(in_sql("select restante_unblock('bob', $1)", "dora").await.unwrap());
    assert!(!in_sql("select restante_unblock('bob', $1)", "nobody").await.unwrap());
    assert_eq!(names(&one.api("bob").get("/v1/blocks").await.1), ["alice"]);
    assert_eq!(one.api("alice").get("/v1/blocks").await.1["blocks"], json!([]), "who is blocked sees nothing of it");
    stop(world).await;
}

#[tokio::test]
async fn a_block_that_makes_no_sense_is_refused() {
    let world = two_nodes().await;
    let (_, one, _, pool) = &world;
    let mut bob = one.connect("bob").await;
    for bad in [json!({"userId": "bob"}), json!({}), json!({"userId": 7}), json!({"userId": ""}), json!({"userId": "x".repeat(129)})] {
        assert_eq!(bob.ask("block:add", bad.clone()).await["data"]["code"], "invalid", "{bad}");
        assert_eq!(one.api("bob").post("/v1/blocks", bad.clone()).await.0, 400, "{bad}");
        assert_eq!(one.api("bob").delete("/v1/blocks", bad).await.0, 400);
    }
    for limit in [json!(0), json!(501), json!("1")] {
        assert_eq!(bob.ask("block:list", json!({"limit": limit})).await["data"]["code"], "invalid", "{limit}");
    }
    assert_eq!(one.api("bob").get("/v1/blocks?limit=0").await.0, 400);
    let by_itself = sqlx::query("select restante_block('bob', 'bob')").execute(pool).await.unwrap_err();
    assert_eq!(by_itself.into_database_error().unwrap().code().as_deref(), Some("22023"));
    let full = "insert into blocks (user_id, other_id) select (select id from users where external_id = 'bob'), u.id \
                from restante_users(array(select 'blocked-' || n from generate_series(1, 10000) n)) u";
    sqlx::query(full).execute(pool).await.unwrap();
    assert_eq!(bob.ask("block:add", json!({"userId": "alice"})).await["data"]["code"], "conflict");
    stop(world).await;
}
