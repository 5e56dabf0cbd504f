//! A client of Socket.IO over a WebSocket of its own, byte by byte: it enters with a token, and asks with callbacks.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::{Node, PATIENCE};

/// A session of Socket.IO.
pub struct Engine {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    asked: u32,
}

impl Engine {
    /// Enters the namespace with this token and waits for `ready`.
    ///
    /// # Errors
    /// The code of the refusal.
    pub async fn enter(node: &Node, token: &str) -> Result<Self, String> {
        let mut engine = Self::enter_with(node, "", &json!({"token": token})).await;
        let told = engine.until(&["42[\"ready\"", "44"]).await;
        match told.strip_prefix("44") {
            None => Ok(engine),
            Some(refused) => Err(serde_json::from_str::<Value>(refused).unwrap()["data"]["code"].as_str().unwrap().to_owned()),
        }
    }

    /// Asks to enter the namespace with these words, at an address with this query, and reads no answer.
    pub async fn enter_with(node: &Node, query: &str, auth: &Value) -> Self {
        let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket{query}", node.addr());
        let mut engine = Self { stream: connect_async(url).await.unwrap().0, asked: 0 };
        engine.until(&["0{"]).await;
        engine.say(format!("40{auth}")).await;
        engine
    }

    /// Emits an event, and returns what its callback is told.
    pub async fn ask(&mut self, event: &str, data: Value) -> Value {
        self.asked += 1;
        let number = self.asked;
        self.say(format!("42{number}{}", json!([event, data]))).await;
        let start = format!("43{number}[");
        let told = self.until(&[&start]).await;
        serde_json::from_str::<Value>(&told[start.len() - 1..]).unwrap()[0].clone()
    }

    /// Emits an event without a callback.
    pub async fn tell(&mut self, event: &str, data: Value) {
        self.say(format!("42{}", json!([event, data]))).await;
    }

    /// Waits for a packet that begins with one of these.
    pub async fn until(&mut self, starts: &[&str]) -> String {
        let heard = async {
            loop {
                match self.stream.next().await.unwrap_or_else(|| panic!("it is closed, and {starts:?} has not come")).unwrap() {
                    Message::Text(text) if text.as_str() == "2" => self.stream.send(Message::Text("3".into())).await.unwrap(),
                    Message::Text(text) if starts.iter().any(|start| text.starts_with(start)) => return text.as_str().to_owned(),
                    Message::Close(frame) => panic!("it is closed, and {starts:?} has not come: {frame:?}"),
                    _ => {}
                }
            }
        };
        timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("{starts:?} does not come"))
    }

    async fn say(&mut self, text: String) {
        self.stream.send(Message::Text(text.into())).await.unwrap();
    }
}
