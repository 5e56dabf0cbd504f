//! The first steps that a service with its own PostgreSQL prints: tokens, and commands that work as they are printed, in any directory and
//! as any user of the machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use secrecy::SecretString;

use crate::auth::TokenSigner;
use crate::domain::ExternalId;

/// Users that tokens are printed for.
const USERS: [&str; 2] = ["alice", "bob"];
/// The time for which those tokens are valid. They stand in the log of whoever keeps the output.
const TOKEN_TTL: Duration = Duration::from_secs(86_400);

/// The lines.
///
/// # Errors
/// When a token cannot be signed.
pub fn first_steps(addr: SocketAddr, root: &Path, secret: &SecretString) -> anyhow::Result<Vec<String>> {
    let signer = TokenSigner::new(secret);
    let mut lines = vec![format!("  WebSocket   ws://{addr}/ws"), format!("  data        {}", root.display())];
    let mut tokens = Vec::with_capacity(USERS.len());
    for user in USERS {
        let token = signer.sign(&ExternalId::try_from(user.to_owned())?, None, TOKEN_TTL.try_into()?, SystemTime::now().into());
        lines.push(format!("  {user:<11} {token}"));
        tokens.push(token);
    }
    let [alice, bob] = tokens.as_slice() else { return Ok(lines) };
    let (program, url) = (program(), format!("http://{}", reachable(addr)));
    lines.push("Try it in two other terminals:".to_owned());
    // With a token: the other terminal may not know this one's settings, nor be allowed to read the secret.
    lines.push(format!("  {program} listen --url {url} --token {bob}"));
    lines.push(format!("  {program} send --url {url} --token {alice} --to bob \"hello\""));
    Ok(lines)
}

/// This program as a shell finds it: by its name where that leads to it, else by its path.
pub fn program() -> String {
    let called = std::env::args().next().unwrap_or_default();
    let here = std::env::current_exe().ok();
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&in_path).map(|folder| folder.join(&called)).find(|path| path.is_file());
    let leads_here = found.and_then(|path| path.canonicalize().ok()) == here.as_ref().and_then(|path| path.canonicalize().ok());
    match here {
        Some(path) if called.contains('/') || !leads_here => quoted(&path.display().to_string()),
        Some(_) | None => quoted(&called),
    }
}

/// The word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+:@%,".contains(&byte));
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// An address that a client on this machine can connect to: "every interface" is none.
fn reachable(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), addr.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), addr.port()),
        IpAddr::V4(_) | IpAddr::V6(_) => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_is_reached_at_this_machine() {
        let reached = |addr: &str| reachable(addr.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(reached("[::]:8080"), "[::1]:8080");
        assert_eq!(reached("192.0.2.1:80"), "192.0.2.1:80");
    }

    #[test]
    fn a_path_with_a_space_is_one_word() {
        assert_eq!(quoted("/usr/bin/restante"), "/usr/bin/restante");
        assert_eq!(quoted("/home/an na's/restante"), r"'/home/an na'\''s/restante'");
    }
}
