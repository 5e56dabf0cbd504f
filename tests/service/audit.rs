//! The audit: every act of an operator leaves a row in its own transaction, whichever way it was asked for, and no row is ever changed.

use restante::domain::{ExternalId, Operator};
use restante::store::Act;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::process::Command;

use crate::support::fixtures::{LockHolder, lock_inbox, number, store, user};
use crate::support::{Database, Node, database, secret};

const LIST: &str = "/v1/admin/audit";

/// A message of anna's that ben has rejected for good. Returns its id.
async fn failed(node: &Node) -> String {
    let (mut anna, mut ben) = (node.connect("anna").await, node.connect("ben").await);
    let sent = anna.send("ben", "nightingale").await;
    ben.event("message:receive").await;
    ben.ask("message:reject", json!({"messageId": sent["messageId"], "reason": "cannot decode", "final": true})).await;
    sent["messageId"].as_str().unwrap().to_owned()
}

/// The acts that an operator is shown, oldest first, without what differs from run to run.
async fn acts(node: &Node) -> Vec<Value> {
    let (status, list) = node.admin().get(LIST).await;
    assert_eq!(status, 200, "{list}");
    let mut entries = list["entries"].as_array().unwrap().clone();
    entries.reverse();
    for entry in &mut entries {
        let entry = entry.as_object_mut().unwrap();
        assert!(entry.remove("id").is_some() && entry.remove("at").is_some());
        entry.remove("address");
    }
    entries
}

async fn run(pool: &PgPool, statements: &str) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.map(|_| ())
}

