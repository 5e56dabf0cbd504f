//! A client that compresses (RFC 7692) without a library for it: it writes every byte of its frames, and inflates with zlib what comes. It
//! shares nothing with the service, so a mistake of one side is seen by the other.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Node, PATIENCE, token};

pub const FIN: u8 = 0x80;
pub const RSV1: u8 = 0x40;
pub const TEXT: u8 = 1;
pub const CONTINUATION: u8 = 0;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// One open connection.
pub struct DeflatingClient {
    stream: BufReader<TcpStream>,
    /// `Sec-WebSocket-Extensions` of the answer.
    pub agreed: Option<String>,
}

/// A frame that came.
pub struct Heard {
    /// FIN, the reserved bits, the opcode.
    pub first: u8,
    /// As it came.
    pub payload: Vec<u8>,
}

/// A text that came.
pub struct Text {
    pub json: Value,
    /// Its bytes, and those of its payload on the wire.
    pub bytes: usize,
    pub wire: usize,
    pub is_compressed: bool,
}

impl DeflatingClient {
    /// Connects with these header lines of extensions, past the head of the answer.
    pub async fn connect(node: &Node, user: &str, query: &str, extensions: &[&str]) -> Self {
        let mut stream = BufReader::new(TcpStream::connect(node.addr()).await.unwrap());
        let lines: String = extensions.iter().map(|value| format!("sec-websocket-extensions: {value}\r\n")).collect();
        let head = format!(
            "GET /ws{query} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: Bearer {}\r\n{lines}\r\n",
            token(user)
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101") && head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        let agreed = head.lines().find_map(|line| line.strip_prefix("sec-websocket-extensions: ")).map(str::to_owned);
        Self { stream, agreed }
    }

    /// Says a frame; `first` has FIN, the reserved bits and the opcode.
    pub async fn say(&mut self, first: u8, payload: &[u8]) {
        let mask = [0x11, 0x22, 0x33, 0x44];
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        // The service may have closed meanwhile.
        let _ = self.stream.write_all(&frame).await;
    }

    /// The next frame. None: the connection has ended.
    pub async fn frame(&mut self) -> Option<Heard> {
        let first = timeout(PATIENCE, self.stream.read_u8()).await.expect("a frame comes").ok()?;
        let length = match self.stream.read_u8().await.ok()? {
            126 => usize::from(self.stream.read_u16().await.ok()?),
            127 => self.stream.read_u64().await.ok()? as usize,
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some(Heard { first, payload })
    }

    /// The next text.
    pub async fn text(&mut self) -> Text {
        loop {
            let heard = self.frame().await.expect("the connection goes on");
            if heard.first & 0x0f != TEXT {
                continue;
            }
            assert_eq!(heard.first & !RSV1, FIN | TEXT);
            let is_compressed = heard.first & RSV1 != 0;
            let plain = if is_compressed { inflated(&heard.payload) } else { heard.payload.clone() };
            let json = serde_json::from_slice(&plain).unwrap();
            return Text { json, bytes: plain.len(), wire: heard.payload.len(), is_compressed };
        }
    }

    /// The next text of this event.
    pub async fn event(&mut self, event: &str) -> Text {
        loop {
            let text = self.text().await;
            if text.json["event"] == event {
                return text;
            }
        }
    }

    /// The code of the close frame that comes.
    pub async fn closed(&mut self) -> u16 {
        loop {
            let heard = self.frame().await.expect("a close frame comes");
            if heard.first & 0x0f == CLOSE {
                return u16::from_be_bytes(heard.payload[..2].try_into().unwrap());
            }
        }
    }

    /// Acks everything up to a number.
    pub async fn ack_up_to(&mut self, seq: &Value) {
        self.say(FIN | TEXT, json!({"event": "message:delivered", "data": {"upTo": seq}}).to_string().as_bytes()).await;
    }
}

/// A payload that RFC 7692 section 7.2.1 makes of a text.
pub fn deflated(plain: &[u8]) -> Vec<u8> {
    deflated_by(&mut Compress::new(Compression::new(9), false), plain)
}

/// The payload of a text that is said twice, where the second one looks back at the first.
pub fn deflated_in_one_context(plain: &[u8]) -> [Vec<u8>; 2] {
    let mut compress = Compress::new(Compression::new(9), false);
    let payloads = [(); 2].map(|()| deflated_by(&mut compress, plain));
    assert!(payloads[1].len() < payloads[0].len() / 2);
    payloads
}

fn deflated_by(compress: &mut Compress, plain: &[u8]) -> Vec<u8> {
    let mut deflated = Vec::with_capacity(plain.len() + 1024);
    compress.compress_vec(plain, &mut deflated, FlushCompress::Sync).unwrap();
    assert!(deflated.ends_with(&TAIL));
    deflated.truncate(deflated.len() - TAIL.len());
    deflated
}

/// The text of a payload, with nothing remembered of those before it.
fn inflated(payload: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(1 << 20);
    Decompress::new(false).decompress_vec(&[payload, &TAIL].concat(), &mut plain, FlushDecompress::Sync).unwrap();
    plain
}
