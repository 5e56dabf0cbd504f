//! The data keys that a node knows, and the one that it seals with. Filled by [`data_keys`](super::data_keys); it asks for nothing itself.
//!
//! A key is used for sealing only when it is older than the time in which every node reads the table anew. So no node meets a key
//! that it could not know. The first key of all is used at once: a node that meets a key which it does not know reads the table.
//!
//! All nodes use the same key, so a node that cannot read that one seals nothing: an older one may be on its way out of the table.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use crate::encryption::{DataKey, EncryptionMode, MasterKeys, WrappedKey};

/// Ids of keys that are remembered as missing. The database's own rows name them, so they are few.
const MISSING_MAX: usize = 1_000;

/// The newest keys, with which nodes may encrypt what they tell one another: the next one, the one in use, and its predecessors.
const BUS_KEYS_MAX: usize = 4;

/// Messages that are remembered as changed. Later ones are counted and not told of.
const CHANGED_MAX: usize = 1_000;

/// The times of data keys.
#[derive(Debug, Clone, Copy)]
pub struct KeyTimes {
    /// The interval at which a node reads the keys.
    pub refresh: Duration,
    /// The age at which a new key is used.
    pub spread: Duration,
    /// The age at which the knowledge of a node is no good for sealing any more.
    pub stale: Duration,
    /// The age at which the newest key gets a successor.
    pub period: Duration,
    /// The time from the making of a key until no node uses an older one: `spread`, `stale`, and the longest statement.
    pub settled: Duration,
}

impl Default for KeyTimes {
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(15),
            spread: Duration::from_secs(60),
            stale: Duration::from_secs(60),
            period: Duration::from_secs(86_400),
            settled: Duration::from_secs(300),
        }
    }
}

/// The id of a data key, and the secret that it gives for letters between nodes.
pub type BusSecret = (String, [u8; 32]);

/// A data key as the table has it.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// The wrapped key.
    pub key: WrappedKey,
    /// The time at which it was made, by the database's clock.
    pub made_at: OffsetDateTime,
    /// Its age by that clock.
    pub age: Duration,
    /// A rotation replaces it in every row.
    pub is_replaced: bool,
    /// Its master key is here.
    pub is_readable: bool,
}

/// A data key that is in use, and that a node cannot read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LackingKey {
    /// The id of the data key.
    pub id: String,
    /// The id of the master key that it is wrapped with.
    pub master_id: String,
}

/// The keys of a node. Clones share them.
#[derive(Debug, Clone)]
pub struct KeyRing(Arc<Ring>);

#[derive(Debug)]
struct Ring {
    mode: EncryptionMode,
    masters: Option<MasterKeys>,
    times: KeyTimes,
    known: Mutex<Known>,
    /// One reading of the table at a time: a caller that has waited for it need not read again.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    keys: HashMap<String, Arc<DataKey>>,
    /// The newest of them, newest first.
    newest: Vec<Arc<DataKey>>,
    sealing: Option<Arc<DataKey>>,
    /// The key in use, where its master key is not here.
    lacking: Option<LackingKey>,
    /// Keys that a rotation replaces in every row.
    replaced: Vec<String>,
    /// The time just before the last reading.
    read_at: Option<Instant>,
    /// Keys that rows name, and that could not be had when the table was last read.
    missing: HashSet<String>,
    /// Messages that could not be opened although their key is known.
    changed: HashSet<Uuid>,
}

impl KeyRing {
    /// A ring that is empty until the table is read.
    pub fn new(mode: EncryptionMode, masters: Option<MasterKeys>, times: KeyTimes) -> Self {
        Self(Arc::new(Ring { mode, masters, times, known: Mutex::default(), reading: tokio::sync::Mutex::default() }))
    }

    /// The ring of a node without encryption.
    pub fn off() -> Self {
        Self::new(EncryptionMode::Off, None, KeyTimes::default())
    }

    /// The mode of this node.
    pub fn mode(&self) -> EncryptionMode {
        self.0.mode
    }

    /// The times of its keys.
    pub fn times(&self) -> KeyTimes {
        self.0.times
    }

    /// Its master keys. None: it has none, and opens nothing.
    pub fn masters(&self) -> Option<&MasterKeys> {
        self.0.masters.as_ref()
    }

