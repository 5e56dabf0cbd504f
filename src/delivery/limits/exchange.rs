//! The tellings of nodes about the limits of users: a node tells in batches, at most one each 250 ms, and counts what it hears.
//!
//! A node that is alone tells nothing, and of a user nothing that stays a small part of its rate.

use std::hash::Hash;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval};

use super::accounts::AccountMeters;
use super::meter::{Meter, TELL_EVERY, Told};
use super::{Limits, Meters};
use crate::domain::{LimitKind, LimitSubject, Spent};

/// Users of one limit in one telling. The others come with the next.
const USERS_AT_ONCE: usize = 200;

/// Tells the other nodes what was spent here, until it is dropped.
pub(super) async fn tell(limits: Limits) {
    let mut every = interval(TELL_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let spent = untold(&limits);
        if !spent.is_empty() {
            limits.0.notifier.spent(spent);
        }
    }
}

/// Counts what other nodes tell, until it is dropped.
pub(super) async fn hear(limits: Limits) {
    let mut told = limits.0.notifier.spent_elsewhere();
    loop {
        match told.recv().await {
            Ok(spent) => heard(&limits, &spent),
            // Hints that were missed cost what they told of.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Counts what another node tells.
pub(super) fn heard(limits: &Limits, spent: &[Spent]) {
    for spent in spent {
        limits.0.meters.add(spent, limits.conditions(factor(limits, spent.kind, &spent.subject)));
    }
}

fn factor(limits: &Limits, kind: LimitKind, subject: &LimitSubject) -> u32 {
    match subject {
        LimitSubject::User(user) => limits.0.raised.of(*user),
        LimitSubject::Name(user) if kind == LimitKind::Requests => limits.0.raised.of_name(user),
        LimitSubject::Name(_) | LimitSubject::Address(_) | LimitSubject::NameAt(..) => 1,
    }
}

/// Takes what is to be told now.
pub(super) fn untold(limits: &Limits) -> Vec<Spent> {
    let Meters { sends, events, direct_chats, groups, named_users, requests, failed_tokens, handshakes, accounts } = &limits.0.meters;
    let mut spent = Vec::new();
    let of_users = [
        (LimitKind::Messages, sends),
        (LimitKind::Events, events),
        (LimitKind::DirectChats, direct_chats),
        (LimitKind::Groups, groups),
        (LimitKind::NamedUsers, named_users),
    ];
    for (kind, meter) in of_users {
        spent.extend(untold_of(limits, kind, meter.as_ref(), LimitSubject::User));
    }
    spent.extend(untold_of(limits, LimitKind::Requests, requests.as_ref(), LimitSubject::Name));
    spent.extend(untold_of(limits, LimitKind::FailedTokens, failed_tokens.as_ref(), LimitSubject::Address));
    spent.extend(untold_of(limits, LimitKind::Handshakes, handshakes.as_ref(), LimitSubject::Address));
    spent.extend(accounts.iter().flat_map(|accounts| untold_of_accounts(limits, accounts)));
    spent
}

fn untold_of_accounts(limits: &Limits, accounts: &AccountMeters) -> Vec<Spent> {
    let AccountMeters { requests, renewals, registrations, guesses, guesses_from_address } = accounts;
    let of_addresses =
        [(LimitKind::AccountRequests, requests), (LimitKind::LoginRenewals, renewals), (LimitKind::Registrations, registrations)];
    let mut spent = untold_of(limits, LimitKind::Guesses, Some(guesses), LimitSubject::Name);
    let at = |(name, address)| LimitSubject::NameAt(name, address);
    spent.extend(untold_of(limits, LimitKind::GuessesFromAddress, Some(guesses_from_address), at));
    for (kind, meter) in of_addresses {
        spent.extend(untold_of(limits, kind, meter.as_ref(), LimitSubject::Address));
    }
    spent
}

fn untold_of<K: Clone + Eq + Hash>(
    limits: &Limits,
    kind: LimitKind,
    meter: Option<&Meter<K>>,
    subject: impl Fn(K) -> LimitSubject,
) -> Vec<Spent> {
    let conditions = |user: &K| limits.conditions(factor(limits, kind, &subject(user.clone())));
    let told = meter.map(|meter| meter.untold(USERS_AT_ONCE, conditions)).unwrap_or_default();
    told.into_iter().map(|(user, Told { count, unpaid })| Spent { kind, subject: subject(user), count, unpaid }).collect()
}