/// The role that the tests' nodes log in as.
async fn role(pool: &PgPool) -> String {
    sqlx::query_scalar("select session_user::text").fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn each_revocation_is_noted_with_what_it_revokes_and_not_why() {
    let db = database().await;
    let pool = db.pool(1).await;
    let node = Node::start(db.options()).await;
    let revoked = node.admin().post("/v1/admin/revocations", json!({"userId": "ben", "deviceId": "phone", "reason": "nightingale"})).await;
    assert_eq!(revoked.0, 200, "{revoked:?}");
    run(&pool, "select restante_revoke(null, p_token => 'token-7', p_reason => 'nightingale')").await.unwrap();
    let noted: Vec<Value> = acts(&node).await;
    let of = |n: usize| (&noted[n]["action"], &noted[n]["target"], &noted[n]["outcome"], &noted[n]["actor"]);
    let (action, outcome) = (json!("token.revoke"), json!("revoked"));
    let admin = noted[0]["actor"].clone();
    assert_eq!(of(0), (&action, &json!({"userId": "ben", "deviceId": "phone"}), &outcome, &admin));
    assert_eq!(of(1), (&action, &json!({"tokenId": "token-7"}), &outcome, &json!(role(&pool).await)));
    assert!(admin != json!(role(&pool).await), "the operator is named: {admin}");
    assert_eq!((&noted[0]["nodeId"], &noted[1]["nodeId"]), (&json!(node.app().context().notifier.node()), &Value::Null));
    assert!(!json!(noted).to_string().contains("nightingale"));
    node.stop().await;
}

/// Broken by an act that does not pass on through which node it was asked for.
#[tokio::test]
async fn every_act_over_http_names_the_node_that_was_asked() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    node.connect("ben").await;
    let dead_letter = json!({"items": [{"messageId": uuid::Uuid::now_v7(), "userId": "ben"}], "reason": "test"});
    for (path, body) in [
        ("dead-letters/requeue", json!({"items": dead_letter["items"]})),
        ("dead-letters/discard", dead_letter.clone()),
        ("limits", json!({"userId": "ben", "factor": 2})),
        ("keys/rotate", json!({})),
        ("revocations", json!({"tokenId": "token-7"})),
        ("erasures", json!({"userId": "ben", "content": "keep"})),
    ] {
        let before = acts(&node).await.len();
        let (_, answer) = node.admin().post(&format!("/v1/admin/{path}"), body).await;
        let noted = acts(&node).await;
        assert!(noted.len() > before, "{path}: {answer}");
        for act in &noted[before..] {
            assert_eq!(act["nodeId"], json!(node.app().context().notifier.node()), "{path}: {act}");
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn each_act_is_noted_with_its_outcome_whether_it_came_over_http_by_command_or_in_sql() {
    let db = database().await;
    let pool = db.pool(1).await;
    let node = Node::start(db.options()).await;
    let (message, role) = (failed(&node).await, role(&pool).await);
    let admin = node.admin();
    let items =
        json!({"items": [{"messageId": message, "userId": "ben"}, {"messageId": message, "userId": "nobody"}], "reason": "nightingale"});
    let command = by_command(&db, &["dead-letters", "requeue", &message, "--recipient", "ben"]).await;
    assert!(command.contains("1 of 1 requeued"), "{command}");
    admin.post("/v1/admin/dead-letters/requeue", json!({"items": items["items"]})).await;
    admin.post("/v1/admin/dead-letters/discard", items).await;
    run(&pool, &format!("select restante_discard('{message}', 'ben', 'nightingale')")).await.unwrap();
    run(&pool, &format!("select restante_requeue('{message}', 'ben')")).await.unwrap();
    run(&pool, &format!("select restante_requeue('{message}', 'ben')")).await.expect_err("it waits again: nothing is done");
    run(&pool, &format!("select restante_discard('{message}', 'ben')")).await.unwrap();

    let of_node = |action: &str, user: &str, outcome: &str| {
        json!({"actor": "operator", "action": action, "target": {"messageId": message, "userId": user}, "outcome": outcome,
               "nodeId": node.app().context().notifier.node(), "role": role})
    };
    let in_sql = |action: &str, outcome: &str| json!({"actor": role, "action": action, "target": {"messageId": message, "userId": "ben"}, "outcome": outcome, "role": role});
    let (requeue, discard) = ("dead_letter.requeue", "dead_letter.discard");
    let expected = [
        in_sql(requeue, "requeued"),
        of_node(requeue, "ben", "not_failed"),
        of_node(requeue, "nobody", "no_recipient"),
        of_node(discard, "ben", "discarded"),
        of_node(discard, "nobody", "not_failed"),
        in_sql(discard, "not_failed"),
        in_sql(requeue, "requeued"),
        in_sql(discard, "discarded"),
    ];
    assert_eq!(acts(&node).await, expected);
    assert_eq!(number(&pool, "select count(*) from audit a where a::text like '%nightingale%'").await, 0, "no content, and no reason");
    node.stop().await;
}

/// The words of a command that works on the database of a test.
pub async fn by_command(db: &Database, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restante"));
    let done = command.args(arguments).env("DATABASE_URL", db.url()).env("JWT_SECRET", secret()).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[tokio::test]
async fn an_act_that_is_taken_back_or_finds_a_lock_leaves_no_row() {
    let db = database().await;
    let pool = db.pool(1).await;
    let node = Node::start(db.options()).await;
    let message = failed(&node).await;
    run(&pool, &format!("begin; select restante_requeue('{message}', 'ben'); rollback")).await.unwrap();
    let ben = user(store(&node), "ben").await;
    let holder = LockHolder::holds(&db.options(), &lock_inbox(ben.user)).await;
    let items = json!({"items": [{"messageId": message, "userId": "ben"}]});
    let (_, answer) = node.admin().post("/v1/admin/dead-letters/requeue", items).await;
    assert_eq!(answer["results"][0]["outcome"], "busy");
    holder.commits().await;
    assert_eq!(acts(&node).await, Vec::<Value>::new());
    node.stop().await;
}

#[tokio::test]
async fn no_row_of_the_audit_is_changed_or_removed_by_whomever() {
    let db = database().await;
    let pool = db.pool(1).await;
    run(&pool, "select restante_audit('test', '{\"userId\": \"ben\"}', 'done')").await.unwrap();
    for statement in [
        "update audit set actor = 'nobody'",
        "update audit set outcome = outcome",
        "delete from audit",
        "delete from audit where false",
        "truncate audit",
        "insert into audit (id, actor, action, target, outcome) overriding system value values (1, 'a', 'b', '{}', 'c') on conflict (id) do update set actor = 'nobody'",
    ] {
        let refused = run(&pool, statement).await.expect_err(statement);
        assert_eq!(refused.as_database_error().unwrap().constraint(), Some("what_was_done_stays_written"), "{statement}");
    }
    assert_eq!(number(&pool, "select count(*) from audit where actor = session_user and outcome = 'done'").await, 1);
}

#[tokio::test]
async fn an_act_of_several_statements_is_noted_by_itself_and_what_is_too_long_is_refused() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let operator = Operator { name: ExternalId::try_from("carol".to_owned()).unwrap(), node: node.app().context().notifier.node() };
    let target = |user: String| json!({"userId": user}).as_object().unwrap().clone();
    let act = |user: String| Act { action: "test", target: target(user), outcome: "done" };
    store(&node).audit(Some(&operator), act("ben".to_owned())).await.unwrap();
    store(&node).audit(None, act("ü".repeat(128))).await.unwrap();
    assert!(store(&node).audit(Some(&operator), act("x".repeat(2_048))).await.is_err());
    let noted = acts(&node).await;
    assert_eq!((&noted[0]["actor"], &noted[0]["nodeId"]), (&json!("carol"), &json!(operator.node)));
    assert_eq!((noted.len(), &noted[1]["nodeId"]), (2, &Value::Null));
    node.stop().await;
}

#[tokio::test]
async fn the_audit_is_paged_newest_first_for_operators_only() {
    let db = database().await;
    let pool = db.pool(1).await;
    let node = Node::start(db.options()).await;
    run(&pool, "select restante_audit('act' || n, '{}', 'done') from generate_series(1, 5) n").await.unwrap();
    let admin = node.admin();
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let (_, page) = admin.get(&format!("{LIST}?limit=2{after}")).await;
        seen.extend(page["entries"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, ["act5", "act4", "act3", "act2", "act1"]);
    for bad in ["?after=x", "?after=-1", "?limit=0", "?limit=501"] {
        assert_eq!(admin.get(&format!("{LIST}{bad}")).await.1["error"]["code"], "invalid", "{bad}");
    }
    let (status, answer) = node.api("anna").get(LIST).await;
    assert_eq!((status, &answer["error"]["code"]), (403, &json!("forbidden")));
    let shown = by_command(&db, &["audit", "--limit", "2"]).await;
    assert!(shown.lines().count() == 2 && shown.lines().next().unwrap().contains("act5  {}  done  role "), "{shown}");
    let over_http = Command::new(env!("CARGO_BIN_EXE_restante"))
        .args(["audit", "--json", "--url", &node.url()])
        .env("JWT_SECRET", secret())
        .output()
        .await
        .unwrap();
    let lines = String::from_utf8(over_http.stdout).unwrap();
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((lines.lines().count(), &first["action"]), (5, &json!("act5")));
    node.stop().await;
}
