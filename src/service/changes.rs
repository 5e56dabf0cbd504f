//! The places for changes of members that wait for their turn. They hold no permit of the admission queue, so the user's other requests
//! go on beside them. Of one user only so many wait in the lines of chats, where others wait behind them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Refusal;
use crate::domain::UserId;

/// Changes of one user that may wait for turns at the same time.
const PLACES: usize = 4;
/// Changes of one user that may wait for a place.
const WAITING_MAX: usize = 64;

/// The places of all users. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct ChangePlaces(Arc<Mutex<HashMap<UserId, OfUser>>>);

#[derive(Debug)]
struct OfUser {
    places: Arc<Semaphore>,
    /// Changes that have a place or wait for one.
    entered: usize,
}

/// A place. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct ChangePlace {
    _permit: OwnedSemaphorePermit,
    _entered: Entered,
}

#[derive(Debug)]
struct Entered {
    all: ChangePlaces,
    user: UserId,
}

impl ChangePlaces {
    /// Waits for a place.
    ///
    /// # Errors
    /// [`Refusal::Busy`]: too many changes of this user wait.
    pub(super) async fn enter(&self, user: UserId) -> Result<ChangePlace, Refusal> {
        let (places, entered) = self.try_enter(user).ok_or(Refusal::BUSY)?;
        // The semaphore is never closed.
        let permit = places.acquire_owned().await.map_err(|_| Refusal::Internal)?;
        Ok(ChangePlace { _permit: permit, _entered: entered })
    }

    /// Changes of this user that have a place or wait for one.
    pub(super) fn waiting(&self, user: UserId) -> usize {
        self.lock().get(&user).map_or(0, |of_user| of_user.entered)
    }

    fn try_enter(&self, user: UserId) -> Option<(Arc<Semaphore>, Entered)> {
        let mut users = self.lock();
        let of_user = users.entry(user).or_insert_with(|| OfUser { places: Arc::new(Semaphore::new(PLACES)), entered: 0 });
        if of_user.entered >= PLACES + WAITING_MAX {
            return None;
        }
        of_user.entered += 1;
        Some((Arc::clone(&of_user.places), Entered { all: self.clone(), user }))
    }

    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, OfUser>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut users = self.all.lock();
        if let Some(of_user) = users.get_mut(&self.user) {
            of_user.entered -= 1;
            if of_user.entered == 0 {
                users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;

    const ANNA: UserId = UserId(1);

    #[tokio::test]
    async fn of_one_user_so_many_changes_wait_more_are_refused_and_others_do_not_notice() {
        let places = ChangePlaces::default();
        let held = join_all((0..PLACES).map(|_| places.enter(ANNA))).await;
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(places.enter(ANNA))).collect();
        assert!(waiting.iter_mut().all(|one| one.as_mut().now_or_never().is_none()));
        assert_eq!(places.waiting(ANNA), PLACES + WAITING_MAX);
        assert!(matches!(places.enter(ANNA).now_or_never(), Some(Err(Refusal::Busy(_)))));
        drop(places.enter(UserId(2)).await.unwrap());
        drop(held);
        drop(waiting.remove(0).await.unwrap());
        drop(waiting);
        assert!(pin!(places.enter(ANNA)).now_or_never().is_some());
        assert!(places.lock().is_empty());
    }
}
