//! Text from outside on its way to people: into a log line, onto a terminal. The one place that makes it harmless.

/// The text as one line that is shown and never obeyed: no control characters, no change of direction.
///
/// A line break becomes `⏎`, a tab a space, any other control or direction character U+FFFD. Everything else stays.
pub fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => '⏎',
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_cannot_drive_the_terminal() {
        assert_eq!(printable("a\x1b]0;owned\x07b\nc\u{202e}d\u{9b}"), "a\u{fffd}]0;owned\u{fffd}b⏎c\u{fffd}d\u{fffd}");
        assert_eq!(printable("grüße 你好 👋"), "grüße 你好 👋");
    }
}
