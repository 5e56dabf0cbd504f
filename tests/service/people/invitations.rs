//! Invitations to groups, where only contacts write to one another: anna is an admin, ben her contact, carol a stranger.

mod ends;
mod told;

use restante::domain::DirectMessages;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::{befriend, of, stop, two_nodes_under};
use crate::support::{Connect, Database, Node, number, rows};

/// Two nodes, and a group of anna and ben to which carol is invited.
struct World {
    parts: (Database, Node, Node, PgPool),
    chat: String,
}

impl World {
    async fn new() -> Self {
        let parts = two_nodes_under(DirectMessages::Contacts).await;
        befriend(&parts.1, "anna", "ben").await;
        let group = json!({"kind": "group", "title": "crew", "members": ["ben", "carol"]});
        let (status, made) = parts.1.api("anna").post("/v1/chats", group).await;
        assert_eq!(status, 201, "{made}");
        Self { chat: made["chatId"].as_str().unwrap().to_owned(), parts }
    }

    fn nodes(&self) -> [&Node; 2] {
        [&self.parts.1, &self.parts.2]
    }

    fn pool(&self) -> &PgPool {
        &self.parts.3
    }

    fn chat_id(&self) -> Uuid {
        self.chat.parse().unwrap()
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/chats/{}{rest}", self.chat)
    }

    /// The users who are invited to the group, as one of its members sees it.
    async fn invited(&self, by: &str) -> Vec<String> {
        let (status, page) = self.parts.2.api(by).get(&self.path("/invitations")).await;
        assert_eq!(status, 200, "{page}");
        page["invited"].as_array().unwrap().iter().map(|user| user["userId"].as_str().unwrap().to_owned()).collect()
    }

    /// Adds carol again, by anna.
    async fn add_carol(&self) -> (u16, Value) {
        self.parts.2.api("anna").post(&self.path("/members"), json!({"userIds": ["carol"]})).await
    }
}

