//! Devices: removes those that were not seen for 90 days, with their cursors. A page at a time, in the order of users and
//! names, round and round: as nothing needs them gone at once, no pass follows at once.

use std::time::Duration;

use super::{DoneBy, Job, Passed, Rest};
use crate::domain::limits;
use crate::store::{self, DevicePlace, Store};

/// The interval between two passes: ten million devices are looked at within six hours.
const EVERY: Duration = Duration::from_secs(10);
/// Devices that one pass looks at.
const DEVICES_AT_ONCE: i32 = 5_000;
/// The time after which a device goes that is not connected.
const UNSEEN_MAX: Duration = Duration::from_secs(limits::DEVICE_DAYS_MAX * 86_400);

/// The job.
#[derive(Debug)]
pub(super) struct Devices {
    store: Store,
}

impl Devices {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }
}

impl Job for Devices {
    fn name(&self) -> &'static str {
        "devices"
    }

    fn interval(&self) -> Duration {
        EVERY
    }

    fn done_by(&self) -> DoneBy {
        DoneBy::OneNode
    }

    async fn pass(&mut self, cursor: &str) -> store::Result<Passed> {
        let page = self.store.purge_devices(&place(cursor), UNSEEN_MAX, DEVICES_AT_ONCE).await?;
        let is_full = i32::try_from(page.seen).is_ok_and(|seen| seen >= DEVICES_AT_ONCE);
        // A page that is not full was the last one: the next round begins anew.
        let next = page.last.filter(|_| is_full);
        Ok(Passed { rows: page.purged, rest: Rest::Nothing, cursor: Some(next.as_ref().map(text).unwrap_or_default()) })
    }
}

/// The cursor of a place: the number of the user, and the name of the device.
fn text(place: &DevicePlace) -> String {
    format!("{}:{}", place.user, place.device)
}

/// The place of a cursor; the beginning, where it cannot be read.
fn place(cursor: &str) -> DevicePlace {
    let parts = cursor.split_once(':').and_then(|(user, device)| Some((user.parse().ok()?, device.to_owned())));
    parts.map_or_else(DevicePlace::default, |(user, device)| DevicePlace { user, device })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_whatever_the_device_is_called() {
        for device in ["phone", "a:b", ":", "", "7:8"] {
            let there = DevicePlace { user: 7, device: device.to_owned() };
            assert_eq!(place(&text(&there)), there);
        }
        for odd in ["", "x", "x:y", "7"] {
            assert_eq!(place(odd), DevicePlace::default(), "{odd}");
        }
    }
}
