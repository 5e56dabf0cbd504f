//! The address of a database, as `DATABASE_URL` has it: `postgres://user:password@host:port/database?parameter=value`
//! ("Connection URIs" in PostgreSQL's manual).
//!
//! It is read here, strictly, before sqlx sees it: what is not understood is refused, where sqlx would leave it out or log
//! it. An error names the place and never a value, for any piece may belong to a password that was not percent-encoded.
//! Defaults are those of PostgreSQL: the user is this process's account, the database is named as the user.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::{fs, io};

use sqlx::postgres::PgConnectOptions;

/// The name of connections in `pg_stat_activity` where the address gives none.
const APPLICATION_NAME: &str = "restante";
const PORT: &str = "5432";
const SSL_MODES: &str = "disable, allow, prefer, require, verify-ca or verify-full";
/// The parameters that there are, each with other names for it. `options[…]` is one more.
const PARAMETERS: [(&str, &[&str]); 13] = [
    ("sslmode", &["ssl-mode"]),
    ("sslrootcert", &["ssl-root-cert", "ssl-ca"]),
    ("sslcert", &["ssl-cert"]),
    ("sslkey", &["ssl-key"]),
    ("host", &[]),
    ("hostaddr", &[]),
    ("port", &[]),
    ("user", &[]),
    ("password", &[]),
    ("dbname", &[]),
    ("application_name", &[]),
    ("options", &[]),
    ("statement-cache-capacity", &[]),
];
const FILES: [&str; 3] = ["sslrootcert", "sslcert", "sslkey"];

/// A fault of an address, in words that follow its name: "DATABASE_URL …".
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Another scheme, or none.
    #[error("must begin with postgres:// or postgresql://")]
    Scheme,
    /// Some character stands where it separates parts, and can hardly be meant so.
    #[error("cannot be taken apart: percent-encode the password, and any other part that holds one of : / ? # [ ] @ % (@ is %40)")]
    Unencoded,
    /// A `%` that encodes nothing.
    #[error("has a % that is not followed by two hex digits: percent-encode the password (% is %25)")]
    Percent,
    /// A percent-encoded part is no text.
    #[error("has a percent-encoded part that is not UTF-8, or holds a zero byte")]
    NoText,
    /// Colons in a host.
    #[error("has an IPv6 address that does not stand in brackets, as in postgres://user@[::1]:5432/database")]
    Brackets,
    /// `host1,host2`.
    #[error("names several hosts, and may name one")]
    Hosts,
    /// It cannot be a port.
    #[error("has a port that is no number from 1 to 65535 (if it is a part of the password: name a host, and percent-encode the password)")]
    Port,
    /// Other libraries may know it.
    #[error("has a parameter {0:?} that the service does not know: leave it out (there are {names}, options[…])", names = PARAMETERS.map(|(name, _)| name).join(", "))]
    Unknown(String),
    /// A text that cannot be a parameter's name is not shown: it may be a secret.
    #[error(
        "has a parameter without a name or a value; if that is a part of the password, percent-encode the password (? is %3F, & is %26)"
    )]
    NoParameter,
    /// A value that the parameter cannot have.
    #[error("has a parameter {0} that is not {1}")]
    Value(&'static str, &'static str),
    /// A file that the parameter names.
    #[error("has a parameter {name} that names a file which cannot be read: {}: {source}", path.display())]
    File {
        /// The parameter.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
}

/// Checks that this is the address of a database. It checks nothing else.
pub fn check(text: &str) -> Result<(), AddressError> {
    parameters(text).map(drop)
}

/// The connect options of an address. The files that the address names are checked to be readable.
pub fn options(text: &str) -> Result<PgConnectOptions, AddressError> {
    let parameters = parameters(text)?;
    for (name, value) in &parameters {
        if let Some(name) = FILES.into_iter().find(|file| file == name) {
            fs::read(value).map_err(|source| AddressError::File { name, path: value.into(), source })?;
        }
    }
    let mut url = "postgres:///".to_owned();
    for (n, (name, value)) in parameters.iter().enumerate() {
        let _ = write!(url, "{}{}={}", if n == 0 { '?' } else { '&' }, encoded(name), encoded(value));
    }
    // The URL was written here, in the form that sqlx reads.
    PgConnectOptions::from_str(&url).map_err(|_| AddressError::Unencoded)
}

/// The address as parameters only, in the order in which they count, with what it leaves out: the later one of a name counts.
fn parameters(text: &str) -> Result<Vec<(String, String)>, AddressError> {
    let text = text.trim();
    let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")).ok_or(AddressError::Scheme)?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    if text.contains(|c: char| c == '#' || c.is_control()) || database.contains(['@', '/']) || query.contains('@') {
        return Err(AddressError::Unencoded);
    }
    let (account, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = account.split_once(':').map_or((account, None), |(user, password)| (user, Some(password)));
    let mut found = [("application_name", APPLICATION_NAME), ("port", PORT), ("sslmode", "prefer")].map(owned).to_vec();
    found.extend(host_and_port(host)?);
    for (name, value) in [("user", Some(user)), ("password", password), ("dbname", Some(database))] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            found.push((name.to_owned(), decoded(value)?));
        }
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        found.push(parameter(pair)?);
    }
    Ok(found)
}

