//! [`Client`]: a user at a device, for as long as its owner calls [`Client::next`]. It has no task of its own. The owner's call reads,
//! writes, reconnects and repeats. So a slow owner slows only itself, and an ack never leaves before the message has had its effect.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::{Interval, MissedTickBehavior, Sleep};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::acks::{Acks, Seen};
use super::unconfirmed::{Refusal, Unconfirmed};
use super::{
    Answer, Backoff, ConnectError, Envelope, ErrorReport, Event, FeedEvent, Frame, Gone, Happening, NewMessage, Options, Ready, Recalled,
    RequestError, Wire, WireError, encode, is_retryable,
};
use restante_session::domain::limits::WINDOW_DEFAULT;
use restante_session::domain::{ChatId, ChatSeq, Class, InboxSeq, MessageId};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(250);
/// The time in which the service may still accept an attempt that was given up.
const ABANDONED_MAX: Duration = Duration::from_secs(60);
const POSTPONED_DEFAULT: Duration = Duration::from_millis(500);

enum Link {
    Waiting(Pin<Box<Sleep>>),
    Connecting(Pin<Box<dyn Future<Output = Result<Wire, WireError>> + Send>>),
    Up(Box<Wire>),
    Gone(Gone),
}

/// A user at a device. It reconnects, repeats sends, acks, and gives each message to its owner once.
pub struct Client {
    options: Options,
    link: Link,
    is_ready: bool,
    backoff: Backoff,
    tick: Interval,
    heard: (u64, Instant),
    /// When an attempt was last given up before its `ready`.
    abandoned: Option<Instant>,
    ack_burst: usize,
    seen: Seen,
    acks: Acks,
    unconfirmed: Unconfirmed,
    /// The message or event that the owner has. It is acked when the owner calls again, or says that it took it.
    handed_out: Option<(MessageId, Class, InboxSeq)>,
    happenings: VecDeque<Happening>,
    answers: HashMap<String, Option<Answer>>,
    request_no: u64,
}

