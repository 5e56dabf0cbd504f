//! A member that has left, and whose connection stays open: the chat ends for it where it left, and it learns of nothing that comes after.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Node, Socket, database, fill, group, number};

/// The code of a refusal, whichever door it came by.
fn code(answer: &Value) -> Option<&str> {
    answer["data"]["code"].as_str().or_else(|| answer["error"]["code"].as_str())
}

async fn reads(socket: &mut Socket, chat: Uuid, up_to: Value) -> Value {
    let mut data = json!({"chatId": chat});
    data.as_object_mut().unwrap().extend(up_to.as_object().unwrap().clone());
    socket.ask("message:read", data).await
}

async fn id_of(pool: &sqlx::PgPool, chat: Uuid, seq: i64) -> Uuid {
    sqlx::query_scalar("select id from messages where chat_id = $1 and seq = $2").bind(chat).bind(seq).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn a_read_of_one_who_has_left_ends_where_it_left_by_number_and_by_message_over_every_door() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let chat = group(&pool, &["alice", "bob", "carol"]).await;
    fill(&pool, chat, "alice", 5).await;
    let mut bob = node.connect("bob").await;
    bob.receive(5).await;
    let (status, _) = node.api("alice").delete(&format!("/v1/chats/{chat}/members"), json!({"userIds": ["bob"]})).await;
    assert_eq!(status, 200);
    assert_eq!(bob.event("chat:removed").await["leftSeq"], 5);
    let path = format!("/v1/chats/{chat}/read");
    for round in 1..=3 {
        fill(&pool, chat, "alice", 7).await;
        let last = number(&pool, "select max(seq) from messages").await;
        assert_eq!(last, 5 + 7 * round);
        for up_to in [json!({"seq": 1_000_000_000}), json!({"seq": i64::MAX}), json!({"seq": last}), json!({"seq": 6}), json!({"seq": 5})] {
            let answer = reads(&mut bob, chat, up_to.clone()).await;
            assert_eq!(answer["data"]["seq"], 5, "{up_to}: {answer}");
            let (status, body) = node.api("bob").post(&path, up_to.clone()).await;
            assert_eq!((status, &body["seq"]), (200, &json!(5)), "{up_to}: {body}");
        }
        for seq in [6, last] {
            let up_to = json!({"messageId": id_of(&pool, chat, seq).await});
            let answer = reads(&mut bob, chat, up_to.clone()).await;
            assert_eq!(code(&answer), Some("not_found"), "{answer}");
            assert_eq!(code(&node.api("bob").post(&path, up_to).await.1), Some("not_found"));
        }
        let own = json!({"messageId": id_of(&pool, chat, 4).await});
        assert_eq!(reads(&mut bob, chat, own).await["data"]["seq"], 4, "what came before is readable");
    }
    assert_eq!(number(&pool, "select max(k.read_seq) from marks k join users u on u.id = k.user_id where u.external_id = 'bob'").await, 5);
    // A member that is back reads on, and a member that stayed was never stopped.
    assert_eq!(reads(&mut node.connect("carol").await, chat, json!({"seq": 1_000})).await["data"]["seq"], 26);
    node.api("alice").post(&format!("/v1/chats/{chat}/members"), json!({"userIds": ["bob"]})).await;
    fill(&pool, chat, "alice", 1).await;
    assert_eq!(reads(&mut bob, chat, json!({"seq": 1_000})).await["data"]["seq"], 27);
    node.stop().await;
}

#[tokio::test]
async fn a_stranger_is_told_the_same_of_every_message_whether_the_chat_has_it_or_not() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let chat = group(&pool, &["alice", "bob"]).await;
    fill(&pool, chat, "alice", 1).await;
    let mut eve = node.connect("eve").await;
    for message in [id_of(&pool, chat, 1).await, Uuid::now_v7()] {
        let answer = reads(&mut eve, chat, json!({"messageId": message})).await;
        assert_eq!(code(&answer), Some("not_a_member"), "{answer}");
    }
    node.stop().await;
}
