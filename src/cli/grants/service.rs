//! The rights on tables of the role that serves. They are those of docs/operations.md, which a test compares.

/// Rights, and the tables on which the service's role has these and no others.
pub(super) const RIGHTS: [(&str, &[&str]); 6] = [
    ("select", &["_sqlx_migrations"]),
    ("select, insert", &["audit"]),
    ("select, insert, delete", &["bus_keys"]),
    (
        "select, insert, update",
        &["chat_heads", "chat_members", "chats", "device_cursors", "encryption", "feeds", "inboxes", "jobs", "marks", "users"],
    ),
    (
        "select, insert, update, delete",
        &[
            "blocks",
            "closed_chats",
            "contacts",
            "data_keys",
            "departures",
            "devices",
            "endings",
            "event_exceptions",
            "event_statistics",
            "fan_out_recipients",
            "fan_outs",
            "feed_publishers",
            "followers",
            "inbox_gaps",
            "invitations",
            "last_seen",
            "living_events",
            "marks_behind",
            "message_status",
            "messages",
            "nodes",
            "outgoing",
            "outgoing_events",
            "plain_messages",
            "preferences",
            "presence_leases",
            "recalls",
            "revocations",
            "statistics",
            "statistics_journal",
        ],
    ),
    // Its owner says as whom an application may send; views are for analysts.
    ("", &["analyst_chats", "analyst_deliveries", "analyst_members", "analyst_messages", "analyst_users", "application_senders"]),
];
