//! One connection through the proxy: what comes from one end goes to the other, as the weather allows. In front of
//! PostgreSQL whole messages are looked at, since one that is refused must be answered as the server would.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::{Mutex, watch};
use tokio::time::sleep;

use super::postgres::{Asked, Server};
use super::{Half, Stream, Target, Weather};

const PIECE_BYTES: usize = 8 * 1024;
const HELD_MAX: Duration = Duration::from_secs(600);

/// What the connection's two directions share in front of PostgreSQL.
type Dialogue = Arc<std::sync::Mutex<Server>>;

/// Connects to the target and passes on, until one end is done.
pub(super) async fn connect_and_run(
    client: Stream,
    target: Target,
    weather: watch::Receiver<Weather>,
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
            ask(client_from, &server_to, &client_to, &weather, &dialogue).await
        } else {
            pass(client_from, &server_to, &weather, |_| {}).await
        }
    };
    let down = pass(server_from, &client_to, &weather, |bytes| {
        if is_postgres {
            dialogue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).hear(bytes);
        }
    });
    let dropped = {
        tokio::pin!(up, down);
        tokio::select! {
            _ = &mut up => return,
            _ = &mut down => return,
            half = half.wait_for(Option::is_some) => half.ok().and_then(|half| *half),
        }
        // `up` and `down` go here, and with them both reading halves: nothing is read any more.
    };
    match dropped {
        Some(Half::Client) => drop(client_to.lock().await.take()),
        Some(Half::Server) => drop(server_to.lock().await.take()),
        None => return,
    }
    // The cut that mends it ends this task. What nothing mends is told at last, as by a kernel that has tried for long.
    sleep(HELD_MAX).await;
}

/// Passes on what is read, until it ends. `None`: the other end is gone.
async fn pass(
    mut from: ReadHalf<Stream>,
    to: &Mutex<Option<WriteHalf<Stream>>>,
    weather: &watch::Receiver<Weather>,
    mut look: impl FnMut(&[u8]),
) -> Option<()> {
    let mut weather = weather.clone();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let bytes = from.read(&mut piece).await.ok().filter(|bytes| *bytes > 0)?;
        pass_time(&mut weather, bytes).await;
        look(&piece[..bytes]);
        write(to, &piece[..bytes]).await?;
    }
}

/// Passes on what a client of PostgreSQL asks, or refuses it in the server's name.
async fn ask(
    mut from: ReadHalf<Stream>,
    to_server: &Mutex<Option<WriteHalf<Stream>>>,
    to_client: &Mutex<Option<WriteHalf<Stream>>>,
    weather: &watch::Receiver<Weather>,
    dialogue: &Dialogue,
) -> Option<()> {
    let mut weather = weather.clone();
    let mut asked = Asked::default();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let bytes = from.read(&mut piece).await.ok().filter(|bytes| *bytes > 0)?;
        pass_time(&mut weather, bytes).await;
        asked.hear(&piece[..bytes]);
        while let Some(group) = asked.next_group() {
            let is_full = *weather.borrow() == Weather::DiskFull;
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

async fn pass_time(weather: &mut watch::Receiver<Weather>, bytes: usize) {
    let now = *weather.borrow_and_update();
    match now {
        Weather::Fair | Weather::DiskFull => {}
        Weather::Stalled => drop(weather.wait_for(|weather| *weather != Weather::Stalled).await),
        Weather::Delayed(ms) => sleep(Duration::from_millis(ms)).await,
        Weather::Slow(bytes_per_s) => {
            let ms = bytes as u64 * 1000 / bytes_per_s.max(1);
            sleep(Duration::from_millis(ms)).await;
        }
    }
}
