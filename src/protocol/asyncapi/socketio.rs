//! Socket.IO: the events of `/ws` as events with one argument, and callbacks for answers and acks.

use schemars::JsonSchema;
use serde_json::{Value, json};

use super::channel::{Channel, Described, Form, Key};
use crate::protocol::Fault;
use crate::protocol::feed_event::EventData;
use crate::protocol::invitations::{ChatUninvited, InvitationData, InvitationListOk, InvitationOk};
use crate::protocol::message::{EchoData, ReceiveData};
use crate::protocol::people::{BlockListOk, BlockOk, ContactAccepted, ContactListOk, ContactOk, ContactRemoved, ContactRequested};
use crate::protocol::recalled::{RecallOk, Recalled};
use crate::protocol::requests::{
    AckData, ChatRefData, ContactListData, InvitationPageData, MessageRefData, NoData, PeoplePageData, PresenceData, PublishData,
    RejectData, SendData, SocketIoAuthData, SocketIoAuthenticateData, SocketIoCallbackData, SocketIoReadData, TypingData, UserRefData,
};
use crate::protocol::schema::Schemas;
use crate::protocol::server::{
    Authenticated, ChatAdded, ChatRead, ChatRemoved, DeliveredOk, Drained, Draining, Gap, Pong, PresenceState, Published, ReadOk, Ready,
    RejectOk, SentAnswer, SkipOk, StatusCounts, StatusMark, Typing, UserOffline, UserOnline,
};
use crate::protocol::socketio::shapes::{Pending, ReadBy, StatusOfOne, UserPresence, WrappedMessage};

const ABOUT: &str = "Socket.IO (protocol 5 in Engine.IO 4), namespace `/`, over WebSocket and polling. An event has one argument, its data. A callback of the client gets the data of \
the answer, or `{error}`. An event that a client answers by calling its callback is acked, or with `error` rejected.";

/// The channel.
pub(super) fn described(schemas: &mut Schemas) -> Described {
    let auth = schemas.said::<SocketIoAuthData>();
    let mut channel = Channel::new("socketio", Form::Argument, schemas);
    hears(&mut channel);
    let delivered = [
        channel.tells_as::<ReceiveData>("message:receive"),
        channel.tells_as::<WrappedMessage>("message:new"),
        channel.tells_as::<EventData>("event:receive"),
        channel.tells::<Recalled>(),
    ];
    let called_back = channel.schema_said::<SocketIoCallbackData>();
    let called_back = channel.calls_back("callback", "The ack; with `error` a reject.", called_back);
    channel.sends("deliver", "Envelopes: each comes again until it is acked.", &delivered, &[&called_back]);
    let told = [
        channel.tells::<Ready>(),
        channel.tells::<Authenticated>(),
        channel.tells::<Drained>(),
        channel.tells::<Gap>(),
        channel.tells::<SentAnswer>(),
        channel.tells_as::<EchoData>("message:sent"),
        channel.tells::<StatusOfOne>(),
        channel.tells::<StatusMark>(),
        channel.tells::<StatusCounts>(),
        channel.tells::<ReadBy>(),
        channel.tells::<ChatRead>(),
        channel.tells::<Typing>(),
        channel.tells::<UserOnline>(),
        channel.tells::<UserOffline>(),
        channel.tells::<UserPresence>(),
        channel.tells::<ChatAdded>(),
        channel.tells::<ChatRemoved>(),
        channel.tells::<InvitationData>(),
        channel.tells::<ChatUninvited>(),
        channel.tells::<ContactRequested>(),
        channel.tells::<ContactAccepted>(),
        channel.tells::<ContactRemoved>(),
        channel.tells::<Draining>(),
        channel.tells::<Fault>(),
    ];
    channel.sends("tell", "What a client is told without having asked.", &told, &[]);
    channel.finished(json!({"address": "/socket.io/", "title": "Socket.IO", "description": ABOUT, "x-auth": auth}))
}

