//! Accounts over two nodes: to register, log in, go on, change the password and log out; and that nothing tells who has an account.

mod guessing;
mod logins;
mod operators;
mod passwords;
mod revoked;

use restante::config::Config;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{Database, Node, Socket, config, database, described, scoped_token, token, told, until_true};

/// Passwords that are taken.
const PASSWORD: &str = "horses eat no pears";
const OTHER: &str = "pears eat no horses";

/// Accounts without a limit of requests, with hashes that cost next to nothing.
fn on(config: &mut Config) {
    config.accounts = true;
    (config.password_memory_kib, config.password_passes) = (64, 1);
    (config.account_requests_per_minute, config.registrations_per_hour) = (0, 0);
}

async fn two_nodes() -> (Database, Node, Node) {
    let db = database().await;
    let (one, other) = (Node::with(db.options(), on).await, Node::with(db.options(), on).await);
    (db, one, other)
}

/// A request without a token, or with one.
async fn asked(node: &Node, path: &str, token: Option<&str>, body: Value) -> (u16, Value) {
    let request = reqwest::Client::new().post(format!("{}/v1/accounts{path}", node.url())).json(&body);
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let response = request.send().await.unwrap();
    let media = response.headers()["content-type"].to_str().unwrap().to_owned();
    let (status, answer) = told(response).await;
    described::answer("POST", &format!("/v1/accounts{path}"), status, &media, &answer);
    (status, answer)
}

