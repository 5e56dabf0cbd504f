//! A service that may open few files: clients get what it leaves, and it never takes its own want for the database's.

use std::net::SocketAddr;
use std::process::Stdio;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use crate::support::{Connect, Database, PATIENCE, Socket, database, secret, token};

/// The service in a process of its own, with this limit of open files, soft and hard.
struct Service {
    process: Child,
    log: Lines<BufReader<ChildStderr>>,
    said: Vec<String>,
    addr: SocketAddr,
}

impl Service {
    async fn start(db: &Database, limit: &str) -> Self {
        let url = db.url();
        let mut process = Command::new("sh")
            .args(["-c", &format!("{limit}; exec \"$0\" serve"), env!("CARGO_BIN_EXE_restante")])
            .current_dir(std::env::temp_dir())
            .envs([("DATABASE_URL", url.as_str()), ("JWT_SECRET", secret()), ("LISTEN_ADDR", "127.0.0.1:0"), ("SEND_RATE", "0")])
            .envs([("RUST_LOG", "restante=info"), ("LOG_FORMAT", "json"), ("CONNECTIONS_MAX", "200")])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut service = Self { process, log, said: Vec::new(), addr: SocketAddr::from(([0, 0, 0, 0], 0)) };
        service.addr = service.says("listening").await["addr"].as_str().unwrap().parse().unwrap();
        service
    }

    /// Waits until it says this.
    async fn says(&mut self, message: &str) -> Value {
        loop {
            let line = timeout(PATIENCE, self.log.next_line()).await.expect(message).unwrap().expect(message);
            let fields: Value = serde_json::from_str(&line).unwrap();
            self.said.push(line);
            if fields["message"].as_str().is_some_and(|said| said.contains(message)) {
                return fields;
            }
        }
    }

    fn has_said(&self, words: &str) -> bool {
        self.said.iter().any(|line| line.contains(words))
    }

    /// From now on it may have so many files open.
    fn allow(&self, current: u64) {
        let pid = Pid::from_raw(i32::try_from(self.process.id().unwrap()).unwrap());
        prlimit(pid, Resource::Nofile, Rlimit { current: Some(current), maximum: Some(1_024) }).unwrap();
    }

    async fn connect(&self, user: &str) -> Socket {
        Socket::open(self.addr, Connect::user(user)).await
    }

    async fn status(&self, path: &str) -> reqwest::Result<u16> {
        let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Ok(client.get(format!("http://{}{path}", self.addr)).bearer_auth(token("anybody")).send().await?.status().as_u16())
    }
}

/// A message from one to the other, and its ack.
async fn exchange(anna: &mut Socket, ben: &mut Socket) {
    let sent = anna.send("ben", "still here?").await;
    let received = ben.event("message:receive").await;
    assert_eq!(received["messageId"], sent["messageId"]);
    ben.ack(&received).await;
}

#[tokio::test]
async fn strangers_that_say_nothing_take_no_file_that_the_node_needs_and_leave_when_somebody_comes() {
    let db = database().await;
    let mut service = Service::start(&db, "ulimit -n 200").await;
    assert!(service.has_said("CONNECTIONS_MAX is more than the limit of open files allows"), "{:#?}", service.said);
    let (mut anna, mut ben) = (service.connect("anna").await, service.connect("ben").await);
    let mut strangers = Vec::new();
    for _ in 0..220 {
        strangers.push(TcpStream::connect(service.addr).await.unwrap());
    }
    // The last one finds no place, which says that all of them were looked at.
    let mut answer = String::new();
    timeout(PATIENCE, strangers.pop().unwrap().read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    for _ in 0..10 {
        exchange(&mut anna, &mut ben).await;
        // The pool makes connections for these.
        let ids = [
            anna.ask_later("presence:get", json!({"userIds": ["ben"]})).await,
            anna.ask_later("presence:get", json!({"userIds": ["ben"]})).await,
        ];
        for id in ids {
            assert_eq!(anna.answer(&id).await["event"], "presence:state");
        }
    }
    // The next client has the place of one that has said nothing for two seconds.
    let begun = std::time::Instant::now();
    while !matches!(service.status("/readyz").await, Ok(200)) {
        assert!(begun.elapsed() < PATIENCE, "strangers keep everybody out");
    }
    service.process.start_kill().unwrap();
    while let Ok(Some(line)) = service.log.next_line().await {
        service.said.push(line);
    }
    assert!(!service.has_said("does not answer") && !service.has_said("EMFILE"), "{:#?}", service.said);
}

#[tokio::test]
async fn a_soft_limit_is_raised_as_far_as_the_hard_one_allows() {
    let db = database().await;
    let service = Service::start(&db, "ulimit -Sn 64").await;
    let pid = Pid::from_raw(i32::try_from(service.process.id().unwrap()).unwrap());
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let text = std::fs::read_to_string(format!("/proc/{}/limits", pid.unwrap().as_raw_nonzero())).unwrap();
    let files: Vec<&str> = text.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect();
    assert_eq!((files[3], files[4]), (files[4], &*limit.maximum.map_or("unlimited".to_owned(), |max| max.to_string())));
    assert!(!service.has_said("CONNECTIONS_MAX is more"));
}

/// Somebody lowers the limit under a running service, or the machine has none left: it is no database that is away.
#[tokio::test]
async fn a_service_that_may_open_no_file_more_goes_on_with_what_it_has_and_the_log_names_it() {
    let db = database().await;
    let mut service = Service::start(&db, "ulimit -n 1024").await;
    let (mut anna, mut ben) = (service.connect("anna").await, service.connect("ben").await);
    exchange(&mut anna, &mut ben).await;
    service.allow(3);
    // A connection that comes is not taken, and the pool can make none: those that are there do it all.
    let stranger = TcpStream::connect(service.addr).await.unwrap();
    let said = service.says("no connection of a client can be taken at this end").await;
    assert!(said["lacks"].as_str().unwrap().starts_with("EMFILE"), "{said}");
    for _ in 0..5 {
        let mut ids = Vec::new();
        for _ in 0..16 {
            ids.push(anna.ask_later("presence:get", json!({"userIds": ["ben"]})).await);
        }
        exchange(&mut anna, &mut ben).await;
        for id in ids {
            assert_eq!(anna.answer(&id).await["event"], "presence:state");
        }
    }
    service.allow(1_024);
    assert_eq!(service.status("/readyz").await.unwrap(), 200);
    drop(stranger);
    service.process.start_kill().unwrap();
    while let Ok(Some(line)) = service.log.next_line().await {
        service.said.push(line);
    }
    assert!(!service.has_said("does not answer"), "{:#?}", service.said);
}
