//! Supply chain (S10, S22): the code that signs is pinned, byte for byte, and nobody changes it unseen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const ROOTS: [&str; 3] = ["dkls23", "dkls23-core", "dkls23-secp256k1"];
const FIXTURE: &str = "tests/fixtures/signing-closure.txt";

#[derive(Default)]
struct Package {
    version: String,
    checksum: String,
    dependencies: Vec<String>,
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// `Cargo.lock` as `(name, version)` → package.
fn lock() -> BTreeMap<(String, String), Package> {
    let mut packages = BTreeMap::new();
    for block in read("Cargo.lock").split("[[package]]").skip(1) {
        let field = |key: &str| {
            let line = block.lines().find_map(|l| l.strip_prefix(&format!("{key} = ")));
            line.map(|v| v.trim_matches('"').to_owned()).unwrap_or_default()
        };
        let list = block.split_once("dependencies = [").map_or("", |(_, rest)| rest.split_once(']').unwrap().0);
        let dependencies = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        packages
            .insert((field("name"), field("version")), Package { version: field("version"), checksum: field("checksum"), dependencies });
    }
    packages
}

/// Everything the signing crates can pull in, as `name version checksum` lines.
fn closure() -> String {
    let lock = lock();
    let find = |spec: &str| {
        let mut words = spec.split(' ');
        let (name, version) = (words.next().unwrap(), words.next());
        let mut found = lock.iter().filter(|((n, v), _)| n == name && version.is_none_or(|w| w == v));
        let (key, package) = found.next().unwrap_or_else(|| panic!("{spec} is not in Cargo.lock"));
        assert!(found.next().is_none(), "{spec} is ambiguous");
        (key.0.clone(), package)
    };
    let mut todo: Vec<String> = ROOTS.iter().map(|r| (*r).to_owned()).collect();
    let mut seen = BTreeSet::new();
    let mut lines = BTreeSet::new();
    while let Some(spec) = todo.pop() {
        let (name, package) = find(&spec);
        if seen.insert((name.clone(), package.version.clone())) {
            assert!(!package.checksum.is_empty(), "{name} is not from the registry");
            lines.insert(format!("{name} {} {}\n", package.version, package.checksum));
            todo.extend(package.dependencies.iter().cloned());
        }
    }
    lines.into_iter().collect()
}

#[test]
fn the_signing_closure_is_what_was_reviewed() {
    let expected: String = read(FIXTURE).lines().filter(|l| !l.starts_with('#')).map(|l| format!("{l}\n")).collect();
    let found = closure();
    let new: Vec<&str> = found.lines().filter(|l| !expected.lines().any(|e| e == *l)).collect();
    let gone: Vec<&str> = expected.lines().filter(|l| !found.lines().any(|f| f == *l)).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "the code that signs changed: review it, then update {FIXTURE}\nnew: {new:#?}\ngone: {gone:#?}"
    );
}

#[test]
fn each_signing_crate_is_pinned_by_itself() {
    let manifest = read("src/mpc/Cargo.toml");
    for name in ROOTS {
        let pin = format!("{name} = {{ version = \"=0.6.2\"");
        assert!(manifest.lines().any(|l| l.starts_with(&pin)), "{name} is not pinned with `=` (S10)");
    }
}
