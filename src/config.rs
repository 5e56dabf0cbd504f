//! The settings: one table of name, default and meaning, from which come the command line's options, the
//! environment variables and their check. `.env.example` is the manual, and a test holds it against the table.
//!
//! Read by `app` alone, which hands each part of the service the few values it needs. A setting that is empty
//! counts as not set. Whatever is wrong is reported at once and by name; values are never printed, they may be secret.

mod accounts;
mod encryption;
mod secret_files;
mod socketio;
#[cfg(test)]
mod tests;
mod tokens;

pub use socketio::{PresenceForm, SocketIoTransport};

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use tracing_subscriber::EnvFilter;

use crate::address;
use crate::domain::{DirectMessages, Network};
use crate::encryption::EncryptionMode;
use accounts::{networks, switch};
use encryption::{encryption_mode, key_command, master_keys};
use socketio::{event_names, presence_forms, socketio_transports};
use tokens::{keys_url, names};

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The environment variable.
    pub name: &'static str,
    /// The value when it is not set; empty: none.
    pub default: &'static str,
}

/// Everything that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(|(name, words)| format!("{name} {words}")).collect::<Vec<_>>().join("; "))]
pub struct ConfigError(pub Vec<(&'static str, String)>);

const SECRET_BYTES_MIN: usize = 32;

macro_rules! settings {
    (
        $($name:literal $field:ident: $type:ty = $default:literal, $parse:expr, $help:literal;)*
        files: $($file:literal $path:ident of $secret:ident, $file_help:literal;)*
    ) => {
        /// The settings as they were given, unchecked.
        #[derive(Clone, Default, clap::Args)]
        pub struct ConfigArgs {
            $(
                #[arg(long, env = $name, hide_env_values = true, value_name = "VALUE", allow_hyphen_values = true, help = help($help, $default))]
                $field: Option<String>,
            )*
            $(
                #[arg(long, env = $file, value_name = "PATH", allow_hyphen_values = true, help = $file_help)]
                $path: Option<String>,
            )*
        }

        /// The settings, checked.
        #[derive(Debug, Clone)]
        pub struct Config {
            $(#[doc = $help] pub $field: $type,)*
        }

        /// Every setting there is.
        pub const SETTINGS: &[Setting] = &[$(Setting { name: $name, default: $default },)* $(Setting { name: $file, default: "" },)*];

        /// The types of those that are no files, for tests.
        #[cfg(test)]
        const TYPES: &[(&str, &str)] = &[$(($name, stringify!($type)),)*];

        impl ConfigArgs {
            /// Checks all of them; the error names all that are wrong.
            pub fn check(mut self) -> Result<Config, ConfigError> {
                let mut errors = Vec::new();
                $(match secret_files::value(self.$secret.take(), self.$path.as_deref()) {
                    Ok(value) => self.$secret = value,
                    Err(words) => errors.push(($file, words)),
                })*
                $(let $field = {
                    let given = self.$field.filter(|text| !text.is_empty());
                    let parsed: Result<$type, String> = $parse(given.as_deref().unwrap_or($default));
                    parsed.map_err(|words| errors.push(($name, words))).ok()
                };)*
                match ($($field,)*) {
                    ($(Some($field),)*) if errors.is_empty() => Ok(Config { $($field,)* }),
                    _ => Err(ConfigError(errors)),
                }
            }
        }
    };
}

settings! {
    "LISTEN_ADDR" listen_addr: SocketAddr = "127.0.0.1:8080", listen_address,
        "Address and port for HTTP and WebSocket";
    "DATABASE_URL" database_url: Option<SecretString> = "", postgres_url,
        "PostgreSQL to keep messages in; without it the service runs its own";
    "DATABASE_DIRECT_URL" database_direct_url: Option<SecretString> = "", postgres_url,
        "The same database past a pooler such as PgBouncer, for LISTEN, migrations and advisory locks";
    "NATS_URL" nats_url: Option<SecretString> = "", nats_url,
        "NATS server over which nodes tell one another, instead of PostgreSQL's NOTIFY; needs a program built with `--features nats`";
    "DATA_DIR" data_dir: Option<PathBuf> = "", optional_path,
        "Directory of the service's own PostgreSQL and its secret";
    "JWT_SECRET" jwt_secret: Option<SecretString> = "", signing_secret,
        "Secret that tokens are signed with (HS256), 32 bytes or more; required with DATABASE_URL unless there are other keys, else made once and kept in DATA_DIR";
    "JWT_SECRET_PREVIOUS" jwt_secret_previous: Option<SecretString> = "", signing_secret,
        "Secret that tokens may be signed with as well, while JWT_SECRET is being replaced";
    "JWT_KEYS_FILE" jwt_keys_file: Option<PathBuf> = "", optional_path,
        "File with keys that tokens are signed with, a JWK set; it is read again when it changes";
    "JWKS_URL" jwks_url: Option<reqwest::Url> = "", keys_url,
        "Address of the issuer's keys, a JWK set";
    "JWKS_PAUSE_SECS" jwks_pause: Duration = "10", seconds(1..=3_600),
        "Time between two fetches of the issuer's keys, at least, in s";
    "JWKS_KEEP_SECS" jwks_keep: Duration = "86400", seconds(60..=2_592_000),
        "Time for which keys count that were fetched, while the issuer's server is away, in s";
    "JWT_ISSUER" jwt_issuer: Vec<String> = "", names,
        "Issuers, separated by commas, of which one must be a token's `iss`";
    "JWT_AUDIENCE" jwt_audience: Vec<String> = "", names,
        "Audiences, separated by commas, of which one must be in a token's `aud`";
    "JWT_LEEWAY_SECS" jwt_leeway: Duration = "10", seconds(0..=300),
        "Time by which the issuer's clock may be ahead of this machine's, in s";
    "TOKEN_LIFETIME_MAX" token_lifetime_max: Duration = "90d", lifetime,
        "Time after its `iat` for which a token is good at most, and for which a revocation without an end is kept: a whole number with s, m, h or d behind it";
    "ACCOUNTS" accounts: bool = "off", switch,
        "Accounts with passwords, for those without an issuer of tokens: on or off";
    "ACCESS_TOKEN_SECS" access_token: Duration = "900", seconds(60..=86_400),
        "Time for which an access token of a login is good, in s";
    "REFRESH_TOKEN_LIFETIME" refresh_token_lifetime: Duration = "30d", lifetime,
        "Time after which a refresh token that was not used is worth nothing: a whole number with s, m, h or d behind it";
    "LOGIN_LIFETIME_MAX" login_lifetime_max: Duration = "365d", lifetime,
        "Time after which a login ends, however often it was renewed: a whole number with s, m, h or d behind it";
    "REFRESH_GRACE_SECS" refresh_grace: Duration = "0", seconds(0..=60),
        "Time for which a refresh token that was used counts once more, in s, should the answer have been lost; 0: not at all";
    "LOGINS_PER_ACCOUNT_MAX" logins_per_account_max: u16 = "10", whole(1..=1_000),
        "Logins of one account; beyond it the one that was renewed longest ago ends";
    "ENDED_LOGINS_MAX" ended_logins_max: u32 = "500000", whole(1_000..=10_000_000),
        "Logins that have ended and whose access tokens may not have expired; beyond it no login begins";
    "PASSWORD_CHARS_MIN" password_chars_min: u16 = "15", whole(8..=64),
        "Characters of a password, at least";
    "PASSWORD_MEMORY_KIB" password_memory_kib: u32 = "19456", whole(19_456..=1_048_576),
        "Memory for the hash of a password (argon2id), in KiB";
    "PASSWORD_PASSES" password_passes: u32 = "2", whole(2..=20),
        "Passes over that memory";
    "PASSWORD_HASHES_AT_ONCE" password_hashes_at_once: u16 = "0", whole(0..=256),
        "Passwords that this node hashes at once; 0: one for every two processors";
    "ACCOUNT_REQUESTS_PER_MINUTE" account_requests_per_minute: u32 = "60", whole(0..=1_000_000),
        "Registrations, logins and changes of passwords that one address may ask for in a minute, over all nodes; 0: as many as it likes";
    "REGISTRATIONS_PER_HOUR" registrations_per_hour: u32 = "20", whole(0..=1_000_000),
        "Accounts that one address may register in an hour, over all nodes; 0: as many as it likes";
    "TRUSTED_PROXIES" trusted_proxies: Vec<Network> = "", networks,
        "Networks of your proxies, separated by commas, whose `X-Forwarded-For` says where a request came from";
    "SEND_RATE" send_rate: u32 = "50", whole(0..=1_000_000),
        "Messages a user may send in 10 s, with bursts of twice as many; 0 lifts this limit and the next four";
    "EVENT_RATE" event_rate: u32 = "50", whole(0..=1_000_000),
        "Events a user may publish in 10 s without the scope `events:write`, with bursts of twice as many; 0 lifts this limit";
    "DIRECT_CHATS_PER_HOUR" direct_chats_per_hour: u32 = "20", whole(1..=1_000_000),
        "New direct chats a user may begin in an hour";
    "GROUPS_PER_HOUR" groups_per_hour: u32 = "200", whole(1..=1_000_000),
        "Groups a user may make in an hour, and feeds without the scope `events:write`";
    "NAMED_USERS_PER_HOUR" named_users_per_hour: u32 = "1000", whole(500..=1_000_000),
        "Users in an hour that a user may make by naming them, as members or recipients, before they come themselves";
    "REQUEST_RATE" request_rate: u32 = "2000", whole(0..=1_000_000),
        "Points in 10 s that a user may spend on requests and reads, with bursts of half as many; 0 lifts this limit";
    "FAILED_TOKEN_RATE" failed_token_rate: u32 = "10000", whole(0..=1_000_000),
        "Tokens that are not valid which an address may bring in 10 s, with bursts of twice as many; 0 lifts this limit";
    "HANDSHAKE_RATE" handshake_rate: u32 = "20000", whole(0..=1_000_000),
        "Connections of clients that an address may ask for in 10 s, with bursts of twice as many; 0 lifts this limit";
    "SESSIONS_PER_USER_MAX" sessions_per_user_max: u32 = "20", whole(1..=10_000),
        "Connections of one user on this node";
    "CONNECTIONS_MAX" connections_max: u32 = "20000", whole(1..=1_000_000),
        "Connections of this node, before and after authentication, HTTP included";
    "HEAD_TIMEOUT_MS" head_timeout: Duration = "10000", milliseconds(100..=600_000),
        "Time from connecting to the end of the first request's head, in ms";
    "ALLOWED_ORIGINS" allowed_origins: Vec<String> = "*", origins,
        "Origins whose pages may use the service, separated by commas; `*`: every one";
    "WEBSOCKET_COMPRESSION" websocket_compression: bool = "true", flag,
        "Frames of 1 KiB or more are compressed for WebSocket clients that offer it (RFC 7692): true or false";
    "SOCKETIO_TRANSPORTS" socketio_transports: Vec<SocketIoTransport> = "websocket,polling", socketio_transports,
        "Transports of Socket.IO clients, separated by commas: websocket, polling; `none`: no Socket.IO";
    "SOCKETIO_MESSAGE_NEW" socketio_message_new: bool = "false", flag,
        "Socket.IO clients get each message as `message:new` too: true or false";
    "SOCKETIO_EVENT_TYPES" socketio_event_types: Vec<String> = "", event_names,
        "Types of events, separated by commas, that Socket.IO clients get under their own names too";
    "SOCKETIO_PRESENCE" socketio_presence: Vec<PresenceForm> = "online", presence_forms,
        "How Socket.IO clients are told of presence, separated by commas: online (`user:online`, `user:offline`), presence (`user:presence`)";
    "AUTH_TIMEOUT_MS" auth_timeout: Duration = "5000", milliseconds(100..=600_000),
        "Time for the first frame `authenticate`, in ms";
    "HEARTBEAT_MS" heartbeat: Duration = "20000", milliseconds(100..=3_600_000),
        "Time between pings, in ms; a connection that misses two is closed";
    "ACK_TIMEOUT_MS" ack_timeout: Duration = "30000", milliseconds(100..=3_600_000),
        "Time a client has to ack an envelope, in ms";
    "ATTEMPTS_MAX" attempts_max: u16 = "5", whole(1..=1_000),
        "Attempts after which a message is failed for a recipient";
    "LOOK_INTERVAL_MS" look_interval: Duration = "30000", milliseconds(100..=3_600_000),
        "Time between a session's own looks for waiting rows, in ms";
    "DIRECT_MESSAGES" direct_messages: DirectMessages = "everyone", direct_messages,
        "Who may send direct messages to whom, beside blocks: everyone, contacts, or function (restante_may_send in the database decides)";
    "RECALL_WINDOW" recall_window: Duration = "1h", time_span(Duration::from_secs(30 * 86_400)),
        "Time for which a sender may recall a message: a whole number with s, m, h or d behind it; 0: not at all";
    "RETENTION_DAYS" retention_days: u16 = "90", whole(0..=36_500),
        "Days after which what is finished is removed; 0: never";
    "EVENTS_MAX" events_max: u32 = "100000", whole(1..=10_000_000),
        "Events that live in all; beyond it the oldest end";
    "ENCRYPTION" encryption: EncryptionMode = "off", encryption_mode,
        "Encryption at rest: off, read (open what is encrypted, and store plain text), or on";
    "ENCRYPTION_KEY" encryption_key: Option<SecretString> = "", master_keys,
        "Master keys, the current one first, separated by commas; each 32 bytes as hexadecimal digits or base64";
    "ENCRYPTION_KEY_COMMAND" encryption_key_command: Option<String> = "", key_command,
        "Command for the shell that prints the master keys, in place of ENCRYPTION_KEY";
    "ENCRYPTION_ALLOW_SQL" encryption_allow_sql: bool = "false", flag,
        "SQL may store plain text while encryption is on; it stands there until the service has encrypted it: true or false";
    "ACCEPT_LANES" accept_lanes: u16 = "0", whole(0..=256),
        "Lanes that store messages; 0: one for every two processors";
    "SETTLE_LANES" settle_lanes: u16 = "0", whole(0..=256),
        "Lanes that store acks and reads; 0: one for every two processors";
    "WORKER_THREADS" worker_threads: u16 = "0", whole(0..=1_024),
        "Threads that run the service; 0: one for each processor";
    "POOL_SIZE" pool_size: u32 = "16", whole(2..=10_000),
        "Database connections of this node, besides one for each lane, one that listens and one that asks whether the database answers";
    "OPENINGS_WAITING_MAX" openings_waiting_max: u32 = "10000", whole(1..=1_000_000),
        "Connections that may wait to be opened at once; more are refused `busy`";
    "SHUTDOWN_GRACE_MS" shutdown_grace: Duration = "10000", milliseconds(0..=600_000),
        "Time at a stop for connections to take leave, and again for lanes to write, in ms";
    "RUST_LOG" log_filter: String = "info,sqlx=warn", filter,
        "What is logged: level, or module=level, separated by commas";
    "LOG_FORMAT" log_format: LogFormat = "text", format,
        "How log lines are written: text or json";
    files:
    "DATABASE_URL_FILE" database_url_file of database_url, "File that holds DATABASE_URL";
    "DATABASE_DIRECT_URL_FILE" database_direct_url_file of database_direct_url, "File that holds DATABASE_DIRECT_URL";
    "NATS_URL_FILE" nats_url_file of nats_url, "File that holds NATS_URL";
    "JWT_SECRET_FILE" jwt_secret_file of jwt_secret, "File that holds JWT_SECRET";
    "JWT_SECRET_PREVIOUS_FILE" jwt_secret_previous_file of jwt_secret_previous, "File that holds JWT_SECRET_PREVIOUS";
    "ENCRYPTION_KEY_FILE" encryption_key_file of encryption_key, "File that holds ENCRYPTION_KEY";
}

/// The number of lanes: the number in the settings, or half of this machine's processors when the setting is 0. The database
/// needs the other half. More lanes than can run would make smaller batches of the same messages.
pub fn for_half_the_processors(asked_for: u16) -> u16 {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if asked_for > 0 { asked_for } else { u16::try_from(processors / 2).unwrap_or(256).clamp(1, 256) }
}

impl fmt::Debug for ConfigArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConfigArgs")
    }
}

/// The help of an option, with its default where it has one.
fn help(words: &str, default: &str) -> String {
    if default.is_empty() { words.to_owned() } else { format!("{words} [default: {default}]") }
}

/// Numbers, or a name that this machine resolves: `localhost` may be one or both of `127.0.0.1` and `::1`. Then the first counts, and
/// that of IPv4 before others.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    const EXPECTED: &str = "must be an address and a port, such as 127.0.0.1:8080 or localhost:8080";
    let text = text.trim();
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').ok_or(EXPECTED)?;
    if host.is_empty() || host.contains(':') || port.parse::<u16>().is_err() {
        return Err(EXPECTED.to_owned());
    }
    let found: Vec<SocketAddr> =
        text.to_socket_addrs().map_err(|_| format!("{EXPECTED}: this machine knows no address of the name"))?.collect();
    found.iter().find(|address| address.is_ipv4()).or(found.first()).copied().ok_or_else(|| EXPECTED.to_owned())
}

