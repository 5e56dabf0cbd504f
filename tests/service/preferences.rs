//! Preferences: what is muted is marked in what is sent from then on, at every node, by whatever way it goes; and bad requests.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::fixtures::number;
use crate::support::{Connect, Node, PATIENCE, Socket, database, told};

async fn put(node: &Node, user: &str, body: Value) -> (u16, Value) {
    told(node.api(user).request(Method::PUT, "/v1/preferences").json(&body).send().await.unwrap()).await
}

/// Mutes these chats and no others.
async fn mute(node: &Node, user: &str, chats: &[&Value]) {
    let (status, answer) = put(node, user, json!({"mutedChats": chats})).await;
    assert_eq!((status, &answer["mutedChats"]), (200, &json!(chats)), "{answer}");
}

/// Returns whether the next message is muted. The field is missing where it is not.
async fn is_muted(socket: &mut Socket) -> bool {
    let message = socket.event("message:receive").await;
    socket.ack(&message).await;
    match message.get("muted") {
        None => false,
        Some(muted) => muted.as_bool().filter(|is_muted| *is_muted).expect("it is true, or missing"),
    }
}

/// Broken by emitting while the change is read: the first messages after it came as before it.
#[tokio::test]
async fn each_message_after_a_change_is_marked_by_it_on_sockets_in_batches_and_in_the_inbox() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (mut anna, mut ben) = (node.connect("anna").await, node.connect("ben").await);
    let chat = anna.send("ben", "first").await["chatId"].clone();
    assert!(!is_muted(&mut ben).await);
    for n in 0..20 {
        let is_on = n % 2 == 0;
        mute(&node, "ben", &[&chat][..usize::from(is_on)]).await;
        anna.send("ben", &n.to_string()).await;
        assert_eq!(is_muted(&mut ben).await, is_on, "message {n}");
    }
    ben.close().await;
    mute(&node, "ben", &[&chat]).await;
    for text in ["last", "and least"] {
        anna.send("ben", text).await;
    }
    let mut batched = node.open(Connect::user("ben").with("batch", 1)).await;
    let batch = batched.event("message:batch").await;
    let messages = batch["messages"].as_array().unwrap();
    assert!(messages.len() == 2 && messages.iter().all(|message| message["muted"] == json!(true)), "{batch}");
    let (_, inbox) = node.api("ben").get("/v1/inbox?limit=2").await;
    assert_eq!((&inbox["messages"][0]["muted"], &inbox["messages"][1]["muted"]), (&json!(true), &json!(true)));
    // The sender has muted nothing, and another chat is not muted.
    batched.send("anna", "back").await;
    assert!(!is_muted(&mut anna).await);
    let mut cleo = node.connect("cleo").await;
    cleo.send("ben", "hello").await;
    let batch = batched.wait("the message of cleo", |frame| frame["data"]["messages"][0]["content"] == "hello").await;
    assert_eq!(batch["data"]["messages"][0].get("muted"), None);
    mute(&node, "ben", &[]).await;
    let (_, inbox) = node.api("ben").get("/v1/inbox?limit=2").await;
    assert_eq!(inbox["messages"][0].get("muted"), None);
    node.stop().await;
}

/// Broken by telling the sessions of the own node only.
#[tokio::test]
async fn sessions_at_other_nodes_learn_of_a_change_and_so_they_do_when_it_is_made_in_sql() {
    let db = database().await;
    let (here, there, pool) = (Node::start(db.options()).await, Node::start(db.options()).await, db.pool(2).await);
    let (mut anna, mut ben) = (here.connect("anna").await, there.connect("ben").await);
    let chat = anna.send("ben", "first").await["chatId"].clone();
    assert!(!is_muted(&mut ben).await);
    let sql = |chats: &str| format!("select restante_set_preferences('ben', null, array[{chats}]::uuid[])");
    for (n, is_on) in [(0, true), (1, false), (2, true), (3, false)] {
        match n {
            0 => mute(&here, "ben", &[&chat]).await,
            1 => mute(&here, "ben", &[]).await,
            2 => _ = sqlx::query(sqlx::AssertSqlSafe(sql(&format!("'{}'", chat.as_str().unwrap())))).execute(&pool).await.unwrap(),
            _ => _ = sqlx::query(sqlx::AssertSqlSafe(sql(""))).execute(&pool).await.unwrap(),
        }
        // Nodes hear of one another without an order: so until it is heard.
        let heard = async {
            loop {
                anna.send("ben", &n.to_string()).await;
                if is_muted(&mut ben).await == is_on {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("change {n} was not heard"));
    }
    here.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn preferences_read_back_and_what_is_refused_changes_nothing() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(2).await);
    let mut anna = node.connect("anna").await;
    let chat = anna.send("ben", "hello").await["chatId"].clone();
    let none = json!({"mutedTypes": [], "mutedChats": []});
    assert_eq!(node.api("anna").get("/v1/preferences").await, (200, none.clone()));
    let (status, stored) = put(&node, "anna", json!({"mutedTypes": ["poke", "like", "like"], "mutedChats": [chat]})).await;
    assert_eq!((status, &stored), (200, &json!({"mutedTypes": ["like", "poke"], "mutedChats": [chat]})));
    let mut cleo = node.connect("cleo").await;
    let strangers = cleo.send("dora", "psst").await["chatId"].clone();
    let ids = |count: usize| (0..count).map(|_| Uuid::now_v7()).collect::<Vec<_>>();
    for (body, code) in [
        (json!({"mutedTypes": [""]}), "invalid"),
        (json!({"mutedTypes": ["t".repeat(65)]}), "invalid"),
        (json!({"mutedTypes": ["t\u{0}"]}), "invalid"),
        (json!({"mutedTypes": "like"}), "invalid"),
        (json!({"mutedTypes": (0..101).map(|n| n.to_string()).collect::<Vec<_>>()}), "invalid"),
        (json!({"mutedTypes": [], "mutedChats": ["x"]}), "invalid"),
        (json!({"mutedTypes": [], "mutedChats": ids(1_001)}), "invalid"),
        (json!({"mutedTypes": [], "mutedChats": ids(1_000)}), "not_found"),
        (json!({"mutedTypes": [], "mutedChats": [strangers]}), "not_found"),
        (json!({"mutedTypes": [], "mutedChats": ["00000000-0000-0000-0000-000000000001"]}), "not_found"),
    ] {
        let (_, answer) = put(&node, "anna", body.clone()).await;
        assert_eq!(answer["error"]["code"], code, "{answer}");
    }
    assert_eq!(put(&node, "anna", json!({})).await, (200, stored.clone()), "what is missing stays");
    assert_eq!(node.api("anna").get("/v1/preferences").await, (200, stored));
    assert_eq!(node.api("ben").get("/v1/preferences").await, (200, none), "what others mute is theirs");
    assert_eq!(put(&node, "anna", json!({"mutedTypes": [], "mutedChats": []})).await.0, 200);
    assert_eq!(number(&pool, "select count(*) from preferences").await, 0);
    node.stop().await;
}
