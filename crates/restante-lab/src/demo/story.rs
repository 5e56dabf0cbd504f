//! The story of the demo in plain words. The demo checks everything that it says.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use tokio::time::sleep;

use super::service::OwnService;
use restante::cli::screen::{Ink, Screen};
use restante_client::{AckStyle, Client, Destination, Event, Happening, Http, NewMessage, Options, Ready, Sent, StatusUpdate};
use restante_session::domain::{ChatId, ChatSeq, Class, Status};

/// Messages that Alice sends.
const MESSAGES: usize = 120;
/// Messages in a page.
const PAGE: usize = 50;
/// Bob takes so many before he has to ack: the smaller, the less comes twice after the kill.
const WINDOW: u16 = 25;
/// Bob has acked so many when the service is killed.
const KILLED_AFTER: usize = 75;
/// Time to read a line.
const PAUSE: Duration = Duration::from_millis(900);

/// The story, on the way.
pub struct Story<'a> {
    service: &'a mut OwnService,
    screen: Screen,
    begun: Instant,
    pause: Duration,
}

/// Bob's connection and the messages that he has received.
struct Bob {
    client: Client,
    /// The numbers of the messages that had their effect, in the order in which they had it.
    taken: Vec<ChatSeq>,
    /// Messages that came again and were recognised.
    again: usize,
    has_drained: bool,
}

impl<'a> Story<'a> {
    /// A story about this service, which is not started yet.
    pub fn new(service: &'a mut OwnService, is_quick: bool) -> Self {
        let pause = if is_quick { Duration::ZERO } else { PAUSE };
        Self { service, screen: Screen::new(), begun: Instant::now(), pause }
    }

    /// Tells it. An error is a promise that was not kept, or a service that does not run.
    pub async fn tell(mut self) -> anyhow::Result<()> {
        self.service.start().await?;
        let (url, dir) = (self.service.url()?, self.service.dir().display().to_string());
        self.say(&format!("A service has started on {url}, with a PostgreSQL of its own in {dir}.")).await?;
        let mut alice = self.connect("alice", None).await?.0;
        let sent = self.bob_is_away(&mut alice).await?;
        let mut bob = self.bob_connects().await?;
        self.bob_takes_a_page(&mut bob, &mut alice).await?;
        self.service_is_killed(&mut bob).await?;
        self.bob_takes_the_rest(&mut bob, &mut alice).await?;
        self.bob_reads(&mut bob, &mut alice, sent[0].chat_id).await?;
        self.reckoning(&sent, &bob).await?;
        alice.close().await;
        bob.client.took();
        bob.client.close().await;
        Ok(())
    }

    async fn bob_is_away(&mut self, alice: &mut Client) -> anyhow::Result<Vec<Sent>> {
        self.say(&format!("Bob is away: he has never even been here. Alice sends him {MESSAGES} messages.")).await?;
        let begun = Instant::now();
        for n in 1..=MESSAGES {
            alice.send(&NewMessage::text(Destination::User("bob".into()), format!("Message {n} of {MESSAGES}")));
        }
        let mut sent = Vec::with_capacity(MESSAGES);
        while sent.len() < MESSAGES {
            match alice.next().await? {
                Happening::Stored(stored) => sent.push(*stored),
                Happening::Refused(_, error) => bail!("Alice's message was refused: {} ({})", error.message, error.code),
                _ => {}
            }
        }
        let (tick, ms) = (self.screen.tick(Status::Sent), begun.elapsed().as_millis());
        self.say(&format!("{tick}  All {MESSAGES} are stored, after {ms} ms. Each \"sent\" came after its commit.")).await?;
        Ok(sent)
    }

    async fn bob_connects(&mut self) -> anyhow::Result<Bob> {
        let (client, ready) = self.connect("bob", Some("phone")).await?;
        ensure!(ready.pending == MESSAGES as u64, "{} messages should wait for Bob, but {} do", MESSAGES, ready.pending);
        self.say(&format!(
            "Bob connects with his phone. {} messages wait for him; {} may be under way at once.",
            ready.pending, ready.window
        ))
        .await?;
        Ok(Bob { client, taken: Vec::new(), again: 0, has_drained: false })
    }

    async fn bob_takes_a_page(&mut self, bob: &mut Bob, alice: &mut Client) -> anyhow::Result<()> {
        bob.take_until(PAGE).await?;
        bob.client.settle().await.context("Bob's acks were not confirmed")?;
        self.say(&format!("Page 1: Bob has taken 1 to {PAGE}, and acked them.")).await?;
        self.ticks(alice, Status::Delivered, PAGE).await
    }

