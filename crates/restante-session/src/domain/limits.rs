//! The limits that are part of the protocol: clients may rely on them, so they are constants and not settings.

/// Characters of a user id (the token's `sub`).
pub const USER_ID_CHARS_MAX: usize = 128;
/// Characters of a device id.
pub const DEVICE_ID_CHARS_MAX: usize = 64;
/// Bytes of a token, as its text.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Characters of the name of an account.
pub const ACCOUNT_NAME_CHARS_MAX: usize = 64;
/// Characters of the name by which an account is shown.
pub const ACCOUNT_SHOWN_CHARS_MAX: usize = 256;
/// Characters of a password. NIST SP 800-63B wants at least 64.
pub const PASSWORD_CHARS_MAX: usize = 128;
/// Devices of a user.
pub const DEVICES_PER_USER_MAX: usize = 50;
/// Days after which a device that is not connected is removed.
pub const DEVICE_DAYS_MAX: u64 = 90;
/// Bytes of a frame from a client.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a `message:batch` frame; a page that is larger goes out in several frames.
pub const BATCH_FRAME_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a message's content, as UTF-8 after decoding.
pub const CONTENT_BYTES_MAX: usize = 32 * 1024;
/// Bytes of a message's metadata, as JSON text.
pub const METADATA_BYTES_MAX: usize = 8 * 1024;
/// Levels to which arrays and objects may be nested in any JSON from a client.
pub const JSON_DEPTH_MAX: usize = 32;
/// Characters of a message type.
pub const MESSAGE_TYPE_CHARS_MAX: usize = 64;
/// Characters of a frame's `id`.
pub const FRAME_ID_CHARS_MAX: usize = 128;
/// Characters of the reason in a `message:reject`; longer ones are cut.
pub const REASON_CHARS_MAX: usize = 500;
/// Message ids in one frame or request.
pub const IDS_MAX: usize = 500;
/// Characters of a chat's title.
pub const TITLE_CHARS_MAX: usize = 256;
/// Members of a group.
pub const MEMBERS_MAX: usize = 5_000;
/// A group up to this size reports statuses per member; a larger one reports counts.
pub const MEMBERS_REPORTED_MAX: usize = 50;
/// Users in one presence request.
pub const PRESENCE_USERS_MAX: usize = 500;
/// Users whose presence one connection is told of, its direct contacts at the beginning too.
pub const PRESENCE_WATCHED_MAX: usize = 2_000;
/// Milliseconds a user may be gone before anybody is told.
pub const PRESENCE_GRACE_MS: u64 = 2_500;
/// Milliseconds between two `typing` of a connection that are told, at least.
pub const TYPING_PAUSE_MS: u64 = 300;
/// Milliseconds for which `typing: true` lasts unless it is repeated.
pub const TYPING_LASTS_MS: u64 = 6_000;
/// The window when a client asks for none.
pub const WINDOW_DEFAULT: u16 = 50;
/// The largest window a client may ask for.
pub const WINDOW_MAX: u16 = 500;
/// Rows read at once.
pub const PAGE_ROWS: u16 = 50;
/// `pending` in `ready` is exact up to here.
pub const PENDING_EXACT_MAX: u32 = 1_000;
/// Bytes of an event's data, as JSON text.
pub const EVENT_DATA_BYTES_MAX: usize = 8 * 1024;
/// Events of one request.
pub const EVENTS_MAX: usize = 500;
/// Bytes of the body of a request that publishes.
pub const EVENTS_BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Users that the events of one request name together, listed and excepted ones.
pub const EVENT_NAMES_MAX: usize = 100_000;
/// Users that one event lists.
pub const EVENT_USERS_MAX: usize = 10_000;
/// Users that one event excepts.
pub const EVENT_EXCEPT_MAX: usize = 500;
/// Milliseconds that an event lives where its publisher does not say: a day.
pub const EVENT_TTL_MS: u64 = 24 * 60 * 60 * 1000;
/// Milliseconds that an event lives at most: 30 days.
pub const EVENT_TTL_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;
/// Milliseconds that an event lives at least.
pub const EVENT_TTL_MS_MIN: u64 = 1_000;
/// Characters of an event's collapse key.
pub const COLLAPSE_KEY_CHARS_MAX: usize = 128;
/// Members of its data that an event merges.
pub const MERGE_MEMBERS_MAX: usize = 20;
/// Characters of the name of a member that is merged.
pub const MERGE_NAME_CHARS_MAX: usize = 64;
/// Values of a union that are told.
pub const MERGE_VALUES_MAX: usize = 10;
/// Events that one event stands for, with itself; older ones are left out.
pub const MERGED_EVENTS_MAX: u32 = 1_000;
/// Bytes of data of the events that one event stands for; older ones are left out.
pub const MERGED_BYTES_MAX: u32 = 1024 * 1024;
/// Events that wait for a user in one class; the oldest ones beyond that end.
pub const EVENTS_PER_USER_MAX: u32 = 1_000;
/// Feeds that a user follows.
pub const FOLLOWS_MAX: u32 = 500;
/// Types of events that a user mutes.
pub const MUTED_TYPES_MAX: usize = 100;
/// Chats that a user mutes.
pub const MUTED_CHATS_MAX: usize = 1_000;
/// Users that a user blocks.
pub const BLOCKS_MAX: u32 = 10_000;
/// Contacts of a user, with the requests that it has made.
pub const CONTACTS_MAX: u32 = 10_000;
/// Invitations that wait for a user.
pub const INVITATIONS_MAX: u16 = 100;
/// Invitations that a user has made, until they are accepted or end; those that were declined among them.
pub const INVITATIONS_MADE_MAX: u16 = 500;
/// Days for which an invitation waits.
pub const INVITATION_DAYS: u16 = 30;
/// Users or invitations on a page of contacts, blocks or invitations when a client asks for no number.
pub const PEOPLE_PAGE_DEFAULT: u16 = 100;
/// The most of them on such a page.
pub const PEOPLE_PAGE_MAX: u16 = 500;
/// Publishers of a feed.
pub const PUBLISHERS_MAX: u32 = 500;
/// Days for which figures of delivery are told at once.
pub const STATISTICS_DAYS_MAX: i64 = 31;
/// Characters of the id of a token (`jti`) by which it is known and revoked.
pub const TOKEN_ID_CHARS_MAX: usize = 256;
/// Dead letters that one request puts back or gives up.
pub const DEAD_LETTERS_MAX: usize = 100;
/// The largest factor by which an operator multiplies the rates of a user.
pub const LIMIT_FACTOR_MAX: u16 = 1_000;
