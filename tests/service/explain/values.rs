//! The values that each statement of the service is called with, by its name. `{user}`, `{name}`, `{chat}`, `{one}` and `{two}` are
//! those of [`Known`], and `{nil}` is a UUID that nothing has.

use std::collections::HashMap;

use super::Known;

const VALUES: &[(&str, &str)] = &[
    (
        "accept",
        "array[gen_random_uuid()], array['{chat}']::uuid[], array[{user}], array['text'], array['x'], array[null], \
         array[null]::timestamptz[], false, '100ms'",
    ),
    ("add_members", "'{chat}', {user}, array['user-36', 'user-37'], false, 5000"),
    ("acquire_job", "'expire', '{nil}', 8000"),
    ("advance_job", "'expire', '{nil}', 1, 'x', 8000"),
    ("advance_settled", "array[{user}, {user}, {user}], array['chat', 'alert', 'event']::inbox_class[]"),
    ("any_node_gone", ""),
    ("applied", "0"),
    ("arrive", "'{nil}', array[{user}]"),
    ("attempt_states", "array[{user}, {user}], array['{one}', '{two}']::uuid[]"),
    ("audience", "{user}, '{chat}'"),
    ("beat", "'{nil}', 8000"),
    ("catch_up_marks", "4"),
    ("chats", "{user}, '{nil}', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 50"),
    ("collations", ""),
    ("count_attempts", "array[{user}], array['chat']::inbox_class[], array[30], array['x'], array[false], 5, '5ms'"),
    ("create_group", "gen_random_uuid(), {user}, 'title', array[{user}]"),
    ("database_clock", ""),
    ("dead_letters", "null, '{name}', null, 'epoch', null, 'infinity', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 9000000000000000000, 50"),
    ("depart", "'{nil}', array[{user}], array[1000]"),
    ("device_seen", "{user}, 'device-1', 1"),
    ("direct_chats", "array[{user}, {user}], array['user-35', 'nobody'], array[true, false], '5ms'"),
    ("discard", "'{one}', '{name}', 'x'"),
    ("end_departures", "1000"),
    ("endings_latest", "{user}, 1000"),
    ("endings_since", "{user}, '0', '{nil}', 0, 1001, null, '900', array['100', '850']"),
    ("epoch", ""),
    ("expire", "'epoch', '{nil}', now(), 500, 2000"),
    ("peek", "array[{user}, {user}, {user}], array['chat', 'alert', 'event']::inbox_class[], array[10, 0, 0]"),
    ("free_devices", "{user}, '{nil}', array['device-1']"),
    ("history", "{user}, '{chat}', null, 30, 50"),
    ("history_keys", "{user}, '{chat}', null, 30, 50"),
    ("lock_holders", "1"),
    ("is_busy", "1"),
    ("known_users", "array['user-36', 'nobody']"),
    ("large_chats", "array['{chat}']::uuid[], 51"),
    ("leave", "'{nil}', 2500"),
    ("locate", "array[{user}, {user}], array['{one}', '{two}']::uuid[], true"),
    ("marks_latest", "{user}, array['{chat}']::uuid[], 51, 1000"),
    ("marks_since", "{user}, array['{chat}']::uuid[], '0', 51, null, array['100']"),
    ("member_count", "'{chat}'"),
    ("members", "{user}, '{chat}', 'user-35', 50"),
    ("message_content", "'{one}'"),
    ("newest_messages", "array['{chat}']::uuid[], array[{user}]"),
    ("notify", "array['restante_test'], array['x']"),
    ("oldest_transaction", ""),
    ("own_messages", "{user}, array['{one}', '{two}']::uuid[]"),
    ("open", "'{name}', null, null, 'device-1', null, 1001, '{chat,alert,event}', '{nil}', 50"),
    ("overview", "{user}, '0', 51, 'device-1', array['100']"),
    ("page_everything", "{user}, 'chat', 10, 50, 50010"),
    ("page_keys", "{user}, 'chat', 10, 50, 50000, array['sent'], true"),
    ("page_poll", "{user}, 'chat', 10, 50, 50000"),
    ("page_waiting", "{user}, 'chat', 10, 50, 50000"),
    ("lock_timeout", "'1s', 'x'"),
    ("ping", ""),
    ("ping_schema", ""),
    ("schema_state", "array['table users']"),
    ("presence", "{user}, array['user-35', 'user-37', 'user-4000']"),
    ("purge_chats", "90, '{nil}', 500, 1000"),
    ("purge_devices", "10, 'device-1', 1000, 1000"),
    ("purge_inboxes", "90, 0, 'chat', 500, 1000"),
    ("purge_last_seen", "90, 0, 1000"),
    ("put_back", "'{one}', '{name}'"),
    ("read_all", "array[{user}], array['{chat}']::uuid[], array[20], 2000, '100ms'"),
    ("reap", "1000"),
    ("recounted", "array['{chat}']::uuid[], 51"),
    ("release_job", "'expire', '{nil}', 1"),
    ("recipients_waiting", "array['{one}', '{two}']::uuid[]"),
    ("remove_members", "'{chat}', {user}, array['{name}']"),
    ("room", ""),
    ("row_states", "{user}, 'chat', array[10, 11, 12]"),
    ("schema_of", "'public'"),
    ("seqs_of_messages", "array[{user}], array['{chat}']::uuid[], array['{one}']::uuid[]"),
    ("sequences", ""),
    ("settings", "array['jit'], array['off'], array['']"),
    (
        "settle",
        "array[{user}], array['chat']::inbox_class[], array[40], array[{user}], array['{chat}']::uuid[], array[19], \
         array[{user}], array['{chat}']::uuid[], array[{user}], array['device-1'], array['chat']::inbox_class[], \
         array[40], '100ms'",
    ),
    ("shape", ""),
    ("sign_in", "'{name}'"),
    ("wait_for_replication", "array['{one}', '{two}']::uuid[]"),
    ("status_counts", "'{chat}'"),
    ("statuses", "{user}, '{one}'"),
    ("receipt_counts", "array['{chat}']::uuid[], array[{user}], array['{one}']::uuid[], array[5], 51"),
    ("receipt_counts_since", "{user}, array['{chat}']::uuid[], '0', array['100']"),
    ("unfinished", ""),
    ("update_profile", "{user}, 'name', null"),
    ("users", "array['user-36', 'user-37'], false"),
    ("watched", "array[{user}, {user}], array[{user}, 1]"),
    ("waiting_up_to", "{user}, 'chat', 0, 30, 50"),
    ("wake_channel", ""),
];

/// The values of each statement, by its name.
pub fn values(known: &Known) -> HashMap<&'static str, String> {
    let Known { user, name, chat, messages: [one, two] } = known;
    let (user, nil) = (user.to_string(), uuid::Uuid::nil().to_string());
    let places = [("{user}", user.as_str()), ("{name}", name), ("{chat}", chat), ("{one}", one), ("{two}", two), ("{nil}", &nil)];
    let filled = |values: &str| places.iter().fold(values.to_owned(), |values, (place, value)| values.replace(place, value));
    VALUES.iter().map(|(name, values)| (*name, filled(values))).collect()
}
