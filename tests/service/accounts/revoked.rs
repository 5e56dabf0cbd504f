//! Logins and revocations by operators: who is revoked goes on with no login, and what clients end is no hindrance to operators.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::{Login, PASSWORD, asked, ends, execute, login_ended, on, refused, registered, text, two_nodes};
use crate::audit::by_command;
use crate::support::{Node, database, number};
use crate::tokens::{answer, until_answered};

/// A claim of an access token.
fn claim(login: &Login, name: &str) -> String {
    let payload = login.access.split('.').nth(1).unwrap();
    text(&serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()[name])
}

async fn revoke(node: &Node, what: Value) -> Value {
    let (status, answer) = node.admin().post("/v1/admin/revocations", what).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// Broken by a revocation that leaves the logins: the next refresh brings the user back.
#[tokio::test]
async fn a_revoked_user_goes_on_with_no_login_whichever_way_it_was_revoked_and_may_log_in_again() {
    let (db, one, other) = two_nodes().await;
    let pool = db.pool(1).await;
    for name in ["anna", "ben"] {
        registered(&one, name).await;
    }
    let ben = Login::begun(&one, "ben").await;
    for way in ["http", "command", "sql"] {
        let logins = [Login::begun(&one, "anna").await, Login::begun(&other, "anna").await];
        until_answered(&one, &logins[1].access, 200).await;
        let mut socket = logins[1].connected(&one).await;
        match way {
            "http" => _ = revoke(&other, json!({"userId": "anna"})).await,
            "command" => assert!(by_command(&db, &["revocations", "add", "--user", "anna"]).await.contains("user anna")),
            _ => execute(&pool, "select restante_revoke('anna')").await,
        }
        ends(&mut socket).await;
        for login in &logins {
            assert_eq!(refused(&other, "/refresh", None, login.refresh_body()).await, login_ended(), "{way}");
            for node in [&one, &other] {
                until_answered(node, &login.access, 401).await;
            }
        }
        assert_eq!(number(&pool, "select count(*) from account_logins where name = 'anna'").await, 0, "{way}");
    }
    let again = Login::begun(&one, "anna").await;
    until_answered(&other, &again.access, 200).await;
    again.renewed(&other).await;
    ben.renewed(&one).await;
    one.stop().await;
    other.stop().await;
}

/// Broken by a revocation of a login that leaves its refresh token, and by one of a token or a device that ends logins.
#[tokio::test]
async fn a_revoked_login_ends_and_those_of_a_revoked_token_or_device_go_on() {
    let (_db, one, other) = two_nodes().await;
    registered(&one, "anna").await;
    let (ended, stays) = (Login::begun(&one, "anna").await, Login::begun(&one, "anna").await);
    let soon = (time::OffsetDateTime::now_utc() + time::Duration::MINUTE).format(&time::format_description::well_known::Rfc3339).unwrap();
    let revoked = revoke(&one, json!({"tokenId": claim(&ended, "sid"), "expiresAt": soon})).await;
    let at = |name: &str| crate::tokens::instant(&revoked, name);
    assert!(
        at("expiresAt") - at("revokedAt") >= time::Duration::DAY,
        "its access tokens may live for longer than the operator says: {revoked}"
    );
    assert_eq!(refused(&other, "/refresh", None, ended.refresh_body()).await, login_ended());
    until_answered(&other, &ended.access, 401).await;
    assert_eq!(answer(&one, &stays.access).await.0, 200);
    revoke(&one, json!({"tokenId": claim(&stays, "jti")})).await;
    until_answered(&other, &stays.access, 401).await;
    let stays = stays.renewed(&other).await;
    assert_eq!(answer(&one, &stays.access).await.0, 200);
    revoke(&one, json!({"userId": "anna", "deviceId": "phone"})).await;
    revoke(&one, json!({"tokenId": "no login, and no number"})).await;
    stays.renewed(&other).await;
    one.stop().await;
    other.stop().await;
}

/// Broken by `do nothing` where the login is revoked already: its tokens would count again before they have expired.
#[tokio::test]
async fn the_end_of_a_login_prolongs_a_revocation_of_it_that_ends_sooner_and_leaves_the_operators_words() {
    let db = database().await;
    let pool = db.pool(1).await;
    let id = uuid::Uuid::now_v7();
    let run = async |statement: String| _ = sqlx::query(AssertSqlSafe(statement)).execute(&pool).await.unwrap();
    run(format!("select restante_revoke(null, null, '{id}', 'lost', now() + interval '1 second', p_by => 'carol')")).await;
    let before = number(&pool, "select (extract(epoch from revoked_at) * 1000000)::bigint from revocations").await;
    for lifetime in ["1 hour", "1 minute"] {
        run(format!("select restante_revoke_logins('anna', array['{id}'::uuid], '{lifetime}')")).await;
        let kept = "select count(*) from revocations where expires_at > now() + interval '50 minutes' and reason = 'lost' and revoked_by = 'carol'";
        assert_eq!(number(&pool, kept).await, 1, "{lifetime}");
    }
    let after = number(&pool, "select (extract(epoch from revoked_at) * 1000000)::bigint from revocations").await;
    assert!(after > before, "nodes read what was revoked since they last looked");
}

/// Broken by one bound for what operators revoke and for what clients end.
#[tokio::test]
async fn logins_that_have_ended_keep_no_operator_from_revoking_and_erasing() {
    let db = database().await;
    let pool = db.pool(1).await;
    let ended = "select restante_revoke_logins('anna', array(select gen_random_uuid() from generate_series(1, 100001)), '1 hour')";
    execute(&pool, ended).await;
    let node = Node::with(db.options(), on).await;
    node.connect("ben").await;
    let admin = node.admin();
    let (status, erasing) = admin.post("/v1/admin/erasures", json!({"userId": "ben", "content": "keep"})).await;
    assert_eq!(status, 200, "{erasing}");
    revoke(&node, json!({"userId": "carol"})).await;
    node.stop().await;
}

/// Broken by a bound that refuses an end: a client could not log out.
#[tokio::test]
async fn beyond_the_bound_of_ended_logins_none_begins_and_whatever_ends_one_is_done() {
    let db = database().await;
    let node = Node::with(db.options(), |config| {
        on(config);
        config.ended_logins_max = 2;
    });
    let node = node.await;
    registered(&node, "anna").await;
    let mut logins = Vec::new();
    for _ in 0..4 {
        logins.push(Login::begun(&node, "anna").await);
    }
    for login in &logins[..3] {
        assert_eq!(asked(&node, "/logout", None, login.refresh_body()).await.0, 200);
        assert_eq!(answer(&node, &login.access).await, (401, "token_revoked".to_owned()));
    }
    let (status, refusal) = asked(&node, "/login", None, json!({"userId": "anna", "password": PASSWORD})).await;
    assert_eq!((status, &refusal["error"]["code"]), (503, &json!("busy")), "{refusal}");
    assert!(refusal["error"]["retryAfterMs"].as_u64().is_some_and(|ms| ms > 0), "{refusal}");
    let goes_on = logins[3].renewed(&node).await;
    assert_eq!(asked(&node, "/logout-everywhere", Some(&goes_on.access), json!({})).await.1["ended"], 1);
    let metrics = reqwest::get(format!("{}/metrics", node.url())).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("restante_revocations{by=\"logins\"} 4"), "{metrics}");
    node.stop().await;
}

/// Broken by an erasure that looks for users only: name, hash and login stay, and the operator is told that there is nobody.
#[tokio::test]
async fn somebody_who_has_registered_and_never_came_is_erased_and_the_name_stays_taken() {
    let (db, one, other) = two_nodes().await;
    let pool = db.pool(1).await;
    registered(&one, "anna").await;
    let anna = Login::begun(&other, "anna").await;
    let (status, erasing) = one.admin().post("/v1/admin/erasures", json!({"userId": "anna", "content": "empty"})).await;
    assert_eq!(status, 200, "{erasing}");
    assert_eq!(number(&pool, "select (select count(*) from accounts) + (select count(*) from account_logins)").await, 0);
    until_answered(&other, &anna.access, 401).await;
    assert_eq!(refused(&other, "/refresh", None, anna.refresh_body()).await, login_ended());
    assert_eq!(refused(&other, "", None, json!({"userId": "anna", "password": PASSWORD})).await, (409, "name_taken".to_owned()));
    one.stop().await;
    other.stop().await;
}
