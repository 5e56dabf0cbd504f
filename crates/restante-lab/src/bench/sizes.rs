//! The sizes of a run: the command line's numbers, or the defaults of a full or a quick run.

use std::str::FromStr;
use std::time::Duration;

use super::testbed::Subject;
use restante::cli::identity::duration;

/// The naive service gets one user for this many users of the service.
pub const NAIVE_PART: u32 = 5;

macro_rules! sizes {
    ($($field:ident: $type:ty = $full:literal, quick $quick:literal, $value:literal, $help:literal;)*) => {
        /// The sizes as the command line gives them.
        #[derive(Debug, Clone, Default, clap::Args)]
        pub struct SizesGiven {
            $(
                #[arg(long, value_name = $value, help = concat!($help, " [default: ", $full, "]"))]
                $field: Option<$type>,
            )*
        }

        /// The sizes that count.
        #[derive(Debug, Clone)]
        pub struct Sizes {
            $(#[doc = $help] pub $field: $type,)*
            /// The time for which a rate is measured.
            pub time: Duration,
            /// feed: also publish to all followers as listed users.
            pub eager: bool,
        }

        impl SizesGiven {
            fn sizes(&self, is_quick: bool, time: Duration, eager: bool) -> Sizes {
                Sizes { $($field: self.$field.clone().unwrap_or_else(|| default(if is_quick { $quick } else { $full })),)* time, eager }
            }
        }
    };
}

sizes! {
    senders: u32 = "50", quick "5", "N", "ingest, drain, backlog, history, storm, pairs, publish: users who send, or publish";
    users: u32 = "1000", quick "20", "N", "ingest, drain, history: users who are away, each in a direct chat with one sender";
    messages: u32 = "100", quick "20", "N", "ingest, drain, history: messages to each of those users";
    unconfirmed: u32 = "64", quick "64", "N", "ingest, drain, history, pairs: messages that a sender has under way without `message:sent`";
    bytes: u32 = "200", quick "200", "BYTES", "length of a message";
    window: u16 = "50", quick "50", "N", "drain, backlog, history: envelopes under way without an ack";
    pairs: u32 = "50", quick "5", "N", "live, storm, promises, events: pairs who are online; promises: as many users come and drain";
    rate: u32 = "1000", quick "200", "N", "live: messages a second of all pairs together";
    unfinished: u32 = "32", quick "8", "N", "live, at the highest rate: messages of a pair that are not told delivered yet";
    backlog: List<u32> = "20000,200000", quick "200,2000", "N,N", "backlog: messages that wait for one user, a run for each number";
    compressed: u32 = "10000", quick "200", "N", "compress: messages that wait for the user";
    text: Text = "", quick "", "FILE", "compress: a file whose lines are the messages, such as the log of a channel; without it each is of --bytes";
    members: List<u32> = "1000,5000", quick "20,101", "N,N", "group: members with the sender, a run for each number";
    group_messages: u32 = "20", quick "3", "N", "group: messages, one after the other";
    connections: u32 = "5000", quick "100", "N", "idle: clients who are connected; storm: clients who come back";
    history: List<u32> = "10000,5000000", quick "1000,20000", "N,N", "history: finished rows in the tables, a run for each number";
    waiting: u32 = "20", quick "5", "N", "storm: messages that wait for each client";
    spread: Time = "5s", quick "500ms", "TIME", "storm: time in which all clients come back";
    storm_rate: u32 = "200", quick "50", "N", "storm, promises, retention, events: messages a second of all pairs meanwhile";
    recipients: u32 = "200", quick "10", "N", "pairs: users who are away; every sender writes to each of them";
    pair_messages: u32 = "5", quick "3", "N", "pairs: messages of each sender to each recipient";
    checks: u32 = "1000", quick "50", "N", "promises: online checks, flood: messages, one after the other";
    held_pairs: List<u32> = "50,5000", quick "5,20", "N,N", "held: pairs who are online, a run for each number";
    held: List<Time> = "1m,5m,15m", quick "1s,2s", "TIME,TIME", "held: how long the transaction has been open when it is measured";
    held_by: HeldBy = "somebody", quick "somebody", "somebody|nobody", "held: nobody = no transaction is open, to tell what the growth of the tables alone costs in the same time";
    months: u32 = "8", quick "5", "N", "retention: months, each of --messages to each of --users";
    followers: List<u32> = "10000,100000", quick "50,500", "N,N", "feed: followers of the feed, a run for each number";
    followers_there: u32 = "1000", quick "20", "N", "feed: followers who are connected";
    feed_events: u32 = "20", quick "3", "N", "feed: events, one after the other";
    published: u32 = "400", quick "5", "N", "publish: events of each publisher, and then messages, one after the other";
    waiting_events: u32 = "100000", quick "400", "N", "events: events that wait for the users of all pairs together, 1,000 at most for each";
    rest: Time = "60s", quick "1s", "TIME", "idle: how long it is watched";
}

/// The lines of a file, as messages; none without a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub Vec<String>);

impl FromStr for Text {
    type Err = String;

    /// Of a line of a log, `[hh:mm] <nick> text`, the text; what no message can be is left out.
    fn from_str(file: &str) -> Result<Self, String> {
        if file.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let bytes = std::fs::read(file).map_err(|error| format!("cannot read {file}: {error}"))?;
        let text = String::from_utf8_lossy(&bytes);
        let said = |line: &str| match line.strip_prefix('[').and_then(|line| line.split_once("> ")) {
            Some((_, said)) => said.trim().to_owned(),
            None => line.trim().to_owned(),
        };
        let lines: Vec<String> = text.lines().filter(|line| !line.starts_with("===")).map(said).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() { Err(format!("{file} has no lines")) } else { Ok(Self(lines)) }
    }
}

/// A list, with commas between its items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

impl<T: FromStr> FromStr for List<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

/// `500ms`, `30s`, `5m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Duration);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        duration(text).map(Self)
    }
}

