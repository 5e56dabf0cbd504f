//! Logins: their tokens are good for a while and once, and their end reaches every node and every open connection.

use serde_json::json;

use super::{Login, PASSWORD, asked, ends, execute, login_ended, on, refused, registered, text, two_nodes};
use crate::support::{Node, SOMEBODY_WAITS, database, number, until_true};
use crate::tokens::{answer, until_answered};

/// Broken by a function that leaves the login where its token comes twice.
#[tokio::test]
async fn a_refresh_token_is_good_once_and_one_that_comes_again_ends_its_login_everywhere() {
    let (db, one, other) = two_nodes().await;
    registered(&one, "anna").await;
    let (first, aside) = (Login::begun(&one, "anna").await, Login::begun(&one, "anna").await);
    let second = first.renewed(&other).await;
    let third = second.renewed(&one).await;
    assert!(first.refresh != second.refresh && second.refresh != third.refresh && first.access != second.access);
    let mut sockets = [first.connected(&one).await, third.connected(&other).await];
    let mut elsewhere = aside.connected(&other).await;
    assert_eq!(refused(&other, "/refresh", None, first.refresh_body()).await, login_ended());
    for socket in &mut sockets {
        ends(socket).await;
    }
    assert_eq!(refused(&one, "/refresh", None, third.refresh_body()).await, login_ended(), "the thief has one, or its owner");
    for login in [&first, &third] {
        until_answered(&one, &login.access, 401).await;
        assert_eq!(answer(&one, &login.access).await.1, "token_revoked");
    }
    elsewhere.send("ben", "another login of the same account").await;
    aside.renewed(&one).await;
    assert_eq!(number(&db.pool(1).await, "select count(*) from account_logins").await, 1);
    one.stop().await;
    other.stop().await;
}

/// Broken by a function that reads the login without its lock.
#[tokio::test]
async fn of_two_clients_that_use_one_refresh_token_at_once_one_goes_on_and_then_neither() {
    let (_db, one, other) = two_nodes().await;
    registered(&one, "anna").await;
    for _ in 0..5 {
        let login = Login::begun(&one, "anna").await;
        let (here, there) =
            tokio::join!(asked(&one, "/refresh", None, login.refresh_body()), asked(&other, "/refresh", None, login.refresh_body()));
        let mut statuses = [here.0, there.0];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 401]);
        let winner = if here.0 == 200 { here.1 } else { there.1 };
        assert_eq!(refused(&one, "/refresh", None, Login::of(&winner).refresh_body()).await, login_ended());
    }
    one.stop().await;
    other.stop().await;
}

/// Broken by a time from before the lock: the token that has waited would be older than its use, and count as within a grace.
#[tokio::test]
async fn a_refresh_token_that_waits_while_another_client_uses_it_was_used_before() {
    let db = database().await;
    let (node, pool) = (Node::with(db.options(), on).await, db.pool(2).await);
    registered(&node, "anna").await;
    let login = Login::begun(&node, "anna").await;
    let mut other_client = pool.begin().await.unwrap();
    sqlx::query("select from account_logins for update").execute(&mut *other_client).await.unwrap();
    let uses = async {
        until_true(&pool, SOMEBODY_WAITS).await;
        let uses = "select r.outcome from account_logins l, restante_refresh_login(l.family, l.secret_hash, sha256('next'), '1 hour', '0', '1 hour') r";
        let outcome: String = sqlx::query_scalar(uses).fetch_one(&mut *other_client).await.unwrap();
        other_client.commit().await.unwrap();
        outcome
    };
    let (waits, used) = tokio::join!(refused(&node, "/refresh", None, login.refresh_body()), uses);
    assert_eq!((waits, used), (login_ended(), "renewed".to_owned()));
    assert_eq!(number(&pool, "select count(*) from account_logins").await, 0, "two have the token");
    node.stop().await;
}

/// Broken by a grace for every token that was ever used.
#[tokio::test]
async fn within_the_grace_the_token_before_counts_again_and_none_that_is_older() {
    let db = database().await;
    let node = Node::with(db.options(), |config| {
        on(config);
        config.refresh_grace = std::time::Duration::from_secs(60);
    });
    let node = node.await;
    registered(&node, "anna").await;
    let first = Login::begun(&node, "anna").await;
    let lost = first.renewed(&node).await;
    let second = first.renewed(&node).await;
    assert_ne!(lost.refresh, second.refresh);
    let third = second.renewed(&node).await;
    execute(&db.pool(1).await, "update account_logins set renewed_at = renewed_at - interval '61 seconds'").await;
    assert_eq!(refused(&node, "/refresh", None, second.refresh_body()).await, login_ended(), "its grace is over");
    assert_eq!(refused(&node, "/refresh", None, third.refresh_body()).await, login_ended());
    let first = Login::begun(&node, "anna").await;
    let lost = first.renewed(&node).await;
    first.renewed(&node).await;
    assert_eq!(refused(&node, "/refresh", None, lost.refresh_body()).await, login_ended(), "somebody got the answer that was lost");
    node.stop().await;
}

