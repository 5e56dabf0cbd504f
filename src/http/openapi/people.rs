//! The operations of a user on messages, chats and its inbox, and the doors of sockets.

use super::operation::Operation;
use crate::http::api_messages::SentBody;
use crate::http::blocks::PageParams;
use crate::http::bodies::{NewChatData, PreferencesData, PresenceQuery, StreamedEvent, UserData, UsersData};
use crate::http::chats;
use crate::http::contacts::ListParams;
use crate::http::inbox::{self, InboxBody};
use crate::http::invitations::{self, InvitedBody};
use crate::http::members::{AddedBody, RemovedBody};
use crate::http::messages::{HistoryBody, HistoryParams};
use crate::http::preferences::PreferencesBody;
use crate::protocol::Code;
use crate::protocol::invitations::{InvitationListOk, InvitationOk};
use crate::protocol::people::{BlockListOk, BlockOk, ContactListOk, ContactOk};
use crate::protocol::recalled::RecallOk;
use crate::protocol::requests::{AckData, ChatRefData, ConnectData, EngineData, ReadData, ReadUpToData, RejectData, SendData};
use crate::protocol::server::{DeliveredOk, MessageStatuses, PresenceState, ReadOk, RejectOk, SentAnswer};

const SENDING: &[Code] = &[Code::NotAMember, Code::NotAccepted, Code::Forbidden, Code::NotFound, Code::Conflict, Code::TooManyChats];
const CHANGING_MEMBERS: &[Code] =
    &[Code::NotAMember, Code::NotAccepted, Code::Forbidden, Code::Conflict, Code::TooManyMembers, Code::NotFound];

/// The operations.
pub(super) fn operations() -> Vec<Operation> {
    [messages(), of_chats(), of_the_inbox(), between_people(), sockets()].concat()
}

fn messages() -> Vec<Operation> {
    vec![
        Operation::post("/v1/messages", "sendMessage", "Sends a message; answered when it is stored.")
            .for_senders()
            .with_key()
            .takes::<SendData>()
            .answers::<SentAnswer>(200, "It is stored.")
            .refuses(SENDING)
            .leads_to("getMessageStatus", "messageId", "/messageId")
            .leads_to("recallMessage", "messageId", "/messageId")
            .leads_to("getChat", "chatId", "/chatId"),
        Operation::post("/api/messages/send", "sendMessageAtOtherPath", "The same at the path of other services.")
            .for_senders()
            .with_key()
            .takes::<SendData>()
            .answers::<SentBody>(200, "It is stored.")
            .refuses(SENDING),
        Operation::post("/api/messages/read", "readAtOtherPath", "A chat is read up to a message.")
            .takes::<ReadData>()
            .answers::<ReadOk>(200, "It is committed.")
            .refuses(&[Code::NotAMember, Code::NotFound]),
        Operation::new("patch", "/api/messages/read", "readAllAtOtherPath", "Everything in a chat is read.")
            .takes::<ChatRefData>()
            .answers::<ReadOk>(200, "It is committed.")
            .refuses(&[Code::NotAMember]),
        Operation::post("/v1/messages/{messageId}/recall", "recallMessage", "Takes a message back, for everybody.")
            .for_senders()
            .answers::<RecallOk>(200, "Nobody is shown any more what it said.")
            .refuses(&[Code::Forbidden, Code::NotFound, Code::TooLate, Code::TurnedOff]),
        Operation::get("/v1/messages/{messageId}/status", "getMessageStatus", "What became of a message, for its sender and recipients.")
            .for_senders()
            .answers::<MessageStatuses>(200, "A status for each recipient.")
            .refuses(&[Code::NotFound]),
    ]
}