fn host_and_port(text: &str) -> Result<Vec<(String, String)>, AddressError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(AddressError::Brackets)?;
            (ipv6(&decoded(&address.replace("%25", "%").replace('%', "%25"))?)?, port)
        }
        None if text.contains(['[', ']']) || text.matches(':').count() > 1 => return Err(AddressError::Brackets),
        None => {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (decoded(host)?, port)
        }
    };
    let mut found = Vec::new();
    if !host.is_empty() {
        found.push(("host".to_owned(), one_host(host)?));
    }
    match port.strip_prefix(':') {
        Some("") => {}
        Some(port) => found.push(("port".to_owned(), port_number(&decoded(port)?)?)),
        None if port.is_empty() => {}
        None => return Err(AddressError::Brackets),
    }
    Ok(found)
}

/// With a zone (RFC 6874) or without.
fn ipv6(text: &str) -> Result<String, AddressError> {
    let address = text.split('%').next().unwrap_or_default();
    Ipv6Addr::from_str(address).map(|_| text.to_owned()).map_err(|_| AddressError::Brackets)
}

fn one_host(host: String) -> Result<String, AddressError> {
    if host.contains(',') { Err(AddressError::Hosts) } else { Ok(host) }
}

fn port_number(text: &str) -> Result<String, AddressError> {
    let number = text.parse::<u16>().ok().filter(|number| *number > 0);
    number.map(|number| number.to_string()).ok_or(AddressError::Port)
}

fn parameter(pair: &str) -> Result<(String, String), AddressError> {
    let (name, value) = pair.split_once('=').ok_or(AddressError::NoParameter)?;
    let name = decoded(name)?;
    let is_name = |name: &str| name.starts_with(|c: char| c.is_ascii_alphabetic());
    let has_name = is_name(&name) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte));
    if !has_name {
        return Err(AddressError::NoParameter);
    }
    // As in a form, which is how sqlx reads it: `-c+lock_timeout=1s`.
    let value = decoded(&if name.starts_with("options") { value.replace('+', " ") } else { value.to_owned() })?;
    if name.strip_prefix("options[").and_then(|rest| rest.strip_suffix(']')).is_some_and(is_name) {
        return Ok((name, value));
    }
    let known = PARAMETERS.iter().find(|(known, others)| *known == name || others.contains(&name.as_str()));
    let (name, _) = known.ok_or(AddressError::Unknown(name))?;
    Ok(((*name).to_owned(), value_of(name, value)?))
}

