//! The service and the user: the arguments that the commands share, and the tokens that are made from them.

use std::time::Duration;

use anyhow::Context;

use super::exit::{Exit, UsageError};
use super::screen::print;
use super::serve;
use crate::auth::Scope;

/// Long enough for anything that is done by hand.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// The service that a command calls.
#[derive(Debug, clap::Args)]
pub struct Service {
    /// Where the service is
    #[arg(long, env = "RESTANTE_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: String,
}

/// The user of a command.
#[derive(Debug, clap::Args)]
pub struct Identity {
    /// The user to be; a token is made with JWT_SECRET, or with the secret in the service's data directory
    #[arg(long, short, value_name = "USER", required_unless_present = "token", allow_hyphen_values = true)]
    user: Option<String>,
    /// A token that exists already; where --user is named too, that one counts
    #[arg(long, env = "RESTANTE_TOKEN", hide_env_values = true, value_name = "JWT", allow_hyphen_values = true)]
    token: Option<String>,
}

/// `restante token`.
#[derive(Debug, clap::Args)]
pub struct TokenArgs {
    /// The user: 1 to 128 characters
    #[arg(allow_hyphen_values = true)]
    user: String,
    /// The token's scope beside being that user, words separated by spaces; `admin`: what operators do, `admin:read`: what they look at, `events:write`: to publish to every feed, to everyone and to users by name, `send`: to send and nothing else
    #[arg(long, value_parser = scope, value_name = "SCOPE", allow_hyphen_values = true)]
    scope: Option<String>,
    /// Lifetime of the token
    #[arg(long, default_value = "24h", value_parser = duration, value_name = "TIME")]
    ttl: Duration,
}

impl Identity {
    /// The token to connect with.
    pub fn token(&self) -> anyhow::Result<String> {
        match (&self.user, &self.token) {
            // The token may have been left in the environment.
            (Some(user), _) => token_for(user),
            (None, Some(token)) => Ok(token.clone()),
            (None, None) => Err(UsageError("name a --user or give a --token".into()).into()),
        }
    }
}

/// A token for this user, good for a day.
pub fn token_for(user: &str) -> anyhow::Result<String> {
    serve::sign_token(user, None, TOKEN_TTL).with_context(|| format!("cannot make a token for {user:?}"))
}

/// A token for an operator, good for a day.
pub fn token_for_admin() -> anyhow::Result<String> {
    serve::sign_token("operator", Some(Scope::ADMIN), TOKEN_TTL).context("cannot make a token with the scope admin")
}

/// `restante token`: the token and nothing else.
pub fn print_token(args: &TokenArgs) -> anyhow::Result<Exit> {
    print(&serve::sign_token(&args.user, args.scope.as_deref(), args.ttl)?)?;
    Ok(Exit::Done)
}

/// A scope that the service takes.
fn scope(text: &str) -> Result<String, String> {
    let read = Scope::read(&text.into()).map_err(|_| "a scope is words with spaces between them, and no other white space".to_owned());
    read.map(|_| text.to_owned())
}

/// Reads `500ms`, `30s`, `5m`, `24h`, `7d`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| "a time looks like 500ms, 30s, 5m, 24h or 7d".to_owned())?;
    let seconds = match unit.trim() {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        "d" => number * 86_400.0,
        other => return Err(format!("{other:?} is no unit of time: ms, s, m, h or d")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken by a token that is made and that the service does not take.
    #[test]
    fn a_scope_is_words_with_spaces_between_them() {
        assert_eq!(scope("send events:write"), Ok("send events:write".to_owned()));
        for bad in ["send\tadmin", "admin\n"] {
            assert!(scope(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_are_read_with_their_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert!(duration("soon").is_err());
        assert!(duration("5 fortnights").is_err());
    }
}
