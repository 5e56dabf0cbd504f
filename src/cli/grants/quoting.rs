//! Names and texts as parts of SQL, whatever characters they have.

/// A name as an identifier.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as a literal, whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// Texts as a literal of `name[]`.
pub(super) fn names<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    format!("array[{}]::name[]", texts.into_iter().map(literal).collect::<Vec<_>>().join(", "))
}

/// A block of PL/pgSQL, between dollars with a word that it does not contain.
pub(super) fn block(body: &str) -> String {
    let mut tag = "restante".to_owned();
    while body.contains(&format!("${tag}")) {
        tag.push('_');
    }
    format!("do ${tag}$\n{body}\n${tag}$;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_ends_its_quotes() {
        assert_eq!(identifier("a\"; drop table users; --"), "\"a\"\"; drop table users; --\"");
        assert_eq!(literal("o'brien"), "'o''brien'");
        assert_eq!(literal("a\\'; --"), "E'a\\\\''; --'");
        assert_eq!(names(["a", "b'"]), "array['a', 'b''']::name[]");
        assert_eq!(block("begin end"), "do $restante$\nbegin end\n$restante$;");
        assert!(block("'$restante$; drop table users; $restante_$'").starts_with("do $restante__$\n"));
    }
}