fn value_of(name: &'static str, value: String) -> Result<String, AddressError> {
    let is = |good: bool, expected| if good { Ok(()) } else { Err(AddressError::Value(name, expected)) };
    match name {
        "sslmode" => is(SSL_MODES.split([' ', ',']).any(|mode| mode == value && mode != "or"), SSL_MODES)?,
        "hostaddr" => is(IpAddr::from_str(&value).is_ok(), "an address in numbers")?,
        "statement-cache-capacity" => is(value.parse::<u16>().is_ok_and(|number| number > 0), "a number from 1 to 65535")?,
        "port" => return port_number(&value),
        "host" => return one_host(value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).map_or(value.clone(), str::to_owned)),
        _ => {}
    }
    Ok(value)
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn decoded(text: &str) -> Result<String, AddressError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok());
        let (high, low) = (digit().ok_or(AddressError::Percent)?, digit().ok_or(AddressError::Percent)?);
        bytes.push(high * 16 + low);
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or(AddressError::NoText)
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use sqlx::ConnectOptions;

    use super::*;

    const DEFAULTS: &str = "application_name=restante port=5432 sslmode=prefer";

    /// Its parameters without what every address has.
    fn read(text: &str) -> String {
        let found = parameters(text).unwrap_or_else(|error| panic!("{text} {error}"));
        let words = found.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        words.strip_prefix(DEFAULTS).expect("the defaults come first").trim().to_owned()
    }

    #[test]
    fn an_address_is_read_part_by_part() {
        for (text, expected) in [
            ("postgres://", ""),
            ("postgresql://ada@db/a", "host=db user=ada dbname=a"),
            ("postgres://ada:secret@db:6543/a", "host=db port=6543 user=ada password=secret dbname=a"),
            ("\npostgres://ada:a secret@db/a\n", "host=db user=ada password=a secret dbname=a"),
            ("postgres://ada@db:/a", "host=db user=ada dbname=a"),
            // The last @ separates, as it always has.
            ("postgres://ada:p@ss@db/a", "host=db user=ada password=p@ss dbname=a"),
            ("postgres://ada%40org:%3F%23%40%2F%25+@db/a%2Fb", "host=db user=ada@org password=?#@/%+ dbname=a/b"),
            ("postgres://ada@[::1]:6543/a", "host=::1 port=6543 user=ada dbname=a"),
            ("postgres://[fe80::1%25eth0]/a", "host=fe80::1%eth0 dbname=a"),
            ("postgres://[fe80::1%eth0]/a", "host=fe80::1%eth0 dbname=a"),
            ("postgres:///a?host=[::1]&port=6543", "dbname=a host=::1 port=6543"),
            ("postgres:///a?host=/run/postgresql&user=ada", "dbname=a host=/run/postgresql user=ada"),
            ("postgres://ada@%2Frun%2Fpostgresql/a", "host=/run/postgresql user=ada dbname=a"),
            ("postgres://db/a?ssl-mode=require&ssl-ca=/ca.pem", "host=db dbname=a sslmode=require sslrootcert=/ca.pem"),
            ("postgres://db/a?options=-c+work_mem%3D8MB&options[jit]=off", "host=db dbname=a options=-c work_mem=8MB options[jit]=off"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn sqlx_understands_it_as_it_was_meant() {
        let options = options("postgres://ada%40org:%3F+%26%3D@[::1]:6543/a%2Fb?sslmode=disable&options[jit]=off").unwrap();
        assert_eq!((options.get_host(), options.get_port(), options.get_username()), ("::1", 6543, "ada@org"));
        assert_eq!((options.get_database(), options.get_options()), (Some("a/b"), Some("-c jit=off")));
        assert!(format!("{options:?}").contains(r#""?+&=""#), "the password is another one");
        let socket = super::options("postgres://ada@%2Frun%2Fpostgresql/a").unwrap();
        assert_eq!(socket.get_socket().unwrap().to_str(), Some("/run/postgresql"));
        // The addresses that tests and tools are given.
        check(socket.to_url_lossy().as_str()).unwrap();
    }

    #[test]
    fn what_cannot_be_meant_is_refused_and_nothing_of_it_is_told() {
        for (text, expected) in [
            ("", "must begin with postgres://"),
            ("mysql://db/a", "must begin with postgres://"),
            ("postgres://ada:hus?h@db/a", "percent-encode the password"),
            ("postgres://ada:hus/h@db/a", "percent-encode the password"),
            ("postgres://ada:hus#h@db/a", "percent-encode the password"),
            ("postgres://ada:hus\nh@db/a", "percent-encode the password"),
            ("postgres://ada:hus%h@db/a", "percent-encode the password"),
            ("postgres://ada:hush%@db/a", "percent-encode the password"),
            ("postgres://ada:1?hush=h@db/a", "percent-encode the password"),
            ("postgres://ada:h@us?hush=h@db/a", "percent-encode the password"),
            ("postgres://ada:h@us/hush@db/a", "percent-encode the password"),
            ("postgres://ada:hush@db/a?hush", "percent-encode the password"),
            ("postgres://ada:hush@db/a?=hush", "percent-encode the password"),
            ("postgres://ada:hush@db/a?sslmode", "percent-encode the password"),
            ("postgres://ada:%FFhush@db/a", "not UTF-8"),
            ("postgres://ada:%00hush@db/a", "zero byte"),
            ("postgres://ada:hush/a", "no number from 1 to 65535"),
            ("postgres://ada@hush:0/a", "no number from 1 to 65535"),
            ("postgres://ada@hush/a?port=65536", "no number from 1 to 65535"),
            ("postgres://ada:hush@::1:6543/a", "brackets"),
            ("postgres://ada:hush@[::1/a", "brackets"),
            ("postgres://ada:hush@[::1]6543/a", "brackets"),
            ("postgres://ada:hush@[db]/a", "brackets"),
            ("postgres://ada@hush,db/a", "several hosts"),
            ("postgres://ada@db/a?connect_timeout=hush", r#""connect_timeout" that the service does not know"#),
            ("postgres://ada@db/a?options[=hush", r#""options[" that the service does not know"#),
            ("postgres://ada@db/a?sslmode=hush", "sslmode that is not disable, allow,"),
            ("postgres://ada@db/a?sslmode=or", "sslmode that is not disable, allow,"),
            ("postgres://ada@db/a?hostaddr=hush", "hostaddr that is not"),
            ("postgres://ada@db/a?statement-cache-capacity=0", "statement-cache-capacity that is not"),
        ] {
            let error = check(text).expect_err(text).to_string();
            assert!(error.contains(expected) && !error.contains("hus") && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        for name in FILES {
            let text = format!("postgres://ada:hush@db/a?{name}=/nowhere/file.pem");
            check(&text).unwrap();
            let error = options(&text).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("/nowhere/file.pem: No such file") && !error.contains("hush"), "{error}");
        }
    }
}
