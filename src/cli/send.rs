//! `restante send`: one message, and what becomes of it. The service tells that something has changed; what
//! it has become is then read from the status API, so that two recipients and two thousand look the same.

use std::io::Read;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use tokio::time::{Instant, timeout_at};

use super::exit::{Exit, UsageError, words};
use super::identity::{Identity, Service, duration};
use super::screen::{Ink, Screen, printable, say};
use crate::domain::{ChatId, MessageId, Status};
use restante_client::{AckStyle, Client, Destination, Event, Happening, Http, NewMessage, Options, Sent};

pub const ABOUT: &str = "\
Send a message and watch what becomes of it: ✓ sent, ✓✓ delivered, ✓✓ read.

It goes to a user (--to: the direct chat, made when missing) or into a chat (--chat). The command ends when the message has got as far as \
--wait says, or when --timeout is over; the exit code tells how far it got. A message that was stored stays stored: the recipient gets it \
whenever they come.

Examples:
  restante send --user alice --to bob 'Are you there?'
  restante send --user alice --chat 0192f0c0-0000-7000-8000-000000000000 --wait sent 'Hello, all'
  fortune | restante send --user alice --to bob --wait delivered --timeout 5m -";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("place").required(true))]
pub struct Args {
    #[command(flatten)]
    service: Service,
    #[command(flatten)]
    identity: Identity,
    /// The user it is for
    #[arg(long, group = "place", value_name = "USER", allow_hyphen_values = true)]
    to: Option<String>,
    /// The chat it goes into
    #[arg(long, group = "place", value_name = "ID", value_parser = chat_id)]
    chat: Option<ChatId>,
    /// The status to wait for before this command ends
    #[arg(long, value_enum, default_value_t = Wait::Read, value_name = "STATUS")]
    wait: Wait,
    /// Greatest time to wait for that
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "TIME")]
    timeout: Duration,
    /// The type of the message: text, action, …
    #[arg(long, value_name = "TYPE", allow_hyphen_values = true)]
    message_type: Option<String>,
    /// The text; `-` reads it from stdin
    #[arg(allow_hyphen_values = true)]
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Wait {
    Sent,
    Delivered,
    Read,
}

fn chat_id(text: &str) -> Result<ChatId, String> {
    text.parse().map(ChatId).map_err(|_| "a chat's id is a UUID".to_owned())
}

/// Sends, and waits as long as was asked for.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let token = args.identity.token()?;
    let message = NewMessage { message_type: args.message_type.clone(), ..NewMessage::text(destination(&args)?, content(&args.text)?) };
    let http = Http::new(&args.service.url)?;
    let mut options = Options::new(&args.service.url, token.clone())?;
    // Messages that wait for the sender are not shown here, so they go on waiting.
    options.ack_style = AckStyle::Never;
    let (client, _) = Client::connect(options).await?;
    let deadline = Instant::now() + args.timeout;
    let mut sending =
        Sending { client, http, token, screen: Screen::new(), id: message.message_id, chat: None, reached: None, shown: None };
    sending.client.send(&message);
    let finished = timeout_at(deadline, sending.until(args.wait)).await;
    sending.client.close().await;
    match (finished, sending.reached) {
        (Ok(Err(error)), _) => Err(error),
        (Ok(Ok(())), _) => Ok(Exit::Done),
        (Err(_), Some(Wait::Sent)) => Ok(late(Exit::SentOnly, "sent, but not delivered in time; it waits for its recipient")),
        (Err(_), Some(Wait::Delivered | Wait::Read)) => Ok(late(Exit::DeliveredOnly, "delivered, but not read in time")),
        (Err(_), None) => Ok(late(Exit::Unreachable, "the service did not confirm the message in time; it may have been stored")),
    }
}

fn late(exit: Exit, why: &str) -> Exit {
    say(&format!("restante: {why}"));
    exit
}

fn destination(args: &Args) -> anyhow::Result<Destination> {
    let user = args.to.clone().map(Destination::User);
    args.chat.map(Destination::Chat).or(user).ok_or_else(|| UsageError("name --to or --chat".into()).into())
}

