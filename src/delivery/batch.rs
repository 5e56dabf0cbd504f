//! The batch of one transaction of an accept lane: bounded in items, rows and bytes, an id at most once, and no item
//! of a chat that is deferred.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::value::RawValue;
use time::OffsetDateTime;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Refusal;
use super::item::{Accepted, SendItem};
use super::routes::Routes;
use crate::domain::{ChatId, MessageId};
use crate::store::{AcceptBatch, SealedText, Sealer};

/// Messages in one transaction.
pub(super) const ITEMS_MAX: usize = 500;
/// Rows of recipients in one transaction; a single larger message goes alone.
const ROWS_MAX: usize = 5_000;
/// Items of a chat whose size is not known, in one transaction.
const UNKNOWN_ITEMS_MAX: usize = 4;
/// Bytes of content and metadata in one transaction.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// An item and who waits for its answer.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) item: SendItem,
    pub(super) reply: oneshot::Sender<Result<Accepted, Refusal>>,
    pub(super) since: Instant,
    /// Set when a try of this item ended with its outcome unknown: the database's clock from before that try.
    pub(super) uncertain: Option<OffsetDateTime>,
    /// Its text, sealed for a try that has not stored it.
    pub(super) sealed: Option<SealedText>,
}

impl Queued {
    fn bytes(&self) -> usize {
        self.item.content.len() + self.item.metadata.as_ref().map_or(0, |metadata| metadata.get().len())
    }
}

/// Takes from the front of `waiting` what one transaction may hold. Of two items with one id the second stays behind:
/// it is a duplicate of the first, and can be told so only when that one is committed. Of a chat whose size is not
/// known yet only the first few go: each could have thousands of recipients.
pub(super) fn take(waiting: &mut VecDeque<Queued>, routes: &Routes) -> Vec<Queued> {
    let (mut batch, mut behind) = (Vec::new(), VecDeque::new());
    let (mut rows, mut bytes) = (0, 0);
    let mut ids: HashSet<MessageId> = HashSet::new();
    let mut unknown: HashMap<ChatId, usize> = HashMap::new();
    while let Some(next) = waiting.front() {
        let (recipients, next_bytes) = (routes.recipients(next.item.chat), next.bytes());
        let next_rows = recipients.unwrap_or(1);
        if batch.len() >= ITEMS_MAX || (!batch.is_empty() && (rows + next_rows > ROWS_MAX || bytes + next_bytes > BYTES_MAX)) {
            break;
        }
        let Some(next) = waiting.pop_front() else { break };
        let may_go = recipients.is_some() || {
            let met = unknown.entry(next.item.chat).or_default();
            *met += 1;
            *met <= UNKNOWN_ITEMS_MAX
        };
        if may_go && ids.insert(next.item.id) {
            (rows, bytes) = (rows + next_rows, bytes + next_bytes);
            batch.push(next);
        } else {
            behind.push_back(next);
        }
    }
    while let Some(item) = behind.pop_back() {
        waiting.push_front(item);
    }
    batch
}

/// The columns of a batch, sealed where this node seals. What was sealed for an earlier try is taken out of its item.
pub(super) fn columns(batch: &mut [Queued], sealer: Option<&Sealer>) -> AcceptBatch {
    let mut columns = AcceptBatch::default();
    for Queued { item, sealed, .. } in batch {
        columns.ids.push(item.id.0);
        columns.chats.push(item.chat.0);
        columns.senders.push(item.sender.user.0);
        columns.types.push(item.message_type.clone());
        columns.expires.push(item.expires_at);
        let metadata = item.metadata.as_deref().map(RawValue::get);
        if let Some(sealer) = sealer {
            columns.sealed.push(sealer.seal(item.id, Some(&item.content), metadata, sealed.take()));
        } else {
            columns.contents.push(item.content.clone());
            columns.metadata.push(metadata.map(str::to_owned));
        }
    }
    columns
}

/// Gives each item of a batch back what was sealed for it: it may be tried again.
pub(super) fn keep_sealed(batch: &mut [Queued], columns: AcceptBatch) {
    for (queued, text) in batch.iter_mut().zip(columns.sealed.into_texts()) {
        queued.sealed = Some(text);
    }
}

/// Items for tests.
#[cfg(test)]
pub(super) mod samples {
    use std::sync::Arc;

