//! The acts that a caller may ask for, the right that its token must give for each, and its relation to what the act is about.

/// An act of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Act {
    /// Sends a message to a chat, or to whom that is said later.
    Send,
    /// Sends a message to a user.
    SendToUser,
    /// Takes a message back.
    Recall,
    /// Looks what became of a message.
    SeeStatus,
    /// Opens a connection, or carries it on with a new token.
    Connect,
    /// Reads what waits in its own inbox.
    ReadInbox,
    /// Acks. What is none of its own stays as it is.
    Ack,
    /// Rejects a message.
    Reject,
    /// Reads a chat up to a message.
    Read,
    /// Reads everything of a chat.
    ReadEverything,
    /// Reads the history of a chat.
    ReadHistory,
    /// Lists its own chats.
    ListChats,
    /// Looks at a chat, with its members.
    SeeChat,
    /// Makes a chat.
    MakeChat,
    /// Begins a direct chat with a user.
    BeginChat,
    /// Brings a user into a group that it may add members to.
    BringIntoGroup,
    /// Adds members to a group.
    AddMembers,
    /// Removes others from a group.
    RemoveMembers,
    /// Leaves a group.
    LeaveChat,
    /// Tells that it types. To a chat that is not its own it tells nobody.
    Type,
    /// Asks who is there. Of those that it may not see it is told that they are away.
    SeePresence,
    /// Looks at its own preferences.
    SeePreferences,
    /// Mutes and unmutes.
    ChangePreferences,
    /// Lists its own contacts and requests.
    ListContacts,
    /// Requests a user as a contact.
    RequestContact,
    /// Accepts a request.
    AcceptContact,
    /// Declines a request.
    DeclineContact,
    /// Removes a contact, or takes its own request back.
    RemoveContact,
    /// Lists whom it has blocked.
    ListBlocks,
    /// Blocks a user.
    Block,
    /// Blocks a user no more.
    Unblock,
    /// Lists the groups to which it is invited.
    ListInvitations,
    /// Lists who is invited to a group.
    SeeInvited,
    /// Accepts an invitation to a group.
    AcceptInvitation,
    /// Declines an invitation to a group.
    DeclineInvitation,
    /// Changes the password of its account.
    ChangePassword,
    /// Ends all logins of its account.
    EndLogins,
    /// Lists the feeds that it follows or may publish to.
    ListFeeds,
    /// Looks at a feed.
    SeeFeed,
    /// Makes a feed.
    MakeFeed,
    /// Publishes, to whom is said later.
    Publish,
    /// Publishes to a feed. The statement that publishes looks whether the caller is one of its publishers.
    PublishToFeed,
    /// Publishes to users that it lists, or to everyone.
    PublishToUsers,
    /// Looks how far an event has got.
    SeeProgress,
    /// Lists who follows a feed.
    ListFollowers,
    /// Adds publishers to a feed, or removes some.
    ChangePublishers,
    /// Follows a feed, or does not any more.
    Follow,
    /// Makes others follow a feed, or follow it no more.
    ChangeFollowers,
    /// Lists dead letters.
    ListDeadLetters,
    /// Looks at a dead letter, with what it says.
    SeeDeadLetter,
    /// Puts dead letters back.
    Requeue,
    /// Gives dead letters up.
    Discard,
    /// Looks at what operators have done.
    ListAudit,
    /// Lists revocations.
    ListRevocations,
    /// Revokes tokens.
    Revoke,
    /// Looks how far the erasure of a user is.
    SeeErasure,
    /// Erases a user.
    EraseUser,
    /// Lists the users whose limits are raised.
    ListLimits,
    /// Raises the limits of a user.
    SetLimit,
    /// Looks at figures.
    SeeStatistics,
    /// Lists data keys.
    ListDataKeys,
    /// Makes a new data key.
    RotateDataKeys,
}

/// The right that a token must give its bearer for an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// To send messages, recall them, and ask what became of them: every token gives it.
    Send,
    /// Everything else that a user does: a token with the scope `send` does not give it.
    User,
    /// To publish, and to keep feeds: as a user, or with `events:write`.
    Publish,
    /// To look at what operators look at: `admin` or `admin:read`.
    Look,
    /// To do what operators do: `admin`.
    Operate,
}

/// The relation of a caller to what its act is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Relation {
    /// Not looked up. A door lets the act in, and it is judged again by who knows the relation.
    Unknown,
    /// Nothing that counts.
    Stranger,
    /// It was in the chat, and is not any more.
    FormerMember,
    /// It is invited to the group, and has not accepted yet.
    Invited,
    /// It is in the chat.
    Member,
    /// It is in the group, and changes who else is.
    GroupAdmin,
    /// It has sent the message.
    Sender,
    /// It got the message.
    Recipient,
    /// It publishes to the feed, or has published the event.
    Publisher,
    /// It has made the feed.
    Maker,
    /// It follows the feed.
    Follower,
    /// It is a contact of the user.
    Contact,
    /// It has requested the user as a contact.
    Requested,
    /// The user has requested it as a contact.
    Asked,
    /// It has blocked the user.
    Blocks,
    /// The user has blocked it.
    Blocked,
    /// It is the user itself.
    Oneself,
}

impl Act {
    /// The right that it takes.
    pub const fn right(self) -> Right {
        match self {
            Self::Send | Self::SendToUser | Self::Recall | Self::SeeStatus => Right::Send,
            Self::Connect
            | Self::ReadInbox
            | Self::Ack
            | Self::Reject
            | Self::Read
            | Self::ReadEverything
            | Self::ReadHistory
            | Self::ListChats
            | Self::SeeChat
            | Self::MakeChat
            | Self::BeginChat
            | Self::BringIntoGroup
            | Self::AddMembers
            | Self::RemoveMembers
            | Self::LeaveChat
            | Self::Type
            | Self::SeePresence
            | Self::SeePreferences
            | Self::ChangePreferences
            | Self::ListContacts
            | Self::RequestContact
            | Self::AcceptContact
            | Self::DeclineContact
            | Self::RemoveContact
            | Self::ListBlocks
            | Self::Block
            | Self::Unblock
            | Self::ListInvitations
            | Self::SeeInvited
            | Self::AcceptInvitation
            | Self::DeclineInvitation
            | Self::ChangePassword
            | Self::EndLogins
            | Self::ListFeeds
            | Self::SeeFeed => Right::User,
            Self::MakeFeed
            | Self::Publish
            | Self::PublishToFeed
            | Self::PublishToUsers
            | Self::SeeProgress
            | Self::ListFollowers
            | Self::ChangePublishers
            | Self::Follow
            | Self::ChangeFollowers => Right::Publish,
            Self::ListDeadLetters
            | Self::SeeDeadLetter
            | Self::ListAudit
            | Self::ListRevocations
            | Self::SeeErasure
            | Self::ListLimits
            | Self::ListDataKeys
            | Self::SeeStatistics => Right::Look,
            Self::Requeue | Self::Discard | Self::Revoke | Self::EraseUser | Self::SetLimit | Self::RotateDataKeys => Right::Operate,
        }
    }

    /// Returns whether the scope `events:write` stands for every relation.
    pub(super) const fn is_open_to_publishers(self) -> bool {
        matches!(self.right(), Right::Publish)
    }
}
