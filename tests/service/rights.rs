//! Rights: who may do what, by the scope of a token and by the relation of its user to the thing, at every door. Each outcome stands here in words of
//! its own, and is held against the table of the service (`restante::service::may`) and against what the service does.

mod chats;
pub mod engine;
mod events;
mod feeds;
mod messages;
mod openings;
mod people;
mod requests;

use reqwest::{Client, Method};
use restante::service::{Act, Relation, Role, may};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};

use self::engine::Engine;
use crate::support::{Node, Socket, scoped_token, told};

/// Scopes, and what each opens: `S` to send, `U` what else a user does, `P` to publish, `L` what operators look at, `O` what they do.
const ROLES: [(&str, &str); 10] = [
    ("", "SUP"),
    ("openid profile", "SUP"),
    ("send", "S"),
    ("events:write", "SUP"),
    ("send events:write", "SP"),
    ("admin:read", "SUPL"),
    ("admin", "SUPLO"),
    ("send admin:read", "SL"),
    ("send admin", "SLO"),
    ("send events:write admin", "SPLO"),
];

/// The word for what was done.
const DONE: &str = "done";

/// A way to ask for an act.
enum Way {
    Request(Method, String, Value),
    Socket(&'static str, Value),
    Engine(&'static str, Value),
    Statement(String),
}

/// A request of HTTP.
fn http(method: Method, path: impl Into<String>, body: Value) -> Way {
    Way::Request(method, path.into(), body)
}

/// An event, over both sockets.
fn event(event: &'static str, data: Value) -> [Way; 2] {
    [Way::Socket(event, data.clone()), Way::Engine(event, data)]
}

/// The code of an answer, whichever door it came by; [`DONE`] without one.
fn word(answer: &Value) -> String {
    let codes = [&answer["error"]["code"], &answer["data"]["code"], &answer["results"][0]["error"]["code"]];
    codes.into_iter().find_map(Value::as_str).unwrap_or(DONE).to_owned()
}

/// The status of SQL that stands for a code.
fn sql_state(code: &str) -> &'static str {
    match code {
        "not_a_member" | "forbidden" | "not_accepted" => "42501",
        "not_found" => "P0002",
        "conflict" => "55000",
        "invalid" => "22023",
        other => panic!("say which status of SQL stands for {other}"),
    }
}

/// Asks as this user, with this scope. Returns the outcome: a word; in SQL a status.
async fn outcome(node: &Node, pool: &PgPool, (user, scope): (&str, &str), way: &Way) -> String {
    let token = scoped_token(user, scope);
    match way {
        Way::Request(method, path, body) => {
            let request = Client::new().request(method.clone(), format!("{}{path}", node.url())).bearer_auth(&token);
            word(&told(request.json(body).send().await.unwrap()).await.1)
        }
        Way::Socket(event, data) => {
            let mut socket = connected(node, &token).await;
            let answer = socket.ask(event, data.clone()).await;
            socket.close().await;
            word(&answer)
        }
        Way::Engine(event, data) => word(&Engine::enter(node, &token).await.unwrap().ask(event, data.clone()).await),
        Way::Statement(statement) => {
            let done = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(pool).await;
            done.err().map_or_else(|| DONE.to_owned(), |error| error.into_database_error().unwrap().code().unwrap().into_owned())
        }
    }
}

/// Asks in this way, as this user with this scope. It must have the outcome.
async fn assert_outcome(node: &Node, pool: &PgPool, caller: (&str, &str), way: &Way, expected: &str, case: &str) {
    let (door, expected) = match way {
        Way::Request(method, path, _) => (format!("{method} {path}"), expected),
        Way::Socket(event, _) => (format!("{event} over a WebSocket"), expected),
        Way::Engine(event, _) => (format!("{event} over Socket.IO"), expected),
        Way::Statement(statement) => (statement.clone(), if expected == DONE { DONE } else { sql_state(expected) }),
    };
    assert_eq!(outcome(node, pool, caller, way).await, expected, "{case}: {door}");
}

/// A connection over WebSocket with this token, past `ready`.
async fn connected(node: &Node, token: &str) -> Socket {
    let mut socket = Socket::request(openings::with_header(node, token)).await.unwrap();
    socket.ready = socket.event("ready").await;
    socket
}

/// The word of the service's table.
fn of_table(scope: &str, act: Act, relation: Relation) -> String {
    let role = Role::of(&restante::auth::Scope::read(&scope.into()).unwrap());
    may(role, act, relation).map_or_else(|refusal| refusal.code().as_str().to_owned(), |()| DONE.to_owned())
}

/// Asks as an admin of the tests would, and expects that it is done.
async fn arrange(node: &Node, user: &str, method: Method, path: &str, body: Value) -> Value {
    let (status, answer) = node.api(user).told(method, path, Some(body)).await;
    assert!(status < 300, "{path}: {answer}");
    answer
}

/// A body without fields.
fn nothing() -> Value {
    json!({})
}