fn of_chats() -> Vec<Operation> {
    vec![
        Operation::get("/v1/chats", "listChats", "The caller's chats, in the order of their ids.")
            .query::<chats::ListParams>()
            .answers::<chats::ListBody>(200, "A page of chats."),
        Operation::post("/v1/chats", "createChat", "Makes a chat.")
            .with_key()
            .takes::<NewChatData>()
            .answers::<chats::ChatBody>(201, "It is made.")
            .answers::<chats::ChatBody>(200, "It was there.")
            .refuses(&[Code::TooManyMembers, Code::TooManyChats, Code::NotAMember, Code::NotAccepted, Code::Conflict])
            .leads_to("getChat", "chatId", "/chatId")
            .leads_to("addMembers", "chatId", "/chatId")
            .leads_to("listMessages", "chatId", "/chatId")
            .leads_to("readChat", "chatId", "/chatId")
            .leads_to("leaveChat", "chatId", "/chatId"),
        Operation::get("/v1/chats/{chatId}", "getChat", "One chat, with its members and their marks.")
            .query::<chats::ShowParams>()
            .answers::<chats::ShowBody>(200, "The chat.")
            .refuses(&[Code::NotAMember]),
        Operation::post("/v1/chats/{chatId}/members", "addMembers", "Adds members, for admins.")
            .takes::<UsersData>()
            .answers::<AddedBody>(200, "They are members.")
            .refuses(CHANGING_MEMBERS),
        Operation::new("delete", "/v1/chats/{chatId}/members", "removeMembers", "Removes members: oneself, or for admins anybody.")
            .takes::<UsersData>()
            .answers::<RemovedBody>(200, "They are no members.")
            .refuses(CHANGING_MEMBERS),
        Operation::post("/v1/chats/{chatId}/leave", "leaveChat", "The caller leaves.")
            .answers::<RemovedBody>(200, "It has left.")
            .refuses(CHANGING_MEMBERS),
        Operation::get("/v1/chats/{chatId}/invitations", "listInvited", "The users who are invited to a group, for its members.")
            .query::<PageParams>()
            .answers::<InvitedBody>(200, "A page of users.")
            .refuses(&[Code::NotAMember]),
        Operation::get("/v1/chats/{chatId}/messages", "listMessages", "The history, ascending; the newest without `before` and `after`.")
            .query::<HistoryParams>()
            .answers::<HistoryBody>(200, "A page of messages.")
            .refuses(&[Code::NotAMember]),
        Operation::post("/v1/chats/{chatId}/read", "readChat", "The chat is read up to here.")
            .takes::<ReadUpToData>()
            .answers::<ReadOk>(200, "It is committed.")
            .refuses(&[Code::NotAMember, Code::NotFound]),
    ]
}

fn of_the_inbox() -> Vec<Operation> {
    vec![
        Operation::get("/v1/inbox", "listInbox", "What waits above a number, oldest first. Looking marks nothing.")
            .query::<inbox::ListParams>()
            .answers::<InboxBody<'_>>(200, "A page of the inbox."),
        Operation::get(
            "/v1/stream",
            "openStream",
            "Server-sent events: the events of /ws, without an end. Acks and rejects go by /v1/inbox.",
        )
        .query::<ConnectData>()
        .answers_events::<StreamedEvent>(200, "The stream. Its schema is that of each event.")
        .answers_nothing(204, "The client was told to stay away, and asks again by itself.")
        .refuses(&[Code::Invalid, Code::Forbidden, Code::Busy]),
        Operation::post("/v1/inbox/ack", "ackInbox", "The ack.")
            .query::<inbox::ClientParams>()
            .takes::<AckData>()
            .answers::<DeliveredOk>(200, "It is committed.")
            .refuses(&[Code::AckAhead]),
        Operation::post("/v1/inbox/reject", "rejectInbox", "The caller cannot process it.")
            .query::<inbox::ClientParams>()
            .takes::<RejectData>()
            .answers::<RejectOk>(200, "An attempt is counted, or it does not wait any more.")
            .refuses(&[Code::NotFound]),
        Operation::get("/v1/preferences", "getPreferences", "What the caller has muted.").answers::<PreferencesBody>(200, "What is muted."),
        Operation::new("put", "/v1/preferences", "putPreferences", "Mutes and unmutes.")
            .takes::<PreferencesData>()
            .answers::<PreferencesBody>(200, "What is muted from now on.")
            .refuses(&[Code::NotFound]),
        Operation::get("/v1/presence", "getPresence", "Who is there.")
            .query::<PresenceQuery>()
            .answers::<PresenceState>(200, "In the order asked for."),
    ]
}

