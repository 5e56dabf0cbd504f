//! One connection through the proxy: bytes from one end go to the other as the network's state allows. In front of PostgreSQL the
//! proxy reads whole messages, because a refused one has to be answered as the server would do it.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::{Mutex, watch};
use tokio::time::sleep;

use super::postgres::{ClientStream, Server};
use super::{Half, NetworkState, Stream, Target};

const PIECE_BYTES: usize = 8 * 1024;
const HELD_MAX: Duration = Duration::from_secs(600);

/// The server's state, which both directions of a connection share in front of PostgreSQL.
type Dialogue = Arc<std::sync::Mutex<Server>>;

/// Connects to the target and passes bytes on, until one end closes.
pub(super) async fn connect_and_run(
    client: Stream,
    target: Target,
    network: watch::Receiver<NetworkState>,
    mut half: watch::Receiver<Option<Half>>,
) {
    let Ok(server) = target.connect().await else { return };
    let (client_from, client_to) = split(client);
    let (server_from, server_to) = split(server);
    // Shared, so that one end can be dropped and the other held.
    let client_to = Arc::new(Mutex::new(Some(client_to)));
    let server_to = Arc::new(Mutex::new(Some(server_to)));
    let dialogue = Dialogue::default();
    let is_postgres = matches!(target, Target::Postgres(_));
    let up = async {
        if is_postgres {
            ask(client_from, &server_to, &client_to, &network, &dialogue).await
        } else {
            pass(client_from, &server_to, &network, |_| {}).await
        }
    };
    let down = pass(server_from, &client_to, &network, |bytes| {
        if is_postgres {
            dialogue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).hear(bytes);
        }
    });
    // The select drops `up` and `down` with both reading halves: from here on nothing is read.
    let dropped = tokio::select! {
        _ = up => return,
        _ = down => return,
        half = half.wait_for(Option::is_some) => half.ok().and_then(|half| *half),
    };
    match dropped {
        Some(Half::Client) => drop(client_to.lock().await.take()),
        Some(Half::Server) => drop(server_to.lock().await.take()),
        None => return,
    }
    // The cut that mends it ends this task. Otherwise the connection closes after a time, as a kernel gives up in the end.
    sleep(HELD_MAX).await;
}

/// Passes on the bytes that it reads, until an end closes; then it returns `None`.
async fn pass(
    mut from: ReadHalf<Stream>,
    to: &Mutex<Option<WriteHalf<Stream>>>,
    network: &watch::Receiver<NetworkState>,
    mut look: impl FnMut(&[u8]),
) -> Option<()> {
    let mut network = network.clone();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let bytes = from.read(&mut piece).await.ok().filter(|bytes| *bytes > 0)?;
        pass_time(&mut network, bytes).await;
        look(&piece[..bytes]);
        write(to, &piece[..bytes]).await?;
    }
}

/// Passes on the messages of a client of PostgreSQL, or refuses them in the server's name.
async fn ask(
    mut from: ReadHalf<Stream>,
    to_server: &Mutex<Option<WriteHalf<Stream>>>,
    to_client: &Mutex<Option<WriteHalf<Stream>>>,
    network: &watch::Receiver<NetworkState>,
    dialogue: &Dialogue,
) -> Option<()> {
    let mut network = network.clone();
    let mut asked = ClientStream::default();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let bytes = from.read(&mut piece).await.ok().filter(|bytes| *bytes > 0)?;
        pass_time(&mut network, bytes).await;
        asked.hear(&piece[..bytes]);
        while let Some(group) = asked.next_group() {
            let is_full = *network.borrow() == NetworkState::DiskFull;
            let refusal = dialogue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).refuse_or_expect(&group, is_full);
            match refusal {
                Some(answer) => write(to_client, &answer).await?,
                None => write(to_server, &group.bytes).await?,
            }
        }
    }
}

async fn write(to: &Mutex<Option<WriteHalf<Stream>>>, bytes: &[u8]) -> Option<()> {
    to.lock().await.as_mut()?.write_all(bytes).await.ok()
}

async fn pass_time(network: &mut watch::Receiver<NetworkState>, bytes: usize) {
    let now = *network.borrow_and_update();
    match now {
        NetworkState::Normal | NetworkState::DiskFull => {}
        NetworkState::Stalled => drop(network.wait_for(|network| *network != NetworkState::Stalled).await),
        NetworkState::Delayed(ms) => sleep(Duration::from_millis(ms)).await,
        NetworkState::Slow(bytes_per_s) => {
            let ms = bytes as u64 * 1000 / bytes_per_s.max(1);
            sleep(Duration::from_millis(ms)).await;
        }
    }
}
