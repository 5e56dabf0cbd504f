//! Requests of HTTP by the scope of a token: every operation of the description has a row, and is opened by it alone.

use std::collections::BTreeMap;

use reqwest::{Client, Method};
use serde_json::Value;

use super::{ROLES, nothing, word};
use crate::support::{Node, database, scoped_token, told};

/// Operations by what opens them (see [`ROLES`]). Those that take no token are not here.
const OPERATIONS: &[(char, &[&str])] = &[
    ('S', &["sendMessage", "sendMessageAtOtherPath", "recallMessage", "getMessageStatus"]),
    (
        'U',
        &[
            "readAtOtherPath",
            "readAllAtOtherPath",
            "listChats",
            "createChat",
            "getChat",
            "addMembers",
            "removeMembers",
            "leaveChat",
            "listMessages",
            "readChat",
            "listInbox",
            "openStream",
            "ackInbox",
            "rejectInbox",
            "getPreferences",
            "putPreferences",
            "getPresence",
            "listContacts",
            "requestContact",
            "acceptContact",
            "declineContact",
            "removeContact",
            "listBlocks",
            "addBlock",
            "removeBlock",
            "listInvitations",
            "acceptInvitation",
            "declineInvitation",
            "listInvited",
            "changePassword",
            "logOutEverywhere",
            "listFeeds",
            "getFeed",
        ],
    ),
    ('P', &["publishEvents", "getEvent", "createFeed", "listFollowers", "addPublishers", "removePublishers", "followFeed", "unfollowFeed"]),
    (
        'L',
        &[
            "getStatistics",
            "getEventStatistics",
            "listRevocations",
            "getErasure",
            "listRaisedLimits",
            "listDeadLetters",
            "getDeadLetter",
            "listAudit",
            "listDataKeys",
        ],
    ),
    ('O', &["revokeTokens", "eraseUser", "setLimit", "requeueDeadLetters", "discardDeadLetters", "rotateDataKeys"]),
];

/// An operation of the description that takes a token.
struct Operation {
    id: String,
    method: Method,
    path: String,
}

/// The operations of a node's own description that take a token, or where that is not said.
async fn described(node: &Node) -> Vec<Operation> {
    let (_, description) = told(Client::new().get(format!("{}/openapi.json", node.url())).send().await.unwrap()).await;
    let mut found = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if operation["security"] != serde_json::json!([]) {
                let parts = path.split('/').map(|part| if part.starts_with('{') { "0192f0c0-7d4e-7cc3-98c4-dc0c0c07398f" } else { part });
                let path = parts.collect::<Vec<_>>().join("/");
                let id = operation["operationId"].as_str().unwrap().to_owned();
                found.push(Operation { id, method: method.to_uppercase().parse().unwrap(), path });
            }
        }
    }
    found
}

/// The word of an answer to a request without a body that means anything, with this token. Of an answer that does not end only its head counts.
async fn asked(node: &Node, client: &Client, operation: &Operation, token: Option<&str>) -> String {
    let request = client.request(operation.method.clone(), format!("{}{}", node.url(), operation.path));
    let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
    let answer = request.json(&nothing()).send().await.unwrap();
    let is_stream = answer.headers().get("content-type").is_some_and(|media| media == "text/event-stream");
    if is_stream { super::DONE.to_owned() } else { word(&told(answer).await.1) }
}

/// Broken by `Act::RotateDataKeys` among those that `admin:read` opens, by `POST /v1/blocks` as `Act::Send`, and by no row for `GET /v1/presence`.
#[tokio::test]
async fn each_request_is_opened_by_the_scopes_of_its_act_and_by_no_other() {
    let db = database().await;
    let node = Node::with(db.options(), |config| config.request_rate = 0).await;
    let rows: BTreeMap<&str, char> = OPERATIONS.iter().flat_map(|(right, ids)| ids.iter().map(|id| (*id, *right))).collect();
    let (client, operations) = (Client::new(), described(&node).await);
    for operation in &operations {
        let right = rows.get(operation.id.as_str());
        let right = *right.unwrap_or_else(|| panic!("say in OPERATIONS who may {}", operation.id));
        for (scope, opened) in ROLES {
            let token = scoped_token(&format!("user {scope}"), scope);
            let answer = asked(&node, &client, operation, Some(&token)).await;
            assert!(!matches!(answer.as_str(), "internal" | "not_authenticated"), "{} with {scope:?}: {answer}", operation.id);
            assert_eq!(answer != "forbidden", opened.contains(right), "{} with the scope {scope:?}: {answer}", operation.id);
        }
        assert_eq!(asked(&node, &client, operation, None).await, "not_authenticated", "{}", operation.id);
    }
    for id in rows.keys() {
        assert!(operations.iter().any(|operation| operation.id == *id), "there is no operation {id}");
    }
    node.stop().await;
}

/// Broken by an answer of which the description knows nothing: nobody would see that an operation names no `security`.
#[tokio::test]
async fn what_takes_no_token_tells_nothing_of_users() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    node.connect("nightingale").await.send("lark", "thrush").await;
    let (_, description) = told(Client::new().get(format!("{}/openapi.json", node.url())).send().await.unwrap()).await;
    let mut open = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if operation["security"] == serde_json::json!([]) {
                open.push(format!("{method} {path}"));
                let method: Method = method.to_uppercase().parse().unwrap();
                let answer = Client::new().request(method, format!("{}{path}", node.url())).send().await.unwrap();
                let told = Value::String(answer.text().await.unwrap()).to_string();
                assert!(!["nightingale", "lark", "thrush"].iter().any(|word| told.contains(word)), "{path}: {told}");
            }
        }
    }
    let expected = [
        "get /",
        "get /asyncapi.json",
        "get /healthz",
        "get /metrics",
        "get /openapi.json",
        "get /readyz",
        "get /socket.io/",
        "post /socket.io/",
        "post /v1/accounts",
        "post /v1/accounts/login",
        "post /v1/accounts/logout",
        "post /v1/accounts/refresh",
        "get /ws",
    ];
    assert_eq!(open, expected);
    node.stop().await;
}