fn between_people() -> Vec<Operation> {
    vec![
        Operation::get("/v1/contacts", "listContacts", "The caller's contacts, or its requests, or those to it.")
            .query::<ListParams>()
            .answers::<ContactListOk>(200, "A page of users."),
        Operation::post("/v1/contacts", "requestContact", "The caller requests this user as a contact, or accepts its request.")
            .takes::<UserData>()
            .answers::<ContactOk>(200, "It is requested, or a contact.")
            .refuses(&[Code::Conflict]),
        Operation::post("/v1/contacts/accept", "acceptContact", "The caller accepts the request of this user.")
            .takes::<UserData>()
            .answers::<ContactOk>(200, "They are contacts.")
            .refuses(&[Code::NotFound, Code::Conflict]),
        Operation::post("/v1/contacts/decline", "declineContact", "The caller declines the request of this user.")
            .takes::<UserData>()
            .answers::<ContactOk>(200, "There is no request any more.")
            .refuses(&[Code::NotFound]),
        Operation::new("delete", "/v1/contacts", "removeContact", "The caller removes this user, or takes its request back.")
            .takes::<UserData>()
            .answers::<ContactOk>(200, "They are no contacts."),
        Operation::get("/v1/blocks", "listBlocks", "Whom the caller has blocked.")
            .query::<PageParams>()
            .answers::<BlockListOk>(200, "A page of users."),
        Operation::post("/v1/blocks", "addBlock", "The caller blocks this user.")
            .takes::<UserData>()
            .answers::<BlockOk>(200, "It is blocked.")
            .refuses(&[Code::Conflict]),
        Operation::new("delete", "/v1/blocks", "removeBlock", "The caller blocks this user no more.")
            .takes::<UserData>()
            .answers::<BlockOk>(200, "It is not blocked."),
        Operation::get("/v1/invitations", "listInvitations", "The groups to which the caller is invited.")
            .query::<invitations::ListParams>()
            .answers::<InvitationListOk>(200, "A page of invitations."),
        Operation::post("/v1/invitations/accept", "acceptInvitation", "The caller is a member of this group from now on.")
            .takes::<ChatRefData>()
            .answers::<InvitationOk>(200, "It is a member.")
            .refuses(&[Code::NotFound, Code::TooManyMembers]),
        Operation::post("/v1/invitations/decline", "declineInvitation", "The caller does not come to this group.")
            .takes::<ChatRefData>()
            .answers::<InvitationOk>(200, "It has declined.")
            .refuses(&[Code::NotFound]),
    ]
}

fn sockets() -> Vec<Operation> {
    let socket = |path, id, summary| {
        Operation::get(path, id, summary).for_everybody().answers_nothing(101, "The socket is open.").refuses(&[
            Code::Invalid,
            Code::NotAuthenticated,
            Code::Forbidden,
            Code::UpgradeRequired,
            Code::Busy,
        ])
    };
    vec![
        socket("/ws", "connect", "Opens a WebSocket, which /asyncapi.json describes.").query::<ConnectData>(),
        socket(
            "/socket.io/",
            "connectSocketIo",
            "Opens or polls a session of Socket.IO, which /asyncapi.json describes. Where the operator wants none there is no such path.",
        )
        .query::<EngineData>()
        .answers_text(200, "Packets.", "text/plain; charset=UTF-8"),
        Operation::post("/socket.io/", "postSocketIo", "Brings packets of a session of Socket.IO that polls.")
            .for_everybody()
            .query::<EngineData>()
            .takes_text()
            .answers_text(200, "They were read.", "text/plain; charset=UTF-8")
            .refuses(&[
                Code::Invalid,
                Code::Forbidden,
                Code::NotFound,
                Code::MethodNotAllowed,
                Code::TooLarge,
                Code::UnsupportedEncoding,
                Code::Busy,
            ]),
    ]
}
