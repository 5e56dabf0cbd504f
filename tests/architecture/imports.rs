//! The imports of files by one another: the `use` statements of files, resolved to the files that define what they name, and the
//! circles among them. A parent may import its children, and a child what its parents themselves define: that is a module
//! and its parts, and no circle.

use std::collections::{BTreeMap, BTreeSet};

/// The files of one crate, by their path below `src`.
pub(super) struct Crate {
    files: BTreeMap<String, File>,
    /// The file of each module, by its path.
    modules: BTreeMap<Vec<String>, String>,
}

struct File {
    module: Vec<String>,
    /// Names of the items that it defines at its top level.
    defines: BTreeSet<String>,
    /// Paths that it imports, as they are written; a glob ends in `*`.
    imports: Vec<Vec<String>>,
}

impl Crate {
    /// Takes paths below `src`, such as `delivery/mod.rs`, with their code.
    pub(super) fn new<'a>(sources: impl Iterator<Item = (&'a str, String)>) -> Self {
        let mut all = Self { files: BTreeMap::new(), modules: BTreeMap::new() };
        for (path, code) in sources {
            let module = module_of(path);
            all.modules.insert(module.clone(), path.to_owned());
            all.files.insert(path.to_owned(), File { module, defines: defines(&code), imports: imports(&code) });
        }
        all
    }

    /// Files that import one another in a circle: each set once.
    pub(super) fn circles(&self) -> BTreeSet<BTreeSet<String>> {
        let edges: BTreeMap<&String, BTreeSet<String>> = self.files.keys().map(|path| (path, self.imports_of(path))).collect();
        let reached: BTreeMap<&String, BTreeSet<String>> = edges.keys().map(|path| (*path, reach(&edges, path))).collect();
        let circle = |path: &String| -> BTreeSet<String> {
            let back = |other: &&String| reached[*other].contains(path);
            reached[path].iter().filter(back).cloned().collect()
        };
        edges.keys().map(|path| circle(path)).filter(|circle| !circle.is_empty()).collect()
    }

    /// Files that a file imports, without its own parents and parts.
    fn imports_of(&self, path: &str) -> BTreeSet<String> {
        let file = &self.files[path];
        let targets = file.imports.iter().flat_map(|import| self.resolve(&file.module, import, 0));
        let is_family = |other: &String| {
            let theirs = &self.files[other].module;
            file.module.starts_with(theirs) || theirs.starts_with(&file.module)
        };
        targets.filter(|other| !is_family(other)).collect()
    }

    /// The files that define what a path names, seen from a module. Nothing for a path into another crate.
    fn resolve(&self, from: &[String], import: &[String], depth: usize) -> BTreeSet<String> {
        let mut at = from.to_vec();
        let mut rest = import;
        match import.first().map(String::as_str) {
            Some("crate") => (at, rest) = (Vec::new(), &import[1..]),
            Some("super" | "self") => {}
            // A child of the module, or another crate.
            Some(name) if self.modules.contains_key(&[from, &[name.to_owned()]].concat()) => {}
            Some(_) | None => return BTreeSet::new(),
        }
        while let Some(step) = rest.first() {
            let child = [at.as_slice(), std::slice::from_ref(step)].concat();
            match step.as_str() {
                "self" => {}
                "super" => drop(at.pop()),
                _ if self.modules.contains_key(&child) => at = child,
                name => return self.defining(&at, name, depth),
            }
            rest = &rest[1..];
        }
        self.modules.get(&at).cloned().into_iter().collect()
    }

    /// The files that define an item of a module: its own file, or those that it passes on from.
    fn defining(&self, module: &[String], name: &str, depth: usize) -> BTreeSet<String> {
        let Some(path) = self.modules.get(module) else { return BTreeSet::new() };
        let file = &self.files[path];
        if file.defines.contains(name) || depth > 8 {
            return BTreeSet::from([path.clone()]);
        }
        let passed_on = file.imports.iter().flat_map(|import| match import.last().map(String::as_str) {
            Some(last) if last == name => self.resolve(module, import, depth + 1),
            Some("*") if name != "*" => {
                let named: Vec<String> = import[..import.len() - 1].iter().cloned().chain([name.to_owned()]).collect();
                let found = self.resolve(module, &named, depth + 1);
                found.into_iter().filter(|path| self.files[path].defines.contains(name)).collect()
            }
            Some(_) | None => BTreeSet::new(),
        });
        let found: BTreeSet<String> = passed_on.collect();
        if found.is_empty() { BTreeSet::from([path.clone()]) } else { found }
    }
}

