//! The sessions of this node that began by polling, by their ids. A session is here from its first request to the end of its connection's task.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::session::{Ends, Session};
use crate::protocol::{Code, Fault};

/// Random bytes of an id: who knows it has the session.
const ID_BYTES: usize = 15;

/// The sessions. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Sessions {
    by_id: Arc<Mutex<HashMap<String, Arc<Session>>>>,
    max: usize,
}

/// Takes a session out when its task has ended.
#[derive(Debug)]
pub(super) struct Entry {
    all: Sessions,
    /// The session.
    pub(super) session: Arc<Session>,
}

impl Sessions {
    /// None yet, and this many at most.
    pub(super) fn new(max: usize) -> Self {
        Self { by_id: Arc::default(), max }
    }

    /// A new session.
    ///
    /// # Errors
    /// `unavailable`: there are as many as there may be, or no random bytes.
    pub(super) fn begin(&self) -> Result<(Entry, Ends), Fault> {
        let (session, ends) = Session::new(random_id()?);
        let mut by_id = self.lock();
        if by_id.len() >= self.max {
            return Err(Fault::new(Code::Unavailable, "this node has as many connections as it may").retry_after_ms(5_000));
        }
        by_id.insert(session.sid.clone(), Arc::clone(&session));
        drop(by_id);
        Ok((Entry { all: self.clone(), session }, ends))
    }

    /// The session with this id.
    ///
    /// # Errors
    /// `invalid`: there is none, here.
    pub(super) fn find(&self, sid: &str) -> Result<Arc<Session>, Fault> {
        let found = self.lock().get(sid).cloned();
        found.ok_or_else(|| Fault::invalid("there is no such session at this node: it has ended, or began at another node"))
    }

    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.all.lock().remove(&self.session.sid);
        self.session.over.cancel();
    }
}

/// An id that nobody can guess.
///
/// # Errors
/// `unavailable`: the operating system gave no random bytes.
pub(super) fn random_id() -> Result<String, Fault> {
    let mut bytes = [0; ID_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Fault::plain(Code::Internal))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_bounded_and_go_with_their_tasks() {
        let sessions = Sessions::new(2);
        let (one, _ends) = sessions.begin().unwrap();
        let _other = sessions.begin().unwrap();
        assert_eq!(sessions.begin().unwrap_err().code, Code::Unavailable);
        let (sid, session) = (one.session.sid.clone(), Arc::clone(&one.session));
        assert!(sessions.find(&sid).is_ok());
        drop(one);
        assert!(session.over.is_cancelled());
        assert_eq!(sessions.find(&sid).unwrap_err().code, Code::Invalid);
        assert!(sessions.begin().is_ok());
    }
}
