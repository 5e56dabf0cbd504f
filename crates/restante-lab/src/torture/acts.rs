//! Faults that are acts: an application blocks a user in SQL, an operator revokes tokens and rotates data keys. The judge has to know of the
//! first two and of their times, so they are written down as a client writes down its own.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::time::{sleep, timeout};

use super::faults::Faults;
use super::outcome::FaultOutcome;
use super::rng::Rng;
use super::testbed::Node;
use restante_judge::history::{Event, Revoked};

/// A statement has this long. Where it takes longer it may be done later all the same.
const STATEMENT_MAX: Duration = Duration::from_secs(20);
/// Nodes make a data key that was asked for within seconds, once they have a database.
const KEY_MADE_MAX: Duration = Duration::from_secs(90);
/// A key of this age is sealed with: every node has read it.
const IN_USE_S: i32 = 60;
/// By this time after it is in use no node seals with a former key any more: what it knows of keys is too old, and its statements are done.
const IN_USE_EVERYWHERE: Duration = Duration::from_secs(80);
/// A key of this age and [`IN_USE_S`] replaces the others in every row.
const REPLACES_S: i32 = 240;
/// The time in which a sweep begins that may begin.
const SWEEP_BEGINS_MAX: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

const KEY_IS_MADE: &str = "select exists (select from data_keys k, encryption e where k.made_at >= e.old_before)";
const SWEEP_IS_UNDER_WAY: &str = "select exists (select from jobs where name = 'seal' and cursor <> '')";

impl Faults {
    /// A user blocks its rival as a rule, or blocks it no more.
    pub(super) async fn block(&self, rng: &mut Rng) -> anyhow::Result<FaultOutcome> {
        let place = rng.index(self.users.len());
        let rival = if rng.chance(850) { self.users.get(place ^ 1) } else { rng.one_of(&self.users) };
        let ((user, _), Some((other, _))) = (&self.users[place], rival) else {
            return Ok(FaultOutcome::PassedOver("it has no rival".to_owned()));
        };
        if user == other {
            return Ok(FaultOutcome::PassedOver("nobody blocks itself".to_owned()));
        }
        let (ask, blocks) = (rng.draw(), rng.chance(450));
        self.note(Event::BlockAsked { ask, user: user.clone(), other: other.clone(), blocks });
        timeout(STATEMENT_MAX, self.testbed.database.block(user, other, blocks)).await.context("no answer")??;
        self.note(Event::BlockAnswered { ask, is_done: true, answer: "done".to_owned() });
        Ok(FaultOutcome::Done(format!("{user} blocks {other}: {blocks}")))
    }

    /// The tokens of a user are revoked, or those of one of its devices.
    pub(super) async fn revoke(&self, rng: &mut Rng) -> anyhow::Result<FaultOutcome> {
        let (user, client) = rng.one_of(&self.users).context("there are users")?;
        let device = rng.chance(400).then(|| format!("{client}-phone"));
        let revoked = match &device {
            Some(device) => Revoked::Device(user.clone(), device.clone()),
            None => Revoked::User(user.clone()),
        };
        let ask = rng.draw();
        let words = format!("{revoked:?}");
        self.note(Event::RevokeAsked { ask, revoked });
        let at = timeout(STATEMENT_MAX, self.testbed.database.revoke(user, device.as_deref())).await.context("no answer")??;
        self.note(Event::RevokeAnswered { ask, revoked_at_ms: Some(at), answer: "done".to_owned() });
        Ok(FaultOutcome::Done(words))
    }

    /// A rotation from its beginning until all messages are sealed anew. That takes minutes, most of which nodes only wait for one another:
    /// keys are made older instead, but for the time in which a node may still seal with what it knew. The node is killed during the sweep.
    pub(super) async fn rotate(&self, node: &Node, pause: Duration) -> anyhow::Result<FaultOutcome> {
        let Ok(_only) = self.rotating.try_lock() else {
            return Ok(FaultOutcome::PassedOver("the last one is not done yet".to_owned()));
        };
        let database = &self.testbed.database;
        timeout(STATEMENT_MAX, database.rotate_keys()).await.context("no answer")??;
        self.until(KEY_IS_MADE, KEY_MADE_MAX).await.context("no node has made a key")?;
        timeout(STATEMENT_MAX, database.age_keys(IN_USE_S)).await.context("no answer")??;
        sleep(IN_USE_EVERYWHERE).await;
        timeout(STATEMENT_MAX, database.age_keys(REPLACES_S)).await.context("no answer")??;
        self.until(SWEEP_IS_UNDER_WAY, SWEEP_BEGINS_MAX).await.context("no sweep has begun")?;
        node.kill(pause).await?;
        Ok(FaultOutcome::Done("killed during the sweep".to_owned()))
    }

    /// Asks until the answer is yes. Meanwhile the database may be away.
    async fn until(&self, question: &'static str, time: Duration) -> anyhow::Result<()> {
        let give_up = Instant::now() + time;
        while !matches!(timeout(STATEMENT_MAX, self.testbed.database.is_so(question)).await, Ok(Ok(true))) {
            if Instant::now() > give_up {
                bail!("not within {} s", time.as_secs());
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    fn note(&self, event: Event) {
        self.acts.lock().unwrap_or_else(PoisonError::into_inner).note(0, event);
    }
}