/// The status and the code of a refusal.
async fn refused(node: &Node, path: &str, token: Option<&str>, body: Value) -> (u16, String) {
    let (status, answer) = asked(node, path, token, body).await;
    (status, text(&answer["error"]["code"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn bad_credentials() -> (u16, String) {
    (401, "bad_credentials".to_owned())
}

fn login_ended() -> (u16, String) {
    (401, "login_ended".to_owned())
}

async fn registered(node: &Node, name: &str) {
    let (status, answer) = asked(node, "", None, json!({"userId": name, "password": PASSWORD})).await;
    assert_eq!(status, 201, "{answer}");
}

/// A login that a client has.
struct Login {
    access: String,
    refresh: String,
}

impl Login {
    fn of(answer: &Value) -> Self {
        Self { access: text(&answer["accessToken"]), refresh: text(&answer["refreshToken"]) }
    }

    async fn begun(node: &Node, name: &str) -> Self {
        let (status, answer) = asked(node, "/login", None, json!({"userId": name, "password": PASSWORD})).await;
        assert_eq!(status, 200, "{answer}");
        Self::of(&answer)
    }

    /// The next tokens of the same login.
    async fn renewed(&self, node: &Node) -> Self {
        let (status, answer) = asked(node, "/refresh", None, self.refresh_body()).await;
        assert_eq!(status, 200, "{answer}");
        Self::of(&answer)
    }

    fn refresh_body(&self) -> Value {
        json!({"refreshToken": self.refresh})
    }

    async fn connected(&self, node: &Node) -> Socket {
        use tokio_tungstenite::tungstenite::client::IntoClientRequest;

        let mut request = format!("ws://{}/ws", node.addr()).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {}", self.access).parse().unwrap());
        let mut socket = Socket::request(request).await.unwrap();
        socket.ready = socket.event("ready").await;
        socket
    }
}

/// The connection is told that its token is worth nothing, and closed.
async fn ends(socket: &mut Socket) {
    assert_eq!((socket.error().await, socket.closed().await), (json!("token_revoked"), Some(4401)));
}

async fn execute(pool: &PgPool, statement: &'static str) {
    sqlx::query(statement).execute(pool).await.unwrap();
}

/// Broken by routes that do not ask if there are accounts.
#[tokio::test]
async fn there_are_no_accounts_unless_the_operator_turns_them_on() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (anna, off) = (token("anna"), (403, "turned_off".to_owned()));
    let account = json!({"userId": "anna", "password": PASSWORD});
    assert_eq!(refused(&node, "", None, account.clone()).await, off);
    assert_eq!(refused(&node, "/login", None, account).await, off);
    for path in ["/refresh", "/logout"] {
        assert_eq!(refused(&node, path, None, json!({"refreshToken": "A".repeat(64)})).await, off);
    }
    assert_eq!(refused(&node, "/password", Some(&anna), json!({"password": PASSWORD, "newPassword": OTHER})).await, off);
    assert_eq!(refused(&node, "/logout-everywhere", Some(&anna), json!({})).await, off);
    node.stop().await;
}

/// Broken by a start that takes the keys of an issuer beside accounts.
#[tokio::test]
async fn accounts_and_an_issuer_exclude_one_another_and_accounts_need_a_secret() {
    use restante::app::{App, Database as At};

    let db = database().await;
    let words = |config: Config, secret: Option<secrecy::SecretString>| {
        let options = db.options();
        async move { App::start(&config, At::new(options), secret.as_ref()).await.unwrap_err().to_string() }
    };
    let with = |change: fn(&mut Config)| {
        let mut config = config();
        on(&mut config);
        change(&mut config);
        config
    };
    let issuer = with(|config| config.jwks_url = Some("http://127.0.0.1:9/keys".parse().unwrap()));
    assert!(words(issuer, Some(crate::support::SECRET.into())).await.starts_with("ACCOUNTS is on: it needs JWT_SECRET, and neither"));
    assert!(words(with(|_| {}), None).await.starts_with("ACCOUNTS is on: it needs JWT_SECRET"));
}

/// Broken by tokens without `name`, and by names that keep their capital letters.
#[tokio::test]
async fn who_registers_logs_in_at_any_node_and_is_a_user_as_any_other() {
    let (db, one, other) = two_nodes().await;
    let account = json!({"userId": "Anna.1", "password": PASSWORD, "name": "Anna ✿"});
    assert_eq!(asked(&one, "", None, account).await, (201, json!({"userId": "anna.1"})));
    registered(&other, "ben").await;
    let (status, begun) = asked(&other, "/login", None, json!({"userId": "ANNA.1", "password": PASSWORD})).await;
    assert_eq!((status, text(&begun["userId"])), (200, "anna.1".to_owned()));
    let (anna, ben) = (Login::of(&begun), Login::begun(&one, "ben").await);
    let (mut anna, mut ben) = (anna.connected(&one).await, ben.connected(&other).await);
    anna.send("ben", "from an account").await;
    assert_eq!(ben.event("message:receive").await["content"], "from an account");
    let shown: String =
        sqlx::query_scalar("select display_name from users where external_id = 'anna.1'").fetch_one(&db.pool(1).await).await.unwrap();
    assert_eq!(shown, "Anna ✿");
    one.stop().await;
    other.stop().await;
}

/// Broken by an insert that looks for accounts only: whoever registers the name of a user would read its messages.
#[tokio::test]
async fn a_name_of_an_account_of_a_user_with_another_token_or_of_one_that_was_erased_is_refused() {
    let (db, one, other) = two_nodes().await;
    let taken = (409, "name_taken".to_owned());
    registered(&one, "anna").await;
    assert_eq!(refused(&other, "", None, json!({"userId": "ANNA", "password": OTHER})).await, taken);
    let ben = one.connect("ben").await;
    assert_eq!(refused(&other, "", None, json!({"userId": "ben", "password": PASSWORD})).await, taken);
    let mut anna = Login::begun(&other, "anna").await.connected(&other).await;
    // A user that was only named has come by no other way.
    anna.send("cleo", "for when you come").await;
    registered(&other, "cleo").await;
    let mut cleo = Login::begun(&one, "cleo").await.connected(&one).await;
    assert_eq!(cleo.event("message:receive").await["content"], "for when you come");
    // Another one by the name of somebody who was erased would be taken for it.
    assert_eq!(one.admin().post("/v1/admin/erasures", json!({"userId": "cleo", "content": "keep"})).await.0, 200);
    assert_eq!(refused(&other, "/login", None, json!({"userId": "cleo", "password": PASSWORD})).await, bad_credentials());
    assert_eq!(refused(&other, "", None, json!({"userId": "cleo", "password": PASSWORD})).await, taken);
    until_true(&db.pool(1).await, "select done_at is not null from erasures").await;
    assert_eq!(refused(&other, "", None, json!({"userId": "cleo", "password": PASSWORD})).await, taken, "the id has passed on");
    ben.close().await;
    one.stop().await;
    other.stop().await;
}

/// Broken by checks that the tables make and the door does not.
#[tokio::test]
async fn bad_input_is_refused_before_anything_is_hashed_or_asked() {
    let (_db, one, other) = two_nodes().await;
    let (narrow, anna) = (scoped_token("anna", "send"), token("anna"));
    let account = |name: &str, password: &str| json!({"userId": name, "password": password});
    let long = "x y".repeat(43);
    for (path, token, body) in [
        ("", None, json!({})),
        ("", None, json!({"userId": "anna"})),
        ("", None, account("", PASSWORD)),
        ("", None, account("an na", PASSWORD)),
        ("", None, account("-anna", PASSWORD)),
        ("", None, account("änna", PASSWORD)),
        ("", None, account(&"a".repeat(65), PASSWORD)),
        ("", None, account("anna", "too short")),
        ("", None, account("anna", &long)),
        ("", None, account("anna", "anna-anna-anna-anna")),
        ("", None, account("anna", "passwordpassword")),
        ("", None, json!({"userId": "anna", "password": 15})),
        ("", None, json!({"userId": "anna", "password": PASSWORD, "name": ""})),
        ("", None, json!({"userId": "anna", "password": PASSWORD, "name": "x".repeat(257)})),
        ("/login", None, account("an na", PASSWORD)),
        ("/login", None, account("anna", &long)),
        ("/refresh", None, json!({"refreshToken": 1})),
        ("/password", Some(&anna), json!({"password": PASSWORD})),
        ("/password", Some(&anna), json!({"password": PASSWORD, "newPassword": "short"})),
    ] {
        assert_eq!(refused(&one, path, token.map(String::as_str), body.clone()).await, (400, "invalid".to_owned()), "{path} {body}");
    }
    for refresh in ["", "short", &"!".repeat(64)] {
        assert_eq!(refused(&one, "/refresh", None, json!({"refreshToken": refresh})).await, login_ended());
    }
    for path in ["/password", "/logout-everywhere"] {
        assert_eq!(refused(&one, path, None, json!({})).await.0, 401);
        assert_eq!(refused(&one, path, Some(&narrow), json!({})).await.0, 403);
    }
    one.stop().await;
    other.stop().await;
}