fn content(text: &str) -> anyhow::Result<String> {
    if text != "-" {
        return Ok(text.to_owned());
    }
    let mut content = String::new();
    std::io::stdin().read_to_string(&mut content).context("cannot read the text from stdin")?;
    Ok(content.trim_end_matches('\n').to_owned())
}

struct Sending {
    client: Client,
    http: Http,
    token: String,
    screen: Screen,
    id: MessageId,
    chat: Option<ChatId>,
    reached: Option<Wait>,
    shown: Option<(usize, usize)>,
}

impl Sending {
    async fn until(&mut self, wait: Wait) -> anyhow::Result<()> {
        while self.reached.is_none_or(|reached| reached < wait) {
            match self.client.next().await? {
                Happening::Stored(sent) => self.stored(&sent, wait).await?,
                Happening::Refused(_, error) => return Err(refused(&error.code, &error.message)),
                Happening::Event(Event::Status(update)) if Some(update.chat_id) == self.chat => self.look().await?,
                // Receipts may have been missed while the connection was away.
                Happening::Ready(_) if self.chat.is_some() => self.look().await?,
                Happening::Lost(why, Some(_)) => say(&format!("{}; coming back", words(&why))),
                Happening::Postponed(_, error) => {
                    say(&format!("{} ({}); trying again", printable(&error.message), printable(&error.code)));
                }
                Happening::Ready(_)
                | Happening::Message(_)
                | Happening::FeedEvent(_)
                | Happening::FeedEventAgain(_)
                | Happening::Recalled(_)
                | Happening::RecalledAgain(_)
                | Happening::Again(_)
                | Happening::Event(_)
                | Happening::Frame(_)
                | Happening::Lost(_, None) => {}
            }
        }
        Ok(())
    }

    async fn stored(&mut self, sent: &Sent, wait: Wait) -> anyhow::Result<()> {
        self.chat = Some(sent.chat_id);
        self.reached = Some(Wait::Sent);
        let place = format!("#{} in {}, message {}", sent.seq, sent.chat_id, sent.message_id);
        let line = format!("{}       {}", self.screen.tick(Status::Sent), self.screen.ink(Ink::Faint, &place));
        self.screen.line(&line)?;
        if wait > Wait::Sent { self.look().await } else { Ok(()) }
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        let statuses = match self.http.statuses(&self.token, self.id).await {
            Err(error) if error.is_retryable() => return Ok(()), // the next receipt, or the next connection, looks again
            statuses => statuses?,
        };
        let count = |wanted: fn(Status) -> bool| statuses.iter().filter(|row| wanted(row.status)).count();
        let read = count(|status| status == Status::Read);
        let delivered = count(|status| matches!(status, Status::Delivered | Status::Read));
        let ended = count(|status| matches!(status, Status::Failed | Status::Expired));
        self.show(delivered, read, statuses.len())?;
        self.reached = match statuses.len() {
            all if read == all => Some(Wait::Read),
            all if delivered == all => Some(Wait::Delivered),
            all if ended == all => anyhow::bail!("the message was not delivered: its delivery was given up, or it expired"),
            _ => self.reached,
        };
        Ok(())
    }

    fn show(&mut self, delivered: usize, read: usize, all: usize) -> anyhow::Result<()> {
        let (delivered_before, read_before) = self.shown.replace((delivered, read)).unwrap_or_default();
        let of_all = if all == 1 { String::new() } else { format!("of {all}") };
        for (status, now, before) in [(Status::Delivered, delivered, delivered_before), (Status::Read, read, read_before)] {
            if now > before {
                let number = if all == 1 { String::new() } else { format!(" {now} ") };
                self.screen.line(&format!("{}{number}{of_all}", self.screen.tick(status)))?;
            }
        }
        Ok(())
    }
}

fn refused(code: &str, message: &str) -> anyhow::Error {
    let words = format!("{} ({})", printable(message), printable(code));
    match code {
        "forbidden" | "not_a_member" | "not_authenticated" => restante_client::Gone::Forbidden(words).into(),
        _ => anyhow::anyhow!("the service refused the message: {words}"),
    }
}
