//! `/ws`: its frames in both directions. What connects is described by the query.

use serde_json::{Value, json};

use super::channel::{Channel, Described, Form, Key};
use crate::protocol::Fault;
use crate::protocol::feed_event::{EventBatchData, EventData};
use crate::protocol::invitations::{ChatUninvited, InvitationData, InvitationListOk, InvitationOk};
use crate::protocol::message::{BatchData, EchoData, ReceiveData};
use crate::protocol::people::{BlockListOk, BlockOk, ContactAccepted, ContactListOk, ContactOk, ContactRemoved, ContactRequested};
use crate::protocol::recalled::{RecallOk, Recalled};
use crate::protocol::requests::{
    AckData, AuthenticateData, ChatRefData, ConnectData, ContactListData, InvitationPageData, MessageRefData, NoData, PeoplePageData,
    PresenceData, PublishData, ReadData, RejectData, SendData, TypingData, UserRefData,
};
use crate::protocol::schema::Schemas;
use crate::protocol::server::{
    Authenticated, ChatAdded, ChatRead, ChatRemoved, DeliveredOk, Drained, Draining, Gap, Pong, PresenceState, Published, ReadOk, Ready,
    RejectOk, SentAnswer, SkipOk, StatusCounts, StatusList, StatusMark, Typing, UserOffline, UserOnline,
};

const ABOUT: &str = "A WebSocket (RFC 6455) with one JSON object a text frame. A frame of a client with an `id` is answered by one with the same `id`. A browser offers the \
subprotocols `restante.v1` and `bearer.<jwt>`. Close codes are in docs/protocol.md.";

/// The channel.
pub(super) fn described(schemas: &mut Schemas) -> Described {
    let query = query(schemas);
    let mut channel = Channel::new("ws", Form::Frame, schemas);
    let answers = Answers::of(&mut channel);
    hears(&mut channel, &answers);
    let mut told = vec![
        channel.tells::<Ready>(),
        channel.tells_as::<ReceiveData>("message:receive"),
        channel.tells_as::<BatchData>("message:batch"),
        channel.tells::<Recalled>(),
        channel.tells_as::<EventData>("event:receive"),
        channel.tells_as::<EventBatchData>("event:batch"),
        channel.tells::<Drained>(),
        channel.tells::<Gap>(),
        channel.tells_as::<EchoData>("message:sent"),
        channel.tells::<StatusList>(),
        channel.tells::<StatusMark>(),
        channel.tells::<StatusCounts>(),
        channel.tells::<ChatRead>(),
        channel.tells::<Typing>(),
        channel.tells::<UserOnline>(),
        channel.tells::<UserOffline>(),
        channel.tells::<ChatAdded>(),
        channel.tells::<ChatRemoved>(),
        channel.tells::<InvitationData>(),
        channel.tells::<ChatUninvited>(),
        channel.tells::<ContactRequested>(),
        channel.tells::<ContactAccepted>(),
        channel.tells::<ContactRemoved>(),
        channel.tells::<Draining>(),
    ];
    told.extend([answers.authenticated, answers.error]);
    channel.sends("tell", "What a client is told without having asked.", &told, &[]);
    channel.finished(json!({
        "address": "/ws",
        "title": "WebSocket",
        "description": ABOUT,
        "bindings": {"ws": {"method": "GET", "query": query, "bindingVersion": "0.1.0"}},
    }))
}

/// The query of the request, all of it optional.
fn query(schemas: &mut Schemas) -> Value {
    let properties = schemas.fields::<ConnectData>().into_iter().map(|(name, field, _)| (name, field)).collect();
    json!({"type": "object", "properties": Value::Object(properties)})
}

/// The messages that answer commands.
struct Answers {
    authenticated: Key,
    sent: Key,
    published: Key,
    skipped: Key,
    recalled: Key,
    delivered: Key,
    rejected: Key,
    read: Key,
    presence: Key,
    contact: Key,
    contacts: Key,
    block: Key,
    blocks: Key,
    invitation: Key,
    invitations: Key,
    pong: Key,
    error: Key,
}

