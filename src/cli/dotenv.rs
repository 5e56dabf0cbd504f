//! The file `.env`: checked as a whole before any of it counts. A line may hold a secret, so no line is ever printed, only its number
//! and names that are nearly those of settings.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use crate::config::SETTINGS;

const FILE: &str = ".env";
/// Other variables of the environment that the commands, the lab and libraries read.
const OTHERS: [&str; 12] = [
    "RESTANTE_URL",
    "RESTANTE_TOKEN",
    "RESTANTE_PROGRAM",
    "PG_BIN_DIR",
    "NO_COLOR",
    "RUST_BACKTRACE",
    "RUST_LIB_BACKTRACE",
    "TOKIO_WORKER_THREADS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "XDG_DATA_HOME",
    "HOME",
];
/// Characters by which a misspelt name differs at most, and those that one may have at its end.
const MISSPELT_MAX: usize = 2;
const ENDING_MAX: usize = 4;

/// Takes the settings of the file into the environment, where they are not set. Looks in the working directory, then in those above.
///
/// # Errors
/// A sentence: the file cannot be read, a line of it cannot be, or a name is misspelt. Nothing was taken then.
pub(super) fn read() -> Result<(), String> {
    let Some(path) = found().map_err(|error| format!("the file .env cannot be read: {error}"))? else { return Ok(()) };
    let text = fs::read_to_string(&path).map_err(|error| format!("the file {} cannot be read: {error}", path.display()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    for strange in check(text)? {
        super::screen::say(&format!("line {strange} of the file .env sets a name that is no setting of the service"));
    }
    let taken = dotenvy::from_read(text.as_bytes());
    // It was read once, so this cannot fail; the error would quote the line.
    taken.map_err(|_| "the file .env cannot be read".to_owned())
}

/// The variables of the environment that are no settings, and the setting that each of them nearly is. They may be another
/// program's, so nothing is refused.
pub(super) fn misspelt() -> Vec<(String, &'static str)> {
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names.filter_map(|name| nearest(&name).filter(|setting| *setting != name).map(|setting| (name, setting))).collect()
}

fn found() -> io::Result<Option<PathBuf>> {
    let here = env::current_dir()?;
    for folder in here.ancestors() {
        let path = folder.join(FILE);
        match fs::metadata(&path) {
            Ok(file) if file.is_file() => return Ok(Some(path)),
            Err(error) if path.parent() == Some(Path::new(&here)) && error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(None)
}

/// The numbers of the lines that set a name which nobody reads.
fn check(text: &str) -> Result<Vec<usize>, String> {
    let mut strange = Vec::new();
    for item in dotenvy::from_read_iter(text.as_bytes()) {
        let (name, _) = item.map_err(|error| unreadable(text, &error))?;
        let line = line_of(text, &name);
        match nearest(&name) {
            Some(setting) if setting == name => {}
            Some(setting) => return Err(format!("line {line} of the file .env sets {name}, which is no setting: is {setting} meant?")),
            // A variable of libpq is refused by its name.
            None if restante_postgres::is_libpq_variable(&name) => {}
            None => strange.push(line),
        }
    }
    Ok(strange)
}

fn unreadable(text: &str, error: &dotenvy::Error) -> String {
    let dotenvy::Error::LineParse(line, _) = error else { return "the file .env cannot be read: it is not UTF-8".to_owned() };
    let at = text.find(line.trim_end()).map_or(0, |at| text[..at].matches('\n').count()) + 1;
    format!(
        "line {at} of the file .env cannot be read: write NAME=value, and put a value that holds spaces, quotes, # or $ between single quotes"
    )
}

/// The number of the line that sets this name.
fn line_of(text: &str, name: &str) -> usize {
    let sets = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    text.lines().position(sets).map_or(0, |n| n) + 1
}

/// The name itself where it is known, or the setting that it nearly is.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let known = || SETTINGS.iter().map(|setting| setting.name).chain(OTHERS);
    let letters = |name: &str| name.to_ascii_uppercase().replace(['_', '-', '.'], "");
    let is_near = |known: &&str| {
        let (given, meant) = (letters(name), letters(known));
        let misspelt_max = if meant.len() < 8 { 1 } else { MISSPELT_MAX };
        let has_ending = given.strip_prefix(&meant).is_some_and(|rest| rest.len() <= ENDING_MAX && meant.len() >= 8)
            && name.matches('_').count() == known.matches('_').count();
        has_ending || distance(&given, &meant) <= misspelt_max
    };
    known().find(|known| *known == name).or_else(|| SETTINGS.iter().map(|setting| setting.name).find(is_near))
}

/// Characters that are to be inserted, removed, replaced or swapped with their neighbour (optimal string alignment).
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    if one.len().abs_diff(other.len()) > MISSPELT_MAX {
        return usize::MAX;
    }
    let mut rows = vec![(0..=other.len()).collect::<Vec<usize>>()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(a != b);
            let mut least = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_setting_is_told_from_the_settings_of_others() {
        for (name, setting) in [
            ("LISTEN_ADRR", "LISTEN_ADDR"),
            ("LISTEN_ADDRESS", "LISTEN_ADDR"),
            ("listen_addr", "LISTEN_ADDR"),
            ("LISTENADDR", "LISTEN_ADDR"),
            ("DATABSE_URL", "DATABASE_URL"),
            ("DATABASE_URI", "DATABASE_URL"),
            ("JWT_SECRETS", "JWT_SECRET"),
            ("DATADIR", "DATA_DIR"),
            ("RUST_LGO", "RUST_LOG"),
            ("SEND_RATE", "SEND_RATE"),
            ("NO_COLOR", "NO_COLOR"),
        ] {
            assert_eq!(nearest(name), Some(setting), "{name}");
        }
        for name in ["POSTGRES_PASSWORD", "PORT", "DATABASE_URL_TEST", "COMPOSE_PROJECT_NAME", "PATH", "DEBUG", "NODE_ENV", "É"] {
            assert_eq!(nearest(name), None, "{name}");
        }
        let settings = SETTINGS.iter().map(|setting| setting.name);
        settings.for_each(|name| assert_eq!(nearest(name), Some(name)));
    }

    #[test]
    fn a_line_is_named_by_its_number_and_nothing_of_it_is_printed() {
        for (text, expected) in [
            ("SEND_RATE=1\nJWT_SECRET=hush hush", "line 2 of"),
            ("SEND_RATE=1\n\nJWT_SECRET=\"hush\nhush", "line 3 of"),
            ("hush", "line 1 of"),
            ("# a comment\nhush hush=1\n", "line 2 of"),
            ("JWT_SECRET='hush", "line 1 of"),
            ("export\n=hush", "line"),
            ("LISTEN_ADRR=hush", "line 1 of the file .env sets LISTEN_ADRR, which is no setting: is LISTEN_ADDR meant?"),
            ("#\nexport LISTEN_ADRR = hush", "line 2 of the file .env sets LISTEN_ADRR"),
        ] {
            let error = check(text).expect_err(text);
            assert!(error.contains(expected) && !error.contains("hush") && error.lines().count() == 1, "{text:?}: {error}");
        }
        assert_eq!(check("SEND_RATE=1\nHUSH=2\n").unwrap(), [2], "the name may be a piece of a secret");
        assert_eq!(check("SEND_RATE=1\nPGHOST=x\nRESTANTE_URL=http://x\n").unwrap(), Vec::<usize>::new());
    }
}
