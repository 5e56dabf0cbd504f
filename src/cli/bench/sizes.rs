//! How large a run is: the command line's numbers, or the defaults of a full or a quick run.

use std::time::Duration;

use super::stand::Subject;

/// The naive service gets one user where the service gets so many.
pub const NAIVE_PART: u32 = 5;

macro_rules! sizes {
    ($($field:ident: $type:ty = $full:expr, quick $quick:expr, $value:literal, $help:literal;)*) => {
        /// As they stand on the command line.
        #[derive(Debug, Clone, Default, clap::Args)]
        pub struct SizesGiven {
            $(
                #[arg(long, value_name = $value, help = concat!($help, " [default: ", stringify!($full), "]"))]
                $field: Option<$type>,
            )*
        }

        /// As they count.
        #[derive(Debug, Clone, serde::Serialize)]
        pub struct Sizes {
            $(#[doc = $help] pub $field: $type,)*
            /// How long the live scenarios measure.
            #[serde(skip)]
            pub time: Duration,
        }

        impl SizesGiven {
            fn sizes(&self, is_quick: bool, time: Duration) -> Sizes {
                Sizes { $($field: self.$field.unwrap_or(if is_quick { $quick } else { $full }),)* time }
            }
        }
    };
}

sizes! {
    senders: u32 = 50, quick 5, "N", "ingest, drain: users who send";
    users: u32 = 1000, quick 20, "N", "ingest, drain: users who are away, each in a direct chat with one sender";
    messages: u32 = 100, quick 20, "N", "ingest, drain: messages to each of those users";
    unconfirmed: u32 = 64, quick 64, "N", "ingest: messages that a sender has under way without `message:sent`";
    bytes: u32 = 200, quick 200, "BYTES", "length of a message";
    window: u16 = 50, quick 50, "N", "drain: envelopes under way without an ack";
    pairs: u32 = 50, quick 5, "N", "live: pairs who are online";
    rate: u32 = 1000, quick 200, "N", "live: messages a second of all pairs together";
    unfinished: u32 = 32, quick 8, "N", "live, at the highest rate: messages of a pair that are not told delivered yet";
}

impl Sizes {
    /// The sizes of a run.
    pub fn of(given: &super::Args) -> Self {
        let time = given.time.unwrap_or(if given.quick { Duration::from_secs(2) } else { Duration::from_secs(10) });
        given.sizes.sizes(given.quick, time)
    }

    /// The sizes for this subject. The naive service gets fewer users, so that a run does not take for ever; as many senders and as
    /// many messages to each user, so that connecting and pages weigh the same in what a message costs.
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
