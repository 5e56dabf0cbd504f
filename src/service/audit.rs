//! The acts of operators, for operators: a list of them. Each act notes itself, in the transaction in which it is done.

use tracing::info;

use super::{Refusal, Service};
use crate::domain::{AuditEntry, ExternalId, Operator};
use crate::store::page_of;

/// A part of the list, from the newest act to the oldest.
#[derive(Debug)]
pub struct AuditPage {
    /// The acts.
    pub entries: Vec<AuditEntry>,
    /// More follow below this number; none: these were the last.
    pub next: Option<i64>,
}

impl Service {
    /// Acts from the newest on, or those with numbers below `below`, at most `limit`.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn audit(&self, admin: &ExternalId, below: Option<i64>, limit: u16) -> Result<AuditPage, Refusal> {
        let entries = self.ask(admin, "listing the audit", self.store.audit_entries(below, limit + 1)).await?;
        let (entries, next) = page_of(entries, limit, |entry| entry.id);
        info!(admin.id = %admin, items = entries.len(), action = "list", "audit");
        Ok(AuditPage { entries, next })
    }

    /// The operator of an act that this node was asked for.
    pub(super) fn operator(&self, admin: &ExternalId) -> Operator {
        Operator { name: admin.clone(), node: self.notifier.node() }
    }
}