impl Client {
    /// A client that connects with the first call of [`Self::next`], and tries until it succeeds or the service forbids it.
    pub fn new(options: Options) -> Self {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            link: connecting(&options),
            is_ready: false,
            backoff: Backoff::new(options.backoff_first, options.backoff_longest),
            tick,
            heard: (0, Instant::now()),
            abandoned: None,
            ack_burst: usize::from(WINDOW_DEFAULT / 2),
            seen: Seen::default(),
            acks: Acks::new(options.ack_style),
            unconfirmed: Unconfirmed::default(),
            handed_out: None,
            happenings: VecDeque::new(),
            answers: HashMap::new(),
            request_no: 0,
            options,
        }
    }

    /// A client that is connected after one attempt, for programs that have a waiting user.
    ///
    /// # Errors
    /// The reason why the attempt failed.
    pub async fn connect(options: Options) -> Result<(Self, Box<Ready>), ConnectError> {
        let mut client = Self::new(options);
        loop {
            match client.next().await? {
                Happening::Ready(ready) => return Ok((client, ready)),
                Happening::Lost(_, None) => {} // the reason is told by the next question
                Happening::Lost(why, Some(_)) => return Err(ConnectError::Unreachable(why)),
                _ => {}
            }
        }
    }

    /// The next happening. The call acks the message that the call before returned, see [`Self::took`] for the last one. It may be
    /// dropped and made again without losing anything.
    ///
    /// # Errors
    /// When the client does not reconnect any more. From then on every call fails.
    pub async fn next(&mut self) -> Result<Happening, Gone> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Sends a message, and repeats it until it is stored or refused: [`Happening::Stored`] or [`Happening::Refused`].
    pub fn send(&mut self, message: &NewMessage) {
        let frame_id = message.message_id.to_string();
        self.unconfirmed.send(message.message_id, message.to.clone(), encode("message:send", Some(&frame_id), message));
    }

    /// Reads a chat up to this number, and repeats that until it is confirmed.
    pub fn read(&mut self, chat: ChatId, seq: ChatSeq) {
        self.unconfirmed.read(chat, seq);
    }

    /// The number of sends without an answer.
    pub fn sends_open(&self) -> usize {
        self.unconfirmed.sends_open()
    }

    /// The number of chats whose reading is not confirmed.
    pub fn reads_open(&self) -> usize {
        self.unconfirmed.reads_open()
    }

    /// True while there is a connection that the service has greeted.
    pub const fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Sends a request and waits for its answer. Happenings of the meantime are kept for [`Self::next`]. The request is not repeated.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn request<T: Serialize + ?Sized>(&mut self, event: &str, data: &T) -> Result<Event, RequestError> {
        let timeout = self.options.answer_timeout;
        let work = async {
            poll_fn(|cx| self.poll_until_ready(cx)).await?;
            self.request_no += 1;
            let id = format!("request:{}", self.request_no);
            self.answers.insert(id.clone(), None);
            if let Link::Up(wire) = &mut self.link {
                wire.queue(encode(event, Some(&id), data));
            }
            poll_fn(|cx| self.poll_answer(&id, cx)).await
        };
        let answer = tokio::time::timeout(timeout, work).await;
        answer.unwrap_or(Err(RequestError::TimedOut))
    }

    /// The message that the owner has has had its effect: its ack is due, also if the owner asks for nothing more. May be called
    /// twice.
    pub fn took(&mut self) {
        self.take_handed_out();
    }

    /// Acks the message that the owner has, and waits until every ack of this connection is committed.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn settle(&mut self) -> Result<(), RequestError> {
        self.take_handed_out();
        self.confirm().await
    }

    async fn confirm(&mut self) -> Result<(), RequestError> {
        self.queue_due();
        match self.acks.probe() {
            None => Ok(()),
            Some(probe) => self.request("message:delivered", &probe).await.map(drop),
        }
    }

    /// Waits up to 5 s for the confirmation of the acks, and closes the connection. The message that the owner has is acked only if
    /// the owner has said that it [took](Self::took) it; else it had no effect yet, and comes again.
    pub async fn close(mut self) {
        self.handed_out = None;
        if self.is_ready {
            let _ = tokio::time::timeout(Duration::from_secs(5), self.confirm()).await;
        }
        if let Link::Up(wire) = std::mem::replace(&mut self.link, Link::Gone(Gone::Closed)) {
            let _ = tokio::time::timeout(Duration::from_secs(2), wire.close()).await;
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Happening, Gone>> {
        self.take_handed_out();
        loop {
            if let Some(happening) = self.happenings.pop_front() {
                self.handed_out = match &happening {
                    Happening::Message(envelope) | Happening::Again(envelope) => {
                        Some((envelope.message_id, envelope.class, envelope.inbox_seq))
                    }
                    Happening::FeedEvent(event) | Happening::FeedEventAgain(event) => Some((event.event_id, event.class, event.inbox_seq)),
                    Happening::Recalled(notice) | Happening::RecalledAgain(notice) => {
                        notice.place.map(|place| (place.recall_id, place.class, place.inbox_seq))
                    }
                    _ => None,
                };
                return Poll::Ready(Ok(happening));
            }
            if let Link::Gone(gone) = &self.link {
                return Poll::Ready(Err(gone.clone()));
            }
            ready!(self.poll_link(cx));
        }
    }

    fn poll_until_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        while !self.is_ready {
            if let Link::Gone(gone) = &self.link {
                return Poll::Ready(Err(gone.clone().into()));
            }
            ready!(self.poll_link(cx));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_answer(&mut self, id: &str, cx: &mut Context<'_>) -> Poll<Result<Event, RequestError>> {
        loop {
            match self.answers.remove(id) {
                Some(Some(Answer::Ok(event))) => return Poll::Ready(Ok(event)),
                Some(Some(Answer::Error(error))) => return Poll::Ready(Err(RequestError::Refused(error))),
                Some(None) => drop(self.answers.insert(id.to_owned(), None)),
                None => return Poll::Ready(Err(RequestError::Lost)), // the connection ended and took its questions along
            }
            ready!(self.poll_link(cx));
        }
    }

    /// One step of the link. Ready: something has changed, and the caller has to look again.
    fn poll_link(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.link {
            Link::Gone(_) => {}
            Link::Waiting(sleep) => {
                ready!(sleep.as_mut().poll(cx));
                self.link = connecting(&self.options);
            }
            Link::Connecting(attempt) => match ready!(attempt.as_mut().poll(cx)) {
                Ok(wire) => {
                    self.heard = (wire.sounds(), Instant::now());
                    self.link = Link::Up(Box::new(wire));
                }
                Err(why) => self.lose(why),
            },
            Link::Up(wire) => {
                // A full burst of acks leaves before the client reads more. Before `ready` no ack can leave.
                if !self.is_ready || self.acks.len() < self.ack_burst {
                    match wire.poll_read(cx) {
                        Poll::Ready(Ok(text)) => {
                            self.hear(text);
                            return Poll::Ready(());
                        }
                        Poll::Ready(Err(why)) => {
                            self.lose(why);
                            return Poll::Ready(());
                        }
                        Poll::Pending => {}
                    }
                }
                return self.poll_quiet(cx);
            }
        }
        Poll::Ready(())
    }

    /// The burst is read. Now acks and sends leave, and time-outs are checked.
    fn poll_quiet(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.tick.poll_tick(cx).is_ready() {
            if self.is_dead() {
                self.lose(WireError::Silent);
                return Poll::Ready(());
            }
        }
        let had_acks = self.is_ready && !self.acks.is_empty();
        self.queue_due();
        let Link::Up(wire) = &mut self.link else { return Poll::Ready(()) };
        match wire.poll_flush(cx) {
            Poll::Ready(Err(why)) => {
                self.lose(why);
                Poll::Ready(())
            }
            // The acks may have left before anything was read, so the client has to read.
            _ if had_acks => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    fn is_dead(&mut self) -> bool {
        let (now, Link::Up(wire)) = (Instant::now(), &self.link) else { return false };
        if wire.sounds() != self.heard.0 {
            self.heard = (wire.sounds(), now);
        }
        let silence = now.duration_since(self.heard.1);
        let silence_max = if self.is_ready { self.options.silence_max } else { CONNECT_TIMEOUT };
        silence > silence_max || self.unconfirmed.is_overdue(now, self.options.answer_timeout)
    }

    fn queue_due(&mut self) {
        if !self.is_ready {
            return;
        }
        if let Link::Up(wire) = &mut self.link {
            self.acks.frames().into_iter().for_each(|frame| wire.queue(frame));
            self.unconfirmed.due(Instant::now()).into_iter().for_each(|frame| wire.queue(frame));
        }
    }

    fn take_handed_out(&mut self) {
        if let Some((message, class, number)) = self.handed_out.take() {
            self.acks.took(message, class, number);
            if let (Some((since, _)), Class::Chat) = (&mut self.options.since, class) {
                *since = number.0.max(*since);
            }
        }
    }

    fn lose(&mut self, why: WireError) {
        if let WireError::Refused { retry_after: Some(wait), .. } = &why {
            self.backoff.ask(*wait);
        }
        let gone = self.gone_after(&why);
        if !self.is_ready && gone.is_none() {
            self.abandoned = Some(Instant::now());
        }
        self.is_ready = false;
        self.acks.disconnected();
        self.unconfirmed.disconnected();
        self.answers.clear();
        let wait = gone.is_none().then(|| self.backoff.next_wait());
        self.link = match (gone, wait) {
            (Some(gone), _) => Link::Gone(gone),
            (None, wait) => Link::Waiting(Box::pin(tokio::time::sleep(wait.unwrap_or_default()))),
        };
        self.happenings.push_back(Happening::Lost(why, wait));
    }

    /// A displaced device stays away, because two would displace each other for ever. But the service may have accepted an attempt of
    /// this client late, after the client gave it up; that connection then displaced the one after it. No other client is connected
    /// then, and without a reconnect the device would have no connection. The client reconnects once, so that it cannot go on for ever.
    fn gone_after(&mut self, why: &WireError) -> Option<Gone> {
        match Gone::from_end(why) {
            Some(Gone::Displaced) if self.abandoned.take().is_some_and(|at| at.elapsed() < ABANDONED_MAX) => None,
            gone => gone,
        }
    }

    fn hear(&mut self, text: Utf8Bytes) {
        let Frame { id, event } = Frame::parse(&text);
        if self.options.raw_frames {
            self.happenings.push_back(Happening::Frame(text));
        }
        if let Some(answer) = id.as_ref().and_then(|id| self.answers.get_mut(id)) {
            *answer = Some(match event {
                Event::Error(error) => Answer::Error(error),
                event => Answer::Ok(event),
            });
            return;
        }
        match event {
            Event::Ready(ready) => self.greeted(ready),
            Event::Receive(envelope) => self.received(envelope),
            Event::Batch(envelopes) => envelopes.into_iter().for_each(|envelope| self.received(Box::new(envelope))),
            Event::FeedEvent(event) => self.feed_event(event),
            Event::FeedEvents(events) => events.into_iter().for_each(|event| self.feed_event(Box::new(event))),
            Event::Recalled(notice) => self.recalled(notice),
            Event::Sent(sent) if self.unconfirmed.stored(sent.message_id) => self.happenings.push_back(Happening::Stored(sent)),
            Event::Error(error) => self.refused(id.as_deref(), error),
            event => {
                self.note(&event);
                self.happenings.push_back(Happening::Event(event));
            }
        }
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::ReadOk(read) => self.unconfirmed.settle_read(read.chat_id, read.seq),
            Event::Draining { reconnect_after_ms } => self.backoff.ask(Duration::from_millis(*reconnect_after_ms)),
            Event::Status(update) if update.marks_cursor.is_some() => self.options.marks.clone_from(&update.marks_cursor),
            Event::ChatRead(read) if read.marks_cursor.is_some() => self.options.marks.clone_from(&read.marks_cursor),
            _ => {}
        }
    }

    fn greeted(&mut self, ready: Box<Ready>) {
        self.is_ready = true;
        self.backoff.succeeded();
        self.ack_burst = usize::from(ready.window / 2).clamp(1, 100);
        self.seen.connected(&ready);
        if ready.marks_cursor.is_some() {
            self.options.marks.clone_from(&ready.marks_cursor);
        }
        if !ready.resumed {
            self.options.since = None;
        }
        self.happenings.push_back(Happening::Ready(ready));
    }

    fn received(&mut self, envelope: Box<Envelope>) {
        let is_new = self.seen.is_new(envelope.message_id, envelope.class, envelope.inbox_seq);
        self.happenings.push_back(if is_new { Happening::Message(envelope) } else { Happening::Again(envelope) });
    }

    fn feed_event(&mut self, event: Box<FeedEvent>) {
        let is_new = self.seen.is_new(event.event_id, event.class, event.inbox_seq);
        self.happenings.push_back(if is_new { Happening::FeedEvent(event) } else { Happening::FeedEventAgain(event) });
    }

    fn recalled(&mut self, notice: Box<Recalled>) {
        let is_new = notice.place.map(|place| self.seen.is_new(place.recall_id, place.class, place.inbox_seq));
        self.happenings.push_back(match is_new {
            Some(true) => Happening::Recalled(notice),
            Some(false) => Happening::RecalledAgain(notice),
            None => Happening::Event(Event::Recalled(notice)),
        });
    }

    fn refused(&mut self, id: Option<&str>, error: ErrorReport) {
        let now = Instant::now();
        let until = is_retryable(&error).then(|| now + error.retry_after_ms.map_or(POSTPONED_DEFAULT, Duration::from_millis));
        let send = id.and_then(|id| id.parse().ok()).map(MessageId);
        let happening = match (send, until) {
            (Some(send), Some(until)) if self.unconfirmed.postpone(send, now, refusal(&error, until - now)) => {
                Happening::Postponed(send, error)
            }
            (Some(send), None) if self.unconfirmed.settle(send) => Happening::Refused(send, error),
            _ => {
                match id {
                    Some(id) => self.unconfirmed.read_refused(id, until),
                    // The error is about the connection, which the service closes next.
                    None => error.retry_after_ms.into_iter().for_each(|ms| self.backoff.ask(Duration::from_millis(ms))),
                }
                Happening::Event(Event::Error(error))
            }
        };
        self.happenings.push_back(happening);
    }
}

fn refusal(error: &ErrorReport, retry_after: Duration) -> Refusal {
    Refusal { retry_after, is_behind: error.behind.is_some(), is_of_all: matches!(error.code.as_str(), "unavailable" | "rate_limited") }
}

fn connecting(options: &Options) -> Link {
    let options = options.clone();
    Link::Connecting(Box::pin(async move {
        tokio::time::timeout(CONNECT_TIMEOUT, Wire::connect(&options)).await.unwrap_or(Err(WireError::Silent))
    }))
}
