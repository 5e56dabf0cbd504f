//! The user who is invited is told of it, at every node, whichever way it was made: as it happens, and at the next connect.

use serde_json::{Value, json};

use super::{World, befriend, waiting};
use crate::people::{of, stop};
use crate::support::Connect;

const TOLD: [&str; 3] = ["chat:invited", "chat:uninvited", "chat:added"];

/// Broken by telling nothing in `restante_put_invitations`: the connection that was there before waited in vain.
#[tokio::test]
async fn an_invitation_is_told_at_every_node_as_it_is_made_and_as_it_ends_and_once_at_a_connect() {
    let world = World::new().await;
    let [one, other] = world.nodes();
    // At a connect, what waits.
    let (mut here, mut there) = (one.connect("carol").await, other.open(Connect::user("carol").device("phone")).await);
    for socket in [&mut here, &mut there] {
        let told = socket.event("chat:invited").await;
        assert_eq!((&told["chatId"], &told["title"], &told["by"]), (&json!(world.chat), &json!("crew"), &json!("anna")));
        assert!(told["invitedAt"].is_string() && told["expiresAt"].is_string(), "{told}");
    }
    // One that is made now.
    let group = json!({"kind": "group", "title": "second", "members": ["carol"]});
    let second = other.api("anna").post("/v1/chats", group).await.1["chatId"].clone();
    for socket in [&mut here, &mut there] {
        assert_eq!(socket.event("chat:invited").await["chatId"], second);
    }
    // Accepted at one node, and declined at the other.
    here.ask("invitation:accept", json!({"chatId": world.chat})).await;
    for socket in [&mut here, &mut there] {
        let added = socket.event("chat:added").await;
        assert_eq!((&added["chatId"], &added["by"], &added["joinedSeq"]), (&json!(world.chat), &json!("anna"), &json!(0)));
        assert_eq!(socket.event("chat:uninvited").await, json!({"chatId": world.chat}));
    }
    there.ask("invitation:decline", json!({"chatId": second})).await;
    for socket in [&mut here, &mut there] {
        assert_eq!(socket.event("chat:uninvited").await, json!({"chatId": second}));
        assert_eq!(of(socket, &TOLD).await, Vec::<Value>::new());
    }
    let mut again = one.connect("carol").await;
    assert_eq!(of(&mut again, &TOLD).await, Vec::<Value>::new());
    stop(world.parts).await;
}

#[tokio::test]
async fn an_invitation_that_an_application_makes_in_sql_is_told_and_answered_as_any_other() {
    let world = World::new().await;
    let [one, other] = world.nodes();
    let (mut dora, mut ben) = (one.connect("dora").await, other.connect("ben").await);
    befriend(one, "anna", "eve").await;
    let invited = sqlx::query_scalar::<_, Vec<String>>("select restante_invite($1, 'anna', '{dora,eve,carol}')").bind(world.chat_id());
    assert_eq!(invited.fetch_one(world.pool()).await.unwrap(), ["dora"], "eve is a contact, and carol was invited before");
    assert_eq!(dora.event("chat:invited").await["chatId"], json!(world.chat));
    let accepted = sqlx::query_scalar::<_, i64>("select restante_accept_invitation('dora', $1)").bind(world.chat_id());
    assert_eq!(accepted.fetch_one(world.pool()).await.unwrap(), 0);
    assert_eq!(dora.event("chat:uninvited").await["chatId"], json!(world.chat));
    let declined = sqlx::query_scalar::<_, bool>("select restante_decline_invitation('carol', $1)").bind(world.chat_id());
    assert!(declined.fetch_one(world.pool()).await.unwrap());
    assert_eq!(waiting(one, "carol").await, [""; 0]);
    dora.ask("message:send", json!({"chatId": world.chat, "content": "hello"})).await;
    assert_eq!(ben.receive(1).await[0]["content"], "hello");
    stop(world.parts).await;
}
