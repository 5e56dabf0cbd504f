//! Tokens in every place where one may stand, and in some where none may: none of them comes out again, in a log line of whatever level, a
//! metric or an answer.

use std::fs::File;

use reqwest::{Client, RequestBuilder};
use restante_postgres::ThrowawayDir;
use serde_json::json;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::program::Service;
use crate::support::{Socket, token};

/// Tokens by the place that they are put in; `good` ones are valid.
struct Planted {
    all: Vec<String>,
}

impl Planted {
    fn bad(&mut self, place: &str) -> String {
        let planted = format!("eyJhbGciOiJIUzI1NiJ9.cGxhbnRlZA.planted-{}-{place}", self.all.len());
        self.all.push(planted.clone());
        planted
    }

    fn good(&mut self, user: &str) -> String {
        let good = token(user);
        self.all.push(good.clone());
        good
    }

    /// The places whose tokens are in this text: whole, or by their signature.
    fn found_in(&self, text: &str) -> Vec<&String> {
        self.all.iter().filter(|token| text.contains(token.rsplit('.').next().unwrap())).collect()
    }
}

/// The status, the headers and the body of an answer as one text.
async fn answered(request: RequestBuilder) -> String {
    let answer = request.send().await.unwrap();
    let head = format!("{:?} {:?}", answer.status(), answer.headers());
    assert_eq!(answer.headers()["referrer-policy"], "no-referrer", "{head}");
    // A stream has no end.
    let body = tokio::time::timeout(std::time::Duration::from_millis(300), answer.text()).await;
    format!("{head} {}", body.map(Result::unwrap).unwrap_or_default())
}

async fn over_http(url: &str, planted: &mut Planted) -> Vec<String> {
    let mut answers = Vec::new();
    for path in ["/v1/chats", "/v1/stream", "/ws", "/nowhere", "/socket.io/?EIO=4&transport=polling", "/v1/inbox?limit=x", "/metrics"] {
        let (mark, name) = (if path.contains('?') { '&' } else { '?' }, path.trim_start_matches('/').replace(['/', '?', '&', '='], "-"));
        let get = |query: String| Client::new().get(format!("{url}{path}{query}"));
        let of_query = format!("{mark}token={}", planted.bad(&format!("query-{name}")));
        answers.push(answered(get(of_query)).await);
        let twice = format!("{mark}token={}&token={}", planted.bad(&format!("first-{name}")), planted.bad(&format!("second-{name}")));
        answers.push(answered(get(twice)).await);
        let of_header = planted.bad(&format!("bearer-{name}"));
        answers.push(answered(get(String::new()).bearer_auth(of_header)).await);
        let basic = format!("Basic {}", planted.bad(&format!("basic-{name}")));
        answers.push(answered(get(String::new()).header("authorization", basic)).await);
        let (good, referer) = (planted.good("alice"), format!("http://{url}/?token={}", planted.bad(&format!("referer-{name}"))));
        answers.push(answered(get(String::new()).bearer_auth(good).header("referer", referer)).await);
    }
    answers
}

/// Opens a socket in each way, and says each thing with a token in it.
async fn over_sockets(service: &Service, planted: &mut Planted) -> Vec<String> {
    let mut told = Vec::new();
    let ways: [(&str, String); 2] = [
        ("sec-websocket-protocol", format!("restante.v1, bearer.{}", planted.bad("subprotocol"))),
        ("sec-websocket-protocol", format!("restante.v1, bearer.{}", planted.good("alice"))),
    ];
    for (name, value) in ways {
        let mut request = format!("ws://{}/ws?token={}", service.addr, planted.bad("beside")).into_client_request().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
        let mut socket = Socket::request(request).await.unwrap();
        told.push(socket.next().await.to_string());
    }
    let first = [
        json!({"event": "authenticate", "data": {"token": planted.bad("frame")}}).to_string(),
        json!({"event": "authenticate", "data": {"token": [planted.bad("list")]}}).to_string(),
        format!("{{\"event\": \"authenticate\", \"data\": {{\"token\": \"{}\"", planted.bad("broken")),
        json!({"event": "authenticate", "data": planted.bad("data")}).to_string(),
        json!({"event": "authenticate", "id": "x", "data": {"token": planted.good("alice")}}).to_string(),
    ];
    for frame in first {
        let mut socket = Socket::request(format!("ws://{}/ws", service.addr).into_client_request().unwrap()).await.unwrap();
        socket.text(frame).await;
        told.push(socket.next().await.to_string());
    }
    told
}

