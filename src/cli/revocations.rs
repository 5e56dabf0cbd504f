//! `restante revocations`: tokens that are worth nothing before they expire, revoked and listed. It asks the database itself, or a running
//! service.

use time::OffsetDateTime;

use super::backend::{Backend, Source};
use super::exit::{Exit, UsageError};
use super::pages::{PAGE, Page, in_pages, print_row};
use super::screen::printable;
use crate::domain::{Clock, DeviceId, ExternalId, Revoked, limits};
use crate::protocol::{RevocationData, Timestamp};
use crate::store::{self, RevocationPlace, page_of};
use restante_client::{NewRevocation, Revocation, RevocationPage, RevocationQuery};

pub const ABOUT: &str = "\
Revoke tokens before they expire, or list what is revoked.

add concerns the tokens of a user, those of one device of a user, or those of an id: the one token with this `jti`, or those of the login \
with this `sid`. Every node closes the connections that live on such a token, and takes it no more. The logins of a user that is revoked have \
ended, and so has a login that is revoked by its `sid`: its refresh token is worth nothing. A device has no login of its own, so none ends \
with it. Tokens of a user that are issued later are good: the user may log in again, with its password too. A revocation is kept until --expires-at, or as long as a token may be good (TOKEN_LIFETIME_MAX). It is noted in the audit.

With --url it asks a running service, with a token of the scope `admin` (--token, or one made with JWT_SECRET or the secret in \
the data directory). Without it works on the database: that of DATABASE_URL, or the service's own.

Examples:
  restante revocations add --user bob --reason 'stolen telephone'
  restante revocations add --user bob --device phone
  restante revocations add --token-id 0192f0c0-7d4e --url http://127.0.0.1:8080
  restante revocations list --json";

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    source: Source,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Revoke tokens
    Add(Add),
    /// List what is revoked, newest first
    List {
        /// At most so many
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("whose").required(true).args(["user", "token_id"]))]
struct Add {
    /// Those of this user
    #[arg(long, value_name = "USER", allow_hyphen_values = true)]
    user: Option<String>,
    /// Of the user, only those that this device holds
    #[arg(long, requires = "user", conflicts_with = "token_id", value_name = "DEVICE", allow_hyphen_values = true)]
    device: Option<String>,
    /// The one with this id (jti), or those of the login with this id (sid)
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    token_id: Option<String>,
    /// The reason, for operators
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    reason: Option<String>,
    /// When the tokens have expired (RFC 3339): it is kept until then
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// The revocation as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When the service or the database refuses or does not answer, or what is to be revoked is no user, device or id.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    // Read before anything is opened: what is wrong with the words is wrong at every backend.
    let asked = match args.command {
        Command::Add(add) => Asked::Revoke(read(&add)?, add.json),
        Command::List { limit, json } => Asked::List(limit, json),
    };
    let backend = Backend::open(&args.source).await?;
    let done = match asked {
        Asked::Revoke(wanted, json) => revoke(&backend, wanted, json).await,
        Asked::List(limit, json) => list(&backend, limit, json).await,
    };
    backend.close().await;
    done
}

/// A command whose words have been read; the second value is whether the answer is JSON.
enum Asked {
    Revoke(Wanted, bool),
    List(usize, bool),
}

/// A revocation that is asked for, checked.
#[derive(Debug)]
struct Wanted {
    revoked: Revoked,
    reason: Option<String>,
    expires_at: Option<OffsetDateTime>,
}

async fn revoke(backend: &Backend, wanted: Wanted, json: bool) -> anyhow::Result<Exit> {
    print_row(&backend.revoke(wanted).await?, json, line)?;
    Ok(Exit::Done)
}

async fn list(backend: &Backend, limit: usize, json: bool) -> anyhow::Result<Exit> {
    let page = async |rows_max, after| {
        let page = backend.revocations(&RevocationQuery { limit: Some(rows_max), after }).await?;
        Ok(Page { rows: page.revocations, next: page.next })
    };
    in_pages(limit, page, |revocation| print_row(&revocation, json, line)).await?.say("raise --limit");
    Ok(Exit::Done)
}

/// Everything on one line.
fn line(revocation: &Revocation) -> String {
    let Revocation { user_id, device_id, token_id, reason, revoked_at, expires_at, revoked_by } = revocation;
    let whose = match (user_id, device_id, token_id) {
        (Some(user), Some(device), _) => format!("device {device} of user {user}"),
        (Some(user), None, _) => format!("user {user}"),
        (None, _, token) => format!("token {}", token.as_deref().unwrap_or_default()),
    };
    let why = reason.as_deref().map_or_else(String::new, |reason| format!("  {reason}"));
    printable(&format!("{revoked_at}  {whose}  by {revoked_by}  until {expires_at}{why}"))
}