fn whole<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        let number = text.trim().parse::<u64>().ok().filter(|number| range.contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
    }
}

fn milliseconds(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| whole(range.clone())(text).map(Duration::from_millis).map_err(|words| format!("{words} (milliseconds)"))
}

fn seconds(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| whole(range.clone())(text).map(Duration::from_secs).map_err(|words| format!("{words} (seconds)"))
}

/// A time such as `90s`, `30m`, `1h` or `7d`, no longer than `max`. A number alone stands for seconds.
fn time_span(max: Duration) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| {
        let text = text.trim();
        let unit = text.bytes().last().filter(u8::is_ascii_alphabetic);
        let number = text[..text.len() - usize::from(unit.is_some())].parse::<u64>().ok();
        let seconds = match unit {
            None | Some(b's') => Some(1),
            Some(b'm') => Some(60),
            Some(b'h') => Some(3_600),
            Some(b'd') => Some(86_400),
            Some(_) => None,
        };
        let span = number.zip(seconds).and_then(|(number, seconds)| number.checked_mul(seconds)).map(Duration::from_secs);
        span.filter(|span| *span <= max)
            .ok_or_else(|| format!("must be a time such as 90s, 30m, 1h or 7d, at most {}d; 0 stands for none", max.as_secs() / 86_400))
    }
}

