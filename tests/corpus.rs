//! Every input that is kept for the fuzzer, through the same functions and without one. What the fuzzer finds is put there.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../fuzz/inputs.rs"]
mod inputs;

use std::fs;
use std::path::Path;

fn replay(target: &str, input: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 5, "{target} has {} inputs", files.len());
    for file in files {
        let bytes = fs::read(&file).unwrap();
        // Named here, for a panic names the function only.
        println!("{}", file.display());
        input(&bytes);
        // And what is left of it when the connection breaks in the middle.
        (0..bytes.len()).for_each(|end| input(&bytes[..end]));
    }
}

#[test]
fn frames_from_clients() {
    replay("frame", inputs::frame);
}

#[test]
fn tokens() {
    replay("token", inputs::token);
}

#[test]
fn sets_of_keys() {
    replay("jwks", inputs::jwks);
}

#[test]
fn addresses_that_proxies_name() {
    replay("forwarded", inputs::forwarded);
}

#[test]
fn queries() {
    replay("connect", inputs::connect);
}

#[test]
fn frames_from_the_service() {
    replay("service", inputs::service);
}

#[test]
fn every_target_has_a_corpus_and_a_dictionary() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for target in fs::read_dir(fuzz.join("fuzz_targets")).unwrap() {
        let target = target.unwrap().path();
        let name = target.file_stem().unwrap().to_str().unwrap();
        assert!(fuzz.join("corpus").join(name).is_dir() && fuzz.join("dictionaries").join(format!("{name}.dict")).is_file(), "{name}");
        assert!(include_str!("corpus.rs").contains(&format!("\"{name}\"")), "{name} is not replayed");
    }
}
