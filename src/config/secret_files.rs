//! Secrets from files: each secret setting has another one of the same name with `_FILE` behind it, which names a file that holds the
//! value. Nothing of the file is ever printed.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes of such a file, at most.
const FILE_BYTES_MAX: u64 = 64 * 1_024;

/// The value of a secret: as it was given, or from the file. An empty one is none.
///
/// # Errors
/// Both are given, or the file cannot be used. The words say what to do about the setting of the file.
pub(super) fn value(given: Option<String>, file: Option<&str>) -> Result<Option<String>, String> {
    let given = given.filter(|text| !text.is_empty());
    match (given, file.filter(|path| !path.is_empty())) {
        (given, None) => Ok(given),
        (Some(_), Some(_)) => Err("is set beside the setting without `_FILE`: set one of them".to_owned()),
        (None, Some(path)) => read(Path::new(path)).map(Some),
    }
}

/// The text of the file, without the end of its line.
fn read(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("names a file that cannot be read: {error}");
    let mut text = String::new();
    File::open(path).map_err(failed)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("names a file of more than {FILE_BYTES_MAX} bytes"));
    }
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err("names a file that is empty".to_owned());
    }
    Ok(text.to_owned())
}
