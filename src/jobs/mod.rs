//! Jobs: chores that run beside everything else, one file each on one skeleton (`job`): every so often one pass of bounded
//! work. A job is done by one node for all, under a lease, or by any number of nodes at once.
//!
//! In reading order: `job` (what a job says of itself), `runner` (what is done with it), then the jobs: `cap`, `data_keys`, `devices`,
//! `erase`, `expire`, `fan_out`, `finish`, `horizon`, `reap`, `recall`, `remove_ended`, `retention` (at the pace of `purge_pace`), `seal`, `statistics`.

mod cap;
mod data_keys;
mod devices;
mod erase;
mod expire;
mod fan_out;
mod finish;
mod horizon;
mod job;
mod purge_pace;
mod reap;
mod recall;
mod remove_ended;
mod retention;
mod runner;
mod seal;
mod statistics;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::delivery::Delivery;
use crate::encryption::EncryptionMode;
use crate::presence::Node;
use cap::Cap;
use data_keys::DataKeys;
use devices::Devices;
pub use erase::Erase;
use expire::Expire;
use fan_out::FanOut;
use finish::Finish;
use horizon::Horizon;
pub use job::{DoneBy, Job, Passed, Rest};
pub use purge_pace::PurgePace;
use reap::Reap;
use recall::Recall;
use remove_ended::{EndedRows, RemoveEnded};
use retention::Retention;
pub use runner::{JobNode, LeaseTimes, Runner};
pub use seal::Seal;
use statistics::Statistics;

/// The settings of jobs.
#[derive(Debug, Clone, Copy)]
pub struct JobSettings {
    /// Days after which what is finished is removed; 0: never.
    pub retention_days: u16,
    /// Events that live in all. Beyond it the oldest end.
    pub events_max: u32,
}

/// Starts every job of a node. Each runs until `stop` is cancelled, and then gives its lease back.
pub fn start(node: &Node, delivery: &Delivery, settings: JobSettings, tasks: &TaskTracker, stop: &CancellationToken) {
    let JobSettings { retention_days, events_max } = settings;
    let on = JobNode::new(node.store.clone(), node.bus.me(), Arc::clone(&node.metrics));
    let cap = Cap::new(node.store.clone(), events_max, Arc::clone(&node.metrics));
    tasks.spawn(Runner::new(cap, on.clone()).run(stop.clone()));
    tasks.spawn(Runner::new(Devices::new(node.store.clone()), on.clone()).run(stop.clone()));
    tasks.spawn(Runner::new(Erase::new(node.clone(), delivery.clone()), on.clone()).run(stop.clone()));
    tasks.spawn(Runner::new(Expire::new(node.store.clone(), delivery.clone()), on.clone()).run(stop.clone()));
    tasks.spawn(Runner::new(FanOut::new(node.clone()), on.clone()).run(stop.clone()));
    tasks.spawn(Runner::new(Finish::new(node.store.clone(), delivery.clone()), on.clone()).run(stop.clone()));
    tasks.spawn(Runner::new(Horizon::new(node.store.clone(), Arc::clone(&node.metrics)), on.clone()).run(stop.clone()));
    tasks.spawn(Runner::new(Recall::new(node.store.clone(), delivery.clone()), on.clone()).run(stop.clone()));
    if retention_days > 0 {
        let retention = Retention::new(node.store.clone(), retention_days, Arc::clone(&node.metrics));
        tasks.spawn(Runner::new(retention, on.clone()).run(stop.clone()));
    }
    for kind in EndedRows::ALL {
        tasks.spawn(Runner::new(RemoveEnded::new(kind, node.store.clone()), on.clone()).run(stop.clone()));
    }
    let mode = node.store.keys().mode();
    if mode != EncryptionMode::Off {
        tasks.spawn(Runner::new(DataKeys::new(node.store.clone()), on.clone()).run(stop.clone()));
    }
    if mode == EncryptionMode::On {
        tasks.spawn(Runner::new(Seal::new(node.store.clone()), on.clone()).run(stop.clone()));
    }
    let statistics = Statistics::new(node.store.clone(), retention_days, Arc::clone(&node.metrics));
    tasks.spawn(Runner::new(statistics, on.clone()).run(stop.clone()));
    tasks.spawn(Runner::new(Reap::new(node.clone()), on).run(stop.clone()));
}