/// The chats of the invitations that wait for a user.
async fn waiting(node: &Node, user: &str) -> Vec<String> {
    let (status, page) = node.api(user).get("/v1/invitations").await;
    assert_eq!(status, 200, "{page}");
    page["invitations"].as_array().unwrap().iter().map(|one| one["chatId"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn one_who_is_no_contact_is_invited_and_has_nothing_of_the_group_before_it_accepts() {
    let world = World::new().await;
    let [one, other] = world.nodes();
    let mut carol = other.connect("carol").await;
    let mut ben = one.connect("ben").await;
    let (_, shown) = one.api("anna").get(&world.path("")).await;
    assert_eq!((&shown["memberCount"], world.invited("ben").await), (&json!(2), vec!["carol".to_owned()]));
    let sent = one.connect("anna").await.ask("message:send", json!({"chatId": world.chat, "content": "for members"})).await;
    let came = ben.receive(1).await.remove(0);
    ben.ack(&came).await;
    ben.tell("typing", json!({"chatId": world.chat, "typing": true})).await;
    // Said after what carol could have been told, on the same way.
    ben.ask("ping", json!({})).await;
    let told = of(&mut carol, &["message:receive", "typing", "user:online", "chat:added"]).await;
    assert_eq!((told, rows(world.pool(), "carol").await.len()), (vec![], 0));
    let (_, status) = one.api("anna").get(&format!("/v1/messages/{}/status", sent["data"]["messageId"].as_str().unwrap())).await;
    assert_eq!(status["statuses"].as_array().unwrap().len(), 1, "{status}");
    for (path, code) in [(world.path(""), 403), (world.path("/messages"), 403), (world.path("/invitations"), 403)] {
        assert_eq!(other.api("carol").get(&path).await.0, code, "{path}");
    }
    let refused = carol.ask("message:send", json!({"chatId": world.chat, "content": "x"})).await;
    assert_eq!(refused["data"]["code"], "not_a_member");
    assert_eq!(carol.ask("presence:get", json!({"userIds": ["ben"]})).await["data"]["users"][0]["online"], false);
    // As a member it gets what comes from now on.
    let answer = carol.ask("invitation:accept", json!({"chatId": world.chat})).await;
    assert_eq!(answer["data"], json!({"chatId": world.chat, "state": "member", "joinedSeq": 1}));
    one.connect("anna").await.ask("message:send", json!({"chatId": world.chat, "content": "for carol too"})).await;
    assert_eq!(carol.receive(1).await[0]["content"], "for carol too");
    let (_, history) = other.api("carol").get(&world.path("/messages")).await;
    assert_eq!(history["messages"].as_array().unwrap().len(), 1, "{history}");
    assert_eq!(world.invited("anna").await, [""; 0]);
    stop(world.parts).await;
}

/// The answer to a command at a door: the state or the code.
async fn answered(world: &World, door: &str, verb: &str) -> String {
    let [one, other] = world.nodes();
    let body = json!({"chatId": world.chat});
    let answer = match door {
        "http" => one.api("carol").post(&format!("/v1/invitations/{verb}"), body).await.1,
        "socket" => other.connect("carol").await.ask(&format!("invitation:{verb}"), body).await["data"].take(),
        _ => {
            let call = format!("select restante_{verb}_invitation('carol', '{}')::text", world.chat);
            let done = sqlx::query_scalar::<_, Option<String>>(sqlx::AssertSqlSafe(call)).fetch_one(world.pool()).await;
            return match (done, verb) {
                (Ok(_), "accept") => "member".to_owned(),
                (Ok(_), _) => "declined".to_owned(),
                (Err(cause), _) => {
                    assert_eq!(cause.into_database_error().unwrap().code().as_deref(), Some("P0002"));
                    "not_found".to_owned()
                }
            };
        }
    };
    let code = answer["error"]["code"].as_str().or(answer["code"].as_str());
    code.or(answer["state"].as_str()).unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Broken by deleting what is declined: it was invited again at once.
#[tokio::test]
async fn each_door_answers_alike_an_answer_may_be_repeated_and_one_that_declined_is_not_invited_again() {
    for door in ["http", "socket", "sql"] {
        let world = World::new().await;
        for (verb, state) in [("decline", "declined"), ("decline", "declined"), ("accept", "not_found")] {
            assert_eq!(answered(&world, door, verb).await, state, "{door} {verb}");
        }
        let (status, refused) = world.add_carol().await;
        assert_eq!((status, &refused["error"]["code"]), (403, &json!("not_accepted")), "{door}");
        assert_eq!((world.invited("anna").await, waiting(&world.parts.1, "carol").await), (vec![], vec![]), "{door}");
        // Once it has expired it is as one that was never made.
        let expired = "update invitations set invited_at = '2026-01-01', expires_at = '2026-01-02'";
        sqlx::query(expired).execute(world.pool()).await.unwrap();
        assert_eq!(world.add_carol().await.1["invited"], json!(["carol"]), "{door}");
        for state in ["member", "member"] {
            assert_eq!(answered(&world, door, "accept").await, state, "{door}");
        }
        assert_eq!(answered(&world, door, "decline").await, "not_found", "{door}");
        assert_eq!(number(world.pool(), "select count(*) from chat_members where left_seq is null").await, 3, "{door}");
        stop(world.parts).await;
    }
}

#[tokio::test]
async fn a_request_that_comes_again_invites_nobody_again_and_contacts_are_added() {
    let world = World::new().await;
    let [one, _] = world.nodes();
    let first = one.api("carol").get("/v1/invitations").await.1["invitations"][0].clone();
    assert_eq!((&first["title"], &first["by"], &first["chatId"]), (&json!("crew"), &json!("anna"), &json!(world.chat)));
    assert_eq!(world.add_carol().await.1, json!({"chatId": world.chat, "added": [], "joinedSeq": 0}));
    assert_eq!(one.api("carol").get("/v1/invitations").await.1["invitations"], json!([first]));
    // A stranger that nobody knows yet, and a contact, in one request.
    befriend(one, "anna", "dora").await;
    let (status, added) = one.api("anna").post(&world.path("/members"), json!({"userIds": ["dora", "eve"]})).await;
    assert_eq!((status, &added["added"], &added["invited"]), (200, &json!(["dora"]), &json!(["eve"])));
    assert_eq!(world.invited("dora").await, ["carol", "eve"]);
    let in_order = one.api("ben").get(&world.path("/invitations?after=carol&limit=1")).await.1;
    assert_eq!((&in_order["invited"][0]["userId"], &in_order["invited"][0]["by"]), (&json!("eve"), &json!("anna")));
    stop(world.parts).await;
}

/// Makes this user so many invitations by the other one, to groups that are there for nothing else.
async fn fill(pool: &PgPool, user: &str, inviter: &str, count: i32) {
    crate::support::users(pool, &[user, inviter]).await;
    let chats = "insert into chats (id, kind, title) select md5('filler ' || n)::uuid, 'group', 'filler' from generate_series(1, $1) n on conflict do nothing";
    sqlx::query(chats).bind(count).execute(pool).await.unwrap();
    let invitations = "insert into invitations (user_id, chat_id, inviter_id, expires_at) \
                       select u.id, md5('filler ' || n)::uuid, i.id, now() + interval '1 day' \
                         from generate_series(1, $3) n, users u, users i where u.external_id = $1 and i.external_id = $2";
    sqlx::query(invitations).bind(user).bind(inviter).bind(count).execute(pool).await.unwrap();
}

/// Broken by leaving a user 50,000 of them: one more was made.
#[tokio::test]
async fn invitations_have_bounds_for_each_user_and_for_each_who_invites() {
    let world = World::new().await;
    let ([one, other], pool) = (world.nodes(), world.pool());
    // Nobody is told that another one has many.
    fill(pool, "dora", "mallory", 100).await;
    let (status, refused) = other.api("anna").post(&world.path("/members"), json!({"userIds": ["dora"]})).await;
    assert_eq!((status, &refused["error"]["code"]), (403, &json!("not_accepted")));
    let page = one.api("dora").get("/v1/invitations?limit=60").await.1;
    let rest = one.api("dora").get(&format!("/v1/invitations?limit=60&after={}", page["next"].as_str().unwrap())).await.1;
    assert_eq!((waiting(one, "dora").await.len(), rest["invitations"].as_array().unwrap().len(), &rest["next"]), (100, 40, &Value::Null));
    fill(pool, "carol", "mallory", 99).await;
    assert_eq!(world.add_carol().await.0, 200, "she has as many as she may, and this one is among them");
    sqlx::query("delete from invitations where chat_id <> $1").bind(world.chat_id()).execute(pool).await.unwrap();
    // Carol is anna's first.
    fill(pool, "eve", "anna", 499).await;
    for user in ["dora", "one that nobody knows"] {
        let (status, refused) = one.api("anna").post(&world.path("/members"), json!({"userIds": [user]})).await;
        assert_eq!((status, &refused["error"]["code"]), (409, &json!("conflict")), "{user}: {refused}");
    }
    assert_eq!(number(pool, "select count(*) from users where external_id like 'one that%'").await, 0);
    assert_eq!(one.api("anna").post("/v1/chats", json!({"kind": "group", "members": ["dora"]})).await.0, 409);
    assert_eq!(number(pool, "select count(*) from chats where kind = 'group' and title is null").await, 0, "nothing is left of it");
    assert_eq!(world.add_carol().await.0, 200, "who is invited already counts for nothing");
    sqlx::raw_sql("delete from invitations; delete from chats where title = 'filler'").execute(pool).await.unwrap();
    stop(world.parts).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_over_each_door() {
    let world = World::new().await;
    let [one, _] = world.nodes();
    let mut carol = one.open(Connect::user("carol")).await;
    for verb in ["accept", "decline"] {
        for (bad, code, status) in
            [(json!({}), "invalid", 400), (json!({"chatId": 7}), "invalid", 400), (json!({"chatId": Uuid::now_v7()}), "not_found", 404)]
        {
            assert_eq!(carol.ask(&format!("invitation:{verb}"), bad.clone()).await["data"]["code"], code, "{verb} {bad}");
            assert_eq!(one.api("carol").post(&format!("/v1/invitations/{verb}"), bad.clone()).await.0, status, "{verb} {bad}");
        }
    }
    for bad in [json!({"limit": 0}), json!({"after": "carol"}), json!({"limit": 501})] {
        assert_eq!(carol.ask("invitation:list", bad.clone()).await["data"]["code"], "invalid", "{bad}");
    }
    assert_eq!(carol.ask("invitation:list", json!({"limit": 1})).await["data"]["invitations"][0]["chatId"], json!(world.chat));
    let (chat, none) = (world.chat_id(), Uuid::now_v7());
    for (chat, inviter, state) in [(chat, "ben", "42501"), (none, "anna", "42501"), (chat, "nobody", "42501")] {
        let call = sqlx::query("select restante_invite($1, $2, '{dora}')").bind(chat).bind(inviter);
        let refused = call.execute(world.pool()).await.unwrap_err();
        assert_eq!(refused.into_database_error().unwrap().code().as_deref(), Some(state), "{inviter}");
    }
    stop(world.parts).await;
}