    use super::*;
    use crate::delivery::Chain;
    use crate::domain::{ExternalId, Profile, UserId};

    /// An item of this chat that nobody waits for.
    pub(in crate::delivery) fn queued(chat: ChatId, id: MessageId) -> Queued {
        let external = ExternalId::try_from("alice".to_owned()).unwrap();
        let sender = Arc::new(Profile { user: UserId(1), external, name: None, picture: None });
        let item = SendItem {
            id,
            sender,
            origin: None,
            chat,
            message_type: "text".to_owned(),
            content: String::new(),
            metadata: None,
            expires_at: None,
            chain: Chain::default(),
        };
        Queued { item, reply: oneshot::channel().0, since: Instant::now(), uncertain: None, sealed: None }
    }
}

#[cfg(test)]
mod tests {
    use super::samples::queued;
    use super::*;

    fn waiting(chat: ChatId, items: usize) -> VecDeque<Queued> {
        (0..items).map(|_| queued(chat, MessageId::generate())).collect()
    }

    #[test]
    fn of_a_chat_of_unknown_size_only_a_few_go_at_once_and_the_rest_stay_in_order() {
        let (routes, chat) = (Routes::new(1), ChatId::generate());
        let mut items = waiting(chat, 10);
        let ids: Vec<MessageId> = items.iter().map(|queued| queued.item.id).collect();
        let first = take(&mut items, &routes);
        assert_eq!(first.len(), UNKNOWN_ITEMS_MAX);
        routes.learn(chat, 1);
        let second = take(&mut items, &routes);
        assert_eq!(first.iter().chain(&second).map(|queued| queued.item.id).collect::<Vec<_>>(), ids);
    }

    #[test]
    fn a_batch_ends_at_its_rows_but_a_single_large_message_goes() {
        let (routes, chat) = (Routes::new(1), ChatId::generate());
        routes.learn(chat, 2_000);
        assert_eq!(take(&mut waiting(chat, 10), &routes).len(), 2);
        routes.learn(chat, 10 * ROWS_MAX);
        assert_eq!(take(&mut waiting(chat, 10), &routes).len(), 1);
    }

    #[test]
    fn a_batch_ends_at_its_items_and_at_its_bytes_but_a_single_large_text_goes() {
        let (routes, chat) = (Routes::new(1), ChatId::generate());
        routes.learn(chat, 1);
        assert_eq!(take(&mut waiting(chat, 2 * ITEMS_MAX), &routes).len(), ITEMS_MAX);
        let taken = |texts: &[(usize, usize)]| {
            let mut items = waiting(chat, texts.len());
            for (queued, (content, metadata)) in items.iter_mut().zip(texts) {
                queued.item.content = "x".repeat(*content);
                queued.item.metadata = Some(RawValue::from_string("7".repeat(*metadata)).unwrap());
            }
            take(&mut items, &routes).len()
        };
        let half = BYTES_MAX / 2;
        assert_eq!(taken(&[(half - 1, 1), (1, half - 1), (0, 1)]), 2);
        assert_eq!(taken(&[(BYTES_MAX, 1), (0, 1)]), 1);
    }

    #[test]
    fn a_text_is_sealed_once_however_often_it_is_tried_and_anew_under_another_key() {
        let mut batch = [queued(ChatId::generate(), MessageId::generate())];
        let mut tried = |sealer: &Sealer| {
            let columns = columns(&mut batch, Some(sealer));
            assert!(columns.contents.is_empty());
            let form = format!("{:?}", columns.sealed);
            keep_sealed(&mut batch, columns);
            form
        };
        let (one, other) = (Sealer::sample("one"), Sealer::sample("other"));
        let first = tried(&one);
        assert_eq!(tried(&one), first);
        assert_ne!(tried(&other), first);
        assert_ne!(tried(&one), first, "the value under the other key took its place");
        assert!(columns(&mut batch, None).sealed.into_texts().next().is_none());
    }

    #[test]
    fn an_id_goes_once_and_its_repetition_stays_behind() {
        let (routes, chat, id) = (Routes::new(1), ChatId::generate(), MessageId::generate());
        let mut items: VecDeque<Queued> = [queued(chat, id), queued(chat, id)].into();
        assert_eq!((take(&mut items, &routes).len(), items.len()), (1, 1));
    }
}
