//! The application's own rule: a function in its database says who may write to whom.

use std::time::Instant;

use restante::domain::DirectMessages;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use super::{block, stop, two_nodes_under};
use crate::support::{Node, Socket, direct, group};

/// Defines the function with this body.
async fn define(pool: &PgPool, body: &str) {
    let define = format!(
        "create or replace function restante_may_send(sender text, recipient text) returns boolean language plpgsql as $f$ begin {body} end $f$"
    );
    sqlx::raw_sql(AssertSqlSafe(define)).execute(pool).await.unwrap();
}

fn answers(node: &Node, outcome: &'static str) -> u64 {
    node.app().context().metrics.may_send_answers.of(outcome).get()
}

async fn sent(socket: &mut Socket, to: &str) -> Value {
    socket.ask("message:send", json!({"to": to, "content": "x"})).await["data"].take()
}

#[tokio::test]
async fn the_function_decides_and_what_it_said_is_believed_for_a_while() {
    let world = two_nodes_under(DirectMessages::Function).await;
    let (_, one, other, pool) = &world;
    define(pool, "return recipient <> 'ben' or sender = 'boss';").await;
    let mut anna = one.connect("anna").await;
    for to in ["ben", "carol", "anna"] {
        let answer = sent(&mut anna, to).await;
        assert_eq!(answer["code"], if to == "ben" { json!("not_accepted") } else { Value::Null }, "{to}: {answer}");
    }
    assert_eq!(sent(&mut other.connect("boss").await, "ben").await["code"], Value::Null);
    let chat = direct(pool, "anna", "ben").await;
    let in_chat = anna.ask("message:send", json!({"chatId": chat, "content": "x"})).await;
    assert_eq!(in_chat["data"]["code"], "not_accepted");
    // A group is nobody's direct chat.
    let pair = group(pool, &["anna", "ben"]).await;
    assert_eq!(anna.ask("message:send", json!({"chatId": pair, "content": "x"})).await["event"], "message:sent");
    let asked = answers(one, "yes") + answers(one, "no");
    for _ in 0..20 {
        assert_eq!(sent(&mut anna, "carol").await["code"], Value::Null);
    }
    assert!(answers(one, "yes") + answers(one, "no") < asked + 20, "it is not asked for each message");
    // A change of mind is seen once what it said before is old.
    define(pool, "return false;").await;
    let begun = Instant::now();
    while sent(&mut anna, "carol").await["code"] != "not_accepted" {
        assert!(begun.elapsed() < crate::support::PATIENCE);
    }
    stop(world).await;
}

/// Broken by refusing what is not decided.
#[tokio::test]
async fn messages_that_come_while_the_function_is_asked_are_stored_in_their_order() {
    let world = two_nodes_under(DirectMessages::Function).await;
    let (_, one, _, pool) = &world;
    define(pool, "perform pg_sleep(0.2); return true;").await;
    let chat = direct(pool, "anna", "ben").await;
    let mut anna = one.connect("anna").await;
    for n in 0..30 {
        let target = if n % 3 == 0 { ("to", json!("ben")) } else { ("chatId", json!(chat)) };
        let mut send = json!({"messageId": Uuid::now_v7(), "content": n.to_string()});
        send[target.0] = target.1;
        anna.text(json!({"event": "message:send", "id": format!("n{n}"), "data": send}).to_string()).await;
    }
    for n in 0..30 {
        assert_eq!(anna.answer(&format!("n{n}")).await["event"], "message:sent", "{n}");
    }
    let stored: Vec<String> =
        sqlx::query_scalar("select content from messages where chat_id = $1 order by seq").bind(chat).fetch_all(pool).await.unwrap();
    assert_eq!(stored, (0..30).map(|n| n.to_string()).collect::<Vec<_>>());
    stop(world).await;
}

/// Broken by taking a failure for a yes.
#[tokio::test]
async fn where_the_function_fails_nothing_is_accepted_and_what_was_is_a_duplicate() {
    let world = two_nodes_under(DirectMessages::Function).await;
    let (_, one, other, pool) = &world;
    let mut anna = one.connect("anna").await;
    let missing = sent(&mut anna, "ben").await;
    assert_eq!((&missing["code"], missing["retryAfterMs"].is_u64()), (&json!("policy_unavailable"), true), "{missing}");
    define(pool, "return true;").await;
    let id = Uuid::now_v7();
    let send = json!({"messageId": id, "to": "ben", "content": "x"});
    let mut first = other.connect("anna").await;
    assert_eq!(first.ask("message:send", send.clone()).await["data"]["duplicate"], false);
    for body in ["return 1 / 0 = 1;", "return null;", "perform pg_sleep(60); return true;"] {
        define(pool, body).await;
        let failed = answers(other, "failed");
        // The answer that was believed before has to grow old first.
        let begun = Instant::now();
        while answers(other, "failed") == failed {
            other.api("anna").post("/v1/messages", json!({"to": "ben", "content": "x"})).await;
            assert!(begun.elapsed() < crate::support::PATIENCE, "{body}");
        }
        let mut code = Value::Null;
        while code != "policy_unavailable" {
            code = sent(&mut first, "ben").await["code"].take();
            assert!(begun.elapsed() < 2 * crate::support::PATIENCE, "{body}: {code}");
        }
        assert_eq!(first.ask("message:send", send.clone()).await["data"]["duplicate"], true, "{body}");
        define(pool, "return true;").await;
    }
    assert_eq!(other.app().context().metrics.database_away.get(), 0, "a function that fails is no outage");
    stop(world).await;
}

/// Broken by asking the function in the lane: others waited for it.
#[tokio::test]
async fn a_slow_function_holds_up_those_alone_that_it_is_asked_for() {
    let world = two_nodes_under(DirectMessages::Function).await;
    let (_, one, other, pool) = &world;
    define(pool, "if recipient like 'slow%' then perform pg_sleep(60); end if; return true;").await;
    let (mut anna, mut ben) = (one.connect("anna").await, one.connect("ben").await);
    let common = group(pool, &["anna", "ben"]).await;
    // The function is given a second. A machine that takes longer for the rest has other tries.
    let mut was_held_up = true;
    for round in 0..20 {
        assert_eq!(sent(&mut ben, "carol").await["code"], Value::Null);
        let chat = direct(pool, "anna", &format!("slow-{round}")).await;
        anna.tell("message:send", json!({"chatId": chat, "content": "x"})).await;
        anna.ask("ping", json!({})).await;
        assert_eq!(sent(&mut ben, "carol").await["code"], Value::Null);
        assert_eq!(ben.ask("message:send", json!({"chatId": common, "content": "x"})).await["event"], "message:sent");
        sqlx::query("select restante_send($1, 'anna', 'x')").bind(chat).execute(pool).await.unwrap();
        let came = anna.frames_that_have_come().await;
        was_held_up = came.iter().any(|frame| frame["event"] == "error");
        if !was_held_up {
            assert_eq!(anna.error().await, "policy_unavailable");
            break;
        }
    }
    assert!(!was_held_up);
    // A block is decided before the function is asked.
    block(other, "carol", "ben").await;
    assert_eq!(sent(&mut ben, "carol").await["code"], "not_accepted");
    stop(world).await;
}
