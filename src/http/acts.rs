//! The act that each request asks for, in the words of the table of rights: a row for each method of each route that takes a token.
//!
//! A request without a row is refused, whoever asks: a route that somebody forgets here is closed to everybody, not open.

use axum::extract::MatchedPath;
use axum::http::Method;
use axum::http::request::Parts;
use tracing::error;

use crate::protocol::{Code, Fault};
use crate::service::Act;

/// Method, path as the router has it, act.
type Row = (Method, &'static str, Act);

/// Every route that takes a token.
pub(super) const ROWS: &[Row] = &[
    (Method::GET, "/v1/chats", Act::ListChats),
    (Method::POST, "/v1/chats", Act::MakeChat),
    (Method::GET, "/v1/chats/{chat}", Act::SeeChat),
    (Method::POST, "/v1/chats/{chat}/members", Act::AddMembers),
    (Method::DELETE, "/v1/chats/{chat}/members", Act::RemoveMembers),
    (Method::POST, "/v1/chats/{chat}/leave", Act::LeaveChat),
    (Method::GET, "/v1/chats/{chat}/messages", Act::ReadHistory),
    (Method::POST, "/v1/chats/{chat}/read", Act::Read),
    (Method::POST, "/v1/messages", Act::Send),
    (Method::POST, "/api/messages/send", Act::Send),
    (Method::POST, "/api/messages/read", Act::Read),
    (Method::PATCH, "/api/messages/read", Act::ReadEverything),
    (Method::POST, "/v1/messages/{message}/recall", Act::Recall),
    (Method::GET, "/v1/messages/{message}/status", Act::SeeStatus),
    (Method::POST, "/v1/events", Act::Publish),
    (Method::GET, "/v1/events/{event}", Act::SeeProgress),
    (Method::GET, "/v1/feeds", Act::ListFeeds),
    (Method::POST, "/v1/feeds", Act::MakeFeed),
    (Method::GET, "/v1/feeds/{feed}", Act::SeeFeed),
    (Method::GET, "/v1/feeds/{feed}/followers", Act::ListFollowers),
    (Method::POST, "/v1/feeds/{feed}/publishers", Act::ChangePublishers),
    (Method::DELETE, "/v1/feeds/{feed}/publishers", Act::ChangePublishers),
    (Method::POST, "/v1/feeds/{feed}/follow", Act::Follow),
    (Method::POST, "/v1/feeds/{feed}/unfollow", Act::Follow),
    (Method::GET, "/v1/inbox", Act::ReadInbox),
    (Method::POST, "/v1/inbox/ack", Act::Ack),
    (Method::POST, "/v1/inbox/reject", Act::Reject),
    (Method::GET, "/v1/preferences", Act::SeePreferences),
    (Method::PUT, "/v1/preferences", Act::ChangePreferences),
    (Method::GET, "/v1/contacts", Act::ListContacts),
    (Method::POST, "/v1/contacts", Act::RequestContact),
    (Method::DELETE, "/v1/contacts", Act::RemoveContact),
    (Method::POST, "/v1/contacts/accept", Act::AcceptContact),
    (Method::POST, "/v1/contacts/decline", Act::DeclineContact),
    (Method::GET, "/v1/blocks", Act::ListBlocks),
    (Method::POST, "/v1/blocks", Act::Block),
    (Method::DELETE, "/v1/blocks", Act::Unblock),
    (Method::GET, "/v1/chats/{chat}/invitations", Act::SeeInvited),
    (Method::GET, "/v1/invitations", Act::ListInvitations),
    (Method::POST, "/v1/invitations/accept", Act::AcceptInvitation),
    (Method::POST, "/v1/invitations/decline", Act::DeclineInvitation),
    (Method::POST, "/v1/accounts/password", Act::ChangePassword),
    (Method::POST, "/v1/accounts/logout-everywhere", Act::EndLogins),
    (Method::GET, "/v1/presence", Act::SeePresence),
    (Method::GET, "/v1/admin/statistics", Act::SeeStatistics),
    (Method::GET, "/v1/admin/statistics/events/{event}", Act::SeeStatistics),
    (Method::GET, "/v1/admin/revocations", Act::ListRevocations),
    (Method::POST, "/v1/admin/revocations", Act::Revoke),
    (Method::GET, "/v1/admin/erasures", Act::SeeErasure),
    (Method::POST, "/v1/admin/erasures", Act::EraseUser),
    (Method::GET, "/v1/admin/limits", Act::ListLimits),
    (Method::POST, "/v1/admin/limits", Act::SetLimit),
    (Method::GET, "/v1/admin/dead-letters", Act::ListDeadLetters),
    (Method::GET, "/v1/admin/dead-letters/{message}", Act::SeeDeadLetter),
    (Method::POST, "/v1/admin/dead-letters/requeue", Act::Requeue),
    (Method::POST, "/v1/admin/dead-letters/discard", Act::Discard),
    (Method::GET, "/v1/admin/audit", Act::ListAudit),
    (Method::GET, "/v1/admin/keys", Act::ListDataKeys),
    (Method::POST, "/v1/admin/keys/rotate", Act::RotateDataKeys),
];

/// The act of a request.
///
/// # Errors
/// `internal`: its route has no row. It is logged.
pub(super) fn of(parts: &Parts) -> Result<Act, Fault> {
    let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    // A request of HEAD is answered by the handler of GET.
    let method = if parts.method == Method::HEAD { &Method::GET } else { &parts.method };
    let row = ROWS.iter().find(|(of, route, _)| of == method && *route == path);
    row.map(|(_, _, act)| *act).ok_or_else(|| {
        error!(%method, path, "a route takes a token and has no act: src/http/acts.rs");
        Code::Internal.into()
    })
}
