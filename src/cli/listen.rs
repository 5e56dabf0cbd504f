//! `restante listen`: shows messages and events as they come. Each is acked once it has been written out, so a
//! listener that dies in between is given it again.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::timeout;
use uuid::Uuid;

use super::exit::{Exit, words};
use super::identity::{Identity, Service};
use super::screen::{Ink, Screen, printable, printable_json, say, time_of_day};
use crate::domain::{ChatId, ChatSeq, Class, DeviceId, Status};
use restante_client::{
    Chat, Client, Envelope, Event, FeedEvent, Gap, Happening, Http, Options, Ready, Recalled, Sent, StatusUpdate, WireError,
};

pub const ABOUT: &str = "\
Show messages and events as they come, with ticks when messages are read.

What waited is shown first, then everything new, until Ctrl-C. Each message that was shown is acked and so counts as delivered; \
with --read it counts as read too. Of your own messages, those sent elsewhere are shown, and what became of them. Times are UTC.

When the connection is lost it comes back by itself; what comes twice is shown once.

Examples:
  restante listen --user bob
  restante listen --user bob --device phone --read
  restante listen --user bob --json | jq 'select(.event == \"message:receive\").data.content'";

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    service: Service,
    #[command(flatten)]
    identity: Identity,
    /// Name this device: it then gets everything since it was last there, also what other devices have acked
    #[arg(long, value_name = "NAME", value_parser = device, allow_hyphen_values = true)]
    device: Option<String>,
    /// Mark what is shown as read
    #[arg(long)]
    read: bool,
    /// Print each frame of the service as one line of JSON
    #[arg(long)]
    json: bool,
    /// End after so many messages and events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Messages that may be under way at once, and as many alerts and events (1 to 500)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=500))]
    window: Option<u16>,
}