/// Tells whether the scenario keeps a transaction open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldBy {
    /// It does.
    Somebody,
    /// It does not: the same load without it.
    Nobody,
}

impl FromStr for HeldBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "somebody" => Ok(Self::Somebody),
            "nobody" => Ok(Self::Nobody),
            _ => Err(format!("{text} is neither somebody nor nobody")),
        }
    }
}

fn default<T: FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| unreachable!("the table says {text}, and a test reads all of it"))
}

impl Sizes {
    /// The sizes of a run.
    pub fn of(given: &super::Args) -> Self {
        let time = given.time.unwrap_or(if given.quick { Duration::from_secs(2) } else { Duration::from_secs(10) });
        given.sizes.sizes(given.quick, time, given.eager)
    }

    /// The sizes for this subject. The naive service gets fewer users, so that a run ends in reasonable time. It gets as many senders, and as
    /// many messages to each user, so that connects and pages have the same part in the cost of a message.
    pub fn on(&self, subject: Subject) -> Self {
        match subject {
            Subject::Service => self.clone(),
            Subject::Naive => Self { users: (self.users / NAIVE_PART).max(self.senders).min(self.users), ..self.clone() },
        }
    }

    /// Messages of ingest and drain.
    pub fn total(&self) -> u64 {
        u64::from(self.users) * u64::from(self.messages)
    }

    /// The text of a message.
    pub fn content(&self) -> String {
        "The quick brown fox jumps over the lazy dog. ".chars().cycle().take(self.bytes as usize).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_can_be_read() {
        let given = SizesGiven::default();
        let (full, quick) = (given.sizes(false, Duration::ZERO, false), given.sizes(true, Duration::ZERO, false));
        assert_eq!((full.total(), quick.total()), (100_000, 400));
        assert_eq!(full.backlog, List(vec![20_000, 200_000]));
        assert_eq!(quick.rest, Time(Duration::from_secs(1)));
        assert_eq!(full.content().len(), 200);
    }

    #[test]
    fn somebody_holds_a_snapshot_or_nobody_does() {
        assert_eq!(("somebody".parse(), "nobody".parse()), (Ok(HeldBy::Somebody), Ok(HeldBy::Nobody)));
        assert!("everybody".parse::<HeldBy>().is_err());
    }

    #[test]
    fn a_list_is_read_as_a_whole() {
        assert_eq!("1, 2,3".parse(), Ok(List(vec![1_u32, 2, 3])));
        assert!("1,two".parse::<List<u32>>().is_err());
        assert_eq!("1m,500ms".parse(), Ok(List(vec![Time(Duration::from_secs(60)), Time(Duration::from_millis(500))])));
    }
}