    async fn service_is_killed(&mut self, bob: &mut Bob) -> anyhow::Result<()> {
        bob.take_until(KILLED_AFTER).await?;
        bob.client.settle().await.context("Bob's acks were not confirmed")?;
        // Some more than he will be able to ack: these have had their effect, and the service does not know.
        bob.take_until(KILLED_AFTER + 10).await?;
        self.service.kill().await?;
        let words = format!("Page 2: {KILLED_AFTER} are acked, 10 more taken and not yet acked, when the service is killed (kill -9).");
        let words = self.screen.ink(Ink::Red, &words);
        self.say(&words).await?;
        let begun = Instant::now();
        self.service.start().await?;
        let words =
            format!("It is started again, and there after {:.1} s. Both clients come back by themselves.", begun.elapsed().as_secs_f64());
        self.say(&words).await
    }

    async fn bob_takes_the_rest(&mut self, bob: &mut Bob, alice: &mut Client) -> anyhow::Result<()> {
        bob.take_until(2 * PAGE).await?;
        self.say(&format!("Page 2: Bob has everything up to {}.", 2 * PAGE)).await?;
        bob.take_until(MESSAGES).await?;
        while !bob.has_drained {
            bob.step().await?;
        }
        self.say(&format!("Page 3: Bob has everything up to {MESSAGES}, and is told that nothing more waits.")).await?;
        if bob.again > 0 {
            let words =
                format!("         {} messages came a second time, since their acks were lost. He knew them by their ids.", bob.again);
            self.say(&words).await?;
        }
        self.ticks(alice, Status::Delivered, MESSAGES).await
    }

    async fn bob_reads(&mut self, bob: &mut Bob, alice: &mut Client, chat: ChatId) -> anyhow::Result<()> {
        bob.client.read(chat, ChatSeq(MESSAGES as i64));
        while bob.client.reads_open() > 0 {
            bob.step().await?;
        }
        self.say("Bob reads them.").await?;
        self.ticks(alice, Status::Read, MESSAGES).await
    }

    /// Waits until Alice knows that everything up to there is that far.
    async fn ticks(&mut self, alice: &mut Client, status: Status, up_to: usize) -> anyhow::Result<()> {
        let is_told = |update: &StatusUpdate| update.status >= Some(status) && update.seq >= Some(ChatSeq(up_to as i64));
        loop {
            if let Happening::Event(Event::Status(update)) = alice.next().await?
                && is_told(&update)
            {
                break;
            }
        }
        let tick = self.screen.tick(status);
        self.say(&format!("{tick}  Alice sees: Bob, up to {up_to}.")).await
    }

    /// Nothing lost, nothing twice, everything in order, everything read: by Bob's account and by the database's.
    async fn reckoning(&mut self, sent: &[Sent], bob: &Bob) -> anyhow::Result<()> {
        let in_order: Vec<ChatSeq> = (1..=MESSAGES as i64).map(ChatSeq).collect();
        ensure!(bob.taken == in_order, "Bob should have taken 1 to {MESSAGES} once each and in order, but took {:?}", bob.taken);
        let (http, token) = (Http::new(&self.service.url()?)?, self.service.token("alice")?);
        for message in sent {
            let statuses = http.statuses(&token, message.message_id).await?;
            let [bob] = statuses.as_slice() else { bail!("message {} has {} recipients, not 1", message.seq, statuses.len()) };
            ensure!(bob.status == Status::Read, "message {} is {:?} and not read", message.seq, bob.status);
        }
        let words = format!(
            "{MESSAGES} sent, {MESSAGES} read: none lost, none out of order, none twice in effect. ({} came twice on the wire.)",
            bob.again
        );
        let words = self.screen.ink(Ink::Green, &words);
        self.say(&words).await
    }

    async fn connect(&self, user: &str, device: Option<&str>) -> anyhow::Result<(Client, Box<Ready>)> {
        let mut options = Options::new(&self.service.url()?, self.service.token(user)?)?;
        options.device = device.map(str::to_owned);
        options.ack_style = AckStyle::UpTo;
        options.window = Some(WINDOW);
        Ok(Client::connect(options).await?)
    }

    async fn say(&mut self, words: &str) -> anyhow::Result<()> {
        let time = self.screen.ink(Ink::Faint, &format!("{:5.1} s", self.begun.elapsed().as_secs_f64()));
        self.screen.line(&format!("{time}  {words}"))?;
        sleep(self.pause).await;
        Ok(())
    }
}

impl Bob {
    async fn take_until(&mut self, count: usize) -> anyhow::Result<()> {
        while self.taken.len() < count {
            self.step().await?;
        }
        Ok(())
    }

    async fn step(&mut self) -> anyhow::Result<()> {
        match self.client.next().await? {
            Happening::Message(envelope) => self.taken.push(envelope.seq),
            Happening::Again(_) => self.again += 1,
            Happening::Event(Event::Drained(drained)) if drained.class == Class::Chat => self.has_drained = true,
            Happening::Event(Event::Malformed { text, error }) => return Err(anyhow!("Bob got a frame that is none ({error}): {text}")),
            _ => {}
        }
        Ok(())
    }
}
