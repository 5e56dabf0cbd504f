//! Histories, inboxes and dead letters show nothing of what a recalled message said.

use super::*;

#[tokio::test]
async fn no_door_shows_what_a_recalled_message_said_and_the_table_has_it_no_more() {
    let (_db, node, pool) = start().await;
    let mut alice = node.connect("alice").await;
    let sent =
        alice.ask("message:send", json!({"to": "bob", "content": "the secret", "metadata": {"key": "the secret"}})).await["data"].clone();
    let (id, chat) = (sent["messageId"].as_str().unwrap(), sent["chatId"].as_str().unwrap());
    let before = node.api("bob").get(&format!("/v1/chats/{chat}/messages")).await.1;
    assert_eq!(before["messages"][0]["recalledAt"], Value::Null);
    // A dead letter of it.
    assert_eq!(node.api("bob").post("/v1/inbox/reject", json!({"messageId": id, "final": true})).await.0, 200);
    let done = recalled(&mut alice, &sent).await;
    for user in ["alice", "bob"] {
        let page = node.api(user).get(&format!("/v1/chats/{chat}/messages")).await.1;
        let expected = json!([{
            "messageId": id, "chatId": chat, "seq": 1, "senderId": "alice", "messageType": "text", "createdAt": sent["createdAt"],
            "recalledAt": done["recalledAt"], "sender": {"name": null, "profilePicture": null}
        }]);
        assert_eq!(page["messages"], expected);
    }
    let letter = node.admin().get(&format!("/v1/admin/dead-letters/{id}")).await.1;
    assert_eq!([&letter["content"], &letter["metadata"], &letter["recalledAt"]], [&Value::Null, &Value::Null, &done["recalledAt"]]);
    let again = node.admin().post("/v1/admin/dead-letters/requeue", json!({"items": [{"messageId": id, "userId": "bob"}]})).await.1;
    assert_eq!(again["results"][0]["outcome"], "recalled");
    let refused = sqlx::query("select restante_requeue($1, 'bob')").bind(id_of(&sent)).execute(&pool).await;
    assert!(refused.unwrap_err().to_string().contains("was recalled"));
    assert_eq!(node.api("bob").get("/v1/inbox").await.1["messages"], json!([]), "it has failed, so nobody has it");
    let left: bool =
        sqlx::query_scalar("select exists (select from messages m where m::text like '%the secret%')").fetch_one(&pool).await.unwrap();
    assert!(!left);
    let status = node.api("alice").get(&format!("/v1/messages/{id}/status")).await.1;
    assert_eq!(status["statuses"][0]["status"], "failed");
    all_done(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn the_inbox_over_http_shows_the_notice_and_takes_its_ack_and_its_reject() {
    let (_db, node, pool) = start().await;
    let (mut alice, bob) = (node.connect("alice").await, node.api("bob"));
    let message = alice.send("bob", "x").await;
    bob.post("/v1/inbox/ack", json!({"messageId": message["messageId"]})).await;
    recalled(&mut alice, &message).await;
    let (_, page) = bob.get("/v1/inbox").await;
    let notice = &page["messages"][0];
    assert_eq!((&notice["messageId"], &notice["inboxSeq"], &notice["content"]), (&message["messageId"], &json!(2), &Value::Null), "{page}");
    let rejected = bob.post("/v1/inbox/reject", json!({"messageId": notice["recallId"], "final": true})).await;
    assert_eq!((rejected.0, &rejected.1["status"]), (200, &json!("failed")));
    assert_eq!(bob.get("/v1/inbox").await.1["messages"], json!([]));
    // The sender is told nothing of it, and an operator puts it back as any other.
    assert!(alice.until_pong().await.iter().all(|frame| frame["data"]["status"] != "failed"));
    let items = json!({"items": [{"messageId": notice["recallId"], "userId": "bob"}]});
    assert_eq!(node.admin().post("/v1/admin/dead-letters/requeue", items).await.1["results"][0]["outcome"], "requeued");
    assert_eq!(bob.get("/v1/inbox").await.1["messages"][0]["recallId"], notice["recallId"]);
    assert_eq!(bob.post("/v1/inbox/ack", json!({"upTo": 3})).await.0, 200);
    assert_eq!(bob.get("/v1/inbox").await.1["messages"], json!([]));
    let alice = node.connect("alice").await;
    assert!(alice.skipped().iter().all(|frame| frame["data"]["status"] != "failed"));
    all_done(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn the_notice_goes_with_the_message_and_the_message_stays_as_long_as_it_waits() {
    let db = database().await;
    let pool = db.pool(2).await;
    let chat = direct(&pool, "alice", "bob").await;
    crate::support::fill(&pool, chat, "alice", 2).await;
    sqlx::query("update message_status set status = 'delivered', delivered_at = now() where status = 'sent'").execute(&pool).await.unwrap();
    sqlx::query("select restante_recall(id, 'alice') from messages where seq = 1").execute(&pool).await.unwrap();
    sqlx::query("select restante_recall_part(null, '00000000-0000-0000-0000-000000000000', 500)").execute(&pool).await.unwrap();
    let as_before = "alter table message_status disable trigger user; update message_status set delivered_at = now() - interval '200 days' where status <> 'sent';
                     alter table message_status enable trigger user; update messages set created_at = now() - interval '200 days'";
    sqlx::raw_sql(as_before).execute(&pool).await.unwrap();
    let left = async || -> (i64, i64) {
        sqlx::query("select restante_purge_inboxes(90, 0, 'chat', 500, 1000)").execute(&pool).await.unwrap();
        sqlx::query("select restante_purge_chats(90, '00000000-0000-0000-0000-000000000000', 500, 1000)").execute(&pool).await.unwrap();
        sqlx::query_as("select count(*) filter (where seq > 0), count(*) filter (where seq < 0) from messages")
            .fetch_one(&pool)
            .await
            .unwrap()
    };
    assert_eq!(left().await, (2, 1), "its notice waits");
    assert_eq!(statuses(&pool, "bob").await, ["sent"]);
    sqlx::query("update message_status set status = 'delivered', delivered_at = now() where status = 'sent'").execute(&pool).await.unwrap();
    sqlx::query("select restante_advance_settled(user_id, 'chat') from message_status").execute(&pool).await.unwrap();
    sqlx::raw_sql(as_before).execute(&pool).await.unwrap();
    assert_eq!(left().await, (0, 0));
    assert_consistent(&pool).await;
}