/// A time that is not zero.
fn lifetime(text: &str) -> Result<Duration, String> {
    let span = time_span(Duration::from_secs(3_650 * 86_400))(text)?;
    if span.is_zero() { Err("must be longer than 0".to_owned()) } else { Ok(span) }
}

fn optional_secret(text: &str) -> Result<Option<SecretString>, String> {
    Ok((!text.is_empty()).then(|| text.into()))
}

fn flag(text: &str) -> Result<bool, String> {
    text.trim().parse().map_err(|_| "must be true or false".to_owned())
}

/// HMAC-SHA256 needs a key of at least 256 bits (RFC 7518, 3.2).
fn signing_secret(text: &str) -> Result<Option<SecretString>, String> {
    if !text.is_empty() && text.len() < SECRET_BYTES_MIN {
        return Err(format!("has fewer than {SECRET_BYTES_MIN} bytes, so that it can be guessed: make one with `openssl rand -hex 32`"));
    }
    optional_secret(text)
}

fn optional_path(text: &str) -> Result<Option<PathBuf>, String> {
    Ok((!text.is_empty()).then(|| text.into()))
}

fn postgres_url(text: &str) -> Result<Option<SecretString>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    address::check(text).map_err(|error| error.to_string())?;
    optional_secret(text)
}

