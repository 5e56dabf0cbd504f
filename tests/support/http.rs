//! HTTP calls of one user, answers as JSON.

use reqwest::{Client, Method, Response};
use serde_json::Value;

use super::described;
use super::node::{Node, admin_token, scoped_token, token};

/// One user's calls to one node.
pub struct Api {
    client: Client,
    url: String,
    token: String,
}

impl Node {
    /// Calls as this user.
    pub fn api(&self, user: &str) -> Api {
        Api { client: Client::new(), url: self.url(), token: token(user) }
    }

    /// Calls as this user, who may publish to everything.
    pub fn publisher(&self, user: &str) -> Api {
        Api { client: Client::new(), url: self.url(), token: scoped_token(user, "events:write") }
    }

    /// Calls as an operator.
    pub fn admin(&self) -> Api {
        Api { client: Client::new(), url: self.url(), token: admin_token() }
    }
}

impl Api {
    /// `GET`: status and body.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.told(Method::GET, path, None).await
    }

    /// `POST`: status and body.
    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.told(Method::POST, path, Some(body)).await
    }

    /// `DELETE`: status and body.
    pub async fn delete(&self, path: &str, body: Value) -> (u16, Value) {
        self.told(Method::DELETE, path, Some(body)).await
    }

    /// A request with or without a body: status and body, which are as they are described.
    pub async fn told(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let request = self.request(method.clone(), path);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let response = request.send().await.unwrap();
        let media = response.headers().get("content-type").map(|media| media.to_str().unwrap().to_owned()).unwrap_or_default();
        let (status, answer) = told(response).await;
        described::answer(method.as_str(), path, status, &media, &answer);
        (status, answer)
    }

    /// A request to be changed further.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }
}

/// Status and body of an answer.
pub async fn told(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}
