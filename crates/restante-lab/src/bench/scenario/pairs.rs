//! Every sender writes to every recipient by name (`to`): into new chats, into existing chats, and into chats that the service has
//! looked up before. Recipients are away, and every message is confirmed.

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::bench::figure::Figure;
use crate::bench::load::{Address, Numbering, Progress, User, connect_all, direct_chats, send_all, tidy, users, waiting};
use crate::bench::sizes::Sizes;
use crate::bench::testbed::Testbed;

/// Senders and recipients. Every sender writes to every recipient.
struct Cross {
    senders: Vec<User>,
    recipients: Vec<User>,
}

/// Measures one after the other, with new users where the chats have to be new to the service.
pub async fn by_name(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let strangers = Cross::make(testbed, sizes, progress).await?;
    let new = strangers.write(testbed, sizes, "chats that are new", None, progress).await?;
    let acquainted = Cross::make(testbed, sizes, progress).await?;
    let chats = acquainted.make_chats(testbed, progress).await?;
    let there = acquainted.write(testbed, sizes, "chats that are there", None, progress).await?;
    let again = acquainted.write(testbed, sizes, "the same from new connections", None, progress).await?;
    let by_id = acquainted.write(testbed, sizes, "the same by the chats' ids", Some(&chats), progress).await?;
    Ok(vec![new, there, again, by_id])
}

impl Cross {
    async fn make(testbed: &Testbed, sizes: &Sizes, progress: &Progress) -> anyhow::Result<Self> {
        progress.begin("making users", 0);
        ensure!(sizes.senders > 0 && sizes.recipients > 0, "without a sender or a recipient there is nothing to measure");
        let senders = users(&testbed.database, "sender", sizes.senders).await?;
        let recipients = users(&testbed.database, "recipient", sizes.recipients).await?;
        tidy(&testbed.database).await?;
        Ok(Self { senders, recipients })
    }

    /// Makes a chat for each sender and recipient: first those of the first sender.
    async fn make_chats(&self, testbed: &Testbed, progress: &Progress) -> anyhow::Result<Vec<Uuid>> {
        progress.begin("making chats", 0);
        let pairs: Vec<_> = self.senders.iter().flat_map(|from| self.recipients.iter().map(|to| (from.id, to.id))).collect();
        let chats = direct_chats(&testbed.database, &pairs).await?;
        tidy(&testbed.database).await?;
        Ok(chats)
    }

    /// Each sender writes to one recipient after the other, and begins again with the first one.
    async fn write(
        &self,
        testbed: &Testbed,
        sizes: &Sizes,
        name: &str,
        chats: Option<&[Uuid]>,
        progress: &Progress,
    ) -> anyhow::Result<Figure> {
        let total = (self.senders.len() * self.recipients.len()) as u64 * u64::from(sizes.pair_messages);
        let waited = waiting(&testbed.database, &self.recipients).await?;
        let sockets = connect_all(testbed, &self.senders, progress).await?;
        progress.begin(name, total);
        let (numbering, content): (_, Arc<str>) = (Numbering::new(), sizes.content().into());
        let (began, spent) = (Instant::now(), testbed.meter.read());
        let mut tasks = JoinSet::new();
        for (place, socket) in sockets.into_iter().enumerate() {
            let addresses = self.addresses(place, chats);
            let count = addresses.len() * sizes.pair_messages as usize;
            let first = (place as u64) << 24;
            let letters = (first..).map(move |number| numbering.id(number)).zip(addresses.into_iter().cycle()).take(count);
            tasks.spawn(send_all(socket, letters, Arc::clone(&content), sizes.unconfirmed as usize, progress.clone()));
        }
        let mut stored = 0;
        while let Some(sent) = tasks.join_next().await {
            stored += sent??;
        }
        let figure = Figure::rate(name, stored, began.elapsed().as_secs_f64(), testbed.meter.since(spent));
        ensure!(stored == total, "{stored} of {total} messages were confirmed");
        ensure!(waiting(&testbed.database, &self.recipients).await? == waited + stored, "not every confirmed message waits");
        Ok(figure)
    }

    /// The destinations of this sender.
    fn addresses(&self, sender: usize, chats: Option<&[Uuid]>) -> Vec<Address> {
        let (count, names) = (self.recipients.len(), self.recipients.iter().map(|to| Address::User(to.name.as_str().into())));
        match chats {
            Some(chats) => chats.iter().skip(sender * count).take(count).copied().map(Address::Chat).collect(),
            None => names.collect(),
        }
    }
}