impl Answers {
    fn of(channel: &mut Channel<'_>) -> Self {
        Self {
            authenticated: channel.tells::<Authenticated>(),
            sent: channel.tells::<SentAnswer>(),
            published: channel.tells::<Published>(),
            skipped: channel.tells::<SkipOk>(),
            recalled: channel.tells::<RecallOk>(),
            delivered: channel.tells::<DeliveredOk>(),
            rejected: channel.tells::<RejectOk>(),
            read: channel.tells::<ReadOk>(),
            presence: channel.tells::<PresenceState>(),
            contact: channel.tells::<ContactOk>(),
            contacts: channel.tells::<ContactListOk>(),
            block: channel.tells::<BlockOk>(),
            blocks: channel.tells::<BlockListOk>(),
            invitation: channel.tells::<InvitationOk>(),
            invitations: channel.tells::<InvitationListOk>(),
            pong: channel.tells::<Pong>(),
            error: channel.tells::<Fault>(),
        }
    }
}

fn hears(channel: &mut Channel<'_>, to: &Answers) {
    let error = &to.error;
    channel.hears::<AuthenticateData>("authenticate", "Brings the first token, or renews it.", &[&to.authenticated, error]);
    channel.hears::<SendData>("message:send", "Sends a message; answered when it is stored.", &[&to.sent, error]);
    channel.hears::<PublishData>("event:publish", "Tells something to users; answered when it is stored.", &[&to.published, error]);
    channel.hears::<MessageRefData>("message:skip", "A message that was refused for now will not be sent again.", &[&to.skipped, error]);
    channel.hears::<MessageRefData>("message:recall", "Takes a message back, for everybody.", &[&to.recalled, error]);
    channel.hears::<AckData>("message:delivered", "The ack.", &[&to.delivered, error]);
    channel.hears::<RejectData>("message:reject", "This client cannot process it.", &[&to.rejected, error]);
    channel.hears::<ReadData>("message:read", "Everything of a chat up to here is read.", &[&to.read, error]);
    channel.hears::<TypingData>("typing", "Told to members who are connected, and never answered.", &[]);
    channel.hears::<PresenceData>("presence:get", "Who is there.", &[&to.presence, error]);
    channel.hears::<PresenceData>("presence:subscribe", "Who is there, and who comes and goes.", &[&to.presence, error]);
    channel.hears::<UserRefData>(
        "contact:request",
        "The caller requests this user as a contact, or accepts its request.",
        &[&to.contact, error],
    );
    channel.hears::<UserRefData>("contact:accept", "The caller accepts the request of this user.", &[&to.contact, error]);
    channel.hears::<UserRefData>("contact:decline", "The caller declines the request of this user.", &[&to.contact, error]);
    channel.hears::<UserRefData>("contact:remove", "The caller removes this user, or takes its request back.", &[&to.contact, error]);
    channel.hears::<ContactListData>("contact:list", "The caller's contacts, or its requests, or those to it.", &[&to.contacts, error]);
    channel.hears::<UserRefData>("block:add", "The caller blocks this user.", &[&to.block, error]);
    channel.hears::<UserRefData>("block:remove", "The caller blocks this user no more.", &[&to.block, error]);
    channel.hears::<PeoplePageData>("block:list", "Whom the caller has blocked.", &[&to.blocks, error]);
    channel.hears::<ChatRefData>("invitation:accept", "The caller is a member of this group from now on.", &[&to.invitation, error]);
    channel.hears::<ChatRefData>("invitation:decline", "The caller does not come to this group.", &[&to.invitation, error]);
    channel.hears::<InvitationPageData>("invitation:list", "The groups to which the caller is invited.", &[&to.invitations, error]);
    channel.hears::<NoData>("ping", "Is the client heard?", &[&to.pong, error]);
}
