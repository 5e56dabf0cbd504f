//! A cheap scan of JSON text: how deeply it is nested, before any parser recurses into it, ours or a client's.

/// True if arrays and objects are nested at most `depth_max` deep. The text need not be valid JSON; the scan never recurses.
pub fn depth_fits(text: &str, depth_max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > depth_max {
                    return false;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_strings_only() {
        assert!(depth_fits(r#"[["[[[[", "\"[[[[", "\\"]]"#, 2));
        assert!(!depth_fits(r#"[["a", []]]"#, 2));
        assert!(depth_fits("]]]][[", 2));
        assert!(!depth_fits(&"[".repeat(200_000), 32));
    }
}
