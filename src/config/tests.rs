//! The table of settings against the manual, and the checks of their values.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    config: ConfigArgs,
}

fn checked(args: &[&str]) -> Result<Config, ConfigError> {
    Program::parse_from([&["restante"], args].concat()).config.check()
}

/// `NAME=value` lines, commented out or not, each with whether words stand above it.
fn manual() -> Vec<(&'static str, &'static str, bool)> {
    let mut is_explained = false;
    let mut found = Vec::new();
    for line in include_str!("../../.env.example").lines() {
        let assignment = line.strip_prefix('#').unwrap_or(line).split_once('=');
        match assignment.filter(|(name, _)| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')) {
            Some((name, value)) => found.push((name, value, is_explained)),
            None => is_explained = line.starts_with("# "),
        }
    }
    found
}

#[test]
fn the_manual_and_the_code_name_the_same_settings_and_defaults() {
    let manual = manual();
    assert!(manual.iter().all(|(_, _, is_explained)| *is_explained));
    let manual: Vec<_> = manual.into_iter().map(|(name, default, _)| Setting { name, default }).collect();
    for setting in SETTINGS {
        assert!(manual.contains(setting), "{setting:?} is not in .env.example");
    }
    for setting in &manual {
        assert!(SETTINGS.contains(setting), "{setting:?} is in .env.example only");
    }
    assert_eq!(manual.len(), SETTINGS.len());
}

#[test]
fn the_defaults_are_valid() {
    let config = ConfigArgs::default().check().unwrap();
    assert_eq!(config.listen_addr.to_string(), "127.0.0.1:8080");
    assert_eq!(config.ack_timeout, Duration::from_secs(30));
    assert!(config.database_url.is_none() && config.jwt_secret().unwrap().is_none());
}

#[test]
fn a_name_that_this_machine_knows_is_an_address() {
    let listens = |text: &str| checked(&["--listen-addr", text]).map(|config| config.listen_addr.to_string());
    assert_eq!(listens("localhost:8080").unwrap(), "127.0.0.1:8080");
    assert_eq!(listens("[::1]:8080").unwrap(), "[::1]:8080");
    for text in ["8080", ":8080", "localhost", "localhost:http", "localhost:99999", "::1:8080"] {
        assert!(listens(text).unwrap_err().to_string().starts_with("LISTEN_ADDR must be an address and a port"), "{text}");
    }
}

#[test]
fn a_setting_without_a_default_says_none() {
    let help = <Program as clap::CommandFactory>::command().render_long_help().to_string();
    assert!(help.contains("[default: 127.0.0.1:8080]") && !help.contains("[default: ]"), "{help}");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let ConfigError(errors) =
        checked(&["--listen-addr", "here", "--send-rate", "many", "--ack-timeout", "30s", "--database-url", "mysql://x:secret@y"])
            .unwrap_err();
    assert_eq!(errors.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["LISTEN_ADDR", "DATABASE_URL", "SEND_RATE", "ACK_TIMEOUT_MS"]);
    assert!(!ConfigError(errors).to_string().contains("secret"));
}

#[test]
fn origins_are_read_as_browsers_write_them() {
    let read = |text: &str| checked(&["--allowed-origins", text]).map(|config| config.allowed_origins);
    assert_eq!(read("*"), Ok(vec![]));
    assert_eq!(read(""), Ok(vec![]), "not set: every one");
    let listed = read(" https://Chat.Example:443, http://localhost:3000,http://[::1]:80,https://[::1],null,app+x://a_b").unwrap();
    assert_eq!(listed, ["https://chat.example", "http://localhost:3000", "http://[::1]", "https://[::1]", "null", "app+x://a_b"]);
    for wrong in [
        ",",
        "*,https://a",
        "chat.example",
        "https://",
        "https://a/",
        "https://a/b",
        "https://a:b",
        "https://u@a",
        "https://*.a",
        "https://ü",
        "://a",
        "1://a",
        "https://a https://b",
        "https://a,",
    ] {
        assert!(read(wrong).unwrap_err().to_string().starts_with("ALLOWED_ORIGINS must be"), "{wrong}");
    }
}

#[test]
fn nats_is_refused_by_a_program_that_does_not_know_it() {
    let told = checked(&["--nats-url", "nats://127.0.0.1:4222"]).map(|config| config.nats_url.is_some());
    match cfg!(feature = "nats") {
        true => assert_eq!(told, Ok(true)),
        false => assert!(told.unwrap_err().to_string().starts_with("NATS_URL needs"), "before anything is started"),
    }
}

#[test]
fn an_empty_setting_is_not_set() {
    let config = checked(&["--send-rate", "", "--jwt-secret", ""]).unwrap();
    assert_eq!((config.send_rate, config.jwt_secret.is_none()), (50, true));
}