/// Broken by a library whose lines of the level trace show what it carries: `Received message …` of a WebSocket.
#[tokio::test(flavor = "multi_thread")]
async fn no_token_comes_out_in_a_log_line_a_metric_or_an_answer() {
    let dir = ThrowawayDir::new().unwrap();
    let path = dir.path().join("the-log");
    std::fs::create_dir_all(dir.path()).unwrap();
    let log = File::create(&path).unwrap();
    let service = Service::start_with(&dir, &[("RUST_LOG", "trace")], log.into()).await;
    let url = format!("http://{}", service.addr);
    let mut planted = Planted { all: Vec::new() };
    let mut answers = over_http(&url, &mut planted).await;
    answers.extend(over_sockets(&service, &mut planted).await);
    for answer in &answers {
        assert_eq!(planted.found_in(answer), [] as [&String; 0], "{answer}");
    }
    let metrics = reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap();
    assert_eq!(planted.found_in(&metrics), [] as [&String; 0]);
    assert_eq!(service.stopped("-TERM").await.0, Some(0));
    let log = std::fs::read_to_string(path).unwrap();
    assert!(log.contains("TRACE") && log.contains("/v1/chats"), "the log tells of the requests");
    let found = planted.found_in(&log);
    let lines: Vec<&str> = log.lines().filter(|line| found.iter().any(|token| line.contains(token.rsplit('.').next().unwrap()))).collect();
    assert!(lines.is_empty(), "{} lines: {:#?}", lines.len(), &lines[..lines.len().min(5)]);
}

/// Broken by a line that shows the body of a request or the values of a statement, and by a refusal that quotes what it refuses.
#[tokio::test(flavor = "multi_thread")]
async fn no_password_and_no_token_of_a_login_comes_out_in_a_log_line_a_metric_or_a_refusal() {
    let dir = ThrowawayDir::new().unwrap();
    let path = dir.path().join("the-log");
    std::fs::create_dir_all(dir.path()).unwrap();
    let log = File::create(&path).unwrap();
    let service = Service::start_with(&dir, &[("RUST_LOG", "trace"), ("ACCOUNTS", "on")], log.into()).await;
    let url = format!("http://{}", service.addr);
    let mut secrets: Vec<String> = ["first", "second", "wrong", "short"].map(|word| format!("planted-{word}-pw")).to_vec();
    let [first, second, wrong] = [0, 1, 2].map(|n| format!("{} of a sentence", secrets[n]));
    let ask = async |path: &str, token: &str, body: String| {
        let request = Client::new().post(format!("{url}/v1/accounts{path}")).bearer_auth(token).body(body);
        crate::support::told(request.send().await.unwrap()).await
    };
    let account = |password: &str| json!({"userId": "anna", "password": password}).to_string();
    assert_eq!(ask("", "", account(&first)).await.0, 201);
    let (status, begun) = ask("/login", "", account(&first)).await;
    assert_eq!(status, 200, "{begun}");
    let (access, refresh) = (begun["accessToken"].as_str().unwrap(), json!({"refreshToken": begun["refreshToken"]}).to_string());
    let (status, renewed) = ask("/refresh", "", refresh.clone()).await;
    assert_eq!(status, 200, "{renewed}");
    assert_eq!(ask("/password", access, json!({"password": first, "newPassword": second}).to_string()).await.0, 200);
    let refusals = [
        ask("", "", account(&secrets[3])).await,
        ask("", "", account(&second)).await,
        ask("", "", account(&second)[1..].to_owned()).await,
        ask("", "", json!({"userId": second, "password": [wrong]}).to_string()).await,
        ask("/login", "", account(&wrong)).await,
        ask("/login", "", format!("{}}}", account(&second))).await,
        ask("/password", access, json!({"password": wrong, "newPassword": wrong}).to_string()).await,
        ask("/refresh", "", refresh.clone()).await,
        ask("/logout", "", json!({"refreshToken": [refresh]}).to_string()).await,
    ];
    for tokens in [&begun, &renewed] {
        secrets.extend(["accessToken", "refreshToken"].map(|name| tokens[name].as_str().unwrap().rsplit('.').next().unwrap().to_owned()));
    }
    let metrics = reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains(r#"restante_account_requests_total{request="login",outcome="bad_credentials"} 1"#), "{metrics}");
    assert_eq!(service.stopped("-TERM").await.0, Some(0));
    let log = std::fs::read_to_string(path).unwrap();
    assert!(log.contains("TRACE") && log.contains("a refresh token was used twice"), "the log tells of the requests");
    for (status, answer) in &refusals {
        assert!((400..500).contains(status) && !secrets.iter().any(|secret| answer.to_string().contains(secret)), "{status} {answer}");
    }
    let shows = |line: &&str| secrets.iter().any(|secret| line.contains(secret));
    assert_eq!(log.lines().chain(metrics.lines()).filter(shows).collect::<Vec<_>>(), Vec::<&str>::new());
}