fn hears(channel: &mut Channel<'_>) {
    let answer = called_with::<Authenticated>(channel, "authenticate");
    channel.hears::<SocketIoAuthenticateData>("authenticate", "Brings the first token, or renews it.", &[&answer]);
    let answer = called_with::<SentAnswer>(channel, "message:send");
    channel.hears::<SendData>("message:send", "Sends a message; answered when it is stored.", &[&answer]);
    let answer = called_with::<Published>(channel, "event:publish");
    channel.hears::<PublishData>("event:publish", "Tells something to users; answered when it is stored.", &[&answer]);
    let answer = called_with::<SkipOk>(channel, "message:skip");
    channel.hears::<MessageRefData>("message:skip", "A message that was refused for now will not be sent again.", &[&answer]);
    let answer = called_with::<RecallOk>(channel, "message:recall");
    channel.hears::<MessageRefData>("message:recall", "Takes a message back, for everybody.", &[&answer]);
    let answer = called_with::<DeliveredOk>(channel, "message:delivered");
    channel.hears::<AckData>("message:delivered", "The ack.", &[&answer]);
    let answer = called_with::<RejectOk>(channel, "message:reject");
    channel.hears::<RejectData>("message:reject", "This client cannot process it.", &[&answer]);
    let answer = called_with::<ReadOk>(channel, "message:read");
    channel.hears::<SocketIoReadData>("message:read", "Everything of a chat up to here is read.", &[&answer]);
    let answer = called_with::<DeliveredOk>(channel, "typing");
    channel.hears::<TypingData>("typing", "Told to members who are connected.", &[&answer]);
    for (event, summary) in [("presence:get", "Who is there."), ("presence:subscribe", "Who is there, and who comes and goes.")] {
        let answer = called_with::<PresenceState>(channel, event);
        channel.hears::<PresenceData>(event, summary, &[&answer]);
    }
    for (event, summary) in [
        ("contact:request", "The caller requests this user as a contact, or accepts its request."),
        ("contact:accept", "The caller accepts the request of this user."),
        ("contact:decline", "The caller declines the request of this user."),
        ("contact:remove", "The caller removes this user, or takes its request back."),
    ] {
        let answer = called_with::<ContactOk>(channel, event);
        channel.hears::<UserRefData>(event, summary, &[&answer]);
    }
    let answer = called_with::<ContactListOk>(channel, "contact:list");
    channel.hears::<ContactListData>("contact:list", "The caller's contacts, or its requests, or those to it.", &[&answer]);
    for (event, summary) in [("block:add", "The caller blocks this user."), ("block:remove", "The caller blocks this user no more.")] {
        let answer = called_with::<BlockOk>(channel, event);
        channel.hears::<UserRefData>(event, summary, &[&answer]);
    }
    let answer = called_with::<BlockListOk>(channel, "block:list");
    channel.hears::<PeoplePageData>("block:list", "Whom the caller has blocked.", &[&answer]);
    for (event, summary) in [
        ("invitation:accept", "The caller is a member of this group from now on."),
        ("invitation:decline", "The caller does not come to this group."),
    ] {
        let answer = called_with::<InvitationOk>(channel, event);
        channel.hears::<ChatRefData>(event, summary, &[&answer]);
    }
    let answer = called_with::<InvitationListOk>(channel, "invitation:list");
    channel.hears::<InvitationPageData>("invitation:list", "The groups to which the caller is invited.", &[&answer]);
    let answer = called_with::<Pong>(channel, "ping");
    channel.hears::<NoData>("ping", "Is the client heard?", &[&answer]);
    let answer = called_with::<Pending>(channel, "user:reconnected");
    channel.hears::<NoData>("user:reconnected", "Does nothing: what waits comes anyway.", &[&answer]);
}

/// The argument that the callback of a command is called with.
fn called_with<T: JsonSchema>(channel: &mut Channel<'_>, event: &str) -> Key {
    let (data, fault): (Value, Value) = (channel.schema_of::<T>(), channel.schema_of::<Fault>());
    let refused = json!({"type": "object", "required": ["error"], "properties": {"error": fault}});
    channel.calls_back(&format!("answer.{}", event.replace(':', ".")), "The argument of the callback.", json!({"anyOf": [data, refused]}))
}