#[test]
fn a_database_of_your_own_needs_a_secret_of_your_own() {
    let config = checked(&["--database-url", "postgres://db/restante", "--jwt-secret", ""]).unwrap();
    assert!(config.jwt_secret().unwrap_err().to_string().starts_with("JWT_SECRET"));
}

#[test]
fn a_secret_that_can_be_guessed_is_refused_with_what_makes_another() {
    for secret in ["x", &"hush".repeat(7), &"h".repeat(31)] {
        let error = checked(&["--jwt-secret", secret]).unwrap_err().to_string();
        assert!(error.starts_with("JWT_SECRET has fewer than 32 bytes") && error.contains("`openssl rand -hex 32`"), "{error}");
        assert!(!error.contains("hush"), "{error}");
    }
    assert!(checked(&["--jwt-secret", &"h".repeat(32)]).unwrap().jwt_secret.is_some());
}

#[test]
fn secrets_are_never_printed() {
    let args = [
        "--jwt-secret",
        "hush-1-hush-1-hush-1-hush-1-hush-1",
        "--database-url",
        "postgres://user:hush-2@db/x",
        "--jwt-secret-previous",
        "hush-3-hush-3-hush-3-hush-3-hush-3",
    ];
    let given = Program::parse_from([&["restante"], args.as_slice()].concat()).config;
    let printed = format!("{given:?} {:?}", given.clone().check().unwrap());
    assert!(!printed.contains("hush"), "{printed}");
}

/// One mechanism for every secret: a setting that is a secret has a file, and nothing else has.
#[test]
fn every_secret_may_come_from_a_file() {
    let mut secrets: Vec<String> =
        TYPES.iter().filter(|(_, kind)| kind.contains("SecretString")).map(|(name, _)| format!("{name}_FILE")).collect();
    let is_plain = |setting: &&Setting| TYPES.iter().all(|(name, _)| *name != setting.name);
    let mut files: Vec<&str> = SETTINGS.iter().filter(is_plain).map(|setting| setting.name).collect();
    secrets.sort();
    files.sort_unstable();
    assert_eq!(secrets, files);
}

fn file(text: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn a_secret_is_read_from_its_file_without_the_end_of_its_line() {
    use secrecy::ExposeSecret;

    for end in ["", "\n", "\r\n"] {
        let file = file(format!("{}{end}", "s".repeat(40)).as_bytes());
        let path = file.path().to_str().unwrap();
        let config = checked(&["--jwt-secret", "", "--jwt-secret-file", path, "--jwt-secret-previous-file", path]).unwrap();
        assert_eq!(config.jwt_secret.unwrap().expose_secret(), "s".repeat(40));
        assert_eq!(config.jwt_secret_previous.unwrap().expose_secret(), "s".repeat(40));
    }
    let file = file(b"postgres://db/restante\n");
    let config = checked(&["--database-url-file", file.path().to_str().unwrap()]).unwrap();
    assert_eq!(config.database_url.unwrap().expose_secret(), "postgres://db/restante");
}

#[test]
fn a_secret_that_is_given_twice_or_whose_file_cannot_be_used_is_refused_without_a_word_of_it() {
    let hush = "hush".repeat(10);
    let told = |args: &[&str]| {
        let error = checked(args).unwrap_err().to_string();
        assert!(!error.contains("hush"), "{error}");
        error
    };
    let good = file(hush.as_bytes());
    let path = good.path().to_str().unwrap();
    let error = told(&["--jwt-secret", &hush, "--jwt-secret-file", path]);
    assert_eq!(error, "JWT_SECRET_FILE is set beside the setting without `_FILE`: set one of them");
    assert!(told(&["--jwt-secret-file", "/there/is/no/such/file"]).starts_with("JWT_SECRET_FILE names a file that cannot be read: "));
    for (text, words) in [
        (&b"\n"[..], "JWT_SECRET_FILE names a file that is empty"),
        (b"hush\xff", "JWT_SECRET_FILE names a file that cannot be read: "),
        (&b"hush".repeat(17 * 1_024), "JWT_SECRET_FILE names a file of more than 65536 bytes"),
        (b"hush", "JWT_SECRET has fewer than 32 bytes"),
    ] {
        let file = file(text);
        let error = told(&["--jwt-secret-file", file.path().to_str().unwrap()]);
        assert!(error.starts_with(words), "{error}");
    }
}

#[test]
fn other_keys_stand_for_the_secret() {
    let with = |args: &[&str]| checked(&[&["--database-url", "postgres://db/restante", "--jwt-secret", ""], args].concat()).unwrap();
    assert!(with(&[]).jwt_secret().is_err());
    assert!(with(&["--jwks-url", "https://issuer.example/keys"]).jwt_secret().unwrap().is_none());
    assert!(with(&["--jwt-keys-file", "/keys.json"]).jwt_secret().unwrap().is_none());
}