/// Everything that is reached from a file, by one import or more.
fn reach(edges: &BTreeMap<&String, BTreeSet<String>>, from: &String) -> BTreeSet<String> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(path) = next.pop() {
        next.extend(edges[path].iter().filter(|other| reached.insert((*other).clone())));
    }
    reached
}

fn module_of(path: &str) -> Vec<String> {
    let mut steps: Vec<String> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if steps.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
        steps.pop();
    }
    steps
}

/// The items at the top level of a file: what stands at the beginning of a line.
fn defines(code: &str) -> BTreeSet<String> {
    const KINDS: [&str; 9] = ["struct", "enum", "trait", "fn", "type", "const", "static", "union", "macro_rules!"];
    let item = |line: &str| {
        let words: Vec<&str> = line.split(|c: char| c.is_whitespace() || "(<:;{=".contains(c)).filter(|word| !word.is_empty()).collect();
        // `const fn name`: the last of the kinds counts.
        let kind = words.iter().take(5).rposition(|word| KINDS.contains(word))?;
        words.get(kind + 1).map(|name| (*name).to_owned())
    };
    code.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase())).filter_map(item).collect()
}

/// The paths of the `use` statements at the top level of a file.
fn imports(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut statement = String::new();
    for line in code.lines() {
        let is_first = statement.is_empty() && (line.starts_with("use ") || line.starts_with("pub") && line.contains(" use "));
        if is_first || !statement.is_empty() {
            statement.push_str(line.trim());
            if let Some(whole) = statement.strip_suffix(';') {
                let (_, tree) = whole.split_once("use ").unwrap();
                spread(&[], tree, &mut found);
                statement.clear();
            }
        }
    }
    found
}

/// Makes one path of each leaf of a `use` tree.
fn spread(before: &[String], tree: &str, found: &mut Vec<Vec<String>>) {
    let steps = |path: &str| -> Vec<String> {
        let names = path.split("::").map(|step| step.split(" as ").next().unwrap().trim().to_owned());
        before.iter().cloned().chain(names.filter(|step| !step.is_empty())).collect()
    };
    let Some((path, inside)) = tree.split_once('{') else {
        found.push(steps(tree));
        return;
    };
    let (mut depth, mut from) = (0, 0);
    let inside = inside.trim_end_matches(|end: char| end.is_whitespace()).strip_suffix('}').unwrap();
    for (at, character) in inside.char_indices().chain([(inside.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inside[from..at].trim().is_empty() {
                    spread(&steps(path), inside[from..at].trim(), found);
                }
                from = at + 1;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let found = Crate::new(files.iter().map(|(path, code)| (*path, (*code).to_owned()))).circles();
        found.into_iter().map(|circle| circle.into_iter().collect()).collect()
    }

    #[test]
    fn files_that_import_one_another_are_found_however_they_write_it() {
        let lib = ("lib.rs", "pub mod a;\n");
        let parent = "mod one;\nmod two;\npub use one::*;\nuse two::{\n    Two, three::Three,\n};\npub struct Own;\n";
        let circle = [vec!["a/one.rs".to_owned(), "a/two.rs".to_owned()]];
        for [one, two] in [
            ["use super::two::Two;\npub struct One;\n", "use super::one::One;\npub struct Two;\n"],
            ["use crate::a::{Own, two::{self, Two as Other}};\npub struct One;\n", "use super::{Own, One};\npub struct Two;\n"],
            ["use super::Two;\npub const fn one() {}\n", "use crate::a::one;\npub struct Two;\n"],
        ] {
            assert_eq!(circles(&[lib, ("a/mod.rs", parent), ("a/one.rs", one), ("a/two.rs", two)]), circle, "{one}{two}");
        }
    }

    #[test]
    fn a_module_and_its_parts_and_what_goes_one_way_are_no_circle() {
        let lib = ("lib.rs", "pub mod a;\nuse a::Own;\n");
        let parent = ("a.rs", "mod one;\nmod two;\nuse one::One;\nuse std::fmt;\npub use two::*;\npub struct Own;\n");
        let one = ("a/one.rs", "use super::{Own, Two};\nuse serde::one;\npub struct One;\n");
        let two = ("a/two.rs", "use super::Own;\npub struct Two;\n");
        assert_eq!(circles(&[lib, parent, one, two]), Vec::<Vec<String>>::new());
    }
}
