//! The ends of invitations beside an answer: withdrawn, blocked, added by a contact, expired, and nobody left.

use restante::domain::DirectMessages;
use serde_json::{Value, json};

use super::{World, befriend, waiting};
use crate::people::{block, of, stop, two_nodes_under, unblock};
use crate::support::fixtures::{LockHolder, store};
use crate::support::{SOMEBODY_WAITS, number, until_true};

/// Broken by deleting what is declined: it was made again.
#[tokio::test]
async fn an_admin_withdraws_an_invitation_and_nobody_else_does() {
    let world = World::new().await;
    let [one, other] = world.nodes();
    let mut carol = other.connect("carol").await;
    carol.event("chat:invited").await;
    let withdraw = json!({"userIds": ["carol"]});
    let (status, refused) = one.api("ben").delete(&world.path("/members"), withdraw.clone()).await;
    assert_eq!((status, &refused["error"]["code"]), (403, &json!("forbidden")));
    assert_eq!(other.api("carol").delete(&world.path("/members"), withdraw.clone()).await.0, 403, "who is invited declines");
    for withdrawn in [json!(["carol"]), Value::Null] {
        let (status, answer) = one.api("anna").delete(&world.path("/members"), withdraw.clone()).await;
        assert_eq!((status, &answer["removed"], &answer["withdrawn"]), (200, &json!([]), &withdrawn));
    }
    assert_eq!(carol.event("chat:uninvited").await, json!({"chatId": world.chat}));
    assert_eq!(carol.ask("invitation:accept", json!({"chatId": world.chat})).await["data"]["code"], "not_found");
    assert_eq!(world.add_carol().await.1["invited"], json!(["carol"]));
    carol.event("chat:invited").await;
    // An invitation that was declined cannot be withdrawn and made again.
    carol.ask("invitation:decline", json!({"chatId": world.chat})).await;
    let (_, answer) = one.api("anna").delete(&world.path("/members"), withdraw).await;
    assert_eq!((&answer["withdrawn"], world.add_carol().await.0), (&Value::Null, 403));
    stop(world.parts).await;
}

/// Broken by keeping them in `restante_put_block`: carol could still accept. Broken by ending those that others have made, or that the blocked has made
/// to others.
#[tokio::test]
async fn a_block_ends_what_the_blocked_has_invited_to_and_it_invites_no_more() {
    let world = World::new().await;
    let [one, other] = world.nodes();
    let mut carol = one.connect("carol").await;
    carol.event("chat:invited").await;
    let of_ben = one.api("ben").post("/v1/chats", json!({"kind": "group", "members": ["carol"]})).await.1["chatId"].clone();
    assert_eq!(carol.event("chat:invited").await["chatId"], of_ben);
    assert_eq!(one.api("anna").post(&world.path("/members"), json!({"userIds": ["dora"]})).await.1["invited"], json!(["dora"]));
    block(other, "carol", "anna").await;
    assert_eq!(carol.event("chat:uninvited").await, json!({"chatId": world.chat}));
    assert_eq!(json!(waiting(one, "carol").await), json!([of_ben]), "ben is not blocked");
    assert_eq!(world.invited("anna").await, ["dora"], "dora blocks nobody");
    assert_eq!(carol.ask("invitation:accept", json!({"chatId": world.chat})).await["data"]["code"], "not_found");
    for path in [world.path("/members"), "/v1/chats".to_owned()] {
        let body = json!({"kind": "group", "members": ["carol"], "userIds": ["carol"]});
        let (status, refused) = one.api("anna").post(&path, body).await;
        assert_eq!((status, &refused["error"]["code"]), (403, &json!("not_accepted")), "{path}");
    }
    let (_, made) = one.api("ben").post("/v1/chats", json!({"kind": "group", "members": ["carol"]})).await;
    assert_eq!(carol.event("chat:invited").await["chatId"], made["chatId"], "of ben it has blocked nothing");
    unblock(one, "carol", "anna").await;
    assert_eq!(of(&mut carol, &["chat:invited"]).await, Vec::<Value>::new(), "no flood");
    assert_eq!(world.add_carol().await.0, 200);
    stop(world.parts).await;
}