/// The revocation that the options name, by the rules of the service.
fn read(add: &Add) -> Result<Wanted, UsageError> {
    let user = add.user.clone().map(ExternalId::try_from).transpose().map_err(|error| UsageError(format!("--user: {error}")))?;
    let device = add.device.clone().map(DeviceId::try_from).transpose().map_err(|error| UsageError(format!("--device: {error}")))?;
    let token = checked_text(add.token_id.clone(), "--token-id", limits::TOKEN_ID_CHARS_MAX)?;
    let revoked = match (user, device, token) {
        (Some(user), Some(device), None) => Revoked::Device(user, device),
        (Some(user), None, None) => Revoked::User(user),
        (None, None, Some(id)) => Revoked::Token(id),
        _ => return Err(UsageError("name --user, or --user and --device, or --token-id".to_owned())),
    };
    let expires_at = add.expires_at.as_deref().map(|text| {
        let at = Timestamp::parse(text).ok_or_else(|| UsageError("--expires-at must be a time, as 2026-11-30T12:00:00Z".to_owned()))?;
        if at.0 > Clock::default().now() { Ok(at.0) } else { Err(UsageError("--expires-at must lie in the future".to_owned())) }
    });
    let reason = checked_text(add.reason.clone(), "--reason", limits::REASON_CHARS_MAX)?;
    Ok(Wanted { revoked, reason, expires_at: expires_at.transpose()? })
}

/// A text that the table takes.
fn checked_text(text: Option<String>, option: &str, chars_max: usize) -> Result<Option<String>, UsageError> {
    match text {
        Some(text) if text.contains('\0') || !(1..=chars_max).contains(&text.chars().count()) => {
            Err(UsageError(format!("{option} must be 1 to {chars_max} characters without NUL")))
        }
        text => Ok(text),
    }
}

/// The body of the request that asks for it.
fn request(wanted: Wanted) -> NewRevocation {
    let Wanted { revoked, reason, expires_at } = wanted;
    let (user_id, device_id, token_id) = match revoked {
        Revoked::User(user) => (Some(user.to_string()), None, None),
        Revoked::Device(user, device) => (Some(user.to_string()), Some(device.to_string()), None),
        Revoked::Token(id) => (None, None, Some(id)),
        Revoked::Login(id) => (None, None, Some(id.to_string())),
    };
    NewRevocation { user_id, device_id, token_id, reason, expires_at: expires_at.map(|at| Timestamp(at).to_string()) }
}

/// A revocation of the database, as a service answers it.
fn shown(revocation: crate::domain::Revocation) -> anyhow::Result<Revocation> {
    Ok(serde_json::from_value(serde_json::to_value(RevocationData::from(revocation))?)?)
}

impl Backend {
    async fn revoke(&self, wanted: Wanted) -> anyhow::Result<Revocation> {
        let store = match self {
            Self::Service(http, token) => return Ok(http.revoke(token, &request(wanted)).await?),
            Self::Database(store, _) => store,
        };
        let Wanted { revoked, reason, expires_at } = wanted;
        shown(store.revoke(store::NewRevocation { revoked, reason, expires_at, operator: None }).await?)
    }

    /// A page of revocations.
    async fn revocations(&self, query: &RevocationQuery) -> anyhow::Result<RevocationPage> {
        let store = match self {
            Self::Service(http, token) => return Ok(http.revocations(token, query).await?),
            Self::Database(store, _) => store,
        };
        let rows_max = query.limit.unwrap_or(PAGE).min(PAGE);
        let below = query.after.as_deref().and_then(RevocationPlace::parse).unwrap_or(RevocationPlace::LAST);
        let (revocations, next) = page_of(store.revocations(below, rows_max + 1).await?, rows_max, RevocationPlace::of);
        let revocations = revocations.into_iter().map(shown).collect::<anyhow::Result<_>>()?;
        Ok(RevocationPage { revocations, next: next.map(|place| place.to_string()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(user: Option<&str>, device: Option<&str>, token: Option<&str>) -> Add {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Add { user: owned(user), device: owned(device), token_id: owned(token), reason: None, expires_at: None, json: false }
    }

    #[test]
    fn the_words_of_the_command_are_held_against_the_rules_of_the_service() {
        let long = "x".repeat(129);
        assert_eq!(request(read(&add(Some("-5"), Some("phone"), None)).unwrap()).device_id.as_deref(), Some("phone"));
        assert_eq!(request(read(&add(None, None, Some("id"))).unwrap()).token_id.as_deref(), Some("id"));
        for bad in [add(Some(""), None, None), add(Some(&long), None, None), add(None, None, Some("")), add(None, None, None)] {
            assert!(read(&bad).is_err(), "{bad:?}");
        }
        for bad in ["soon", "2020-01-01T00:00:00Z"] {
            assert!(read(&Add { expires_at: Some(bad.to_owned()), ..add(Some("bob"), None, None) }).is_err(), "{bad}");
        }
        assert!(read(&Add { reason: Some(String::new()), ..add(Some("bob"), None, None) }).is_err());
    }

    #[test]
    fn a_revocation_is_one_line_and_what_strangers_chose_moves_no_cursor() {
        let told = serde_json::json!({
            "userId": "b\u{1b}[2Job", "deviceId": "ph\none", "reason": "\u{7}lost", "revokedAt": "2026-11-01T12:00:00.000Z",
            "expiresAt": "2027-01-30T12:00:00.000Z", "revokedBy": "carol"
        });
        let shown = line(&serde_json::from_value(told).unwrap());
        assert!(!shown.contains(['\u{1b}', '\n', '\u{7}']), "{shown:?}");
        assert!(shown.starts_with("2026-11-01T12:00:00.000Z  device ph"), "{shown:?}");
    }
}