/// Broken by a logout that ends all logins of the account, and by one that is not told to other nodes.
#[tokio::test]
async fn a_logout_ends_one_login_on_every_node_and_is_answered_alike_when_it_has_ended() {
    let (_db, one, other) = two_nodes().await;
    registered(&one, "anna").await;
    let (leaves, stays) = (Login::begun(&one, "anna").await, Login::begun(&one, "anna").await);
    let mut socket = leaves.connected(&other).await;
    let mut kept = stays.connected(&other).await;
    for _ in 0..2 {
        assert_eq!(asked(&one, "/logout", None, leaves.refresh_body()).await, (200, json!({})));
    }
    ends(&mut socket).await;
    assert_eq!(answer(&other, &leaves.access).await, (401, "token_revoked".to_owned()));
    assert_eq!(refused(&other, "/refresh", None, leaves.refresh_body()).await, login_ended());
    kept.send("ben", "still here").await;
    assert_eq!(answer(&one, &stays.access).await.0, 200);
    one.stop().await;
    other.stop().await;
}

/// Broken by a revocation of the user: who logs in again within the same second would have a token that is older.
#[tokio::test]
async fn a_logout_everywhere_ends_all_logins_on_every_node_and_the_next_login_counts_at_once() {
    let (db, one, other) = two_nodes().await;
    registered(&one, "anna").await;
    registered(&one, "ben").await;
    let (here, there, ben) = (Login::begun(&one, "anna").await, Login::begun(&other, "anna").await, Login::begun(&one, "ben").await);
    let mut sockets = [here.connected(&one).await, here.connected(&other).await, there.connected(&other).await];
    let mut of_ben = ben.connected(&other).await;
    assert_eq!(asked(&one, "/logout-everywhere", Some(&here.access), json!({})).await, (200, json!({"ended": 2})));
    let again = Login::begun(&other, "anna").await;
    for socket in &mut sockets {
        ends(socket).await;
    }
    assert_eq!((answer(&one, &again.access).await.0, answer(&other, &again.access).await.0), (200, 200));
    assert_eq!(refused(&one, "/refresh", None, there.refresh_body()).await, login_ended());
    of_ben.send("anna", "not concerned").await;
    assert_eq!(asked(&one, "/logout-everywhere", Some(&again.access), json!({})).await.1["ended"], 1);
    assert_eq!(number(&db.pool(1).await, "select count(*) from audit").await, 0, "no client makes rows of the audit");
    one.stop().await;
    other.stop().await;
}

/// Broken by a bound that ends the newest.
#[tokio::test]
async fn beyond_a_number_of_logins_the_one_that_was_renewed_longest_ago_ends() {
    let db = database().await;
    let node = Node::with(db.options(), |config| {
        on(config);
        config.logins_per_account_max = 2;
    });
    let node = node.await;
    registered(&node, "anna").await;
    let (first, second) = (Login::begun(&node, "anna").await, Login::begun(&node, "anna").await);
    let mut socket = second.connected(&node).await;
    let first = first.renewed(&node).await;
    let third = Login::begun(&node, "anna").await;
    ends(&mut socket).await;
    assert_eq!(refused(&node, "/refresh", None, second.refresh_body()).await, login_ended());
    for login in [&first, &third] {
        login.renewed(&node).await;
    }
    assert_eq!(number(&db.pool(1).await, "select count(*) from account_logins").await, 2);
    node.stop().await;
}

/// Broken by an access token that outlives its login, and by a refresh that makes a login last for ever.
#[tokio::test]
async fn a_login_lasts_no_longer_than_it_may_however_often_it_is_renewed() {
    let db = database().await;
    let node = Node::with(db.options(), |config| {
        on(config);
        config.login_lifetime_max = std::time::Duration::from_secs(600);
    });
    let node = node.await;
    registered(&node, "anna").await;
    let (_, begun) = asked(&node, "/login", None, json!({"userId": "anna", "password": PASSWORD})).await;
    let (_, renewed) = asked(&node, "/refresh", None, Login::of(&begun).refresh_body()).await;
    assert_eq!(begun["refreshExpiresAt"], renewed["refreshExpiresAt"]);
    assert!(text(&renewed["expiresAt"]) <= text(&renewed["refreshExpiresAt"]), "{renewed}");
    let pool = db.pool(1).await;
    execute(&pool, "update account_logins set ends_at = now() - interval '1 second'").await;
    assert_eq!(refused(&node, "/refresh", None, Login::of(&renewed).refresh_body()).await, login_ended());
    // The job of the node may have been there first.
    node.app().store().purge_logins(10).await.unwrap();
    assert_eq!(number(&pool, "select count(*) from account_logins").await, 0);
    node.stop().await;
}

/// Broken by answers that a cache may keep, and by tokens that lack what the settings ask of tokens.
#[tokio::test]
async fn an_answer_with_tokens_is_not_kept_and_its_token_is_as_the_settings_want_tokens() {
    let db = database().await;
    let node = Node::with(db.options(), |config| {
        on(config);
        config.jwt_issuer = vec!["https://chat.example".to_owned(), "other".to_owned()];
        config.jwt_audience = vec!["chat".to_owned()];
    });
    let node = node.await;
    registered(&node, "anna").await;
    let request = reqwest::Client::new().post(format!("{}/v1/accounts/login", node.url()));
    let response = request.json(&json!({"userId": "anna", "password": PASSWORD})).send().await.unwrap();
    assert_eq!(response.headers()["cache-control"], "no-store");
    let login = Login::of(&response.json().await.unwrap());
    assert_eq!(answer(&node, &login.access).await.0, 200);
    node.stop().await;
}