/// Broken by ending with a block what is declined, too: another admin, or the same one after the block, invited again.
#[tokio::test]
async fn what_was_declined_stays_declined_when_its_inviter_is_blocked_unblocked_leaves_or_is_erased() {
    let world = World::new().await;
    let [one, other] = world.nodes();
    let decline = json!({"chatId": world.chat});
    assert_eq!(other.api("carol").post("/v1/invitations/decline", decline).await.0, 200);
    block(one, "carol", "anna").await;
    unblock(one, "carol", "anna").await;
    let (status, refused) = world.add_carol().await;
    assert_eq!((status, &refused["error"]["code"]), (403, &json!("not_accepted")), "the block is over");
    block(one, "carol", "anna").await;
    assert_eq!(one.api("anna").post(&world.path("/leave"), json!({})).await.0, 200);
    let by_ben = async || other.api("ben").post(&world.path("/members"), json!({"userIds": ["carol"]})).await;
    let (status, refused) = by_ben().await;
    assert_eq!((status, &refused["error"]["code"]), (403, &json!("not_accepted")), "another admin");
    assert_eq!(waiting(one, "carol").await, [""; 0]);
    assert!([200, 202].contains(&one.admin().post("/v1/admin/erasures", json!({"userId": "anna", "content": "keep"})).await.0));
    until_true(world.pool(), "select count(*) > 0 and bool_and(done_at is not null) from erasures").await;
    assert_eq!(by_ben().await.0, 403, "its inviter is no more");
    assert_eq!(number(world.pool(), "select count(*) from invitations where declined_at is not null and inviter_id is null").await, 1);
    // Once it has expired it is as one that was never made.
    sqlx::query("update invitations set invited_at = '2026-01-01', expires_at = '2026-01-02'").execute(world.pool()).await.unwrap();
    assert_eq!(by_ben().await.1["invited"], json!(["carol"]));
    stop(world.parts).await;
}

/// Broken by not locking the users in `restante_why_not_invite`: the invitation stood behind the block.
#[tokio::test]
async fn an_invitation_waits_for_a_block_that_is_being_made_and_is_refused() {
    let world = World::new().await;
    let [one, _] = world.nodes();
    crate::support::users(world.pool(), &["dora"]).await;
    let blocking = LockHolder::holds(&world.parts.0.options(), "select restante_block('dora', 'anna')").await;
    let (anna, path) = (one.api("anna"), world.path("/members"));
    let (again, same) = (one.api("anna"), path.clone());
    let inviting = tokio::spawn(async move { anna.post(&path, json!({"userIds": ["dora"]})).await });
    while !inviting.is_finished() && !sqlx::query_scalar::<_, bool>(SOMEBODY_WAITS).fetch_one(world.pool()).await.unwrap() {}
    blocking.commits().await;
    let (status, answer) = inviting.await.unwrap();
    // It may have waited for too long by then.
    let answer = if status == 503 { again.post(&same, json!({"userIds": ["dora"]})).await.1 } else { answer };
    assert_eq!(answer["error"]["code"], "not_accepted");
    assert_eq!(waiting(one, "dora").await, [""; 0]);
    stop(world.parts).await;
}

#[tokio::test]
async fn one_that_a_contact_adds_is_invited_no_more_also_where_it_had_declined() {
    let world = World::new().await;
    let [one, other] = world.nodes();
    befriend(one, "anna", "carol").await;
    let mut carol = other.connect("carol").await;
    carol.event("chat:invited").await;
    assert_eq!(world.add_carol().await.1["added"], json!(["carol"]));
    assert_eq!(carol.event("chat:uninvited").await, json!({"chatId": world.chat}));
    assert_eq!((world.invited("carol").await, waiting(one, "carol").await), (vec![], vec![]));
    // Eve has declined, and becomes a contact of anna.
    one.api("anna").post(&world.path("/members"), json!({"userIds": ["eve"]})).await;
    assert_eq!(other.api("eve").post("/v1/invitations/decline", json!({"chatId": world.chat})).await.0, 200);
    befriend(one, "anna", "eve").await;
    let (_, answer) = one.api("anna").post(&world.path("/members"), json!({"userIds": ["eve"]})).await;
    assert_eq!(answer["added"], json!(["eve"]));
    stop(world.parts).await;
}