    /// The turn to read the table.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.reading.lock().await
    }

    /// Returns whether the table was read at this time or later.
    pub(super) fn is_read_since(&self, asked: Instant) -> bool {
        self.known().read_at.is_some_and(|at| at >= asked)
    }

    /// Takes what the table has, newest first. `read_at` is the time just before it was asked. Returns which of them can be read here.
    pub(super) fn fill(&self, stored: &mut [StoredKey], read_at: Instant) {
        let mut known = self.known();
        let before = std::mem::take(&mut known.keys);
        known.newest.clear();
        known.replaced = stored.iter().filter(|stored| stored.is_replaced).map(|stored| stored.key.id.clone()).collect();
        for stored in &mut *stored {
            let id = &stored.key.id;
            let kept = before.get(id).cloned();
            let unwrapped = || self.masters()?.unwrap(&stored.key).map(|secret| Arc::new(DataKey::new(id.clone(), &secret)));
            let Some(key) = kept.or_else(unwrapped) else { continue };
            stored.is_readable = true;
            if known.newest.len() < BUS_KEYS_MAX {
                known.newest.push(Arc::clone(&key));
            }
            known.keys.insert(id.clone(), key);
        }
        let in_use = stored.iter().find(|stored| stored.age >= self.0.times.spread).or(stored.last()).map(|stored| &stored.key);
        known.sealing = in_use.and_then(|key| known.keys.get(&key.id).cloned());
        let lacking = in_use.filter(|_| known.sealing.is_none());
        known.lacking = lacking.map(|key| LackingKey { id: key.id.clone(), master_id: key.master_id.clone() });
        known.read_at = Some(read_at);
        let Known { keys, missing, .. } = &mut *known;
        missing.retain(|id| !keys.contains_key(id));
    }

    /// The key to seal with. None: the table has to be read first.
    pub(super) fn sealing(&self) -> Option<Arc<DataKey>> {
        let known = self.known();
        known.read_at.filter(|at| at.elapsed() < self.0.times.stale)?;
        known.sealing.clone()
    }

    /// The secret with which this node encrypts what it tells others, if it encrypts, and those of the newest keys that it knows, each with the
    /// id of its key. What it knows may be old: what is told is kept nowhere.
    pub fn bus_secrets(&self) -> (Option<BusSecret>, Vec<BusSecret>) {
        let secret = |key: &Arc<DataKey>| (key.id().to_owned(), key.bus_secret());
        let known = self.known();
        let sealing = known.sealing.as_ref().filter(|_| self.mode() == EncryptionMode::On);
        (sealing.map(secret), known.newest.iter().map(secret).collect())
    }

    /// The key that nodes seal with, where this one encrypts and cannot read it. Then it stores nothing.
    pub fn lacking(&self) -> Option<LackingKey> {
        self.known().lacking.clone().filter(|_| self.mode() == EncryptionMode::On)
    }

    /// Those of these keys that are known, and whether others are not known to be missing: then the table has to be read.
    pub(super) fn find(&self, ids: &HashSet<String>) -> (HashMap<String, Arc<DataKey>>, bool) {
        let known = self.known();
        let found: HashMap<_, _> = ids.iter().filter_map(|id| Some((id.clone(), Arc::clone(known.keys.get(id)?)))).collect();
        let is_full = known.missing.len() >= MISSING_MAX;
        let has_new = ids.iter().any(|id| !found.contains_key(id) && !is_full && !known.missing.contains(id));
        (found, has_new)
    }

    /// Keys that a rotation replaces in every row.
    pub(super) fn replaced(&self) -> Vec<String> {
        self.known().replaced.clone()
    }

    /// Notes a key that cannot be had. True: it was not known to be missing, so somebody is to be told.
    pub(super) fn miss(&self, id: &str) -> bool {
        let mut known = self.known();
        known.missing.len() < MISSING_MAX && known.missing.insert(id.to_owned())
    }

    /// Notes a message that could not be opened although its key is known. True: it was not noted before, so somebody is to be told.
    pub(super) fn note_changed(&self, message: Uuid) -> bool {
        let mut known = self.known();
        known.changed.len() < CHANGED_MAX && known.changed.insert(message)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> KeyRing {
        KeyRing::new(EncryptionMode::On, Some(MasterKeys::parse(&"a1".repeat(32)).unwrap()), KeyTimes::default())
    }

    fn stored(ring: &KeyRing, id: &str, age_s: u64) -> StoredKey {
        let key = ring.masters().unwrap().wrap(id, &[7; 32]);
        StoredKey { key, made_at: OffsetDateTime::UNIX_EPOCH, age: Duration::from_secs(age_s), is_replaced: false, is_readable: false }
    }

    fn sealing(ring: &KeyRing) -> Option<String> {
        ring.sealing().map(|key| key.id().to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_key_is_used_once_every_node_knows_it_and_the_first_one_at_once() {
        let ring = ring();
        assert_eq!(sealing(&ring), None);
        ring.fill(&mut [stored(&ring, "first", 0)], Instant::now());
        assert_eq!(sealing(&ring).as_deref(), Some("first"));
        ring.fill(&mut ["c", "b", "a"].map(|id| stored(&ring, id, 1)), Instant::now());
        assert_eq!(sealing(&ring).as_deref(), Some("a"), "of several that were made at once, the one that was there first");
        ring.fill(&mut [stored(&ring, "new", 59), stored(&ring, "first", 90_000)], Instant::now());
        assert_eq!(sealing(&ring).as_deref(), Some("first"));
        ring.fill(&mut [stored(&ring, "new", 60), stored(&ring, "first", 90_000)], Instant::now());
        assert_eq!(sealing(&ring).as_deref(), Some("new"));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(sealing(&ring), None, "what it knows is too old: another key may be in use by now");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_cannot_read_the_key_in_use_seals_with_no_other() {
        let (ring, theirs) = (ring(), MasterKeys::parse(&"b2".repeat(32)).unwrap());
        let foreign = |id: &str, age_s| StoredKey { key: theirs.wrap(id, &[8; 32]), ..stored(&ring, id, age_s) };
        ring.fill(&mut [foreign("new", 59), stored(&ring, "old", 90_000)], Instant::now());
        assert_eq!((sealing(&ring).as_deref(), ring.lacking()), (Some("old"), None), "nobody uses the new one yet");
        let mut in_use = [stored(&ring, "next", 1), foreign("new", 60), stored(&ring, "old", 90_000)];
        ring.fill(&mut in_use, Instant::now());
        assert_eq!(sealing(&ring), None);
        assert_eq!(ring.lacking(), Some(LackingKey { id: "new".to_owned(), master_id: theirs.current_id().to_owned() }));
        assert_eq!(ring.find(&HashSet::from(["old".to_owned()])).0.len(), 1, "what is stored can be read as before");
        ring.fill(&mut [stored(&ring, "new", 60), stored(&ring, "old", 90_000)], Instant::now());
        assert_eq!((sealing(&ring).as_deref(), ring.lacking()), (Some("new"), None), "it was wrapped anew");
        ring.fill(&mut [foreign("first", 0)], Instant::now());
        assert!(sealing(&ring).is_none() && ring.lacking().is_some(), "also the first of all");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_missing_is_asked_for_once_until_it_is_there() {
        let ring = ring();
        let ids: HashSet<String> = ["here", "gone"].map(str::to_owned).into();
        ring.fill(&mut [stored(&ring, "here", 0)], Instant::now());
        assert!(ring.find(&ids).1);
        assert!(ring.miss("gone") && !ring.miss("gone"), "somebody is told once");
        let (found, has_new) = ring.find(&ids);
        assert_eq!((found.len(), has_new), (1, false));
        ring.fill(&mut [stored(&ring, "gone", 0)], Instant::now());
        assert_eq!(ring.find(&ids).0.keys().collect::<Vec<_>>(), ["gone"], "it was restored, and the other removed");
        assert!(ring.known().missing.is_empty());
    }

    #[test]
    fn a_rotation_replaces_the_keys_that_it_names_and_no_others() {
        let ring = ring();
        let old = StoredKey { is_replaced: true, ..stored(&ring, "old", 90_000) };
        ring.fill(&mut [stored(&ring, "new", 90), old], Instant::now());
        assert_eq!(ring.replaced(), ["old"]);
    }

    #[test]
    fn keys_that_are_missing_are_remembered_up_to_a_bound_and_beyond_it_none_is_asked_for() {
        let ring = ring();
        assert!((0..MISSING_MAX).all(|n| ring.miss(&n.to_string())));
        assert!(!ring.miss("one more"));
        assert!(!ring.find(&["one more".to_owned()].into()).1);
        assert_eq!(ring.known().missing.len(), MISSING_MAX);
    }

    #[test]
    fn of_a_message_that_was_changed_somebody_is_told_once_and_of_no_more_than_are_remembered() {
        let ring = ring();
        let message = Uuid::from_u128(0);
        assert!(ring.note_changed(message) && !ring.note_changed(message));
        let told = (1..2 * CHANGED_MAX as u128).filter(|n| ring.note_changed(Uuid::from_u128(*n))).count();
        assert_eq!((told, ring.known().changed.len()), (CHANGED_MAX - 1, CHANGED_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_has_read_meanwhile_is_not_read_again() {
        let ring = ring();
        let asked = Instant::now();
        assert!(!ring.is_read_since(asked));
        ring.fill(&mut [], asked);
        assert!(ring.is_read_since(asked));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!ring.is_read_since(Instant::now()));
    }
}
