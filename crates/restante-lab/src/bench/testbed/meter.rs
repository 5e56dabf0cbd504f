//! CPU time and memory of processes, read from `/proc` (proc(5)). On systems without it, and for processes of other machines, there
//! are none.

use std::fs;
use std::pin::pin;
use std::time::Duration;

use serde::Serialize;

/// `/proc` counts in hundredths of a second wherever Linux runs (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;
/// The interval in which memory is read to find its peak.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The processes whose CPU time and memory are read.
#[derive(Debug, Clone)]
pub struct Meter {
    /// The nodes' process ids; empty when they are not known.
    services: Vec<u32>,
    postmaster: Option<u32>,
}

/// CPU seconds, user and system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Cost {
    /// CPU time of all nodes together.
    pub service: f64,
    /// CPU time of the postmaster and all of its children.
    pub database: f64,
    /// CPU time of this process, in which the clients run.
    pub clients: f64,
}

impl Meter {
    /// A meter of these processes.
    pub const fn new(services: Vec<u32>, postmaster: Option<u32>) -> Self {
        Self { services, postmaster }
    }

    /// The CPU seconds that the database has used so far. `None` where they cannot be read.
    pub fn database(&self) -> Option<f64> {
        with_children(self.postmaster?)
    }

    /// The CPU seconds that they have used so far. `None` where they cannot be read.
    pub fn read(&self) -> Option<Cost> {
        let service = self.services.iter().map(|pid| Some(ProcessTime::of(*pid)?.own)).sum::<Option<f64>>()?;
        (!self.services.is_empty()).then_some(())?;
        Some(Cost { service, database: with_children(self.postmaster?)?, clients: own()? })
    }

    /// The CPU seconds that they have used since an earlier reading.
    pub fn since(&self, before: Option<Cost>) -> Option<Cost> {
        let (now, before) = (self.read()?, before?);
        Some(Cost {
            service: now.service - before.service,
            database: now.database - before.database,
            clients: now.clients - before.clients,
        })
    }

    /// The memory of the first node that is in RAM, in KiB. `None` where it cannot be read.
    pub fn service_kib(&self) -> Option<u64> {
        resident_kib(&fs::read_to_string(format!("/proc/{}/status", self.services.first()?)).ok()?)
    }

    /// Runs some work. Returns its result, and the peak of the service's memory meanwhile, in KiB.
    pub async fn highest_kib_while<T>(&self, work: impl Future<Output = T>) -> (T, Option<u64>) {
        let (mut work, mut look) = (pin!(work), tokio::time::interval(LOOK_EVERY));
        let mut highest = None;
        loop {
            tokio::select! {
                done = &mut work => return (done, highest.max(self.service_kib())),
                _ = look.tick() => highest = highest.max(self.service_kib()),
            }
        }
    }
}

impl Cost {
    /// The cost of 1,000 messages, of the cost of this many.
    pub fn per_1000(self, messages: u64) -> Self {
        let share = 1000.0 / messages.max(1) as f64;
        Self { service: self.service * share, database: self.database * share, clients: self.clients * share }
    }
}

/// CPU seconds of one process.
struct ProcessTime {
    parent: u32,
    own: f64,
    /// The time of its children that have ended and were waited for.
    ended: f64,
}

impl ProcessTime {
    fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Reads the fields after the name. The name is in parentheses and may have any text, so they are counted from its end.
    fn parse(stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let seconds = |first: usize| {
            let ticks = |place: usize| fields.get(place)?.parse::<f64>().ok();
            Some((ticks(first)? + ticks(first + 1)?) / TICKS_PER_SECOND)
        };
        Some(Self { parent: fields.get(1)?.parse().ok()?, own: seconds(11)?, ended: seconds(13)? })
    }
}

/// `VmRSS:     1234 kB`, where kB are 1,024 bytes.
fn resident_kib(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

fn own() -> Option<f64> {
    ProcessTime::of(std::process::id()).map(|time| time.own)
}

/// A process, its children, and those of them that have ended.
fn with_children(pid: u32) -> Option<f64> {
    let parent = ProcessTime::of(pid)?;
    let children = fs::read_dir("/proc").ok()?.filter_map(|entry| {
        let child = ProcessTime::of(entry.ok()?.file_name().to_str()?.parse().ok()?)?;
        (child.parent == pid).then_some(child.own)
    });
    Some(parent.own + parent.ended + children.sum::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a b) c) S 4 7 7 0 -1 0 0 0 0 0 250 150 30 20 20 0 1 0 5";
        let time = ProcessTime::parse(stat).unwrap();
        assert_eq!((time.parent, time.own, time.ended), (4, 4.0, 0.5));
        assert!(ProcessTime::parse("nothing of the kind").is_none());
    }

    #[test]
    fn resident_memory_is_found() {
        assert_eq!(resident_kib("Name:\tx\nVmHWM:\t 9 kB\nVmRSS:\t   1234 kB\nThreads: 3\n"), Some(1234));
        assert_eq!(resident_kib("Name:\tx\n"), None);
    }

    #[test]
    fn cost_is_told_per_thousand() {
        let cost = Cost { service: 1.0, database: 2.0, clients: 4.0 }.per_1000(10_000);
        assert_eq!(cost, Cost { service: 0.1, database: 0.2, clients: 0.4 });
    }
}
