//! Preferences: what a user has muted. Types of events concern what is made in the database. Each session of the user remembers the
//! chats, so a change of them is told to every session.

use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use super::{Refusal, Service};
use crate::domain::{MutedChats, Preferences, Profile};
use crate::store::{PreferencesChange, PreferencesOutcome};

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

impl Service {
    /// The things that a user has muted.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn preferences(&self, caller: &Profile) -> Result<Preferences, Refusal> {
        self.ask(&caller.external, "reading preferences", self.store.preferences(caller.user)).await
    }

    /// Sets what a user has muted, and returns what it has muted then. May be repeated.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]: it never was a member of one of the chats, or there is no such chat. [`Refusal::Invalid`],
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn set_preferences(&self, caller: &Profile, change: &PreferencesChange) -> Result<Preferences, Refusal> {
        let rows = change.muted_types.as_ref().map_or(0, Vec::len) + change.muted_chats.as_ref().map_or(0, Vec::len);
        let asked = async {
            let outcome = self.store.put_preferences(caller.user, change).await?;
            if outcome == PreferencesOutcome::Done && change.muted_chats.is_some() {
                // As soon as it is committed, also where the caller hears of it no more.
                self.notifier.preferences_changed(caller.user);
            }
            Ok((outcome, self.store.preferences(caller.user).await?))
        };
        match self.ask_for(&caller.external, rows, "changing preferences", asked).await? {
            (PreferencesOutcome::Done, preferences) => Ok(preferences),
            (PreferencesOutcome::NotFound, _) => Err(Refusal::NotFound),
            (PreferencesOutcome::Invalid, _) => Err(Refusal::Invalid),
        }
    }

    /// The chats that a user has muted. However long the database is away or busy, the session gets its answer.
    pub fn muted_chats(&self, user: Arc<Profile>) -> impl Future<Output = MutedChats> + Send + use<> {
        let (store, admission) = (self.store.clone(), self.bounds.admission.clone());
        async move {
            loop {
                let read = match admission.admit_request(&user.external).await {
                    Ok(_admission) => store.preferences(user.user).await,
                    Err(_) => {
                        // The user asks for too much at once: this waits as what could not be read.
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                };
                match read {
                    Ok(preferences) => return preferences.muted_chats.into_iter().collect(),
                    Err(error) if error.could_not_run() => store.health().back().await,
                    Err(cause) => {
                        debug!(?cause, "what a user has muted could not be read; once more");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }
}
