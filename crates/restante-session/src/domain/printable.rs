//! Text from outside on its way to people: into a log line, onto a terminal. The one place that makes it harmless.
//!
//! A character is harmful if whatever shows the text obeys it: control characters (C0, C1 and DEL), which end lines and drive
//! terminals, the line breaks of Unicode (U+0085, U+2028, U+2029), and what Unicode calls `Bidi_Control`, which shows text in
//! another order than it has. Each of the three functions is for one kind of text.

/// Returns whether whatever shows the character would obey it.
const fn is_obeyed(c: char) -> bool {
    matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

const fn shown(c: char) -> char {
    match c {
        '\n' | '\u{85}' | '\u{2028}' | '\u{2029}' => '⏎',
        '\t' => ' ',
        c if is_obeyed(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// The text as one line that is shown and never obeyed.
///
/// A line break becomes `⏎`, a tab a space, any other control or direction character U+FFFD. Everything else stays.
pub fn printable(text: &str) -> String {
    text.chars().map(shown).collect()
}

/// The same for words of the program itself that have several lines: what `\n` separates stays apart.
pub fn printable_lines(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { c } else { shown(c) }).collect()
}

/// JSON as one line of the same value: a harmful character becomes its escape `\uXXXX`, white space between values a space.
/// The text must be JSON, or nothing is promised of its value.
pub fn printable_json(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // JSON has these between values only.
            '\n' | '\r' | '\t' => line.push(' '),
            c if is_obeyed(c) => line.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every character that is harmful, found by its Unicode properties and not by the list above.
    fn harmful() -> impl Iterator<Item = char> {
        const BIDI_CONTROL: [u32; 12] = [0x61c, 0x200e, 0x200f, 0x202a, 0x202b, 0x202c, 0x202d, 0x202e, 0x2066, 0x2067, 0x2068, 0x2069];
        const SEPARATORS: [u32; 2] = [0x2028, 0x2029];
        let of_properties = |c: &char| c.is_control() || BIDI_CONTROL.contains(&u32::from(*c)) || SEPARATORS.contains(&u32::from(*c));
        ('\0'..=char::MAX).filter(of_properties)
    }

    #[test]
    fn text_of_others_cannot_drive_the_terminal() {
        assert_eq!(printable("a\x1b]0;owned\x07b\nc\u{202e}d\u{9b}"), "a\u{fffd}]0;owned\u{fffd}b⏎c\u{fffd}d\u{fffd}");
        assert_eq!(printable("grüße 你好 👋"), "grüße 你好 👋");
    }

    #[test]
    fn no_harmful_character_is_left_whatever_the_text_is_for() {
        assert_eq!(harmful().count(), 65 + 12 + 2);
        for c in harmful() {
            let text = format!("a{c}b");
            let (one, lines, json) = (printable(&text), printable_lines(&text), printable_json(&text));
            assert!(!one.contains(c) && !json.contains(c), "{c:?}");
            assert!(!lines.contains(c) || c == '\n', "{c:?}");
            assert!([one, lines, json].iter().all(|text| text.starts_with('a') && text.ends_with('b')), "{c:?}");
        }
    }

    #[test]
    fn everything_else_stays() {
        // The parts of an emoji and of Indic letters are held together by U+200D, and U+FEFF, U+00AD and tags show nothing.
        for text in ["grüße 你好 👋 שלום مرحبا", "👩\u{200d}👧", "क्\u{200d}ष", "a\u{ad}b\u{feff}", "🏴\u{e0067}\u{e007f}", "a b\u{a0}c"]
        {
            assert_eq!((printable(text), printable_lines(text), printable_json(text)), (text.to_owned(), text.to_owned(), text.to_owned()));
        }
    }

    #[test]
    fn json_keeps_its_value_on_one_line() {
        let json = "{\"a\":\t[1,\r\n2],\"b\":\"x\u{85}\u{2028}\u{202e}\u{9b}\u{7f}\\n\"}";
        assert_eq!(printable_json(json), r#"{"a": [1,  2],"b":"x\u0085\u2028\u202e\u009b\u007f\n"}"#);
    }
}
