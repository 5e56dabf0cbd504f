//! Taking ahead: a session whose buffer is full reads no page, and so makes no rows of what is new in feeds. But a newer event of a collapse
//! key ends an older one that the session holds, and frees its place in the window. So the rows are made without a page.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::warn;

use super::{Purpose, Service};
use crate::domain::{Class, Profile, UserId, limits};
use crate::store;

/// The inboxes for which rows are being made. An entry is there as long as a task makes them; true: it has to look once more. Clones
/// share it.
#[derive(Debug, Clone, Default)]
pub(super) struct TakesAhead(Arc<Mutex<HashMap<(UserId, Class), bool>>>);

impl Service {
    /// Makes rows of what is new in the feeds that this user follows, as many as may wait, and tells the user's sessions where that has ended
    /// older ones. Returns at once. Whatever comes while it is done for an inbox is done by the same task.
    pub fn take_ahead(&self, user: &Arc<Profile>, class: Class) {
        let inbox = (user.user, class);
        if self.takes_ahead.begin(inbox) {
            let (service, user) = (self.clone(), Arc::clone(user));
            self.tasks.spawn(async move {
                loop {
                    service.take_now(&user, class).await;
                    if !service.takes_ahead.looks_again(inbox) {
                        return;
                    }
                }
            });
        }
    }

    async fn take_now(&self, user: &Profile, class: Class) {
        let taken = {
            let _admission = self.bounds.admission.admit(Purpose::Events, Some(user.external.clone())).await;
            let waiting_max = u16::try_from(limits::EVENTS_PER_USER_MAX).unwrap_or(u16::MAX);
            self.store.take_up_to(user.user, class, waiting_max).await
        };
        match taken {
            Ok(taken) if taken.superseded => self.notifier.rows_ended(user.user),
            Ok(_) => {}
            // The next page, or the fallback poll, does it.
            Err(error) if error.could_not_run() || matches!(error, store::Error::Held(_)) => {}
            Err(error) => warn!(cause = ?error, "what is new in feeds could not be taken ahead"),
        }
    }
}

impl TakesAhead {
    /// True: no task does it for this inbox, and the caller starts one. False: the task that does it looks once more.
    fn begin(&self, inbox: (UserId, Class)) -> bool {
        match self.lock().entry(inbox) {
            Entry::Vacant(place) => {
                place.insert(false);
                true
            }
            Entry::Occupied(mut again) => {
                again.insert(true);
                false
            }
        }
    }

    /// True: something came meanwhile. False: the turn is over.
    fn looks_again(&self, inbox: (UserId, Class)) -> bool {
        let mut inboxes = self.lock();
        match inboxes.get_mut(&inbox) {
            Some(again @ true) => {
                *again = false;
                true
            }
            Some(false) | None => {
                inboxes.remove(&inbox);
                false
            }
        }
    }

    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, HashMap<(UserId, Class), bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