fn device(text: &str) -> Result<String, String> {
    DeviceId::try_from(text.to_owned()).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Listens until Ctrl-C, or until `--count` messages were shown.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let token = args.identity.token()?;
    let mut options = Options::new(&args.service.url, token.clone())?;
    options.device = args.device.clone();
    options.window = args.window;
    options.raw_frames = args.json;
    let names = Names { http: Http::new(&args.service.url)?, token, titles: HashMap::new() };
    let mut listener = Listener { client: Client::new(options), names, screen: Screen::new(), shown: 0, was_ready: false, waited: 0, args };
    let ended = tokio::select! {
        ended = listener.listen() => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    listener.client.close().await;
    ended.map(|()| Exit::Done)
}

/// The titles of chats.
struct Names {
    http: Http,
    token: String,
    titles: HashMap<ChatId, String>,
}

impl Names {
    /// Asks the service for all names when one is missing; a chat without any is shown by the end of its id.
    async fn learn(&mut self, chat: ChatId) {
        if self.titles.contains_key(&chat) {
            return;
        }
        let chats = timeout(Duration::from_secs(5), self.http.chats(&self.token)).await;
        let name = |chat: Chat| chat.title.or_else(|| chat.other.map(|other| other.name.unwrap_or_else(|| other.user_id.to_string())));
        for chat in chats.into_iter().flatten().flatten() {
            let id = chat.chat_id;
            name(chat).map(|name| self.titles.insert(id, name));
        }
        self.titles.entry(chat).or_insert_with(|| end_of_id(chat.0));
    }

    fn title(&self, chat: ChatId) -> String {
        self.titles.get(&chat).map_or_else(|| end_of_id(chat.0), |title| printable(title))
    }
}

/// Ids made in the same hour begin alike.
fn end_of_id(id: Uuid) -> String {
    let id = id.to_string();
    id[id.len() - 8..].to_owned()
}

struct Listener {
    args: Args,
    client: Client,
    screen: Screen,
    names: Names,
    shown: u64,
    was_ready: bool,
    /// The number of messages that waited at connect.
    waited: u64,
}

impl Listener {
    async fn listen(&mut self) -> anyhow::Result<()> {
        while self.args.count.is_none_or(|count| self.shown < count) {
            match self.client.next().await? {
                Happening::Frame(text) => self.screen.line(&printable_json(&text))?,
                Happening::Message(envelope) => {
                    if !self.args.json {
                        self.names.learn(envelope.chat_id).await;
                    }
                    self.message(&envelope)?;
                    // Only now: a message that could not be shown comes again.
                    self.client.took();
                }
                Happening::FeedEvent(event) => {
                    self.feed_event(&event)?;
                    // As for a message.
                    self.client.took();
                }
                Happening::Recalled(notice) => {
                    self.recalled(&notice)?;
                    self.client.took();
                }
                Happening::Lost(why, Some(wait)) => self.lost(why, wait)?,
                Happening::Ready(ready) => self.connected(&ready),
                Happening::Event(event) if !self.args.json => self.event(event)?,
                Happening::Again(_)
                | Happening::FeedEventAgain(_)
                | Happening::RecalledAgain(_)
                | Happening::Lost(_, None)
                | Happening::Stored(_)
                | Happening::Refused(..)
                | Happening::Postponed(..)
                | Happening::Event(_) => {}
            }
        }
        self.confirm_reads().await
    }

    fn message(&mut self, envelope: &Envelope) -> anyhow::Result<()> {
        self.shown += 1;
        let status = if self.args.read { Status::Read } else { Status::Delivered };
        if !self.args.json {
            let name = envelope.sender.name.as_deref().unwrap_or(envelope.sender_id.as_str());
            let text = match envelope.message_type.as_str() {
                "action" => format!("* {} {}", printable(name), printable(&envelope.content)),
                _ => format!("{}  {}", self.screen.ink(Ink::Bold, &printable(name)), printable(&envelope.content)),
            };
            self.row(&envelope.created_at, envelope.chat_id, &format!("{text}  {}", self.screen.tick(status)))?;
        }
        if self.args.read {
            self.client.read(envelope.chat_id, envelope.seq);
        }
        Ok(())
    }

    fn feed_event(&mut self, event: &FeedEvent) -> anyhow::Result<()> {
        self.shown += 1;
        if self.args.json {
            return Ok(());
        }
        let place = event.feed_id.map_or_else(|| event.class.to_string(), |feed| format!("{} {}", event.class, end_of_id(feed.0)));
        let data = event.data.as_ref().map_or_else(String::new, |data| printable_json(data.get()));
        let text = format!("{}  {data}", self.screen.ink(Ink::Bold, &printable(&event.event_type)));
        self.line_of(&event.created_at, &place, text.trim_end())
    }

    fn recalled(&mut self, notice: &Recalled) -> anyhow::Result<()> {
        if self.args.json {
            return Ok(());
        }
        let who = notice.sender_id.as_ref().map_or_else(|| "you".to_owned(), |sender| printable(sender.as_str()));
        let text = format!("{} recalled message #{}", self.screen.ink(Ink::Bold, &who), notice.seq);
        self.row(&notice.recalled_at, notice.chat_id, &text)
    }

    fn event(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Recalled(notice) => self.recalled(&notice),
            Event::Sent(sent) => self.own(&sent),
            Event::Status(update) => self.status(&update),
            Event::Drained(drained) if drained.class == Class::Chat && self.waited > 0 => self.note("nothing more waits"),
            Event::Gap(Gap { feed_id: Some(feed), count, reason, .. }) => {
                self.note(&format!("{count} events of feed {} will not come: {}", end_of_id(feed.0), printable(&reason)))
            }
            Event::Gap(gap) => self.note(&format!("{} to {} will not come: {}", gap.from_seq, gap.to_seq, printable(&gap.reason))),
            Event::ChatAdded(chat) => {
                chat.title.map(|title| self.names.titles.insert(chat.chat_id, title));
                self.note(&format!("you are now in {}", self.names.title(chat.chat_id)))
            }
            Event::ChatRemoved(chat) => self.note(&format!("you are no longer in {}", self.names.title(chat.chat_id))),
            Event::Error(error) => self.note(&format!("the service says: {} ({})", printable(&error.message), printable(&error.code))),
            Event::Malformed { error, .. } => self.note(&format!("a frame was not understood: {}", printable(&error))),
            _ => Ok(()),
        }
    }

    fn own(&mut self, sent: &Sent) -> anyhow::Result<()> {
        let text = printable(sent.content.as_deref().unwrap_or("(sent elsewhere)"));
        let line = format!("{}  {text}  {}", self.screen.ink(Ink::Bold, "you"), self.screen.tick(Status::Sent));
        self.row(&sent.created_at, sent.chat_id, &line)
    }

    fn status(&mut self, update: &StatusUpdate) -> anyhow::Result<()> {
        let up_to = update.seq.map_or_else(String::new, |ChatSeq(seq)| format!(" up to #{seq}"));
        let line = match (update.status, &update.user_id) {
            (Some(status), Some(user)) => format!("{} {}{up_to}", self.screen.tick(status), printable(user.as_str())),
            (_, None) | (None, _) => {
                let (delivered, read) = (update.delivered_count.unwrap_or_default(), update.read_count.unwrap_or_default());
                format!("✓✓ delivered to {delivered}, read by {read}{up_to}")
            }
        };
        self.row("        ", update.chat_id, &line)
    }

    fn row(&mut self, timestamp: &str, chat: ChatId, text: &str) -> anyhow::Result<()> {
        self.line_of(timestamp, &self.names.title(chat), text)
    }

    fn line_of(&mut self, timestamp: &str, place: &str, text: &str) -> anyhow::Result<()> {
        let head = format!("{}  {place:<12}", printable(time_of_day(timestamp)));
        let line = format!("{}  {text}", self.screen.ink(Ink::Faint, &head));
        Ok(self.screen.line(&line)?)
    }

    fn connected(&mut self, ready: &Ready) {
        let back = if self.was_ready { "connected again" } else { "connected" };
        self.was_ready = true;
        self.waited = ready.pending;
        let more = if ready.pending_more { "more than " } else { "" };
        say(&format!("{back} as {}: {more}{} waiting", printable(ready.user_id.as_str()), ready.pending));
    }

    /// Before the first greeting a lost connection is an answer for the person; later it is a mishap that passes.
    fn lost(&self, why: WireError, wait: Duration) -> anyhow::Result<()> {
        if !self.was_ready {
            return Err(why.into());
        }
        say(&format!("{}; coming back in {:.1} s", words(&why), wait.as_secs_f64()));
        Ok(())
    }

    fn note(&mut self, text: &str) -> anyhow::Result<()> {
        let line = self.screen.ink(Ink::Faint, &format!("          — {text}"));
        Ok(self.screen.line(&line)?)
    }

    async fn confirm_reads(&mut self) -> anyhow::Result<()> {
        let confirmed = async {
            while self.client.reads_open() > 0 {
                self.client.next().await?;
            }
            Ok(())
        };
        timeout(Duration::from_secs(5), confirmed).await.unwrap_or(Ok(()))
    }
}
