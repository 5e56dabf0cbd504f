//! `cargo xtask sabotage`: breaks the service on purpose, one patch after another, and expects a run of the lab to find each. The
//! patches lie in `tests/torture/broken`; each says in its first lines what it breaks, by which rules it may be found, and
//! by which command (`Torture:`, `Handover:`) with which arguments. They are applied to a copy of the tree, so that no breakage can get into a build of the product.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// The directory of the copy and of its build.
const PLACE: &str = "target/sabotage";
/// The directory of the patches.
const PATCHES: &str = "tests/torture/broken";
/// The arguments of every run; a patch's own arguments come after them.
const TORTURE: &[&str] = &["torture", "--minutes", "0.5", "--nodes", "3", "--clients", "18", "--json", "-"];
const HANDOVER: &[&str] = &["handover", "--json", "-"];
/// Chance decides whether a run meets the moment; so many seeds are tried.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=4;

/// One breakage.
#[derive(Debug, PartialEq, Eq)]
struct Breakage {
    name: String,
    what: String,
    rules: Vec<String>,
    /// The arguments of the lab, without the seed.
    args: Vec<String>,
}

/// Runs those whose names contain one of the words; all without words.
pub fn run(words: &[&str]) -> anyhow::Result<ExitCode> {
    let place = workspace().join(PLACE);
    // From here on everything is read from the copy, so the tree may change meanwhile.
    copy_tree(&place.join("tree"))?;
    let patches = place.join("tree").join(PATCHES);
    let mut breakages = all(&patches)?;
    breakages.retain(|breakage| words.is_empty() || words.iter().any(|word| breakage.name.contains(word)));
    ensure!(!breakages.is_empty(), "no patch of that name in tests/torture/broken");
    let mut missed = 0;
    for breakage in &breakages {
        let found = attempt(breakage, &place)?;
        missed += u32::from(found.is_none());
        let verdict = found.unwrap_or_else(|| format!("NOT FOUND with seeds {SEEDS:?}"));
        println!("{:<36} {verdict}", breakage.name);
    }
    println!("{} of {} breakages found", breakages.len() - usize::try_from(missed)?, breakages.len());
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Breaks, builds, tortures, mends. Says how it was found.
fn attempt(breakage: &Breakage, place: &Path) -> anyhow::Result<Option<String>> {
    let tree = place.join("tree");
    let patch = tree.join(PATCHES).join(format!("{}.patch", breakage.name));
    apply(&tree, &patch, &[])?;
    let found = build(&tree, &place.join("build")).and_then(|()| try_seeds(breakage, &place.join("build/debug/restante-lab")));
    apply(&tree, &patch, &["-R"])?;
    found
}

fn try_seeds(breakage: &Breakage, program: &Path) -> anyhow::Result<Option<String>> {
    for seed in SEEDS {
        let run = Command::new(program).args(&breakage.args).args(["--seed", &seed.to_string()]).output()?;
        let said = String::from_utf8_lossy(&run.stderr);
        match run.status.code() {
            Some(0) => continue,
            Some(1) => {}
            code => bail!("{}: exit code {code:?}: {said}", breakage.name),
        }
        let verdict: Value = serde_json::from_slice(&run.stdout).with_context(|| said.into_owned())?;
        let broken: Vec<&str> = verdict["broken"].as_array().into_iter().flatten().filter_map(|rule| rule["rule"].as_str()).collect();
        if breakage.rules.iter().any(|rule| broken.contains(&rule.as_str())) {
            return Ok(Some(format!("found with seed {seed}: {}", broken.join(", "))));
        }
        println!("{}: seed {seed} found something else: {}", breakage.name, broken.join(", "));
    }
    Ok(None)
}

fn build(tree: &Path, target: &Path) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args = ["build", "--quiet", "--package", "restante", "--package", "restante-lab"];
    let status = Command::new(cargo).args(args).current_dir(tree).env("CARGO_TARGET_DIR", target).status()?;
    ensure!(status.success(), "a broken service must still compile");
    Ok(())
}

fn apply(tree: &Path, patch: &Path, extra: &[&str]) -> anyhow::Result<()> {
    // Outside of a repository `git apply` takes paths as they are.
    let status =
        Command::new("git").arg("apply").args(extra).arg(patch).current_dir(tree).env("GIT_CEILING_DIRECTORIES", workspace()).status()?;
    ensure!(status.success(), "{} does not fit: make it anew", patch.display());
    Ok(())
}

/// Everything that git knows, as it lies here.
fn copy_tree(to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(workspace()).output()?;
    ensure!(listed.status.success(), "git ls-files");
    for name in String::from_utf8(listed.stdout)?.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (workspace().join(name), to.join(name));
        if let (true, Some(folder)) = (from.is_file(), to.parent()) {
            fs::create_dir_all(folder)?;
            fs::copy(&from, &to).with_context(|| from.display().to_string())?;
        }
    }
    Ok(())
}

fn all(patches: &Path) -> anyhow::Result<Vec<Breakage>> {
    let mut files: Vec<PathBuf> = fs::read_dir(patches)?.map(|file| Ok(file?.path())).collect::<anyhow::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|end| end == "patch"));
    files.sort();
    files.iter().map(|file| Breakage::read(&file.file_stem().unwrap_or_default().to_string_lossy(), &fs::read_to_string(file)?)).collect()
}

impl Breakage {
    fn read(name: &str, patch: &str) -> anyhow::Result<Self> {
        let mut lines = patch.lines();
        let what = lines.next().unwrap_or_default().to_owned();
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let rules = lines.next().and_then(|line| line.strip_prefix("Rules:")).with_context(|| format!("{name}: no line \"Rules:\""))?;
        let (usual, own) = match lines.next().and_then(|line| line.split_once(':')) {
            Some(("Torture", own)) => (TORTURE, own),
            Some(("Handover", own)) => (HANDOVER, own),
            _ => bail!("{name}: no line \"Torture:\" or \"Handover:\""),
        };
        let args = usual.iter().map(|arg| (*arg).to_owned()).chain(words(own)).collect();
        Ok(Self { name: name.to_owned(), what, rules: words(rules), args })
    }
}

fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_patch_says_what_it_breaks_and_fits_the_sources() {
        let patches = workspace().join(PATCHES);
        let all = all(&patches).unwrap();
        assert!(all.len() >= 6);
        for breakage in &all {
            assert!(breakage.what.ends_with('.') && !breakage.rules.is_empty(), "{breakage:?}");
            let patch = patches.join(format!("{}.patch", breakage.name));
            let fits = Command::new("git").args(["apply", "--check"]).arg(&patch).current_dir(workspace()).output().unwrap();
            assert!(fits.status.success(), "{}: {}", breakage.name, String::from_utf8_lossy(&fits.stderr));
        }
    }
}
