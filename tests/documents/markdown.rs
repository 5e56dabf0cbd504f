//! A document, taken apart: its fenced blocks, the commands that they show, its prose.

/// A fenced block: its language and its text.
pub struct Block {
    pub language: String,
    pub text: String,
}

/// A document as its fenced blocks, and its lines outside of them.
pub fn taken_apart(document: &str) -> (Vec<Block>, Vec<&str>) {
    let (mut blocks, mut prose) = (Vec::new(), Vec::new());
    let mut open: Option<Block> = None;
    for line in document.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(_), Some(block)) => blocks.push(block),
            (Some(language), None) => open = Some(Block { language: language.to_owned(), text: String::new() }),
            (None, Some(block)) => open = Some(Block { text: format!("{}{line}\n", block.text), ..block }),
            (None, None) => prose.push(line),
        }
    }
    (blocks, prose)
}

/// The texts between backticks in a line.
pub fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The words that follow this program in the shell blocks, at the beginning of a line or of a `$(…)`.
pub fn commands(document: &str, program: &str) -> Vec<Vec<String>> {
    let (blocks, _) = taken_apart(document);
    let lines = blocks.iter().filter(|block| block.language == "sh").flat_map(|block| block.text.lines());
    let calls = lines.flat_map(|line| line.split("$(")).map(|call| call.trim_start_matches("./target/release/"));
    let calls = calls.filter_map(|call| call.strip_prefix(program)?.strip_prefix(' '));
    calls.map(|call| call.split([' ', ')']).filter(|word| !word.is_empty()).map(str::to_owned).collect()).collect()
}