#[tokio::test]
async fn an_invitation_that_has_expired_counts_no_more_and_goes() {
    let world = World::new().await;
    let [one, other] = world.nodes();
    sqlx::query("update invitations set invited_at = '2026-01-01', expires_at = '2026-01-02'").execute(world.pool()).await.unwrap();
    assert_eq!((waiting(one, "carol").await, world.invited("ben").await), (vec![], vec![]));
    let mut carol = other.connect("carol").await;
    for verb in ["accept", "decline"] {
        let answer = carol.ask(&format!("invitation:{verb}"), json!({"chatId": world.chat})).await;
        assert_eq!(answer["data"]["code"], "not_found", "{verb}");
    }
    assert_eq!(of(&mut carol, &["chat:invited"]).await, Vec::<Value>::new());
    one.api("anna").post(&world.path("/members"), json!({"userIds": ["eve"]})).await;
    let removed = store(one).purge_invitations(1_000).await.unwrap();
    // A job of a node may have been faster.
    assert!(removed <= 1 && number(world.pool(), "select count(*) from invitations").await == 1);
    assert_eq!(waiting(one, "eve").await, [world.chat.as_str()], "that one has not expired");
    stop(world.parts).await;
}

/// Broken by members that are counted without those who are invited.
#[tokio::test]
async fn nobody_accepts_into_a_group_that_all_have_left_or_that_is_full() {
    let world = World::new().await;
    let [one, other] = world.nodes();
    let joins = "insert into chat_members (chat_id, user_id) select $1, u.id from restante_users(array(select 'crowd-' || n from generate_series($2, $3) n)) u";
    sqlx::query(joins).bind(world.chat_id()).bind(1).bind(4_997).execute(world.pool()).await.unwrap();
    let (status, none_is_free) = one.api("anna").post(&world.path("/members"), json!({"userIds": ["dora"]})).await;
    assert_eq!((status, &none_is_free["error"]["code"]), (409, &json!("too_many_members")), "the last place is carol's");
    sqlx::query(joins).bind(world.chat_id()).bind(4_998).bind(4_998).execute(world.pool()).await.unwrap();
    let (status, full) = one.api("carol").post("/v1/invitations/accept", json!({"chatId": world.chat})).await;
    assert_eq!((status, &full["error"]["code"]), (409, &json!("too_many_members")));
    let leave = "update chat_members set left_seq = 0 where user_id <> (select id from users where external_id = 'anna')";
    sqlx::query(leave).execute(world.pool()).await.unwrap();
    assert_eq!(other.api("anna").post(&world.path("/leave"), Value::Null).await.0, 200);
    assert_eq!(waiting(one, "carol").await, [""; 0]);
    let (status, gone) = one.api("carol").post("/v1/invitations/accept", json!({"chatId": world.chat})).await;
    assert_eq!((status, &gone["error"]["code"]), (404, &json!("not_found")));
    world.parts.1.stop().await;
    world.parts.2.stop().await;
}

/// Where everybody writes to everybody an admin adds whom it likes, and what waits from before may still be answered.
#[tokio::test]
async fn where_contacts_are_off_everybody_is_added() {
    let parts = two_nodes_under(DirectMessages::Everyone).await;
    let (_, one, other, pool) = &parts;
    let (_, made) = one.api("anna").post("/v1/chats", json!({"kind": "group", "members": ["carol"]})).await;
    let path = format!("/v1/chats/{}/members", made["chatId"].as_str().unwrap());
    let (_, added) = other.api("anna").post(&path, json!({"userIds": ["dora"]})).await;
    assert_eq!(added, json!({"chatId": made["chatId"], "added": ["dora"], "joinedSeq": 0}));
    assert_eq!(number(pool, "select count(*) from invitations").await, 0);
    stop(parts).await;
}
