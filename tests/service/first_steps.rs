//! The main way of a message, once from end to end.

use serde_json::json;

use crate::support::{Node, database};

#[tokio::test]
async fn a_message_for_an_online_user_is_delivered_acked_read_and_the_sender_told() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);

    let sent = alice.send("bob", "hello").await;
    let received = bob.event("message:receive").await;
    assert_eq!(received["messageId"], sent["messageId"]);
    assert_eq!((&received["content"], &received["attempt"], &received["inboxSeq"]), (&json!("hello"), &json!(1), &json!(1)));

    bob.ack(&received).await;
    let delivered = alice.event("message:status").await;
    assert_eq!((&delivered["status"], &delivered["userId"]), (&json!("delivered"), &json!("bob")));

    let read = bob.ask("message:read", json!({"chatId": sent["chatId"], "seq": sent["seq"]})).await;
    assert_eq!(read["event"], "message:read:ok", "{read}");
    let read = alice.event("message:status").await;
    assert_eq!(read["status"], "read");
    node.stop().await;
}
