//! Acts of operators on accounts, in SQL: all logins of one end, and a password that was lost is replaced. Each is in the audit.

use serde_json::json;
use sqlx::PgPool;

use super::{Login, OTHER, PASSWORD, asked, login_ended, refused, registered, two_nodes};
use crate::support::token;
use crate::tokens::{answer, until_answered};

/// The last act in the audit: its name, its target and its outcome.
async fn noted(pool: &PgPool) -> (String, String, String) {
    sqlx::query_as("select action, target::text, outcome from audit order by id desc limit 1").fetch_one(pool).await.unwrap()
}

fn act(action: &str, target: &str, outcome: &str) -> (String, String, String) {
    (action.to_owned(), target.to_owned(), outcome.to_owned())
}

async fn ended(pool: &PgPool, name: &str) -> i32 {
    sqlx::query_scalar("select restante_end_all_logins($1)").bind(name).fetch_one(pool).await.unwrap()
}

async fn replaced(pool: &PgPool, name: &str, spare: &str) -> bool {
    sqlx::query_scalar("select restante_replace_password($1, $2)").bind(name).bind(spare).fetch_one(pool).await.unwrap()
}

/// Broken by an end that the audit does not know, by one that ends tokens from elsewhere, and by one that no node hears of.
#[tokio::test]
async fn all_logins_of_an_account_end_in_sql_and_tokens_from_elsewhere_go_on() {
    let (db, one, other) = two_nodes().await;
    let pool = db.pool(1).await;
    registered(&one, "anna").await;
    let logins = [Login::begun(&one, "anna").await, Login::begun(&other, "anna").await];
    assert_eq!(ended(&pool, "anna").await, 2);
    assert_eq!(noted(&pool).await, act("logins.end", r#"{"userId": "anna"}"#, "ended"));
    for login in &logins {
        until_answered(&other, &login.access, 401).await;
        assert_eq!(refused(&one, "/refresh", None, login.refresh_body()).await, login_ended());
    }
    assert_eq!(answer(&one, &token("anna")).await.0, 200, "a token of the application");
    assert_eq!(ended(&pool, "anna").await, 0);
    assert_eq!(noted(&pool).await.2, "none");
    one.stop().await;
    other.stop().await;
}

/// Broken by a password that is given before the other account is gone, by logins that stay, and by an account that is replaced by itself.
#[tokio::test]
async fn a_lost_password_is_replaced_by_that_of_a_spare_account() {
    let (db, one, other) = two_nodes().await;
    let pool = db.pool(1).await;
    registered(&one, "anna").await;
    let login = Login::begun(&one, "anna").await;
    let spare = asked(&one, "", None, json!({"userId": "spare", "password": OTHER})).await;
    assert_eq!(spare.0, 201, "{spare:?}");
    let (_, of_spare) = asked(&one, "/login", None, json!({"userId": "spare", "password": OTHER})).await;
    let of_spare = of_spare["accessToken"].as_str().unwrap();
    for (name, spare) in [("anna", "nobody"), ("nobody", "spare"), ("anna", "anna")] {
        assert!(!replaced(&pool, name, spare).await);
        assert_eq!(noted(&pool).await, act("password.replace", &format!(r#"{{"userId": "{name}", "spareId": "{spare}"}}"#), "not_found"));
    }
    assert_eq!(answer(&other, &login.access).await.0, 200, "nothing was done");
    assert!(replaced(&pool, "anna", "spare").await);
    assert_eq!(noted(&pool).await, act("password.replace", r#"{"userId": "anna", "spareId": "spare"}"#, "replaced"));
    for token in [&login.access, of_spare] {
        until_answered(&other, token, 401).await;
    }
    let log_in = |name: &str, password: &str| json!({"userId": name, "password": password});
    assert_eq!(asked(&other, "/login", None, log_in("anna", OTHER)).await.0, 200);
    for (name, password) in [("anna", PASSWORD), ("spare", OTHER)] {
        assert_eq!(refused(&other, "/login", None, log_in(name, password)).await, (401, "bad_credentials".to_owned()));
    }
    one.stop().await;
    other.stop().await;
}
