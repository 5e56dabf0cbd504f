//! A cheap scan of JSON text: whether PostgreSQL's `jsonb` would take it, which is stricter than JSON itself.

/// The largest exponent of a number. A double ends at 308. `jsonb` writes the zeros out, so a short number with
/// a large exponent would take much space.
const EXPONENT_MAX: usize = 400;

/// Checks what `jsonb` refuses although JSON allows it, in text that is known to be valid JSON: `\u0000`, halves
/// of a surrogate pair, numbers outside the range of a double. Returns the bytes of the text once exponents
/// are written out, which is how it is stored; the error says what the value must not hold.
pub(super) fn stored_bytes(json: &str) -> Result<usize, &'static str> {
    let bytes = json.as_bytes();
    let (mut at, mut zeros) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = string_end(bytes, at + 1)?,
            b'-' | b'0'..=b'9' => {
                let end = at + bytes[at..].iter().take_while(|byte| is_of_number(**byte)).count();
                zeros += exponent_of_finite(&json[at..end])?;
                at = end;
            }
            _ => at += 1,
        }
    }
    Ok(json.len() + zeros)
}

const fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

/// The place behind the closing quote of the string that begins at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> Result<usize, &'static str> {
    loop {
        match bytes.get(at) {
            None => return Ok(at),
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') if bytes.get(at + 1) == Some(&b'u') => at = unicode_end(bytes, at)?,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

/// The place behind the `\uXXXX`, or the pair of them, that begins at `at`.
fn unicode_end(bytes: &[u8], at: usize) -> Result<usize, &'static str> {
    match unit(bytes, at) {
        Some(0) => Err("must not hold \\u0000"),
        Some(0xD800..=0xDBFF) if matches!(unit(bytes, at + 6), Some(0xDC00..=0xDFFF)) => Ok(at + 12),
        None | Some(0xD800..=0xDFFF) => Err("must not hold half of a surrogate pair"),
        Some(_) => Ok(at + 6),
    }
}

fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let text = std::str::from_utf8(bytes.get(at..at + 6)?).ok()?;
    u16::from_str_radix(text.strip_prefix("\\u")?, 16).ok()
}

/// The size of a number's exponent, 0 without one.
fn exponent_of_finite(number: &str) -> Result<usize, &'static str> {
    const OUT_OF_RANGE: &str = "must not hold numbers outside the range of a double";
    if !number.parse::<f64>().is_ok_and(f64::is_finite) {
        return Err(OUT_OF_RANGE);
    }
    let Some((_, exponent)) = number.split_once(['e', 'E']) else { return Ok(0) };
    let digits = exponent.trim_start_matches(['+', '-']).trim_start_matches('0');
    match digits.parse::<usize>() {
        Ok(size) if size <= EXPONENT_MAX => Ok(size),
        Err(_) if digits.is_empty() => Ok(0),
        Ok(_) | Err(_) => Err(OUT_OF_RANGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jsonb_refuses_is_refused() {
        for json in [r#""\u0000""#, r#"{"a\u0000":1}"#, r#""\ud800""#, r#""\udc00""#, r#""\ud800\ud800""#, r#""\ud800x\udc00""#] {
            assert!(stored_bytes(json).is_err(), "{json}");
        }
        for json in ["1e200000", "-1e309", "1e-20000", "[1,2,1e99999999999999999999]", &format!("[{}]", "9".repeat(400))] {
            assert!(stored_bytes(json).is_err(), "{json}");
        }
    }

    #[test]
    fn what_jsonb_takes_is_taken() {
        for json in
            [r#""\\u0000""#, r#""\ud83d\ude00""#, r#"{"a":"\"\u0001\n"}"#, "[0,-1,2.5,1e308,1E-300,0e0,1e+007]", "null", "\"\u{1F600}\""]
        {
            assert!(stored_bytes(json).is_ok(), "{json}");
        }
        assert_eq!(stored_bytes("1e300"), Ok(305));
    }
}
