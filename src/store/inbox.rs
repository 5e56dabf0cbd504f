//! Inboxes: opening a session, and the counters of an inbox without its rows. Its pages are in [`pages`](super::pages).

use time::OffsetDateTime;

use super::{Error, Result, Store, enums};
use crate::domain::{Class, DeviceId, ExternalId, InboxSeq, MessageId, NodeId, PerClass, Profile, UserId, limits};

/// A request to open a connection: the user with its name and picture, the device, the place to resume at.
#[derive(Debug, Clone, Copy)]
pub struct OpeningRequest<'a> {
    /// The user of its token.
    pub external: &'a ExternalId,
    /// The name that the token brings.
    pub name: Option<&'a str>,
    /// The picture that the token brings.
    pub picture: Option<&'a str>,
    /// Its device.
    pub device: Option<&'a DeviceId>,
    /// The node that it is connected to.
    pub node: NodeId,
    /// For each inbox, the number up to which the client has everything. A number that was never given says nothing.
    pub since: PerClass<Option<i64>>,
    /// The number of rows up to which `pending` is counted.
    pub pending_max: u32,
}

/// The place at which a connection starts in one inbox.
#[derive(Debug, Clone, Copy)]
pub struct InboxStart {
    /// Highest number given.
    pub last_seq: InboxSeq,
    /// Nothing waits at or below it.
    pub settled_seq: InboxSeq,
    /// For a device the number up to which it has acked; else `settled_seq`.
    pub acked_seq: InboxSeq,
    /// The number of rows that the connection will be given, counted up to `pending_max`.
    pub pending: u32,
}

/// The state that a connection begins with.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The user.
    pub profile: Profile,
    /// The place at which the connection starts in each inbox.
    pub inboxes: PerClass<InboxStart>,
    /// For a device: the number of this connection.
    pub session_no: Option<i64>,
    /// The user was named by others before, and comes for the first time.
    pub is_first: bool,
    /// The database's clock.
    pub at: OffsetDateTime,
}

/// An inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inbox {
    /// The user.
    pub user: UserId,
    /// The class of the inbox.
    pub class: Class,
}

/// A place in an inbox.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The user.
    pub user: UserId,
    /// The class of the inbox.
    pub class: Class,
    /// The place is behind this number.
    pub after: InboxSeq,
}

/// The end of an inbox, and whether a row waits there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peek {
    /// The highest number given.
    pub last_seq: InboxSeq,
    /// True if a row waits behind the place.
    pub waits: bool,
}

/// Rows that an ack of everything up to a number settles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingRows {
    /// The messages, oldest first. Those that have ended are not among them, even where no job has written it yet: their reader was told a
    /// gap.
    pub messages: Vec<MessageId>,
    /// Where to go on; `None` when there is no more.
    pub next: Option<InboxSeq>,
}

impl Store {
    /// Opens a connection: makes its user on first sight and keeps what its token says of it, advances `settled_seq`,
    /// counts a device's session up. None: the device is new, and the user has as many as allowed, all of them connected.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Invalid`]: PostgreSQL refuses a value. [`Error::Failed`]: a defect.
    pub async fn open(&self, request: OpeningRequest<'_>) -> Result<Option<Opening>> {
        let OpeningRequest { external, name, picture, device, node, since, pending_max } = request;
        let (device, pending_max) = (device.map(DeviceId::as_str), i32::try_from(pending_max).unwrap_or(i32::MAX));
        let since = Class::ALL.map(|class| since[class]);
        let mut rows = sqlx::query_file!(
            "src/store/sql/open.sql",
            external.as_str(),
            name,
            picture,
            device,
            &since as &[Option<i64>],
            pending_max,
            &Class::ALL.map(enums::Class::from) as &[enums::Class],
            node.0,
            i32::try_from(limits::DEVICES_PER_USER_MAX).unwrap_or(i32::MAX)
        )
        .fetch_all(self.database())
        .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let start = |class: Class| {
            let row = rows.iter().find(|row| row.class == class.into()).ok_or(Error::Failed(sqlx::Error::RowNotFound))?;
            Ok::<_, Error>(InboxStart {
                last_seq: InboxSeq(row.last_seq),
                settled_seq: InboxSeq(row.settled_seq),
                acked_seq: InboxSeq(row.acked_seq),
                pending: u32::try_from(row.pending).unwrap_or(u32::MAX),
            })
        };
        let inboxes = PerClass { chat: start(Class::Chat)?, alert: start(Class::Alert)?, event: start(Class::Event)? };
        let row = rows.swap_remove(0);
        let profile = Profile { user: UserId(row.user_id), external: external.clone(), name: row.display_name, picture: row.avatar_url };
        Ok(Some(Opening { profile, inboxes, session_no: row.session_no, is_first: row.is_first, at: row.at }))
    }

    /// Peeks at many inboxes, in one snapshot; in the order of the places. None: there is no such inbox.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn peek(&self, places: &[Place]) -> Result<Vec<Option<Peek>>> {
        let users: Vec<i64> = places.iter().map(|place| place.user.0).collect();
        let classes: Vec<enums::Class> = places.iter().map(|place| place.class.into()).collect();
        let after: Vec<i64> = places.iter().map(|place| place.after.0).collect();
        let rows =
            sqlx::query_file!("src/store/sql/peek.sql", &users, &classes as &[enums::Class], &after).fetch_all(self.database()).await?;
        let mut peeks = vec![None; places.len()];
        for row in rows {
            let place = usize::try_from(row.ord - 1).ok().and_then(|place| peeks.get_mut(place));
            if let Some(peek) = place {
                *peek = Some(Peek { last_seq: InboxSeq(row.last_seq), waits: row.waits });
            }
        }
        Ok(peeks)
    }

    /// Moves each inbox's `settled_seq` up to the first row that waits and returns it, in the order of the inboxes; never
    /// waits for a lock. Those with much behind are left where they are, unless one is alone. None: there is no such inbox.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn advance_settled(&self, inboxes: &[Inbox]) -> Result<Vec<Option<InboxSeq>>> {
        let users: Vec<i64> = inboxes.iter().map(|inbox| inbox.user.0).collect();
        let classes: Vec<enums::Class> = inboxes.iter().map(|inbox| inbox.class.into()).collect();
        let rows =
            sqlx::query_file!("src/store/sql/advance_settled.sql", &users, &classes as &[enums::Class]).fetch_all(self.database()).await?;
        let mut settled = vec![None; inboxes.len()];
        for row in rows {
            let place = usize::try_from(row.ord - 1).ok().and_then(|place| settled.get_mut(place));
            if let Some(settled) = place {
                *settled = row.settled_seq.map(InboxSeq);
            }
        }
        Ok(settled)
    }

    /// The rows that wait in `(after, up_to]`, oldest first, at most `limit`, for an ack of everything up to a number.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn waiting_up_to(&self, user: UserId, class: Class, after: InboxSeq, up_to: InboxSeq, limit: u16) -> Result<WaitingRows> {
        let rows = sqlx::query_file!(
            "src/store/sql/waiting_up_to.sql",
            user.0,
            enums::Class::from(class) as enums::Class,
            after.0,
            up_to.0,
            i64::from(limit)
        )
        .fetch_all(self.database())
        .await?;
        Ok(WaitingRows {
            next: rows.last().filter(|_| rows.len() >= usize::from(limit)).map(|row| InboxSeq(row.seq)),
            messages: rows.into_iter().filter(|row| !row.has_ended).map(|row| MessageId(row.message_id)).collect(),
        })
    }
}
