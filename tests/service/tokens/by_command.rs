//! Revocations by command: at a running service and at the database, with the same effect, the same list and a row of the audit each.

use serde_json::{Value, json};
use tokio::process::Command;

use super::until_answered;
use crate::support::{Node, SECRET, database, scoped_token, token};

/// The exit code and both outputs of `restante revocations` with these words, at a place that a variable names.
async fn command(place: (&str, &str), words: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restante"));
    command.arg("revocations").args(words).current_dir(std::env::temp_dir());
    command.env_remove("DATABASE_URL").env_remove("RESTANTE_URL").env_remove("TOKEN_LIFETIME_MAX");
    let output = command.env("JWT_SECRET", SECRET).env(place.0, place.1).output().await.unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// Broken by a command that names the operator of the database as `operator`, by one that keeps what it revokes for 90 days whatever the
/// nodes' setting is, and by one that tells no node.
#[tokio::test]
async fn operators_revoke_and_list_at_a_service_and_at_the_database_and_each_act_is_noted() {
    let db = database().await;
    let node = Node::with(db.options(), |config| config.token_lifetime_max = std::time::Duration::from_secs(600)).await;
    let role: String = sqlx::query_scalar("select session_user::text").fetch_one(&db.pool(1).await).await.unwrap();
    let (url, address) = (node.url(), db.url());
    for (n, (place, by)) in
        [(("RESTANTE_URL", url.as_str()), "operator"), (("DATABASE_URL", address.as_str()), role.as_str())].into_iter().enumerate()
    {
        let held = token(&format!("user-{n}"));
        let [user, phone, id] = ["user", "phone", "id"].map(|word| format!("{word}-{n}"));
        let adds: [(&[&str], String, Value); 3] = [
            (&["--user", &user, "--reason", "- stolen"], format!("user {user}"), json!({"userId": user})),
            (&["--user", &user, "--device", &phone], format!("device {phone} of user {user}"), json!({"userId": user, "deviceId": phone})),
            (&["--token-id", &id], format!("token {id}"), json!({"tokenId": id})),
        ];
        for (words, shown, target) in adds {
            let (code, told) = command(place, &[&["add"], words].concat()).await;
            assert!(code == Some(0) && told.contains(&shown) && told.contains(&format!("by {by}")), "{words:?}: {code:?} {told}");
            let (_, audit) = node.admin().get("/v1/admin/audit?limit=1").await;
            let noted = ["action", "target", "outcome", "actor"].map(|name| audit["entries"][0][name].clone());
            assert_eq!(noted, [json!("token.revoke"), target, json!("revoked"), json!(by)], "{audit}");
        }
        until_answered(&node, &held, 401).await;
        let (code, told) = command(place, &["list", "--json", "--limit", "2"]).await;
        let lines: Vec<Value> = told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert!(code == Some(0) && told.contains("there are more") && lines.len() == 2, "{told}");
        assert_eq!((&lines[0]["tokenId"], &lines[1]["deviceId"]), (&json!(id), &json!(phone)), "newest first");
        let at = |name: &str| super::instant(&lines[0], name);
        assert_eq!((at("expiresAt") - at("revokedAt")).whole_seconds(), 600, "{told}");
        let (_, told) = command(place, &["list"]).await;
        assert!(told.contains("- stolen") && told.lines().count() == 3 * (n + 1), "{told}");
    }
    node.stop().await;
}

/// Broken by words that the database is asked for before they are held against the rules.
#[tokio::test]
async fn a_bad_revocation_by_command_is_refused_with_the_exit_code_of_its_kind_and_revokes_nothing() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (url, address) = (node.url(), db.url());
    let bad: [&[&str]; 8] = [
        &["add"],
        &["add", "--device", "phone"],
        &["add", "--user", "anna", "--token-id", "id"],
        &["add", "--user", ""],
        &["add", "--token-id", ""],
        &["add", "--user", "anna", "--reason", ""],
        &["add", "--user", "anna", "--expires-at", "soon"],
        &["add", "--user", "anna", "--expires-at", "2020-01-01T00:00:00Z"],
    ];
    for place in [("RESTANTE_URL", url.as_str()), ("DATABASE_URL", address.as_str())] {
        for words in bad {
            let (code, told) = command(place, words).await;
            assert_eq!(code, Some(2), "{words:?}: {told}");
        }
    }
    let reader = scoped_token("op", "admin:read");
    let place = ("RESTANTE_URL", url.as_str());
    let (code, told) = command(place, &["add", "--user", "anna", "--token", &reader]).await;
    assert!(code == Some(4) && told.contains("admin"), "{told}");
    assert_eq!(command(place, &["list", "--token", &reader]).await.0, Some(0));
    let (_, list) = node.admin().get("/v1/admin/revocations").await;
    assert_eq!(list["revocations"], json!([]));
    node.stop().await;
}