fn nats_url(text: &str) -> Result<Option<SecretString>, String> {
    match text.split_once("://") {
        None if text.is_empty() => Ok(None),
        Some(("nats" | "tls", _)) if cfg!(feature = "nats") => optional_secret(text),
        Some(("nats" | "tls", _)) => Err("needs a program that knows NATS: `cargo build --release --features nats`".to_owned()),
        None | Some(_) => Err("must begin with nats:// or tls://".to_owned()),
    }
}

/// The origins as browsers write them; an empty list stands for every one.
fn origins(text: &str) -> Result<Vec<String>, String> {
    if text.trim() == "*" {
        return Ok(Vec::new());
    }
    let origin = |text: &str| {
        origin(text.trim()).ok_or_else(|| "must be *, or origins such as https://chat.example, separated by commas".to_owned())
    };
    text.split(',').map(origin).collect()
}

/// An origin as RFC 6454 section 6.2 writes it: in small letters, without a path and without the port that its scheme has anyway.
fn origin(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    if text == "null" {
        return Some(text);
    }
    let (scheme, place) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let (host, port) = match place.rsplit_once(':') {
        // The colons of an IPv6 address stand before its bracket.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse::<u16>().ok()?)),
        Some(_) | None => (place, None),
    };
    let is_host = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte));
    let port = port.filter(|port| !matches!((scheme, port), ("http", 80) | ("https", 443)));
    (is_scheme && is_host).then(|| format!("{scheme}://{host}{}", port.map_or_else(String::new, |port| format!(":{port}"))))
}

fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|_| "must be a level, or module=level, separated by commas".to_owned())
}

fn direct_messages(text: &str) -> Result<DirectMessages, String> {
    match text.trim() {
        "everyone" => Ok(DirectMessages::Everyone),
        "contacts" => Ok(DirectMessages::Contacts),
        "function" => Ok(DirectMessages::Function),
        _ => Err("must be everyone, contacts or function".to_owned()),
    }
}

fn format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be text or json".to_owned()),
    }
}

impl Config {
    /// The secret for tokens, as far as it was given. `Ok(None)`: the embedded server's own is to be used, unless there are other keys.
    pub fn jwt_secret(&self) -> Result<Option<&SecretString>, ConfigError> {
        match (&self.jwt_secret, &self.database_url) {
            (None, Some(_)) if !self.has_other_keys() => {
                Err(ConfigError(vec![("JWT_SECRET", "must be set when DATABASE_URL is, or JWT_KEYS_FILE or JWKS_URL".to_owned())]))
            }
            (secret, _) => Ok(secret.as_ref()),
        }
    }

    /// Returns whether tokens may be signed with keys of a file or of a server.
    pub const fn has_other_keys(&self) -> bool {
        self.jwt_keys_file.is_some() || self.jwks_url.is_some()
    }
}
