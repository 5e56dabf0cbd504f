//! LISTEN: where SQL functions notify every node (`restante_send()`, `restante_requeue()`, `restante_discard()`), and on the
//! node's own channel. NOTIFY knows databases and no schemas, so each schema has a channel of its own for the former.
//! Anybody may notify both: the former only wakes users, and [`Bus::open`] checks what comes on the latter.
//!
//! A connection can be dead without a word (half-open). So the node notifies itself. A node that does not hear itself for
//! a while takes the connection for lost and makes another. Such a message shows that the connection works, from wherever it comes.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::{Bus, BusEvent};
use crate::domain::{ChatId, NodeId, UserId};

/// The message that a node sends to itself, to see that its connection works.
const BEAT: &str = "beat";
/// The payload of SQL functions that says that tokens were revoked.
const REVOKED: &str = "revoked";
/// The payload of SQL functions that says that the limits of a user were raised.
const RAISED: &str = "limits";
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// The node that listens, and after how much silence its connection counts as lost.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    /// The bus of the node.
    pub bus: Bus,
    /// The channel of SQL functions; payload: items separated by commas. An item is a user number, one with an `m` before it for whom
    /// marks moved, or `feed` and the id of a stream to which something was published. `revoked` and `limits` stand alone.
    pub wakes: String,
    /// The options of the pool that makes the one connection.
    pub pool: PgPoolOptions,
    /// The address of the database, past any pooler.
    pub connect_to: PgConnectOptions,
    /// The time between two messages of the node to itself.
    pub beat_interval: Duration,
    /// The connection counts as lost after this much silence.
    pub silence_max: Duration,
}

/// The channel of a node.
pub fn channel(node: NodeId) -> String {
    format!("restante_node_{}", node.0.simple())
}

/// Listens until it is dropped, through lost connections. `say` notifies a channel.
pub async fn listen<F: Future<Output = bool>>(
    settings: ListenerSettings,
    say: impl Fn(String, String) -> F,
    received: impl FnMut(BusEvent),
) {
    let channel = channel(settings.bus.me());
    let beats = async {
        let mut every = tokio::time::interval(settings.beat_interval);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            // Unsaid, it is not heard, and a connection that was sound is made anew: that costs little.
            let _ = say(channel.clone(), BEAT.to_owned()).await;
        }
    };
    tokio::select! {
        () = beats => {}
        () = listen_on(&channel, &settings, received) => {}
    }
}

async fn listen_on(channel: &str, settings: &ListenerSettings, mut received: impl FnMut(BusEvent)) {
    let (mut pause, mut is_told) = (FIRST_PAUSE, false);
    loop {
        let cause = match timeout(CONNECT_TIME_MAX, listener(channel, settings)).await {
            Ok(Ok(mut listener)) => {
                // Listening anew: what was notified since the last connection went is not known.
                received(BusEvent::Missed);
                pause = FIRST_PAUSE;
                if std::mem::take(&mut is_told) {
                    info!("this node hears the others again");
                }
                follow(&mut listener, settings, &mut received).await
            }
            failed => {
                if !std::mem::replace(&mut is_told, true) {
                    warn!("this node hears no others, no connection that listens can be made: their messages come late");
                }
                failed.ok().and_then(Result::err)
            }
        };
        debug!(?cause, "the connection that listens is lost");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A pool for each connection: one whose connection hangs would never give another.
async fn listener(channel: &str, settings: &ListenerSettings) -> Result<PgListener, sqlx::Error> {
    let pool = settings.pool.clone().connect_lazy_with(settings.connect_to.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    listener.listen_all([settings.wakes.as_str(), channel]).await?;
    Ok(listener)
}

/// Until the connection is lost, or silent: `try_recv` says so (`None`), where `recv` would quietly make another.
async fn follow(listener: &mut PgListener, settings: &ListenerSettings, received: &mut impl FnMut(BusEvent)) -> Option<sqlx::Error> {
    loop {
        match timeout(settings.silence_max, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => take(&notification, settings, received),
            Ok(Ok(None)) => return None,
            Ok(Err(cause)) => return Some(cause),
            Err(_) => {
                debug!("the connection that listens is silent");
                return None;
            }
        }
    }
}

fn take(notification: &PgNotification, settings: &ListenerSettings, received: &mut impl FnMut(BusEvent)) {
    match (notification.channel(), notification.payload()) {
        (channel, payload) if channel == settings.wakes => {
            match payload.trim() {
                REVOKED => return received(BusEvent::Revoked),
                RAISED => return received(BusEvent::LimitsRaised),
                _ => {}
            }
            let Told { waits, marks, feeds, chats } = told(payload);
            // Before the marks: a session that looks at them finds receipts in their new form.
            if !chats.is_empty() {
                received(BusEvent::Chats(chats));
            }
            received(BusEvent::Wake(waits));
            received(BusEvent::Marks(marks));
            if !feeds.is_empty() {
                received(BusEvent::Feeds(feeds));
            }
        }
        (_, BEAT) => {}
        (_, letter) => settings.bus.open(letter, received),
    }
}

/// The items of a payload.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// Users for whom something waits.
    waits: Vec<UserId>,
    /// Users for whom marks moved.
    marks: Vec<UserId>,
    /// Streams to which something was published.
    feeds: Vec<ChatId>,
    /// Direct chats that are closed, or open again.
    chats: Vec<ChatId>,
}

/// Reads a payload. Items that cannot be read are left out: anybody may notify.
fn told(payload: &str) -> Told {
    let mut told = Told::default();
    for item in payload.split(',').map(str::trim) {
        if let Some(stream) = item.strip_prefix("feed ") {
            told.feeds.extend(stream.trim().parse().ok().map(ChatId));
        } else if let Some(chat) = item.strip_prefix("chat ") {
            told.chats.extend(chat.trim().parse().ok().map(ChatId));
        } else if let Some(user) = item.strip_prefix('m') {
            told.marks.extend(user.parse().ok().map(UserId));
        } else {
            told.waits.extend(item.parse().ok().map(UserId));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_read_as_far_as_it_makes_sense() {
        let users = |numbers: &[i64]| numbers.iter().copied().map(UserId).collect::<Vec<_>>();
        let of_users = |waits: &[i64], marks: &[i64]| Told { waits: users(waits), marks: users(marks), ..Told::default() };
        assert_eq!(told("1,22, 3"), of_users(&[1, 22, 3], &[]));
        assert_eq!(told("m4,1, m55"), of_users(&[1], &[4, 55]));
        assert_eq!(told(""), Told::default());
        assert_eq!(told("x,7,mx,99999999999999999999"), of_users(&[7], &[]));
        let stream = ChatId::generate();
        let with_stream = Told { feeds: vec![stream], ..of_users(&[5], &[6]) };
        assert_eq!(told(&format!("5,feed {stream}, m6")), with_stream);
        assert_eq!(told(&format!("chat {stream},1")), Told { chats: vec![stream], ..of_users(&[1], &[]) });
        for unreadable in
            ["chat", "chat 7", "feed", "feed ", "feed x", "feeds", &format!("feed{stream}"), &format!("feed {stream} {stream}"), "feed 7"]
        {
            assert_eq!(told(unreadable), Told::default(), "{unreadable}");
        }
    }
}
